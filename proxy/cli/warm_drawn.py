"""A warm-up as it goes on: bars on a terminal, lines elsewhere.

One bar for all, one for each image that is being brought, one for each of its layers
that is on its way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from proxy.cli.amounts import several, size
from proxy.cli.images import told_missing

Line = dict[str, Any]

_PULSE_EVERY_S = 10.0
_IMAGE_COLUMNS = 48
_OF_COLUMNS = 20


def plain(told: Iterable[Line], say: Callable[[str], None]) -> Line:
    """Each image when it is done, and now and then how far all is; the last line."""
    line: Line = {}
    said_at = time.monotonic()
    for line in told:
        if line.get("state") in {"complete", "incomplete"}:
            for text in _result(line):
                say(text)
        elif "pulse" in line and time.monotonic() - said_at >= _PULSE_EVERY_S:
            said_at = time.monotonic()
            pulse = line["pulse"]
            fetched = size(pulse["fetched_bytes"])
            images = several(pulse["images"], "image")
            say(f"{pulse['finished']} of {images}, {fetched} fetched so far")
    return line


def bars(told: Iterable[Line], console: Console | None = None) -> Line:
    """The same with bars; the last line."""
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    line: Line = {}
    with progress:
        drawn = _Drawn(progress)
        for line in told:
            drawn.show(line)
    return line


class _Drawn:
    """The bar of all, and those of what is under way."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._all = progress.add_task("", total=None)
        self._count = self._finished = 0
        self._images: dict[str, TaskID] = {}
        self._layers: dict[tuple[str, str], TaskID] = {}
        # What has been seen of the layers of an image that is under way, and of all: sizes
        # and how much is here, in bytes.
        self._sizes: dict[str, dict[str, tuple[int, int]]] = {}
        self._total = self._done = 0

    def show(self, line: Line) -> None:
        """One thing that happened."""
        if "pulse" in line:
            self._count = line["pulse"]["images"]
            self._update_all()
        elif "layer" in line:
            self._layer(line)
        elif line.get("state") == "begun":
            name = line["image"]
            self._images[name] = self._progress.add_task(_cut(name, _IMAGE_COLUMNS), total=None)
        elif "state" in line:
            self._end(line)

    def _layer(self, line: Line) -> None:
        image, layer = line["image"], line["layer"]
        key, here = (image, layer["digest"]), line.get("here", 0)
        if line["state"] == "fetching":
            if key not in self._layers:
                of = _cut(image.rpartition("/")[2], _OF_COLUMNS)
                told = f"  {of}  {layer['kind']} {layer['digest'][7:19]}"
                self._layers[key] = self._progress.add_task(told, total=layer["size"])
            self._progress.update(self._layers[key], completed=here)
        elif key in self._layers:
            self._progress.remove_task(self._layers.pop(key))
        self._add(image, layer["digest"], layer["size"], here)
        self._update_all()

    def _add(self, image: str, digest: str, size: int, here: int) -> None:
        sizes = self._sizes.setdefault(image, {})
        before = sizes.get(digest, (0, 0))
        sizes[digest] = (size, here)
        self._total += size - before[0]
        self._done += here - before[1]
        if image in self._images:
            total, done = (sum(one) for one in zip(*sizes.values(), strict=True))
            self._progress.update(self._images[image], total=total, completed=done)

    def _update_all(self) -> None:
        told = f"{self._finished} of {several(self._count, 'image')}"
        total = self._total or None
        self._progress.update(self._all, description=told, total=total, completed=self._done)

    def _end(self, line: Line) -> None:
        """May come twice: it was complete, and then something of it was evicted."""
        name = line["image"]
        task = self._images.pop(name, None)
        if task is not None:
            self._progress.remove_task(task)
            self._finished += 1
            self._update_all()
        self._sizes.pop(name, None)
        for key in [key for key in self._layers if key[0] == name]:
            self._progress.remove_task(self._layers.pop(key))
        for text in _result(line):
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _result(line: Line) -> Iterable[str]:
    if line["state"] == "incomplete":
        return told_missing(line)
    fetched = line["fetched_bytes"]
    brought = f"{size(fetched)} fetched" if fetched else "was here"
    beside = ", ".join(line["absent_platforms"])
    absent = f"; it has nothing for {beside}" if beside else ""
    return [f"{line['image']}: complete, {size(line['bytes'])}, {brought}{absent}"]


def _cut(name: str, columns: int) -> str:
    return name if len(name) <= columns else "…" + name[1 - columns :]
