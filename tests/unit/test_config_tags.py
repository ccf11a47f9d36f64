"""Rules for tags, moments, offline and further listeners: what is accepted and what is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import ConfigError, Settings, load, shown
from proxy.config.moments import parse_moment, seconds, spelled
from proxy.upstreams import is_offline, policies


def read(path: Path, text: str) -> Settings:
    path.write_text(text)
    return load(path, {}, {})


def mistakes(path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(path, text)
    return [str(one) for one in caught.value.problems]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "entrepot.yaml"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-10-01", "2026-10-01T00:00:00Z"),
        ("'2026-10-01'", "2026-10-01T00:00:00Z"),
        ("2026-10-01T12:30:00Z", "2026-10-01T12:30:00Z"),
        ("2026-10-01T12:30:00+02:00", "2026-10-01T10:30:00Z"),
        ("2026-10-01 12:30", "2026-10-01T12:30:00Z"),
    ],
)
def test_a_moment_is_a_date_or_a_time_and_utc_unless_it_says_more(
    path: Path, text: str, expected: str
) -> None:
    settings = read(path, f"listeners: [{{listen: 'h:1', as_of: {text}}}]")
    assert settings.listeners[0].as_of == expected
    hub = read(path, f"upstreams: {{docker.io: {{as_of: {text}}}}}").upstreams["docker.io"]
    assert hub.as_of == expected


@given(st.integers(0, 4_000_000_000))
def test_a_moment_is_read_as_it_is_spelled(at: int) -> None:
    assert parse_moment(spelled(at)) == spelled(at)
    assert seconds(spelled(at)) == at


@pytest.mark.parametrize("text", ["yesterday", "5", "'2026-13-01'", "true", "[2026-10-01]"])
def test_what_is_no_moment_is_told(path: Path, text: str) -> None:
    (said,) = mistakes(path, f"listeners: [{{listen: 'h:1', as_of: {text}}}]")
    assert said.startswith("listeners[0].as_of: must be a date such as 2026-10-01")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{match: '*:v*'}", "tag_rules[0]: says nothing"),
        ("{match: '*:v*', immutable: true, cache: false}", "tag_rules[0]: `immutable` needs"),
        ("{match: '*:v*', immutable: true, fresh_s: 5}", "tag_rules[0]: `immutable` means"),
        ("{match: '*:v*', cache: false, fresh_s: 5}", "tag_rules[0]: `cache: false` means"),
        ("{match: 'library/alpine', immutable: true}", "tag_rules[0].match: must be REPOSITORY"),
        ("{match: 'Library/*:x', immutable: true}", "tag_rules[0].match: must be REPOSITORY"),
        ("{match: '*:', immutable: true}", "tag_rules[0].match: must be REPOSITORY"),
        ("{immutable: true}", "tag_rules[0].match: is required"),
        ("{match: '*:v', imutable: true}", "tag_rules[0].imutable: unknown key; did you mean"),
        ("{match: '*:v', fresh_s: -1}", "tag_rules[0].fresh_s: "),
        ("x", "tag_rules[0]: must be `key: value` pairs"),
    ],
)
def test_each_mistake_in_a_rule_is_told_with_its_place(path: Path, rule: str, said: str) -> None:
    (found,) = mistakes(path, f"tag_rules: [{rule}]")
    assert found.startswith(said)
    (found,) = mistakes(path, f"upstreams: {{docker.io: {{tag_rules: [{rule}]}}}}")
    assert found.startswith(f"upstreams.docker.io.{said}")


def test_a_lone_rule_is_told_to_be_no_list(path: Path) -> None:
    (found,) = mistakes(path, "tag_rules: {match: '*:v', immutable: true}")
    assert found.startswith("tag_rules: must be a list of rules")


@pytest.mark.parametrize("first", ["*:*", "app:v*"])
def test_a_rule_that_never_gets_its_turn_is_told(path: Path, first: str) -> None:
    text = f"""tag_rules:
  - {{match: '{first}', fresh_s: 5}}
  - {{match: 'app:v*', immutable: true}}
"""
    (found,) = mistakes(path, text)
    assert found.startswith("tag_rules[1].match: never gets its turn: `tag_rules[0]`")


def test_listeners_clash_with_all_others(path: Path) -> None:
    text = "listen: 'h:1'\nlisteners: [{listen: 'h:1'}, {listen: 'h:2'}, {listen: 'h:2'}]"
    assert mistakes(path, text) == [
        "listeners[0].listen: is the same address as `listen`",
        "listeners[2].listen: is the same address as `listeners[1]`",
    ]


def test_an_upstream_may_be_out_of_line_with_the_rest(path: Path) -> None:
    text = "offline: {}\nupstreams: {{docker.io: {{offline: {}}}}}"
    for whole, one in (("true", "false"), ("false", "true")):
        settings = read(path, text.format(whole, one))
        assert is_offline(settings, "docker.io") is (one == "true")
        assert is_offline(settings, "quay.io") is (whole == "true")


def test_the_rules_of_an_upstream_come_before_the_general_ones(path: Path) -> None:
    text = """tag_rules: [{match: '*:a', fresh_s: 1}]
upstreams: {docker.io: {tag_rules: [{match: '*:b', fresh_s: 2}], as_of: 2026-10-01}}
"""
    found = policies(read(path, text))
    assert [rule.match for rule in found["docker.io"].rules] == ["*:b", "*:a"]
    assert [rule.match for rule in found["quay.io"].rules] == ["*:a"]
    assert (found["docker.io"].as_of, found["quay.io"].as_of) == (1790812800.0, None)


def test_what_is_shown_can_be_read_again(path: Path) -> None:
    text = """offline: true
listeners: [{listen: 'h:7', as_of: 2026-10-01T12:00:00+02:00}]
tag_rules: [{match: '*:v*', immutable: true}, {match: '*:*', fresh_s: 5m}]
upstreams:
  docker.io: {as_of: 2026-10-01, offline: false, tag_rules: [{match: '*:n', cache: false}]}
"""
    settings = read(path, text)
    again = shown(settings)
    for one in again["upstreams"].values():
        for told in ("credentialed", "group"):
            one.pop(told, None)
    assert read(path, yaml.safe_dump(again)) == settings
