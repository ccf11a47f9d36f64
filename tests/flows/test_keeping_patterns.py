"""Patterns keep what they mean from the first moment on, and warming is no pull."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import Any

import pytest

from proxy.ports import PUBLIC, BlobKey
from proxy.storage import files
from tests.flows.conftest import Running, World
from tests.flows.kept import age, digests, here, listed, run, still, told
from tests.support.fake_registry import FakeRegistry
from tests.support.images import Image, image, index
from tests.support.waiting import until

DAY = 86_400.0


async def warm(proxy: Running, *names: str) -> None:
    result = await run(proxy, "warm", *names)
    assert result.exit_code == 0, result.output


def pinned(proxy: Running, one: Image) -> bool:
    assert proxy.entrepot.status is not None
    pins = proxy.entrepot.status._cache.pins
    return all(pins.pinned(BlobKey(PUBLIC, digest)) for digest in digests(one))


async def test_retention_and_removal_spare_what_a_pattern_means_though_it_was_only_warmed(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing has expanded the pattern when they are asked.
    backgrounds = still(monkeypatch)
    kept = upstream.add("app", image(3000, seed="kept"), "v1")
    other = upstream.add("other", image(4000, seed="other"), "v1")
    now = time.time()
    world.clock = lambda: now
    keep = {"pins": ["lab/app:*"], "retention": [{"match": "*", "unused_s": "1s"}]}
    proxy = await world.start({"lab": upstream}, keep=keep, tag_fresh_s=3600)
    await backgrounds[0].follow()
    await warm(proxy, "lab/app:v1", "lab/other:v1")
    found = await listed(proxy)
    assert {name: one["pinned"] for name, one in found.items()} == {
        "lab/app:v1": ["config"],
        "lab/other:v1": [],
    }
    refused, done = await told(proxy, "rm", "lab/app:v1", "--force", code=1)
    assert refused["failed"] == "pinned by the configuration (lab/app:*)"
    assert (done["removed"], done["refused"], done["unknown"]) == (0, 1, 0)
    now += 3
    shown = await run(proxy, "evict")
    size = sum(content.size for content in (*other.manifests, *other.blobs))
    assert shown.stdout.splitlines() == [
        f"lab/other:v1 (everywhere): {size / 1000:.1f} kB in 3 blobs",
        "  retention: rule *, never pulled, here for 3s, kept 1s",
        f"retention: dropped 1 image, {size / 1000:.1f} kB here",
        "disk: dropped 0 B; 3.6 kB stays",
    ]
    assert here(world, kept, other) == [True, False]


async def test_eviction_finds_what_patterns_mean_before_it_drops_anything(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    still(monkeypatch)
    kept = upstream.add("app", index(image(3000), image(2000, architecture="arm64")), "v1")
    proxy = await world.start({"lab": upstream}, keep={"pins": ["lab/app:*"]})
    await warm(proxy, "lab/app:v1", "--all-platforms")
    (done,) = await told(proxy, "evict", "--free", "1GiB")
    assert done["disk"]["dropped_bytes"] == 0
    assert here(world, kept) == [True]


async def test_a_pattern_by_hand_goes_on_when_one_of_its_images_is_removed_by_force(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    still(monkeypatch)
    upstream.add("app", image(3000), "v1")
    proxy = await world.start({"lab": upstream})
    await told(proxy, "pin", "lab/app:*")
    await warm(proxy, "lab/app:v1")
    (refused, _) = await told(proxy, "rm", "lab/app:v1", code=1)
    assert refused["failed"] == "pinned by `pin` (lab/app:*); --force removes it"
    done = (await told(proxy, "rm", "lab/app:v1", "--force"))[-1]
    assert done["removed"] == 1
    assert [one.get("image") for one in await told(proxy, "pin", "--list")] == ["lab/app:*", None]


async def test_a_warmed_image_that_a_pattern_means_is_pinned_whole_at_once(
    world: World, upstream: FakeRegistry
) -> None:
    one = upstream.add("app", index(image(3000), image(2000, architecture="arm64")), "v1")
    proxy = await world.start({"lab": upstream}, keep={"pins": ["lab/app:*"]})

    async def pins() -> list[dict[str, Any]]:
        return (await told(proxy, "pin", "--list"))[:-1]

    await until(pins, "the pattern is listed")
    await warm(proxy, "lab/app:v1", "--all-platforms")
    await until(lambda: pinned(proxy, one), "it is pinned")
    new = upstream.add("app", image(5000, seed="new"), "v1")
    await warm(proxy, "lab/app:v1")
    await until(lambda: pinned(proxy, new), "the new one is pinned")


async def test_neither_a_warm_up_nor_a_refresh_counts_as_a_pull(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    backgrounds = still(monkeypatch)
    tags = ("warmed", "pulled", "asked")
    images = {tag: upstream.add("app", image(3000, seed=tag), tag) for tag in tags}
    start = now = time.time() - 40 * DAY
    world.clock = lambda: now
    keep = {"retention": [{"match": "*", "unused_s": "14d"}]}
    settings = {"keep": keep, "tag_fresh_s": 60}
    proxy = await world.start({"lab": upstream}, **settings)
    await warm(proxy, *(f"lab/app:{tag}" for tag in tags))
    found = await listed(proxy)
    assert {one["pulled_at"] for one in found.values()} == {None}
    assert (await run(proxy, "ls")).stdout.count("never") == 3
    await proxy.pull("/v2/lab/app", images["pulled"], "pulled")
    await backgrounds[0].note_uses()
    now += 10 * DAY
    # As containerd does it: by its tag it only asks for the digest.
    assert (await proxy.ask("/v2/lab/app/manifests/asked", "HEAD")).status == 200
    await backgrounds[0].note_uses()
    now += 10 * DAY
    await warm(proxy, *(f"lab/app:{tag}" for tag in tags))
    for one in images.values():
        age(world, one, 20)
    # It is still known after a restart.
    await world.stack.aclose()
    proxy = await world.start({"lab": upstream}, **settings)
    pulled = {name: one["pulled_at"] for name, one in (await listed(proxy)).items()}
    assert pulled == {
        "lab/app:warmed": None,
        "lab/app:pulled": pytest.approx(start, abs=1),
        "lab/app:asked": pytest.approx(start + 10 * DAY, abs=1),
    }
    (done,) = await told(proxy, "evict")
    assert {one["image"]: one["why"].partition(", ")[2] for one in done["images"]} == {
        "lab/app:warmed": "never pulled, here for 20d, kept 14d",
        "lab/app:pulled": "not pulled for 20d, kept 14d",
    }
    assert not list((world.root / "data").rglob("_pulled/tags/pulled"))
    assert here(world, *(images[tag] for tag in tags)) == [False, False, True]


async def test_a_pin_that_can_not_be_written_holds_and_says_for_how_long(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    backgrounds = still(monkeypatch)
    one = upstream.add("app", image(3000), "v1")
    proxy = await world.start({"lab": upstream})
    await proxy.pull("/v2/lab/app", one, "v1")
    write = files.write_whole

    def full(path: Path, data: bytes, *, temporary: Path) -> None:
        if "pins" in path.parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data, temporary=temporary)

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_whole", full)
        said = await run(proxy, "pin", "lab/app:v1")
        assert said.exit_code == 1
        assert said.stderr == (
            "lab/app:v1: kept, but until a restart only: the pin can't be written "
            "(the disk is full); it is tried again until then\n"
        )
        await backgrounds[0].follow()
        assert pinned(proxy, one)
        (refused, _) = await told(proxy, "rm", "lab/app:v1", code=1)
        assert "pinned by" in refused["failed"]
    # There is room again.
    await backgrounds[0].follow()
    await world.stack.aclose()
    proxy = await world.start({"lab": upstream})
    assert pinned(proxy, one)
