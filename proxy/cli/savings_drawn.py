"""Savings as lines of text: sums, a chart over time, a table. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from proxy.cli.amounts import size

_COUNTED = (
    "pulls",
    "pulls_saved",
    "served_bytes",
    "fetched_bytes",
    "ahead_bytes",
    "saved_bytes",
    "saved_s",
)
_TABLES = ("upstreams", "images", "clients")
_LISTED = {"upstream": "upstreams", "image": "images", "client": "clients"}
_BAR_MAX = 40
_STEPS_MAX = 31


def summed(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The documents of several replicas as one; at least one, all of the same window."""
    if len(documents) == 1:
        return documents[0]
    whole: dict[str, Any] = dict(documents[0])
    whole["since"] = min(one["since"] for one in documents)
    whole["until"] = max(one["until"] for one in documents)
    whole["total"] = _added([one["total"] for one in documents])
    for table in _TABLES:
        told = [one[table] for one in documents if one[table] is not None]
        rows = [row for rows in told for row in rows]
        whole[table] = _grouped(rows, "name") if told else None
        if told:
            whole[table].sort(key=lambda row: (-row["saved_bytes"], row["name"]))
    steps = _grouped([step for one in documents for step in one["series"]], "at")
    whole["series"] = sorted(steps, key=lambda step: float(step["at"]))
    return whole


def drawn(told: dict[str, Any], by: str, *, top: int, columns: int, blocks: bool) -> Iterator[str]:
    """Lines of at most about `columns`, longer only for a long name. `blocks`: draw with
    what only a terminal shows well.
    """
    total = told["total"]
    since = datetime.fromtimestamp(told["since"], UTC)
    yield f"saved       {told['window']}, since {since:%Y-%m-%d %H:%M} UTC"
    yield f"pulls       {_pulls(total)}"
    share = _share(_saved(total), total["served_bytes"])
    yield (
        f"bytes       {size(_saved(total))}: {size(total['served_bytes'])} served, "
        f"{size(_waited_for(total))} fetched{_ahead(total)}{share}"
    )
    yield f"time        {span(total['saved_s'])} that clients did not wait, about"
    mark = "█" if blocks else "#"
    width = max(10, min(_BAR_MAX, columns - 30))
    if told["series"]:
        yield ""
        yield from _chart(told["series"], told["step_s"], told["until"], mark * width)
    yield ""
    yield from _table(told[_LISTED[by]], by, top=top, bar=mark * max(5, min(20, columns - 90)))


def span(seconds: float) -> str:
    """Seconds for people."""
    for length, unit, rest, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} {seconds % length // rest:.0f} {below}"
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.1f} s"


def _chart(series: list[dict[str, Any]], step_s: int, until: float, bar: str) -> Iterator[str]:
    """A bar for each step of time, those without pulls included."""
    at_s = {int(step["at"]): _saved(step) for step in series}
    last = int(until) // step_s * step_s
    first = max(min(at_s), last - (_STEPS_MAX - 1) * step_s)
    most = max(at_s.values())
    form = "%m-%d" if step_s >= 86400 else "%H:%M"
    for at in range(first, last + 1, step_s):
        saved = at_s.get(at, 0)
        label = datetime.fromtimestamp(at, UTC).strftime(form)
        yield f"{label:12}{_bar(saved, most, bar)} {size(saved) if at in at_s else ''}".rstrip()


def _table(rows: list[dict[str, Any]] | None, by: str, *, top: int, bar: str) -> Iterator[str]:
    if rows is None:
        yield "clients are not looked at (savings_clients is false)"
        return
    if not rows:
        yield "nothing was pulled"
        return
    most = max(map(_saved, rows))
    heads = f"{'saved':>10}{'served':>10}{'fetched':>10}{'ahead':>10}"
    heads += f"{'pulls':>9}{'no GET':>9}{'time':>14}"
    yield f"{'':{len(bar)}}{heads}  {by}"
    for row in rows[:top]:
        yield (
            f"{_bar(_saved(row), most, bar)}{size(_saved(row)):>10}"
            f"{size(row['served_bytes']):>10}{size(_waited_for(row)):>10}"
            f"{size(row.get('ahead_bytes', 0)):>10}"
            f"{row['pulls']:>9,}{row['pulls_saved']:>9,}{span(row['saved_s']):>14}"
            f"  {row['name']}"
        )


def _pulls(total: dict[str, Any]) -> str:
    if not total["pulls"]:
        return "no pulls yet"
    share = _share(total["pulls_saved"], total["pulls"])
    return f"{total['pulls_saved']:,} of {total['pulls']:,} cost the upstream none{share}"


def _saved(sums: dict[str, Any]) -> float:
    """Nothing while more was fetched than anybody took; then it is not saved yet."""
    return float(max(0, sums["saved_bytes"]))


def _waited_for(sums: dict[str, Any]) -> float:
    """What was fetched for somebody; a server before this one tells of nothing else."""
    return float(sums["fetched_bytes"] - sums.get("ahead_bytes", 0))


def _ahead(sums: dict[str, Any]) -> str:
    return f", fetched ahead {size(ahead)}" if (ahead := sums.get("ahead_bytes", 0)) else ""


def _bar(value: float, most: float, bar: str) -> str:
    length = round(len(bar) * value / most) if most > 0 and value > 0 else 0
    return f"{bar[:length]:{len(bar)}}"


def _share(part: float, whole: float) -> str:
    return f" ({100 * part / whole:.0f} %)" if whole else ""


def _grouped(rows: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return [{key: name, **_added(group)} for name, group in groups.items()]


def _added(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: sum(row.get(name, 0) for row in rows) for name in _COUNTED}
