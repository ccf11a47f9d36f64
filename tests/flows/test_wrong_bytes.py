"""The upstream sends something else than what was asked for: no client ever gets a
whole wrong answer, nothing of it is kept, and a later healthy answer is served.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import aiohttp
import pytest

from proxy.cache.spool import WITHHELD_BYTES
from tests.flows.conftest import Answer, World
from tests.flows.layers import until_landed
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Content, image

SMALL, MEDIUM, LARGE = 100_000, 3_000_000, 20 * 1024 * 1024
ENVELOPE = b'{"errors":[{"code":"UNKNOWN","message":"try again","detail":null}]}'


def faults(size: int) -> dict[str, Fault]:
    return {
        "first byte flipped": Fault(flip_at=0),
        "byte in the middle flipped": Fault(flip_at=size // 2),
        "last byte flipped": Fault(flip_at=size - 1),
        "a byte short": Fault(length=size - 1),
        "half": Fault(length=size // 2),
        "a byte too long": Fault(length=size + 1),
        "empty": Fault(length=0),
        "a login page": Fault(html=True),
        "another type": Fault(content_type="text/html; charset=utf-8"),
        "an error envelope": Fault(status=200, body=ENVELOPE),
        "compressed": Fault(headers={"Content-Encoding": "gzip"}),
        "no length and flipped": Fault(chunked=True, flip_at=size - 1),
    }


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def assert_nothing_wrong_is_kept(world: World) -> None:
    for path in files_in(world.root / "data" / "blobs"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    assert files_in(world.root / "data" / "spool") == []


def assert_not_completed(answer: Answer) -> None:
    """An error, or a body that is cut before its unverified end."""
    if answer.status == 200:
        assert answer.cut
        declared = int(answer.headers["Content-Length"])
        assert len(answer.body) <= max(0, declared - WITHHELD_BYTES)
    else:
        assert answer.status in {404, 502, 503}
        assert not answer.cut


@pytest.mark.parametrize("name", faults(1))
@pytest.mark.parametrize("size", [SMALL, MEDIUM, LARGE])
async def test_a_wrong_blob_is_neither_completed_nor_kept(
    world: World, upstream: FakeRegistry, size: int, name: str
) -> None:
    img = upstream.add("app", image(size), "v1")
    blob = img.layers[0]
    upstream.inject(faults(size)[name], kind="blob", method="GET", times=None)
    proxy = await world.start({"lab": upstream}, negative_s=0)
    if "no length" in name:
        # Then the manifest is what tells how long it is.
        assert (await proxy.ask("/v2/lab/app/manifests/v1")).status == 200
    path = f"/v2/lab/app/blobs/{blob.digest}"
    for answer in await asyncio.gather(*(proxy.ask(path) for _ in range(3))):
        assert_not_completed(answer)
    await until_landed(proxy)
    assert_nothing_wrong_is_kept(world)
    assert not (world.root / f"data/blobs/public/sha256/{blob.digest.hex[:2]}").exists()
    upstream.heal()
    answer = await proxy.ask(path)
    assert (answer.status, answer.cut, answer.body) == (200, False, blob.body)


@pytest.mark.parametrize("by", ["tag", "digest"])
@pytest.mark.parametrize("name", faults(1))
async def test_a_wrong_manifest_is_neither_completed_nor_kept(
    world: World, upstream: FakeRegistry, name: str, by: str
) -> None:
    img = upstream.add("app", image(1000), "v1")
    upstream.inject(faults(img.manifest.size)[name], kind="manifest", method="GET", times=None)
    proxy = await world.start({"lab": upstream}, negative_s=0)
    path = f"/v2/lab/app/manifests/{'v1' if by == 'tag' else img.digest}"
    for answer in await asyncio.gather(*(proxy.ask(path) for _ in range(3))):
        assert answer.status in {404, 502, 503}
    assert files_in(world.root / "data" / "blobs") == []
    upstream.heal()
    answer = await proxy.ask(path)
    assert (answer.status, answer.body) == (200, img.manifest.body)


async def test_one_wrong_answer_for_a_small_blob_is_asked_for_again_unnoticed(
    world: World, upstream: FakeRegistry
) -> None:
    blob = upstream.add("app", image(SMALL), "v1").layers[0]
    upstream.inject(Fault(flip_at=5), kind="blob", times=2)
    proxy = await world.start({"lab": upstream})
    answer = await proxy.ask(f"/v2/lab/app/blobs/{blob.digest}")
    assert (answer.status, answer.body) == (200, blob.body)


@pytest.mark.parametrize("size", [WITHHELD_BYTES + 1, MEDIUM])
async def test_the_last_256_kib_of_a_whole_body_wait_for_the_digest(
    world: World, upstream: FakeRegistry, size: int
) -> None:
    blob = upstream.add("app", image(size), "v1").layers[0]
    held = asyncio.Event()
    upstream.inject(Fault(stall_at=size - 1, stall=held), kind="blob")
    proxy = await world.start({"lab": upstream})
    url = f"{proxy.url}/v2/lab/app/blobs/{blob.digest}"
    async with asyncio.timeout(10), proxy.client.get(url) as whole:
        shown = size - WITHHELD_BYTES
        assert await whole.content.readexactly(shown) == blob.body[:shown]
        # A range is never held back: all but the missing byte arrives.
        tail = await proxy.ask(f"/v2/lab/app/blobs/{blob.digest}", Range=f"bytes=1-{size - 2}")
        assert (tail.status, tail.body) == (206, blob.body[1:-1])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await whole.content.readany()
        held.set()
        assert await whole.content.read() == blob.body[shown:]


async def test_the_withheld_end_is_never_sent_when_the_last_byte_is_wrong(
    world: World, upstream: FakeRegistry
) -> None:
    blob = upstream.add("app", image(MEDIUM), "v1").layers[0]
    held = asyncio.Event()
    upstream.inject(
        Fault(flip_at=MEDIUM - 1, stall_at=MEDIUM - 1, stall=held), kind="blob", times=None
    )
    proxy = await world.start({"lab": upstream})
    url = f"{proxy.url}/v2/lab/app/blobs/{blob.digest}"
    async with asyncio.timeout(10), proxy.client.get(url) as response:
        shown = await response.content.readexactly(MEDIUM - WITHHELD_BYTES)
        held.set()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.read()
    assert blob.body.startswith(shown)
    await until_landed(proxy)
    assert_nothing_wrong_is_kept(world)


async def test_a_blob_passed_through_is_held_back_in_the_same_way(
    world: World, upstream: FakeRegistry
) -> None:
    contents: list[Content] = [
        upstream.add("app", image(size, seed=str(size)), "v1").layers[0] for size in (SMALL, MEDIUM)
    ]
    upstream.inject(Fault(flip_at=10), kind="blob", method="GET", times=None)
    # No room at all.
    proxy = await world.start({"lab": upstream}, disk_free_bytes_min=2**62)
    for blob in contents:
        answer = await proxy.ask(f"/v2/lab/app/blobs/{blob.digest}")
        assert_not_completed(answer)
    upstream.heal()
    for blob in contents:
        answer = await proxy.ask(f"/v2/lab/app/blobs/{blob.digest}")
        assert (answer.status, answer.cut, answer.body) == (200, False, blob.body)
    assert files_in(world.root / "data" / "blobs") == []
