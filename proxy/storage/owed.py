"""Records that could not be written to S3: written there later, if still right.

Without this a blob that was fetched while S3 was away would be stored later, and
no other replica could find it by its tag. Each key is noted in a file, so that a
restart forgets none; the value is the local copy at the time of writing. What
another replica wrote meanwhile is replaced only by what was found out after it.
A marker that can't be written only costs the memory of it over a restart.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from pathlib import Path

from proxy.errors import StorageUnavailable
from proxy.events import StorageFailed
from proxy.ports import Observe, Record, Records

FOLDER = "_records"
_OWED_MAX = 50_000
_BACKOFF_MIN_S = 0.5
_BACKOFF_MAX_S = 30.0


class OwedRecords:
    """What is owed. `start` picks up what an earlier run left."""

    def __init__(
        self, durable: Records, mirror: Records, *, pending: Path, observe: Observe
    ) -> None:
        self._durable = durable
        self._mirror = mirror
        self._folder = pending / FOLDER
        self._observe = observe
        self._keys: dict[str, None] = {}
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._keys)

    async def start(self) -> None:
        """Begin to work. Raises OSError when the markers can't be read."""
        for key in await asyncio.to_thread(self._read_blocking):
            self._keys[key] = None
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
        if key in self._keys or len(self._keys) >= _OWED_MAX:
            return
        self._keys[key] = None
        self._some.set()
        try:
            await asyncio.to_thread(self._path(key).write_text, key)
        except OSError as error:
            self._observe(StorageFailed(operation="pending write", reason=str(error)))

    async def _work(self) -> None:
        backoff_s = _BACKOFF_MIN_S
        while True:
            await self._some.wait()
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1))  # noqa: S311 - jitter
            try:
                while self._keys:
                    key = next(iter(self._keys))
                    await self._bring(key)
                    self._keys.pop(key, None)
                    await asyncio.to_thread(self._path(key).unlink, missing_ok=True)
            except (StorageUnavailable, OSError) as error:
                self._observe(StorageFailed(operation="record write", reason=str(error)))
                backoff_s = min(_BACKOFF_MAX_S, backoff_s * 2)
            else:
                backoff_s = _BACKOFF_MIN_S
                self._some.clear()

    async def _bring(self, key: str) -> None:
        """Raises `StorageUnavailable`."""
        written = False
        while not written:
            ours = await self._mirror.get(key)
            theirs = await self._durable.latest(key)
            if ours is None or (theirs is not None and not _better(ours, theirs)):
                return
            written = await self._durable.put(key, ours.value, expect=theirs)

    def _read_blocking(self) -> list[str]:
        self._folder.mkdir(exist_ok=True)
        return [path.read_text() for path in sorted(self._folder.iterdir())]

    def _path(self, key: str) -> Path:
        # A key may be longer than a file name.
        return self._folder / hashlib.sha256(key.encode()).hexdigest()


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
