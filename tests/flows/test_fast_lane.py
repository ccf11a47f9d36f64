"""Answers below the HTTP parser: the same as from above it, whatever happens between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.flows.fast_lane import BLOB, IMAGES, MANIFEST, SMALL, Proxy, running, seen, warm
from tests.support.fake_auth import FakeAuth
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.raw_http import connected, request


@pytest.fixture
async def proxy(tmp_path: Path, upstream: FakeRegistry) -> AsyncIterator[Proxy]:
    upstream.add("app", IMAGES[0], "v1")
    async with running(tmp_path, upstream) as one:
        yield one


PATHS = [
    "/v2/",
    MANIFEST,
    "/v2/lab/app/manifests/v2",
    *(f"/v2/lab/app/manifests/{one.digest}" for one in IMAGES),
    *(f"/v2/lab/app/blobs/{one.layers[0].digest}" for one in IMAGES),
    f"/v2/lab/other/manifests/{IMAGES[0].digest}",
    f"/v2/lab/other/blobs/{SMALL.digest}",
    "/v2/lab/app/tags/list",
    "/v2/app/manifests/v1?ns=lab",
]
LINES: list[tuple[str, ...]] = [
    (),
    (),
    (),
    ("Accept: application/vnd.docker.distribution.manifest.v2+json",),
    ("Accept: */*", "User-Agent: a test"),
    (f'If-None-Match: "{IMAGES[0].digest}"',),
    (f'If-None-Match: "{SMALL.digest}"',),
    ("Range: bytes=2-9",),
    ("Range: bytes=999999-",),
    ("Authorization: Basic eDp5",),
    ("Connection: keep-alive",),
    ("Content-Length: 0",),
]
# The lane leaves such heads alone, and the answer does not depend on it.
BESIDE = "Cookie: a=b"


@pytest.mark.parametrize("seed", range(6))
async def test_it_never_answers_differently_from_the_slow_lane(
    tmp_path: Path, upstream: FakeRegistry, seed: int
) -> None:
    draw = random.Random(seed)
    upstream.add("app", IMAGES[0], "v1", "v2")
    upstream.add("other", IMAGES[0])
    async with (
        running(tmp_path, upstream, memory_bytes_max=60_000) as proxy,
        connected(proxy.address) as fast,
        connected(proxy.address) as slow,
    ):
        few = [(path, lines) for path in PATHS for lines in LINES]
        for _ in range(90):
            match draw.randrange(12):
                case 0:
                    upstream.add("app", draw.choice(IMAGES), draw.choice(["v1", "v2"]))
                case 1:
                    proxy.clock.ahead_s += draw.choice([1, 30, 61])
                case 2:
                    proxy.cache.memory.clear()
                case 3:
                    for key in list(proxy.cache.memory._items):
                        if draw.random() < 0.3:
                            proxy.cache.memory.pop(key)
                case 4:
                    await proxy.delete(draw.choice([*IMAGES[0].blobs, *IMAGES[1].manifests]))
                case 5:
                    proxy.cache.memory.clear()
                    for one in IMAGES[0].blobs:
                        await proxy.delete(one)
                case 6:
                    upstream.inject(Fault(status=503), times=None, early=True)
                case 7 | 8:
                    upstream.heal()
                    proxy.breaker_forgets()
                case 9:
                    upstream.repositories["app"].tags.pop("v2", None)
                case _:
                    proxy.clock.ahead_s += draw.random()
            chosen = [*draw.sample(few, 3), (MANIFEST, ()), (BLOB, ())]
            for path, lines in chosen:
                method = draw.choice(["GET", "GET", "HEAD"])
                for _ in range(draw.randrange(1, 4)):
                    ours = await proxy.ask(fast, request(path, *lines, method=method))
                    other = await proxy.ask(slow, request(path, *lines, BESIDE, method=method))
                    assert seen(ours) == seen(other), (method, path, lines)
                    await proxy.settled()
        assert proxy.repeated > 100  # Else nothing was compared.
        assert proxy.count("entrepot_requests_total") == proxy.asked


async def test_a_tag_that_moves_is_noticed_when_its_time_is_over(proxy: Proxy) -> None:
    head = request(MANIFEST)
    assert (await warm(proxy, head)).body == IMAGES[0].manifest.body
    proxy.upstream.add("app", IMAGES[1], "v1")
    asked = proxy.upstream.count(kind="manifest")
    async with connected(proxy.address) as client:
        proxy.clock.ahead_s += 50
        assert (await proxy.ask(client, head)).body == IMAGES[0].manifest.body
        assert proxy.upstream.count(kind="manifest") == asked
        proxy.clock.ahead_s += 11
        assert (await proxy.ask(client, head)).body == IMAGES[1].manifest.body
        assert proxy.upstream.count(kind="manifest") > asked


async def test_an_upstream_that_begins_to_fail_takes_its_manifests_out_at_once(
    proxy: Proxy,
) -> None:
    """For then only images that can be pulled to their end are served."""
    head = request(f"/v2/lab/app/manifests/{IMAGES[0].digest}")
    await warm(proxy, head)
    proxy.upstream.inject(Fault(status=503), times=None, early=True)
    async with connected(proxy.address) as client:
        for number in range(4):
            assert (
                await proxy.ask(client, request(f"/v2/lab/app/manifests/x{number}"))
            ).status > 400
        assert head not in proxy.lane.answers
        # Its layers were never fetched.
        assert (await proxy.ask(client, head)).status == 503


async def test_the_date_is_that_of_now(proxy: Proxy) -> None:
    head = request("/v2/")
    before = (await warm(proxy, head)).one("Date")
    proxy.clock.ahead_s += 3600
    async with connected(proxy.address) as client:
        assert (await proxy.ask(client, head)).one("Date") != before


async def test_a_repository_that_became_private_is_shown_no_longer_than_it_would_be(
    tmp_path: Path,
) -> None:
    auth = FakeAuth(users={"me": "hunter2"})
    async with FakeRegistry(auth=auth) as upstream:
        upstream.add("app", IMAGES[0], "v1")
        lab = {"url": upstream.url, "username": "me", "password": "hunter2", "expose": "public"}
        settings = {"upstreams": {"lab": lab}, "expose_recheck_s": 600}
        heads = [request(f"/v2/lab/app/manifests/{IMAGES[0].digest}"), request(BLOB)]
        async with running(tmp_path, upstream, **settings) as proxy:
            for head in heads:
                assert (await warm(proxy, head)).status == 200
            auth.private.add("app")
            auth.revoke()
            async with connected(proxy.address) as client:
                proxy.clock.ahead_s += 590
                for head in heads:
                    assert (await proxy.ask(client, head)).status == 200
                proxy.clock.ahead_s += 11
                for head in heads:
                    assert (await proxy.ask(client, head)).status == 403


async def test_what_is_in_memory_is_served_without_a_thread(proxy: Proxy) -> None:
    """By the slow lane, too: a thread hop costs more than all the rest."""
    heads = [request(path, BESIDE) for path in (MANIFEST, BLOB, f"{BLOB}?ns=lab")]
    hops: list[object] = []

    class Counting(ThreadPoolExecutor):
        def submit(self, work: Any, /, *args: Any, **more: Any) -> Any:
            hops.append(work)
            return super().submit(work, *args, **more)

    async with connected(proxy.address) as client:
        for _ in range(2):  # The second brings it from the disk into memory.
            for head in heads:
                assert (await proxy.ask(client, head)).status == 200
                await proxy.settled()
        asyncio.get_running_loop().set_default_executor(Counting(1))
        for _ in range(5):
            for head in heads:
                assert (await proxy.ask(client, head)).status == 200
        assert not hops
