"""Turns the rounds' numbers into one table, with the limits beside them.

Medians over rounds. A ratio to "straight" is taken inside each round first,
so that a machine that is slower for a while is so for both. A limit says pass
or fail for Entrepot, and nothing follows from it but that word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from tests.bench.measured import Measured
from tests.bench.row import Line, Row

Round = dict[str, Measured]
"""What was measured in one round, by system."""

SUBJECT = "Entrepot"


class Entry(TypedDict, total=False):
    """One line of the table as data: plain, so that it can be kept as JSON."""

    key: str
    part: str
    row: str
    form: str
    less: bool
    limit: float | None
    limit_text: str
    verdict: str | None
    median: dict[str, float]
    spread: dict[str, list[float]]
    count: dict[str, int]
    edges: dict[str, str]


def results(rounds: Sequence[Mapping[str, Round]], rows: Sequence[Row]) -> list[Entry]:
    """`rounds`: by row's name, then by system."""
    return [
        _entry(row, line, [one[row.name] for one in rounds if row.name in one])
        for row in rows
        for line in row.lines
    ]


def _entry(row: Row, line: Line, rounds: Sequence[Round]) -> Entry:
    samples: dict[str, list[float]] = {}
    edges: dict[str, str] = {}
    for one in rounds:
        for name, measured in one.items():
            value = line.of(measured, one.get("straight"))
            if value is not None:
                samples.setdefault(name, []).append(value)
                if line.key in measured.edges:
                    edges[name] = measured.edges[line.key]
    middle = {name: line.over(values) for name, values in samples.items()}
    limit = _limit(line, middle)
    own = middle.get(SUBJECT)
    verdict = None
    if limit is not None and own is not None:
        good = own <= limit if line.less else own >= limit
        # Given up before its end: what more it would have taken nobody knows.
        given_up = line.less and edges.get(SUBJECT) == "≥"
        verdict = "pass" if good and not given_up else "FAIL"
    return Entry(
        key=line.key,
        part=row.name,
        row=line.title,
        form=line.form,
        less=line.less,
        limit=limit,
        limit_text=_limit_text(line, limit),
        verdict=verdict,
        median=middle,
        spread={name: [min(values), max(values)] for name, values in samples.items()},
        count={name: len(values) for name, values in samples.items()},
        edges=edges,
    )


def _limit(line: Line, middle: Mapping[str, float]) -> float | None:
    bounds = [
        factor if system is None else factor * middle[system]
        for factor, system in line.limits
        if system is None or system in middle
    ]
    if not bounds:
        return None
    return min(bounds) if line.less else max(bounds)


def _limit_text(line: Line, limit: float | None) -> str:
    if not line.limits:
        return ""
    sign = "≤" if line.less else "≥"
    said = ", ".join(
        line.form.format(factor) if system is None else f"{factor:g} of {system}"
        for factor, system in line.limits
    )
    relative = any(system for _, system in line.limits)
    found = f" = {line.form.format(limit)}" if relative and limit is not None else ""
    return f"{sign} {said}{found}"


def markdown(table: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    """The table as a person reads it; `columns` are systems, in order."""
    lines = [
        "| | " + " | ".join(columns) + f" | limit for {SUBJECT} | |",
        "|" + "---|" * (len(columns) + 3),
    ]
    for entry in table:
        cells = [cell(entry, name, spread=True) for name in columns]
        cells += [str(entry["limit_text"]), str(entry["verdict"] or "")]
        lines.append(f"| {entry['row']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(entry: Mapping[str, object], name: str, *, spread: bool) -> str:
    """One system's number, with its bound's sign and, if wanted, its spread; empty if none."""
    middle, form = entry["median"], entry["form"]
    bounds, edges = entry["spread"], entry.get("edges", {})
    assert isinstance(middle, dict)
    assert isinstance(form, str)
    assert isinstance(bounds, dict)
    assert isinstance(edges, dict)
    if name not in middle:
        return ""
    value = f"{edges[name]} " if name in edges else ""
    value += form.format(middle[name])
    low, high = (form.format(bound) for bound in bounds[name])
    return f"{value} ({low}..{high})" if spread and low != high else value
