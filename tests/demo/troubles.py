"""What happens to a registry proxy in a bad week, in a minute and on purpose.

Each episode is announced, lasts seconds and is mended. Clients should notice
almost none of them; the dashboards should show all.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import aiohttp

from tests.demo.crowd import Crowd
from tests.demo.library import Registry
from tests.demo.stage import PULLS, TAG_FRESH_S, Stage
from tests.support.faults import Fault
from tests.support.images import Image, image

# Later than this, every replica has asked anew what a tag names: its own record may be
# as old as `tag_fresh_s`, and the answer it hears of from another replica once more.
_SEEN_S = 2 * TAG_FRESH_S + 0.3
Tell = Callable[[str], None]


@dataclass(slots=True)
class Troubles:
    """`tell` hears of each. `pause_s` is between them, `last_s` how long one lasts."""

    stage: Stage
    crowd: Crowd
    tell: Tell
    pause_s: float = 2.0
    last_s: float = 5.0
    _pair: list[Image] = field(default_factory=list)

    async def forever(self) -> None:
        """One after the other until cancelled."""
        for episode in self.episodes():
            await episode()
            await asyncio.sleep(self.pause_s)

    def episodes(self) -> Iterator[Callable[[], Awaitable[None]]]:
        """Endlessly, in the same order."""
        alone = [
            self.roll_out,
            self.outage,
            self.breaks,
            self.limit,
            self.back_and_forth,
            self.impatience,
        ]
        fleet = [self.redis_pauses, self.s3_restarts] if self.stage.redis is not None else []
        return itertools.cycle([*alone, *fleet])

    async def roll_out(self) -> None:
        """A new image, wanted by everybody at once."""
        registry = self.stage.quay
        repository = registry.repositories[1]
        self.tell(f"roll-out: 12 nodes pull a new {registry.name}/{repository} at once")
        await self._publish(registry, *registry.repositories)
        await self.crowd.roll_out(registry, repository, 12)

    async def outage(self) -> None:
        """An upstream answers 503: tags are served from their records."""
        self.tell("outage: quay.io answers 503")
        self.stage.quay.outage(Fault(status=503))
        try:
            await asyncio.sleep(self.last_s)
        finally:
            self.stage.quay.heal()

    async def breaks(self) -> None:
        """Transfers are reset half way and go on from there."""
        registry = self.stage.ghcr
        self.tell("bad line: ghcr.io resets some transfers")
        for repository in registry.repositories:
            registry.publish(repository)
        # Before anybody hears of them, or all is here already when the line gets bad.
        registry.bad_line(at=300_000, times=4)
        await asyncio.sleep(_SEEN_S)
        for repository in registry.repositories:
            await self.crowd.roll_out(registry, repository, 2)
        registry.heal()

    async def limit(self) -> None:
        """The pulls are used up: 429; later the window begins anew."""
        hub = self.stage.hub
        self.tell("limit: docker.io has no pulls left for us")
        hub.fake.quirks.quota = 0
        repository = hub.repositories[0]
        try:
            await self._publish(hub, repository)
            await self.crowd.roll_out(hub, repository, 2)
            await asyncio.sleep(self.last_s)
        finally:
            hub.fake.quirks.quota = PULLS

    async def back_and_forth(self) -> None:
        """The upstream's own servers disagree about a tag."""
        registry = self.stage.ghcr
        repository = registry.repositories[0]
        self.tell(f"disagreement: {registry.name}/{repository} names now this, now that")
        self._pair = self._pair or [image(20_000, seed=f"flapping {n}") for n in "ab"]
        for made in (*self._pair, *self._pair):
            registry.put(repository, made)
            await self.crowd.roll_out(registry, repository, 4)
            await asyncio.sleep(_SEEN_S)

    async def impatience(self) -> None:
        """Clients leave in the middle of a body."""
        self.tell("impatience: clients leave in the middle of a layer")
        for _ in range(3):
            try:
                self.stage.quay.publish(self.stage.quay.repositories[0])
                await self.crowd.leave_early(self.stage.quay)
            except (aiohttp.ClientError, ConnectionError) as error:
                self.tell(f"  (even before it began: {type(error).__name__})")

    async def redis_pauses(self) -> None:
        """Replicas fetch for themselves until it answers again."""
        if (redis := self.stage.redis) is None:
            return
        self.tell("redis answers nothing")
        await asyncio.to_thread(redis.pause)
        try:
            await asyncio.sleep(self.last_s / 2)
        finally:
            await asyncio.to_thread(redis.resume)

    async def s3_restarts(self) -> None:
        """Uploads wait, reads go elsewhere."""
        if (s3 := self.stage.s3) is None:
            return
        self.tell("S3 is restarted")
        await asyncio.to_thread(s3.kill)
        try:
            await self._publish(self.stage.hub, *self.stage.hub.repositories[:2])
            for repository in self.stage.hub.repositories[:2]:
                await self.crowd.roll_out(self.stage.hub, repository, 2)
        finally:
            await asyncio.to_thread(s3.start)

    async def _publish(self, registry: Registry, *repositories: str) -> None:
        """New versions, of which everybody hears."""
        for repository in repositories:
            registry.publish(repository)
        await asyncio.sleep(_SEEN_S)
