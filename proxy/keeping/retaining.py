"""Retention at work: which tags are outdated now, over all repositories, pins excepted.

When a tag was last pulled is told by the file of its manifest here, by what replicas
have told each other, and, within an hour, by its record: that is confirmed whenever
somebody pulls, by whichever replica.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from proxy.cache.pins import Pins
from proxy.config import RetentionRule
from proxy.keeping.images import Named
from proxy.keeping.recorded import Recorded
from proxy.keeping.retention import Outdated, Pulled, may_go, outdated, rule_for
from proxy.keeping.shelf import Shelf
from proxy.naming import spelled
from proxy.oci.names import Repository, Tag
from proxy.ports import Clock, Coordination, Upstream


class Retaining:
    """Finds. Methods raise `StorageUnavailable`."""

    def __init__(
        self,
        rules: Sequence[RetentionRule],
        *,
        pins: Pins,
        shelf: Shelf,
        recorded: Recorded,
        upstreams: Mapping[str, Upstream],
        coordination: Coordination,
        clock: Clock,
    ) -> None:
        self.rules = rules
        self._pins = pins
        self._shelf = shelf
        self._recorded = recorded
        self._upstreams = upstreams
        self._coordination = coordination
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
                if rule_for(self.rules, spelled(upstream.name, found, tag)) is not None:
                    names.append(tag)
            for one in await self._of(upstream, repository, names, now):
                yield one

    async def last_pulled(self, named: Named) -> float:
        """In seconds since the epoch, as far as is known here."""
        key = self._shelf.key(named)
        (told,) = await self._coordination.last_used([key])
        used_at = await self._shelf.used_at(key)
        return max(named.seen_at, told or 0.0, used_at)

    async def _of(
        self, upstream: Upstream, repository: Repository, tags: Sequence[Tag], now: float
    ) -> list[Outdated]:
        pulled: list[Pulled] = []
        for tag in tags:
            named = await self._recorded.named(upstream, repository, tag, latest=True)
            if named is None:
                continue
            rule = rule_for(self.rules, named.name)
            # Even what stays counts among the newest.
            ask = rule is not None and may_go(rule, named, now)
            pulled.append(Pulled(named, await self.last_pulled(named) if ask else named.seen_at))
        return [
            one
            for one in outdated(pulled, self.rules, now)
            if not self._pins.of(one.pulled.named.name)
        ]
