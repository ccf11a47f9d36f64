"""Tracing: spans from events, context in and out, and nothing at all while it is off."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from proxy import tracing
from proxy.app import Entrepot
from proxy.config import load
from proxy.events import CoordinationAsked, FollowerJoined, StorageAsked
from proxy.telemetry.otel import QUEUE_MAX, Spans
from proxy.tracing import Sampler, Trace
from tests.support.fake_registry import FakeRegistry
from tests.support.images import image
from tests.support.processes import free_port
from tests.support.raw_http import connected, request

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
INCOMING = f"00-{TRACE}-{SPAN}-01"
IMAGE = image(1_000_000)


@dataclass
class Collector:
    """What was received, by name."""

    url: str = ""
    spans: list = field(default_factory=list)

    def named(self, name: str) -> list:
        return [one for one in self.spans if one.name == name]

    @contextmanager
    def running(self) -> Iterator[None]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans.extend(scope.spans)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    one = Collector()
    with one.running():
        yield one


def settings(tmp_path: Path, upstream: FakeRegistry, **more: object):
    return load(
        None,
        {},
        {
            "listen": "127.0.0.1:0",
            "admin_listen": "127.0.0.1:0",
            "data_dir": str(tmp_path / "data"),
            "drain_s": 0,
            "presets": False,
            "default_upstream": "lab",
            "upstreams": {"lab": {"url": upstream.url}},
            **more,
        },
    )


async def pull(entrepot: Entrepot, path: str, **headers: str) -> int:
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"http://{entrepot.address}{path}", headers=headers) as response,
    ):
        await response.read()
        return response.status


LAYER = f"/v2/app/blobs/{IMAGE.layers[0].digest}"


async def test_a_clients_trace_goes_on_through_fill_and_upstream(
    tmp_path: Path, collector: Collector
) -> None:
    async with FakeRegistry() as upstream:
        upstream.add("app", IMAGE, "v1")
        asked = settings(tmp_path, upstream, otlp_url=collector.url, otlp_ratio=0)
        async with Entrepot(asked) as entrepot:
            assert await pull(entrepot, LAYER, traceparent=INCOMING) == 200
            assert await pull(entrepot, "/v2/app/manifests/v1") == 200
        seen = upstream.requests(kind="blob", method="GET")[0].headers["traceparent"]
        unsampled = upstream.requests(kind="manifest", method="GET")[0].headers
    (request,) = collector.named("GET blob")
    (fill,) = collector.named("fill")
    asked_for = collector.named("upstream blob")
    assert request.parent_span_id.hex() == SPAN
    assert {one.trace_id.hex() for one in collector.spans} == {TRACE}
    assert fill.parent_span_id == request.span_id == asked_for[0].parent_span_id
    assert seen == f"00-{TRACE}-{request.span_id.hex()}-01"
    assert request.end_time_unix_nano >= request.start_time_unix_nano > 0
    assert "traceparent" not in unsampled
    assert collector.named("GET manifest") == []


async def test_all_or_none_of_the_others_are_traced_as_the_ratio_says(
    tmp_path: Path, collector: Collector
) -> None:
    async with FakeRegistry() as upstream:
        upstream.add("app", IMAGE, "v1")
        asked = settings(tmp_path, upstream, otlp_url=collector.url, otlp_ratio=1)
        async with Entrepot(asked) as entrepot:
            assert await pull(entrepot, "/v2/app/manifests/v1") == 200
            refused = f"00-{TRACE}-{SPAN}-00"
            assert await pull(entrepot, LAYER, traceparent=refused) == 200
        passed_on = upstream.requests(kind="blob", method="GET")[0].headers["traceparent"]
    (request,) = collector.named("GET manifest")
    assert not request.parent_span_id
    assert collector.named("GET blob") == []
    assert passed_on == refused


async def test_of_what_the_fast_lane_could_answer_a_share_is_traced(
    tmp_path: Path, collector: Collector
) -> None:
    """And answered by the parser; nothing is drawn twice."""
    rounds, ratio = 600, 0.25
    async with FakeRegistry() as upstream:
        upstream.add("app", IMAGE, "v1")
        asked = settings(tmp_path, upstream, otlp_url=collector.url, otlp_ratio=ratio)
        async with Entrepot(asked) as entrepot, connected(entrepot.address) as client:
            for _ in range(rounds):
                await client.send(request("/v2/app/manifests/v1"))
                assert (await client.receive()).body == IMAGE.manifest.body
            entrepot.telemetry.hand_on()
            below = entrepot.telemetry.registry.get_sample_value(
                "entrepot_fast_lane_answers_total", {"upstream": "lab"}
            )
    traced = len(collector.named("GET manifest"))
    # Six standard deviations around the mean.
    assert 86 < traced < 214
    # The first ones were not known yet.
    assert rounds - 10 <= traced + below <= rounds


@pytest.mark.parametrize("ratio", [0.0, 0.003, 0.4, 1.0])
def test_each_request_has_the_same_chance_whoever_answers_it(ratio: float) -> None:
    sampler, rounds = Sampler(ratio), 100_000
    sampler._random.seed(7)
    sampler._left = sampler._gap()
    draw = random.Random(7)
    traced: list[int] = []

    def all_of_them() -> None:
        for number in range(rounds):
            if draw.random() < 0.5 and sampler.untraced():
                continue
            sampler.begin(None)
            if tracing.current.get() is not None:
                traced.append(number)

    contextvars.copy_context().run(all_of_them)
    deviation = (rounds * ratio * (1 - ratio)) ** 0.5
    assert abs(len(traced) - rounds * ratio) <= 5 * deviation
    # One after another as often as chance has it, too.
    pairs = sum(later == sooner + 1 for sooner, later in itertools.pairwise(traced))
    assert abs(pairs - rounds * ratio**2) <= 5 * (rounds * ratio**2 * (1 - ratio**2)) ** 0.5 + 1


async def test_pulls_and_the_end_do_not_wait_for_a_collector_that_is_away(tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{free_port()}/v1/traces"
    async with FakeRegistry() as upstream, asyncio.timeout(60):
        upstream.add("app", IMAGE, "v1")
        asked = settings(tmp_path, upstream, otlp_url=away, otlp_ratio=1)
        async with Entrepot(asked) as entrepot:
            for _ in range(3):
                assert await pull(entrepot, LAYER) == 200


def test_a_collector_that_is_away_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    Spans("http://127.0.0.1:1", observe=lambda _: None, sampler=Sampler(1)).close()
    for _ in range(10):
        logging.getLogger("opentelemetry.sdk.some.module").error("no collector")
    assert [record.message for record in caplog.records] == ["no collector"]


def test_what_finds_no_room_is_dropped() -> None:
    spans = Spans(
        f"http://127.0.0.1:{free_port()}/v1/traces", observe=lambda _: None, sampler=Sampler(1)
    )
    token = tracing.current.set(Trace(1, 2))
    try:
        for _ in range(3 * QUEUE_MAX):
            spans.observe(StorageAsked(operation="get_object", answered=True, duration_s=0.1))
        assert len(spans._queue._batch_processor._queue) <= QUEUE_MAX
    finally:
        tracing.current.reset(token)
        spans.close()


async def test_storage_and_leases_have_spans_and_who_joins_a_fill_has_a_link(
    collector: Collector,
) -> None:
    from proxy.events import FlightEnded, FlightStarted, RequestServed

    spans = Spans(collector.url, observe=lambda _: None, sampler=Sampler(1))

    def served(*, repeated: bool = False) -> None:
        spans.observe(
            RequestServed(
                kind="blob",
                method="GET",
                upstream="lab",
                outcome="join",
                status=200,
                size=2 if repeated else 1,
                complete=True,
                duration_s=0.2,
                first_byte_s=0.1,
                repeated=repeated,
            )
        )

    token = tracing.current.set(Trace(1, 2))
    spans.observe(FlightStarted(digest="sha256:a", upstream="lab"))
    spans.observe(StorageAsked(operation="get_object", answered=False, duration_s=0.1))
    spans.observe(CoordinationAsked(operation="claim", answered=True, duration_s=0.1))
    tracing.current.set(Trace(3, 4))
    spans.observe(FollowerJoined(digest="sha256:a", upstream="lab"))
    # The fast lane may hand on what it counted while somebody's request is looked at.
    served(repeated=True)
    served()
    served()  # Not twice, whatever is stated later in the same context.
    tracing.current.set(Trace(1, 2))
    spans.observe(
        FlightEnded(digest="sha256:a", upstream="lab", outcome="stored", size=1, duration_s=1)
    )
    tracing.current.reset(token)
    with ThreadPoolExecutor(1) as thread:
        await asyncio.get_running_loop().run_in_executor(thread, spans.close)
    names = sorted(one.name for one in collector.spans)
    assert names == ["GET blob", "S3 get_object", "fill", "lease claim"]
    (fill,), (joined,) = collector.named("fill"), collector.named("GET blob")
    sizes = {one.key: one.value.int_value for one in joined.attributes}
    assert sizes["http.response.body.size"] == 1
    assert [(link.trace_id, link.span_id) for link in joined.links] == [
        (fill.trace_id, fill.span_id)
    ]
    assert collector.named("S3 get_object")[0].status.message == "no answer"


_OFF = """
import asyncio, sys
from proxy.app import Entrepot
from proxy.config import load
async def main():
    there = {"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "drain_s": 0}
    async with Entrepot(load(None, {}, there | {"data_dir": sys.argv[1]})):
        pass
asyncio.run(main())
print([name for name in sys.modules if name.startswith(("opentelemetry", "google", "requests"))])
"""


def test_nothing_of_it_is_imported_while_it_is_off(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _OFF, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "nonsense",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n-x\r",
    ],
)
def test_what_is_no_traceparent_is_none(value: str | None) -> None:
    assert tracing.parse(value) is None


def test_a_later_version_may_say_more() -> None:
    parent = tracing.parse(f"cc-{TRACE}-{SPAN}-01-what-comes-later")
    assert parent is not None
    assert (f"{parent.trace_id:032x}", f"{parent.span_id:016x}") == (TRACE, SPAN)
    assert parent.sampled
