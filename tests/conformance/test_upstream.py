"""One suite for everything that claims to be an `Upstream`."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest

from proxy.errors import UpstreamUnavailable
from proxy.oci.digest import Digest
from proxy.oci.manifests import Manifest
from proxy.oci.names import Repository, Tag
from proxy.ports import Upstream
from proxy.upstream.offline import Severable
from proxy.upstream.registry import RegistryUpstream
from proxy.upstream.session import UpstreamConfig
from tests.support.fake_registry import FakeRegistry
from tests.support.images import Image, artifact, image, index
from tests.support.memory_upstream import MemoryUpstream

REPO = Repository.parse("library/app")
EMPTY = Repository.parse("library/nothing")
NOWHERE = Digest.of(b"nowhere")
DOCKER_REGISTRY = shutil.which("docker-registry")


@dataclass
class Held:
    """An upstream that holds `image` (tags "latest", "1", "2") and `index`."""

    upstream: Upstream
    image: Image
    index: Image
    knows_referrers: bool = True


def contents() -> tuple[Image, Image]:
    plain = image(300_000, 10, seed="conformance")
    return plain, index(plain, image(500, seed="conformance", architecture="arm64"))


@asynccontextmanager
async def memory() -> AsyncIterator[Held]:
    upstream = MemoryUpstream()
    plain, listed = contents()
    upstream.add(REPO, plain, "latest", "1", "2")
    upstream.add(REPO, listed, "multi")
    upstream.add(REPO, artifact(plain))
    yield Held(upstream, plain, listed)


@asynccontextmanager
async def severable() -> AsyncIterator[Held]:
    """With its cable in place it is what it wraps."""
    async with memory() as held:
        yield replace(held, upstream=Severable(held.upstream, observe=lambda _: None))


@asynccontextmanager
async def fake() -> AsyncIterator[Held]:
    async with FakeRegistry() as registry:
        plain, listed = contents()
        registry.add(REPO, plain, "latest", "1", "2")
        registry.add(REPO, listed, "multi")
        registry.add(REPO, artifact(plain))
        async with client(registry.url) as upstream:
            yield Held(upstream, plain, listed)


@asynccontextmanager
async def debian(folder: Path) -> AsyncIterator[Held]:
    config = folder / "registry.yml"
    config.write_text(
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "info"},
                "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
                "http": {"addr": "127.0.0.1:0", "secret": "conformance"},
            }
        )
    )
    process = await asyncio.create_subprocess_exec(
        DOCKER_REGISTRY or "",
        "serve",
        str(config),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(20):
            found = None
            while found is None:
                line = (await process.stderr.readline()).decode()
                assert line, "docker-registry ended"
                found = re.search(r"listening on (127\.0\.0\.1:\d+)", line)
        url = f"http://{found[1]}"
        plain, listed = contents()
        await push(url, plain, "latest", "1", "2")
        await push(url, listed, "multi")
        async with client(url) as upstream:
            yield Held(upstream, plain, listed, knows_referrers=False)
    finally:
        process.send_signal(signal.SIGKILL)
        await process.communicate()


async def push(url: str, pushed: Image, *tags: str) -> None:
    async with aiohttp.ClientSession() as session:
        for blob in pushed.blobs:
            async with session.post(f"{url}/v2/{REPO}/blobs/uploads/") as answer:
                place = answer.headers["Location"]
            place += f"&digest={blob.digest}"
            async with session.put(place, data=blob.body) as answer:
                assert answer.status == 201
        for manifest in reversed(pushed.manifests):
            names = [str(manifest.digest), *(tags if manifest is pushed.manifest else ())]
            for name in names:
                async with session.put(
                    f"{url}/v2/{REPO}/manifests/{name}",
                    data=manifest.body,
                    headers={"Content-Type": manifest.media_type},
                ) as answer:
                    assert answer.status == 201, await answer.text()


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Upstream]:
    upstream = RegistryUpstream(UpstreamConfig(name="real", url=url), observe=lambda _: None)
    try:
        yield upstream
    finally:
        await upstream.aclose()


@pytest.fixture(
    params=[
        "memory",
        "severable",
        "fake registry",
        pytest.param(
            "docker-registry",
            marks=[
                pytest.mark.e2e,
                pytest.mark.skipif(DOCKER_REGISTRY is None, reason="docker-registry not installed"),
            ],
        ),
    ]
)
async def held(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Held]:
    places = {
        "memory": memory,
        "severable": severable,
        "fake registry": fake,
        "docker-registry": lambda: debian(tmp_path),
    }
    async with places[request.param]() as made:
        yield made


async def read(
    upstream: Upstream, digest: Digest, start: int = 0, end: int | None = None
) -> tuple[int | None, int, bytes]:
    async with upstream.open_blob(REPO, digest, start=start, end=end) as body:
        assert body is not None
        return body.size, body.offset, b"".join([chunk async for chunk in body.chunks])


async def test_a_tag_resolves_to_the_descriptor_of_its_manifest(held):
    found = await held.upstream.resolve(REPO, Tag.parse("latest"))
    descriptor = found.descriptor if isinstance(found, Manifest) else found
    assert (descriptor.digest, descriptor.size, descriptor.media_type) == (
        held.image.digest,
        held.image.manifest.size,
        held.image.manifest.media_type,
    )


async def test_a_digest_resolves_to_itself(held):
    found = await held.upstream.resolve(REPO, held.index.digest)
    descriptor = found.descriptor if isinstance(found, Manifest) else found
    assert (descriptor.digest, descriptor.size) == (held.index.digest, held.index.manifest.size)


@pytest.mark.parametrize("by", ["tag", "digest"])
async def test_a_manifest_comes_as_its_very_bytes(held, by):
    reference = Tag.parse("multi") if by == "tag" else held.index.digest
    manifest = await held.upstream.get_manifest(REPO, reference)
    assert manifest.body == held.index.manifest.body
    assert manifest.descriptor.digest == held.index.digest
    assert manifest.descriptor.media_type == held.index.manifest.media_type
    assert manifest.descriptor.size == len(manifest.body)


@pytest.mark.parametrize("repository", [REPO, EMPTY])
async def test_what_is_not_there_is_none(held, repository):
    assert await held.upstream.resolve(repository, Tag.parse("none")) is None
    assert await held.upstream.get_manifest(repository, Tag.parse("none")) is None
    assert await held.upstream.get_manifest(repository, NOWHERE) is None
    assert await held.upstream.stat_blob(repository, NOWHERE) is None
    async with held.upstream.open_blob(repository, NOWHERE, start=3) as body:
        assert body is None


async def test_tags_of_an_unknown_repository_are_none(held):
    assert await held.upstream.list_tags(EMPTY) is None


async def test_a_blob_has_its_size(held):
    layer = held.image.layers[0]
    stat = await held.upstream.stat_blob(REPO, layer.digest)
    assert stat.size == layer.size


@pytest.mark.parametrize(
    ("start", "end"), [(0, None), (0, 1), (1, 2), (100_000, None), (299_999, None), (5, 400_000)]
)
async def test_a_blob_comes_from_start_to_end(held, start, end):
    layer = held.image.layers[0]
    size, offset, body = await read(held.upstream, layer.digest, start, end)
    assert (size, offset) == (layer.size, start)
    assert body == layer.body[start:end]


async def test_a_blob_may_be_left_half_way(held):
    layer = held.image.layers[0]
    async with held.upstream.open_blob(REPO, layer.digest) as body:
        first = await anext(aiter(body.chunks))
    assert layer.body.startswith(first)
    assert (await read(held.upstream, layer.digest))[2] == layer.body


async def test_tags_come_in_pages(held):
    first = await held.upstream.list_tags(REPO, n=2)
    assert (first.tags, first.more) == (("1", "2"), True)
    second = await held.upstream.list_tags(REPO, n=2, last="2")
    assert (second.tags, second.more) == (("latest", "multi"), False)
    beyond = await held.upstream.list_tags(REPO, n=9, last="latest")
    assert (beyond.tags, beyond.more) == (("multi",), False)
    # Without a limit the order is the registry's (distribution 2.x: none).
    assert sorted((await held.upstream.list_tags(REPO)).tags) == ["1", "2", "latest", "multi"]


async def test_referrers_are_an_index_or_unsupported(held):
    found = await held.upstream.referrers(REPO, held.image.digest)
    if not held.knows_referrers:
        assert found is None
        return
    listed = json.loads(found)["manifests"]
    assert [m["artifactType"] for m in listed] == ["application/example.signature"]
    assert json.loads(await held.upstream.referrers(REPO, NOWHERE))["manifests"] == []


async def test_strangers_may_read_what_is_public(held):
    shown = held.upstream.anonymous_may_read
    layer = str(held.image.layers[0].digest)
    assert await shown(REPO, "manifests", "latest")
    assert await shown(REPO, "manifests", str(held.image.digest))
    assert await shown(REPO, "blobs", layer)
    assert await shown(REPO, "tags", "")
    assert not await shown(REPO, "manifests", "none")
    assert not await shown(REPO, "blobs", str(NOWHERE))
    assert not await shown(EMPTY, "tags", "")


async def test_health_tells_whether_it_was_ever_used(held):
    assert held.upstream.health().state == "unused"
    await held.upstream.resolve(REPO, Tag.parse("latest"))
    assert held.upstream.health().state == "ok"
    assert not held.upstream.credentialed


async def test_a_memory_upstream_in_trouble_fails_like_a_real_one_that_is_gone():
    upstream = MemoryUpstream()
    upstream.trouble = UpstreamUnavailable("gone")
    async with FakeRegistry() as registry:
        pass
    async with client(registry.url) as real:
        for subject in (upstream, real):
            with pytest.raises(UpstreamUnavailable):
                await subject.resolve(REPO, Tag.parse("latest"))
            with pytest.raises(UpstreamUnavailable):
                async with subject.open_blob(REPO, NOWHERE):
                    pass
