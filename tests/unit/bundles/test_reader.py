"""A bundle as it was carried: exactly what it says, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.bundles import archive
from proxy.bundles.reader import is_bundle, open_bundle
from proxy.bundles.reader_media import read
from proxy.errors import BadBundle
from tests.support.bundles import KEY, OTHER_KEY, bundle
from tests.support.images import artifact, image, index

APP = index(image(3000, 700, seed="a"), image(512, seed="b", architecture="arm64"))
MADE = bundle({"lab/app:v1": APP, "lab/app": APP}, referrers=[("lab/app", artifact(APP), None)])
MEMBERS = list(archive.members(MADE.contents, MADE.body, MADE.signature))
STEP = 29


def put(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "b.tar"
    path.write_bytes(data)
    return path


def test_it_is_opened_with_where_its_blobs_are(tmp_path: Path) -> None:
    path = put(tmp_path, MADE.tar())
    assert is_bundle(path)
    opened = open_bundle([path], [OTHER_KEY.public, KEY.public])
    assert (opened.contents, opened.body) == (MADE.contents, MADE.body)
    assert opened.signature == MADE.signature
    for digest, body in MADE.blobs.items():
        assert read(opened.blobs[digest], bytes_max=1 << 20, what="it") == body


def test_every_byte_outside_of_blobs_counts(tmp_path: Path) -> None:
    """Those inside are verified when they are read."""
    data = MADE.tar()
    inside = {at for one in MEMBERS if one.digest for at in range(one.body_at, one.body_end)}
    accepted = set()
    for at in range(0, len(data), STEP):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        try:
            open_bundle([put(tmp_path, bytes(changed))], [KEY.public])
            accepted.add(at)
        except BadBundle:
            pass
    assert accepted == {at for at in range(0, len(data), STEP) if at in inside}


def test_no_other_length_will_do(tmp_path: Path) -> None:
    data = MADE.tar()
    for cut in (*range(0, len(data), 97), len(data) - 1):
        with pytest.raises(BadBundle):
            open_bundle([put(tmp_path, data[:cut])], [KEY.public])
    for more in (b"\0", bytes(512), archive.END, b"x"):
        with pytest.raises(BadBundle, match="behind the bundle's end"):
            open_bundle([put(tmp_path, data + more)], [KEY.public])


def test_contents_of_a_size_that_nobody_needs_are_not_read(tmp_path: Path) -> None:
    start = MADE.tar()[: MEMBERS[1].at]
    huge = archive.header(archive.CONTENTS, 33 * 1024 * 1024)
    with (tmp_path / "b.tar").open("wb") as file:
        file.write(start + huge)
        file.truncate(1 << 30)
    with pytest.raises(BadBundle, match="damaged"):
        open_bundle([tmp_path / "b.tar"], [KEY.public])


def test_what_is_none_is_told_apart(tmp_path: Path) -> None:
    assert not is_bundle(put(tmp_path, b"something else" * 200))
    assert not is_bundle(put(tmp_path, b""))
    assert not is_bundle(tmp_path)
    with pytest.raises(BadBundle, match="can't be read"):
        is_bundle(tmp_path / "absent")


def test_who_is_not_asked_about_keys_still_finds_damage(tmp_path: Path) -> None:
    nobodys = bundle({"lab/app:v1": APP}, key=None)
    assert open_bundle([put(tmp_path, nobodys.tar())], None).signature == nobodys.signature
    with pytest.raises(BadBundle, match="not signed"):
        open_bundle([put(tmp_path, nobodys.tar())], [KEY.public])
    data = bytearray(nobodys.tar())
    data[data.index(b'"created"') + 12] ^= 1
    with pytest.raises(BadBundle, match="damaged"):
        open_bundle([put(tmp_path, bytes(data))], None)
