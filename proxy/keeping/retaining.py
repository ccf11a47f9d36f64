"""Retention at work: which tags are outdated now, over all repositories, pins excepted.

Warming a tag, refreshing or importing it is no pull of it. One that nobody has pulled, as
far as is known, counts from when it came.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from proxy.cache.pin_records import name_of
from proxy.cache.pins import Pins
from proxy.config import RetentionRule
from proxy.keeping.pulls import Pulls
from proxy.keeping.recorded import Recorded
from proxy.keeping.retention import Outdated, Pulled, outdated, rule_for
from proxy.oci.names import Repository, Tag
from proxy.ports import Clock, Upstream


class Retaining:
    """Finds. Methods raise `StorageUnavailable`."""

    def __init__(
        self,
        rules: Sequence[RetentionRule],
        *,
        pins: Pins,
        pulls: Pulls,
        recorded: Recorded,
        upstreams: Mapping[str, Upstream],
        clock: Clock,
    ) -> None:
        self.rules = rules
        self._pins = pins
        self._pulls = pulls
        self._recorded = recorded
        self._upstreams = upstreams
        self._clock = clock

    async def outdated(self) -> AsyncIterator[Outdated]:
        """All of them; those of a repository together."""
        if not self.rules:
            return
        await self._pins.refresh()
        now = self._clock()
        for upstream in self._upstreams.values():
            repository, names = Repository(""), list[Tag]()
            async for found, tag in self._recorded.tags(upstream):
                if found != repository:
                    for one in await self._of(upstream, repository, names, now):
                        yield one
                    repository, names = found, []
                if rule_for(self.rules, name_of(upstream.name, found, tag)) is not None:
                    names.append(tag)
            for one in await self._of(upstream, repository, names, now):
                yield one

    async def _of(
        self, upstream: Upstream, repository: Repository, tags: Sequence[Tag], now: float
    ) -> list[Outdated]:
        pulled: list[Pulled] = []
        for tag in tags:
            named = await self._recorded.named(upstream, repository, tag, latest=True)
            if named is None:
                continue
            # Even what stays counts among the newest.
            at = await self._pulls.last(named)
            came = named.record.fetched_at
            pulled.append(Pulled(named, came if at is None else at, ever=at is not None))
        return [
            one
            for one in outdated(pulled, self.rules, now)
            if not self._pins.keeping(one.pulled.named.name)
        ]
