"""The fast lane's table, and the connection that asks it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web

from proxy.cache.standing import Life, Standing
from proxy.events import Event, RequestServed
from proxy.oci.digest import Digest
from proxy.oci.names import Repository, Tag
from proxy.web.fastlane import BODY_BYTES_MAX, HEAD_BYTES_MAX, FastLane, Known, Line
from proxy.web.server import Connection, PullServer
from proxy.web.uses import Given, Use
from tests.support.waiting import until

HEAD = b"GET / HTTP/1.1\r\nHost: proxy\r\n\r\n"
SERVED = RequestServed(
    kind="blob",
    method="GET",
    upstream="lab",
    outcome="hit",
    status=200,
    size=4,
    complete=True,
    duration_s=1.0,
    first_byte_s=1.0,
)


def known(head: bytes = HEAD, body: bytes = b"body") -> Known:
    return Known(
        head=head,
        before=b"HTTP/1.1 200 OK\r\nDate: ",
        after=b"\r\n\r\n",
        body=body,
        served=SERVED,
        facts={"target": head},
    )


@dataclass
class Table:
    """A lane under a clock that stands still."""

    bytes_max: int = 1_000_000
    now: float = 1000.0
    events: list[Event] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    accounts: list[Use] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lane = FastLane(
            self.bytes_max,
            observe=self.events.append,
            clock=lambda: self.now,
            log=self.lines.extend,
            account=self.accounts.append,
        )

    def ready(self, head: bytes = HEAD) -> bytes | None:
        """What would be written now."""
        answer = self.lane.answers.get(head)
        if answer is None:
            return None
        if answer.since <= self.now < answer.until or self.lane.renew(answer, self.now):
            return answer.ready
        return None


def test_an_answer_is_dated_once_a_second() -> None:
    table = Table()
    table.lane.offer(known(), Standing())
    first = table.ready()
    assert first == b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:16:40 GMT\r\n\r\nbody"
    table.now += 0.999
    assert table.ready() is first
    table.now += 0.001
    second = table.ready()
    assert second is not None
    assert b"00:16:41" in second
    table.now -= 60  # The clock was set back.
    third = table.ready()
    assert third is not None
    assert b"00:15:41" in third


def test_it_is_there_from_when_until_when_it_stands() -> None:
    table = Table()
    table.lane.offer(known(), Standing((), since=999.5, until=1000.25))
    assert table.ready() is not None
    table.now = 999.4
    assert table.ready() is None
    table.now = 1000.2
    assert table.ready() is not None
    table.now = 1000.25
    assert table.ready() is None
    assert not table.lane.answers
    assert table.lane.weight == 0
    table.lane.offer(known(), Standing((), until=1000.25))
    assert not table.lane.answers


def test_the_end_of_any_life_takes_it_out_at_once() -> None:
    for which in (0, 1):
        table, lives = Table(), (Life(), Life())
        table.lane.offer(known(), Standing(lives))
        table.lane.offer(known(), Standing(lives))
        lives[which].end()
        assert not table.lane.answers
        assert table.lane.weight == 0
        assert not lives[1 - which]._watchers
        table.lane.offer(known(), Standing(lives))
        assert not table.lane.answers


def test_the_table_keeps_to_its_bytes_and_prefers_what_is_used() -> None:
    table, life = Table(bytes_max=20_000), Life()
    table.lane.offer(known(b"hot"), Standing((life,)))
    for number in range(1000):
        answer = table.lane.answers[b"hot"]
        if not number % 3:
            answer.used = True
        table.lane.offer(known(b"%d" % number), Standing((life,)))
        assert table.lane.weight <= 20_000
        assert len(life._watchers) == len(table.lane.answers)
    assert len(table.lane.answers) > 10


def test_what_is_too_large_is_not_kept() -> None:
    table = Table()
    table.lane.offer(known(bytes(HEAD_BYTES_MAX + 1)), Standing())
    table.lane.offer(known(body=bytes(BODY_BYTES_MAX + 1)), Standing())
    Table(bytes_max=100).lane.offer(known(), Standing())
    assert not table.lane.answers


async def test_uses_are_handed_on_in_batches_and_none_is_lost() -> None:
    table, touched = Table(), []
    life = Life(lambda: touched.append("life"))
    table.lane.offer(known(), Standing((life,), touch=lambda: touched.append("blob")))
    (answer,) = table.lane.answers.values()
    for number in range(10):
        table.lane.used(answer, "10.0.0.1", table.now + number, 0.002)
    assert not table.events
    table.lane.flush()
    (event,) = table.events
    assert isinstance(event, RequestServed)
    assert (event.count, event.size, event.status) == (10, 4, 200)
    assert event.duration_s == pytest.approx(0.002)
    assert touched == ["life", "blob"]
    assert [line.at for line in table.lines] == [table.now + number for number in range(10)]
    table.lane.flush()
    assert (len(table.events), len(table.lines)) == (1, 10)
    # Without anybody asking it happens soon by itself.
    table.lane.used(answer, "", table.now, 0.002)
    await until(lambda: len(table.events) >= 2, "it is told")
    assert len(table.lines) == 11


async def test_whoever_keeps_accounts_hears_of_every_client() -> None:
    table = Table()
    given = Given(repository=Repository("app"), reference=Tag("v1"), digest=Digest.of(b"body"))
    table.lane.offer(replace(known(), given=given), Standing())
    (answer,) = table.lane.answers.values()
    for number in range(10):
        table.lane.used(answer, f"10.0.0.{number % 3}", table.now, 0.002)
    table.lane.flush()
    table.lane.used(answer, "", table.now, 0.002)
    table.lane.flush()
    assert [use.clients for use in table.accounts] == [
        {"10.0.0.0": 4, "10.0.0.1": 3, "10.0.0.2": 3},
        {"": 1},
    ]
    assert [(use.served.count, use.given) for use in table.accounts] == [(10, given), (1, given)]


async def test_what_is_dropped_was_still_used() -> None:
    table, life = Table(), Life()
    table.lane.offer(known(), Standing((life,)))
    (answer,) = table.lane.answers.values()
    table.lane.used(answer, "", table.now, 0.0)
    life.end()
    table.lane.flush()
    assert len(table.events) == 1


class Wire(asyncio.Transport):
    """A client that takes nothing once `full` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.full = False
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 1 if self.full else 0

    def can_write_eof(self) -> bool:
        return False

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def served(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text=f"parsed {request.method}")


