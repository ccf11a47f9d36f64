"""Ways to the bytes of a blob, and the choice between them.

A `Supply` is one way: an upstream's repository, the durable store, another
replica. `Supplies` decides which comes next, told how the last one went. The
reader above it only knows bytes and offsets.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

from proxy.cache.flights import Source
from proxy.errors import AccessDenied, EntrepotError, UnknownBlob, UpstreamUnavailable
from proxy.oci.digest import Digest
from proxy.ports import Body

Origin = Literal["upstream", "storage", "peer"]
_HOPELESS = frozenset({"failing", "limited", "offline"})


class Supply(Protocol):
    """One way to a blob."""

    @property
    def origin(self) -> Origin: ...

    @property
    def name(self) -> str:
        """For logs and metrics: the upstream's name, `storage` or `peer`."""

    @property
    def repository(self) -> str:
        """Of an upstream; else empty."""

    def open(
        self, digest: Digest, *, start: int, end: int | None
    ) -> AbstractAsyncContextManager[Body | None]:
        """As `ports.Upstream.open_blob`."""


class Supplies(Protocol):
    """The choice. One reader uses it, one call at a time."""

    async def choose(self) -> Supply:
        """The supply to try now; may wait. Raises when none is left."""

    def refused(self, supply: Supply, error: EntrepotError | None) -> None:
        """It does not have the blob (None), or may not show it."""

    def failed(self, supply: Supply, error: UpstreamUnavailable) -> None:
        """It could not be opened, or broke."""

    def hopeless(self) -> bool:
        """Whether waiting before another try is pointless."""

    def retry_in_s(self) -> float:
        """Seconds until another try has a chance; 0: now, infinite: never."""


class UpstreamSupply:
    """A repository of an upstream."""

    origin: Origin = "upstream"

    def __init__(self, source: Source) -> None:
        self.source = source

    @property
    def name(self) -> str:
        """The upstream's."""
        return self.source.upstream.name

    @property
    def repository(self) -> str:
        """The upstream's."""
        return self.source.repository

    def open(
        self, digest: Digest, *, start: int, end: int | None
    ) -> AbstractAsyncContextManager[Body | None]:
        """See `Supply`."""
        upstream = self.source.upstream
        return upstream.open_blob(self.source.repository, digest, start=start, end=end)


class UpstreamSupplies:
    """Upstreams in turn. A refusal rules one source out, trouble moves on to the next.

    `sources` is read anew at each turn, so it may grow meanwhile.
    """

    def __init__(
        self,
        digest: Digest,
        sources: list[Source],
        refused: dict[Source, EntrepotError],
        refuse: Callable[[Source, EntrepotError], None],
    ) -> None:
        self._digest = digest
        self._sources = sources
        self._refused = refused
        self._refuse = refuse
        self._turn = 0
        self._last = sources[0]

    async def choose(self) -> UpstreamSupply:
        """See `Supplies`. Raises `UnknownBlob`, `AccessDenied`."""
        usable = [source for source in self._sources if source not in self._refused]
        if not usable:
            raise self._refused[self._sources[0]]
        self._last = usable[self._turn % len(usable)]
        return UpstreamSupply(self._last)

    def refused(self, supply: Supply, error: EntrepotError | None) -> None:
        """See `Supplies`."""
        source = self._last
        if error is None:
            error = UnknownBlob(f"{supply.name} has no blob {self._digest} in {source.repository}")
        self._refuse(source, error)

    def failed(self, supply: Supply, error: UpstreamUnavailable) -> None:  # noqa: ARG002 - any trouble is answered alike
        """See `Supplies`."""
        self._turn += 1

    def hopeless(self) -> bool:
        """The upstream is known to be down or offline, and there is no other."""
        others = len(self._sources) - len(self._refused) > 1
        return not others and self._last.upstream.health().state in _HOPELESS

    def retry_in_s(self) -> float:
        """See `Supplies`."""
        usable = [source for source in self._sources if source not in self._refused]
        healths = [source.upstream.health() for source in usable]
        return min(
            (math.inf if one.state == "offline" else one.retry_in_s for one in healths),
            default=math.inf,
        )


REFUSALS = (UnknownBlob, AccessDenied)
