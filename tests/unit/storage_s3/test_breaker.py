"""The breaker of S3: a dead store is asked rarely, a living one always."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.storage.s3.breaker import FAILURES_MAX, OPEN_S_MAX, OPEN_S_MIN, Breaker
from proxy.storage.s3.trouble import S3Refused, S3Unreachable


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def breaker(time: Time) -> Breaker:
    return Breaker(time)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(S3Unreachable, match=r"^gone$"), breaker.call():
            raise S3Unreachable("gone")


def silence(breaker: Breaker, *, meanwhile: Callable[[], object] = lambda: None) -> None:
    unheard = S3Unreachable("gone")
    unheard.silent = True

    def wait_and_fail() -> None:
        meanwhile()
        raise unheard

    with pytest.raises(S3Unreachable, match=r"^gone$"), breaker.call():
        wait_and_fail()


def refuse(breaker: Breaker) -> None:
    with pytest.raises(S3Refused), breaker.call():
        raise S3Refused("no", status=403, code="AccessDenied", headers={})


def refused_at_once(breaker: Breaker) -> bool:
    try:
        with breaker.call():
            return False
    except S3Unreachable as error:
        return str(error) == "gone; not asked again yet"


def test_it_opens_after_failures_in_a_row(breaker):
    fail(breaker, FAILURES_MAX - 1)
    assert not refused_at_once(breaker)  # which was an answer, so counting begins anew
    fail(breaker, FAILURES_MAX - 1)
    assert breaker.trouble == ""
    fail(breaker)
    assert breaker.trouble == "gone"
    assert refused_at_once(breaker)


def test_one_call_left_in_silence_opens_it(breaker):
    silence(breaker)
    assert breaker.trouble == "gone"
    assert refused_at_once(breaker)


def test_one_call_left_in_silence_is_a_failure_like_others_if_others_are_answered(breaker):
    silence(breaker, meanwhile=lambda: refused_at_once(breaker))
    assert breaker.trouble == ""
    fail(breaker, FAILURES_MAX - 1)
    assert breaker.trouble == "gone"


def test_who_refuses_is_alive(breaker):
    for _ in range(FAILURES_MAX):
        fail(breaker, FAILURES_MAX - 1)
        refuse(breaker)
    assert breaker.trouble == ""


def test_after_a_while_one_call_at_a_time_may_try(breaker, time):
    fail(breaker, FAILURES_MAX)
    time.now += OPEN_S_MIN
    with breaker.call() as probe:
        assert probe
        assert refused_at_once(breaker)
    assert breaker.trouble == ""
    with breaker.call() as probe:
        assert not probe


def test_a_refusal_of_the_probe_closes_it(breaker, time):
    fail(breaker, FAILURES_MAX)
    time.now += OPEN_S_MIN
    refuse(breaker)
    assert breaker.trouble == ""


def test_it_waits_longer_each_time_up_to_a_bound(breaker, time):
    fail(breaker, FAILURES_MAX)
    waits = [OPEN_S_MIN]
    for _ in range(8):
        time.now += waits[-1] - 0.01
        assert refused_at_once(breaker)
        time.now += 0.01
        fail(breaker)
        waits.append(min(waits[-1] * 2, OPEN_S_MAX))
    assert waits[-1] == OPEN_S_MAX


def test_a_cancelled_probe_gives_its_turn_to_the_next(breaker, time):
    fail(breaker, FAILURES_MAX)
    time.now += OPEN_S_MIN
    with pytest.raises(KeyboardInterrupt), breaker.call():
        raise KeyboardInterrupt
    assert breaker.trouble == "gone"
    with breaker.call() as probe:
        assert probe