async def opened(table: Table, connections_max: int = 9) -> tuple[Connection, Wire]:
    """A connection that waits for its first request."""
    server = PullServer(
        served, connections_max=connections_max, header_bytes_max=8192, lane=table.lane
    )
    connection = server()
    assert isinstance(connection, Connection)
    wire = Wire()
    connection.connection_made(wire)
    await asyncio.sleep(0)
    return connection, wire


async def until_written(wire: Wire, words: bytes) -> None:
    await until(lambda: words in b"".join(wire.written), f"{words!r} is written")


async def test_nothing_is_answered_while_the_client_has_not_taken_the_last() -> None:
    table = Table()
    table.lane.offer(known(), Standing())
    connection, wire = await opened(table)
    connection.data_received(HEAD * 3)
    assert len(wire.written) == 3
    wire.full = True
    connection.data_received(HEAD)
    assert len(wire.written) == 3
    await until_written(wire, b"parsed GET")  # By the way that knows how to wait.
    connection.connection_lost(None)


async def test_nothing_is_answered_while_a_request_is_under_way() -> None:
    table = Table()
    table.lane.offer(known(), Standing())
    connection, wire = await opened(table)
    connection.data_received(HEAD.replace(b"GET", b"POST"))
    connection.data_received(HEAD)
    assert not wire.written
    await until_written(wire, b"parsed GET")
    assert b"".join(wire.written).index(b"parsed POST") < b"".join(wire.written).index(b"GET")
    connection.connection_lost(None)


async def test_nothing_is_answered_after_the_end_was_decided() -> None:
    table = Table()
    table.lane.offer(known(), Standing())
    connection, wire = await opened(table)
    connection.close()
    connection.data_received(HEAD)
    assert not wire.written
    connection.connection_lost(None)


async def test_a_client_that_is_one_too_many_is_not_answered_either() -> None:
    table = Table()
    table.lane.offer(known(), Standing())
    connection, wire = await opened(table, connections_max=0)
    before = len(wire.written)  # That it is too many.
    connection.data_received(HEAD)
    assert len(wire.written) == before == 1
    connection.connection_lost(None)


async def test_a_client_that_is_answered_here_is_not_silent_and_not_idle() -> None:
    table = Table()
    table.lane.offer(known(), Standing())
    connection, wire = await opened(table)
    loop = asyncio.get_running_loop()
    connection._next_keepalive_close_time = 0.0
    connection.data_received(HEAD)
    connection._end_if_silent()
    assert not wire.closed
    assert connection._next_keepalive_close_time >= loop.time() + 70
    connection.end_if_idle()
    assert wire.closed
    connection.connection_lost(None)
