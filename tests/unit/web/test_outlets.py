"""Turns of those that send: in order, bounded in time, with others in between."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
import time
import weakref

import pytest

from proxy.web.outlets import TURN_S, Outlets, of_this_loop


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def fill(full: socket.socket) -> int:
    """Bytes until it was full."""
    sent = 0
    while True:
        try:
            sent += full.send(bytes(65_536))
        except BlockingIOError:
            return sent


async def test_turns_come_in_order() -> None:
    went: list[int] = []
    outlets = of_this_loop()
    for number in range(5):
        outlets.soon(lambda number=number: went.append(number))
    assert went == []
    await asyncio.sleep(0)
    assert went == [0, 1, 2, 3, 4]


async def test_the_loop_does_other_things_between_turns() -> None:
    """Each takes a whole turn, so each is followed by whatever else is due."""
    seen: list[str] = []
    outlets, loop = of_this_loop(), asyncio.get_running_loop()
    done = loop.create_future()

    def busy() -> None:
        seen.append("sends")
        until = time.perf_counter() + TURN_S
        while time.perf_counter() < until:
            pass

    def other() -> None:
        seen.append("other")
        if len(seen) < 8:
            loop.call_soon(other)
        else:
            done.set_result(None)

    for _ in range(4):
        outlets.soon(busy)
    loop.call_soon(other)
    await done
    assert seen == ["sends", "other"] * 4


async def test_one_that_fails_stops_no_other() -> None:
    loop, outlets = asyncio.get_running_loop(), of_this_loop()
    told: list[object] = []
    loop.set_exception_handler(lambda _loop, context: told.append(context["exception"]))
    mistake, went = LookupError("a mistake"), asyncio.Event()

    def fails() -> None:
        raise mistake

    outlets.soon(fails)
    outlets.soon(went.set)
    await went.wait()
    assert told == [mistake]


async def test_whoever_is_full_is_told_each_time_it_takes_something(pair) -> None:
    ours, theirs = pair
    told: asyncio.Queue[int] = asyncio.Queue()
    outlets = of_this_loop()
    held = fill(ours)
    outlets.watch(ours.fileno(), lambda: told.put_nowait(1))
    for _ in range(3):
        left = held
        while left:
            left -= len(theirs.recv(left))
        await told.get()
        held = fill(ours)
    outlets.leave(ours.fileno())


async def test_one_that_takes_bytes_already_is_told(pair) -> None:
    ours, _ = pair
    told = asyncio.Event()
    outlets = of_this_loop()
    outlets.watch(ours.fileno(), told.set)
    await told.wait()
    outlets.leave(ours.fileno())


async def test_nothing_is_held_when_nobody_watches(pair) -> None:
    _, theirs = pair
    before = len(os.listdir("/proc/self/fd"))
    outlets = of_this_loop()
    for one in pair:
        outlets.watch(one.fileno(), lambda: None)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    for one in pair:
        outlets.leave(one.fileno())
        outlets.leave(one.fileno())
    assert len(os.listdir("/proc/self/fd")) == before
    outlets.watch(theirs.fileno(), lambda: None)
    outlets.leave(theirs.fileno())
    assert len(os.listdir("/proc/self/fd")) == before


async def test_one_that_left_is_not_told(pair) -> None:
    ours, _ = pair
    outlets = of_this_loop()
    told: list[int] = []
    outlets.watch(ours.fileno(), lambda: told.append(1))
    outlets.leave(ours.fileno())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert told == []


async def test_each_loop_has_its_own() -> None:
    assert of_this_loop() is of_this_loop()
    assert isinstance(of_this_loop(), Outlets)
    other = await asyncio.to_thread(lambda: asyncio.run(_of_another()))
    assert other is not of_this_loop()


async def _of_another() -> Outlets:
    return of_this_loop()


def test_a_loop_that_ended_is_forgotten() -> None:
    loop = asyncio.new_event_loop()

    async def use() -> None:
        of_this_loop().soon(lambda: None)
        await asyncio.sleep(0)

    loop.run_until_complete(use())
    loop.close()
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None


async def test_no_descriptor_is_kept_for_one_that_could_not_be_watched() -> None:
    outlets = of_this_loop()
    with pytest.raises(OSError, match="Bad file"):
        outlets.watch(999_999, lambda: None)
    assert outlets._epoll is None


async def test_who_comes_after_one_that_nobody_could_be_told_of_is_told(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    outlets, loop = of_this_loop(), asyncio.get_running_loop()

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "no more watches")

    with monkeypatch.context() as patched:
        patched.setattr(loop, "add_reader", full)
        with pytest.raises(OSError, match="no more watches"):
            outlets.watch(pair[0].fileno(), lambda: None)
    told = asyncio.Event()
    outlets.watch(pair[0].fileno(), told.set)
    await asyncio.wait_for(told.wait(), 20)
    outlets.leave(pair[0].fileno())
