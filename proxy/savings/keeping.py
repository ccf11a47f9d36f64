"""The ledger over restarts: read at the start, written once a minute and at the end.

A file that can't be read, or not in full, costs the numbers in it and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Self

import structlog

from proxy.oci.digest import Digest
from proxy.ports import Clock
from proxy.savings.ledger import Ledger
from proxy.storage.files import write_whole

_EVERY_S = 60.0
_NAME = "savings.json"
_TEMPORARY = "tmp"
_BYTES_MAX = 64 * 1024 * 1024

log = structlog.get_logger("entrepot")


class Savings:
    """Keeps `ledger` in a folder; `async with` reads it and writes it at the end."""

    def __init__(
        self, ledger: Ledger, data_dir: Path, *, clock: Clock, every_s: float = _EVERY_S
    ) -> None:
        self.ledger = ledger
        self.clock = clock
        self._path = data_dir / _NAME
        self._every_s = every_s
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._written: Digest | None = None

    async def __aenter__(self) -> Self:
        document = await asyncio.to_thread(_read, self._path)
        self.ledger.history.load(document, self.clock())
        self._task = asyncio.create_task(self._repeat())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        # Not cancelled: a thread that writes would go on, and might be the last to write.
        self._ending.set()
        if self._task is not None:
            await self._task

    async def _save(self) -> None:
        """Write it, if anything has changed. What can't be written is logged."""
        rendered = self.ledger.history.snapshot(self.clock())
        try:
            self._written = await asyncio.to_thread(_write, self._path, rendered, self._written)
        except OSError as error:
            log.warning("savings not kept", reason=error.strerror or str(error))

    async def _repeat(self) -> None:
        ending = False
        while not ending:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._ending.wait()
            ending = self._ending.is_set()
            await self._save()


def _read(path: Path) -> object:
    try:
        with path.open("rb") as file:
            return json.loads(file.read(_BYTES_MAX))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        log.warning("savings not read", reason=str(error))
        return None


def _write(path: Path, rendered: Callable[[], bytes], written: Digest | None) -> Digest:
    """What `path` holds now. Raises OSError."""
    data = rendered()
    digest = Digest.of(data)
    if digest != written:
        write_whole(path, data, temporary=path.parent / _TEMPORARY)
    return digest
