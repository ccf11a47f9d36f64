"""Eviction and whole images: pins stay, uses count for all of an image, half an image is
never passed off as one, and no pull is refused because the disk is full.
"""

from __future__ import annotations

import time

import pytest

from proxy.cache.assembly import Cache
from proxy.keeping import background
from proxy.keeping.background import Background
from proxy.ports import PUBLIC, BlobKey
from tests.flows.conftest import Running, World
from tests.flows.kept import age, digests, file_of, here, noted, run, still, told
from tests.support.fake_registry import FakeRegistry
from tests.support.images import Image, artifact, image, index
from tests.support.waiting import until

MIB = 1024 * 1024


def cache(proxy: Running) -> Cache:
    assert proxy.entrepot.status is not None
    return proxy.entrepot.status._cache


def let_a_minute_pass(proxy: Running) -> None:
    """For those that note a use only once a minute."""
    assert proxy.entrepot.status is not None
    cache(proxy).uses._noted.clear()
    proxy.entrepot.status._backing.local.blobs._touches._noted.clear()


def used_lately(world: World, one: Image) -> bool:
    now = time.time()
    return all(now - file_of(world, digest).stat().st_atime < 3600 for digest in digests(one))


def pinned(proxy: Running, one: Image) -> list[bool]:
    keys = [BlobKey(PUBLIC, content.digest) for content in (*one.manifests, *one.blobs)]
    return sorted({cache(proxy).pins.pinned(key) for key in keys})


@pytest.fixture
def backgrounds(monkeypatch: pytest.MonkeyPatch) -> list[Background]:
    """Those of the proxies started; nothing goes on in them but by the test."""
    return still(monkeypatch)


async def test_pulling_a_manifest_uses_all_that_is_below_it(
    world: World, upstream: FakeRegistry, backgrounds: list[Background]
) -> None:
    amd, arm = image(3000, seed="amd"), image(4000, seed="arm", architecture="arm64")
    both = upstream.add("app", index(amd, arm), "v1")
    other = upstream.add("app", image(5000, seed="other"), "v2")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    await proxy.pull("/v2/lab/app", both, "v1")
    await proxy.pull("/v2/lab/app", other, "v2")
    await noted(proxy, backgrounds[0])
    for _ in range(3):
        # By the slow lane, then by the fast one.
        let_a_minute_pass(proxy)
        age(world, both, 30)
        age(world, other, 30)
        assert (await proxy.ask("/v2/lab/app/manifests/v1")).status == 200
        proxy.entrepot.telemetry.render()  # with those of the fast lane
        await noted(proxy, backgrounds[0])
        assert used_lately(world, both)
        assert not used_lately(world, other)
        times = {d: file_of(world, d).stat().st_atime for d in digests(both)}
        assert min(times.values()) == times[both.digest]


async def test_half_an_image_is_a_clear_error_and_whole_again_with_the_upstream(
    world: World, upstream: FakeRegistry
) -> None:
    one = upstream.add("app", image(300_000, 2000, seed="one"), "v1")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600, memory_bytes_max=0)
    for _ in range(2):
        await proxy.pull("/v2/lab/app", one, "v1")
    layer = one.layers[0]
    assert proxy.entrepot.status is not None
    blobs = proxy.entrepot.status._backing.local.blobs
    dropped = blobs.room.evict_blocking(1, lambda path: not path.endswith(layer.digest.hex))
    assert [path.rpartition("/")[2] for path, _ in dropped] == [layer.digest.hex]
    blobs._open.clear()
    await upstream.stop()
    # That it is down is known after the first who asks it.
    assert (await proxy.ask(f"/v2/lab/app/blobs/{layer.digest}")).status == 503
    for reference in ("v1", str(one.digest)):
        answer = await proxy.ask(f"/v2/lab/app/manifests/{reference}")
        assert (answer.status, answer.code) == (503, "UNAVAILABLE"), answer.body
    (found,) = (await told(proxy, "ls"))[:-1]
    assert (found["state"], found["platforms"]) == ("partial", {"": False})
    await upstream.start()
    proxy.let_time_pass("lab", 600)
    await proxy.pull("/v2/lab/app", one, "v1")
    assert here(world, one) == [True]


