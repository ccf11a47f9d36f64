"""What the bench makes of its numbers: the table, the chart, what is kept, the check."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from tests.bench import kept
from tests.bench.chart import bars, draw
from tests.bench.check import bound, compare
from tests.bench.client import Outcome
from tests.bench.kept import Result, read, write
from tests.bench.measured import Measured
from tests.bench.readme import README, block, blocks, of_kept, shown
from tests.bench.report import markdown, results
from tests.bench.rows import ROWS
from tests.bench.rows.lazy import PATTERNS
from tests.bench.rows.restart import recovery_s
from tests.bench.rows.stampede import follower_ms

Turns = dict[str, dict[str, Measured]]


def rounds(row: str, key: str, **values: tuple[float, ...]) -> list[Turns]:
    """`values`: by system (`_` for a blank), one for each round."""
    count = max(map(len, values.values()))
    return [
        {
            row: {
                (system := name.replace("_", " ")): Measured(system, {key: of_rounds[number]})
                for name, of_rounds in values.items()
                if number < len(of_rounds)
            }
        }
        for number in range(count)
    ]


def test_limits_are_medians_against_the_peers_of_the_same_run() -> None:
    run = rounds("warm", "warm_cpu_s_per_gb", Entrepot=(0.01, 0.11, 0.9), nginx=(0.1,) * 3)
    (entry, _) = results(run, [ROWS["warm"]])
    assert entry["limit"] == pytest.approx(0.115)
    assert entry["verdict"] == "pass"
    assert "0.110 (0.010..0.900)" in markdown([entry], ["Entrepot", "nginx"])
    run = rounds("warm", "warm_cpu_s_per_gb", Entrepot=(0.01, 0.12, 0.9), nginx=(0.1,) * 3)
    assert results(run, [ROWS["warm"]])[0]["verdict"] == "FAIL"


def test_where_more_is_better_the_hardest_peer_sets_the_limit() -> None:
    run = rounds(
        "requests", "manifest_tag_rps", Entrepot=(300.0,), nginx=(100.0,), drayage=(160.0,)
    )
    entry = results(run, [ROWS["requests"]])[0]
    assert (entry["limit"], entry["verdict"]) == (240.0, "pass")
    run = rounds("requests", "manifest_tag_rps", Entrepot=(300.0,), distribution_3=(21.0,))
    entry = results(run, [ROWS["requests"]])[0]
    assert (entry["limit"], entry["verdict"]) == (315.0, "FAIL")


def test_a_ratio_to_straight_is_taken_within_its_round() -> None:
    run = rounds("capped", "capped_s", Entrepot=(2.0, 9.0, 30.0), straight=(4.0, 9.0, 90.0))
    entry = results(run, [ROWS["capped"]])[0]
    assert entry["median"]["Entrepot"] == 0.5
    assert entry["count"]["Entrepot"] == 3
    assert entry["verdict"] == "pass"


def test_a_number_that_is_only_a_bound_says_so() -> None:
    run = rounds("stampede", "crowd_64_on_1x200_upstream", Entrepot=(1.0,), zot=(40.0,))
    run[0]["stampede"]["zot"].edges["crowd_64_on_1x200_upstream"] = "≥"
    table = [e for e in results(run, [ROWS["stampede"]]) if e["median"]]
    assert "| 1 | ≥ 40 |" in markdown(table, ["Entrepot", "zot"])
    assert "| **1** | ≥ 40 |" in shown(table, ["Entrepot", "zot"])


def test_what_was_given_up_is_not_a_pass() -> None:
    run = rounds("stampede", "crowd_64_on_1x200_upstream", Entrepot=(0.7,))
    run[0]["stampede"]["Entrepot"].edges["crowd_64_on_1x200_upstream"] = "≥"
    (entry,) = [e for e in results(run, [ROWS["stampede"]]) if e["median"]]
    assert entry["verdict"] == "FAIL"


def test_a_peer_with_no_number_leaves_a_blank_and_no_limit() -> None:
    run = rounds("tls", "tls_cpu_s_per_gb", Entrepot=(0.5,))
    (entry,) = results(run, [ROWS["tls"]])
    assert (entry["limit"], entry["verdict"]) == (None, None)
    assert "|  |" in markdown([entry], ["nginx", "Entrepot"])
    assert "**" not in shown([entry], ["nginx", "Entrepot"])


def test_every_line_has_a_key_of_its_own() -> None:
    keys = [line.key for row in ROWS.values() for line in row.lines]
    assert len(keys) == len(set(keys))
    sizes = [(name, tuple(s)) for row in ROWS.values() for name, s in row.images.items()]
    assert len(set(sizes)) == len({name for name, _ in sizes}), "one name, two images"


def test_followers_are_measured_from_their_own_leader() -> None:
    outcome = Outcome(target=[0, 0, 1, 1], first_byte_s=[1.0, 1.01, 5.0, 5.02])
    assert 19 < follower_ms(outcome, 2) <= 20


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        ([20] * 9, 0),
        ([0, 0, 0, 20, 20, 20, 20, 20, 20], 3),
        ([0, 10, 18, 20, 20, 20, 20, 20, 20], 2),
        ([0, 0, 20, 20, 20, 14, 20, 20, 20], 2),  # a short one is forgiven
        ([20, 20, 20, 5, 5, 5, 5, 5, 5], None),
    ],
)
def test_goodput_has_recovered_when_it_holds(served: list[int], expected: int | None) -> None:
    assert recovery_s([20] * 9, [*served, 7]) == expected


@pytest.mark.parametrize("name", PATTERNS)
def test_lazy_patterns_touch_six_percent_and_never_twice(name: str) -> None:
    size = 1_000_000_000
    windows = [window for ask in PATTERNS[name](size) if ask.count > 2 for window in ask.windows]
    assert 0.04 < sum(count for _, count in windows) / size < 0.08
    ends = sorted((start, start + count) for start, count in windows)
    assert all(first[1] <= second[0] for first, second in pairwise(ends))
    assert ends[-1][1] <= size
    assert list(PATTERNS[name](size)) == list(PATTERNS[name](size))


def whole_result() -> Result:
    run: list[Turns] = [
        {
            name: {
                system: Measured(system, {line.key: value for line in row.lines})
                for system, value in (("Entrepot", 1.23456789), ("nginx", 100.0))
            }
            for name, row in ROWS.items()
        }
    ]
    return Result(
        version=kept.VERSION,
        machine=dict.fromkeys(
            ("cpu", "cores", "memory_gb", "kernel", "python", "date", "commit"), "-"
        ),
        rounds=1,
        columns=["straight", "Entrepot", "nginx"],
        table=results(run, list(ROWS.values())),
        notes=[],
        faults=[],
    )


def test_a_result_is_kept_short_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "one.json"
    write(path, whole_result())
    again = read(path)
    assert again["table"][0]["median"]["Entrepot"] == 1.2346
    assert path.stat().st_size < 60_000
    path.write_text(json.dumps(again | {"version": 99}))
    with pytest.raises(ValueError, match="version 99"):
        read(path)


def test_the_readmes_block_names_what_is_missed_and_where_the_rest_is() -> None:
    made = block(whole_result(), "chart.png", "results/one.json")
    assert "](chart.png)" in made
    assert "[one.json](results/one.json)" in made
    assert "| Warm manifest by tag, requests/s on one core | 1 | **100** |" in made
    assert "Where it misses what it aims at: Warm manifest by tag" in made
    assert "](tests/bench/LIMITS.md)" in made


def test_one_round_is_no_median_and_a_busy_machine_is_told() -> None:
    result = whole_result()
    made = block(result, "chart.png", "results/one.json")
    assert "; one round in random order" in made
    assert "busy" not in made
    result["rounds"] = 3
    result["notes"] = ["the machine was busy (load 2.5) when this began: don't compare"]
    made = block(result, "chart.png", "results/one.json")
    assert "; medians of 3 rounds in random order" in made
    assert "off. The machine was busy (load 2.5) when this began: don't compare. Every" in made


def test_the_readme_has_what_was_last_kept_and_nothing_by_hand() -> None:
    newest = kept.newest()
    assert newest is not None
    assert blocks(README.read_text()) == [of_kept(newest)], "run python -m tests.bench.readme"


def test_the_chart_has_a_panel_for_every_line_it_knows() -> None:
    panels = bars(whole_result())
    assert len(panels) == 6
    assert all(panel.labels == ("Entrepot", "nginx") for panel in panels)
    assert all(panel.logarithmic for panel in panels)
    assert panels[0].texts == ("1.23", "100")


def test_the_chart_is_small_and_always_the_same(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib (pip install -e '.[bench]')")
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    for path in (one, two):
        draw(whole_result(), path)
    assert one.read_bytes() == two.read_bytes()
    assert one.stat().st_size < 120_000


def test_the_check_fails_on_more_and_tells_of_less() -> None:
    was = {"upstream GETs": 1.0, "bytes / image": 1.0, "threads woken": 1.0, "gone": 1.0}
    now = {"upstream GETs": 2.0, "bytes / image": 1.005, "threads woken": 0.0, "fresh": 3.0}
    worse, better = compare(now, was)
    assert worse == ["upstream GETs: 2, was 1", "gone: not counted any more"]
    assert better == ["threads woken: 0, was 1", "fresh: 3, new"]
    assert compare(was, was) == ([], [])


def test_what_timing_moves_has_room_and_counts_have_none() -> None:
    assert bound("crowd: upstream GETs a layer", 1.0) == 1.0
    assert bound("crowd: upstream bytes / image", 1.0) == pytest.approx(1.01)
    assert bound("warm small blob: threads woken a request", 0.0) < 1
    assert bound("warm blob: reads and sendfiles a GB", 230.0) == pytest.approx(560)


def test_a_blob_that_is_fetched_over_one_connection_only_fails_the_check() -> None:
    name = "capped blob: blobs for each upstream GET"
    for asked, fails in ((7, False), (4, False), (2, True), (1, True)):
        worse, _ = compare({name: 1 / asked}, {name: 1 / 7})
        assert bool(worse) == fails, asked


def test_a_fast_lane_that_answers_less_fails_the_check() -> None:
    name = "warm tag: share not answered below the parser"
    assert compare({name: 0.02}, {name: 0.005})[0] == []
    assert compare({name: 0.5}, {name: 0.005})[0] != []
