"""What of some images is not here: looked at, never asked for.

The proof that everything is here has to hold when the cable is cut, so nothing is taken
on trust: each manifest is read and each blob's file is looked at, and what is here but
could not be served without its upstream counts as missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping

from proxy.cache.assembly import Cache
from proxy.cache.closure import Piece
from proxy.cache.exposure import ExposureGuard
from proxy.config import Settings
from proxy.errors import EntrepotError, InvalidRequest, UnknownUpstream
from proxy.naming import Names
from proxy.oci.endpoints import GetManifest
from proxy.ports import Clock, Upstream
from proxy.upstreams import expose
from proxy.warming.bringing import Bringing
from proxy.warming.report import Report, Totals
from proxy.wishes import Wish

_LOOKS_AT_ONCE = 16


class Missing:
    """Answers for one running replica."""

    def __init__(
        self,
        settings: Settings,
        cache: Cache,
        bringing: Bringing,
        upstreams: Mapping[str, Upstream],
        names: Names,
        *,
        clock: Clock,
    ) -> None:
        self._closure = cache.closure
        self._bringing = bringing
        self._upstreams = upstreams
        self._names = names
        # One of its own: what it remembers of refusals is of no use here.
        self._exposure = ExposureGuard(
            expose(settings), facts=cache.facts, clock=clock, recheck_s=settings.expose_recheck_s
        )

    async def lines(self, wish: Wish) -> AsyncGenerator[dict[str, object], None]:
        """One for each image, in order, then one with the sums."""
        totals = Totals()
        for image in wish.images:
            report = await self._report(image, wish)
            totals.add(report)
            yield report.document(wish.platforms)
        yield totals.document()

    async def _report(self, image: str, wish: Wish) -> Report:
        report = Report(image)
        try:
            route, _ = self._names.understood(image)
            await self._walk(route, wish, report)
        except (InvalidRequest, UnknownUpstream) as error:
            report.reason = str(error)
        except EntrepotError:
            # The reference itself is not here; the walk's words are for somebody who pulls.
            report.reason = "not here"
        report.look_at_platforms(wish.platforms)
        return report

    async def _walk(self, route: GetManifest, wish: Wish, report: Report) -> None:
        upstream = self._upstreams[route.upstream]
        async for piece in self._closure.walk(
            upstream,
            route.repository,
            route.reference,
            platforms=wish.platforms,
            fetch=False,
            referrers=wish.referrers,
        ):
            report.add(piece)
        if not await self._exposure.known(upstream, route.repository):
            report.reason = f"{upstream.name} was never asked whether anyone may read this"
        looks = asyncio.Semaphore(_LOOKS_AT_ONCE)

        async def look(piece: Piece) -> None:
            async with looks:
                trouble = await self._trouble(upstream, route, piece)
            if trouble is not None:
                report.missing[piece.descriptor.digest] = trouble

        await asyncio.gather(*(look(one) for one in report.pieces.values() if not one.missing))

    async def _trouble(self, upstream: Upstream, route: GetManifest, piece: Piece) -> str | None:
        descriptor = piece.descriptor
        size, trouble = await self._bringing.servable(upstream, route.repository, descriptor.digest)
        if trouble is None and size != descriptor.size:
            return f"here, with {size} bytes"
        return trouble
