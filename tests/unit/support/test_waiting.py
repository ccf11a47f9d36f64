"""The helper that tests wait with: it ends as soon as it may and no later than it must."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.waiting import until


async def test_it_gives_the_first_answer_that_is_true():
    answers = iter([None, 0, "", [], "this", "that"])
    assert await until(lambda: next(answers)) == "this"
    assert list(answers) == ["that"]


async def test_an_answer_may_have_to_be_awaited():
    answers = iter([None, False, 7, 8])

    async def fact() -> int | None:
        await asyncio.sleep(0)
        return next(answers)

    assert await until(fact) == 7
    assert list(answers) == [8]


async def test_others_go_on_meanwhile():
    come = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, come.set)
    assert await until(come.is_set, "it comes") is True


async def test_what_never_comes_is_named():
    with pytest.raises(AssertionError, match=r"^not within 0\.05 s: pigs fly$"):
        await until(lambda: False, "pigs fly", deadline_s=0.05)
    with pytest.raises(AssertionError, match="is_set"):
        await until(asyncio.Event().is_set, deadline_s=0.05)


async def test_an_answer_that_hangs_is_cancelled_at_the_deadline():
    hanging = asyncio.get_running_loop().create_future()
    with pytest.raises(AssertionError, match="an answer"):
        await until(lambda: hanging, "an answer", deadline_s=0.05)
    assert hanging.cancelled()


async def test_what_the_fact_raises_is_raised_a_timeout_of_its_own_included():
    async def late() -> bool:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await until(late)
    with pytest.raises(ZeroDivisionError):
        await until(lambda: 1 // 0)


async def test_who_gives_up_waiting_is_no_failed_wait():
    waiting = asyncio.create_task(until(lambda: False))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await until(lambda: False)
