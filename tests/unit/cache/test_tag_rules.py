"""The matcher of tag rules: a shell's patterns, the first that matches, nothing else."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.freshness import Ask, Fresh, Policy, before, fresh_window
from proxy.cache.records import TagRecord
from proxy.cache.tag_rules import Rule, rule_for
from proxy.oci.digest import Digest
from proxy.oci.manifests import OCI_MANIFEST, Descriptor
from proxy.oci.names import Repository, Tag

_PIECES = st.sampled_from(["a", "b", "lib", "*", "?", "[ab]", "[!a]", "-", "."])
_REPOSITORIES = st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3).map(
    "/".join
)
_TAGS = st.text("abv1.-", min_size=1, max_size=6).filter(lambda one: one[0] not in ".-")
_MATCHES = st.builds(
    lambda repository, tag: f"{''.join(repository)}:{''.join(tag)}",
    st.lists(st.one_of(_PIECES, st.just("/")), min_size=1, max_size=4),
    st.lists(_PIECES, min_size=1, max_size=4),
)
_RULES = st.lists(_MATCHES.map(lambda match: Rule(match=match, fresh_s=1.0)), max_size=4)


def found(match: str, repository: str, tag: str) -> bool:
    rules = [Rule(match=match, immutable=True)]
    return rule_for(rules, "docker.io", Repository.parse(repository), Tag.parse(tag)) is not None


@pytest.mark.parametrize(
    ("match", "repository", "tag", "expected"),
    [
        ("library/*:*-slim", "library/python", "3.12-slim", True),
        ("library/*:*-slim", "library/python", "3.12-slim-bookworm", False),
        ("library/*:*-slim", "team/python", "3.12-slim", False),
        ("*:v*", "team/deep/app", "v1", True),
        ("*:v*", "team/deep/app", "V1", False),
        ("docker.io/library/*:latest", "library/alpine", "latest", True),
        ("ghcr.io/library/*:latest", "library/alpine", "latest", False),
        ("app:v?", "app", "v1", True),
        ("app:v?", "app", "v12", False),
        ("app:v[12]", "app", "v2", True),
        ("app:v[!12]", "app", "v2", False),
        ("a.p:v1", "app", "v1", False),
    ],
)
def test_a_pattern_is_a_shells(match: str, repository: str, tag: str, *, expected: bool) -> None:
    assert found(match, repository, tag) is expected


@given(_RULES, _REPOSITORIES, _TAGS)
def test_the_first_rule_of_which_both_halves_match_is_the_one(
    rules: list[Rule], repository: str, tag: str
) -> None:
    expected = None
    for rule in rules:
        left, _, right = rule.match.rpartition(":")
        names = (repository, f"hub/{repository}")
        if fnmatchcase(tag, right) and any(fnmatchcase(name, left) for name in names):
            expected = rule
            break
    assert rule_for(rules, "hub", Repository.parse(repository), Tag.parse(tag)) is expected


@given(_REPOSITORIES, _TAGS, _RULES)
def test_a_rule_that_does_not_match_changes_nothing(
    repository: str, tag: str, rules: list[Rule]
) -> None:
    policy = Policy(fresh_s=5, stale_max_s=7, upstream="hub", rules=tuple(rules))
    own = policy.of(Repository.parse(repository), Tag.parse(tag))
    matched = rule_for(rules, "hub", Repository.parse(repository), Tag.parse(tag)) is not None
    assert (own.fresh_s, own.stale_max_s, own.cached) == (1.0 if matched else 5, 7, True)


def _record(checked_at: float) -> TagRecord:
    current = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(b"x"), size=1)
    return TagRecord(
        url="u", current=current, previous=None, fetched_at=checked_at, checked_at=checked_at
    )


@given(st.floats(0, 1e10), st.floats(0, 1e10))
def test_what_never_moves_is_fresh_at_any_time(checked_at: float, now: float) -> None:
    policy = Policy(
        fresh_s=0, stale_max_s=0, upstream="hub", rules=(Rule(match="*:v*", immutable=True),)
    ).of(Repository.parse("app"), Tag.parse("v1"))
    record = _record(checked_at)
    assert before(record, now=now, policy=policy) == Fresh(record)
    assert before(None, now=now, policy=policy) == Ask()
    assert fresh_window(record, policy) == (-math.inf, math.inf)


def test_what_is_not_cached_is_never_fresh() -> None:
    policy = Policy(
        fresh_s=60, stale_max_s=0, upstream="hub", rules=(Rule(match="*:v*", cached=False),)
    ).of(Repository.parse("app"), Tag.parse("v1"))
    assert not policy.cached
    assert before(_record(10.0), now=10.0, policy=policy) == Ask()
