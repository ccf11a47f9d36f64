"""Pins, lists and removals of images, by their commands, against a running proxy."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.flows.conftest import World
from tests.flows.kept import age, digests, file_of, here, listed, noted, run, still, told
from tests.support.fake_registry import FakeRegistry
from tests.support.images import artifact, image, index
from tests.support.waiting import until

SIZE = 200_000


async def test_images_are_listed_with_what_is_here_of_them(
    world: World, upstream: FakeRegistry
) -> None:
    both = index(image(SIZE, seed="amd"), arm := image(SIZE, seed="arm", architecture="arm64"))
    one = upstream.add("app", image(SIZE, seed="one"), "v1")
    upstream.add("app", both, "multi")
    upstream.add("app", upstream.add("app", artifact(one), "sig"), f"sha256-{one.digest.hex}.sig")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    await proxy.pull("/v2/lab/app", one, "v1")
    await proxy.ask("/v2/lab/app/manifests/multi")
    await proxy.pull("/v2/lab/app", arm)
    found = await listed(proxy)
    assert set(found) == {"lab/app:v1", "lab/app:multi"}
    v1, multi = found["lab/app:v1"], found["lab/app:multi"]
    assert v1["digest"] == str(one.digest)
    assert (v1["state"], v1["platforms"], v1["fresh"], v1["pinned"]) == (
        "complete",
        {"": True},
        True,
        [],
    )
    size = sum(content.size for content in (*one.manifests, *one.blobs))
    assert (v1["bytes"], v1["here_bytes"]) == (size, size)
    assert v1["pulled_at"] == pytest.approx(time.time(), abs=600)
    assert multi["platforms"] == {"linux/amd64": False, "linux/arm64": True}
    assert multi["state"] == "partial"
    assert list(await listed(proxy, "lab/*:m*")) == ["lab/app:multi"]
    assert list(await listed(proxy, "lab/app:v1")) == ["lab/app:v1"]
    assert set(await listed(proxy, "lab/app")) == set(found)
    for nowhere in ("lab/other", "lab/app:v9", "lab/*:x*"):
        nothing = await run(proxy, "ls", nowhere)
        assert (nothing.exit_code, nothing.stdout) == (1, "")
        assert nothing.stderr == f"{nowhere}: no such image here\n"
    shown = await run(proxy, "ls")
    assert "linux/arm64" in shown.stdout
    assert str(one.digest)[:19] in shown.stdout
    for words in (["ls", "UPPER"], ["ls", f"lab/app@{one.digest}"]):
        assert (await run(proxy, *words)).exit_code == 1


async def test_looking_at_images_is_no_use_of_them(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    backgrounds = still(monkeypatch)
    one = upstream.add("app", image(SIZE), "v1")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    await proxy.pull("/v2/lab/app", one, "v1")
    await noted(proxy, backgrounds[0])
    assert proxy.entrepot.status is not None
    proxy.entrepot.status._cache.memory.clear()
    files = [file_of(world, digest) for digest in digests(one)]
    age(world, one, 30)
    before = [(path.stat().st_atime, path.stat().st_mtime) for path in files]
    for words in (["ls"], ["du"], ["evict", "--dry-run"], ["rm", "lab/app:v1", "--dry-run"]):
        assert (await run(proxy, *words)).exit_code == 0
    assert [(path.stat().st_atime, path.stat().st_mtime) for path in files] == before
    assert len(proxy.entrepot.status._cache.memory) == 0


async def test_room_is_told_by_who_needs_it(world: World, upstream: FakeRegistry) -> None:
    base = image(SIZE, 300_000, seed="base")
    upstream.add("app", base, "v1", "v2")
    upstream.add("copy", base, "v1")
    own = upstream.add("app", image(50_000, seed="own"), "v3")
    proxy = await world.start({"lab": upstream})
    for repository, tag in (("app", "v1"), ("app", "v2"), ("copy", "v1")):
        await proxy.pull(f"/v2/lab/{repository}", base, tag)
    await proxy.pull("/v2/lab/app", own, "v3")
    *rows, sums = await told(proxy, "du")
    size, more = (sum(c.size for c in (*one.manifests, *one.blobs)) for one in (base, own))
    by_name = {(one["upstream"], one["repository"]): one for one in rows}
    assert {name: (one["unique_bytes"], one["shared_bytes"]) for name, one in by_name.items()} == {
        ("lab", None): (size + more, 0),
        ("lab", "app"): (more, size),
        ("lab", "copy"): (0, size),
    }
    assert (sums["tagged_bytes"], sums["here_bytes"]) == (size + more, size + more)
    assert (await run(proxy, "du")).exit_code == 0
    assert list((world.root / "data" / "tmp").iterdir()) == []


async def test_a_removed_image_goes_with_what_nothing_else_needs(
    world: World, upstream: FakeRegistry
) -> None:
    base, other = image(SIZE, 1000, seed="a"), image(SIZE, seed="b")
    shared = base.layers[0]
    upstream.add("app", base, "v1")
    second = upstream.add("app", index(base, other), "v2")
    third = upstream.add("app", image(70_000, seed="c"), "v3")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    await proxy.pull("/v2/lab/app", base, "v1")
    await proxy.pull("/v2/lab/app", second, "v2")
    await proxy.pull("/v2/lab/app", third, "v3")
    dry = await told(proxy, "rm", "lab/app:v2", "--dry-run")
    assert here(world, base, second, third) == [True, True, True]
    done = await told(proxy, "rm", "lab/app:v2")
    assert [one.get("freed_bytes") for one in done] == [one.get("freed_bytes") for one in dry]
    assert here(world, base, second, third) == [True, False, True]
    gone = digests(second) - digests(base)
    assert not any(file_of(world, digest).exists() for digest in gone)
    assert file_of(world, shared.digest).exists()
    assert set(await listed(proxy)) == {"lab/app:v1", "lab/app:v3"}
    # The sum follows.
    assert proxy.entrepot.status is not None
    room = proxy.entrepot.status._backing.local.blobs.room
    assert room.used == room.count_blocking()
    # Again: there is nothing, and that is said of each that was named, and of no other.
    (*unknown, nothing) = await told(proxy, "rm", "lab/app:v2", "lab/app:t*", code=1)
    assert [one["image"] for one in unknown] == ["lab/app:v2", "lab/app:t*"]
    assert (nothing["removed"], nothing["unknown"]) == (0, 2)
    some = await run(proxy, "rm", "lab/typo:v1", "lab/app")
    assert (some.exit_code, some.stderr) == (1, "lab/typo:v1: no such image here\n")
    assert some.stdout.splitlines()[-1].startswith("removed 2 images, ")
    assert await listed(proxy) == {}
    none = await run(proxy, "ls")
    assert (none.exit_code, none.stdout, none.stderr) == (0, "", "no images here yet\n")
    assert room.used == room.count_blocking() == 0


async def test_an_image_whose_digest_is_longer_than_a_tag_is_kept_and_removed_too(
    world: World, upstream: FakeRegistry
) -> None:
    one = upstream.add("app", image(2000, algorithm="sha512"), "v1")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    await proxy.pull("/v2/lab/app", one, "v1")
    (pinned, *_) = await told(proxy, "pin", "lab/app:v1")
    assert pinned["state"] == "complete"
    assert (await listed(proxy))["lab/app:v1"]["digest"] == str(one.digest)
    await told(proxy, "rm", "lab/app:v1", "--force")
    assert here(world, one) == [False]


async def test_what_was_removed_is_asked_for_again_at_once(
    world: World, upstream: FakeRegistry
) -> None:
    one = upstream.add("app", image(2000), "v1")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    for _ in range(4):  # the last ones from the fast lane
        await proxy.pull("/v2/lab/app", one, "v1")
    asked = len(upstream.seen)
    await proxy.pull("/v2/lab/app", one, "v1")
    assert len(upstream.seen) == asked
    await told(proxy, "rm", "lab/app:v1")
    other = upstream.add("app", image(2000, seed="other"), "v1")
    assert (await proxy.ask("/v2/lab/app/manifests/v1")).sha256 == str(other.digest)
    asked = upstream.count(kind="manifest")
    assert (await proxy.ask(f"/v2/lab/app/manifests/{one.digest}")).status == 200
    assert upstream.count(kind="manifest") > asked
    asked = upstream.count(kind="blob", method="GET")
    assert (await proxy.ask(f"/v2/lab/app/blobs/{one.layers[0].digest}")).status == 200
    assert upstream.count(kind="blob", method="GET") == asked + 1


async def test_pins_refuse_removal_and_go_by_force(world: World, upstream: FakeRegistry) -> None:
    one = upstream.add("app", image(SIZE, seed="1"), "v1")
    two = upstream.add("app", image(SIZE, seed="2"), "v2-slim")
    settings = {"keep": {"pins": ["lab/*:*-slim"]}}
    proxy = await world.start({"lab": upstream}, **settings)
    pinned = await told(proxy, "pin", "lab/app:v1")
    assert (pinned[0]["state"], pinned[-1]["pinned"]) == ("absent", 1)
    await proxy.pull("/v2/lab/app", one, "v1")
    await proxy.pull("/v2/lab/app", two, "v2-slim")

    def all_pinned() -> bool:
        pins = proxy.entrepot.status._cache.pins if proxy.entrepot.status else None
        assert pins is not None
        from proxy.ports import BlobKey

        return all(
            pins.pinned(BlobKey("public", digest)) for digest in (*digests(one), *digests(two))
        )

    await until(all_pinned, "both are pinned")
    *_refused, done = await told(proxy, "rm", "lab/*", code=1)
    assert (done["removed"], done["refused"]) == (0, 2)
    assert "--force" in (await run(proxy, "rm", "lab/*")).stderr
    assert here(world, one, two) == [True, True]
    pins = (await told(proxy, "pin", "--list"))[:-1]
    assert {(pin["image"], pin["source"], pin["pattern"]) for pin in pins} == {
        ("lab/app:v1", "cli", None),
        ("lab/*:*-slim", "config", None),
        ("lab/app:v2-slim", "config", "lab/*:*-slim"),
    }
    assert "configuration" in (await run(proxy, "pin", "--list")).stdout
    # What the configuration wants stays; what a person pinned goes.
    assert (await run(proxy, "unpin", "lab/*:*-slim")).exit_code == 1
    done = (await told(proxy, "rm", "lab/*", "--force", code=1))[-1]
    assert (done["removed"], done["refused"]) == (1, 1)
    assert here(world, one, two) == [False, True]
    assert (await run(proxy, "unpin", "lab/app:v1")).exit_code == 1
    assert (await run(proxy, "pin", "UPPER")).exit_code == 1
    # The configuration no longer wants it: after the next start nobody does.
    await world.stack.aclose()
    proxy = await world.start({"lab": upstream})

    async def none_left() -> bool:
        return len(await told(proxy, "pin", "--list")) <= 1

    await until(none_left, "no pin is left")


async def test_everything_in_a_file_is_pinned_and_unpinned(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", image(1000), "v1")
    proxy = await world.start({"lab": upstream})
    await proxy.pull("/v2/lab/app", upstream.add("app", image(1000), "v1"), "v1")
    names = tmp_path / "images.txt"
    names.write_text("# ours\nlab/app:v1\n\nlab/*:*-slim  # and these\nlab/late:v9\n")
    done = await told(proxy, "pin", "--file", str(names))
    assert [one.get("state") for one in done] == ["complete", None, "absent", None]
    assert len(await told(proxy, "pin", "--list")) == 4
    assert (await run(proxy, "unpin", "--file", str(names))).exit_code == 0
    assert len(await told(proxy, "pin", "--list")) == 1
    assert (await run(proxy, "pin")).exit_code == 2


@pytest.mark.parametrize(
    ("page", "asked"),
    [
        ("rm", {}),
        ("rm", {"images": []}),
        ("rm", {"images": [""]}),
        ("rm", {"images": "lab/app:v1"}),
        ("rm", {"images": ["*"], "dry_run": "yes"}),
        ("pin", {"images": [3]}),
        ("ls", {"match": 3}),
        ("ls", []),
        ("evict", {"free_bytes": -1}),
        ("evict", {"free_bytes": True}),
    ],
)
async def test_what_makes_no_sense_is_refused_and_nothing_done(
    world: World, upstream: FakeRegistry, page: str, asked: object
) -> None:
    one = upstream.add("app", image(1000), "v1")
    proxy = await world.start({"lab": upstream})
    await proxy.pull("/v2/lab/app", one, "v1")
    url = f"http://{proxy.entrepot.admin_address}/keep/{page}"
    async with proxy.client.post(url, json=asked) as answer:
        assert answer.status == 400, await answer.text()
    kind = {"Content-Type": "application/json"}
    async with proxy.client.post(url, data=b"{", headers=kind) as answer:
        assert answer.status == 400
    assert here(world, one) == [True]


async def test_a_tag_that_a_pattern_found_and_that_is_gone_is_pinned_no_longer(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    backgrounds = still(monkeypatch)
    one = upstream.add("app", image(1000), "1-slim")
    proxy = await world.start({"lab": upstream})
    await proxy.pull("/v2/lab/app", one, "1-slim")
    await told(proxy, "pin", "lab/*-slim")
    assert len(await told(proxy, "pin", "--list")) == 3
    del upstream.repositories["app"].tags["1-slim"]
    assert (await proxy.ask("/v2/lab/app/manifests/1-slim")).status == 404
    await backgrounds[0].follow()
    pins = await told(proxy, "pin", "--list")
    assert [(pin["image"], pin["pattern"]) for pin in pins[:-1]] == [("lab/*-slim", None)]
    assert here(world, one) == [True]


async def test_what_is_pinned_by_digest_outlives_its_tag(
    world: World, upstream: FakeRegistry
) -> None:
    both = index(image(2000, seed="a"), image(3000, seed="b", architecture="arm64"))
    upstream.add("app", both, "v1")
    proxy = await world.start({"lab": upstream}, memory_bytes_max=0)
    await proxy.pull("/v2/lab/app", both, "v1")
    (pin, _) = await told(proxy, "pin", f"lab/app@{both.digest}")
    assert (pin["state"], pin["digests"]) == ("complete", [str(both.digest)])
    (_, done) = await told(proxy, "rm", "lab/app:v1")
    assert (done["removed"], done["freed_bytes"]) == (1, 0)
    assert await listed(proxy) == {}
    assert here(world, both) == [True]
    await upstream.stop()
    await proxy.pull("/v2/lab/app", both)
    assert (await proxy.ask("/v2/lab/app/manifests/v1")).status == 503


async def test_what_is_pinned_stays_although_its_upstream_no_longer_has_it(
    world: World, upstream: FakeRegistry
) -> None:
    kept = upstream.add("app", image(SIZE, seed="kept"), "v1")
    gone = upstream.add("app", image(SIZE, seed="gone"), "v2")
    proxy = await world.start({"lab": upstream})
    await proxy.pull("/v2/lab/app", kept, "v1")
    await proxy.pull("/v2/lab/app", gone, "v2")
    assert (await run(proxy, "pin", "lab/app:v1")).exit_code == 0
    upstream.repositories.clear()
    answer = await proxy.ask("/v2/lab/app/manifests/v1")
    assert (answer.status, answer.body) == (200, kept.manifest.body)
    assert "no longer has the tag" in answer.headers["Warning"]
    assert (await proxy.ask("/v2/lab/app/manifests/v2")).status == 404
    await proxy.pull("/v2/lab/app", kept, "v1")
