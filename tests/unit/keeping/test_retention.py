"""Retention's rules: which of a repository's tags go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.records import TagRecord
from proxy.config import RetentionRule
from proxy.keeping.images import Named
from proxy.keeping.retention import Pulled, outdated, rule_for
from proxy.oci.digest import Digest
from proxy.oci.manifests import Descriptor
from proxy.oci.names import Repository, Tag
from tests.support.memory_upstream import MemoryUpstream

NOW, DAY = 1_000_000_000.0, 86_400.0
UPSTREAM = MemoryUpstream("lab")


def rule(match: str = "*", days: float | None = None, newest: int | None = None) -> RetentionRule:
    seconds = None if days is None else days * DAY
    return RetentionRule(match=match, unused_s=seconds, newest=newest)


def pulled(tag: str, *, idle: float = 0, age: float | None = None) -> Pulled:
    """Last pulled `idle` days ago, fetched `age` days ago."""
    fetched_at = NOW - (idle if age is None else age) * DAY
    current = Descriptor(media_type="m", digest=Digest.of(tag.encode()), size=1)
    record = TagRecord(
        url=UPSTREAM.url,
        current=current,
        previous=None,
        fetched_at=fetched_at,
        checked_at=fetched_at,
    )
    named = Named(upstream=UPSTREAM, repository=Repository("app"), tag=Tag(tag), record=record)
    return Pulled(named, NOW - idle * DAY)


def going(tags: list[Pulled], *rules: RetentionRule) -> set[str]:
    return {str(one.pulled.named.tag) for one in outdated(tags, rules, NOW)}


def test_what_nobody_pulled_for_long_goes() -> None:
    tags = [pulled("a", idle=3), pulled("b", idle=13.9), pulled("c", idle=14), pulled("d", idle=99)]
    assert going(tags, rule(days=14)) == {"c", "d"}
    assert going(tags) == set()


def test_the_first_rule_that_matches_counts() -> None:
    tags = [pulled("pr-1", idle=20), pulled("v1", idle=20), pulled("v2", idle=100)]
    rules = (rule("lab/app:pr-*", days=14), rule("*", days=90))
    assert going(tags, *rules) == {"pr-1", "v2"}
    assert going(tags, rule("lab/app:v*", days=1000), *rules) == {"pr-1"}
    assert going(tags, rule("ghcr.io/*", days=1)) == set()


def test_the_newest_stay_in_any_case_and_without_a_time_only_they() -> None:
    tags = [pulled(f"v{age}", idle=50, age=60 + age) for age in range(5)]
    assert going(tags, rule(days=30, newest=2)) == {"v2", "v3", "v4"}
    busy = [*tags[:3], pulled("v3", idle=1, age=63)]
    assert going(busy, rule(days=30, newest=2)) == {"v2"}
    assert going(busy, rule(newest=1)) == {"v1", "v2", "v3"}
    assert going(busy, rule(newest=0)) == {"v0", "v1", "v2", "v3"}


def test_a_signature_goes_with_what_it_is_of_and_not_by_itself() -> None:
    digest = Digest.of(b"").hex
    tags = [pulled(f"sha256-{digest}.sig", idle=99), pulled(f"sha256-{digest}", idle=99)]
    assert going(tags, rule(days=1)) == set()


def test_the_reason_is_told_in_words() -> None:
    (one,) = outdated([pulled("a", idle=20)], [rule("lab/*", days=14, newest=0)], NOW)
    assert one.why == (
        "retention: rule lab/*, not pulled for 20d, kept 14d, not among the newest 0"
    )


def test_what_nobody_ever_pulled_is_told_from_what_was() -> None:
    named = pulled("a", idle=0.1).named
    (one,) = outdated([Pulled(named, NOW - 7300, ever=False)], [rule(days=1 / 24)], NOW)
    assert one.why == "retention: rule *, never pulled, here for 2h, kept 1h"
    (one,) = outdated([Pulled(named, NOW - 3.4)], [rule(days=2 / 86_400)], NOW)
    assert one.why == "retention: rule *, not pulled for 3s, kept 2s"


RULES = st.lists(
    st.builds(
        rule,
        st.sampled_from(["*", "lab/app:a*", "lab/*:*b", "other/*"]),
        st.integers(1, 30),
        st.none() | st.integers(0, 3),
    ),
    max_size=3,
)
TAGS = st.lists(
    st.builds(
        lambda tag, idle, more: pulled(tag, idle=idle, age=idle + more),
        st.text("ab1", min_size=1, max_size=3),
        st.integers(0, 40),
        st.integers(0, 40),
    ),
    unique_by=lambda one: one.named.tag,
    max_size=8,
)


@given(tags=TAGS, rules=RULES)
def test_nothing_goes_that_its_rule_keeps(tags: list[Pulled], rules: list[RetentionRule]) -> None:
    gone = going(tags, *rules)
    for one in tags:
        own = rule_for(rules, one.named.name)
        kept_s = None if own is None else own.unused_s
        if kept_s is None or NOW - one.at < kept_s:
            assert one.named.tag not in gone
        elif own is not None and not own.newest:
            assert one.named.tag in gone
    for own in rules:
        alike = [one for one in tags if rule_for(rules, one.named.name) == own]
        stay = [one for one in alike if one.named.tag not in gone]
        assert len(stay) >= min(own.newest or 0, len(alike))


@given(tags=TAGS, rules=RULES, days=st.integers(0, 50))
def test_time_only_ever_lets_more_go(
    tags: list[Pulled], rules: list[RetentionRule], days: int
) -> None:
    later = {str(one.pulled.named.tag) for one in outdated(tags, rules, NOW + days * DAY)}
    assert going(tags, *rules) <= later
