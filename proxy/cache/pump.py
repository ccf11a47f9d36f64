"""From chunks of one source or several to the spool, in batches, with the disk off
the loop.

One write-and-hash job runs in a thread at a time; what arrives meanwhile forms
the next batch. So a fast upstream gets large batches (few thread hops a byte)
and a slow one small ones (bytes reach followers at once), and a stalled disk
stops the reading from upstream, never the event loop.

Waking N followers costs N `sendfile` rounds, so batches also wait a little
longer the more followers there are: from 5 ms up to 250 ms for 500 and more.
The first bytes of each stretch never wait.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from proxy.cache.spool import Spool
from proxy.ports import Chunk

BATCH_BYTES = 1024 * 1024
PENDING_BYTES_MAX = 4 * 1024 * 1024
UNSYNCED_BYTES_MAX = 64 * 1024 * 1024
_DELAY_S = 0.005
_DELAY_A_FOLLOWER_S = 0.0005
_DELAY_MAX_S = 0.25


class Pump:
    """Feeds one spool. `push` never waits; `room` bounds the memory."""

    def __init__(self, spool: Spool, disk: Executor) -> None:
        self._spool = spool
        self._disk = disk
        self._loop = asyncio.get_running_loop()
        self._pending: list[tuple[int, list[Chunk]]] = []
        # Where a stretch of these ends -> its chunks.
        self._tails: dict[int, list[Chunk]] = {}
        self._pending_bytes = 0
        self._writing: asyncio.Future[None] | None = None
        self._journaling: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        self._delay_s = _DELAY_S

    def count_followers(self, count: int) -> None:
        """How many will be woken by a batch."""
        self._delay_s = min(_DELAY_MAX_S, max(_DELAY_S, _DELAY_A_FOLLOWER_S * count))

    @property
    def full(self) -> bool:
        """Whether `room` would wait or raise."""
        return self._error is not None or (
            self._pending_bytes >= PENDING_BYTES_MAX
            or (self._journaling is not None and self._spool.unsynced >= UNSYNCED_BYTES_MAX)
        )

    def push(self, offset: int, chunk: Chunk, *, urgent: bool = False) -> None:
        """Take a chunk over that belongs at `offset`; `urgent`: somebody waits for it."""
        chunks = self._tails.pop(offset, None)
        if chunks is None:
            chunks = []
            self._pending.append((offset, chunks))
        chunks.append(chunk)
        self._tails[offset + len(chunk)] = chunks
        self._pending_bytes += len(chunk)
        if self._writing is not None:
            return
        if self._pending_bytes >= BATCH_BYTES or urgent:
            self._write()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._delay_s, self._write)

    def flush(self) -> None:
        """Write what is pending now: nothing follows soon."""
        self._write()

    async def room(self) -> None:
        """Wait while too much is unwritten or unsynced. Raises OSError from the disk."""
        while self._error is None and self.full:
            await self._next_change()
        self._check()

    async def drain(self) -> None:
        """Wait until everything pushed is in the file. Raises OSError from the disk."""
        while self._error is None and (self._waiting or self._writing is not None):
            if self._writing is None:
                self._write()
            await self._next_change()
        self._check()

    async def settle(self) -> None:
        """Write what is pending, if that can be done, and wait until no thread
        touches the spool any more.
        """
        self._write()
        while self._writing is not None or self._journaling is not None:
            await self._next_change()
            self._write()
        self._cancel_timer()

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def _waiting(self) -> bool:
        """Whether there is work for a write job; only asked while none runs."""
        return bool(self._pending) or self._spool.behind

    def _write(self) -> None:
        self._cancel_timer()
        if self._writing is not None or self._error is not None or not self._waiting:
            return
        batch = self._pending
        self._pending, self._tails, self._pending_bytes = [], {}, 0
        job = self._loop.run_in_executor(self._disk, self._spool.write_blocking, batch)
        self._writing = job
        job.add_done_callback(lambda done: self._written(done, batch))

    def _written(self, job: asyncio.Future[None], batch: list[tuple[int, list[Chunk]]]) -> None:
        self._writing = None
        self._changed.set()
        error = job.exception()
        if error is not None:
            self._error = error
            return
        for start, chunks in batch:
            self._spool.publish(start, start + sum(map(len, chunks)))
        if not batch:
            self._spool.publish_hashed()
        if self._pending_bytes >= BATCH_BYTES or self._spool.behind:
            self._write()
        elif self._pending and self._timer is None:
            self._timer = self._loop.call_later(self._delay_s, self._write)
        self._journal()

    def _journal(self) -> None:
        extent = self._spool.to_journal
        if extent is None or self._journaling is not None or self._error is not None:
            return
        job = self._loop.run_in_executor(self._disk, self._spool.journal_blocking, extent)
        self._journaling = job
        job.add_done_callback(self._journaled)

    def _journaled(self, job: asyncio.Future[None]) -> None:
        self._journaling = None
        self._changed.set()
        error = job.exception()
        if error is not None:
            self._error = error
        else:
            self._journal()
