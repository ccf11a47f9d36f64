"""A rehearsal: some upstreams' cables are pulled for a while, and what fails is told.

It ends when its time is over, whatever becomes of whoever asked for it: a timer here
mends the cables, not the one who reads the answer. A download that is under way when it
begins goes on. Of several replicas it is the one that is asked.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence

from proxy import logs
from proxy.errors import EntrepotError, UnknownUpstream
from proxy.events import Event, NotHeld, RequestServed
from proxy.ports import Upstream
from proxy.rehearsal.misses import Misses
from proxy.upstream.offline import Severable

FOR_S_MAX = 86400.0
_BEAT_S = 1.0
_LIVE_MAX = 1000
_REASON = "a rehearsal"

log = logs.get_logger("rehearsal")


class Underway(EntrepotError):
    """There is a rehearsal already."""


class _Running:
    """One rehearsal, from cut to mended."""

    def __init__(self, cables: Sequence[Severable], for_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._cables = cables
        self.names = frozenset(cable.name for cable in cables)
        self.began_at = loop.time()
        self.ends_at = self.began_at + for_s
        self.ended = asyncio.Event()
        self.early = False
        self.ended_at = math.nan
        self.served = 0
        self.misses = Misses()
        self.live: deque[dict[str, object]] = deque(maxlen=_LIVE_MAX)
        self.news = asyncio.Event()
        for cable in cables:
            cable.cut(_REASON)
        log.info("rehearsal begins", upstreams=sorted(self.names), for_s=for_s)
        self._timer = loop.call_later(for_s, self.end)

    def end(self, *, early: bool = False) -> None:
        """Mend the cables. Idempotent."""
        if self.ended.is_set():
            return
        self._timer.cancel()
        for cable in self._cables:
            cable.mend(_REASON)
        self.early = early
        self.ended_at = asyncio.get_running_loop().time()
        self.ended.set()
        self.news.set()
        log.info("rehearsal over", failed=self.misses.count, early=early)

    def hear(self, event: Event) -> None:
        """What happens meanwhile."""
        match event:
            case NotHeld() if event.upstream in self.names:
                if self.misses.note(event):
                    self.live.append(
                        {
                            "image": event.image,
                            "platform": event.platform,
                            "kind": event.kind,
                            "client": event.client,
                        }
                    )
                    self.news.set()
            case RequestServed(status=200 | 206 | 304 | 307) if event.upstream in self.names:
                self.served += event.count
            case _:
                pass

    def summary(self) -> dict[str, object]:
        """How it went."""
        return {
            "done": True,
            "upstreams": sorted(self.names),
            "for_s": round(self.ended_at - self.began_at, 1),
            "early": self.early,
            "served": self.served,
            "failed": self.misses.count,
            "missing": self.misses.document(),
            "unlisted": self.misses.unlisted,
        }


class Rehearsals:
    """One at a time. `hear` is to be told every event."""

    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        self._cables = {name: one for name, one in upstreams.items() if isinstance(one, Severable)}
        self._running: _Running | None = None

    def hear(self, event: Event) -> None:
        """Never raises, never waits."""
        if self._running is not None and not self._running.ended.is_set():
            self._running.hear(event)

    def begin(self, upstreams: Sequence[str], for_s: float) -> _Running:
        """Cut these (none named: all) for so long. Raises `UnknownUpstream`, `Underway`."""
        for name in upstreams:
            if name not in self._cables:
                raise UnknownUpstream(f"no upstream called {name[:100]!r} is configured")
        if self._running is not None and not self._running.ended.is_set():
            raise Underway("there is a rehearsal already")
        chosen = [self._cables[name] for name in dict.fromkeys(upstreams or self._cables)]
        self._running = running = _Running(chosen, for_s)
        return running

    def end(self) -> bool:
        """End the one that is under way; False if there is none."""
        if self._running is None or self._running.ended.is_set():
            return False
        self._running.end(early=True)
        return True

    async def told(self, running: _Running) -> AsyncGenerator[dict[str, object], None]:
        """What fails as it does, a beat each second, and at last the summary.

        Whoever stops listening ends it.
        """
        loop = asyncio.get_running_loop()
        try:
            yield {
                "upstreams": sorted(running.names),
                "for_s": running.ends_at - running.began_at,
                "left_s": running.ends_at - loop.time(),
            }
            while not running.ended.is_set():
                try:
                    async with asyncio.timeout(_BEAT_S):
                        await running.news.wait()
                except TimeoutError:
                    yield {"left_s": round(max(0.0, running.ends_at - loop.time()), 1)}
                running.news.clear()
                while running.live:
                    yield {"missed": running.live.popleft()}
            while running.live:
                yield {"missed": running.live.popleft()}
            yield running.summary()
        finally:
            running.end(early=True)