async def test_what_is_pinned_stays_however_full_the_disk_is(
    world: World, upstream: FakeRegistry
) -> None:
    kept = upstream.add("app", image(900_000, 800_000, seed="kept"), "v1")
    passing = [
        upstream.add("app", image(700_000, seed=f"p{number}"), f"p{number}") for number in range(4)
    ]
    proxy = await world.start({"lab": upstream}, disk_bytes_max=2 * MIB)
    await told(proxy, "pin", "lab/app:v1")
    await proxy.pull("/v2/lab/app", kept, "v1")
    await until(lambda: pinned(proxy, kept) == [True], "it is pinned")
    age(world, kept, 400)
    for number, one in enumerate(passing):
        # There is no room for it beside: it passes through.
        await proxy.pull("/v2/lab/app", one, f"p{number}")
    assert here(world, kept) == [True]
    assert (await proxy.status())["disk"]["bytes"] <= 2 * MIB
    # Still pinned after a restart, from the first moment on.
    await world.stack.aclose()
    proxy = await world.start({"lab": upstream}, disk_bytes_max=2 * MIB)
    assert pinned(proxy, kept) == [True]
    await proxy.pull("/v2/lab/app", passing[0], "p0")
    await told(proxy, "unpin", "lab/app:v1")
    age(world, kept, 400)
    for number, one in enumerate(passing):
        await proxy.pull("/v2/lab/app", one, f"p{number}")
    assert here(world, kept) == [False]


async def test_no_route_is_refused_with_a_tiny_disk_that_is_full_of_pins(
    world: World, upstream: FakeRegistry
) -> None:
    full = upstream.add("full", image(1_000_000, seed="full"), "v1")
    one = upstream.add("app", index(image(3 * MIB, 100, seed="amd"), image(2000, seed="x")), "v1")
    upstream.add("app", artifact(one))
    settings = {"disk_bytes_max": MIB, "memory_bytes_max": 0, "keep": {"pins": ["lab/full:v1"]}}
    proxy = await world.start({"lab": upstream}, **settings)
    await proxy.pull("/v2/lab/full", full, "v1")
    await until(lambda: pinned(proxy, full) == [True], "it is pinned")
    layer = one.layers[0]
    for _ in range(2):
        await proxy.pull("/v2/lab/app", one, "v1")
        head = await proxy.ask(f"/v2/lab/app/blobs/{layer.digest}", "HEAD")
        assert (head.status, head.headers["Content-Length"]) == (200, str(layer.size))
        for span in ("bytes=0-99", "bytes=1000000-", "bytes=-5"):
            part = await proxy.ask(f"/v2/lab/app/blobs/{layer.digest}", Range=span)
            assert part.status in {200, 206}
            assert part.body in layer.body
        for path in ("tags/list", f"referrers/{one.digest}"):
            assert (await proxy.ask(f"/v2/lab/app/{path}")).status == 200
        assert (await proxy.ask("/v2/lab/app/manifests/v1", "HEAD")).status == 200
    assert here(world, full) == [True]


async def test_a_pinned_tag_that_moves_keeps_the_old_image_until_the_new_one_is_whole(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "FOLLOW_EVERY_S", 0.05)
    old = upstream.add("app", image(3000, 2000, seed="old"), "v1")
    proxy = await world.start({"lab": upstream})
    await proxy.pull("/v2/lab/app", old, "v1")
    await told(proxy, "pin", "lab/app:v1")
    new = upstream.add("app", image(4000, 5000, seed="new"), "v1")
    assert (await proxy.ask("/v2/lab/app/manifests/v1")).sha256 == str(new.digest)
    await until(lambda: pinned(proxy, new) == [True], "the new one is pinned")
    assert pinned(proxy, old) == [True]
    await proxy.pull("/v2/lab/app", new, "v1")
    await until(lambda: pinned(proxy, old) == [False], "the old one is not")
    assert pinned(proxy, new) == [True]
    (pin, _) = await told(proxy, "pin", "--list")
    assert pin["digests"] == [str(new.digest)]


async def test_a_pattern_takes_in_what_comes_later(world: World, upstream: FakeRegistry) -> None:
    one, two, three = (image(1000, seed=seed) for seed in "123")
    upstream.add("library/a", one, "1-slim", "1")
    upstream.add("library/a", two, "2-slim")
    upstream.add("library/a", three, "3")
    proxy = await world.start({"lab": upstream})
    await proxy.pull("/v2/lab/library/a", one, "1-slim")
    found = await told(proxy, "pin", "lab/library/*:*-slim")
    assert [line.get("image") for line in found] == [
        "lab/library/*:*-slim",
        "lab/library/a:1-slim",
        None,
    ]
    await proxy.pull("/v2/lab/library/a", two, "2-slim")
    await proxy.pull("/v2/lab/library/a", three, "3")
    await until(lambda: pinned(proxy, two) == [True], "it is pinned")
    assert (pinned(proxy, one), pinned(proxy, three)) == ([True], [False])
    await told(proxy, "unpin", "lab/library/*:*-slim")
    assert (pinned(proxy, one), pinned(proxy, two)) == ([False], [False])


