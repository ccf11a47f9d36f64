"""Waiting in a test for something that nobody tells of: asking until it is so.

What can be awaited (a task, an event, a request that the fake registry has seen) is
awaited; this is for what can only be looked at. For a moment no longer than a turn
of the loop it is too slow: such a test turns the loop itself. Where there is no
loop, `processes.wait_until` does the same.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

# Most facts come at once; those that don't are often asked of a busy server.
_PAUSE_S = 0.001
_PAUSE_S_MAX = 0.01

T = TypeVar("T")


@overload
async def until(
    fact: Callable[[], Awaitable[T | None]], what: str = "", *, deadline_s: float = 30.0
) -> T: ...


@overload
async def until(fact: Callable[[], T | None], what: str = "", *, deadline_s: float = 30.0) -> T: ...


async def until(fact: Callable[[], Any], what: str = "", *, deadline_s: float = 30.0) -> Any:
    """Ask until `fact()` is true; the answer that was.

    `fact` returns a value, or something to await for one, which is cancelled at the
    deadline. What it raises is raised. After `deadline_s` `AssertionError`, which
    names `what`, or else `fact` itself.
    """
    limit = asyncio.timeout(deadline_s)
    pause_s = _PAUSE_S
    try:
        async with limit:
            while True:
                answer = fact()
                if inspect.isawaitable(answer):
                    answer = await answer
                if answer:
                    return answer
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_S_MAX)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise AssertionError(f"not within {deadline_s:g} s: {what or repr(fact)}") from error
