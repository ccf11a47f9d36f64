"""The time saved is an estimate that must never flatter."""

from __future__ import annotations

import pytest

from proxy.events import (
    BytesFetched,
    Event,
    FlightEnded,
    FlightStarted,
    PullsServed,
    RequestServed,
    UpstreamAnswered,
)
from proxy.telemetry import Telemetry

MIB = 1024 * 1024


def _saved(telemetry: Telemetry) -> float:
    return telemetry.registry.get_sample_value("entrepot_saved_seconds_total", {"upstream": "lab"})


def _fill(telemetry: Telemetry, *, fetched: int, size: int = 10 * MIB, seconds: float = 5) -> None:
    """A fill of `size` bytes, of which the upstream sent `fetched`."""
    telemetry.observe(
        UpstreamAnswered(
            upstream="lab", operation="blob", method="GET", status=200, duration_s=0.25
        )
    )
    telemetry.observe(FlightStarted(digest="sha256:a", upstream="lab"))
    telemetry.observe(BytesFetched(upstream="lab", kind="blob", count=fetched))
    telemetry.observe(
        FlightEnded(
            digest="sha256:a", upstream="lab", outcome="stored", size=size, duration_s=seconds
        )
    )


def _serve(telemetry: Telemetry, *, outcome="hit", seconds: float = 0.25, size=10 * MIB) -> None:
    telemetry.observe(
        RequestServed(
            kind="blob",
            method="GET",
            upstream="lab",
            outcome=outcome,
            status=200,
            size=size,
            complete=True,
            duration_s=seconds,
            first_byte_s=0.01,
        )
    )


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


def test_a_hit_saves_what_the_upstream_would_have_taken_longer(telemetry: Telemetry) -> None:
    _fill(telemetry, fetched=10 * MIB)
    _serve(telemetry)
    assert _saved(telemetry) == pytest.approx(0.25 + 5 - 0.25)
    _serve(telemetry, size=0, seconds=0.05)  # a HEAD
    assert _saved(telemetry) == pytest.approx(5 + 0.25 - 0.05)


def test_nothing_is_claimed_before_the_upstreams_pace_is_known(telemetry: Telemetry) -> None:
    _serve(telemetry)
    _fill(telemetry, fetched=1000, size=1000)
    _serve(telemetry)
    assert _saved(telemetry) == 0


def test_a_fill_from_elsewhere_says_nothing_of_the_upstream(telemetry: Telemetry) -> None:
    _fill(telemetry, fetched=0)
    _serve(telemetry)
    assert _saved(telemetry) == 0


@pytest.mark.parametrize("outcome", ["miss", "pass", "error"])
def test_what_did_not_come_from_the_cache_saves_nothing(telemetry: Telemetry, outcome: str) -> None:
    _fill(telemetry, fetched=10 * MIB)
    _serve(telemetry, outcome=outcome)
    assert _saved(telemetry) == 0


def test_a_slow_answer_from_the_cache_takes_nothing_away(telemetry: Telemetry) -> None:
    _fill(telemetry, fetched=10 * MIB)
    _serve(telemetry, seconds=100)
    assert _saved(telemetry) == 0


def test_the_latest_fills_count_most(telemetry: Telemetry) -> None:
    _fill(telemetry, fetched=10 * MIB, seconds=50)
    for _ in range(200):
        _fill(telemetry, fetched=10 * MIB, seconds=1)
    _serve(telemetry)
    assert _saved(telemetry) == pytest.approx(1, rel=0.05)


def test_bytes_saved_are_those_served_less_those_fetched(telemetry: Telemetry) -> None:
    telemetry.expect(["lab"])
    _fill(telemetry, fetched=10 * MIB)
    read = telemetry.registry.get_sample_value
    assert read("entrepot_saved_bytes", {"upstream": "lab"}) == -10 * MIB
    _serve(telemetry, outcome="miss")
    _serve(telemetry)
    _serve(telemetry, outcome="error")
    assert read("entrepot_saved_bytes", {"upstream": "lab"}) == 10 * MIB


def test_pulls_are_counted_and_so_are_those_that_cost_nothing(telemetry: Telemetry) -> None:
    telemetry.expect(["lab"])
    telemetry.observe(PullsServed(upstream="lab", count=1, saved=False))
    telemetry.observe(PullsServed(upstream="lab", count=5, saved=True))
    read = telemetry.registry.get_sample_value
    assert read("entrepot_pulls_total", {"upstream": "lab"}) == 6
    assert read("entrepot_saved_pulls_total", {"upstream": "lab"}) == 5


def test_others_hear_of_events_too(telemetry: Telemetry) -> None:
    heard: list[Event] = []
    telemetry.tell(heard.append)
    event = BytesFetched(upstream="lab", kind="blob", count=3, repository="app", reference="v1")
    telemetry.observe(event)
    assert heard == [event]
