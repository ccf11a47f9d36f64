"""Both dashboards as pictures: `python -m tests.demo.picture`, for the README.

Plays the demo for a while with a real Prometheus, asks it the dashboards' own
queries and draws each panel small. Needs `prometheus` and matplotlib, which
nothing else here does (`pip install matplotlib`).
"""

from __future__ import annotations

import argparse
import asyncio
import math
import re
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.demo.boards import BOARDS, Panel, filled, panels
from tests.demo.play import playing
from tests.demo.prometheus import Prometheus

FOLDER = BOARDS[0].parents[1]
SECONDS = 75.0
COLUMNS = 6
SERIES_MAX = 6
DPI = 100
ROW_INCHES, STATS_ROW_INCHES = 1.55, 0.7
_COLOURS = ("#3274d9", "#56a64b", "#e0a100", "#e02f44", "#8f3bb8", "#b877d9", "#2fa3b5", "#7a7f87")
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
Series = tuple[str, list[tuple[float, float]]]


def main() -> None:
    """Draw all boards."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seconds", type=float, default=SECONDS, help="how long (%(default)s)")
    chosen = words.parse_args()
    mpl.use("agg")
    with tempfile.TemporaryDirectory(prefix="entrepot-picture-") as folder:
        asyncio.run(_play(Path(folder), chosen.seconds))


async def _play(folder: Path, seconds: float) -> None:
    async with playing(folder, tell=print) as (stage, _crowd):
        if stage.prometheus is None:
            raise SystemExit("needs the program prometheus (Debian package prometheus)")
        began = time.time()
        await asyncio.sleep(seconds)
        for board in BOARDS:
            await asyncio.to_thread(draw, board, stage.prometheus, began, time.time())


def draw(board: Path, prometheus: Prometheus, since: float, until: float) -> None:
    """One PNG, named after what follows the hyphen."""
    every = list(panels(board))
    rows = [every[at : at + COLUMNS] for at in range(0, len(every), COLUMNS)]
    heights = [
        STATS_ROW_INCHES if all(one.kind == "stat" for one in row) else ROW_INCHES for row in rows
    ]
    with mpl.rc_context({"font.size": 6.5, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(COLUMNS * 2.2, sum(heights)), dpi=DPI, layout="constrained")
        axes = figure.subplots(len(rows), COLUMNS, squeeze=False, height_ratios=heights)
        for one, panel in zip(axes.flat, every, strict=False):
            asked = _asked(prometheus, panel, since, until)
            one.set_title(panel.title, fontsize=7.5, loc="left", color="#222222")
            _panel(one, panel, asked, until - since)
        for spare in list(axes.flat)[len(every) :]:
            spare.axis("off")
        target = FOLDER / f"{board.stem.rpartition('-')[2]}.png"
        figure.savefig(target, pil_kwargs={"optimize": True})
    _fewer_colours(target)
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB, {len(every)} panels")


def _fewer_colours(path: Path) -> None:
    from PIL import Image  # matplotlib has brought it

    with Image.open(path) as picture:
        picture.convert("RGB").quantize(48).save(path, optimize=True)


def _asked(prometheus: Prometheus, panel: Panel, since: float, until: float) -> list[Series]:
    whole = f"{round(until - since)}s"
    found: list[Series] = []
    for expr, legend in panel.queries:
        query = filled(expr, rate="8s", whole=whole)
        for one in prometheus.range(query, since=since + 4, until=until):
            points = [(float(at) - since, float(value)) for at, value in one["values"]]
            found.append((_legend(legend, one["metric"]), points))
    return found


def _legend(pattern: str, metric: dict[str, Any]) -> str:
    text = re.sub(r"\{\{(\w+)\}\}", lambda m: str(metric.get(m[1], "")), pattern)
    return text.replace("127.0.0.1:", ":")


def _panel(axes: Axes, panel: Panel, series: list[Series], seconds: float) -> None:
    axes.tick_params(length=2, width=0.4, labelsize=5.5, colors="#555555")
    for side in axes.spines.values():
        side.set_linewidth(0.4)
        side.set_color("#bbbbbb")
    match panel.kind:
        case "stat":
            _stat(axes, panel, series)
        case "bargauge":
            _bars(axes, panel, series)
        case "heatmap":
            _heat(axes, series)
        case "state-timeline":
            _states(axes, series)
        case _:
            _lines(axes, panel, series)
            axes.set_xlim(0, seconds)


def _stat(axes: Axes, panel: Panel, series: list[Series]) -> None:
    axes.axis("off")
    shown = [spelt(points[-1][1], panel.unit) for _, points in series if points]
    text = " / ".join(shown[:2]) or "none"
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=17, color="#3b7d33")


def _bars(axes: Axes, panel: Panel, series: list[Series]) -> None:
    last = sorted((points[-1][1], name) for name, points in series if points)
    names, values = [name for _, name in last], [value for value, _ in last]
    axes.barh(names, values, color=_COLOURS[0], height=0.6)
    axes.set_ylim(-0.6, max(2.6, len(names) - 0.4))
    axes.set_xlim(0, max([*values, 1e-9]) * 1.35)
    for number, value in enumerate(values):
        axes.text(value, number, f" {spelt(value, panel.unit)}", va="center", fontsize=6)
    axes.set_xticks([])


def _lines(axes: Axes, panel: Panel, series: list[Series]) -> None:
    drawn = sorted(series, key=lambda one: -max(_finite(one[1]), default=0))
    for (name, points), colour in zip(drawn[: len(_COLOURS)], _COLOURS, strict=False):
        label = name if drawn.index((name, points)) < SERIES_MAX else None
        # A gap where there was nothing, as Grafana draws it.
        axes.plot(*zip(*_gapped(points), strict=True), color=colour, linewidth=0.9, label=label)
    top = max((value for _, points in drawn for value in _finite(points)), default=1) or 1
    axes.set_ylim(0, top * 1.4)  # room for the legend
    axes.yaxis.set_major_formatter(lambda value, _at: spelt(value, panel.unit))
    axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
    if drawn:
        axes.legend(
            fontsize=5,
            frameon=False,
            loc="upper left",
            ncols=2,
            handlelength=1,
            labelspacing=0.2,
            columnspacing=0.8,
        )


def _gapped(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    out: list[tuple[float, float]] = []
    for at, value in points:
        if out and at - out[-1][0] > 1.5:
            out.append((at - 0.5, math.nan))
        out.append((at, value))
    return out


def _heat(axes: Axes, series: list[Series]) -> None:
    ordered = sorted(series, key=lambda one: float(one[0]))
    times = sorted({at for _, points in ordered for at, _ in points})
    below = dict.fromkeys(times, 0.0)
    grid = []
    for _, points in ordered:
        now = {**below, **dict(points)}
        grid.append([max(0.0, now[at] - below[at]) for at in times])
        below = now
    axes.imshow(
        [[math.sqrt(cell) for cell in line] for line in grid],
        aspect="auto",
        origin="lower",
        cmap="Oranges",
        interpolation="nearest",
        extent=(times[0], times[-1], -0.5, len(grid) - 0.5),
    )
    bounds = [name for name, _ in ordered]
    chosen = range(0, len(bounds), 3)
    axes.set_yticks(list(chosen), [f"≤{bounds[n]} s" for n in chosen])


def _states(axes: Axes, series: list[Series]) -> None:
    colours = {0: "#56a64b", 1: "#e0a100", 2: "#e02f44", 3: "#e02f44"}
    names = [name for name, _ in series]
    for number, (_, points) in enumerate(series):
        axes.barh(
            [number] * len(points),
            [1.05] * len(points),
            left=[at for at, _ in points],
            color=[colours.get(int(value), "#7a7f87") for _, value in points],
            height=0.6,
        )
    axes.set_yticks(range(len(names)), names)


def _finite(points: Iterable[tuple[float, float]]) -> list[float]:
    return [value for _, value in points if math.isfinite(value)]


def spelt(value: float, unit: str) -> str:
    """A number as a panel shows it."""
    if not math.isfinite(value):
        return "-"
    if unit == "percentunit":
        return f"{value:.0%}" if value in {0, 1} else f"{value:.1%}"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if 0 < value < 1 else f"{value:.3g} s"
    name = {"bytes": "B", "Bps": "B/s", "reqps": "/s", "ops": "/s"}.get(unit, "")
    for scale, letter in _SCALES:
        if abs(value) >= scale:
            return f"{value / scale:.3g} {letter}{name}"
    return f"{value:.3g} {name}".rstrip()


if __name__ == "__main__":
    main()
