"""An export as it goes on: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from proxy.cli.amounts import size as told_size

_LINE_EVERY_S = 10.0


class Lines:
    """Says on stderr how far it is."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._size = 0
        self._written = 0
        self._said_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        """Nothing to end."""

    def say(self, text: str) -> None:
        """Something that a person should know."""
        typer.echo(text, err=True)

    def begin(self, name: str, size: int) -> None:
        """From now on `size` bytes are written."""
        self._size, self._said_at = size, self._monotonic()
        self.say(f"writing {name}, {told_size(size)}")

    def wrote(self, count: int) -> None:
        """So many more bytes are there."""
        self._written += count
        if self._monotonic() - self._said_at >= _LINE_EVERY_S:
            self._said_at = self._monotonic()
            self.say(f"{told_size(self._written)} of {told_size(self._size)}")


class Bar:
    """A bar on stderr; what is said goes above it."""

    def __init__(self, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("planning", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Something that a person should know."""
        self._progress.console.print(text, markup=False, highlight=False)

    def begin(self, name: str, size: int) -> None:
        """From now on `size` bytes are written."""
        self._progress.update(self._task, description=name, total=size)

    def wrote(self, count: int) -> None:
        """So many more bytes are there."""
        self._progress.update(self._task, advance=count)
