"""What is made from something else is as if it had been made just now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import proxy
from tests.helm import generated
from tests.helm.charts import Helm
from tests.helm.matrix import SINGLE, over

ALERTS = Path(__file__).parents[2] / "grafana" / "alerts" / "entrepot.rules.yaml"


def test_the_readme_shows_the_values_as_they_are():
    """Put right with `python -m tests.helm.generated`."""
    text = generated.README.read_text(encoding="utf-8")
    assert text.count(generated.BEGIN) == text.count(generated.END) == 1
    assert text == generated.readme(text, generated.values_table(generated.VALUES.read_text()))


def test_the_schema_of_config_is_that_of_the_settings():
    """Put right with `python -m tests.helm.generated`."""
    text = generated.SCHEMA.read_text(encoding="utf-8")
    assert text == generated.schema(text)


def test_a_value_without_a_description_is_noticed():
    with pytest.raises(ValueError, match=r"a\.c has no"):
        generated.values_table("a:\n  # -- B.\n  b: 1\n  c: 2\n")


def test_a_default_that_is_an_object_is_one_row():
    table = generated.values_table("# -- A.\na:\n  b: {c: 1}\n# -- D.\nd: []\n")
    assert table.splitlines()[2:] == ['| `a` | `{"b": {"c": 1}}` | A. |', "| `d` | `[]` | D. |"]


def test_the_schema_knows_every_value_and_no_other():
    values = yaml.safe_load(generated.VALUES.read_text())
    schema = json.loads(generated.SCHEMA.read_text())

    def compare(value: object, part: dict, path: str) -> None:
        if isinstance(value, dict) and part.get("additionalProperties") is False:
            known = set(part["properties"])
            assert set(value) | {"global"} == known | {"global"} or path.endswith("resources"), path
            for key, below in value.items():
                compare(below, part["properties"][key], f"{path}.{key}")

    compare(values, schema, "values")
    assert schema["additionalProperties"] is False


def test_the_readmes_examples_are_good_values(helm: Helm):
    text = generated.README.read_text(encoding="utf-8")
    fleet, nodes = (yaml.safe_load(one.partition("```")[0]) for one in text.split("```yaml\n")[1:])
    rendered = helm.render(fleet)
    assert rendered.workload["spec"]["replicas"] == 3
    assert rendered.config["upstreams"]["lab"]["ca_file"].endswith("lab/ca.crt")
    assert helm.render(over(SINGLE, **nodes)).one("DaemonSet")


def test_the_charts_alerts_are_those_of_the_dashboards():
    """Put right by copying the one over the other."""
    assert (generated.CHART / "files" / ALERTS.name).read_bytes() == ALERTS.read_bytes()


def test_the_chart_installs_this_version():
    chart = yaml.safe_load((generated.CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == proxy.__version__
