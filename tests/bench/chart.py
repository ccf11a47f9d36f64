"""`python -m tests.bench.chart [RESULT.json] [-o chart.png]`: one picture of a result.

Six of the table's lines, a panel each, a bar for every system that has the
number; the values stand at the bars. Scales are logarithmic where the systems
are orders of magnitude apart. The same result always gives the same bytes.
Needs matplotlib (`pip install -e '.[bench]'`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import kept
from tests.bench.kept import Result
from tests.bench.report import SUBJECT

PNG = kept.FOLDER / "chart.png"
_OURS, _OTHERS = "#c2410c", "#94a3b8"
_DPI, _INCHES = 100, (10.0, 6.2)
_LOG_FROM = 50.0
"""A panel whose values differ by more than this factor has a logarithmic scale."""


@dataclass(frozen=True, slots=True)
class Panel:
    """`key` is a line of the table; `unit` the label of the axis."""

    key: str
    title: str
    unit: str
    form: str


PANELS = (
    Panel(
        "crowd_64_on_1x200_upstream", "64 clients, one cold blob", "upstream bytes ÷ blob", "{:.3g}"
    ),
    Panel("crowd_64_on_1x200_efficiency", "… near the fastest possible", "T* ÷ time", "{:.2f}"),
    Panel("fill_cpu_s_per_gb", "Cold fill, one client", "CPU-seconds per GB", "{:.2f}"),
    Panel("warm_cpu_s_per_gb", "Warm 200 MB blob", "CPU-seconds per GB", "{:.3f}"),
    Panel("small_blob_rps", "Warm 10 KB blob", "requests/s on one core", "{:,.0f}"),
    Panel("manifest_tag_rps", "Warm manifest by tag", "requests/s on one core", "{:,.0f}"),
)


@dataclass(frozen=True, slots=True)
class Bars:
    """One panel's content: `labels` and `values` from the top down, ours first."""

    title: str
    unit: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    texts: tuple[str, ...]
    less: bool
    logarithmic: bool


def bars(result: Result) -> list[Bars]:
    """A panel for each line that the result has; nothing is drawn here."""
    found = []
    entries = {entry["key"]: entry for entry in result["table"]}
    for panel in PANELS:
        entry = entries.get(panel.key)
        if entry is None or SUBJECT not in entry["median"]:
            continue
        middle, edges = entry["median"], entry.get("edges", {})
        names = [
            SUBJECT,
            *(name for name in result["columns"] if name not in (SUBJECT, "straight")),
        ]
        names = [name for name in names if name in middle]
        values = tuple(middle[name] for name in names)
        positive = [value for value in values if value > 0]
        found.append(
            Bars(
                title=panel.title,
                unit=f"{panel.unit} ({'less' if entry['less'] else 'more'} is better)",
                labels=tuple(names),
                values=values,
                texts=tuple(
                    f"{edges.get(name, '')} {panel.form.format(middle[name])}".strip()
                    for name in names
                ),
                less=entry["less"],
                logarithmic=len(positive) == len(values) and max(values) > _LOG_FROM * min(values),
            )
        )
    return found


def draw(result: Result, path: Path) -> None:
    """Raises `ImportError` without matplotlib, `ValueError` if there is nothing to draw."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    panels = bars(result)
    if not panels:
        raise ValueError("none of the chart's lines is in this result")
    style = {"font.family": "DejaVu Sans", "font.size": 9, "svg.hashsalt": "entrepot"}
    with mpl.rc_context(style):
        figure, axes = plt.subplots(-(-len(panels) // 3), 3, figsize=_INCHES, squeeze=False)
        for place, panel in zip(axes.flat, panels, strict=False):
            _panel(place, panel)
        for place in axes.flat[len(panels) :]:
            place.set_visible(False)
        figure.suptitle(
            f"Entrepot and its peers, one core each, same machine, same run: "
            f"{kept.sampling(result['rounds'])}",
            fontsize=11,
        )
        figure.text(0.5, 0.008, _footer(result), ha="center", fontsize=7, color="#475569")
        figure.tight_layout(rect=(0, 0.025, 1, 0.985), h_pad=2.0, w_pad=1.5)
        path.parent.mkdir(parents=True, exist_ok=True)
        # A palette would halve it again, and cost the text its edges.
        figure.savefig(path, dpi=_DPI, metadata={"Software": None})
        plt.close(figure)


def _panel(place: Any, panel: Bars) -> None:
    places = range(len(panel.labels))
    colours = [_OURS if name == SUBJECT else _OTHERS for name in panel.labels]
    place.barh(places, panel.values, color=colours, height=0.68)
    place.set_yticks(places, panel.labels)
    place.invert_yaxis()
    place.set_title(panel.title, loc="left", fontsize=10, fontweight="bold")
    place.set_xlabel(panel.unit, fontsize=8)
    most, least = max(panel.values), min(panel.values)
    if panel.logarithmic:
        place.set_xscale("log")
        place.set_xlim(least / 2, most * 8)
    else:
        place.set_xlim(0, most * 1.3)
    for number, (value, text) in enumerate(zip(panel.values, panel.texts, strict=True)):
        place.annotate(
            text,
            (value, number),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    place.tick_params(axis="both", labelsize=8, length=0, which="both")
    for side in ("top", "right", "left"):
        place.spines[side].set_visible(False)
    place.grid(visible=True, axis="x", which="major", color="#e2e8f0", linewidth=0.6)
    place.set_axisbelow(True)


def _footer(result: Result) -> str:
    machine = result["machine"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python "
        f"{machine['python']}; {kept.sampling(result['rounds'])}; {machine['date']}, "
        f"{machine['commit']} (panels with a wide range have a logarithmic scale)"
        + (f"; {busy}" if (busy := kept.busy(result)) else "")
    )


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.chart", description=__doc__)
    parser.add_argument("result", type=Path, nargs="?", help="default: the newest kept one")
    parser.add_argument("-o", "--output", type=Path, default=PNG)
    arguments = parser.parse_args(words)
    path = arguments.result or kept.newest()
    if path is None:
        parser.error("no result is kept; run `make bench` first, or name one")
    try:
        draw(kept.read(path), arguments.output)
    except ModuleNotFoundError as error:
        parser.error(f"{error}: pip install -e '.[bench]'")
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1000:.0f} KB, from {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
