"""Once over the whole fleet: one replica works, the others read what it found.

The claim says who works, a short-lived value carries the outcome. Only small
answers travel this way (tags, manifests); blobs have flights. Whoever waits too
long, or finds the worker gone without an outcome, works alone: a double costs
one request and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from proxy.ports import Coordination, Held

# A value longer than this is not worth its place in a shared memory.
VALUE_BYTES_MAX = 512 * 1024
_LOOKS_S = (0.01, 0.02, 0.04, 0.08, 0.15)
_WAIT_S = 5.0


class Shared:
    """Runs work once for all replicas that ask at about the same time."""

    def __init__(self, coordination: Coordination, *, alone: bool) -> None:
        """`alone`: there is no other replica, so work is just done."""
        self._coordination = coordination
        self._alone = alone

    async def once(
        self, name: str, work: Callable[[], Awaitable[bytes | None]], *, ttl_s: float
    ) -> bytes | None:
        """The outcome of `work`, ours or another replica's.

        It is shared for `ttl_s`; None is not shared. Raises what our own `work`
        raises; another's failure is not known, so we try ourselves.
        """
        if self._alone or ttl_s <= 0:
            return await work()
        key = f"outcome/{name}"
        deadline = asyncio.get_running_loop().time() + _WAIT_S
        looks = 0
        while True:
            async with self._coordination.try_hold(name) as claim:
                found = await self._coordination.get(key)
                if found is not None:
                    return found
                waited = asyncio.get_running_loop().time() >= deadline
                if not isinstance(claim, Held) or waited:
                    outcome = await work()
                    if outcome is not None:
                        await self.tell(name, outcome, ttl_s=ttl_s)
                    return outcome
            await asyncio.sleep(_LOOKS_S[min(looks, len(_LOOKS_S) - 1)])
            looks += 1

    async def told(self, name: str) -> bool:
        """Whether some replica has shared an outcome just now."""
        return not self._alone and await self._coordination.get(f"outcome/{name}") is not None

    async def forget(self, name: str) -> None:
        """An outcome counts no longer: whoever wants it works again."""
        if not self._alone:
            await self._coordination.delete(f"outcome/{name}")

    async def tell(self, name: str, outcome: bytes, *, ttl_s: float) -> None:
        """Share an outcome that came about on the way to another."""
        if not self._alone and ttl_s > 0 and len(outcome) <= VALUE_BYTES_MAX:
            await self._coordination.put(f"outcome/{name}", outcome, ttl_s=ttl_s)
