"""Many who ask at once: one piece of work, one outcome for all, nobody stranded."""

from __future__ import annotations

import asyncio

import pytest

from proxy.cache import traffic
from proxy.cache.single import SingleFlight, to_the_end
from proxy.cache.traffic import Urgency
from proxy.errors import QuotaKept
from tests.support.waiting import until


class Work:
    """Something slow that ends when told to."""

    def __init__(self) -> None:
        self.runs = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def run(self) -> int:
        self.runs += 1
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return self.runs


async def ask(single: SingleFlight, work: Work, key: str = "key") -> int:
    return await single.join(key, work.run)


async def test_all_who_ask_meanwhile_get_the_outcome_of_one_run() -> None:
    single, work = SingleFlight(), Work()
    asking = [asyncio.create_task(ask(single, work)) for _ in range(10)]
    await asyncio.sleep(0)
    assert single.running("key")
    work.go.set()
    assert set(await asyncio.gather(*asking)) == {1}
    assert len(single) == 0
    # It remembers nothing.
    assert await ask(single, work) == 2


async def test_a_failure_is_everybodys_and_is_not_remembered() -> None:
    single, work = SingleFlight(), Work()
    work.error = ValueError("no")
    asking = [asyncio.create_task(ask(single, work)) for _ in range(3)]
    await asyncio.sleep(0)
    work.go.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert results == [work.error] * 3
    work.error = None
    assert await ask(single, work) == 2


async def test_who_leaves_cancels_nothing_even_the_first() -> None:
    single, work = SingleFlight(), Work()
    first, second = (asyncio.create_task(ask(single, work)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    work.go.set()
    assert await second == 1
    assert first.cancelled()


async def test_the_failure_of_work_that_all_have_left_is_not_reported_as_lost() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, said: complaints.append(said))
    single, work = SingleFlight(), Work()
    work.error = ValueError("no")
    only = asyncio.create_task(ask(single, work))
    await asyncio.sleep(0)
    only.cancel()
    work.go.set()
    await asyncio.wait([only])
    await until(lambda: len(single) == 0, "the work has ended")
    del only
    assert complaints == []


async def test_keys_are_independent() -> None:
    single, one, other = SingleFlight(), Work(), Work()
    waiting = asyncio.create_task(ask(single, one, "one"))
    await asyncio.sleep(0)
    other.go.set()
    assert await ask(single, other, "other") == 1
    assert not waiting.done()
    one.go.set()
    await waiting


async def test_closing_ends_the_work_and_those_who_wait_for_it() -> None:
    single, work = SingleFlight(), Work()
    waiting = asyncio.create_task(ask(single, work))
    await asyncio.sleep(0)
    await single.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(single) == 0


async def test_to_the_end_obeys_a_cancellation_only_afterwards() -> None:
    steps: list[str] = []
    go = asyncio.Event()

    async def work() -> str:
        steps.append("begun")
        await go.wait()
        steps.append("done")
        return "outcome"

    task = asyncio.create_task(to_the_end(work()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == ["begun", "done"]
    assert await to_the_end(work()) == "outcome"


async def test_work_is_as_urgent_as_whoever_asks_for_it_with_most_urgency():
    flights, seen, go = SingleFlight(), list[tuple[Urgency, str]](), asyncio.Event()

    async def work() -> None:
        for _ in range(2):
            seen.append((traffic.current().urgency, traffic.current().client))
            await go.wait()

    with traffic.working_as(Urgency.WARM) as warm:
        begun = asyncio.ensure_future(flights.join("a", work))
        await asyncio.sleep(0)
    with traffic.working_as(Urgency.WAITING, client="192.0.2.1"):
        joined = asyncio.ensure_future(flights.join("a", work))
        go.set()
        await asyncio.gather(begun, joined)
    assert seen == [(Urgency.WARM, ""), (Urgency.WAITING, "192.0.2.1")]
    assert warm.urgency is Urgency.WARM  # Whoever began it is not in a hurry for that.


async def test_who_waits_asks_again_for_what_was_refused_to_a_warm_up_just_before() -> None:
    single, work = SingleFlight(), Work()
    work.error = QuotaKept("kept for who waits")
    with traffic.working_as(Urgency.WARM):
        warm = asyncio.create_task(ask(single, work))
        also_warm = asyncio.create_task(ask(single, work))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(ask(single, work)) for _ in range(3)]
    await asyncio.sleep(0)
    work.go.set()
    for one in (warm, also_warm):
        with pytest.raises(QuotaKept):
            await one
    # All of them were refused once more, as ones that wait, and that is what they hear.
    for one in waiting:
        with pytest.raises(QuotaKept):
            await one
    assert work.runs == 2


async def test_an_answer_of_just_now_is_one_for_who_comes_before_it_is_forgotten() -> None:
    single, work = SingleFlight(), Work()
    work.go.set()
    first = asyncio.create_task(ask(single, work))
    while not any(one.task.done() for one in single._running.values()):
        await asyncio.sleep(0)
    assert await ask(single, work) == await first
    assert work.runs == 1
