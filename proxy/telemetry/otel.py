"""Spans from events, to a collector by OTLP over HTTP. Needs the extra `otel`.

The only module that knows opentelemetry; imported only if `otlp_url` is set. An
event is stated where its work ends and says how long it took, within the context
of whom it was done for: that is all a span needs. So nothing else in Entrepot
makes spans, and what is not sampled costs one look at a context variable.

It never makes a pull wait: spans are queued, at most so many; a thread sends
them; what finds no room, or no collector, is dropped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)

from proxy import __version__, events, tracing
from proxy.events import Event
from proxy.ports import Observe

QUEUE_MAX = 2048
_BATCH_MAX = 256
_SEND_EVERY_MS = 2000
_SEND_S = 5
_FLIGHTS_MAX = 4096
# When the process ends, so long may the last spans take.
_LAST_S = 2.0
_SAY_EVERY_S = 60.0
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
Facts = Mapping[str, str | int | float | bool]


class _Seldom(logging.Handler):
    """Passes on one line a minute: a collector that is away would fill the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said_at = -_SAY_EVERY_S

    def emit(self, record: logging.LogRecord) -> None:
        if time.monotonic() - self._said_at >= _SAY_EVERY_S:
            self._said_at = time.monotonic()
            logging.getLogger().handle(record)


class Spans:
    """An observer that makes spans, and hands every event on to `observe`."""

    def __init__(self, url: str, *, observe: Observe, sampler: tracing.Sampler) -> None:
        """`url`: where the collector takes traces, usually `http://HOST:4318/v1/traces`."""
        library = logging.getLogger("opentelemetry")
        library.handlers[:], library.propagate = [_Seldom()], False
        self._observe = observe
        self._sampler = sampler
        self._resource = Resource.create(
            {"service.name": "entrepot", "service.version": __version__}
        )
        self._scope = InstrumentationScope("entrepot", __version__)
        self._queue = BatchSpanProcessor(
            OTLPSpanExporter(endpoint=url, timeout=_SEND_S),
            max_queue_size=QUEUE_MAX,
            max_export_batch_size=_BATCH_MAX,
            schedule_delay_millis=_SEND_EVERY_MS,
        )
        # Fills that a traced request began: the trace, and the span that theirs will be.
        self._flights: dict[str, tuple[int, int]] = {}

    def observe(self, event: Event) -> None:
        """Never raises, never waits."""
        self._observe(event)
        trace = tracing.current.get()
        if trace is not None and trace.sampled:
            self._span(event, trace)

    def close(self) -> None:
        """Send what is queued, if that takes no longer than `_LAST_S`."""
        last = threading.Thread(target=self._queue.shutdown, daemon=True)
        last.start()
        last.join(_LAST_S)

    def _span(self, event: Event, trace: tracing.Trace) -> None:
        match event:
            case events.RequestServed():
                self._request(event, trace)
            case events.FlightStarted():
                if len(self._flights) < _FLIGHTS_MAX:
                    self._flights[event.digest] = (trace.trace_id, self._sampler.new_span())
            case events.FollowerJoined():
                if event.digest in self._flights:
                    trace.joined.append(self._flights[event.digest])
            case events.FlightEnded():
                self._fill(event, trace)
            case events.UpstreamAnswered():
                facts: Facts = {
                    "entrepot.upstream": event.upstream,
                    "http.request.method": event.method,
                    "http.response.status_code": event.status,
                }
                answered = 0 < event.status < 500
                name = f"upstream {event.operation}"
                self._call(name, trace, event.duration_s, facts, answered=answered)
            case events.StorageAsked():
                name = f"S3 {event.operation}"
                self._call(name, trace, event.duration_s, {}, answered=event.answered)
            case events.CoordinationAsked():
                of_lease = event.operation in {"claim", "renew", "release"}
                name = f"{'lease' if of_lease else 'redis'} {event.operation}"
                self._call(name, trace, event.duration_s, {}, answered=event.answered)
            case _:
                pass

    def _request(self, event: events.RequestServed, trace: tracing.Trace) -> None:
        """The root of all others. What the fast lane hands on is of no trace, whoever's
        context it was handed on in.
        """
        if trace.served or event.repeated:
            return
        trace.served = True
        parent = trace.parent
        self._add(
            f"{event.method} {event.kind}",
            _context(trace.trace_id, trace.span_id),
            None if parent is None else _context(parent.trace_id, parent.span_id, is_remote=True),
            event.duration_s,
            {
                "http.request.method": event.method,
                "http.response.status_code": event.status,
                "http.response.body.size": event.size,
                "entrepot.kind": event.kind,
                "entrepot.upstream": event.upstream,
                "entrepot.outcome": event.outcome,
                "entrepot.complete": event.complete,
                "entrepot.first_byte_s": event.first_byte_s,
            },
            kind=SpanKind.SERVER,
            links=[Link(_context(*joined)) for joined in trace.joined],
            failed=str(event.status) if event.status >= 500 else None,
        )

    def _fill(self, event: events.FlightEnded, trace: tracing.Trace) -> None:
        _, span_id = self._flights.pop(event.digest, (0, self._sampler.new_span()))
        facts: Facts = {
            "entrepot.upstream": event.upstream,
            "entrepot.digest": event.digest,
            "entrepot.outcome": event.outcome,
            "entrepot.size": event.size,
        }
        self._add(
            "fill",
            _context(trace.trace_id, span_id),
            _context(trace.trace_id, trace.span_id),
            event.duration_s,
            facts,
            failed=event.reason if event.outcome in {"failed", "mismatch"} else None,
        )

    def _call(
        self,
        name: str,
        trace: tracing.Trace,
        duration_s: float,
        facts: Facts,
        *,
        answered: bool,
    ) -> None:
        """Something asked of somebody else."""
        self._add(
            name,
            _context(trace.trace_id, self._sampler.new_span()),
            _context(trace.trace_id, trace.span_id),
            duration_s,
            facts,
            kind=SpanKind.CLIENT,
            failed=None if answered else "no answer",
        )

    def _add(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        duration_s: float,
        facts: Facts,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        links: Sequence[Link] = (),
        failed: str | None = None,
    ) -> None:
        """A span that ends now."""
        ended = time.time_ns()
        self._queue.on_end(
            ReadableSpan(
                name=name,
                context=context,
                parent=parent,
                resource=self._resource,
                attributes=facts,
                links=links,
                kind=kind,
                instrumentation_scope=self._scope,
                status=Status(StatusCode.ERROR, failed) if failed else Status(StatusCode.UNSET),
                start_time=ended - round(duration_s * 1e9),
                end_time=ended,
            )
        )


def _context(trace_id: int, span_id: int, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=is_remote, trace_flags=_SAMPLED)
