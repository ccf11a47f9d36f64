"""Writing: whatever an earlier try has left, the bundle is the one that was planned."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.bundles import archive, signing
from proxy.bundles.contents import Blob, Kind
from proxy.bundles.export_client import Take
from proxy.bundles.export_writing import Writing
from proxy.errors import BadBundle, UpstreamUnavailable
from proxy.oci.digest import Digest
from tests.support.bundle_contents import contents

BODIES: dict[Kind, bytes] = {
    "manifest": b"a manifest" * 30,
    "config": b"",
    "layer": os.urandom(3000),
}
CONTENTS = contents(BODIES)
BODY = CONTENTS.encode()
SIGNATURE = signing.signed(BODY, None)


class Given:
    """Gives `bodies`; breaks for good after so many bytes."""

    def __init__(self, bodies: dict[Digest, bytes], *, breaks_after: int | None = None) -> None:
        self.bodies = bodies
        self.given = 0
        self.breaks_after = breaks_after

    def give(self, blob: Blob, start: int, take: Take) -> None:
        body = self.bodies[blob.descriptor.digest][start:]
        allowed = len(body)
        if self.breaks_after is not None:
            allowed = min(allowed, self.breaks_after - self.given)
        source = io.BytesIO(body[:allowed])
        while take(source):
            pass
        self.given += allowed
        if allowed < len(body):
            raise UpstreamUnavailable("gone")


def right() -> dict[Digest, bytes]:
    return {Digest.of(body): body for body in BODIES.values()}


def write(giver: Given, path: Path, form: str, watch: Callable[[int], None] = bool) -> list[Path]:
    writing = Writing(CONTENTS, BODY, SIGNATURE, giver, watch)
    if form == "folder":
        return writing.to_folder(path)
    return writing.to_archive(path, part_size=None if form == "archive" else int(form))


def told(paths: list[Path]) -> dict[str, bytes]:
    if not paths[0].is_dir():
        return {"": b"".join(path.read_bytes() for path in paths)}
    return {
        str(one.relative_to(paths[0])): one.read_bytes()
        for one in paths[0].rglob("*")
        if one.is_file()
    }


def whole(form: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        return told(write(Given(right()), Path(folder) / "out", form))


def test_the_archive_is_what_the_layout_says() -> None:
    (body,) = whole("archive").values()
    assert len(body) == archive.length(CONTENTS, BODY, SIGNATURE)
    for member in archive.members(CONTENTS, BODY, SIGNATURE):
        found = body[member.body_at : member.body_end]
        assert body[member.at : member.body_at] == member.header
        assert found == member.body if member.digest is None else member.digest.matches(found)
    assert whole("777").popitem()[1] == body
    assert whole("folder")["blobs/sha256/" + Digest.of(b"").hex] == b""


@given(
    st.sampled_from(["archive", "777", "folder"]),
    st.lists(st.integers(0, 4000), max_size=3),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7)), max_size=3),
    st.binary(max_size=20),
)
@settings(max_examples=60)
def test_broken_off_damaged_and_lengthened_it_ends_as_it_should(
    form: str, breaks: list[int], flips: list[tuple[int, int]], more: bytes
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        for after in breaks:
            try:
                write(Given(right(), breaks_after=after), out, form)
            except UpstreamUnavailable:
                continue
        lying = sorted(one for one in Path(folder).rglob("*") if one.is_file())
        for at, bit in flips if lying else ():
            path = lying[at % len(lying)]
            body = bytearray(path.read_bytes())
            if body:
                body[at % len(body)] ^= 1 << bit
            path.write_bytes(body + more)
        assert told(write(Given(right()), out, form)) == whole(form)


def test_what_is_there_is_not_asked_for_again_and_all_of_it_is_counted(tmp_path: Path) -> None:
    counts: list[int] = []
    broken = Given(right(), breaks_after=1500)
    with pytest.raises(UpstreamUnavailable):
        write(broken, tmp_path / "out", "archive")
    giver = Given(right())
    write(giver, tmp_path / "out", "archive", counts.append)
    total = sum(map(len, BODIES.values()))
    assert giver.given == total - 1500
    assert sum(counts) == total


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_other_bytes_than_planned_are_never_given_a_name(form: str, tmp_path: Path) -> None:
    digest = Digest.of(BODIES["layer"])
    wrong = {**right(), digest: b"x" * len(BODIES["layer"])}
    counts: list[int] = []
    with pytest.raises(BadBundle, match=f"other bytes than {digest}"):
        write(Given(wrong), tmp_path / "out", form, counts.append)
    assert not (tmp_path / "out").exists()
    assert sum(counts) == len(BODIES["manifest"])
    # And when that is put right, so is the bundle.
    assert told(write(Given(right()), tmp_path / "out", form)) == whole(form)
