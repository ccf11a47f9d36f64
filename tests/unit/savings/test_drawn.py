"""Savings as people see them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cli.savings_drawn import drawn, span, summed

DAY = 86400
MIDNIGHT = 20_000 * DAY


def sums(
    pulls: int = 0, served: int = 0, fetched: int = 0, saved_s: float = 0.0, ahead: int = 0
) -> dict[str, Any]:
    return {
        "pulls": pulls,
        "pulls_saved": pulls // 2,
        "served_bytes": served,
        "fetched_bytes": fetched,
        "ahead_bytes": ahead,
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
    assert lines(told())[1] == "pulls       no pulls yet"


def test_what_was_fetched_ahead_is_told_apart_and_nothing_saved_is_negative() -> None:
    """After a first warm-up and the first pull of what it brought."""
    warmed = sums(1, served=4_200_000, fetched=4_200_534, ahead=4_200_534)
    row = {"name": "lab/app:v1", **warmed}
    document = told() | {"total": warmed, "images": [row]}
    document["series"] = [{"at": MIDNIGHT, **warmed}]
    out = lines(document)
    assert out[2] == "bytes       0 B: 4.2 MB served, 0 B fetched, fetched ahead 4.2 MB (0 %)"
    assert not [line for line in out[1:] if "-0 " in line or "#" in line or " -" in line]
    assert out[-1].split() == [
        *("0", "B", "4.2", "MB", "0", "B", "4.2", "MB"),
        *("1", "0", "0.0", "s", "lab/app:v1"),
    ]


def test_a_replica_of_the_time_before_tells_of_nothing_ahead() -> None:
    old = told(("a", 30))
    for one in (old["total"], *old["images"], *old["series"]):
        one.pop("ahead_bytes", None)
    both = summed([old, told(("a", 30))])
    assert both["total"]["ahead_bytes"] == 0
    assert "ahead" not in lines(old)[2]


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
    ("seconds", "text"),
    [(0, "0.0 s"), (119, "119.0 s"), (150, "2.5 min"), (3700, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text
