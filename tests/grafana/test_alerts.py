"""Alert rules are what Prometheus takes, and fire when they should and only then."""

from __future__ import annotations

import yaml

from tests.demo.prometheus import ALERTS, RULES
from tests.support.programs import program, run

CASES = sorted(ALERTS.glob("*.tests.yaml"))


def promtool(*words: object) -> str:
    return run(program("promtool", package="prometheus"), *map(str, words)).output


def test_prometheus_takes_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)


def test_every_alert_fires_when_it_should_and_not_before() -> None:
    assert "SUCCESS" in promtool("test", "rules", *CASES)


def test_no_alert_is_without_a_case_of_firing_and_one_of_not_firing() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    fires, quiet = set(), set()
    for case in [one for path in CASES for one in yaml.safe_load(path.read_text())["tests"]]:
        for asked in case["promql_expr_test"]:
            named = {alert for alert in alerts if f'"{alert}"' in asked["expr"]}
            (fires if asked.get("exp_samples") else quiet).update(named)
    assert fires == quiet == alerts
