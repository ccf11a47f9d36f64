"""Dashboards and alert rules name what is exported, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from proxy.app import Entrepot
from proxy.config import load
from tests.demo.boards import BOARDS, Panel, filled, panels
from tests.demo.prometheus import RULES

NAME = re.compile(r"\b(?:entrepot|process)_[a-z0-9_]+\b|\bup\b")
BY = re.compile(r"\b(?:by|on|without|ignoring) \(([^)]*)\)")
SELECTOR = re.compile(r"([a-z0-9_]+)\{([^}]*)\}")
# What Prometheus adds to each sample, and what comes with every process.
ADDED = {"job", "instance"}
OWN = {"up": set(), "ALERTS": set()}


async def exported(tmp_path: Path) -> dict[str, set[str]]:
    """Series by name, with their labels, of a running proxy."""
    overrides = {
        "listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "data_dir": str(tmp_path / "data"),
        "drain_s": 0,
    }
    found: dict[str, set[str]] = dict(OWN)
    async with Entrepot(load(None, {}, overrides)) as entrepot:
        for collector in entrepot.telemetry.registry._collector_to_names:
            labels = set(getattr(collector, "_labelnames", ()))
            for family in collector.collect():
                name = family.name
                match family.type:
                    case "counter":
                        found[f"{name}_total"] = labels
                        found.setdefault(name, labels)  # the process's own are named in full
                    case "histogram":
                        found |= {f"{name}_sum": labels, f"{name}_count": labels}
                        found[f"{name}_bucket"] = labels | {"le"}
                    case _:
                        found[name] = labels
    return found


def wrong(expr: str, known: dict[str, set[str]]) -> list[str]:
    """What an expression names that there isn't."""
    bare = re.sub(r'"[^"]*"', '""', expr)
    problems = [f"no metric {name}" for name in NAME.findall(bare) if name not in known]
    named = set().union(*(known.get(name, set()) for name in NAME.findall(bare))) | ADDED
    for metric, inside in SELECTOR.findall(bare):
        labels = set(re.findall(r"(\w+)\s*[=!]", inside))
        problems += [
            f"{metric} has no label {one}" for one in labels - known.get(metric, set()) - ADDED
        ]
    for inside in BY.findall(bare):
        problems += [f"no label {one}" for one in set(re.findall(r"\w+", inside)) - named]
    return problems


def alerts() -> list[dict]:
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


async def test_dashboards_and_alerts_name_only_what_is_exported(tmp_path: Path) -> None:
    known = await exported(tmp_path)
    assert len(known) > 60
    problems = []
    for board in BOARDS:
        for panel in panels(board):
            for expr, legend in panel.queries:
                found = wrong(filled(expr, rate="1m", whole="1h"), known)
                labels = set(re.findall(r"\{\{(\w+)\}\}", legend))
                found += [f"{{{{{one}}}}} is lost" for one in labels - kept(expr)]
                problems += [f"{panel.board}: {panel.title}: {one}" for one in found]
    for alert in alerts():
        problems += [f"{alert['alert']}: {one}" for one in wrong(alert["expr"], known)]
    assert problems == []


def kept(expr: str) -> set[str]:
    """The labels that an aggregation leaves."""
    return {
        one
        for inside in re.findall(r"\bby \(([^)]*)\)", expr)
        for one in re.findall(r"\w+", inside)
    }


@pytest.mark.parametrize(
    ("expr", "problem"),
    [
        ("sum(rate(entrepot_request_total[5m]))", "no metric entrepot_request_total"),
        ("entrepot_requests", "no metric entrepot_requests"),
        ('entrepot_requests_total{state="ok"}', "entrepot_requests_total has no label state"),
        ("sum by (le) (rate(entrepot_s3_seconds_count[5m]))", "no label le"),
        ("sum by (upstrem) (entrepot_upstream_state)", "no label upstrem"),
    ],
)
def test_a_wrong_name_is_found(expr: str, problem: str) -> None:
    known = {
        "entrepot_requests_total": {"upstream", "status"},
        "entrepot_s3_seconds_count": {"operation"},
        "entrepot_upstream_state": {"upstream", "state"},
    }
    assert wrong(expr, known) == [problem]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_each_panel_says_what_to_do_and_has_a_place_of_its_own(board: Path) -> None:
    document = json.loads(board.read_text())
    assert {one["name"] for one in document["templating"]["list"]} == {
        *("datasource", "job", "instance", "upstream")
    }
    taken: set[tuple[int, int]] = set()
    for one in document["panels"]:
        place = one["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, one["title"]
        assert place["x"] + place["w"] <= 24, one["title"]
        taken |= cells
        if one["type"] != "row":
            assert one["datasource"]["uid"] == "${datasource}", one["title"]
            assert {query["datasource"]["uid"] for query in one["targets"]} == {"${datasource}"}
    assert len({one["id"] for one in document["panels"]}) == len(document["panels"])
    every: list[Panel] = list(panels(board))
    assert [one.title for one in every if len(one.description) < 20] == []


def test_each_alert_says_what_it_is_what_follows_and_where_to_look() -> None:
    for alert in alerts():
        assert set(alert["annotations"]) == {"summary", "description", "hint"}, alert["alert"]
        assert alert["labels"]["severity"] in {"page", "warning", "info"}
