"""Pins and removals over replicas that share a store; and S3's expiry, which honours them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.keeping import background
from proxy.ports import PUBLIC, BlobKey
from tests.flows.conftest import Running, World
from tests.flows.kept import digests, file_of, listed, run, told
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_s3 import BUCKET, FakeS3
from tests.support.images import Image, image
from tests.support.waiting import until


@pytest.fixture
async def store() -> AsyncIterator[FakeS3]:
    async with FakeS3() as one:
        yield one


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes on in the background comes round more often."""
    monkeypatch.setattr(background, "LEARN_EVERY_S", 0.05)
    monkeypatch.setattr(background, "FOLLOW_EVERY_S", 0.05)


def settings(store: FakeS3, folder: Path, **more: Any) -> dict[str, Any]:
    s3 = {"endpoint": store.url, "bucket": BUCKET, "access_key": "a", "secret_key": "s", **more}
    return {"storage": {"s3": s3}, "data_dir": str(folder), "tag_fresh_s": 3600}


def objects(store: FakeS3, one: Image) -> list[bool]:
    return [f"blobs/public/sha256/{d.hex[:2]}/{d.hex}" in store.objects for d in digests(one)]


async def until_stored(store: FakeS3, one: Image, tag: str) -> None:
    wanted = {f"repos/lab/app/_links/sha256/{d.hex}" for d in digests(one)}
    wanted.add(f"repos/lab/app/_tags/{tag}")
    await until(
        lambda: all(objects(store, one)) and wanted <= set(store.objects), "all is in the store"
    )


def pinned(proxy: Running, one: Image) -> bool:
    assert proxy.entrepot.status is not None
    pins = proxy.entrepot.status._cache.pins
    return all(pins.pinned(BlobKey(PUBLIC, digest)) for digest in digests(one))


async def test_all_replicas_learn_of_pins_and_their_end(
    world: World, upstream: FakeRegistry, store: FakeS3, tmp_path: Path
) -> None:
    one = upstream.add("app", image(3000), "v1")
    first = await world.start({"lab": upstream}, **settings(store, tmp_path / "1"))
    second = await world.start({"lab": upstream}, **settings(store, tmp_path / "2"))
    await first.pull("/v2/lab/app", one, "v1")
    await told(first, "pin", "lab/app:v1")
    await until(lambda: pinned(second, one), "the other replica knows of the pin")
    await told(second, "unpin", "lab/app:v1")
    await until(lambda: not pinned(first, one), "the other replica knows of its end")


async def test_what_one_replica_removes_all_ask_for_again(
    world: World, upstream: FakeRegistry, store: FakeS3, tmp_path: Path
) -> None:
    one = upstream.add("app", image(300_000), "v1")
    kept = upstream.add("app", image(3000, seed="kept"), "v2")
    first = await world.start({"lab": upstream}, **settings(store, tmp_path / "1"))
    second = await world.start({"lab": upstream}, **settings(store, tmp_path / "2"))
    for tag, whole in (("v1", one), ("v2", kept)):
        await first.pull("/v2/lab/app", whole, tag)
        await until_stored(store, whole, tag)
        for _ in range(3):
            await second.pull("/v2/lab/app", whole, tag)
    assert (await listed(second))["lab/app:v1"]["state"] == "complete"
    asked = len(upstream.seen)
    await told(first, "rm", "lab/app:v1")
    assert not any(objects(store, one))
    assert all(objects(store, kept))
    assert "repos/lab/app/_tags/v1" not in store.objects
    new = upstream.add("app", image(4000, seed="new"), "v1")

    async def moved() -> bool:
        return (await second.ask("/v2/lab/app/manifests/v1")).sha256 == str(new.digest)

    await until(moved, "the other replica asks again")
    assert not any(file_of(world, digest, "2").exists() for digest in digests(one))
    # What was asked for by digest is asked for again as well, what stays is not.
    assert (await second.ask(f"/v2/lab/app/blobs/{one.layers[0].digest}")).status == 200
    assert len(upstream.seen) > asked
    asked = len(upstream.seen)
    await second.pull("/v2/lab/app", kept, "v2")
    assert len(upstream.seen) == asked
    # A notice counts once: what came since stays over a restart.
    await second.pull("/v2/lab/app", new, "v1")
    await until_stored(store, new, "v1")
    asked = len(upstream.seen)
    third = await world.start({"lab": upstream}, **settings(store, tmp_path / "3"))
    await third.pull("/v2/lab/app", new, "v1")
    await second.pull("/v2/lab/app", new, "v1")
    assert len(upstream.seen) == asked


async def test_expiry_in_s3_and_its_dry_run_honour_pins(
    world: World, upstream: FakeRegistry, store: FakeS3, tmp_path: Path
) -> None:
    images = {tag: upstream.add("app", image(400_000, seed=tag), tag) for tag in ("v1", "v2", "v3")}
    more = settings(store, tmp_path / "1", bytes_max="1MiB")
    proxy = await world.start({"lab": upstream}, **more)
    for tag, one in images.items():
        await proxy.pull("/v2/lab/app", one, tag)
        await until_stored(store, one, tag)
    await told(proxy, "pin", "lab/app:v1")
    # An hour later nothing is too young to go.
    later = time.time() + 3600
    assert proxy.entrepot.status is not None
    world.clock = lambda: later
    other = await world.start({"lab": upstream}, **settings(store, tmp_path / "2", bytes_max=2**20))
    (dry,) = await told(other, "evict", "--dry-run")
    assert {(one["image"], one["where"]) for one in dry["images"]} <= {
        ("lab/app:v2", "s3"),
        ("lab/app:v3", "s3"),
    }
    assert dry["dropped"] >= 1
    assert all(all(objects(store, one)) for one in images.values())
    (done,) = await told(other, "evict")
    assert done["dropped"] == dry["dropped"]
    assert done["kept_bytes"] <= 2**20
    assert all(objects(store, images["v1"]))
    assert not all(all(objects(store, one)) for one in images.values())
    # While the pins can't be read, nothing goes.
    store.fail("503", times=1000, method="GET")
    assert (await run(other, "evict")).exit_code == 1


async def test_commands_look_into_the_store(
    world: World, upstream: FakeRegistry, store: FakeS3, tmp_path: Path
) -> None:
    one = upstream.add("app", image(300_000), "v1")
    first = await world.start({"lab": upstream}, **settings(store, tmp_path / "1"))
    await first.pull("/v2/lab/app", one, "v1")
    await until_stored(store, one, "v1")
    second = await world.start({"lab": upstream}, **settings(store, tmp_path / "2"))
    found = (await listed(second))["lab/app:v1"]
    assert (found["state"], found["here_bytes"]) == ("complete", 0)
    sums = (await told(second, "du"))[-1]
    assert sums["s3_bytes"] == sum(c.size for c in (*one.manifests, *one.blobs))
    assert not (tmp_path / "2" / "blobs" / "public").exists()
    (pin, _) = await told(second, "pin", "lab/app:v1")
    assert pin["state"] == "complete"
    assert pinned(second, one)
    (_, done) = await told(second, "rm", "lab/app:v1", "--force")
    assert done["removed"] == 1
    assert not any(objects(store, one))
    asked = upstream.count(kind="blob", method="GET")
    gone = [file_of(world, digest, "1") for digest in digests(one)]
    await until(lambda: not any(file.exists() for file in gone), "its files are removed")
    assert await listed(first) == {}
    await first.pull("/v2/lab/app", one, "v1")
    assert upstream.count(kind="blob", method="GET") == asked + len(one.blobs)
