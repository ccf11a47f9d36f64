"""The event loop does no disk work: every way of a pull with a guard that raises when
our code blocks in the loop. (Starting and stopping may block: nobody waits then.)

Deliberate, and so not watched: `statvfs`, `fstat`, closing, and `sendfile`, `preadv`
and (for TLS) `pread` of pages that were made sure to be in the page cache.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import pytest
from blockbuster import BlockBusterFunction, blockbuster_ctx

import proxy as package
from tests.flows.conftest import Running, World
from tests.flows.layers import MIB, path_of, pull_layer, until_landed
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import image
from tests.support.private_ca import issue

# Beyond what blockbuster watches by itself.
WATCHED = (
    "open",
    "fsync",
    "fdatasync",
    "pwrite",
    "pwritev",
    "posix_fallocate",
    "posix_fadvise",
    "ftruncate",
    "utime",
)


@contextmanager
def guarded() -> Iterator[None]:
    """Blocking calls raise where `proxy` is on the stack of the loop's thread."""
    with blockbuster_ctx("proxy") as guard:
        for name in WATCHED:
            assert f"os.{name}" not in guard.functions, "watched already"
            more = BlockBusterFunction(os, name, scanned_modules=package)
            guard.functions[f"os.{name}"] = more
            more.activate()
        # These read what the kernel has in memory.
        for name in ("sendfile", "statvfs"):
            guard.functions[f"os.{name}"].deactivate()
        yield


async def every_way(proxy: Running, upstream: FakeRegistry) -> None:
    img = upstream.add("app", image(1000, 300_000, 12 * MIB), "v1")
    fork = upstream.add("fork", image(1000, 300_000, 12 * MIB), "v1")
    for repository, one in (("app", img), ("app", img), ("fork", fork)):
        await proxy.pull(f"/v2/lab/{repository}", one, "v1")
        await until_landed(proxy)
    large = img.layers[2]
    answer = await proxy.ask(path_of(large), Range="bytes=5-99,-7")
    assert answer.status == 206
    for path in ("manifests/v1", f"blobs/{large.digest}"):
        assert (await proxy.ask(f"/v2/lab/app/{path}", "HEAD")).status == 200
    for path in ("tags/list", f"referrers/{img.digest}"):
        assert (await proxy.ask(f"/v2/lab/app/{path}")).status == 200
    assert (await proxy.ask("/v2/_catalog")).status == 200
    for path in ("manifests/none", "blobs/sha256:" + "0" * 64):
        assert (await proxy.ask(f"/v2/lab/app/{path}")).status == 404
    # Evicting, passing through, going on from what was left.
    others = [upstream.add(f"o{n}", image(12 * MIB, seed=f"o{n}"), "v1") for n in range(3)]
    for number, other in enumerate(others):
        await pull_layer(proxy, other.layers[0], f"o{number}")
        await until_landed(proxy)
    huge = upstream.add("huge", image(40 * MIB, seed="huge"), "v1").layers[0]
    await pull_layer(proxy, huge, "huge")
    left = upstream.add("left", image(12 * MIB, seed="left"), "v1").layers[0]
    upstream.inject(Fault(end_at=9 * MIB), kind="blob", method="GET")
    upstream.inject(Fault(status=404), kind="blob", method="GET")
    assert (await proxy.ask(path_of(left, "left"))).cut
    await until_landed(proxy)
    await pull_layer(proxy, left, "left")
    await until_landed(proxy)
    assert await proxy.metric("entrepot_evicted_blobs_total") > 0
    assert await proxy.metric("entrepot_resumes_total") > 0


async def test_no_way_of_a_pull_blocks_the_loop(world: World, upstream: FakeRegistry) -> None:
    proxy = await world.start({"lab": upstream}, disk_bytes_max=36 * MIB, negative_s=0)
    with guarded():
        await every_way(proxy, upstream)


async def test_nor_does_one_over_tls(world: World, upstream: FakeRegistry) -> None:
    made = issue(world.root / "tls")
    proxy = await world.start(
        {"lab": upstream},
        disk_bytes_max=36 * MIB,
        negative_s=0,
        tls_cert_file=str(made.cert),
        tls_key_file=str(made.key),
    )
    trusted = ssl.create_default_context(cafile=str(made.ca))
    async with aiohttp.ClientSession(
        auto_decompress=False, connector=aiohttp.TCPConnector(limit=0, ssl=trusted)
    ) as client:
        with guarded():
            await every_way(SecurelyRunning(proxy.entrepot, client), upstream)


class SecurelyRunning(Running):
    """A proxy that speaks TLS."""

    __slots__ = ()

    @property
    def url(self) -> str:
        return f"https://{self.entrepot.address}"


async def test_the_guard_sees_what_blocks(world: World, upstream: FakeRegistry) -> None:
    proxy = await world.start({"lab": upstream})
    assert proxy.entrepot.status is not None
    storage = proxy.entrepot.status._backing.local
    files = storage.blobs._files
    blob = upstream.add("app", image(300_000), "v1").layers[0]
    await pull_layer(proxy, blob)
    await until_landed(proxy)
    with guarded():
        # The same call that a thread makes unhindered.
        key = next(iter([key async for key in storage.blobs.list("public")]))
        opened = await asyncio.to_thread(files.open, key)
        assert opened is not None
        opened.release()
        with pytest.raises(Exception, match="Blocking call to"):
            files.open(key)
