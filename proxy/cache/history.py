"""What tags named, and when: every move that was noticed here, as durable records.

A move is noted with the record of its tag, by the one replica of all whose write of
that record counted. The time is when the upstream said so, which is later than the push
by as long as nobody asked. The newest `MOVES_MAX` of a tag are kept. Content is not:
what a tag named then may have been evicted since.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from proxy.cache import keys
from proxy.cache.records import Move, TagRecord, decode_move, encode_move
from proxy.oci.manifests import Descriptor
from proxy.oci.names import Repository, Tag
from proxy.ports import Records

MOVES_MAX = 1000
_GONE = "gone"


@dataclass(frozen=True, slots=True)
class Then:
    """What a tag named at some moment: nothing (None), or that.

    `since`: when it came to that; None if it had not been seen by then. `first_at`:
    when it was first seen at all, as far as is kept; None: never.
    """

    named: Descriptor | None
    since: float | None
    first_at: float | None


class History:
    """Reads and writes the moves of tags. Everything may raise `StorageUnavailable`."""

    def __init__(self, records: Records) -> None:
        self._records = records
        # Called of each move, before it is noted.
        self.noticed: Callable[[str, Repository, Tag], None] = lambda *_: None

    async def moved(
        self, upstream: str, repository: Repository, tag: Tag, old: TagRecord | None, new: TagRecord
    ) -> None:
        """The record of the tag went from `old` to `new`."""
        self.noticed(upstream, repository, tag)
        where = (upstream, repository, tag)
        if old is not None:
            # Noted when it happened, unless nobody could, or there was no history yet.
            await self._note(where, _last(old))
        before = None if old is None else old.current
        move = Move(url=new.url, at=new.fetched_at, before=before, after=new.current)
        await self._note(where, move)
        if old is not None:
            await self._trim(where)

    async def gone(
        self, upstream: str, repository: Repository, tag: Tag, old: TagRecord, now: float
    ) -> None:
        """The upstream has the tag no longer, as it said at `now`."""
        where = (upstream, repository, tag)
        await self._note(where, _last(old))
        await self._note(where, Move(url=old.url, at=now, before=old.current, after=None))
        await self._trim(where)

    async def moves(
        self,
        upstream: str,
        url: str,
        repository: Repository,
        tag: Tag,
        *,
        known: TagRecord | None,
        newest: int = MOVES_MAX,
    ) -> list[Move]:
        """The newest that are kept, oldest first; `known`: the tag's record, which tells of
        the last one even if that is not noted. Those that change nothing are left out.
        """
        names = [key async for key in self._records.list(keys.history(upstream, repository, tag))]
        found: list[Move] = []
        for key in names[-newest - 1 :]:
            move = await self._read(key, url)
            if move is not None:
                _append(found, move)
        if known is not None and (not found or found[-1].at < known.fetched_at):
            _append(found, _last(known))
        return found[-newest:]

    async def at(
        self,
        upstream: str,
        url: str,
        repository: Repository,
        tag: Tag,
        when: float,
        *,
        known: TagRecord | None,
    ) -> Then:
        """What the tag named at `when`; `known` as in `moves`."""
        names = [key async for key in self._records.list(keys.history(upstream, repository, tag))]
        until = keys.moment(when) + "~"
        first_at: float | None = None
        for key in names:
            move = await self._read(key, url)
            if move is not None:
                first_at = move.at
                break
        if known is not None and first_at is None:
            first_at = known.fetched_at
        last: Move | None = None
        for key in reversed([key for key in names if key.rpartition("/")[2] < until]):
            last = await self._read(key, url)
            if last is not None:
                break
        if (
            known is not None
            and known.fetched_at <= when
            and (last is None or last.at < known.fetched_at)
        ):
            last = _last(known)
        if last is None:
            return Then(None, None, first_at)
        return Then(last.after, last.at, first_at)

    async def tags(self, upstream: str, repository: Repository) -> AsyncIterator[Tag]:
        """All that have a history, in ASCII order."""
        folder = keys.histories(upstream, repository)
        previous = ""
        async for key in self._records.list(folder):
            name = key[len(folder) + 1 :].partition("/")[0]
            if name != previous:
                previous = name
                yield Tag.parse(name)

    async def _read(self, key: str, url: str) -> Move | None:
        record = await self._records.get(key)
        return None if record is None else decode_move(record.value, url)

    async def _note(self, where: tuple[str, Repository, Tag], move: Move) -> None:
        mark = _GONE if move.after is None else move.after.digest.hex[:12]
        # The same move has the same key; who comes second changes nothing.
        await self._records.put(keys.move(*where, move.at, mark), encode_move(move), expect=None)

    async def _trim(self, where: tuple[str, Repository, Tag]) -> None:
        kept = [key async for key in self._records.list(keys.history(*where))]
        for key in kept[:-MOVES_MAX]:
            await self._records.delete(key)


def _last(record: TagRecord) -> Move:
    """The move that brought a tag to where its record says it is."""
    return Move(url=record.url, at=record.fetched_at, before=record.previous, after=record.current)


def _append(moves: list[Move], move: Move) -> None:
    """Unless it changes nothing: two replicas may note the same move at two moments."""
    if moves:
        there, here = moves[-1].after, move.after
        if (there and there.digest) == (here and here.digest):
            return
        move = replace(move, before=there)
    moves.append(move)
