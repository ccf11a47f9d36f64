"""The fast lane: bytes of a whole request head -> bytes of a whole answer.

A client that asks the same again sends the same bytes, and as long as what the
answer stands on holds (`cache/standing.py`) it gets the same bytes back, without a
parser, a task or a look into the cache (about 50 us of CPU become 6). Only the Date
is written anew, once a second.

The table is bounded by bytes. An answer leaves it in the very step in which its
tag moves, its record or its bytes leave memory, or its upstream begins to fail;
its time of freshness is compared at every use. What a request leaves behind
(metrics, the access line, uses for eviction) is counted here and handed on in
batches; `flush` does it at once.

Knows nothing of aiohttp: `server.py` finds the heads, `repeats.py` says which may
be here.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import NamedTuple

from proxy.cache.standing import Standing
from proxy.events import RequestServed
from proxy.ports import Clock, Observe
from proxy.web.uses import Account, Given, Use

HEAD_BYTES_MAX = 16 * 1024
# Above it, the parser is not what costs.
BODY_BYTES_MAX = 128 * 1024
# What an entry takes beside its bytes.
_ENTRY_BYTES = 1024
_FLUSH_S = 0.25
_LINES_MAX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An answer that the slow lane has just given, in its parts.

    `before` and `after`: the response's head up to the date and from there on to
    the blank line. `served` counts it, `facts` are its access line's, `given` is what
    it gave.
    """

    head: bytes
    before: bytes
    after: bytes
    body: bytes
    served: RequestServed
    facts: Mapping[str, object]
    given: Given | None = None


@dataclass(slots=True, eq=False)
class Answer:
    """`ready` is to be written while the clock is in `[since, until)`.

    `clients` (address -> uses) and `spent_s` are of uses that were not handed on yet.
    """

    known: Known
    standing: Standing
    ready: bytes = b""
    since: float = math.inf
    until: float = -math.inf
    clients: dict[str, int] = field(default_factory=dict)
    spent_s: float = 0.0
    used: bool = False

    @property
    def weight(self) -> int:
        """In bytes."""
        known = self.known
        head = len(known.head) + 2 * (len(known.before) + len(known.after))
        return head + 2 * len(known.body) + _ENTRY_BYTES


class Line(NamedTuple):
    """One use, for the access log: the client's address, when (seconds since the epoch)."""

    facts: Mapping[str, object]
    client: str
    at: float
    duration_s: float


class FastLane:
    """The table. `log` hears of every use, if anybody wants lines; `untraced` is asked
    before each, where requests are traced: False leaves this one to the slow lane.
    """

    def __init__(
        self,
        bytes_max: int,
        *,
        observe: Observe,
        clock: Clock,
        log: Callable[[Sequence[Line]], None] | None = None,
        account: Account | None = None,
        untraced: Callable[[], bool] | None = None,
    ) -> None:
        self.answers: dict[bytes, Answer] = {}
        self.clock = clock
        self.untraced = untraced
        self.weight = 0
        self._bytes_max = bytes_max
        self._observe = observe
        self._log = log
        self._account = account
        self._used: list[Answer] = []
        self._lines: list[Line] = []
        self._flushing: asyncio.TimerHandle | None = None
        self._date = (-math.inf, b"")

    def offer(self, known: Known, standing: Standing) -> None:
        """Keep it for the next who asks the same, if it fits."""
        self._drop(known.head)
        answer = Answer(known, standing)
        if (
            len(known.head) > HEAD_BYTES_MAX
            or len(known.body) > BODY_BYTES_MAX
            or answer.weight > self._bytes_max
            or not standing.holds(self.clock())
        ):
            return
        for life in standing.lives:
            life.watch(answer, lambda: self._drop(known.head))
        self.answers[known.head] = answer
        self.weight += answer.weight
        while self.weight > self._bytes_max:
            self._make_room()

    def renew(self, answer: Answer, now: float) -> bool:
        """Make it ready for the second of `now`; False if its time is over."""
        standing, known = answer.standing, answer.known
        if not standing.since <= now < standing.until:
            if now >= standing.until:
                self._drop(known.head)
            return False
        second = math.floor(now)
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True).encode())
        answer.ready = b"".join((known.before, self._date[1], known.after, known.body))
        answer.since = max(second, standing.since)
        answer.until = min(second + 1, standing.until)
        return True

    def used(self, answer: Answer, client: str, now: float, duration_s: float) -> None:
        """It was written once more."""
        clients = answer.clients
        if not clients:
            self._used.append(answer)
            if self._flushing is None:
                self._flushing = asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)
        clients[client] = clients.get(client, 0) + 1
        answer.spent_s += duration_s
        if self._log is not None:
            self._lines.append(Line(answer.known.facts, client, now, duration_s))
            if len(self._lines) >= _LINES_MAX:
                self._write_lines()

    def flush(self) -> None:
        """Hand on everything that was counted. Idempotent."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        used, self._used = self._used, []
        for answer in used:
            clients, answer.clients = answer.clients, {}
            count = sum(clients.values())
            mean_s = answer.spent_s / count
            served = replace(
                answer.known.served,
                count=count,
                duration_s=mean_s,
                first_byte_s=mean_s,
                repeated=True,
            )
            answer.spent_s, answer.used = 0.0, True
            self._observe(served)
            if self._account is not None:
                self._account(Use(served, answer.known.given, clients))
            answer.standing.used()
        self._write_lines()

    def clear(self) -> None:
        """Forget all answers."""
        for head in list(self.answers):
            self._drop(head)

    def _write_lines(self) -> None:
        lines, self._lines = self._lines, []
        if self._log is not None and lines:
            self._log(lines)

    def _make_room(self) -> None:
        """The oldest goes, unless it was of use since it last was the oldest."""
        head, answer = next(iter(self.answers.items()))
        if answer.used or answer.clients:
            answer.used = False
            if answer.clients:
                self.flush()
                answer.used = False
            del self.answers[head]
            self.answers[head] = answer
        else:
            self._drop(head)

    def _drop(self, head: bytes) -> None:
        answer = self.answers.pop(head, None)
        if answer is not None:
            self.weight -= answer.weight
            for life in answer.standing.lives:
                life.unwatch(answer)
