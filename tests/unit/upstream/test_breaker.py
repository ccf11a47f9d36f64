from __future__ import annotations

import pytest

from proxy.errors import UpstreamLimited, UpstreamUnavailable
from proxy.upstream.breaker import Breaker
from tests.support.asking import Ticks


@pytest.fixture
def ticks():
    return Ticks()


@pytest.fixture
def moves():
    return []


@pytest.fixture
def breaker(ticks, moves):
    return Breaker("up", ticks, lambda state, reason: moves.append((state, reason)))


def fail(breaker, times=1, lane="api"):
    for _ in range(times):
        with breaker.enter(lane) as call:
            call.failed("up: no connection")


def succeed(breaker, lane="api"):
    with breaker.enter(lane) as call:
        call.succeeded()


def refused(breaker, lane="api"):
    with pytest.raises(UpstreamUnavailable) as raised:
        breaker.enter(lane)
    return raised.value


def test_two_failures_do_not_open_it_and_a_success_forgets_them(breaker, moves):
    fail(breaker, 2)
    succeed(breaker)
    fail(breaker, 2)
    succeed(breaker)
    assert moves == []


def test_three_failures_in_a_row_open_it_for_two_seconds_with_the_reason(breaker, ticks, moves):
    fail(breaker, 3)
    assert "no connection" in str(refused(breaker))
    assert "no connection" in str(refused(breaker, "blob"))
    assert breaker.state() == ("failing", "up: no connection", 2.0)
    assert moves == [("failing", "up: no connection")]
    ticks.now_s += 1.99
    refused(breaker)
    ticks.now_s += 0.01
    succeed(breaker)
    assert breaker.state() == ("ok", "", 0.0)
    assert moves[1:] == [("ok", "")]


def test_the_wait_doubles_up_to_a_minute(breaker, ticks):
    fail(breaker, 3)
    waits = []
    for _ in range(7):
        waits.append(breaker.state()[2])
        ticks.now_s += waits[-1]
        fail(breaker)
    assert waits == [2, 4, 8, 16, 32, 60, 60]


def test_after_a_success_the_wait_begins_anew(breaker, ticks):
    fail(breaker, 3)
    ticks.now_s += 2
    fail(breaker)
    ticks.now_s += 4
    succeed(breaker)
    fail(breaker, 3)
    assert breaker.state()[2] == 2


def test_one_call_at_a_time_may_probe(breaker, ticks):
    fail(breaker, 3)
    ticks.now_s += 2
    with breaker.enter("api") as probe:
        refused(breaker)
        refused(breaker, "blob")
        probe.succeeded()
        succeed(breaker)


def test_a_probe_that_is_cancelled_leaves_its_turn_to_the_next(breaker, ticks):
    fail(breaker, 3)
    ticks.now_s += 2
    with breaker.enter("api"):
        pass
    with breaker.enter("api") as probe:
        refused(breaker)
        probe.failed("still down")
    assert breaker.state()[2] == 4


def test_failures_of_calls_that_began_before_it_opened_do_not_prolong_it(breaker):
    calls = [breaker.enter("api") for _ in range(6)]
    for call in calls:
        call.failed("down")
    assert breaker.state()[2] == 2


def test_a_call_counts_once(breaker):
    with breaker.enter("api") as call:
        for _ in range(3):
            call.failed("down")
        call.limited(60)
        call.succeeded()
    assert breaker.state() == ("unused", "", 0.0)
    succeed(breaker)


@pytest.mark.parametrize(("asked_s", "waits_s"), [(None, 5), (0.5, 0.5), (30, 30), (3600, 60)])
def test_429_leaves_the_api_alone_for_as_long_as_asked(breaker, ticks, moves, asked_s, waits_s):
    with breaker.enter("api") as call:
        call.limited(asked_s)
    error = refused(breaker)
    assert isinstance(error, UpstreamLimited)
    assert error.retry_after_s == waits_s
    assert breaker.state() == ("limited", "answered 429", waits_s)
    assert moves == [("limited", "answered 429")]
    succeed(breaker, "blob")
    assert moves[1:] == []
    ticks.now_s += waits_s
    succeed(breaker)
    assert moves[1:] == [("ok", "")]


def test_429_to_a_blob_leaves_blobs_alone(breaker):
    with breaker.enter("blob") as call:
        call.limited(10)
    assert isinstance(refused(breaker, "blob"), UpstreamLimited)
    succeed(breaker, "api")


def test_429_is_an_answer_and_ends_a_row_of_failures(breaker):
    fail(breaker, 2)
    with breaker.enter("blob") as call:
        call.limited(0)
    fail(breaker, 2)
    succeed(breaker)


def test_it_knows_that_it_was_never_used(breaker):
    assert breaker.state() == ("unused", "", 0.0)
    fail(breaker)
    assert breaker.state()[0] == "unused"
    succeed(breaker)
    assert breaker.state()[0] == "ok"
