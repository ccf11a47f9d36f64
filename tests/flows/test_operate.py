"""What operators see and do: health, metrics, status, the access line, SIGTERM."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.flows.conftest import Running, World
from tests.support.entrepot import Entrepot
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import image
from tests.support.raw_http import connected, request

IMAGE = image(1000, 3_000_000)
LARGE = IMAGE.blobs[2]


async def admin(proxy: Running, path: str) -> tuple[int, str]:
    async with proxy.client.get(f"http://{proxy.entrepot.admin_address}{path}") as response:
        return response.status, await response.text()


async def test_health_tells_life_and_readiness_apart(world: World, upstream: FakeRegistry) -> None:
    proxy = await world.start({"lab": upstream}, drain_delay_s=60)
    assert await admin(proxy, "/livez") == (200, "ok\n")
    assert await admin(proxy, "/readyz") == (200, "ok\n")
    draining = asyncio.create_task(proxy.entrepot.drain())
    await asyncio.sleep(0)
    assert await admin(proxy, "/readyz") == (503, "draining\n")
    assert await admin(proxy, "/livez") == (200, "ok\n")
    # Not ready is for who chooses; who comes all the same is served.
    assert (await proxy.ask("/v2/")).status == 200
    draining.cancel()
    # The pull port tells operators' things to nobody.
    for path in ("/livez", "/readyz", "/metrics", "/status"):
        assert (await proxy.ask(path)).status == 404


async def test_metrics_name_everything_and_no_client_can_make_them_grow(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("secret-repository", IMAGE, "v1")
    proxy = await world.start({"lab": upstream})
    await proxy.pull("/v2/lab/secret-repository", IMAGE, "v1")
    for path in (
        "/v2/lab/n-o-n-e/manifests/v1",
        "/v2/x/y/z",
        "/nothing",
        "/v2/q/manifests/v1?ns=w",
    ):
        for method in ("GET", "BREW", "PROPFIND"):
            await proxy.ask(path, method)
    status, text = await admin(proxy, "/metrics")
    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(text)}
    source = Path(__file__).parents[2] / "proxy"
    named = {
        name
        for file in (*source.glob("telemetry/*.py"), source / "status.py")
        for name in re.findall(r'"(entrepot_[a-z0-9_]+)"', file.read_text())
    }
    assert len(named) > 20
    assert named <= set(families)
    values = {
        value for one in families.values() for s in one.samples for value in s.labels.values()
    }
    for told in ("repository", "sha256", "n-o-n-e", "v1", "PROPFIND", "BREW"):
        assert not [value for value in values if told in value]


async def test_an_upstreams_quota_is_a_gauge(world: World, upstream: FakeRegistry) -> None:
    upstream.quirks.quota = 57
    upstream.add("app", IMAGE, "v1")
    proxy = await world.start({"lab": upstream})
    await proxy.ask("/v2/lab/app/manifests/v1")
    assert await proxy.metric("entrepot_upstream_quota_remaining", upstream="lab") == 56
    assert await proxy.metric("entrepot_upstream_quota_limit", upstream="lab") == 100
    quota = (await proxy.status())["upstreams"]["lab"]["quota"]
    assert quota == {"limit": 100, "remaining": 56, "window_s": 21600}


async def test_the_status_page_shows_a_flight_and_an_upstream_in_trouble(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", IMAGE, "v1")
    held = asyncio.Event()
    upstream.inject(Fault(stall_at=1_000_000, stall=held), kind="blob")
    proxy = await world.start({"lab": upstream})
    path = f"{proxy.url}/v2/lab/app/blobs/{LARGE.digest}"
    async with proxy.client.get(path) as one, proxy.client.get(path) as other:
        await one.content.readexactly(700_000)
        await other.content.readexactly(700_000)
        (flight,) = (await proxy.status())["flights"]
        assert flight["digest"] == str(LARGE.digest)
        assert (flight["size"], flight["followers"]) == (LARGE.size, 2)
        assert 700_000 <= flight["written"] <= 1_000_000
        assert flight["sources"] == ["lab/app"]
        assert await proxy.metric("entrepot_followers") == 2
        assert await proxy.metric("entrepot_flights_in_progress") == 1
        held.set()
        await asyncio.gather(one.read(), other.read())
    await proxy.settled()
    upstream.inject(Fault(status=502), times=None)
    for number in range(3):
        await proxy.ask(f"/v2/lab/app/manifests/{number}")
    shown = await proxy.status()
    assert shown["upstreams"]["lab"]["state"] == "failing"
    assert "502" in shown["upstreams"]["lab"]["reason"]
    assert shown["disk"]["bytes"] >= LARGE.size
    assert await proxy.metric("entrepot_upstream_state", state="failing") == 1


@pytest.fixture
async def process(tmp_path: Path, upstream: FakeRegistry) -> Any:
    """Entrepot as a process of its own, which is stopped in the end."""
    upstream.add("app", IMAGE, "v1")
    server = Entrepot(
        tmp_path / "entrepot",
        upstreams={"lab": {"url": upstream.url}},
        presets=False,
        default_upstream="lab",
        disk_free_bytes_min=0,
        drain_s=20,
        log_format="json",
    )
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.stop)


async def test_each_request_leaves_a_line_that_says_how_it_was_answered(
    process: Entrepot,
) -> None:
    asked = [
        ("GET", "/v2/lab/app/manifests/v1", {}, "manifest", 200, "miss", len(IMAGE.manifest.body)),
        ("HEAD", "/v2/lab/app/manifests/v1", {}, "manifest", 200, "hit", 0),
        ("GET", f"/v2/lab/app/blobs/{LARGE.digest}", {}, "blob", 200, "miss", LARGE.size),
        ("GET", f"/v2/lab/app/blobs/{LARGE.digest}", {"Range": "bytes=5-9"}, "blob", 206, None, 5),
        ("GET", "/v2/lab/app/manifests/none", {}, "manifest", 404, "error", None),
        ("GET", "/nothing?n=1", {}, "other", 404, "error", None),
        ("GET", "/v2/", {}, "ping", 200, "hit", 2),
    ]
    async with aiohttp.ClientSession(headers={"User-Agent": "a test"}) as client:
        for method, path, headers, *_ in asked:
            async with client.request(method, process.url + path, headers=headers) as response:
                await response.read()
    await asyncio.to_thread(process.stop)
    said = [json.loads(line) for line in process.log_text().splitlines() if '"request"' in line]
    lines = [line for line in said if line["agent"] == "a test"]
    assert len(lines) == len(asked)
    for line, (method, path, _, route, status, outcome, size) in zip(lines, asked, strict=True):
        assert (line["method"], line["target"], line["route"]) == (method, path, route)
        assert (line["status"], line["complete"]) == (status, True)
        assert outcome in {None, line["outcome"]}
        assert size in {None, line["bytes"]}
        assert line["client"] == "127.0.0.1"
        assert ("error" in line) == (outcome == "error")


async def test_sigterm_finishes_what_runs_refuses_what_comes_and_ends_with_0(
    process: Entrepot, upstream: FakeRegistry
) -> None:
    held = asyncio.Event()
    upstream.inject(Fault(stall_at=1_000_000, stall=held), kind="blob")
    path = f"/v2/lab/app/blobs/{LARGE.digest}"
    async with aiohttp.ClientSession() as client, connected(process.address) as idle:
        await idle.send(request("/v2/"))
        await idle.receive()
        async with client.get(process.url + path) as response:
            first = await response.content.readexactly(500_000)
            stopping = asyncio.create_task(asyncio.to_thread(process.stop))
            # A client that only keeps its connection is let go at once.
            assert await idle.closed()
            async with client.get(f"{process.admin}/readyz") as ready:
                assert (ready.status, await ready.text()) == (503, "draining\n")
            with pytest.raises(aiohttp.ClientConnectorError):
                async with aiohttp.ClientSession() as late:
                    await late.get(f"{process.url}/v2/")
            assert not stopping.done()
            began = time.monotonic()
            held.set()
            assert first + await response.read() == LARGE.body
        assert await stopping == 0
    # Nobody was waited for who was not being served.
    assert time.monotonic() - began < 10
