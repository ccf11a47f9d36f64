"""What the handler does when something it never heard of goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from proxy.events import Event, RequestServed
from proxy.oci.routes import RouteTable, UpstreamNames
from proxy.web.exchange import Exchange
from proxy.web.missing import Missing
from proxy.web.refusals import Refusals
from proxy.web.registry import RegistryHandler, _first_range
from proxy.web.server import PullServer, listen
from tests.support.raw_http import RawAnswer, connected, exchange, request


class Broken:
    """Stands for every part of the cache."""

    async def serve(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("secret words")

    open = stat = list_tags = referrers = catalog = serve


class Waiting:
    """A cache that never answers."""

    def __init__(self) -> None:
        self.entered, self.left = asyncio.Event(), asyncio.Event()

    async def serve(self, *_: Any, **__: Any) -> Any:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()


@asynccontextmanager
async def handling(broken: Any) -> AsyncIterator[tuple[str, list[Event], list[Exchange]]]:
    """The pull listener over that cache: its address, events, access lines."""
    events: list[Event] = []
    lines: list[Exchange] = []
    handler = RegistryHandler(
        routes=RouteTable([UpstreamNames(name="lab")], "lab"),
        upstreams=cast("Any", {"lab": None}),
        tags=broken,
        blobs=broken,
        listings=broken,
        observe=events.append,
        access=lines.append,
        header_budget_s=60.0,
        send_stall_s=1.0,
        refusals=Refusals(Missing(events.append), relay_429=frozenset(), dockerd_blob_404=True),
    )
    runner = web.ServerRunner(PullServer(handler, connections_max=9, header_bytes_max=8192))
    await runner.setup()
    try:
        await listen(runner, "127.0.0.1:0")
        yield f"127.0.0.1:{runner.addresses[0][1]}", events, lines
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "path", ["app/manifests/v1", f"app/blobs/sha256:{'0' * 64}", "app/tags/list", "_catalog"]
)
async def test_an_unexpected_failure_is_a_500_that_tells_nothing_and_a_log_line(path: str) -> None:
    async with handling(Broken()) as (address, events, lines):
        with capture_logs() as logged:
            answer: RawAnswer = await exchange(address, request(f"/v2/{path}"))
        assert (answer.status, answer.code) == (500, "UNKNOWN")
        assert answer.one("Content-Type") == "application/json"
        assert b"secret" not in answer.body
        assert [line["event"] for line in logged] == ["request failed"]
        (event,) = events
        assert isinstance(event, RequestServed)
        assert (event.status, event.outcome, event.complete) == (500, "error", True)
        assert len(lines) == 1


async def test_a_client_that_leaves_before_its_answer_is_counted_and_logged_as_no_error() -> None:
    cache = Waiting()
    async with handling(cache) as (address, events, _lines):
        with capture_logs() as logged:
            async with connected(address) as client:
                await client.send(request("/v2/app/manifests/v1"))
                await cache.entered.wait()
            async with asyncio.timeout(5):
                await cache.left.wait()
    assert logged == []
    (event,) = events
    assert isinstance(event, RequestServed)
    assert (event.status, event.complete) == (0, False)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-", (0, None)),
        ("bytes=0-1", (0, 2)),
        ("bytes=500-", (500, None)),
        ("bytes= 7-9,1-2", (7, 10)),
        ("bytes=-20", (-20, None)),
        ("bytes=-", None),
        ("items=5-6", None),
        (f"bytes={'9' * 40}-", None),
    ],
)
def test_the_range_wanted_is_only_a_hint_and_never_an_error(
    header: str | None, expected: tuple[int, int | None] | None
) -> None:
    class Asked:
        headers = {} if header is None else {"Range": header}

    assert _first_range(cast("web.BaseRequest", Asked())) == expected
