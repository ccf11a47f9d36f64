"""Noting uses: about once a minute for each blob, in a thread of its own.

A disk that hangs then holds up this thread and none that others need, and what
queues up is bounded; a touch that is lost only makes eviction a little less clever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from proxy.cache.lru import Lru
from proxy.ports import BlobKey

TOUCH_S = 60.0
_REMEMBERED_MAX = 10_000
_WAITING_MAX = 1000


class Touches:
    """`write(key, now)` notes one in the file; it blocks and raises nothing."""

    def __init__(self, write: Callable[[BlobKey, float], None]) -> None:
        self._write = write
        self._noted: Lru[BlobKey, float] = Lru(_REMEMBERED_MAX)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="touch")
        self._waiting = threading.BoundedSemaphore(_WAITING_MAX)

    def note(self, key: BlobKey) -> None:
        """A use, now. On the event loop; never waits."""
        now = time.time()
        due = now - (self._noted.get(key) or 0) >= TOUCH_S
        if due and self._waiting.acquire(blocking=False):
            self._noted.put(key, now)
            self._thread.submit(self._touch, key, now)

    def _touch(self, key: BlobKey, now: float) -> None:
        self._write(key, now)
        self._waiting.release()
