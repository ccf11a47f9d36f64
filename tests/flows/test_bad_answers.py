"""Manifests that an upstream may not send: never served, never kept."""

from __future__ import annotations

import pytest

from proxy.oci.manifests import OCI_MANIFEST
from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Content, image, schema1

IMAGE = image(1000)
OTHER = Content.of(OCI_MANIFEST, b'{"schemaVersion": 2, "mediaType": "%s"}' % OCI_MANIFEST.encode())
ENVELOPE = b'{"errors": [{"code": "DENIED", "message": "no"}]}'
BIG = b'{"schemaVersion": 2, "x": "%s"}' % (b"a" * 70_000)


def answered(body: bytes, content_type: str = OCI_MANIFEST) -> Fault:
    return Fault(status=200, body=body, content_type=content_type)


BAD = {
    "too large": answered(BIG),
    "not JSON": answered(b"\x1f\x8b not json"),
    "a JSON list": answered(b"[]"),
    "empty": answered(b""),
    "an error envelope": answered(ENVELOPE),
    "an error envelope as JSON": answered(ENVELOPE, "application/json"),
    "a login page": Fault(html=True),
    "bytes of another manifest": Fault(
        status=200,
        body=OTHER.body,
        content_type=OCI_MANIFEST,
        headers={"Docker-Content-Digest": str(IMAGE.digest)},
    ),
    "a flipped byte": Fault(flip_at=40),
    "half of it": Fault(end_at=100),
    "encoded": Fault(headers={"Content-Encoding": "gzip"}),
}


async def start(world: World, upstream: FakeRegistry) -> Running:
    upstream.add("app", IMAGE, "v1")
    return await world.start({"lab": upstream}, manifest_bytes_max=65_536)


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("by", ["tag", "digest"])
async def test_a_bad_manifest_is_503_and_the_good_one_afterwards_is_served(
    world: World, upstream: FakeRegistry, what: str, by: str
) -> None:
    upstream.inject(BAD[what], kind="manifest")
    proxy = await start(world, upstream)
    path = f"/v2/lab/app/manifests/{'v1' if by == 'tag' else IMAGE.digest}"
    answer = await proxy.ask(path)
    assert (answer.status, answer.code) == (503, "UNAVAILABLE")
    assert IMAGE.manifest.body[:30] not in answer.body
    answer = await proxy.ask(path)
    assert (answer.status, answer.body) == (200, IMAGE.manifest.body)


@pytest.mark.parametrize("what", BAD)
async def test_a_bad_answer_to_a_revalidation_leaves_the_old_image_served(
    world: World, upstream: FakeRegistry, what: str
) -> None:
    proxy = await start(world, upstream)
    assert (await proxy.ask("/v2/lab/app/manifests/v1")).status == 200
    await proxy.pull("/v2/lab/app", IMAGE)
    upstream.add("app", image(1000, seed="newer"), "v1")
    upstream.inject(BAD[what], kind="manifest", method="GET")
    answer = await proxy.ask("/v2/lab/app/manifests/v1")
    assert (answer.status, answer.body) == (200, IMAGE.manifest.body)
    assert "served stale" in answer.headers["Warning"]
    newer = await proxy.ask("/v2/lab/app/manifests/v1")
    assert (newer.status, newer.body != IMAGE.manifest.body) == (200, True)
    assert "Warning" not in newer.headers


async def test_a_head_with_a_digest_that_is_not_the_truth_is_not_believed_for_a_digest(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.quirks.digest_header = str(OTHER.digest)
    proxy = await start(world, upstream)
    for method in ("HEAD", "GET"):
        answer = await proxy.ask(f"/v2/lab/app/manifests/{IMAGE.digest}", method)
        assert answer.status == 503
    upstream.quirks.digest_header = None
    for method in ("HEAD", "GET"):
        for reference in ("v1", IMAGE.digest):
            answer = await proxy.ask(f"/v2/lab/app/manifests/{reference}", method)
            assert answer.status == 200
            assert answer.headers["Docker-Content-Digest"] == str(IMAGE.digest)


async def test_schema_1_passes_through_untouched_and_is_not_kept(
    world: World, upstream: FakeRegistry
) -> None:
    old = upstream.add("old", schema1(), "v1")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=60)
    for reference in ("v1", "v1", old.digest, old.digest):
        before = upstream.count(kind="manifest", method="GET")
        answer = await proxy.ask(f"/v2/lab/old/manifests/{reference}")
        assert (answer.status, answer.body) == (200, old.manifest.body)
        assert answer.headers["Content-Type"] == old.manifest.media_type
        assert "Docker-Content-Digest" not in answer.headers
        assert upstream.count(kind="manifest", method="GET") == before + 1
    head = await proxy.ask("/v2/lab/old/manifests/v1", "HEAD")
    assert head.headers["Content-Length"] == str(len(old.manifest.body))
    await upstream.stop()
    assert (await proxy.ask("/v2/lab/old/manifests/v1")).status == 503


async def test_a_tag_that_moves_to_schema_1_moves_no_record(
    world: World, upstream: FakeRegistry
) -> None:
    proxy = await start(world, upstream)
    assert (await proxy.ask("/v2/lab/app/manifests/v1")).status == 200
    await proxy.pull("/v2/lab/app", IMAGE)
    old = upstream.add("app", schema1(), "v1")
    assert (await proxy.ask("/v2/lab/app/manifests/v1")).body == old.manifest.body
    await upstream.stop()
    answer = await proxy.ask("/v2/lab/app/manifests/v1")
    assert (answer.status, answer.body) == (200, IMAGE.manifest.body)
    assert "Warning" in answer.headers
