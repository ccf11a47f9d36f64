"""Requests that are counted many at once."""

from __future__ import annotations

from dataclasses import replace

from proxy.events import RequestServed
from proxy.telemetry import Telemetry

ONE = RequestServed(
    kind="blob",
    method="GET",
    upstream="lab",
    outcome="hit",
    status=200,
    size=10,
    complete=True,
    duration_s=0.03125,
    first_byte_s=0.0,
)


def samples(telemetry: Telemetry) -> dict[tuple[str, str], float]:
    """Of clients, but for times of creation."""
    return {
        (sample.name, str(sorted(sample.labels.items()))): sample.value
        for family in telemetry.registry.collect()
        for sample in family.samples
        if sample.name.startswith("entrepot_") and not sample.name.endswith("_created")
    }


def test_a_batch_counts_as_so_many_single_ones() -> None:
    singly, together = Telemetry(), Telemetry()
    for event in (ONE, replace(ONE, duration_s=1000.0, first_byte_s=0.5)):
        for _ in range(64):
            singly.observe(event)
        together.observe(replace(event, count=64))
    assert samples(singly) == samples(together)


def test_what_the_fast_lane_answered_is_counted_among_all_and_by_itself() -> None:
    telemetry = Telemetry()
    for repeated, count in ((False, 1), (True, 1), (True, 7)):
        telemetry.observe(replace(ONE, repeated=repeated, count=count))
    value = telemetry.registry.get_sample_value
    assert value("entrepot_fast_lane_answers_total", {"upstream": "lab"}) == 8
    of_all = {"upstream": "lab", "kind": "blob", "method": "GET", "outcome": "hit", "status": "200"}
    assert value("entrepot_requests_total", of_all) == 9


def test_what_was_counted_elsewhere_comes_before_each_reading() -> None:
    telemetry = Telemetry()
    telemetry.late(lambda: telemetry.observe(ONE))
    for expected in (1, 2):
        text = telemetry.render().decode()
        (line,) = [one for one in text.splitlines() if one.startswith("entrepot_requests_total{")]
        assert float(line.split()[-1]) == expected
