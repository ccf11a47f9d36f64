"""A warm-up on the screen: lines where there is no terminal, bars where there is one."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from proxy.cli.amounts import size
from proxy.cli.images import told_missing
from proxy.cli.warm_drawn import bars, plain

DIGEST = "sha256:" + "ab" * 32
LAYER = {"digest": DIGEST, "kind": "layer", "size": 1000, "platform": None, "referrer": False}
COMPLETE: dict[str, Any] = {
    "image": "lab/[app]:v1",
    "state": "complete",
    "reason": None,
    "pieces": 3,
    "bytes": 1_500_000,
    "missing": [],
    "absent_platforms": ["linux/s390x"],
    "fetched_bytes": 1000,
}
INCOMPLETE: dict[str, Any] = {
    **COMPLETE,
    "state": "incomplete",
    "missing": [{**LAYER, "platform": "linux/amd64", "reason": "gone"}] * 12,
}
TOLD: list[dict[str, Any]] = [
    {"pulse": {"images": 2, "finished": 0, "fetched_bytes": 0}},
    {"image": "lab/[app]:v1", "state": "begun"},
    {"image": "lab/[app]:v1", "layer": LAYER, "state": "fetching", "here": 400},
    {"pulse": {"images": 2, "finished": 0, "fetched_bytes": 400}},
    {"image": "lab/[app]:v1", "layer": LAYER, "state": "fetched", "here": 1000},
    {"image": "lab/[app]:v1", "layer": {**LAYER, "size": 0}, "state": "failed", "reason": "x"},
    COMPLETE,
    # Evicted for what came later.
    INCOMPLETE,
    {"done": True, "complete": False},
]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_950, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (34_000_000_000, "34 GB"),
        (2e15, "2000 TB"),
        (-1500, "-1.5 kB"),
    ],
)
def test_sizes_are_told_with_two_figures_or_more(count: float, text: str) -> None:
    assert size(count) == text


def test_without_a_terminal_there_is_a_line_for_each_image() -> None:
    said: list[str] = []
    assert plain(TOLD, said.append) == TOLD[-1]
    assert said[0] == (
        "lab/[app]:v1: complete, 1.5 MB, 1.0 kB fetched; it has nothing for linux/s390x"
    )
    assert said[1:] == list(told_missing(INCOMPLETE))


def test_what_is_missing_is_listed_but_not_all_of_very_much() -> None:
    first, *rest, last = told_missing(INCOMPLETE)
    assert first == "lab/[app]:v1: incomplete"
    assert rest[0] == f"    layer {DIGEST[:19]}… 1.0 kB (linux/amd64): gone"
    assert (len(rest), last) == (10, "    and 2 more")
    (alone,) = told_missing({**INCOMPLETE, "reason": "not here", "missing": []})
    assert alone == "lab/[app]:v1: not here"


def test_on_a_terminal_bars_come_and_go_and_the_results_stay() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, color_system=None)

    def slowly() -> Any:
        for line in TOLD:
            yield line
            # As if it took long enough to be drawn.
            console.print(end="")

    assert bars(slowly(), console) == TOLD[-1]
    shown = out.getvalue()
    assert "lab/[app]:v1: complete, 1.5 MB" in shown
    assert "[app]:v1  layer abababababab" in shown
    assert "0 of 2 images" in shown
    assert "1 of 2 images" in shown
    assert "    and 2 more" in shown
