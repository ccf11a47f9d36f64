"""Turns the rounds' numbers into one table, with the limits beside them.

Medians over rounds. A ratio to "straight" is taken inside each round first,
so that a machine that is slower for a while is so for both. A limit says pass
or fail for Entrepot, and nothing follows from it but that word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.rounds import PARTS, Measured

Round = dict[str, Measured]
"""One round: what was measured, by system."""

SUBJECT = "Entrepot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    `value(measured, straight)` in one round, None if it can't be told.
    `over` takes the rounds' values to one. `limits`: (factor, system) pairs;
    system None makes the factor the limit itself.
    """

    part: str
    title: str
    value: Callable[[Measured, Measured | None], float | None]
    form: str = "{:.2f}"
    limits: tuple[tuple[float, str | None], ...] = ()
    over: Callable[[Sequence[float]], float] = median


def _plain(name: str) -> Callable[[Measured, Measured | None], float | None]:
    return lambda measured, _: measured.values.get(name)


def _first_byte_ms(measured: Measured, straight: Measured | None) -> float | None:
    first = measured.values.get("stampede_first_byte_s")
    own = straight.values.get("first_byte_s") if straight else None
    return None if first is None or own is None else (first - own) * 1000


def _stampede_time(measured: Measured, straight: Measured | None) -> float | None:
    """Over what no proxy can beat: one fetch, or all the copying."""
    took = measured.values.get("stampede_s")
    fetch = straight.values.get("cold_s") if straight else None
    copy = straight.values.get("copy_s") if straight else None
    return None if took is None or fetch is None or copy is None else took / max(fetch, copy)


def _cold_time(measured: Measured, straight: Measured | None) -> float | None:
    took = measured.values.get("cold_s")
    fetch = straight.values.get("cold_s") if straight else None
    return None if took is None or fetch is None else took / fetch


ROWS = (
    Row(
        part="stampede",
        title="Stampede: upstream bytes ÷ blob bytes",
        value=_plain("stampede_upstream"),
        form="{:.3f}",
        limits=((1.01, None),),
    ),
    Row(
        part="stampede",
        title="Stampede: first byte, p99 of clients, over upstream's own (ms)",
        value=_first_byte_ms,
        form="{:.0f}",
        limits=((100, None),),
    ),
    Row(
        part="stampede",
        title="Stampede: all done ÷ max(one fetch, copying it all)",
        value=_stampede_time,
        limits=((1.15, None),),
    ),
    Row(
        part="warm",
        title="Warm blob: CPU-s per GB",
        value=_plain("warm_cpu_s_per_gb"),
        form="{:.3f}",
        limits=((1.3, "nginx"), (0.4, "docker-registry")),
    ),
    Row(part="warm", title="Warm blob: GB/s from one core", value=_plain("warm_gb_s")),
    Row(
        part="cold",
        title="Cold single pull ÷ straight",
        value=_cold_time,
        limits=((1.10, None),),
    ),
    Row(
        part="any",
        title="Peak memory over all of this, most of all rounds (MB)",
        value=_plain("peak_rss_mb"),
        form="{:.0f}",
        limits=((130, None),),
        over=max,
    ),
    Row(
        part="requests",
        title="Warm 10 KB blob: requests/s from one core",
        value=_plain("small_blob_rps"),
        form="{:,.0f}",
    ),
    Row(
        part="requests",
        title="Warm manifest by digest: requests/s from one core",
        value=_plain("manifest_digest_rps"),
        form="{:,.0f}",
    ),
    Row(
        part="requests",
        title="Warm manifest by tag: requests/s from one core",
        value=_plain("manifest_tag_rps"),
        form="{:,.0f}",
    ),
)


def results(rounds: Sequence[Round], parts: Sequence[str]) -> list[dict[str, object]]:
    """The table as data: per row the title, each system's number, spread, limit and verdict."""
    systems = sorted({name for one in rounds for name in one})
    table: list[dict[str, object]] = []
    for row in ROWS:
        if row.part in PARTS and row.part not in parts:
            continue
        samples = {
            name: [
                value
                for one in rounds
                if name in one and (value := row.value(one[name], one.get("straight"))) is not None
            ]
            for name in systems
        }
        middle = {name: row.over(values) for name, values in samples.items() if values}
        limit = _limit(row, middle)
        own = middle.get(SUBJECT)
        verdict = None if limit is None or own is None else "pass" if own <= limit else "FAIL"
        table.append(
            {
                "row": row.title,
                "limit": limit,
                "limit_text": _limit_text(row, limit),
                "verdict": verdict,
                "form": row.form,
                "median": middle,
                "spread": {name: [min(v), max(v)] for name, v in samples.items() if v},
            }
        )
    return table


def markdown(table: Sequence[dict[str, object]], columns: Sequence[str]) -> str:
    """The table as a person reads it; `columns` are systems, in order."""
    lines = [
        "| | " + " | ".join(columns) + f" | limit for {SUBJECT} | |",
        "|" + "---|" * (len(columns) + 3),
    ]
    for row in table:
        middle = row["median"]
        spread = row["spread"]
        form = row["form"]
        assert isinstance(middle, dict)
        assert isinstance(spread, dict)
        assert isinstance(form, str)
        cells = []
        for name in columns:
            if name not in middle:
                cells.append("")
                continue
            low, high = (form.format(bound) for bound in spread[name])
            value = form.format(middle[name])
            cells.append(value if low == high else f"{value} ({low}..{high})")
        cells += [str(row["limit_text"]), str(row["verdict"] or "")]
        lines.append(f"| {row['row']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _limit(row: Row, middle: dict[str, float]) -> float | None:
    bounds = [
        factor if system is None else factor * middle[system]
        for factor, system in row.limits
        if system is None or system in middle
    ]
    return min(bounds) if bounds else None


def _limit_text(row: Row, limit: float | None) -> str:
    if not row.limits:
        return ""
    said = ", ".join(
        row.form.format(factor) if system is None else f"{factor:g} of {system}"
        for factor, system in row.limits
    )
    relative = any(system for _, system in row.limits)
    return f"≤ {said}" + (f" = {row.form.format(limit)}" if relative and limit is not None else "")
