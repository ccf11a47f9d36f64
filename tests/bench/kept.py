"""Results of whole runs, kept in git as small JSON files in `results/`.

Medians, spreads and counts with the machine's description; not every sample.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

from tests.bench.machine import Machine
from tests.bench.report import Entry

VERSION = 1
FOLDER = Path(__file__).with_name("results")
_NUMBERS = 5  # significant digits
BUSY = "the machine was busy"
"""How a note begins that says so."""


class Result(TypedDict):
    """A run. `columns`: the systems that have any number, in order."""

    version: int
    machine: Machine
    rounds: int
    columns: list[str]
    table: list[Entry]
    notes: list[str]
    faults: list[str]


def write(path: Path, result: Result) -> None:
    """As JSON, numbers shortened to what they are good for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_short(result), indent=1, ensure_ascii=False) + "\n")


def keep(result: Result) -> Path:
    """Write it under a name of its own: when, and of which commit."""
    when = str(result["machine"]["date"]).replace(":", "").replace(" ", "-")
    commit = str(result["machine"]["commit"]).rstrip("+")
    path = FOLDER / f"{when}-{commit}.json"
    write(path, result)
    return path


def read(path: Path) -> Result:
    """Raises `ValueError` for another version's."""
    result: Result = json.loads(path.read_text())
    if result["version"] != VERSION:
        raise ValueError(f"{path.name}: version {result['version']}, not {VERSION}")
    return result


def newest() -> Path | None:
    """The last whole run; None if none was kept."""
    return max(FOLDER.glob("20*.json"), default=None)


def sampling(rounds: int) -> str:
    """Of how many rounds the numbers are, in words."""
    return "one round" if rounds == 1 else f"medians of {rounds} rounds"


def busy(result: Result) -> str | None:
    """The note that says that the machine had other work when the run began."""
    return next((note for note in result["notes"] if note.startswith(BUSY)), None)


def _short(value: object) -> object:
    match value:
        case dict():
            return {key: _short(one) for key, one in value.items()}
        case list():
            return [_short(one) for one in value]
        case float():
            return float(f"{value:.{_NUMBERS}g}")
        case _:
            return value
