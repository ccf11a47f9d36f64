"""The side that has the bundle: what it does when the proxy forgets, fails or is not there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from proxy.bundles.import_pages import pages
from proxy.bundles.importing_client import ImportRefused, Receiver
from proxy.bundles.importing_names import ForeignNames
from proxy.bundles.importing_sending import Progress, Wish, bring
from proxy.bundles.reader import Opened, open_bundle
from proxy.config import load
from proxy.errors import BadBundle
from proxy.naming import Names
from tests.support.bundles import KEY, bundle
from tests.support.images import image
from tests.support.import_core import Core, open_core
from tests.support.waiting import until

APP = image(3_000_000, 900, 0, seed="app")


@asynccontextmanager
async def served(core: Core, *, keepalive_s: float = 60.0) -> AsyncIterator[str]:
    names = ForeignNames(Names(load(None, {}, {})).understood)
    app = web.Application()
    app.add_routes(pages(core.importing, names))
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=1.0, keepalive_timeout=keepalive_s
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def opened(tmp_path: Path, data: bytes | None = None) -> Opened:
    path = tmp_path / "b.tar"
    path.write_bytes(data or bundle({"lab/app:v1": APP}).tar())
    return open_bundle([path], [KEY.public])


async def test_a_proxy_that_forgot_is_asked_again(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    begun: list[int] = []
    async with open_core(tmp_path / "data") as core, served(core) as url:

        async def forget() -> None:
            core.importing.aclose()

        def changed(progress: Progress) -> None:
            if progress.read_bytes == 0:
                begun.append(progress.total_bytes)
                if len(begun) < 3:
                    asyncio.run_coroutine_threadsafe(forget(), loop).result(20)

        done = await asyncio.to_thread(
            bring, url, opened(tmp_path), Wish(), Progress(changed=changed)
        )
        assert done["images"] == {"lab/app:v1": str(APP.digest)}
        assert len(begun) == 3
        assert core.storage.blobs.room.reserved == 0
    async with open_core(tmp_path / "other") as core, served(core) as url:

        def always(progress: Progress) -> None:
            if progress.read_bytes == 0:
                asyncio.run_coroutine_threadsafe(forget_now(core), loop).result(20)

        with pytest.raises(ImportRefused, match="name one, not the load") as told:
            await asyncio.to_thread(bring, url, opened(tmp_path), Wish(), Progress(changed=always))
        assert told.value.status == 410


async def forget_now(core: Core) -> None:
    core.importing.aclose()


async def test_it_takes_longer_than_an_idle_connection_is_kept(tmp_path: Path) -> None:
    async with open_core(tmp_path / "data") as core, served(core, keepalive_s=0.05) as url:

        def changed(progress: Progress) -> None:
            if progress.read_bytes == 0:
                time.sleep(0.5)

        made = opened(tmp_path)
        done = await asyncio.to_thread(bring, url, made, Wish(), Progress(changed=changed))
        assert done["moved"] == 1


async def test_all_that_was_read_is_told(tmp_path: Path) -> None:
    async with open_core(tmp_path / "data") as core, served(core) as url:
        for _ in range(2):
            progress = Progress(changed=lambda _progress: None)
            made = opened(tmp_path)
            await asyncio.to_thread(bring, url, made, Wish(), progress)
            assert progress.read_bytes == progress.total_bytes
            assert progress.total_bytes == sum(one.descriptor.size for one in made.contents.blobs)


async def test_a_medium_that_is_damaged_is_told_although_nothing_was_lacking(
    tmp_path: Path,
) -> None:
    async with open_core(tmp_path / "data") as core, served(core) as url:
        made = opened(tmp_path)
        quiet = Progress(changed=lambda _progress: None)
        await asyncio.to_thread(bring, url, made, Wish(), quiet)
        data = bytearray((tmp_path / "b.tar").read_bytes())
        data[-3_000] ^= 1
        damaged = opened(tmp_path, bytes(data))
        with pytest.raises(BadBundle, match="other bytes"):
            await asyncio.to_thread(bring, url, damaged, Wish(), quiet)


async def test_what_shrinks_while_it_is_sent_is_told(tmp_path: Path) -> None:
    async with open_core(tmp_path / "data") as core, served(core) as url:
        made = opened(tmp_path)
        (tmp_path / "b.tar").write_bytes(b"")
        with pytest.raises(ImportRefused, match="shorter"):
            await asyncio.to_thread(
                bring, url, made, Wish(), Progress(changed=lambda _progress: None)
            )
        assert core.visible() == []
        # The proxy hears of it a little later.
        await until(lambda: not list((core.root / "spool").iterdir()), "the spool is empty")


async def test_an_import_that_nobody_goes_on_with_lets_go(tmp_path: Path) -> None:
    async with open_core(tmp_path / "data", idle_s=0.2) as core:
        made = opened(tmp_path)
        await core.importing.begin(made.body, made.signature)
        assert core.storage.blobs.room.reserved > 3_000_000
        await until(lambda: not core.storage.blobs.room.reserved, "no room is reserved")
        assert core.staging._held == {}


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:1", "http://"])
def test_only_urls_of_http_are_asked(url: str) -> None:
    with pytest.raises(ImportRefused, match="must be an http"):
        Receiver(url)
