"""From chunks of one source or several to the spool, in batches, with the disk off
the loop.

One write-and-hash job runs in a thread at a time; what arrives meanwhile forms
the next batch. So a fast upstream gets large batches (few thread hops a byte)
and a slow one small ones (bytes reach followers at once), and a stalled disk
stops the reading from upstream, never the event loop.

Waking N followers costs N `sendfile` rounds, so the more followers there are, the
longer batches wait (from 5 ms up to 250 ms for 500 and more) and the more of them
are shown at once (32 KiB a follower, up to 8 MiB). The first bytes of each stretch
never wait, and neither do the last.

What a byte costs on its way, in CPU-s/GB (`python -m tests.bench.cold_steps`, two
cores, Python 3.11):

| Step | alone |
|---|---|
| receive (`upstream/direct.py`) | 0.17 |
| hash (SHA-256, 1 MiB at a time) | 0.53 |
| write (1 MiB at a time, into allocated space) | 0.16 |
| journal (a line and its fsyncs every 8 MiB) | < 0.01 |
| all of them at once, two threads sharing caches and the GIL | 1.2 - 1.3 |
| send to one follower (`sendfile`, 8 MiB windows) | 0.06 |

Batches of 2 and 4 MiB cost 1.4 and 1.5 in place of the 1.2 (they no longer fit the
cache between being written and hashed); of 256 and 512 KiB 1.2, with more thread hops.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from proxy.cache.spool import Spool
from proxy.ports import Chunk

BATCH_BYTES = 1024 * 1024
PENDING_BYTES_MAX = 4 * 1024 * 1024
UNSYNCED_BYTES_MAX = 64 * 1024 * 1024
# A crash costs no more of a thin link's work than came in that time, or 8 MiB.
VOUCH_S = 1.0
_DELAY_S = 0.005
_DELAY_A_FOLLOWER_S = 0.0005
_DELAY_MAX_S = 0.25
_SHOWN_A_FOLLOWER_BYTES = 32 * 1024
_SHOWN_BYTES_MAX = 8 * 1024 * 1024


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
        self._vouching: asyncio.TimerHandle | None = None
        self._journaled_at = 0.0
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        self._delay_s = _DELAY_S
        self._shown_bytes = 0
        # Written, and not shown to followers yet.
        self._unshown: list[tuple[int, int]] = []
        self._unshown_bytes = 0
        self._shown_at = 0.0

    def count_followers(self, count: int) -> None:
        """How many will be woken by a batch."""
        self._delay_s = min(_DELAY_MAX_S, max(_DELAY_S, _DELAY_A_FOLLOWER_S * count))
        self._shown_bytes = min(_SHOWN_BYTES_MAX, _SHOWN_A_FOLLOWER_BYTES * count)

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
        if self._vouching is not None:
            self._vouching.cancel()
            self._vouching = None

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
            length = sum(map(len, chunks))
            self._unshown.append((start, start + length))
            self._unshown_bytes += length
        late = self._loop.time() - self._shown_at >= self._delay_s
        if late or self._unshown_bytes >= self._shown_bytes or not self._pending:
            self._show()
        if not batch:
            self._spool.publish_hashed()
        if self._pending_bytes >= BATCH_BYTES or self._spool.behind:
            self._write()
        elif self._pending and self._timer is None:
            self._timer = self._loop.call_later(self._delay_s, self._write)
        self._journal()
        if self._vouching is None and self._spool.unvouched:
            self._vouching = self._loop.call_later(VOUCH_S, self._vouch)

    def _vouch(self) -> None:
        """Make what came lately durable, if it comes so slowly that the journal has not
        had a line for a while. In place of a write, whose turn comes again.
        """
        self._vouching = None
        if self._error is not None or not self._spool.unvouched:
            return
        busy = self._writing is not None or self._journaling is not None
        if busy or self._loop.time() - self._journaled_at < VOUCH_S:
            self._vouching = self._loop.call_later(VOUCH_S, self._vouch)
            return
        job = self._loop.run_in_executor(self._disk, self._spool.journal_tail_blocking)
        self._writing = job
        job.add_done_callback(lambda done: self._written(done, []))

    def _show(self) -> None:
        unshown, self._unshown, self._unshown_bytes = self._unshown, [], 0
        for start, end in unshown:
            self._spool.publish(start, end)
        self._shown_at = self._loop.time()

    def _journal(self) -> None:
        extent = self._spool.to_journal
        if extent is None or self._journaling is not None or self._error is not None:
            return
        job = self._loop.run_in_executor(self._disk, self._spool.journal_blocking, extent)
        self._journaling = job
        job.add_done_callback(self._journaled)

    def _journaled(self, job: asyncio.Future[None]) -> None:
        self._journaling = None
        self._journaled_at = self._loop.time()
        self._changed.set()
        error = job.exception()
        if error is not None:
            self._error = error
        else:
            self._journal()
