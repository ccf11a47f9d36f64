"""The section `keep`: read, shown, and refused with a plain reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import ConfigError, Settings, load, shown

FILE = """
version: 1
keep:
  pins: ["docker.io/library/alpine:3.20", "docker.io/library/*:*-slim"]
  retention:
    - {match: "ghcr.io/ours/*:pr-*", unused_s: 14d}
    - {match: "*", unused_s: 90d, newest: 5}
"""


def loaded(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "entrepot.yaml"
    path.write_text(text)
    return load(path, {}, {})


def test_pins_and_rules_are_read_and_shown_as_they_were_written(tmp_path: Path) -> None:
    settings = loaded(tmp_path, FILE)
    assert settings.keep.pins == ("docker.io/library/alpine:3.20", "docker.io/library/*:*-slim")
    first, second = settings.keep.retention
    assert (first.match, first.unused_s, first.newest) == ("ghcr.io/ours/*:pr-*", 14 * 86_400, None)
    assert (second.unused_s, second.newest) == (90 * 86_400, 5)
    assert shown(settings)["keep"]["retention"][1] == {
        "match": "*",
        "unused_s": 7_776_000,
        "newest": 5,
    }
    assert "keep" not in shown(loaded(tmp_path, "version: 1\n"))


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ("{pins: docker.io/x}", "must be a list"),
        ("{pins: ['a b']}", "must be an image"),
        ("{retention: [{match: '*'}]}", "says nothing"),
        ("{retention: [{match: '*', unused: 3d}]}", "did you mean unused_s"),
        ("{retention: [{unused_s: 3d}]}", "match"),
        ("{retention: [{match: '*', newest: -1}]}", "greater than or equal"),
        ("{retention: [{match: '*', unused_s: soon}]}", "must be a duration"),
        ("{retention: {match: '*', newest: 1}}", "must be a list"),
        ("{retentions: []}", "did you mean retention"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, section: str, reason: str) -> None:
    with pytest.raises(ConfigError) as told:
        loaded(tmp_path, f"version: 1\nkeep: {section}\n")
    (line,) = [one for one in told.value.lines() if "keep" in one]
    assert reason in line, line
