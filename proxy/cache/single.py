"""Single flight: many who ask the same at once cause one piece of work.

The work is a task owned here, not by whoever asked first: an asker who leaves
cancels nothing, and every asker hears the same outcome, failure included.
Results are not remembered; that is what caches are for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from proxy.cache import traffic
from proxy.cache.traffic import Traffic, Urgency
from proxy.errors import QuotaKept

T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class _Work:
    """`began`: how urgent it was at first. `traffic`: how urgent it is now."""

    task: asyncio.Task[Any]
    traffic: Traffic
    began: Urgency

    @property
    def failed(self) -> bool:
        """It may be so and not be forgotten yet; that is no answer to who comes after."""
        task = self.task
        return task.done() and (task.cancelled() or task.exception() is not None)


class SingleFlight:
    """Running work by key."""

    def __init__(self) -> None:
        self._running: dict[Hashable, _Work] = {}

    def __len__(self) -> int:
        return len(self._running)

    def running(self, key: Hashable) -> bool:
        """Whether work for `key` is in progress."""
        return key in self._running

    def join(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> Awaitable[T]:
        """The outcome of the running work for `key`, started now if there is none.

        It is as urgent as whoever asks for it with most urgency.
        A plain `def`: nothing can happen between looking and starting.
        """
        found, now = self._running.get(key), traffic.current()
        if found is None or found.failed:
            own, context = traffic.begun()
            task = asyncio.create_task(work(), context=context)
            found = self._running[key] = _Work(task, own, own.urgency)
            task.add_done_callback(lambda done: self._forget(key, done))
        elif now.urgency < found.began:
            found.traffic.raise_to(now)
            return self._or_again(found.task, key, work)
        return cast("Awaitable[T]", asyncio.shield(found.task))

    async def _or_again(
        self, task: asyncio.Task[T], key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        """What was refused before somebody more urgent came is asked for once more."""
        try:
            return await asyncio.shield(task)
        except QuotaKept:
            return await self.join(key, work)

    def _forget(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        found = self._running.get(key)
        if found is not None and found.task is task:
            del self._running[key]
        if not task.cancelled():
            # Retrieved here because every asker may have left by now.
            task.exception()

    async def aclose(self) -> None:
        """Cancel what is running and wait for its end."""
        tasks = [one.task for one in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Its outcome. A cancellation is obeyed only once `work` has ended: for the
    few steps that leave a mess when they are torn apart.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
