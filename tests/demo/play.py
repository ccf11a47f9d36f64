"""The whole demo as one context: the stage, the crowd on it, and its troubles."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.demo.crowd import Crowd
from tests.demo.stage import Stage, staged
from tests.demo.troubles import Tell, Troubles

NODES = 8


class Failed(AssertionError):
    """The demo itself broke, not what it shows."""


@asynccontextmanager
async def playing(
    folder: Path, *, tell: Tell, trouble: bool = True, nodes: int = NODES
) -> AsyncIterator[tuple[Stage, Crowd]]:
    """Runs until the context ends. Raises `Failed` if a client was sent wrong bytes."""
    # That a fake registry's client hung up is what the demo is about, not news.
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    async with staged(folder) as stage:
        crowd = Crowd(stage.urls, stage.registries, stage.client)
        tasks = [asyncio.create_task(crowd.work(nodes))]
        if trouble:
            tasks.append(asyncio.create_task(Troubles(stage, crowd, tell).forever()))
        try:
            yield stage, crowd
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        broken = [one for one in ends if not isinstance(one, asyncio.CancelledError)]
        if broken:
            raise Failed(f"the demo broke: {broken[0]!r}")
