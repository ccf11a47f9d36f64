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

What a byte costs on its way (`python -m tests.bench.cold_steps --mib 64 --rounds 21`:
from the least to the most of five runs' medians; two cores of a Xeon, 2.5 GHz, without
SHA instructions, with other work on them; Python 3.11). The seconds swing with that work;
the last column, shares of a whole fill in the same round, less so:

| Step, alone | CPU-s/GB | of a fill |
|---|---|---|
| receive (`upstream/direct.py`), blocks of 1 MiB | 0.29 - 0.36 | 0.06 - 0.08 |
| ... of 64 KiB | 0.54 - 0.94 | 0.15 - 0.16 |
| ... of 256 KiB | 0.32 - 0.42 | 0.06 - 0.09 |
| ... of 4 MiB | 0.39 - 0.48 | 0.08 - 0.10 |
| ... aiohttp's `iter_any` instead | 0.42 - 0.53 | 0.08 - 0.11 |
| hash (SHA-256, 1 MiB at a time; 256 KiB are alike) | 2.6 - 4.2 | 0.67 - 0.78 |
| write (1 MiB at a time), into allocated space | 0.27 - 0.33 | 0.05 - 0.07 |
| ... into a file with nothing allocated | 0.29 - 0.39 | 0.06 - 0.07 |
| journal (a line and its fsyncs every 8 MiB) | 0.06 - 0.08 | 0.01 - 0.02 |
| a fill: all of them, written and hashed in threads | 4.0 - 6.7 | 1 |
| ... not hashed | 1.1 - 1.3 | 0.20 - 0.27 |
| ... with nothing allocated | 3.9 - 6.3 | 0.96 - 1.04 |
| ... in batches of 256 KiB | 3.7 - 5.5 | 0.92 - 1.06 |
| ... in batches of 4 MiB | 3.8 - 5.8 | 0.86 - 0.99 |
| ... hashed on the loop, written in a thread | 4.0 - 5.6 | 0.76 - 1.04 |
| ... the same, 256 KiB at a time, as they are received | 4.0 - 5.8 | 0.95 - 1.06 |
| ... 256 KiB at a time, hashed and written on the loop | 3.7 - 5.4 | 0.86 - 1.00 |
| send to one follower (`sendfile`, 8 MiB windows) | 0.12 - 0.19 | 0.03 |

So hashing is what a fill costs (with SHA instructions it was 0.53 of 1.2 s/GB). Threads
make it no cheaper, at times a tenth dearer; but on the loop every 256 KiB would keep all
others waiting for 0.7 ms or more. Allocating costs no CPU time; by itself it makes a GB
take a second longer, in a thread, of which a fill shows nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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
    """Feeds one spool. `push` never waits; `room` bounds the memory.

    `failed` hears of an error from the disk, which may come when nobody pushes any more.
    """

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
        self.failed: Callable[[], None] = lambda: None
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

    def check(self) -> None:
        """Raises what the disk said (OSError), after which nothing is written any more."""
        if self._error is not None:
            raise self._error

    async def room(self) -> None:
        """Wait while too much is unwritten or unsynced. Raises OSError from the disk."""
        while self._error is None and self.full:
            await self._next_change()
        self.check()

    async def drain(self) -> None:
        """Wait until everything pushed is in the file. Raises OSError from the disk."""
        while self._error is None and (self._waiting or self._writing is not None):
            if self._writing is None:
                self._write()
            await self._next_change()
        self.check()

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

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self.failed()

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
            self._fail(error)
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
            self._fail(error)
        else:
            self._journal()
