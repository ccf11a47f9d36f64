"""Savings as people see them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cli.savings_drawn import amount, drawn, span, summed

DAY = 86400
MIDNIGHT = 20_000 * DAY


def sums(pulls: int = 0, served: int = 0, fetched: int = 0, saved_s: float = 0.0) -> dict[str, Any]:
    return {
        "pulls": pulls,
        "pulls_saved": pulls // 2,
        "served_bytes": served,
        "fetched_bytes": fetched,
        "saved_bytes": served - fetched,
        "saved_s": saved_s,
    }


def told(*rows: tuple[str, int], days: int = 3) -> dict[str, Any]:
    listed = [{"name": name, **sums(4, served, 10)} for name, served in rows]
    return {
        "window": "30 days",
        "since": float(MIDNIGHT),
        "until": float(MIDNIGHT + days * DAY - 5),
        "total": sums(4 * len(rows), sum(served for _, served in rows), 10 * len(rows), 90.0),
        "upstreams": listed,
        "images": listed,
        "clients": None,
        "step_s": DAY,
        "series": [{"at": MIDNIGHT + day * DAY, **sums(1, 100 * day)} for day in range(0, days, 2)],
    }


def lines(document: dict[str, Any], by: str = "image", **how: Any) -> list[str]:
    return list(drawn(document, by, **{"top": 20, "columns": 120, "blocks": False, **how}))


def test_the_bars_show_the_proportions_and_days_without_pulls() -> None:
    out = lines(told(("lab/app:v1", 1_000_010), ("lab/app:v2", 500_010)))
    assert out[0] == "saved       30 days, since 2024-10-04 00:00 UTC"
    assert out[1] == "pulls       4 of 8 cost the upstream none (50 %)"
    assert out[2] == "bytes       1.5 MB: 1.5 MB served, 20 B fetched (100 %)"
    chart = out[5:8]
    assert [line.count("#") for line in chart] == [0, 0, 40]
    assert [line.split()[0] for line in chart] == ["10-04", "10-05", "10-06"]
    *_, first, second = out
    assert (first.count("#"), second.count("#")) == (20, 10)
    assert first.endswith("  lab/app:v1")


def test_there_is_something_to_say_of_nothing() -> None:
    empty = told() | {"series": []}
    assert lines(empty)[-1] == "nothing was pulled"
    assert "savings_clients" in lines(empty, "client")[-1]
    assert lines(empty)[1] == "pulls       0 of 0 cost the upstream none"


def test_only_the_first_are_listed() -> None:
    out = lines(told(*((f"lab/app:{n}", 100 - n) for n in range(50))), top=7)
    assert len([line for line in out if "lab/app:" in line]) == 7


def test_replicas_are_added_up_and_one_alone_stays_as_it_is() -> None:
    one, two = told(("a", 30), ("b", 20)), told(("b", 25), ("c", 1), days=5)
    assert summed([one]) is one
    both = summed([one, two])
    assert [row["name"] for row in both["images"]] == ["b", "a", "c"]
    assert both["images"][0]["served_bytes"] == 45
    assert both["total"]["pulls"] == 16
    assert [step["at"] for step in both["series"]] == [MIDNIGHT + n * DAY for n in (0, 2, 4)]
    assert both["series"][1]["served_bytes"] == 400
    assert both["until"] == two["until"]
    assert both["clients"] is None
    three = one | {"clients": [{"name": "10.0.0.0/24", **sums(1)}]}
    assert [row["name"] for row in summed([one, three])["clients"]] == ["10.0.0.0/24"]


@given(st.lists(st.integers(-(10**12), 10**15), max_size=5), st.integers(20, 300), st.booleans())
def test_any_numbers_can_be_drawn_in_any_width(
    served: list[int], columns: int, blocks: bool
) -> None:
    document = told(*((f"image-{n}", one) for n, one in enumerate(served)))
    out = lines(document, columns=columns, blocks=blocks)
    assert all(line.count("█" if blocks else "#") <= 40 for line in out)
    assert len([line for line in out if "image-" in line]) == len(served)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (-2_000_000, "-2.0 MB"), (3e15, "3.0 PB")],
)
def test_amounts(count: float, text: str) -> None:
    assert amount(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (119, "119.0 s"), (150, "2.5 min"), (3700, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text
