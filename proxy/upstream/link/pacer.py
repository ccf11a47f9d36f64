"""The link as the upstreams of this process use it: `pacing.py` with a clock and timers.

A transfer that may not read on stops reading its socket, so that the sender slows down;
that time does not count as the sender's silence. Nothing here costs anything to speak of
while there is no cap and nobody but clients who wait: one call for each piece.

Each process keeps its own caps: replicas do not share them.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from proxy.cache import traffic
from proxy.cache.traffic import Urgency
from proxy.ports import Clock
from proxy.upstream.link.pacing import LOOK_S, Pacing, Scope, Transfer, window
from proxy.upstream.link.timetable import Timetable

# How long another rate may hold before it is noticed, should the clock be set.
_CLOCK_LOOK_S = 30.0
_UNHURRIED_WINDOW_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Of all upstreams, or of one."""

    timetable: Timetable = field(default_factory=Timetable)
    fetches_max: int | None = None


class Link:
    """All of it. `of` gives each upstream its part; `close` ends it."""

    def __init__(
        self,
        everything: Limits | None = None,
        upstreams: Mapping[str, Limits] | None = None,
        *,
        clock: Clock = time.time,
    ) -> None:
        """`clock`: seconds since the epoch, what the timetables go by. `limits` and
        `scopes` are by the name of the upstream; those of all of them by an empty one.
        """
        self.clock = clock
        self.limits = {"": everything or Limits(), **(upstreams or {})}
        self.scopes = {name: Scope(name, one.fetches_max) for name, one in self.limits.items()}
        self.pacing = Pacing(self.scopes[""], time.monotonic())
        self._wakes: dict[Transfer, Callable[[], None]] = {}
        self._places: list[asyncio.Event] = []
        self._timer: asyncio.TimerHandle | None = None
        self._look_at = 0.0
        self.look(time.monotonic())

    def of(self, name: str) -> UpstreamLink:
        """The part of the upstream with this name, with caps of its own if it has any."""
        scope = self.scopes.setdefault(name, Scope(name))
        self.limits.setdefault(name, Limits())
        return UpstreamLink(self, scope)

    def look(self, now: float) -> None:
        """Put the rates in force that hold now (`now`: monotonic)."""
        if now < self._look_at:
            return
        self._look_at, moment = math.inf, self.clock()
        for name, limits in self.limits.items():
            self.scopes[name].bucket.set_rate(limits.timetable.rate_at(moment), now)
            if limits.timetable.hours:
                change = limits.timetable.next_change(moment)
                in_s = _CLOCK_LOOK_S if change is None else change - moment
                self._look_at = min(self._look_at, now + max(0.01, min(in_s, _CLOCK_LOOK_S)))

    # --- for transfers -----------------------------------------------------------------

    def wait(self, transfer: Transfer, wake: Callable[[], None], now: float) -> None:
        """`wake` is called when it may read on."""
        self._wakes[transfer] = wake
        self._set_timer(now)

    def ended(self, transfer: Transfer) -> None:
        """It is done with, whatever it waited for."""
        self._wakes.pop(transfer, None)
        self.pacing.end(transfer, time.monotonic())
        for place in self._places:
            place.set()

    async def place(self, transfer: Transfer) -> None:
        """Wait until it may begin."""
        free = asyncio.Event()
        self._places.append(free)
        try:
            while not self.pacing.may_begin(transfer):
                free.clear()
                with contextlib.suppress(TimeoutError):
                    # It may have become urgent meanwhile, which nobody says.
                    async with asyncio.timeout(LOOK_S):
                        await free.wait()
        finally:
            self._places.remove(free)

    def full(self, scope: Scope) -> bool:
        """Whether another transfer there would have to wait for a place."""
        return any(
            one.fetches_max is not None and one.transfers >= one.fetches_max
            for one in (scope, self.scopes[""])
        )

    def rate(self, name: str) -> float:
        """The cap in force (bytes a second) of an upstream, or (empty) of all; no cap: inf."""
        self.look(time.monotonic())
        rate = self.scopes[name].bucket.rate
        return math.inf if rate is None else rate

    def _set_timer(self, now: float) -> None:
        in_s = self.pacing.next_due_in(now)
        loop = asyncio.get_running_loop()
        if in_s is None:
            return
        if self._timer is not None:
            if self._timer.when() <= loop.time() + in_s:
                return
            self._timer.cancel()
        self._timer = loop.call_later(in_s, self._due)

    def _due(self) -> None:
        self._timer = None
        now = time.monotonic()
        self.look(now)
        for transfer in self.pacing.due(now):
            wake = self._wakes.pop(transfer, None)
            if wake is not None:
                wake()
        self._set_timer(now)

    def close(self) -> None:
        """No timer is left behind."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class UpstreamLink:
    """The part of one upstream."""

    def __init__(self, link: Link, scope: Scope) -> None:
        self._link = link
        self._scope = scope

    @asynccontextmanager
    async def transfer(self) -> AsyncIterator[Paced]:
        """While a blob is asked for and read; waits until there is a place for it.

        Its urgency is the current one, and follows that while it runs.
        """
        link, now = self._link, time.monotonic()
        link.look(now)
        transfer = link.pacing.begin(self._scope, traffic.current(), now)
        try:
            if not link.pacing.may_begin(transfer):
                await link.place(transfer)
            yield Paced(link, transfer)
        finally:
            link.ended(transfer)

    def asks(self) -> None:
        """Something small is asked for: whoever waits for it will want more."""
        self._link.pacing.stirs(traffic.current().urgency, time.monotonic())

    def counted(self, count: int) -> None:
        """So many bytes came that are not held back."""
        self._link.pacing.counted(self._scope, traffic.current().urgency, count, time.monotonic())

    @property
    def rate(self) -> float:
        """The cap in force for this upstream (bytes a second); no cap: inf."""
        return min(self._link.rate(self._scope.name), self._link.rate(""))

    @property
    def window(self) -> int | None:
        """How many bytes may wait in the kernel for a connection that is opened now; None:
        as many as it likes.

        A warm-up has few: all of them come yet, at the expense of who begins to wait.
        """
        self._link.look(time.monotonic())
        share = window(self._link.scopes[""], self._scope)
        if traffic.current().urgency is Urgency.WAITING:
            return share
        return min(share or _UNHURRIED_WINDOW_BYTES, _UNHURRIED_WINDOW_BYTES)

    def has_room(self) -> bool:
        """Whether another connection may be opened only to make a transfer faster."""
        urgent = traffic.current().urgency is Urgency.WAITING
        return urgent and math.isinf(self.rate) and not self._link.full(self._scope)


def unlimited() -> UpstreamLink:
    """A link for one upstream alone, without caps."""
    return Link().of("alone")


class Paced:
    """One transfer as its reader knows it."""

    __slots__ = ("_link", "_transfer", "held")

    def __init__(self, link: Link, transfer: Transfer) -> None:
        self._link = link
        self._transfer = transfer
        self.held = False
        """Whether it may not read on."""

    @property
    def piece(self) -> int | None:
        """How many bytes it may read at once; None: whatever is there."""
        return self._link.pacing.piece(self._transfer, time.monotonic())

    def expect(self, length: int, ahead: int) -> None:
        """So many bytes will come, of which the kernel takes `ahead` before they are read."""
        self._link.pacing.expect(self._transfer, length, ahead, time.monotonic())

    def took(self, count: int, wake: Callable[[], None]) -> bool:
        """It has read so many bytes; whether it may read on. If not, `wake` is called
        when it may.
        """
        now = time.monotonic()
        self._link.look(now)
        if self._link.pacing.took(self._transfer, count, now):
            return True
        if self.held:
            return False
        self.held = True

        def free() -> None:
            self.held = False
            wake()

        self._link.wait(self._transfer, free, now)
        return False
