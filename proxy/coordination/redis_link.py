"""The way to Redis: bounded commands, and a breaker that makes its absence cheap.

A command has half a second, and again as much if it was this process that stood still
(`stalls.py`). The first that fails closes the way for all; from
then on `RedisAway` costs microseconds, while one task of our own asks after 1, 2,
4, 5, 5 … seconds whether reads and writes work again. No request ever waits for
that question.

Any failure counts, refusals too (no rights, out of memory, read-only): a Redis
that takes no claims is of no use, and the state says why.

Commands run in tasks of our own: a request that is cancelled leaves no
connection between a command and its reply, and no claim that nobody knows of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import structlog
from redis.exceptions import TimeoutError as RedisTimeoutError

from proxy.coordination.redis_client import CONNECTIONS_MAX, Client
from proxy.coordination.stalls import Stalls
from proxy.events import CoordinationAsked, CoordinationMoved, CoordinationOperation
from proxy.ports import Observe

T = TypeVar("T")
_REASON_MAX: Final = 200
_CANCEL_AGAIN_S: Final = 0.05

log = structlog.get_logger("entrepot")


class RedisAway(Exception):
    """Redis did not do it; go on without. Never leaves this package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """All in seconds. Shorter ones are for tests."""

    lease_s: float = 10.0
    renew_s: float = 2.5
    operation_s: float = 0.5
    probe_s: float = 2.0
    retry_s: float = 1.0
    retry_max_s: float = 5.0
    flush_s: float = 5.0


class Link:
    """Commands to one Redis; `start` it, and `aclose` it.

    `probe_key` is written to find out whether Redis works.
    """

    def __init__(
        self,
        client: Client,
        *,
        probe_key: str,
        observe: Observe,
        timings: Timings,
        monotonic: Callable[[], float],
    ) -> None:
        self._client = client
        self._probe_key = probe_key
        self._observe = observe
        self._timings = timings
        self._monotonic = monotonic
        self._slots = asyncio.Semaphore(CONNECTIONS_MAX)
        self._stalls = Stalls()
        self._state: Literal["new", "ok", "down", "closed"] = "new"
        self._fell = asyncio.Event()
        self._owned: set[asyncio.Task[Any]] = set()
        self._recovery: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        """Whether commands are sent at all."""
        return self._state == "ok"

    async def start(self) -> None:
        """Try to reach Redis (bounded by `probe_s`), and go on trying."""
        await self._probe()
        self._recovery = asyncio.create_task(self._recover())

    async def ask(self, operation: CoordinationOperation, *words: str | bytes | float) -> Any:
        """Send a command; raises `RedisAway`. For use inside `own`."""
        if not self.up:
            raise RedisAway
        return await self._send(
            operation, self._timings.operation_s, lambda: self._client.execute(*words)
        )

    async def run(self, operation: CoordinationOperation, *words: str | bytes | float) -> Any:
        """Send a command; raises `RedisAway`. A caller may be cancelled at any time."""
        if not self.up:
            raise RedisAway
        return await self.own(self.ask(operation, *words))

    async def own(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` to its end, even if who waits for it is cancelled."""
        task = self._spawn(work)
        await asyncio.wait({task})
        if task.cancelled():
            raise RedisAway  # `aclose` did it; our caller was not cancelled.
        return task.result()

    def leave(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` while nobody waits. `aclose` ends what takes too long."""
        _ = self._spawn(work)

    async def aclose(self) -> None:
        """Let commands end, within their limit; then close all connections."""
        if self._recovery is not None:
            await _ended({self._recovery})
        if self._owned:
            await asyncio.wait(self._owned, timeout=self._timings.operation_s)
        self._state = "closed"
        await _ended(self._owned)
        await self._quietly(self._client.aclose)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._owned.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._owned.discard(task)
        if not task.cancelled():
            task.exception()  # Whoever waited has it; if nobody did, it is no news.

    async def _send(
        self,
        operation: CoordinationOperation,
        limit_s: float,
        send: Callable[[], Coroutine[Any, Any, Any]],
    ) -> Any:
        started, began = self._monotonic(), asyncio.get_running_loop().time()
        try:
            try:
                reply = await self._once(operation, limit_s, send)
            except (TimeoutError, RedisTimeoutError):
                if not self._stalls.since(began):
                    raise
                reply = await self._once(operation, limit_s, send)
        except RedisAway:
            raise
        except Exception as error:
            # Whatever a client library may raise: nothing of it is a request's business.
            self._asked(operation, started, answered=False)
            self._failed(error)
            raise RedisAway from error
        self._asked(operation, started, answered=True)
        return reply

    async def _once(
        self,
        operation: CoordinationOperation,
        limit_s: float,
        send: Callable[[], Coroutine[Any, Any, Any]],
    ) -> Any:
        with self._stalls.watched():
            async with asyncio.timeout(limit_s), self._slots:
                if self._state == "down" and operation != "probe":
                    raise RedisAway  # It went away while we waited for our turn.
                return await send()

    def _asked(self, operation: CoordinationOperation, started: float, *, answered: bool) -> None:
        duration_s = self._monotonic() - started
        self._observe(
            CoordinationAsked(operation=operation, answered=answered, duration_s=duration_s)
        )

    def _failed(self, error: Exception) -> None:
        if self._state in ("down", "closed"):
            return
        self._move("down", (str(error) or type(error).__name__)[:_REASON_MAX])
        self._fell.set()

    def _move(self, state: Literal["ok", "down"], reason: str) -> None:
        self._state = state
        self._observe(CoordinationMoved(state=state, reason=reason))
        if state == "ok":
            log.info("redis is used")
        else:
            log.warning("redis is not used", reason=reason)

    async def _recover(self) -> None:
        while True:
            await self._fell.wait()
            self._fell.clear()
            pause_s = self._timings.retry_s
            await self._quietly(self._client.drop_idle)
            while self._state != "ok":
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, self._timings.retry_max_s)
                await self._probe()

    async def _probe(self) -> None:
        with suppress(RedisAway):
            await self._send(
                "probe", self._timings.probe_s, lambda: self._client.probe(self._probe_key)
            )
            if self._state != "ok":
                self._move("ok", "")

    async def _quietly(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            async with asyncio.timeout(self._timings.operation_s):
                await close()
        except Exception as error:  # noqa: BLE001 - a connection that won't close has no one to tell
            log.debug("closing connections to redis failed", reason=str(error)[:_REASON_MAX])


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel until it helps.

    redis-py sends under `asyncio.wait_for`, and that loses a cancellation that comes
    together with its result (before Python 3.12).
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_S)