async def test_a_dry_run_tells_of_which_images_it_would_be(
    world: World, upstream: FakeRegistry, backgrounds: list[Background]
) -> None:
    images = [
        upstream.add("app", image(400_000, seed=str(number)), f"v{number}") for number in range(3)
    ]
    proxy = await world.start({"lab": upstream})
    for number, one in enumerate(images):
        await proxy.pull("/v2/lab/app", one, f"v{number}")
        await noted(proxy, backgrounds[0])
        age(world, one, 10 * (number + 1))
    await told(proxy, "pin", "lab/app:v2")
    (dry,) = await told(proxy, "evict", "--dry-run", "--free", "300kB")
    assert [(one["image"], one["where"]) for one in dry["images"]] == [("lab/app:v1", "disk")]
    assert dry["disk"]["dropped_bytes"] >= 300_000
    assert here(world, *images) == [True, True, True]
    shown = await run(proxy, "evict", "--dry-run", "--free", "300kB")
    assert "lab/app:v1 (disk)" in shown.stdout
    (done,) = await told(proxy, "evict", "--free", "300kB")
    assert done["disk"]["dropped_bytes"] >= 300_000
    assert here(world, images[2]) == [True]
    (idle,) = await told(proxy, "evict")
    assert (idle["disk"]["dropped_bytes"], idle["images"]) == (0, [])
    assert (await run(proxy, "evict", "--free", "much")).exit_code == 2


@pytest.mark.parametrize("dry_run", [True, False])
async def test_retention_lets_go_what_its_rules_say_and_nothing_else(
    world: World, upstream: FakeRegistry, dry_run: bool, backgrounds: list[Background]
) -> None:
    day = 86_400.0
    rules = [
        {"match": "lab/app:pr-*", "unused_s": "14d"},
        {"match": "*", "unused_s": "90d", "newest": 1},
    ]
    tags = ["pr-1", "pr-2", "pr-3", "v1", "v2", "v3"]
    images = {tag: upstream.add("app", image(20_000, seed=tag), tag) for tag in tags}
    now = start = time.time()
    world.clock = lambda: now
    proxy = await world.start({"lab": upstream}, keep={"retention": rules}, tag_fresh_s=3600)
    ages = {"pr-1": 20, "pr-2": 20, "pr-3": 1, "v1": 100, "v2": 100, "v3": 99}
    for tag in sorted(tags, key=lambda tag: -ages[tag]):
        now = start - ages[tag] * day
        await proxy.pull("/v2/lab/app", images[tag], tag)
        await noted(proxy, backgrounds[0])
    now = start
    for tag, one in images.items():
        age(world, one, ages[tag])
    await told(proxy, "pin", "lab/app:pr-2")
    words = ("evict", "--dry-run") if dry_run else ("evict",)
    (done,) = await told(proxy, *words)
    assert {one["image"] for one in done["images"]} == {"lab/app:pr-1", "lab/app:v1", "lab/app:v2"}
    assert done["retention"]["images"] == 3
    why = {one["image"]: one["why"] for one in done["images"]}
    assert "lab/app:pr-*" in why["lab/app:pr-1"]
    assert "newest 1" in why["lab/app:v1"]
    held = here(world, *(images[tag] for tag in tags))
    assert held == ([True] * 6 if dry_run else [False, True, True, False, False, True])


async def test_what_can_not_fit_beside_the_pins_drops_nothing(
    world: World, upstream: FakeRegistry, backgrounds: list[Background]
) -> None:
    kept = upstream.add("app", image(1_500_000, seed="kept"), "kept")
    small = upstream.add("app", image(300_000, seed="small"), "small")
    large = upstream.add("app", image(900_000, seed="large"), "large")
    proxy = await world.start({"lab": upstream}, disk_bytes_max=2 * MIB)
    await proxy.pull("/v2/lab/app", kept, "kept")
    await told(proxy, "pin", "lab/app:kept")
    await backgrounds[0].follow()
    await proxy.pull("/v2/lab/app", small, "small")
    assert proxy.entrepot.status is not None
    room = proxy.entrepot.status._backing.local.blobs.room
    assert room.stays == sum(content.size for content in (*kept.manifests, *kept.blobs))
    await proxy.pull("/v2/lab/app", large, "large")
    assert here(world, kept, small, large) == [True, True, False]
    await told(proxy, "unpin", "lab/app:kept")
    await backgrounds[0].follow()
    assert room.stays == 0
    age(world, kept, 100)
    await proxy.pull("/v2/lab/app", large, "large")
    assert here(world, kept, small, large) == [False, True, True]
