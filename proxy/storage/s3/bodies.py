"""Bodies on their way to S3 and from it, without ever holding one in memory.

An upload is an async iterable for aiohttp that also has the `read` and `seek`
that botocore looks for (and never uses, as the length is given and nothing is
hashed). It begins anew each time it is iterated, so a retry sends all of it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from proxy.cache.local import OpenFile
from proxy.errors import TransferBroken

# 1 MiB and 4 MiB cost the same CPU and more memory.
PIECE_BYTES = 256 * 1024


def _unheard() -> None:
    pass


class Upload:
    """Bytes to send. `moved` is called whenever some of them have gone."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.moved: Callable[[], None] = _unheard

    def silence(self) -> None:
        """Nobody listens to `moved` any more."""
        self.moved = _unheard

    def read(self, _count: int = -1) -> bytes:
        """Only its being there matters: botocore takes what has it for a file."""
        raise NotImplementedError("a body of ours is iterated, not read")

    def seek(self, _offset: int) -> None:
        """Each iteration begins at the beginning anyway."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        raise NotImplementedError


class BytesUpload(Upload):
    """A small body that is in memory already."""

    def __init__(self, data: bytes) -> None:
        super().__init__(len(data))
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """All of it."""
        if self._data:
            yield self._data


class FileUpload(Upload):
    """`size` bytes of a file from `start`, read in threads piece by piece."""

    def __init__(self, file: OpenFile, start: int, size: int) -> None:
        super().__init__(size)
        self._file = file
        self._start = start

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises OSError."""
        # Held, for aiohttp may still be sending when the call has failed already.
        file = self._file.hold()
        try:
            offset, end = self._start, self._start + self.size
            while offset < end:
                count = min(PIECE_BYTES, end - offset)
                piece = await asyncio.to_thread(os.pread, file.fd, count, offset)
                if not piece:
                    raise OSError("the file is shorter than it was")
                offset += len(piece)
                yield piece
                self.moved()
        finally:
            file.release()


async def received(body: Any) -> AsyncIterator[bytes]:
    """The bytes of a GET as they come. Raises `TransferBroken`."""
    stream: aiohttp.StreamReader = body.raw_stream.content
    try:
        while piece := await stream.readany():
            yield piece
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise TransferBroken(f"S3 broke off: {type(error).__name__} {error}") from error


async def nothing() -> AsyncIterator[bytes]:
    """No bytes."""
    for piece in tuple[bytes, ...]():
        yield piece
