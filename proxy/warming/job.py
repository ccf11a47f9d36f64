"""One warm-up: all pieces of some images, brought, and told about as it goes on.

What fails is told and stops nothing else. Ending it early is safe at any point: what was
brought stays, fetches under way are brought to their end, and the next one goes on from
there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping

from proxy.cache.assembly import Cache
from proxy.cache.closure import Piece
from proxy.cache.platforms import Platforms
from proxy.errors import EntrepotError, UpstreamOffline
from proxy.events import WarmedUp, WarmTrigger
from proxy.naming import Names
from proxy.oci.endpoints import GetManifest
from proxy.ports import Upstream
from proxy.warming.bringing import Bringing
from proxy.warming.report import Report, Totals, described
from proxy.web.missing import brought_in
from proxy.wishes import Wish

Line = dict[str, object]

_PULSE_S = 1.0
# Each has manifests to be asked for, one after the other; blobs are bounded elsewhere.
_IMAGES_AT_ONCE = 8
# Of lines that nobody has read. Then progress is left out, and results wait.
_LINES_MAX = 1000
_GONE = "brought and gone again: there is no room for all of it (`disk_bytes_max`)"


class Job:
    """Made for one `Wish`; `lines` may be run once."""

    def __init__(
        self,
        wish: Wish,
        cache: Cache,
        bringing: Bringing,
        upstreams: Mapping[str, Upstream],
        names: Names,
    ) -> None:
        self._wish = wish
        self._closure = cache.closure
        self._bringing = bringing
        self._upstreams = upstreams
        self._names = names
        self._began = time.monotonic()
        self._reports: list[tuple[Report, GetManifest | None]] = []
        self._finished = 0
        self._fetched_bytes = 0
        self._out: asyncio.Queue[Line | None] = asyncio.Queue(_LINES_MAX)

    async def lines(self) -> AsyncGenerator[Line, None]:
        """What happens, at least once a second; the last line has the sums."""
        work = asyncio.create_task(self._work())
        # So that its end is seen at once, however it ends.
        work.add_done_callback(lambda _work: self._tell_now(None))
        try:
            yield self._pulse()
            while not (work.done() and self._out.empty()):
                try:
                    async with asyncio.timeout(_PULSE_S):
                        line = await self._out.get()
                except TimeoutError:
                    line = self._pulse()
                if line is not None:
                    yield line
            await work
            yield self._sums()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _work(self) -> None:
        slots = asyncio.Semaphore(_IMAGES_AT_ONCE)

        async def one(image: str) -> None:
            try:
                await self._image(image)
            finally:
                slots.release()

        async with asyncio.TaskGroup() as group:
            for image in self._wish.images:
                await slots.acquire()
                group.create_task(one(image))
        await self._look_again()

    async def _image(self, image: str) -> None:
        await self._out.put({"image": image, "state": "begun"})
        report, route, platforms = Report(image), None, self._wish.platforms
        try:
            route, _ = self._names.understood(image)
            if self._wish.as_pulled:
                platforms = await self._pulled_platforms(route)
            await self._bring(route, platforms, report)
        except EntrepotError as error:
            report.reason = str(error)
        report.look_at_platforms(platforms)
        self._reports.append((report, route))
        self._finished += 1
        told = report.document(platforms)
        await self._out.put({**told, "fetched_bytes": report.fetched_bytes})

    async def _bring(self, route: GetManifest, platforms: Platforms, report: Report) -> None:
        async with asyncio.TaskGroup() as blobs:
            try:
                await self._walk(route, platforms, report, blobs, certain=True)
            except UpstreamOffline as error:
                how = "" if error.final else brought_in(report.image, route.upstream)
                report.reason = f"{error}{how}"
            except EntrepotError as error:
                report.reason = str(error)
            if report.reason is not None and report.pieces:
                # What refers to something can't be told now: that is said, and the rest
                # is brought nevertheless.
                with contextlib.suppress(EntrepotError):
                    await self._walk(route, platforms, report, blobs, certain=False)

    async def _walk(
        self,
        route: GetManifest,
        platforms: Platforms,
        report: Report,
        blobs: asyncio.TaskGroup,
        *,
        certain: bool,
    ) -> None:
        upstream = self._upstreams[route.upstream]
        async for piece in self._closure.walk(
            upstream,
            route.repository,
            route.reference,
            platforms=platforms,
            fetch=True,
            referrers=self._wish.referrers,
            certain=certain,
        ):
            if piece.descriptor.digest in report.pieces:
                continue
            report.add(piece)
            if piece.missing is None and piece.body is None:
                blobs.create_task(self._blob(upstream, route, piece, report))

    async def _blob(
        self, upstream: Upstream, route: GetManifest, piece: Piece, report: Report
    ) -> None:
        line: Line = {"image": report.image, "layer": described(piece)}

        def watch(here: int) -> None:
            self._tell_now({**line, "state": "fetching", "here": here})

        digest = piece.descriptor.digest
        try:
            fetched = await self._bringing.bring(upstream, route.repository, digest, watch)
        except EntrepotError as error:
            report.missing[digest] = str(error)
            await self._out.put({**line, "state": "failed", "reason": str(error)})
            return
        report.fetched_bytes += fetched
        self._fetched_bytes += fetched
        state = "fetched" if fetched else "held"
        await self._out.put({**line, "state": state, "here": piece.descriptor.size})

    async def _pulled_platforms(self, route: GetManifest) -> Platforms:
        """Those of which something is here already: people pulled them."""
        found: set[str] = set()
        try:
            async for piece in self._closure.walk(
                self._upstreams[route.upstream],
                route.repository,
                route.reference,
                platforms=Platforms.all(),
                fetch=False,
                referrers=False,
            ):
                if piece.kind == "manifest" and piece.missing is None and piece.platform:
                    found.add(piece.platform)
        except EntrepotError:
            return self._wish.platforms
        return Platforms.of(found) if found else self._wish.platforms

    async def _look_again(self) -> None:
        """What was brought first may have been evicted for what came last."""
        for report, route in self._reports:
            if route is None or not report.complete:
                continue
            upstream = self._upstreams[route.upstream]
            gone = [
                digest
                for digest in report.pieces
                if await self._bringing.kept(upstream, digest) is None
            ]
            if gone:
                report.missing.update(dict.fromkeys(gone, _GONE))
                told = report.document(self._wish.platforms)
                await self._out.put({**told, "fetched_bytes": report.fetched_bytes})

    def _tell_now(self, line: Line | None) -> None:
        if not self._out.full():
            self._out.put_nowait(line)

    def _pulse(self) -> Line:
        return {
            "pulse": {
                "images": len(self._wish.images),
                "finished": self._finished,
                "fetched_bytes": self._fetched_bytes,
            }
        }

    def _totals(self) -> Totals:
        totals = Totals()
        for report, _ in self._reports:
            totals.add(report)
        return totals

    def ended(self, trigger: WarmTrigger) -> WarmedUp:
        """How it went; known once `lines` has ended."""
        totals = self._totals()
        return WarmedUp(
            trigger=trigger,
            complete=totals.complete,
            incomplete=totals.images - totals.complete,
            fetched_bytes=self._fetched_bytes,
        )

    def _sums(self) -> Line:
        return {
            **self._totals().document(),
            "fetched_bytes": self._fetched_bytes,
            "seconds": round(time.monotonic() - self._began, 3),
        }
