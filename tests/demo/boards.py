"""The dashboards as files: their panels, and the queries with Grafana's variables filled in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "grafana" / "dashboards"
BOARDS = tuple(sorted(FOLDER.glob("*.json")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel; `queries` are (expression, legend)."""

    board: str
    row: str
    title: str
    kind: str
    unit: str
    description: str
    queries: tuple[tuple[str, str], ...]


def panels(board: Path) -> Iterator[Panel]:
    """In the order in which they are shown; rows are told by their panels."""
    row = ""
    for one in json.loads(board.read_text())["panels"]:
        if one["type"] == "row":
            row = one["title"]
            continue
        yield Panel(
            board=board.stem,
            row=row,
            title=one["title"],
            kind=one["type"],
            unit=one["fieldConfig"]["defaults"].get("unit", "s"),
            description=one["description"],
            queries=tuple((q["expr"], q["legendFormat"]) for q in one["targets"]),
        )


def filled(expr: str, *, rate: str, whole: str) -> str:
    """The expression as Grafana sends it with "All" chosen everywhere; `rate` and
    `whole` are the windows (`15s`) of `$__rate_interval` and of the time shown.
    """
    for name, value in (("$__rate_interval", rate), ("$__range", whole)):
        expr = expr.replace(name, value)
    for name in ("$job", "$instance", "$upstream"):
        expr = expr.replace(name, ".*")
    return expr
