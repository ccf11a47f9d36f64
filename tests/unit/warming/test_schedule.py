"""Warm-ups at their times: each time once, by one replica, made up for if it was missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxy.cache.platforms import Platforms
from proxy.config.warm import WarmLearned, WarmRun, WarmSettings
from proxy.coordination.local import LocalCoordination
from proxy.events import Event, WarmTrigger, WarmUpFailed
from proxy.warming.plans import Notes, plans
from proxy.warming.schedule import Schedule
from proxy.wishes import Wish
from tests.support.memory_storage import MemoryRecords
from tests.support.waiting import until

DAY_S = 86400.0
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
TWO = datetime(2026, 11, 22, 2, tzinfo=UTC).timestamp()
NIGHTLY = WarmRun(cron="0 2 * * *", images=("a", "b"), platforms=("linux/arm64",), referrers=False)


class Warming:
    """Notes what it is asked to bring; brings nothing."""

    def __init__(self) -> None:
        self.wishes: list[tuple[Wish, WarmTrigger]] = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.running = 0

    async def lines(self, wish: Wish, trigger: WarmTrigger) -> AsyncIterator[dict[str, object]]:
        self.wishes.append((wish, trigger))
        self.running += 1
        try:
            await self.may_end.wait()
            yield {"image": "a", "state": "incomplete", "reason": "gone", "missing": []}
            yield {"done": True, "complete": False, "images": len(wish.images)}
        finally:
            self.running -= 1


class Replica:
    """One schedule, whose time passes only when the test says so."""

    def __init__(
        self, settings: WarmSettings, records: MemoryRecords, coordination: LocalCoordination
    ) -> None:
        self.now = NOON
        self.plans = len(plans(settings))
        self.warming = Warming()
        self.events: list[Event] = []
        self._asleep: list[tuple[float, asyncio.Event]] = []
        self.schedule = Schedule(
            settings,
            self.warming,
            records,
            coordination,
            pulled=lambda n: [("lab/often:v1", 9.0), ("lab/less:v1", 2.0)][:n],
            observe=self.events.append,
            clock=lambda: self.now,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._asleep.append((self.now + seconds, woken))
        await woken.wait()

    async def settle(self) -> None:
        """Until all of its tasks sleep."""
        await until(lambda: len(self._asleep) >= self.plans, "all sleep")

    async def at(self, now: float) -> None:
        """It is `now`; who is to wake up by then does."""
        self.now = now
        for due, woken in self._asleep:
            assert due <= now
            woken.set()
        self._asleep.clear()
        await self.settle()


@asynccontextmanager
async def running(
    settings: WarmSettings,
    records: MemoryRecords | None = None,
    coordination: LocalCoordination | None = None,
    *,
    now: float = NOON,
) -> AsyncIterator[Replica]:
    replica = Replica(settings, records or MemoryRecords(), coordination or LocalCoordination())
    replica.now = now
    async with replica.schedule:
        await replica.settle()
        yield replica


def settings(*runs: WarmRun, **more: Any) -> WarmSettings:
    return WarmSettings(schedule=runs, time_zone="UTC", platforms=("linux/amd64",), **more)


async def test_a_new_plan_begins_with_its_next_time() -> None:
    async with running(settings(NIGHTLY)) as replica:
        await replica.at(TWO - 1)
        assert replica.warming.wishes == []
        await replica.at(TWO + 60)
        ((wish, trigger),) = replica.warming.wishes
        assert wish == Wish(
            images=("a", "b"), platforms=Platforms.of(["linux/arm64"]), referrers=False
        )
        assert trigger == "schedule"
        await replica.at(TWO + DAY_S - 1)
        assert len(replica.warming.wishes) == 1
        await replica.at(TWO + DAY_S + 60)
        assert len(replica.warming.wishes) == 2


async def test_it_never_sleeps_long_since_clocks_are_put_right() -> None:
    async with running(settings(NIGHTLY)) as replica:
        ((until, _),) = replica._asleep
        assert 0 < until - NOON <= 60
        await replica.at(TWO - 10)
        ((until, _),) = replica._asleep
        assert until == TWO


async def test_what_was_missed_is_made_up_for_once() -> None:
    records = MemoryRecords()
    async with running(settings(NIGHTLY), records):
        pass
    async with running(settings(NIGHTLY), records, now=TWO + 3.5 * DAY_S) as replica:
        assert len(replica.warming.wishes) == 1
    async with running(settings(NIGHTLY), records, now=TWO + 3.6 * DAY_S) as replica:
        assert replica.warming.wishes == []


async def test_of_two_replicas_one_does_it() -> None:
    records, together = MemoryRecords(), LocalCoordination()
    async with (
        running(settings(NIGHTLY), records, together) as one,
        running(settings(NIGHTLY), records, together) as other,
    ):
        one.warming.may_end.clear()
        task = asyncio.create_task(one.at(TWO + 60))
        await until(lambda: one.warming.running, "it has begun")
        await other.at(TWO + 61)
        assert other.warming.wishes == []
        one.warming.may_end.set()
        await task
        await other.at(TWO + 200)
        assert other.warming.wishes == []


async def test_what_a_replica_did_not_finish_another_one_does() -> None:
    records, together = MemoryRecords(), LocalCoordination()
    async with running(settings(NIGHTLY), records, together) as other:
        async with running(settings(NIGHTLY), records, together) as one:
            one.warming.may_end.clear()
            task = asyncio.create_task(one.at(TWO + 60))
            await until(lambda: one.warming.running, "it has begun")
            await other.at(TWO + 61)
            task.cancel()
        await other.at(TWO + 200)
        assert len(other.warming.wishes) == 1


async def test_the_tags_that_are_pulled_are_refreshed_on_the_platforms_they_are_pulled_for() -> (
    None
):
    learned = settings(learned=WarmLearned(cron="0 2 * * *", tags_max=1))
    async with running(learned) as replica:
        await replica.at(TWO + 60)
        ((wish, trigger),) = replica.warming.wishes
        assert (wish.images, wish.as_pulled, trigger) == (("lab/often:v1",), True, "learned")


async def test_a_list_is_read_anew_each_time_and_one_that_is_gone_ends_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "list"
    path.write_text("x\n")
    async with running(settings(WarmRun(cron="0 2 * * *", file=path))) as replica:
        await replica.at(TWO + 60)
        assert replica.events == []
        path.unlink()
        await replica.at(TWO + DAY_S + 60)
        assert replica.events == [WarmUpFailed(trigger="schedule")]
        path.write_text("y\n")
        await replica.at(TWO + 2 * DAY_S + 60)
        assert [wish.images for wish, _ in replica.warming.wishes] == [("x",), ("y",)]
        assert len(replica.events) == 1


async def test_while_the_store_is_away_it_tries_again_and_does_it_once() -> None:
    records = MemoryRecords()
    async with running(settings(NIGHTLY), records) as replica:
        records.failing = True
        await replica.at(TWO + 60)
        assert replica.warming.wishes == []
        records.failing = False
        await replica.at(TWO + 120)
        await replica.at(TWO + 180)
        assert len(replica.warming.wishes) == 1
        # It was only late.
        assert replica.events == []


async def test_its_document_tells_what_is_next_and_how_it_went() -> None:
    async with running(settings(NIGHTLY, learned=WarmLearned())) as replica:
        first, learned = await replica.schedule.document()
        assert (first["plan"], first["next"], first["last"]) == ("schedule[0]", TWO, None)
        assert (learned["plan"], learned["next"]) == ("learned", TWO + 2 * 3600)
        await replica.at(TWO + 60)
        first, _ = await replica.schedule.document()
        assert (first["next"], first["last"]) == (TWO + DAY_S, TWO)
        assert first["went"] == {"complete": False, "images": 2}


async def test_a_note_that_makes_no_sense_is_none() -> None:
    (plan,) = plans(settings(NIGHTLY))
    records = MemoryRecords()
    for value in (b"", b"{", b"[]", b'{"v": 1}', b'{"v": 1, "due": "x", "sums": null}'):
        await records.put(f"warm/{plan.identity}", value)
        assert await Notes(records).latest(plan) is None


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"platforms": ("all",)}, True),
        ({"referrers": True}, True),
        ({"images": ("a",)}, False),
        ({"cron": "1 2 * * *"}, False),
    ],
)
def test_a_plan_is_the_same_one_wherever_it_stands(change: dict[str, Any], same: bool) -> None:
    (before,) = plans(settings(NIGHTLY))
    _, after = plans(
        settings(WarmRun(cron="5 5 * * *", images=("z",)), NIGHTLY.model_copy(update=change))
    )
    assert (before.identity == after.identity) is same
