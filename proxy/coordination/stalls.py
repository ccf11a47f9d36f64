"""Whether this process stood still: then a time-out says nothing of who was asked.

A node whose processor is taken away for a while (a throttled container, a paused
machine) finds the reply and the end of its patience at once. Ticks tell, which there
are only while somebody waits.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_TICK_S: Final = 0.05
_STALL_S: Final = 0.1


class Stalls:
    """Of one loop. Use `watched` around what is waited for."""

    def __init__(self) -> None:
        self._waiting = 0
        self._last = -math.inf
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Notice stalls meanwhile."""
        self._waiting += 1
        if self._timer is None:
            self._tick_later()
        try:
            yield
        finally:
            self._waiting -= 1
            if self._waiting == 0 and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def since(self, began: float) -> bool:
        """Whether one was noticed after that time of the loop, in seconds."""
        return self._last >= began

    def _tick_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_TICK_S, self._tick, loop.time() + _TICK_S)

    def _tick(self, due: float) -> None:
        now = asyncio.get_running_loop().time()
        if now - due >= _STALL_S:
            self._last = now
        self._tick_later()
