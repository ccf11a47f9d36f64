"""Whether the disk has room for the rest of a bundle, and what is said where it has none.

Looks at files and changes none.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from proxy.bundles import archive, words
from proxy.bundles.export_files import PARTIAL, beside, part
from proxy.bundles.export_plan import Plan
from proxy.errors import EntrepotError, NoSpace, StorageUnavailable

# A disk that is full, and somebody's share of it that is used up.
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Room:
    """For one bundle at `out`; `form` as in `Export`."""

    def __init__(self, out: Path, plan: Plan, form: str) -> None:
        self._out = out
        self._plan = plan
        self._form = form

    def check(self) -> None:
        """Raises `NoSpace` if there is too little, `OSError`."""
        free = free_bytes(self._out.parent)
        if free is not None and free < self._rest():
            raise self._full(self._rest() - free)

    def failed(self, error: OSError) -> EntrepotError:
        """What to raise for something that could not be written."""
        if error.errno not in _FULL:
            reason = error.strerror or str(error)
            return StorageUnavailable(f"{self._out}: {reason}; what was written stays")
        rest = self._rest()
        try:
            free = free_bytes(self._out.parent) or 0
        except OSError:
            free = 0
        return self._full(rest - free if free < rest else rest)

    def _full(self, lacking: int) -> NoSpace:
        return NoSpace(
            f"{self._out}: no space left on its disk; {words.size(lacking)} more are needed; "
            "the same command goes on from there"
        )

    def _rest(self) -> int:
        """How many bytes of it are still to be written."""
        plan = self._plan
        if self._form == "folder":
            front = archive.front(plan.contents, plan.body, plan.signature)
            whole = plan.blob_bytes + sum(len(body) for _, body in front)
        else:
            whole = plan.archive_bytes
        return max(0, whole - sum(self._there()))

    def _there(self) -> Iterator[int]:
        """The sizes of what is written."""
        if self._form == "folder":
            for folder in (self._out, beside(self._out, PARTIAL)):
                yield from (one.stat().st_size for one in folder.rglob("*") if one.is_file())
            return
        number = 0
        while True:
            path = self._out if self._form == "archive" else part(self._out, number)
            found = [one for one in (path, beside(path, PARTIAL)) if one.is_file()]
            yield from (one.stat().st_size for one in found)
            number += 1
            if not found or self._form == "archive":
                return


def free_bytes(folder: Path) -> int | None:
    """How many may be written there; None where the file system does not tell. Raises
    `OSError`.
    """
    told = os.statvfs(folder)
    return told.f_bavail * told.f_frsize if told.f_blocks else None
