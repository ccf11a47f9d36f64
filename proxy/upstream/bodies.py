"""Reading what an upstream sends after the head: blobs piece by piece, small
answers whole, the rest not at all.

Pieces are whatever has arrived (`READ_BUFFER_BYTES`). Bytes are counted
here, so that a body that is short of what its head promised can't look whole.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Self

import aiohttp

from proxy.errors import BadUpstreamAnswer, TransferBroken
from proxy.oci.manifests import media_type_of
from proxy.ports import Chunk
from proxy.upstream.direct import DIRECT_BYTES_MIN, DirectBody
from proxy.upstream.link.pacer import Paced
from proxy.upstream.translate import LIBRARY_ERRORS

ERROR_BYTES_MAX = 64 * 1024

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The bytes `[start, end)` of a blob of `size` bytes, each None if unsaid.

    `missing` are bytes that were asked for and that this answer won't hold.
    """

    start: int
    end: int | None
    size: int | None
    missing: bool = False


def check_plain(response: aiohttp.ClientResponse, name: str) -> None:
    """Raise `BadUpstreamAnswer` for content in disguise: compressed on the way,
    or the page of a login or an error in place of the thing.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise BadUpstreamAnswer(
            f"{name} encoded its answer ({encoding[:40]!r}) without being asked"
        )
    if media_type_of(response.headers.get("Content-Type", "")) == "text/html":
        raise BadUpstreamAnswer(f"{name} sent a web page in place of content")


def blob_part(response: aiohttp.ClientResponse, name: str, *, start: int, end: int | None) -> Part:
    """What the answer to `Range: bytes=start-` (or to none) holds.

    A 200 holds everything, also where a range was asked. Raises
    `BadUpstreamAnswer` for a range that was not asked.
    """
    check_plain(response, name)
    ranged = start > 0 or end is not None
    if response.status == 200:
        size = response.content_length
        return Part(start=0, end=size, size=size)
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status != 206 or not ranged or found is None:
        raise BadUpstreamAnswer(f"{name} answered {response.status} to a request for a blob")
    first, stop = int(found[1]), int(found[2]) + 1
    size = None if found[3] == "*" else int(found[3])
    if first != start or not first < stop <= (stop if size is None else size):
        raise BadUpstreamAnswer(f"{name} sent another range than was asked for")
    wanted = size if end is None else end if size is None else min(end, size)
    if response.content_length not in {None, stop - first} or stop > (end or stop):
        raise BadUpstreamAnswer(f"{name} sent another range than was asked for")
    return Part(start=first, end=stop, size=size, missing=wanted is not None and stop < wanted)


def blob_chunks(
    response: aiohttp.ClientResponse,
    part: Part,
    name: str,
    *,
    stall_s: float,
    paced: Paced | None = None,
) -> AsyncIterator[Chunk]:
    """The pieces of a blob as they arrive, or as `paced` lets them; a large one directly
    from its connection.

    Raise `TransferBroken` when they end early, stall or are reset.
    """
    length = None if part.end is None else part.end - part.start
    if (
        length is not None
        and length >= DIRECT_BYTES_MIN
        and not part.missing
        and response.content_length == length
        and response.connection is not None
    ):
        return DirectBody(response, length, name, stall_s=stall_s, paced=paced)
    return BlobChunks(response, part, name, paced)


class BlobChunks(AsyncIterator[bytes]):
    """The pieces of one answer's body, as they arrive.

    Raises `TransferBroken` when they end early, stall or are reset.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, part: Part, name: str, paced: Paced | None = None
    ) -> None:
        self._content = response.content
        self._paced = paced
        self._waiter: asyncio.Future[None] | None = None
        self._missing = part.missing
        self._left = None if part.end is None else part.end - part.start
        self._name = name

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = None
        if self._paced is not None:
            # Little waits in memory, so while we do not read, the sender can't send either.
            if self._paced.held and self._left != 0:
                await self._turn()
            piece = self._paced.piece
        try:
            chunk = await (self._content.readany() if piece is None else self._content.read(piece))
        except TimeoutError as error:
            raise TransferBroken(f"{self._name} stopped sending") from error
        except LIBRARY_ERRORS as error:
            raise TransferBroken(f"{self._name} broke off the transfer") from error
        if self._left is not None:
            self._left -= len(chunk)
            if self._left < 0:
                raise BadUpstreamAnswer(f"{self._name} sent more than it had announced")
        if chunk:
            if self._paced is not None:
                self._paced.took(len(chunk), self._wake)
            return chunk
        if self._missing or self._left:
            raise TransferBroken(f"{self._name} ended the transfer early")
        raise StopAsyncIteration

    async def _turn(self) -> None:
        while self._paced is not None and self._paced.held:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def read_whole(response: aiohttp.ClientResponse, name: str, *, bytes_max: int) -> bytes:
    """A small body, whole.

    Raises `BadUpstreamAnswer` when it is larger than `bytes_max`, at the latest
    when one piece more has arrived, and `TransferBroken`.
    """
    if (response.content_length or 0) > bytes_max:
        raise BadUpstreamAnswer(f"{name} sent more than {bytes_max} bytes")
    chunks, count = [], 0
    async for chunk in BlobChunks(response, Part(start=0, end=None, size=None), name):
        chunks.append(chunk)
        count += len(chunk)
        if count > bytes_max:
            raise BadUpstreamAnswer(f"{name} sent more than {bytes_max} bytes")
    return b"".join(chunks)


async def discard(response: aiohttp.ClientResponse, name: str) -> bytes:
    """The body of a redirect or error, at most `ERROR_BYTES_MAX` of it.

    A short one is read so that its connection can be used again; a long or
    broken one costs the connection and nothing else.
    """
    try:
        return await read_whole(response, name, bytes_max=ERROR_BYTES_MAX)
    except (BadUpstreamAnswer, TransferBroken):
        return b""
    finally:
        response.close()
