"""Tags as they stood at a date: of an upstream, or for those who pull at one address."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.config.moments import spelled
from tests.flows.conftest import Answer, Running, World
from tests.flows.test_history import BEGAN, Clock
from tests.support.fake_registry import FakeRegistry
from tests.support.images import image, index

A, B = image(1000, seed="a"), index(image(1000, 2000, seed="b"))
APP = "/v2/lab/app"


def words(answer: Answer) -> str:
    (error,) = json.loads(answer.body)["errors"]
    return str(error["message"])


async def played(world: World, upstream: FakeRegistry) -> Clock:
    """`v1` names A from 0 s, B from 1,000 s and nothing from 2,000 s; `v2` is A from 1,500 s."""
    world.clock = clock = Clock()
    proxy = await world.start({"lab": upstream}, negative_s=0)
    upstream.add("app", A, "v1")
    await proxy.pull(APP, A, "v1")
    clock.now = BEGAN + 1000
    upstream.add("app", B, "v1")
    await proxy.pull(APP, B, "v1")
    clock.now = BEGAN + 1500
    upstream.add("app", A, "v2")
    await proxy.pull(APP, A, "v2")
    clock.now = BEGAN + 2000
    del upstream.repositories["app"].tags["v1"]
    assert (await proxy.ask(f"{APP}/manifests/v1")).status == 404
    clock.now = BEGAN + 9000
    await world.stack.aclose()
    upstream.seen.clear()
    return clock


def at(seconds: float) -> str:
    return spelled(BEGAN + seconds)


async def elsewhere(proxy: Running, number: int, path: str, method: str = "GET") -> Answer:
    """As `proxy.ask`, at one of `listeners`."""
    before = proxy.entrepot.address
    proxy.entrepot.address = proxy.entrepot.further_addresses[number]
    try:
        return await proxy.ask(path, method)
    finally:
        proxy.entrepot.address = before


@pytest.mark.parametrize(("when", "expected"), [(0, A), (999, A), (1000, B), (1999, B), (1500, B)])
async def test_an_upstreams_tags_are_served_as_they_stood_then(
    world: World, upstream: FakeRegistry, when: float, expected: Any
) -> None:
    await played(world, upstream)
    upstream.add("app", image(5, seed="now"), "v1")
    proxy = await world.start({"lab": {"url": upstream.url, "as_of": at(when)}})
    for method in ("HEAD", "GET", "GET"):
        answer = await proxy.ask(f"{APP}/manifests/v1", method)
        assert answer.headers["Docker-Content-Digest"] == str(expected.digest)
        assert "Warning" not in answer.headers
    await proxy.pull(APP, expected, "v1")
    assert upstream.seen == []


async def test_what_was_not_seen_by_then_or_was_gone_is_404_and_says_so(
    world: World, upstream: FakeRegistry
) -> None:
    await played(world, upstream)
    for when, tag, said in (
        (-1, "v1", f"lab/app:v1 was first seen here at {at(0)}"),
        (1000, "v2", f"lab/app:v2 was first seen here at {at(1500)}"),
        (2000, "v1", f"lab/app:v1 was gone by {at(2000)}"),
        (2000, "v9", "lab/app:v9 was never seen here"),
    ):
        proxy = await world.start({"lab": {"url": upstream.url, "as_of": at(when)}})
        answer = await proxy.ask(f"{APP}/manifests/{tag}")
        assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
        assert words(answer).startswith(said)
        assert at(when) in words(answer)
        await world.stack.aclose()
    assert upstream.seen == []


async def test_listeners_answer_the_same_request_each_in_its_own_way(
    world: World, upstream: FakeRegistry
) -> None:
    """Over and over, so that the fast lanes answer as well."""
    await played(world, upstream)
    upstream.add("app", A, "v1")
    listeners = [{"listen": "127.0.0.1:0", "as_of": at(when)} for when in (500, 1200)]
    proxy = await world.start(
        {"lab": upstream}, listeners=[*listeners, {"listen": "127.0.0.1:0"}], tag_fresh_s=3600
    )
    for _ in range(4):
        for method in ("GET", "HEAD"):
            named = [
                (await elsewhere(proxy, number, f"{APP}/manifests/v1", method)).headers[
                    "Docker-Content-Digest"
                ]
                for number in range(3)
            ]
            own = await proxy.ask(f"{APP}/manifests/v1", method)
            assert named == [str(A.digest), str(B.digest), str(A.digest)]
            assert own.headers["Docker-Content-Digest"] == str(A.digest)
    assert upstream.count(kind="manifest") == 1
    assert proxy.entrepot.status is not None
    lanes = [server.lane for server in proxy.entrepot.status.servers]
    assert len(set(map(id, lanes))) == 4
    assert all(lane.answers for lane in lanes)


async def test_a_listener_goes_before_its_upstream(world: World, upstream: FakeRegistry) -> None:
    await played(world, upstream)
    lab = {"url": upstream.url, "as_of": at(500)}
    listeners = [{"listen": "127.0.0.1:0", "as_of": at(1200)}]
    proxy = await world.start({"lab": lab}, listeners=listeners)
    assert (await proxy.ask(f"{APP}/manifests/v1")).body == A.manifest.body
    assert (await elsewhere(proxy, 0, f"{APP}/manifests/v1")).body == B.manifest.body


async def test_tag_lists_are_those_of_then(world: World, upstream: FakeRegistry) -> None:
    await played(world, upstream)
    for when, expected in ((500, ["v1"]), (1500, ["v1", "v2"]), (2500, ["v2"]), (-1, None)):
        proxy = await world.start({"lab": {"url": upstream.url, "as_of": at(when)}})
        answer = await proxy.ask(f"{APP}/tags/list")
        assert answer.status == (404 if expected is None else 200)
        if expected is not None:
            assert json.loads(answer.body)["tags"] == expected
        await world.stack.aclose()
    assert upstream.seen == []


async def test_content_that_is_gone_is_brought_by_digest_and_no_record_moves(
    world: World, upstream: FakeRegistry
) -> None:
    await played(world, upstream)
    settings: dict[str, Any] = {"data_dir": str(world.root / "data")}
    blobs = world.root / "data" / "blobs"
    for path in sorted(blobs.rglob("*"), reverse=True):
        if path.is_file():
            path.unlink()
    tags = world.root / "data/repos/lab/app"
    before = {path: path.read_bytes() for path in tags.rglob("*") if path.is_file()}
    proxy = await world.start({"lab": {"url": upstream.url, "as_of": at(1200)}}, **settings)
    answer = await proxy.ask(f"{APP}/manifests/v1", "HEAD")
    assert answer.headers["Docker-Content-Digest"] == str(B.digest)
    assert upstream.seen == []
    await proxy.pull(APP, B, "v1")
    asked = {one.reference for one in upstream.seen if one.kind == "manifest"}
    assert asked == {str(one.digest) for one in B.manifests}
    after = {path: path.read_bytes() for path in before}
    assert after == before


async def test_offline_it_needs_nothing_but_what_is_here(
    world: World, upstream: FakeRegistry
) -> None:
    await played(world, upstream)
    lab = {"url": upstream.url, "as_of": at(500)}
    proxy = await world.start({"lab": lab}, offline=True)
    await proxy.pull(APP, A, "v1")
    for path in (world.root / "data" / "blobs").rglob(A.layers[0].digest.hex):
        path.unlink()
    await world.stack.aclose()
    proxy = await world.start({"lab": lab}, offline=True)
    answer = await proxy.ask(f"{APP}/manifests/v1")
    assert answer.status == 404
    assert f"of lab/app:v1 as of {at(500)} 1 of 2" in words(answer)
    assert upstream.seen == []
