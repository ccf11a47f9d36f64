"""Flights under any order of joining, leaving, refusing, failing and cancelling: every
waiter hears something, and the books are right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.cache.flights import Flight, Flights, Source
from proxy.cache.spool import Spool
from proxy.errors import AccessDenied, EntrepotError, TransferBroken, UnknownBlob
from proxy.events import Event, FlightStarted, FollowerJoined
from proxy.oci.digest import Digest
from proxy.oci.names import Repository
from proxy.ports import PUBLIC, BlobKey
from tests.support.memory_upstream import MemoryUpstream

LIMIT = 3
KEYS = [BlobKey(PUBLIC, Digest.of(bytes([number]))) for number in range(4)]
SOURCES = [
    Source(MemoryUpstream("lab"), Repository.parse(name)) for name in ("app", "fork", "other")
]
FAILURES: list[Callable[[], BaseException]] = [
    lambda: UnknownBlob("no"),
    lambda: AccessDenied("no"),
    lambda: TransferBroken("broken"),
    lambda: RuntimeError("a bug"),
]


class FlightMachine(RuleBasedStateMachine):
    """Fills do what the rules tell them; waiters wait in tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.events: list[Event] = []
        self.orders: dict[Flight, asyncio.Future[Callable[[Flight], None]]] = {}
        self.waiters: list[tuple[Flight, Source, asyncio.Task[object]]] = []
        self.ends: dict[BlobKey, int] = {}
        self.started = 0
        self.flights = self.run(self.make)
        loop = self.runner.get_loop()
        # A fill that fails with a bug says so to the loop; here it is meant to.
        loop.set_exception_handler(lambda _loop, _context: None)

    def run(self, step: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        async def settled() -> Any:
            result = await step()
            for _ in range(8):
                await asyncio.sleep(0)
            return result

        return self.runner.run(settled())

    async def make(self) -> Flights:
        return Flights(self.fill, limit=LIMIT, observe=self.events.append)

    async def fill(self, flight: Flight) -> None:
        self.orders[flight] = asyncio.get_running_loop().create_future()
        order = await self.orders[flight]
        order(flight)

    def teardown(self) -> None:
        async def close() -> None:
            await self.flights.aclose(grace_s=0)

        self.run(close)
        assert len(self.flights) == 0
        # Whoever was still waiting has heard of the end.
        assert all(task.done() for _, _, task in self.waiters)
        self.runner.close()

    @property
    def under_way(self) -> list[Flight]:
        return self.flights.all()

    def pick(self, number: int) -> Flight:
        return self.under_way[number % len(self.under_way)]

    @rule(key=st.sampled_from(KEYS), source=st.sampled_from(SOURCES))
    def join_and_wait(self, key: BlobKey, source: Source) -> None:
        async def join() -> None:
            before = self.flights.get(key)
            self.flights.make_way()
            if before is None and self.flights.full:
                return
            flight, started = self.flights.join(key, source)
            assert started == (before is None)
            assert before in {None, flight}
            self.started += started
            assert source in flight.sources
            task = asyncio.create_task(flight.wait_content(source))
            self.waiters.append((flight, source, task))

        self.run(join)

    @precondition(lambda self: self.under_way)
    @rule(number=st.integers(0, 9), source=st.sampled_from(SOURCES))
    def refuse(self, number: int, source: Source) -> None:
        async def refuse() -> None:
            self.pick(number).refuse(source, AccessDenied(source.repository))

        self.run(refuse)

    @precondition(lambda self: self.under_way)
    @rule(number=st.integers(0, 9))
    def show(self, number: int) -> None:
        async def show() -> None:
            self.pick(number).show(b"content")

        self.run(show)

    @precondition(lambda self: self.under_way)
    @rule(number=st.integers(0, 9), how=st.sampled_from([None, *FAILURES]))
    def end(self, number: int, how: Callable[[], BaseException] | None) -> None:
        def order(_flight: Flight) -> None:
            if how is not None:
                raise how()

        async def end() -> None:
            flight = self.pick(number)
            self.ends[flight.key] = self.ends.get(flight.key, 0) + 1
            self.orders[flight].set_result(order)

        self.run(end)

    @precondition(lambda self: self.waiters)
    @rule(number=st.integers(0, 99))
    def leave(self, number: int) -> None:
        async def leave() -> None:
            self.waiters.pop(number % len(self.waiters))[2].cancel()

        self.run(leave)

    @invariant()
    def nobody_is_stranded_and_everybody_hears_what_is_his(self) -> None:
        for flight, source, task in self.waiters:
            over = flight.ended or flight.content is not None or source in flight.refused
            assert task.done() == over
            if not task.done():
                continue
            error = task.exception()
            if error is not None:
                assert isinstance(error, EntrepotError)
                foreign = source not in flight.refused
                assert not (foreign and isinstance(error, UnknownBlob | AccessDenied))
            elif task.result() is not None:
                assert task.result() == b"content"

    @invariant()
    def the_books_are_right(self) -> None:
        assert len(self.flights) <= LIMIT
        assert self.flights.full == (len(self.flights) == LIMIT)
        for flight in self.under_way:
            assert self.flights.get(flight.key) is flight
            assert not flight.ended
        assert all(self.flights.ends(key) == self.ends.get(key, 0) for key in KEYS)
        told = [type(event) for event in self.events]
        assert told.count(FlightStarted) == self.started
        assert told.count(FlightStarted) + told.count(FollowerJoined) == len(told)


TestFlights = FlightMachine.TestCase
TestFlights.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


async def test_a_flight_that_is_cancelled_before_its_first_step_strands_nobody() -> None:
    async def fill(_flight: Flight) -> None:
        raise AssertionError("never begun")

    flights = Flights(fill, limit=1, observe=lambda _event: None)
    flight, _ = flights.join(KEYS[0], SOURCES[0])
    closing = asyncio.create_task(flights.aclose(grace_s=0))
    for task in flights._tasks:
        task.cancel()
    with pytest.raises(TransferBroken):
        await asyncio.wait_for(flight.wait_content(SOURCES[0]), 5)
    await closing
    assert len(flights) == 0
    assert flights.full


async def test_the_number_of_followers_is_told_to_whoever_paces_them() -> None:
    counts: list[int] = []
    flight = Flight(KEYS[0], SOURCES[0])
    flight.followers_changed = counts.append
    flight.follow()
    flight.follow()
    flight.leave()
    assert counts == [1, 2, 1]


def lingering(flights: Flights, key: BlobKey) -> Flight:
    flight, _ = flights.join(key, SOURCES[0], window=(0, 1))
    return flight


async def forever(_flight: Flight) -> None:
    await asyncio.Event().wait()


async def test_flights_that_only_linger_are_told_to_end_before_there_are_too_many() -> None:
    flights = Flights(forever, limit=8, observe=lambda _event: None)
    keys = [BlobKey(PUBLIC, Digest.of(bytes([number, 1]))) for number in range(8)]
    all_of_them = [lingering(flights, key) for key in keys[:6]]
    flights.make_way()
    assert not flights.full
    assert not any(flight.parting for flight in all_of_them)
    all_of_them.append(lingering(flights, keys[6]))
    all_of_them[0].follow()
    heard: list[int] = []
    all_of_them[1].changed = lambda: heard.append(1)
    flights.make_way()
    assert not flights.full
    assert [flight.parting for flight in all_of_them] == [False, True] + 5 * [False]
    assert heard == [1]
    await flights.aclose(0)


async def test_a_flight_that_somebody_is_about_to_follow_does_not_part() -> None:
    flight = Flight(KEYS[0], SOURCES[0], whole=False)
    heard: list[int] = []
    flight.changed = lambda: heard.append(1)
    with flight.arrival():
        assert not flight.part()
    assert heard == [1]
    assert flight.part()


async def test_a_flight_that_parts_brings_no_whole_any_more() -> None:
    flight = Flight(KEYS[0], SOURCES[0], whole=False)
    assert flight.part()
    assert not flight.want_whole()
    assert not flight.whole
    other = Flight(KEYS[0], SOURCES[0], whole=False)
    assert other.want_whole()
    assert not other.part()


async def test_nobody_waits_for_a_flight_that_ended_without_saying_why(tmp_path: Path) -> None:
    flight = Flight(KEYS[0], SOURCES[0], whole=False)
    spool = Spool(tmp_path / "spool", KEYS[0].digest, 1000)
    flight.show(spool)
    waiting = asyncio.create_task(spool.wait(0, whole=False))
    await asyncio.sleep(0)
    flight.end()
    with pytest.raises(TransferBroken):
        await waiting
