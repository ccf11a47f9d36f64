"""What keeping does beside serving: notes uses of whole images, follows what is pinned,
hears what others removed, and lets go once a day what its rules say.

Nothing here may end the process or delay a request; what fails is logged and tried
again at its next turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from proxy.backing import Backing
from proxy.cache.assembly import Cache
from proxy.cache.uses import Use
from proxy.cache.vouching import group_of
from proxy.errors import EntrepotError
from proxy.keeping.commands import Commands
from proxy.keeping.evicting import Evicting
from proxy.keeping.notices import Notices
from proxy.keeping.pinning import Pinning
from proxy.keeping.pulls import Pulls
from proxy.keeping.shelf import Shelf
from proxy.ports import BlobKey, Coordination, Held

USES_EVERY_S = 1.0
LEARN_EVERY_S = 20.0
FOLLOW_EVERY_S = 30.0
_THOROUGH_EVERY = 60
_RETAIN_LOOK_S = 600.0
_RETAIN_EVERY_S = 86400.0
_RETAINED = "done/retention"
# So many images are noted in one go; then pulls have their turn.
_AT_ONCE = 20

log = structlog.get_logger("entrepot")


class Background:
    """The work, one round each; `start` repeats it until `aclose`."""

    def __init__(
        self,
        cache: Cache,
        backing: Backing,
        *,
        pinning: Pinning,
        shelf: Shelf,
        pulls: Pulls,
        notices: Notices | None,
        evicting: Evicting,
        commands: Commands,
        hand_on: Callable[[], None],
        configured: tuple[str, ...],
        retaining: bool,
    ) -> None:
        """`configured`: what is to be pinned by the configuration. `hand_on`: uses that
        are counted elsewhere are noted after it.
        """
        self._uses = cache.uses
        self._pins = cache.pins
        self._local = backing.local.blobs
        self._coordination: Coordination = backing.coordination
        self._pinning = pinning
        self._shelf = shelf
        self._pulls = pulls
        self._notices = notices
        self._evicting = evicting
        self._hand_on = hand_on
        self._configured: tuple[str, ...] | None = configured
        self._retaining = retaining
        self._rounds = 0
        self._unweighed = True
        # Who waits for uses to be noted waits for those that were taken before, too.
        self._noting = asyncio.Lock()
        self._pins.changed = self._no_weight
        self._tasks: list[asyncio.Task[None]] = []
        evicting.before = self.catch_up
        commands.before = self.hear_of_uses

    def start(self) -> None:
        """Begin."""
        self._every(USES_EVERY_S, self.note_uses)
        self._every(LEARN_EVERY_S, self.learn)
        self._every(FOLLOW_EVERY_S, self.follow, at_once=True)
        if self._retaining:
            self._every(_RETAIN_LOOK_S, self.retain)

    async def aclose(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def note_uses(self) -> None:
        """What was pulled is used with all that is below it; tags that moved may be pinned."""
        async with self._noting:
            await self._note_uses()

    async def hear_of_uses(self) -> None:
        """All that was pulled until now is known after this."""
        self._hand_on()
        await self.note_uses()

    async def learn(self) -> None:
        """What other replicas pinned, unpinned and removed."""
        if self._notices is not None:
            await self._notices.apply()
            await self._pins.refresh()

    async def catch_up(self) -> None:
        """All that was pulled and all that is pinned is known after this, before something
        goes.
        """
        await self.hear_of_uses()
        await self._follow(thorough=True)

    async def follow(self) -> None:
        """Bring pins up to date."""
        await self._follow(thorough=self._rounds % _THOROUGH_EVERY == 0)
        self._rounds += 1

    async def _note_uses(self) -> None:
        for where in self._uses.take_moved():
            try:
                await self._pinning.moved(*where)
            except EntrepotError as error:
                # The next round looks at all tags.
                self._rounds = 0
                log.warning("following a tag failed", reason=str(error))
        for number, use in enumerate(self._uses.take()):
            try:
                await self._note(use)
            except EntrepotError as error:
                log.warning("noting a use failed", reason=str(error))
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0.05)

    async def _follow(self, *, thorough: bool) -> None:
        if self._configured is not None:
            await self._pins.refresh()
            await self._pinning.configured(self._configured)
            self._configured = None
        await self._pinning.follow(thorough=thorough)
        if thorough or self._unweighed:
            await self._weigh()

    async def retain(self) -> None:
        """Once a day, by one replica for all."""
        if await self._coordination.get(_RETAINED) is not None:
            return
        async with self._coordination.try_hold("retention") as claim:
            if isinstance(claim, Held):
                return
            count = 0
            async for line in self._evicting.retain(dry_run=False):
                claim.progress()
                count += 1
                log.info("dropped", image=line["image"], bytes=line["bytes"], why=line["why"])
            log.info("retention", images=count)
            await self._coordination.put(_RETAINED, b"done", ttl_s=_RETAIN_EVERY_S * 0.9)

    async def _weigh(self) -> None:
        """Tell eviction how much it need not look for."""
        self._unweighed = False
        weight = await self._shelf.bytes_of(self._pins.blobs())
        if not self._unweighed:
            self._local.room.stays = weight

    def _no_weight(self) -> None:
        """Something was pinned or unpinned: until that is weighed all may go."""
        self._unweighed = True
        self._local.room.stays = 0

    async def _note(self, use: Use) -> None:
        await self._pulls.note(use.upstream, use.repository, use.reference)
        if use.manifest is None:
            return
        digest = use.manifest.descriptor.digest
        root = BlobKey(group_of(use.upstream), digest)
        below = await self._shelf.below(use.upstream, use.manifest)
        self._pins.grow(root, [key.digest for key in below])
        # From the root down: nothing is ever older than what needs it.
        for key in (root, *below):
            self._local.touch(key)
            self._coordination.touch(key)
        await self._pinning.used(use)

    def _every(
        self, interval_s: float, work: Callable[[], Awaitable[None]], *, at_once: bool = False
    ) -> None:
        async def repeat() -> None:
            if not at_once:
                await asyncio.sleep(interval_s)
            while True:
                try:
                    await work()
                except (EntrepotError, OSError) as error:
                    log.warning("keeping failed", reason=str(error))
                await asyncio.sleep(interval_s)

        self._tasks.append(asyncio.create_task(repeat()))
