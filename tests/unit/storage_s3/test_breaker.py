"""The breaker of S3: a dead store is asked rarely, a living one always."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.storage.s3.breaker import FAILURES_MAX, OPEN_S_MAX, OPEN_S_MIN, Breaker
from proxy.storage.s3.trouble import S3Refused, S3Unreachable


@pytest.fixture
def breaker() -> Breaker:
    return Breaker()


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


def test_an_open_one_lets_only_probes_pass_until_one_is_answered(breaker):
    fail(breaker, FAILURES_MAX)
    with breaker.call(probe=True):
        assert refused_at_once(breaker)
    assert breaker.trouble == ""
    with breaker.call():
        pass


def test_a_refusal_of_the_probe_closes_it(breaker):
    fail(breaker, FAILURES_MAX)
    refused = S3Refused("no", status=403, code="AccessDenied", headers={})
    with pytest.raises(S3Refused), breaker.call(probe=True):
        raise refused
    assert breaker.trouble == ""


def test_probes_come_more_rarely_down_to_a_bound(breaker):
    fail(breaker, FAILURES_MAX)
    waits = [breaker.wait_s]
    for _ in range(6):
        with pytest.raises(S3Unreachable), breaker.call(probe=True):
            raise S3Unreachable("gone")
        waits.append(breaker.wait_s)
    assert (waits[0], waits[-1]) == (OPEN_S_MIN, OPEN_S_MAX)
    assert waits == sorted(waits)


def test_a_call_that_was_cancelled_tells_nothing(breaker):
    fail(breaker, FAILURES_MAX)
    with pytest.raises(KeyboardInterrupt), breaker.call(probe=True):
        raise KeyboardInterrupt
    assert breaker.trouble == "gone"
