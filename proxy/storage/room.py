"""How much room there is on the disk, and making more.

Two bounds: `bytes_max` for what is kept (None: no bound of ours), and
`free_bytes_min` of the file system that is never taken, whoever else fills it.
What is in use is a running number; after an unclean stop it is counted anew in
the background while serving goes on. Spools that interrupted fills left count,
too; they are the first to go.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from proxy.cache.eviction import SAMPLE_MIN, Candidate, choose
from proxy.cache.journal import SUFFIX as JOURNAL_SUFFIX
from proxy.storage.files import sync_folder

# Make a little more room than asked, so that not every blob evicts.
_SLACK_SHARE = 0.01
_BARREN_ROUNDS_MAX = 4
_FOLDERS_A_SAMPLE_MIN = 8
# An abandoned spool may be resumed by the next request; a forgotten one not.
_SPOOL_IDLE_S = 600.0


class Room:
    """Accounting of one `data_dir`. Numbers belong to the event loop."""

    def __init__(self, root: Path, *, bytes_max: int | None, free_bytes_min: int) -> None:
        self._root = root
        self._bytes_max = bytes_max
        self._free_bytes_min = free_bytes_min
        self._evicting = threading.Lock()
        self._random = random.Random()  # noqa: S311 - a sample, not a secret
        self.used = 0
        self.left = 0
        self.reserved = 0
        # Of what is in use so much stays whatever happens; found out now and then.
        self.stays = 0
        self.counted = True

    def lacking(self, size: int) -> int:
        """How many bytes must go before `size` more fit; 0 or less: they fit.

        Raises OSError.
        """
        file_system = os.statvfs(self._root)
        free = file_system.f_bavail * file_system.f_frsize
        lacking = size + self._free_bytes_min - free
        if self._bytes_max is not None:
            taken = self.used + self.left + self.reserved
            lacking = max(lacking, taken + size - self._bytes_max)
        return lacking

    @property
    def limit(self) -> int:
        """How many bytes may be kept, as the file system is now; 0 if it can't be asked."""
        try:
            file_system = os.statvfs(self._root)
        except OSError:
            return 0
        free = file_system.f_bavail * file_system.f_frsize
        fits = max(0, self.used + self.left + self.reserved + free - self._free_bytes_min)
        return fits if self._bytes_max is None else min(fits, self._bytes_max)

    def hopeless(self, lacking: int) -> bool:
        """Whether dropping all that may go would not make up for it: then nothing goes."""
        return lacking > self.used - min(self.used, self.stays) + self.left

    def reserve(self, size: int, *, left: int) -> None:
        """Set aside (or, negative, give back); `left` of it is an abandoned spool's."""
        self.reserved += size
        self.add_left(-left)

    def add(self, size: int) -> None:
        """Blobs came (or, negative, went)."""
        self.used = max(0, self.used + size)

    def add_left(self, size: int) -> None:
        """Spools were abandoned (or, negative, resumed or removed)."""
        self.left = max(0, self.left + size)

    # --- counting ------------------------------------------------------------------------

    def load_blocking(self) -> bool:
        """Take over the number a clean stop left; False if it must be counted."""
        path = self._root / "usage"
        self.left = sum(c.size for c in _files(self._root / "spool", by_change=True))
        try:
            document = json.loads(path.read_bytes())
            path.unlink()
            # Back after a power cut, it would tell of long ago.
            sync_folder(self._root)
        except (OSError, ValueError, RecursionError):
            return False
        match document:
            case {"v": 1, "bytes": int(used)} if used >= 0:
                self.used = used
                return True
            case _:
                return False

    def save_blocking(self) -> None:
        """Leave the number for the next start. Raises OSError."""
        (self._root / "usage").write_text(json.dumps({"v": 1, "bytes": self.used}))

    def count_blocking(self) -> int:
        """Bytes of all stored blobs, by looking at each."""
        total = 0
        for group in self.groups():
            for folder in self.folders(group):
                for candidate in _files(folder):
                    total += candidate.size
        return total

    def groups(self) -> list[str]:
        """The sharing groups that have blobs."""
        return _folder_names(self._root / "blobs")

    def folders(self, group: str) -> list[Path]:
        """The fan-out folders of a group."""
        base = self._root / "blobs" / group
        return [
            base / algorithm / name
            for algorithm in _folder_names(base)
            for name in _folder_names(base / algorithm)
        ]

    # --- making room -----------------------------------------------------------------------

    def evict_blocking(self, need: int, in_use: Callable[[str], bool]) -> list[tuple[str, int]]:
        """Remove files until `need` bytes are free or nothing helps; what was removed.

        Runs in a thread, one at a time; what is `in_use` stays. Raises OSError if
        nothing can be removed.
        """
        dropped: list[tuple[str, int]] = []
        with self._evicting:
            need += int(_SLACK_SHARE * (self._bytes_max or 0))
            for candidate in self._idle_spools():
                need -= _unlink(candidate, dropped)
                if need <= 0:
                    return dropped
            barren = 0
            while need > 0 and barren < _BARREN_ROUNDS_MAX:
                # Where nearly all is pinned, a wider look finds what is not.
                sample = [c for c in self._sample(4**barren) if not in_use(c.path)]
                chosen = choose(sample, need=need, now=time.time())
                freed = sum(_unlink(c, dropped) for c in chosen)
                need -= freed
                barren = 0 if freed else barren + 1
        return dropped

    def remove_idle_spools_blocking(self, age_s: float) -> int:
        """Remove what no fill has touched for `age_s`; how many bytes. Raises OSError."""
        return sum(_unlink(candidate, []) for candidate in self._idle_spools(age_s))

    def _idle_spools(self, age_s: float = _SPOOL_IDLE_S) -> list[Candidate]:
        before = time.time() - age_s
        spools = list(_files(self._root / "spool", by_change=True))
        # A slow fill writes its journal seldom: it is as old as its spool.
        changed_at = {c.path: c.used_at for c in spools}
        idle = [
            c
            for c in spools
            if changed_at.get(c.path.removesuffix(JOURNAL_SUFFIX), c.used_at) < before
        ]
        return sorted(idle, key=lambda candidate: candidate.used_at)

    def _sample(self, times: int) -> list[Candidate]:
        """Files at random, spread over folders, so many times the usual number; all there
        are in a small store.
        """
        folders = [folder for group in self.groups() for folder in self.folders(group)]
        self._random.shuffle(folders)
        sample: list[Candidate] = []
        for scanned, folder in enumerate(folders):
            if len(sample) >= SAMPLE_MIN * times and scanned >= _FOLDERS_A_SAMPLE_MIN:
                break
            try:
                names = os.listdir(folder)
            except FileNotFoundError:
                continue
            if len(names) > SAMPLE_MIN:
                names = self._random.sample(names, SAMPLE_MIN)
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    sample.append(_candidate(str(folder / name), by_change=False))
        return sample


def _candidate(path: str, *, by_change: bool) -> Candidate:
    stat = os.stat(path)
    if by_change:
        # A spool may have holes.
        on_disk = min(stat.st_size, stat.st_blocks * 512)
        return Candidate(path, on_disk, stat.st_mtime, stat.st_mtime)
    return Candidate(path, stat.st_size, stat.st_mtime, stat.st_atime)


def _files(folder: Path, *, by_change: bool = False) -> Iterator[Candidate]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            yield _candidate(str(folder / name), by_change=by_change)


def _folder_names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except FileNotFoundError:
        return []


def _unlink(candidate: Candidate, dropped: list[tuple[str, int]]) -> int:
    """Bytes freed."""
    try:
        os.unlink(candidate.path)
    except FileNotFoundError:
        return 0
    dropped.append((candidate.path, candidate.size))
    return candidate.size
