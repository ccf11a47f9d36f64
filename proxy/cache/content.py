"""What the cache hands to whoever sends it: bytes, a (growing) file, or a stream.

All three know their whole size; the web layer turns them into responses and
always calls `close()`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal

from proxy.cache.following import Following
from proxy.cache.local import OpenFile
from proxy.cache.spool import Spool
from proxy.oci.ranges import ByteRange
from proxy.ports import Chunk

_LATELY_BYTES = 32 * 1024 * 1024
_LATELY_S = 5.0

Outcome = Literal["hit", "miss", "join", "stale", "pass", "error"]
"""How an answer came about, for metrics and the access line."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """A small verified blob in memory."""

    data: bytes
    outcome: Outcome

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.data)

    def close(self) -> None:
        """Nothing to let go of."""


class File:
    """A blob in a file: complete and verified, or still growing (`spool`)."""

    __slots__ = ("_following", "_spool", "_unverified", "file", "outcome", "size")

    def __init__(
        self,
        file: OpenFile,
        outcome: Outcome,
        *,
        spool: Spool | None = None,
        following: Following | None = None,
        unverified: bool = False,
    ) -> None:
        """Takes over the caller's hold on `file`; `following` hears what is read of it.

        `unverified`: for a reader that verifies by itself, nothing is withheld.
        """
        self.file = file
        self.outcome: Outcome = outcome
        self.size = file.size
        self._spool = spool
        self._following = following
        self._unverified = unverified

    @property
    def written(self) -> int:
        """How much of it is there from the first byte on."""
        return self.size if self._spool is None else self._spool.written

    def just_written(self, offset: int) -> bool:
        """Whether the bytes there were written so lately that they are in memory still.

        Those behind a gap may be from before a restart, and a spool to which nothing
        comes any more says nothing of when: both are looked at instead.
        """
        spool = self._spool
        if spool is None or time.monotonic() - spool.written_at > _LATELY_S:
            return False
        return 0 <= spool.written - offset < _LATELY_BYTES

    def expect(self, ranges: Sequence[ByteRange]) -> None:
        """These will be read, in this order."""
        if self._following is not None:
            self._following.expect(ranges)

    def readable(self, offset: int, *, whole: bool) -> int:
        """The end of what may be sent now from `offset` on, `offset` if nothing;
        `whole`: the reader wants all of the blob.
        """
        if self._spool is None:
            return self.size
        if self._following is not None:
            self._following.at(offset)
        return self._spool.readable(offset, whole=whole and not self._unverified)

    async def wait(self, offset: int, *, whole: bool) -> None:
        """Until something is readable at `offset`. Raises `TransferBroken`."""
        if self._spool is not None:
            await self._spool.wait(offset, whole=whole and not self._unverified)

    def close(self) -> None:
        """Let go of the file."""
        self.file.release()
        if self._following is not None:
            self._following.leave()


@dataclass(frozen=True, slots=True)
class Stream:
    """A blob that is passed through without being kept.

    `open(start, end)` enters a context that yields chunks of exactly these
    bytes, verified before the last ones when they are the whole blob.
    """

    size: int
    outcome: Outcome
    open: Callable[[int, int], AbstractAsyncContextManager[AsyncIterator[Chunk]]]

    def close(self) -> None:
        """Nothing is held between uses."""


Content = Bytes | File | Stream
