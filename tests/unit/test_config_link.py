"""The link's settings: what is accepted, what `config show` makes of it, each mistake told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from proxy.config import ConfigError, Settings, load, settings_table, shown
from proxy.upstreams import open_link

GOOD = """
presets: false
default_upstream: lab
link:
  rate: 1Gbit/s
  fetches_max: 8
  time_zone: Europe/Berlin
  hours:
    - {days: mon-fri, from: 08:00, to: 18:00, rate: 20Mbit/s}
    - {from: "22:00", to: "06:00", rate: unlimited}
upstreams:
  lab: {url: http://lab.test, link: {rate: 2MB/s, fetches_max: 3}}
  other: {url: http://other.test}
"""


def read(folder: Path, text: str) -> Settings:
    path = folder / "entrepot.yaml"
    path.write_text(text)
    return load(path, {}, {})


def mistakes(folder: Path, text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        read(folder, f"presets: false\ndefault_upstream: lab\n{text}")
    return {one.key: one.message for one in caught.value.problems}


def test_what_config_show_prints_can_be_pasted_back(tmp_path: Path) -> None:
    settings = read(tmp_path, GOOD)
    whole = shown(settings)
    assert whole["link"]["hours"][0] == {
        "days": "mon-fri",
        "from": "08:00",
        "to": "18:00",
        "rate": "20Mbit/s",
    }
    assert whole["upstreams"]["lab"]["link"] == {"rate": "2MB/s", "fetches_max": 3}
    assert "link" not in whole["upstreams"]["other"]
    again = {key: whole[key] for key in ("presets", "default_upstream", "link", "upstreams")}
    pasted = read(tmp_path, yaml.safe_dump(again))
    assert (pasted.link, pasted.upstreams) == (settings.link, settings.upstreams)


def test_without_settings_there_is_no_cap_and_nothing_is_shown(tmp_path: Path) -> None:
    settings = read(tmp_path, "presets: true")
    assert "link" not in shown(settings)
    link = open_link(settings, lambda: 0.0)
    assert all(scope.bucket.rate is None for scope in link.scopes.values())


def test_both_caps_are_in_force(tmp_path: Path) -> None:
    # A Monday noon in Berlin, and the midnight after it.
    link = open_link(read(tmp_path, GOOD), lambda: 1_795_431_600.0)
    assert (link.rate(""), link.rate("lab"), link.of("lab").rate) == (2_500_000, 2_000_000, 2e6)
    link = open_link(read(tmp_path, GOOD), lambda: 1_795_431_600.0 + 12 * 3600)
    assert (link.rate(""), link.of("other").rate) == (float("inf"), float("inf"))
    assert link.of("lab").rate == 2_000_000


def test_each_mistake_is_told_where_it_is(tmp_path: Path) -> None:
    said = mistakes(
        tmp_path,
        """
link:
  rate: 20Mb/s
  rat: 3
  time_zone: Europe/Berlinn
  hours:
    - {days: mon-fry, form: 8, to: "06:00", rate: 20}
    - {from: "08:00", to: "08:00", rate: 20Mbit/s}
    - {from: "08:00", to: 9:00, rate: 0Mbit/s}
upstreams:
  lab: {url: http://x, link: {rate: 2, hours: {}, fetches_max: 0}}
  lab2: {url: http://x, link: 20Mbit/s}
""",
    )
    assert "20Mbit/s (bits), 2.5MB/s (bytes)" in said["link.rate"]
    assert said["link.rat"] == "unknown key; did you mean rate?"
    assert "did you mean Europe/Berlin?" in said["link.time_zone"]
    assert "mon-fri or sat,sun" in said["link.hours[0].days"]
    assert said["link.hours[0].from"] == "is required"
    assert said["link.hours[0].form"] == "unknown key; did you mean from?"
    assert said["link.hours[0].rate"].startswith("needs a unit, such as 20Mbit/s")
    assert '"00:00" to "24:00"' in said["link.hours[1]"]
    assert "in quotes" in said["link.hours[2].to"]
    assert "at least 8kbit/s" in said["link.hours[2].rate"]
    assert said["upstreams.lab.link.rate"].startswith("needs a unit")
    assert "must be a list" in said["upstreams.lab.link.hours"]
    assert "greater than or equal to 1" in said["upstreams.lab.link.fetches_max"]
    assert said["upstreams.lab2.link"] == "must be `key: value` pairs"


def test_a_mistake_in_the_link_hides_no_other(tmp_path: Path) -> None:
    said = mistakes(
        tmp_path,
        """
upstreams:
  lab: {url: http://x, username: me, link: {hours: [{from: "00:00", to: "06:00"}]}}
""",
    )
    assert said["upstreams.lab.link.hours[0].rate"] == "is required"
    assert "upstreams.lab.username" in said


def test_the_tables_name_the_keys_as_they_are_written() -> None:
    table = settings_table()
    for key in ("rate", "hours", "fetches_max", "time_zone", "from", "to", "days"):
        assert f"\n| `{key}` |" in table
