"""What the cache hands to whoever sends it: bytes, a (growing) file, or a stream.

All three know their whole size; the web layer turns them into responses and
always calls `close()`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal

from proxy.cache.local import OpenFile
from proxy.cache.spool import Spool

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

    __slots__ = ("_left", "_spool", "_unverified", "file", "outcome", "size")

    def __init__(
        self,
        file: OpenFile,
        outcome: Outcome,
        *,
        spool: Spool | None = None,
        left: Callable[[], None] | None = None,
        unverified: bool = False,
    ) -> None:
        """Takes over the caller's hold on `file`; `left` hears of `close()`.

        `unverified`: for a reader that verifies by itself, nothing is withheld.
        """
        self.file = file
        self.outcome: Outcome = outcome
        self.size = file.size
        self._spool = spool
        self._left = left
        self._unverified = unverified

    def readable(self, *, whole: bool) -> int:
        """The end of what may be sent now; `whole`: the reader wants all of the blob."""
        if self._spool is None:
            return self.size
        return self._spool.readable(whole=whole and not self._unverified)

    async def wait(self, offset: int, *, whole: bool) -> None:
        """Until something is readable at `offset`. Raises `TransferBroken`."""
        if self._spool is not None:
            await self._spool.wait(offset, whole=whole and not self._unverified)

    def close(self) -> None:
        """Let go of the file."""
        self.file.release()
        if self._left is not None:
            self._left()


@dataclass(frozen=True, slots=True)
class Stream:
    """A blob that is passed through without being kept.

    `open(start, end)` enters a context that yields chunks of exactly these
    bytes, verified before the last ones when they are the whole blob.
    """

    size: int
    outcome: Outcome
    open: Callable[[int, int], AbstractAsyncContextManager[AsyncIterator[bytes]]]

    def close(self) -> None:
        """Nothing is held between uses."""


Content = Bytes | File | Stream
