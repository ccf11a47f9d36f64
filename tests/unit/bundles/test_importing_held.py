"""What an import holds: until it is committed, forgotten or idle, and never shorter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.bundles.importing_state import UnknownImport
from proxy.ports import PUBLIC, BlobKey
from tests.support.bundles import bundle
from tests.support.images import image
from tests.support.import_core import Core, open_core
from tests.support.waiting import until

APP = image(5000, 900, seed="app")
MADE = bundle({"lab/app:v1": APP})
LAYER = APP.layers[0]
KEY = BlobKey(PUBLIC, LAYER.digest)


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Core]:
    # Idle at once: only what is going on keeps it.
    async with open_core(tmp_path / "data", idle_s=0.0) as core:
        yield core


async def held_back(first: asyncio.Event, rest: asyncio.Event) -> AsyncIterator[bytes]:
    yield LAYER.body[:100]
    first.set()
    await rest.wait()
    yield LAYER.body[100:]


@pytest.mark.parametrize("forget", [True, False], ids=["forgotten", "only slow"])
async def test_what_is_on_its_way_is_held_until_it_is_here(core: Core, *, forget: bool) -> None:
    begun = await core.importing.begin(MADE.body, MADE.signature)
    first, rest = asyncio.Event(), asyncio.Event()
    chunks = held_back(first, rest)
    coming = asyncio.create_task(
        core.importing.receive(begun.token, PUBLIC, LAYER.digest, LAYER.size, chunks)
    )
    await first.wait()
    if forget:
        core.importing.forget(begun.token)
    # A second blob of the same import comes and goes meanwhile.
    else:
        config = APP.config
        await core.importing.receive(
            begun.token, PUBLIC, config.digest, config.size, one(config.body)
        )
    for _ in range(20):
        await asyncio.sleep(0)
    assert core.staging.holds(KEY)
    assert core.storage.blobs.room.reserved > 0
    rest.set()
    await coming
    await until(lambda: not core.staging.holds(KEY), "it is let go")
    assert core.storage.blobs.room.reserved == 0
    assert await core.storage.blobs.stat(KEY) == LAYER.size
    with pytest.raises(UnknownImport):
        await core.importing.commit(begun.token)


async def one(body: bytes) -> AsyncIterator[bytes]:
    yield body
