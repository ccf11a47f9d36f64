"""Which trace this work belongs to: W3C Trace Context, carried along by contextvars.

No spans are made here and no library is known: a client's request puts its `Trace`
into the context, tasks that are started on its behalf inherit it (a fill belongs
to the request that began it), and `telemetry.otel` makes spans of the events that
are stated within it. Without tracing nothing is ever put there, and all this costs
is looking at an empty variable.
"""

from __future__ import annotations

import math
import random
import re
from contextvars import ContextVar
from dataclasses import dataclass, field

HEADER = "traceparent"
# Version, trace, parent, flags; later versions may append (W3C Trace Context, 3.2).
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Parent:
    """Who asks: the trace and the span that a `traceparent` names."""

    trace_id: int
    span_id: int
    sampled: bool


@dataclass(slots=True)
class Trace:
    """One request's part of a trace; `span_id` is that of the request's own span.

    `joined` are the fills, of other traces perhaps, that it came to wait for, as
    (trace, span); `served` once its own span was made.
    """

    trace_id: int
    span_id: int
    parent: Parent | None = None
    sampled: bool = True
    served: bool = False
    joined: list[tuple[int, int]] = field(default_factory=list)

    @property
    def header(self) -> str:
        """The `traceparent` to send on."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.sampled:02x}"


current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def headers() -> dict[str, str]:
    """What to add to a request that is made now: usually nothing."""
    trace = current.get()
    return {} if trace is None else {HEADER: trace.header}


def parse(value: str | None) -> Parent | None:
    """A `traceparent`; None if there is none or it is none."""
    match = None if value is None else _TRACEPARENT.fullmatch(value.strip())
    if match is None:
        return None
    trace_id, span_id = int(match[1], 16), int(match[2], 16)
    if not trace_id or not span_id:
        return None
    return Parent(trace_id, span_id, bool(int(match[3], 16) & 1))


class Sampler:
    """Whom to trace: who is traced already, and of the others a share of `ratio`.

    Drawn is how many of them are let pass before the next one that is traced, which
    makes each request's chance the same as a draw for each would. So who answers below
    the parser counts down, and leaves to `begin` the one that is to be traced.
    """

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self._random = random.Random()  # noqa: S311 - names, not secrets
        self._left = self._gap()

    def begin(self, traceparent: str | None) -> None:
        """A request has come: from here on, `current` is its trace, or None.

        A caller who is not sampled is only passed on.
        """
        parent = parse(traceparent)
        if parent is not None:
            span_id = self.new_span() if parent.sampled else parent.span_id
            current.set(Trace(parent.trace_id, span_id, parent, parent.sampled))
        elif self.untraced():
            current.set(None)  # On a connection, requests share a context.
        else:
            self._left = self._gap()
            current.set(Trace(self._random.getrandbits(128) | 1, self.new_span()))

    def untraced(self) -> bool:
        """Let a request pass that nobody has named a trace for; False: it is to be begun."""
        if self._left > 0:
            self._left -= 1
            return True
        return False

    def new_span(self) -> int:
        """A span's name."""
        return self._random.getrandbits(64) | 1

    def _gap(self) -> float:
        """How many pass before the next one: distributed geometrically."""
        if self._ratio <= 0:
            return math.inf
        if self._ratio >= 1:
            return 0
        return math.floor(math.log(1 - self._random.random()) / math.log1p(-self._ratio))
