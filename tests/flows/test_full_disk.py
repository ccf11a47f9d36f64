"""The disk is full or read-only: pulls go on, nothing wrong is completed, and what is
kept stays served.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cache.spool import WITHHELD_BYTES
from tests.flows.conftest import World
from tests.flows.layers import (
    MIB,
    add_layer,
    add_layers,
    file_of,
    path_of,
    pull_layer,
    until_landed,
)
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import image

SIZE = 3_000_000


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def small_disk(world: World) -> Iterator[Path]:
    """The data folder on a file system of its own, of 16 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    folder = world.root / "data"
    folder.mkdir()
    try:
        run("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system can't be mounted here: {error}")
    try:
        yield folder
    finally:
        run("umount", "-l", folder)


async def test_with_a_full_disk_pulls_go_on_and_kept_content_stays(
    small_disk: Path, world: World, upstream: FakeRegistry
) -> None:
    kept, *others = add_layers(upstream, 4)
    tiny = add_layer(upstream, 1000, "tiny")
    proxy = await world.start({"lab": upstream})
    await pull_layer(proxy, kept)
    await until_landed(proxy)
    filler = small_disk / "somebody else's"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(MIB))
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    huge = add_layer(upstream, 12 * MIB, "huge")
    for _ in range(2):
        await pull_layer(proxy, huge, "huge")
    # What could not be made to fit evicted nothing.
    fetched = upstream.count(kind="blob", method="GET")
    await pull_layer(proxy, kept)
    assert upstream.count(kind="blob", method="GET") == fetched
    # Something small may be kept in its place, or not; it is served.
    await pull_layer(proxy, tiny, "tiny")
    # The last bytes of what is passed through wait for the digest, too.
    upstream.inject(Fault(flip_at=0), kind="blob", method="GET", times=None)
    wrong = await proxy.ask(path_of(huge, "huge"))
    assert wrong.cut
    assert len(wrong.body) <= huge.size - WITHHELD_BYTES
    upstream.heal()
    # There is room again: it is used.
    filler.unlink()
    for blob in others:
        await pull_layer(proxy, blob)
        await until_landed(proxy)
        assert file_of(world, blob).exists()


async def test_a_read_only_disk_serves_what_it_has_and_passes_the_rest_through(
    small_disk: Path, world: World, upstream: FakeRegistry
) -> None:
    kept, small = add_layers(upstream, 1)[0], add_layer(upstream, 1000, "small")
    proxy = await world.start({"lab": upstream}, memory_bytes_max=0)
    for blob, repository in ((kept, "app"), (small, "small")):
        await pull_layer(proxy, blob, repository)
    await until_landed(proxy)
    with contextlib.ExitStack() as stack:
        for name in ("blobs", "repos", "spool", "tmp"):
            run("mount", "--bind", small_disk / name, small_disk / name)
            stack.callback(run, "umount", "-l", small_disk / name)
            run("mount", "-o", "remount,bind,ro", small_disk / name)
        fetched = upstream.count(kind="blob")
        await pull_layer(proxy, kept)
        await pull_layer(proxy, small, "small")
        assert upstream.count(kind="blob") == fetched
        cold = upstream.add("cold", image(500, SIZE, 100_000, seed="cold"), "v1")
        for _ in range(2):
            await proxy.pull("/v2/lab/cold", cold, "v1")
        assert (await proxy.status())["disk"]["reserved_bytes"] == 0
    # Writable again.
    await pull_layer(proxy, cold.layers[1], "cold")
    await until_landed(proxy)
    assert file_of(world, cold.layers[1]).exists()
