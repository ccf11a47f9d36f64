"""The bound on how long a client waits for the head of an answer.

Never on a whole transfer: containerd before 2.3, podman and dockerd wait for
headers without any limit of their own, so the limit has to be ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.errors import UpstreamUnavailable
from proxy.ports import Upstream


@asynccontextmanager
async def answer_within(
    budget_s: float, upstream: Upstream, *, since: float | None = None
) -> AsyncIterator[None]:
    """Raises `UpstreamUnavailable` when the block takes longer.

    `since`: when the budget began to be spent, in the loop's time; None: now.
    """
    began = asyncio.get_running_loop().time() if since is None else since
    try:
        async with asyncio.timeout_at(began + budget_s):
            yield
    except TimeoutError as error:
        raise UpstreamUnavailable(
            f"{upstream.name} did not answer within {budget_s:g} s"
        ) from error
