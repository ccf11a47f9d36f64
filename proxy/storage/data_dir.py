"""The folder everything lives in: made, checked and locked before anything is read."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path

from proxy.cache import keys
from proxy.errors import StartupError

_FOLDERS = ("blobs", "repos", "spool", "pending", "tmp")


class DataDir:
    """One process owns a `data_dir`; the lock is the kernel's and dies with it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock_fd = -1

    def open_blocking(self) -> None:
        """Raises `StartupError` when it can't be used."""
        try:
            self._open()
        except StartupError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise StartupError(f"data_dir {self.root} can't be used: {error.strerror}") from error

    def _open(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self._lock_fd = os.open(self.root / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartupError(
                f"data_dir {self.root} is in use by another entrepot; give each its own"
            ) from None
        for name in _FOLDERS:
            (self.root / name).mkdir(exist_ok=True)
        self._check_layout()
        # Half-written files of a killed process; nothing refers to them.
        for leftover in (self.root / "tmp").iterdir():
            with contextlib.suppress(OSError):
                leftover.unlink()

    def _check_layout(self) -> None:
        path = self.root / keys.LAYOUT
        try:
            version = json.loads(path.read_bytes()).get("v")
        except FileNotFoundError:
            path.write_text(json.dumps({"v": keys.LAYOUT_VERSION}))
            return
        except (ValueError, AttributeError, RecursionError):
            # Torn by a power cut at the very first start; the folders tell the same.
            path.write_text(json.dumps({"v": keys.LAYOUT_VERSION}))
            return
        if version != keys.LAYOUT_VERSION:
            raise StartupError(
                f"data_dir {self.root} has layout {version}; this version reads "
                f"layout {keys.LAYOUT_VERSION}"
            )

    def close(self) -> None:
        """Give the lock back."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
