"""`contents.json`: one spelling, and nothing that makes no sense is read from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.bundles.canonical import encoded
from proxy.bundles.contents import Contents
from proxy.bundles.contents_reading import decode
from proxy.errors import BadBundle
from tests.support.bundle_contents import any_contents, contents

# A busy machine is slow to think of examples.
THOROUGH = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])


@given(any_contents())
@THOROUGH
def test_what_is_written_is_read_back_and_spelled_the_same(some: Contents) -> None:
    body = some.encode()
    assert decode(body) == some
    assert decode(body).encode() == body
    assert body.isascii()


@given(any_contents(), st.data())
@THOROUGH
def test_other_bytes_are_read_as_something_else_or_refused(
    some: Contents, data: st.DataObject
) -> None:
    body = bytearray(some.encode())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        read = decode(bytes(body))
    except BadBundle:
        return
    assert read != some


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_and_never_crash(body: bytes) -> None:
    with pytest.raises(BadBundle):
        decode(body)


def _spoiled(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(contents().encode())
    change(document)
    return encoded(document)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(v=2), "version 2"),
        (lambda d: d.update(more=1), "nobody expects"),
        (lambda d: d.pop("blobs"), "no 'blobs'"),
        (lambda d: d.update(created=True), "not a number"),
        (lambda d: d.update(created=-1), "not a number"),
        (lambda d: d.update(bundle="x"), "not a bundle's id"),
        (lambda d: d["images"].clear(), "name no image"),
        (lambda d: d["images"].append(d["images"][0]), "a image twice"),
        (lambda d: d["images"][0].update(tag="../x"), "not a tag"),
        (lambda d: d["images"][0].update(tag="v2"), "not called what it is"),
        (lambda d: d["images"][0].update(repository=0), "not called what it is"),
        (lambda d: d["images"][0].update(repository=7), "no repository of number 7"),
        (lambda d: d["images"][0].update(digest="sha256:x"), "not a sha256 or sha512"),
        (lambda d: d["images"][0].update(size="1"), "not a number"),
        (lambda d: d["images"][0].pop("media_type"), "no 'media_type'"),
        (lambda d: d["blobs"].append(d["blobs"][0]), "a digest twice"),
        (lambda d: d["blobs"][0].update(kind="socket"), "'kind'"),
        (lambda d: d["blobs"][0].update(repositories=[]), "belongs to no repository"),
        (lambda d: d["blobs"][0].update(repositories=[0, 0]), "to one twice"),
        (lambda d: d["blobs"][0].update(repositories=[-1]), "not a number"),
        (lambda d: d["blobs"].pop(0), "lack what they name"),
        (lambda d: d["blobs"][0].update(mode=0o4755), "nobody expects"),
        (lambda d: d["repositories"].__setitem__(0, "../etc/x"), "name of an upstream"),
        (lambda d: d["repositories"].__setitem__(0, "docker.io/../x"), "not a repository name"),
        (lambda d: d["left_out"].append(["sha256:" + "0" * 64, 1, [0]]), "builds on no receipt"),
        (lambda d: d["left_out"].append({}), "left out is not told"),
        (lambda d: d["base"].update(receipts=[1]), "'receipts'"),
        (lambda d: d["base"].update(receipts=["1"]), "not an id"),
        (lambda d: d["sha256"].update({"index.json": "0"}), "not a SHA-256"),
        (lambda d: d.update(platforms=["linux/amd64", 3]), "not a platform"),
        (lambda d: d.update(platforms=["../amd64"]), "not a platform"),
    ],
)
def test_what_makes_no_sense_is_refused_and_named(
    change: Callable[[dict[str, Any]], object], said: str
) -> None:
    with pytest.raises(BadBundle, match=said):
        decode(_spoiled(change))


def test_another_spelling_of_the_same_is_refused() -> None:
    spelled = json.dumps(json.loads(contents().encode())).encode()
    with pytest.raises(BadBundle, match="damaged"):
        decode(spelled)
