"""Warm-ups, whoever asks for them: one set of fetches for all, behind everybody's pulls."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from proxy.cache.assembly import Cache
from proxy.cache.traffic import Urgency, working_as
from proxy.events import WarmTrigger
from proxy.naming import Names
from proxy.ports import Observe, Upstream
from proxy.warming.bringing import Bringing
from proxy.warming.job import Job, Line
from proxy.wishes import Wish


class Warming:
    """Runs warm-ups, as many at once as are asked for."""

    def __init__(
        self,
        cache: Cache,
        bringing: Bringing,
        upstreams: Mapping[str, Upstream],
        names: Names,
        observe: Observe,
    ) -> None:
        self._cache = cache
        self._bringing = bringing
        self._upstreams = upstreams
        self._names = names
        self._observe = observe
        self.running = 0

    async def lines(self, wish: Wish, trigger: WarmTrigger = "asked") -> AsyncGenerator[Line, None]:
        """What happens, at least a line a second. Closing it ends the warm-up."""
        learned = trigger == "learned"
        urgency, client = (Urgency.REFRESH, "refresh") if learned else (Urgency.WARM, "warm")
        job = Job(wish, self._cache, self._bringing, self._upstreams, self._names)
        self.running += 1
        try:
            # Only the first step is taken in this context: the tasks begin in it.
            async with aclosing(job.lines()) as lines:
                with working_as(urgency, client):
                    first = await anext(lines)
                yield first
                async for line in lines:
                    yield line
                self._observe(job.ended(trigger))
        finally:
            self.running -= 1
