"""The size of a blob, without its bytes."""

from __future__ import annotations

import pytest

from proxy.errors import BadUpstreamAnswer, UpstreamUnavailable
from proxy.oci.digest import Digest
from proxy.oci.names import Repository
from proxy.ports import BlobStat
from tests.support.asking import asking
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Content, Image, image

REPO = Repository.parse("library/app")
SIZE = 300_000
LAYER = image(SIZE).layers[0]


@pytest.fixture
async def up():
    async with FakeRegistry() as registry:
        registry.add(REPO, image(SIZE), "latest")
        yield registry


@pytest.fixture
async def ask(up):
    async with asking(up, stall_s=0.3) as made:
        yield made


async def collect(ask, start=0, end=None):
    """What came before it broke, and how."""
    got = bytearray()
    async with ask.upstream.open_blob(REPO, LAYER.digest, start=start, end=end) as body:
        try:
            async for chunk in body.chunks:
                got += chunk
        except UpstreamUnavailable as error:
            return bytes(got), error
    return bytes(got), None


async def test_sizes_are_told_by_head(up, ask):
    assert await ask.upstream.stat_blob(REPO, LAYER.digest) == BlobStat(SIZE)
    assert [r.method for r in up.requests(kind="blob")] == ["HEAD"]


@pytest.mark.parametrize("status", [400, 401, 403, 405])
async def test_where_head_is_refused_two_bytes_tell_the_size(up, ask, status):
    up.quirks.head_status = status
    assert await ask.upstream.stat_blob(REPO, LAYER.digest) == BlobStat(SIZE)
    assert await ask.upstream.stat_blob(REPO, Digest.of(b"none")) is None
    assert up.requests(kind="blob")[1].headers["Range"] == "bytes=0-1"
    up.inject(Fault(ignore_range=True), kind="blob", method="GET")
    assert await ask.upstream.stat_blob(REPO, LAYER.digest) == BlobStat(SIZE)


async def test_an_empty_blob_has_a_size_too(up, ask):
    up.quirks.head_status = 405
    empty = Content.of("application/octet-stream", b"")
    up.add(REPO, Image(manifests=image().manifests, blobs=(empty,)))
    assert await ask.upstream.stat_blob(REPO, empty.digest) == BlobStat(0)
    assert await ask.blob(REPO, empty.digest) == b""


async def test_a_login_page_is_no_blob_to_head_either(up, ask):
    up.inject(Fault(html=True), kind="blob")
    with pytest.raises(BadUpstreamAnswer):
        await ask.upstream.stat_blob(REPO, LAYER.digest)
