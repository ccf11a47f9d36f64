"""Single flight: many who ask the same at once cause one piece of work.

The work is a task owned here, not by whoever asked first: an asker who leaves
cancels nothing, and every asker hears the same outcome, failure included.
Results are not remembered; that is what caches are for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, TypeVar, cast

from proxy.cache import traffic
from proxy.errors import QuotaKept

T = TypeVar("T")


class SingleFlight:
    """Running work by key."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[Any]] = {}
        self._traffic: dict[Hashable, traffic.Traffic] = {}

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
        task = self._running.get(key)
        if task is None or _failed(task):
            self._traffic[key], context = traffic.begun()
            task = asyncio.create_task(work(), context=context)
            self._running[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        elif self._traffic[key].urgency > traffic.current().urgency:
            self._traffic[key].raise_to(traffic.current())
            return self._or_again(task, key, work)
        return cast("Awaitable[T]", asyncio.shield(task))

    async def _or_again(
        self, task: asyncio.Task[T], key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        """What was refused before somebody more urgent came is asked for once more."""
        try:
            return await asyncio.shield(task)
        except QuotaKept:
            return await self.join(key, work)

    def _forget(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        if self._running.get(key) is task:
            del self._running[key], self._traffic[key]
        if not task.cancelled():
            # Retrieved here because every asker may have left by now.
            task.exception()

    async def aclose(self) -> None:
        """Cancel what is running and wait for its end."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _failed(task: asyncio.Task[Any]) -> bool:
    """It may be done and not be forgotten yet; its failure is no answer to who comes after."""
    return task.done() and (task.cancelled() or task.exception() is not None)


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
