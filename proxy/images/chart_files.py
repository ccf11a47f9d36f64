"""A Helm chart's files, out of a folder or a `.tgz`, its subcharts within it.

Nothing is unpacked to the disk: only the few files that matter are read, each within
bounds. https://helm.sh/docs/topics/charts/ tells the layout.
"""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from proxy.images.reading import FILE_BYTES_MAX, ImagesError, decoded

_FILES_MAX = 20_000
_BYTES_MAX = 256 * 1024 * 1024
# A chart in a chart in a chart is common; ten of them is an attack.
_DEPTH_MAX = 8


@dataclass(slots=True)
class ChartFiles:
    """One chart: `texts` by path within it (`Chart.yaml`, `templates/x.yaml`)."""

    place: str
    texts: dict[str, str] = field(default_factory=dict)
    subcharts: list[ChartFiles] = field(default_factory=list)


def chart_files(path: Path) -> ChartFiles:
    """Of a folder with a `Chart.yaml`, or of a packed chart. Raises `ImagesError`."""
    budget = _Budget(str(path))
    try:
        if path.is_dir():
            files = _folder(path, budget)
        else:
            with path.open("rb") as file:
                files = _archive(file, str(path), budget)
    except OSError as error:
        raise ImagesError(f"{path}: {error.strerror or error}") from error
    return _chart(files, str(path), budget, depth=0)


class _Budget:
    """What may still be read of one chart, subcharts included."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._files = _FILES_MAX
        self._bytes = _BYTES_MAX

    def file(self) -> None:
        self._files -= 1
        if self._files < 0:
            raise ImagesError(f"{self._place}: has more than {_FILES_MAX} files")

    def data(self, size: int) -> None:
        self._bytes -= size
        if self._bytes < 0:
            raise ImagesError(f"{self._place}: unpacks to more than {_BYTES_MAX // 2**20} MiB")


def _folder(path: Path, budget: _Budget) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = Path(folder, name)
            inside = file.relative_to(path).as_posix()
            budget.file()
            if _matters(inside) and file.is_file():
                with file.open("rb") as opened:
                    files[inside] = opened.read(FILE_BYTES_MAX + 1)
                budget.data(len(files[inside]))
    return files


def _archive(
    file: io.BufferedIOBase | io.BufferedReader, place: str, budget: _Budget
) -> dict[str, bytes]:
    """By path without the first folder, which is the chart's name."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                budget.file()
                # Counted although skipped: it is decompressed all the same.
                budget.data(member.size)
                inside = "/".join(PurePosixPath(member.name).parts[1:])
                if member.isfile() and _matters(inside):
                    opened = archive.extractfile(member)
                    files[inside] = b"" if opened is None else opened.read(FILE_BYTES_MAX + 1)
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        raise ImagesError(f"{place}: is no packed chart: {error}") from error
    return files


def _matters(inside: str) -> bool:
    """Whether a file of a chart, or of one of its subcharts, can name an image."""
    parts = PurePosixPath(inside).parts
    while len(parts) > 2 and parts[0] == "charts":
        parts = parts[2:]
    match parts:
        case ("Chart.yaml" | "values.yaml",):
            return True
        case ("charts", packed):
            return packed.endswith(".tgz")
        case ("templates" | "crds", *_, name):
            return name.endswith((".yaml", ".yml", ".tpl"))
        case _:
            return False


def _chart(files: dict[str, bytes], place: str, budget: _Budget, *, depth: int) -> ChartFiles:
    if depth > _DEPTH_MAX:
        raise ImagesError(f"{place}: has charts in charts in charts")
    if "Chart.yaml" not in files:
        raise ImagesError(f"{place}: has no Chart.yaml, so it is no Helm chart")
    chart = ChartFiles(place)
    nested: dict[str, dict[str, bytes]] = {}
    for inside, data in files.items():
        parts = PurePosixPath(inside).parts
        if parts[0] != "charts":
            chart.texts[inside] = decoded(data, f"{place}/{inside}")
        elif len(parts) == 2:
            below = f"{place}/{inside}"
            packed = _archive(io.BytesIO(data), below, budget)
            chart.subcharts.append(_chart(packed, below, budget, depth=depth + 1))
        else:
            nested.setdefault(parts[1], {})["/".join(parts[2:])] = data
    for name, below_files in nested.items():
        # A folder beside the charts that is none is nobody's mistake.
        if "Chart.yaml" in below_files:
            below = f"{place}/charts/{name}"
            chart.subcharts.append(_chart(below_files, below, budget, depth=depth + 1))
    return chart
