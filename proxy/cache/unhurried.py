"""Work that an answer does not hang on: waited for a while, then left to itself.

A store that hangs delays an answer by that while and not for as long as it hangs.
What is still under way at the end is waited for a little, and lost after that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

_LAST_PATIENCE_S = 5.0
_UNDER_WAY_MAX = 1000


class Unhurried:
    """All of it. Above a number that is under way, each is waited for to its end."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[None]] = set()

    async def do(self, work: Coroutine[None, None, None], *, patience_s: float) -> None:
        """Begin it, and wait that long. Raises what it raises within that."""
        doing = asyncio.create_task(work)
        self._under_way.add(doing)
        doing.add_done_callback(self._under_way.discard)
        if len(self._under_way) > _UNDER_WAY_MAX:
            await asyncio.shield(doing)
        else:
            await asyncio.wait({doing}, timeout=patience_s)
        if doing.done():
            doing.result()

    async def aclose(self) -> None:
        """Wait a little for what is under way, and give up the rest."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=_LAST_PATIENCE_S)
            for work in late:
                work.cancel()
            await asyncio.gather(*late, return_exceptions=True)
