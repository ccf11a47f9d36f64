"""The decision about a tag: every answer of an upstream, at every age of the record."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.freshness import (
    Ask,
    Confirmed,
    Fail,
    Fresh,
    Gone,
    Move,
    Policy,
    Stale,
    after,
    before,
    fresh_window,
)
from proxy.cache.records import TagRecord
from proxy.cache.tag_rules import Rule
from proxy.errors import AccessDenied, BadUpstreamAnswer, UpstreamLimited, UpstreamUnavailable
from proxy.oci.digest import Digest
from proxy.oci.manifests import OCI_INDEX, OCI_MANIFEST, Descriptor
from proxy.oci.names import Repository, Tag

URL = "https://registry.example"
OLD, NEW = (
    Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(body), size=3) for body in (b"old", b"new")
)
TIMES = st.floats(0, 4e9)
SPANS = st.floats(0, 1e8)
TROUBLE = st.sampled_from(
    [UpstreamUnavailable("down"), BadUpstreamAnswer("a web page"), UpstreamLimited("429")]
)


def record(checked_at: float, **more: object) -> TagRecord:
    return TagRecord(
        url=URL, current=OLD, previous=None, fetched_at=5.0, checked_at=checked_at, extra=more
    )


def policy(fresh_s: float = 60, stale_max_s: float = 600) -> Policy:
    return Policy(fresh_s=fresh_s, stale_max_s=stale_max_s)


@given(checked_at=TIMES, age_s=SPANS, fresh_s=SPANS)
def test_a_record_is_served_unasked_only_within_its_time(
    checked_at: float, age_s: float, fresh_s: float
) -> None:
    known = record(checked_at)
    now = checked_at + age_s
    decision = before(known, now=now, policy=policy(fresh_s))
    assert decision == (Fresh(known) if now - checked_at < fresh_s else Ask())


@given(checked_at=TIMES, back_s=st.floats(5.001, 1e6))
def test_a_clock_that_was_set_back_keeps_nothing_fresh(checked_at: float, back_s: float) -> None:
    assert before(record(checked_at), now=checked_at - back_s, policy=policy()) == Ask()


def test_small_differences_between_clocks_do_not_matter() -> None:
    known = record(1000.0)
    assert before(known, now=996.0, policy=policy()) == Fresh(known)
    assert before(None, now=996.0, policy=policy()) == Ask()
    # Zero means: ask each time.
    assert before(known, now=1000.0, policy=policy(fresh_s=0)) == Ask()


@given(age_s=SPANS, trouble=TROUBLE, limited=st.booleans())
def test_trouble_never_takes_away_what_is_held(
    age_s: float, trouble: UpstreamUnavailable, limited: bool
) -> None:
    known = record(0.0)
    decision = after(known, trouble, url=URL, now=age_s, policy=policy(), limited=limited)
    assert decision == Stale(known, "limited" if limited else "unreachable")
    assert after(None, trouble, url=URL, now=age_s, policy=policy()) == Fail(trouble)


@given(age_s=SPANS, stale_max_s=SPANS)
def test_a_refusal_is_believed_in_the_end(age_s: float, stale_max_s: float) -> None:
    known, refused = record(0.0), AccessDenied("no")
    decision = after(known, refused, url=URL, now=age_s, policy=policy(60, stale_max_s))
    assert decision == (Stale(known, "refused") if age_s <= stale_max_s else Fail(refused))
    assert after(None, refused, url=URL, now=age_s, policy=policy()) == Fail(refused)


@pytest.mark.parametrize("known", [None, record(0.0)])
def test_no_such_tag_is_the_truth(known: TagRecord | None) -> None:
    assert after(known, None, url=URL, now=9.0, policy=policy()) == Gone()


@given(age_s=SPANS)
def test_what_is_pinned_is_not_taken_away_by_what_its_upstream_says(age_s: float) -> None:
    known, refused = record(0.0), AccessDenied("no")
    for answer, reason in ((None, "gone"), (refused, "refused")):
        decision = after(known, answer, url=URL, now=age_s, policy=policy(60, 0), pinned=True)
        assert decision == Stale(known, reason)
    assert after(None, None, url=URL, now=age_s, policy=policy(), pinned=True) == Gone()


def test_the_same_digest_confirms_whatever_else_is_said_of_it() -> None:
    known = record(0.0)
    same = Descriptor(media_type=OCI_INDEX, digest=OLD.digest, size=99)
    assert after(known, same, url=URL, now=9.0, policy=policy()) == Confirmed(known)


def test_another_digest_moves_the_tag_and_remembers_where_it_was() -> None:
    decision = after(record(0.0, note="kept"), NEW, url=URL, now=9.0, policy=policy())
    assert decision == Move(
        TagRecord(
            url=URL,
            current=NEW,
            previous=OLD,
            fetched_at=9.0,
            checked_at=9.0,
            extra={"note": "kept"},
        )
    )


def test_a_first_answer_makes_a_record() -> None:
    decision = after(None, NEW, url=URL, now=9.0, policy=policy())
    assert isinstance(decision, Move)
    assert (decision.record.current, decision.record.previous) == (NEW, None)
    assert decision.record.extra == {}


def ruled(**said: Any) -> Policy:
    """What holds for `app:v1` where one rule is for all tags."""
    rule = Rule(match="*:*", **said)
    general = Policy(fresh_s=60, stale_max_s=600, upstream="lab", rules=(rule,))
    return general.of(Repository.parse("app"), Tag.parse("v1"))


def test_a_tag_that_never_moves_is_fresh_for_ever() -> None:
    assert fresh_window(record(0.0), ruled(immutable=True)) == (-math.inf, math.inf)
    assert before(record(0.0), now=1e12, policy=ruled(immutable=True)) == Fresh(record(0.0))


def test_of_a_tag_that_is_not_cached_nothing_is_fresh() -> None:
    policy = ruled(cached=False)
    assert not policy.cached
    assert before(record(9.0), now=9.0, policy=policy) == Ask()


@given(checked_at=TIMES, now=TIMES)
def test_within_its_window_a_tag_is_fresh(checked_at: float, now: float) -> None:
    known = record(checked_at)
    begin, end = fresh_window(known, policy())
    assert begin < checked_at < end
    if begin <= now <= end:
        assert before(known, now=now, policy=policy()) == Fresh(known)


def test_a_rule_that_says_how_long_says_only_that() -> None:
    assert (ruled(fresh_s=5).fresh_s, ruled(fresh_s=5).stale_max_s) == (5, 600)
    assert ruled().fresh_s == 60
