"""What happens to a registry proxy in a bad week, in a minute and on purpose.

Each episode is announced, lasts seconds and is mended. Clients should notice
almost none of them; the dashboards should show all.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.demo.crowd import Crowd
from tests.demo.library import TAG, Registry
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
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

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
            self.warm_up,
            self.rehearsal,
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
        """The pulls are used up. A HEAD, which costs none, says so: tags are answered with
        what is held, and no GET is sent any more. Later the window begins anew.
        """
        hub = self.stage.hub
        self.tell(
            "limit: docker.io has no pulls left for us; what is held is served, none is asked"
        )
        hub.fake.quirks.quota = 0
        repository = hub.repositories[0]
        try:
            await self._publish(hub, repository)
            await self.crowd.roll_out(hub, repository, 2)
            await self._want(hub, f"library/new-{next(self._numbers)}")
            await asyncio.sleep(self.last_s)
        finally:
            hub.fake.quirks.quota = PULLS

    async def _want(self, registry: Registry, repository: str) -> None:
        """An image that nobody has here, again and again for a while."""
        registry.fake.add(repository, image(20_000, seed=repository), TAG)
        url = f"{self.stage.urls[0]}/v2/{repository}/manifests/{TAG}?ns={registry.name}"
        for _ in range(3):
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                async with self.stage.client.get(url) as response:
                    await response.read()
            await asyncio.sleep(self.last_s / 3)

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

    async def warm_up(self) -> None:
        """New images are here before anybody asks, one of them that there is not."""
        registry = self.stage.ghcr
        self.tell(f"warm-up: new images of {registry.name} are brought, as at night")
        for repository in registry.repositories:
            registry.publish(repository)
        names = [f"{registry.name}/{name}:{TAG}" for name in (*registry.repositories, "acme/gone")]
        await self._command("/warm", {"images": names, "platforms": ["linux/amd64"]})

    async def rehearsal(self) -> None:
        """A replica serves as if offline, and notes what would have failed."""
        registry = self.stage.quay
        self.tell(f"rehearsal: a replica does without {registry.name}")
        wish = {"upstreams": [registry.name], "for_s": max(1.0, self.last_s)}
        rehearsing = asyncio.create_task(self._command("/rehearse", wish))
        url = f"{self.stage.urls[0]}/v2/team/never-pulled/manifests/{TAG}?ns={registry.name}"
        try:
            while not rehearsing.done():
                async with self.stage.client.head(url) as response:
                    await response.read()
                await asyncio.wait([rehearsing], timeout=0.5)
            await rehearsing
        finally:
            rehearsing.cancel()

    async def _command(self, path: str, wish: dict[str, Any]) -> None:
        """To the first replica, until it has told all of it."""
        try:
            async with self.stage.client.post(
                self.stage.replicas[0].admin + path, json=wish
            ) as response:
                response.raise_for_status()
                await response.read()
        except (aiohttp.ClientError, ConnectionError) as error:
            self.tell(f"  ({path}: {error})")

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
