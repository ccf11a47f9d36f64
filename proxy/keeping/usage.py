"""`du`: who needs how much of the disk, and what of it others need, too.

Which repositories need a blob is only known at the end of a walk over all tags. It is
gathered in a database in a file that has no name any more, so that neither memory grows
with it nor a kill leaves it behind.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from proxy.backing import Backing
from proxy.errors import StorageUnavailable
from proxy.keeping.recorded import Recorded
from proxy.keeping.shelf import Shelf

_TABLE = """
CREATE TABLE needs (
    blob BLOB, upstream TEXT, repository TEXT, size INTEGER,
    PRIMARY KEY (blob, upstream, repository)
) WITHOUT ROWID
"""
# A blob is its owner's own while nobody else needs it.
_SUMS = """
SELECT upstream, repository, COUNT(*),
    SUM(CASE WHEN owners = 1 THEN size ELSE 0 END), SUM(CASE WHEN owners > 1 THEN size ELSE 0 END)
FROM (SELECT DISTINCT blob, upstream, repository, size FROM {source})
JOIN (SELECT blob, COUNT(*) AS owners FROM (SELECT DISTINCT blob, upstream, repository
      FROM {source}) GROUP BY blob) USING (blob)
GROUP BY upstream, repository ORDER BY upstream, repository
"""
_BY_REPOSITORY = _SUMS.format(source="needs")
_BY_UPSTREAM = _SUMS.format(source="(SELECT blob, upstream, '' AS repository, size FROM needs)")
_TOTAL = "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM (SELECT DISTINCT blob, size FROM needs)"


class Usage:
    """Reads. Raises `StorageUnavailable`."""

    def __init__(
        self, backing: Backing, *, shelf: Shelf, recorded: Recorded, folder: Path, groups: list[str]
    ) -> None:
        """`folder`: on the disk that has room."""
        self._backing = backing
        self._shelf = shelf
        self._recorded = recorded
        self._folder = folder
        self._groups = groups

    async def lines(self) -> AsyncIterator[dict[str, object]]:
        """By upstream, then by repository, then all together; bytes on this machine."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="usage") as thread:
            try:
                table = await loop.run_in_executor(thread, _table, self._folder)
                try:
                    async for named in self._recorded.all():
                        who = (named.upstream.name, str(named.repository))
                        rows = [
                            (f"{part.key.group}/{part.key.digest}", *who, part.size)
                            for root in named.roots
                            for part in (await self._shelf.image(named.upstream, root)).parts
                            if part.here
                        ]
                        await loop.run_in_executor(thread, _add, table, rows)
                    for query in (_BY_UPSTREAM, _BY_REPOSITORY):
                        for row in await loop.run_in_executor(thread, _all, table, query):
                            yield _row(row)
                    ((blobs, size),) = await loop.run_in_executor(thread, _all, table, _TOTAL)
                finally:
                    await loop.run_in_executor(thread, table.close)
            except (sqlite3.Error, OSError) as error:
                raise StorageUnavailable(f"adding up in {self._folder}: {error}") from error
        yield await self._total(int(str(blobs)), int(str(size)))

    async def _total(self, blobs: int, size: int) -> dict[str, object]:
        room = self._backing.local.blobs.room
        stored = None
        if self._backing.fleet.durable is not None:
            stored = 0
            for group in self._groups:
                async for blob in self._backing.fleet.durable.inventory(group):
                    stored += blob.size
        return {
            "done": True,
            "tagged_bytes": size,
            "tagged_blobs": blobs,
            "here_bytes": room.used,
            "counted": room.counted,
            "unfinished_bytes": room.left,
            "limit_bytes": room.limit,
            "s3_bytes": stored,
        }


def _table(folder: Path) -> sqlite3.Connection:
    handle, name = tempfile.mkstemp(dir=folder)
    os.close(handle)
    # Whoever runs a query is the one thread.
    table = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
    table.execute("PRAGMA journal_mode = OFF")
    table.execute("PRAGMA synchronous = OFF")
    table.execute(_TABLE)
    Path(name).unlink()
    return table


def _add(table: sqlite3.Connection, rows: list[tuple[str, str, str, int]]) -> None:
    table.executemany("INSERT OR IGNORE INTO needs VALUES (?, ?, ?, ?)", rows)


def _all(table: sqlite3.Connection, query: str) -> list[tuple[object, ...]]:
    return table.execute(query).fetchall()


def _row(row: tuple[object, ...]) -> dict[str, object]:
    upstream, repository, blobs, own, shared = row
    return {
        "upstream": upstream,
        "repository": repository or None,
        "blobs": blobs,
        "unique_bytes": own,
        "shared_bytes": shared,
    }
