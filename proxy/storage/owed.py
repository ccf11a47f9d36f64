"""Records that could not be written to S3: written there later, if still right.

Without this a blob that was fetched while S3 was away would be stored later, and
no other replica could find it by its tag. Each key is noted in a file, so that a
restart forgets none; the value is the local copy at the time of writing. What
another replica wrote meanwhile is replaced only by what was found out after it,
and removed only if what we know of its end is younger.
A marker that can't be written only costs the memory of it over a restart.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from pathlib import Path

from proxy.errors import StorageUnavailable
from proxy.events import StorageFailed
from proxy.ports import Clock, Observe, Record, Records

FOLDER = "_records"
_OWED_MAX = 50_000
_BACKOFF_MIN_S = 0.5
_BACKOFF_MAX_S = 15.0


class _Owed:
    """One debt, told apart from a later one of the same key by being another object.

    `deleted_at`: in seconds since the epoch; None: the record is to be written.
    """

    __slots__ = ("deleted_at",)

    def __init__(self, deleted_at: float | None) -> None:
        self.deleted_at = deleted_at


class OwedRecords:
    """What is owed. `start` picks up what an earlier run left."""

    def __init__(
        self,
        durable: Records,
        mirror: Records,
        *,
        pending: Path,
        observe: Observe,
        clock: Clock = time.time,
    ) -> None:
        self._durable = durable
        self._mirror = mirror
        self._folder = pending / FOLDER
        self._observe = observe
        self._clock = clock
        self._keys: dict[str, _Owed] = {}
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._keys)

    async def start(self) -> None:
        """Begin to work. Raises OSError when the markers can't be read."""
        self._keys |= await asyncio.to_thread(self._read_blocking)
        if self._keys:
            self._some.set()
        self._task = asyncio.create_task(self._work())

    async def aclose(self) -> None:
        """Stop; the next start goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def add(self, key: str) -> None:
        """The durable store lacks the local copy of `key`. Never raises."""
        await self._owe(key, None)

    async def add_deletion(self, key: str) -> None:
        """The durable store still has `key`, which is no more. Never raises."""
        await self._owe(key, self._clock())

    def outlived(self, key: str, record: Record) -> bool:
        """Whether the durable `record` of `key` is only there because it could not be
        deleted yet.
        """
        owed = self._keys.get(key)
        return owed is not None and _outlived(record, owed.deleted_at)

    async def _owe(self, key: str, deleted_at: float | None) -> None:
        before = self._keys.get(key)
        if before is None and len(self._keys) >= _OWED_MAX:
            return
        self._keys[key] = _Owed(deleted_at)
        self._some.set()
        if before is not None and before.deleted_at == deleted_at:
            return  # The marker says so already.
        try:
            await asyncio.to_thread(self._path(key).write_text, _marker(key, deleted_at))
        except OSError as error:
            self._observe(StorageFailed(operation="pending write", reason=str(error)))

    async def _work(self) -> None:
        backoff_s = _BACKOFF_MIN_S
        while True:
            await self._some.wait()
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1))  # noqa: S311 - jitter
            try:
                while self._keys:
                    await self._bring_next()
            except (StorageUnavailable, OSError) as error:
                self._observe(StorageFailed(operation="record write", reason=str(error)))
                backoff_s = min(_BACKOFF_MAX_S, backoff_s * 2)
            else:
                backoff_s = _BACKOFF_MIN_S
                self._some.clear()

    async def _bring_next(self) -> None:
        """Raises `StorageUnavailable`, OSError; what fails goes to the end of the queue."""
        key, owed = next(iter(self._keys.items()))
        # It stays known until it is done: `outlived` asks.
        del self._keys[key]
        self._keys[key] = owed
        if owed.deleted_at is None:
            await self._bring(key)
        else:
            await self._delete(key, owed.deleted_at)
        if self._keys.get(key) is owed:  # else something newer is owed by now
            del self._keys[key]
            await asyncio.to_thread(self._path(key).unlink, missing_ok=True)

    async def _bring(self, key: str) -> None:
        """Raises `StorageUnavailable`."""
        written = False
        while not written:
            ours = await self._mirror.get(key)
            theirs = await self._durable.latest(key)
            if ours is None or (theirs is not None and not _better(ours, theirs)):
                return
            written = await self._durable.put(key, ours.value, expect=theirs)

    async def _delete(self, key: str, deleted_at: float) -> None:
        """Raises `StorageUnavailable`."""
        theirs = await self._durable.latest(key)
        if theirs is not None and _outlived(theirs, deleted_at):
            await self._durable.delete(key)

    def _read_blocking(self) -> dict[str, _Owed]:
        self._folder.mkdir(exist_ok=True)
        found: dict[str, _Owed] = {}
        for path in sorted(self._folder.iterdir()):
            key, _, deleted_at = path.read_bytes().decode(errors="replace").partition("\n")
            try:
                said = float(deleted_at) if deleted_at else None
            except ValueError:
                said = None
            if path == self._path(key):
                found[key] = _Owed(said)
            else:
                path.unlink()  # torn by a loss of power
        return found

    def _path(self, key: str) -> Path:
        # A key may be longer than a file name.
        return self._folder / hashlib.sha256(key.encode()).hexdigest()


def _marker(key: str, deleted_at: float | None) -> str:
    """What stands in the file; a key has no line breaks."""
    return key if deleted_at is None else f"{key}\n{deleted_at!r}"


def _outlived(record: Record, deleted_at: float | None) -> bool:
    """Whether nobody has found the record to be right since it was deleted."""
    return deleted_at is not None and _time(_document(record)) <= deleted_at


def _better(ours: Record, theirs: Record) -> bool:
    """Whether ours was found out later; of links: tells more."""
    mine, other = _document(ours), _document(theirs)
    if mine.get("url") != other.get("url"):
        return False
    if "media_type" in mine:
        return bool(mine["media_type"]) and not other.get("media_type")
    return _time(mine) > _time(other)


def _document(record: Record) -> dict[str, object]:
    try:
        document = json.loads(record.value)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _time(document: dict[str, object]) -> float:
    said = document.get("checked_at", document.get("fetched_at"))
    return said if isinstance(said, int | float) else 0.0
