"""Records as files below `data_dir`, one a key."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from proxy.ports import Record
from proxy.storage import files

_LIST_BATCH = 512


class DiskRecords:
    """`ports.Records` on a local disk that one process owns."""

    def __init__(self, root: Path) -> None:
        self._root = root
        # One thread, in order: a conditional write reads, compares and writes. And its
        # own, so that a disk that hangs does not take those that others need.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="records")

    async def get(self, key: str) -> Record | None:
        """Raises `StorageUnavailable`."""
        return await asyncio.to_thread(self._get, key)

    async def latest(self, key: str) -> Record | None:
        """There is no copy: the same as `get`."""
        return await self.get(key)

    async def put(
        self, key: str, value: bytes, *, expect: Record | Literal["any"] | None = "any"
    ) -> bool:
        """Raises `StorageUnavailable` (`NoSpace`)."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, self._put, key, value, expect)

    async def delete(self, key: str) -> None:
        """Raises `StorageUnavailable`."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._delete, key)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[str]:
        """Keys in ASCII order, read from the disk in batches. Raises `StorageUnavailable`."""
        walk = self._walk(prefix, after)
        while batch := await asyncio.to_thread(_take, walk, _LIST_BATCH):
            for key in batch:
                yield key

    def _get(self, key: str) -> Record | None:
        try:
            value = self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise files.translate(error, f"reading {key}") from error
        return Record(value, hashlib.blake2b(value, digest_size=16).hexdigest())

    def _put(self, key: str, value: bytes, expect: Record | Literal["any"] | None) -> bool:
        if expect != "any" and self._get(key) != expect:
            return False
        try:
            files.write_whole(self._path(key), value, temporary=self._root / "tmp")
        except OSError as error:
            raise files.translate(error, f"writing {key}") from error
        return True

    def _delete(self, key: str) -> None:
        try:
            self._path(key).unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise files.translate(error, f"deleting {key}") from error

    def _path(self, key: str) -> Path:
        # Keys are built from parsed values; this is the second lock on that door.
        if any(part in {"", ".", ".."} for part in key.split("/")) or "\0" in key:
            raise ValueError(f"not a record key: {key!r}")
        return self._root / key

    def _walk(self, prefix: str, after: str) -> Iterator[str]:
        """Depth first. A folder sorts as its name with a slash, as keys do."""
        try:
            with os.scandir(self._root / prefix) as entries:
                names = sorted(
                    entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name
                    for entry in entries
                )
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise files.translate(error, f"listing {prefix}") from error
        for name in names:
            key = f"{prefix}/{name}"
            if not name.endswith("/"):
                if key > after:
                    yield key
            elif key > after or after.startswith(key):
                yield from self._walk(key[:-1], after)


def _take(walk: Iterator[str], count: int) -> list[str]:
    return [key for _, key in zip(range(count), walk, strict=False)]
