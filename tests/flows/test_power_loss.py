"""The power fails: everything that was not fsynced may be gone, or garbage. What is
served afterwards is right or fetched again, and the proxy always starts.

The state of the disk is copied from under a running fill and then made worse.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.cache.journal import EXTENT_BYTES
from tests.flows.conftest import World
from tests.flows.layers import (
    MIB,
    add_layer,
    add_stalled_layer,
    path_of,
    pull_layer,
    until_landed,
    until_written,
)
from tests.support.fake_registry import FakeRegistry
from tests.support.images import Content, Image, image
from tests.support.waiting import until

SIZE = 20 * MIB
STALLED_AT = 2 * EXTENT_BYTES + 1_000_000

Damage = Callable[[Path, Path], None]
"""What happens to a spool and its journal."""


def scribble(path: Path, start: int, end: int) -> None:
    """Every byte turns into another one: random ones would at times be the right ones."""
    with path.open("r+b") as file:
        file.seek(start)
        was = file.read(end - start)
        file.seek(start)
        file.write(bytes(byte ^ 0xA5 for byte in was))


def lines_of(journal: Path) -> list[bytes]:
    return journal.read_bytes().splitlines(keepends=True)


def keep_lines(count: int) -> Damage:
    return lambda _spool, journal: journal.write_bytes(b"".join(lines_of(journal)[:count]))


def tear_line(number: int) -> Damage:
    def tear(_spool: Path, journal: Path) -> None:
        lines = lines_of(journal)
        half = lines[number][: len(lines[number]) // 2]
        journal.write_bytes(b"".join(lines[:number]) + half)

    return tear


def add_line(**said: object) -> Damage:
    def add(_spool: Path, journal: Path) -> None:
        with journal.open("ab") as file:
            file.write(json.dumps(said).encode() + b"\n")

    return add


def replace_journal(content: bytes) -> Damage:
    return lambda _spool, journal: journal.write_bytes(content)


EXTENT = EXTENT_BYTES
# Damage, and the offset from which the fetch must go on.
DAMAGES: dict[str, tuple[Damage, int]] = {
    "nothing": (lambda _s, _j: None, 2 * EXTENT),
    "garbage where nothing was synced": (
        lambda spool, _j: scribble(spool, 2 * EXTENT, SIZE),
        2 * EXTENT,
    ),
    "garbage in the last extent": (
        lambda spool, _j: scribble(spool, 2 * EXTENT - 1, 2 * EXTENT),
        EXTENT,
    ),
    "garbage at the very start": (lambda spool, _j: scribble(spool, 0, 1000), 0),
    "garbage everywhere": (lambda spool, _j: scribble(spool, 0, SIZE), 0),
    "a shorter file": (lambda spool, _j: os.truncate(spool, EXTENT + 5), EXTENT),
    "an empty file": (lambda spool, _j: os.truncate(spool, 0), 0),
    "a longer file": (lambda spool, _j: os.truncate(spool, SIZE + 4096), 2 * EXTENT),
    "no file": (lambda spool, _j: spool.unlink(), 0),
    "no journal": (lambda _s, journal: journal.unlink(), 0),
    "an empty journal": (replace_journal(b""), 0),
    "a journal of zeros": (replace_journal(bytes(4096)), 0),
    "a journal of garbage": (replace_journal(random.Random(1).randbytes(4096)), 0),
    "a journal of brackets": (replace_journal(b"[" * 200_000), 0),
    "the head of the journal torn": (tear_line(0), 0),
    "only the head of the journal": (keep_lines(1), 0),
    "the first extent torn": (tear_line(1), 0),
    "only the first extent": (keep_lines(2), EXTENT),
    "the second extent torn": (tear_line(2), EXTENT),
    "an extent that is not true": (
        add_line(start=0, end=2 * EXTENT + 500_000, hash="0" * 64),
        2 * EXTENT,
    ),
    "an extent beyond the end": (add_line(start=0, end=SIZE * 2, hash="0" * 64), 2 * EXTENT),
    "an extent of nonsense": (add_line(start="a", end=None, hash=[]), 2 * EXTENT),
}


async def crashed_fill(world: World, upstream: FakeRegistry) -> tuple[Content, Path]:
    """A folder as a crash in the middle of a fill leaves it; two extents journaled."""
    blob, held = add_stalled_layer(upstream, SIZE, at=STALLED_AT)
    proxy = await world.start({"lab": upstream}, data_dir=str(world.root / "before"))
    pull = asyncio.create_task(proxy.ask(path_of(blob)))
    await until_written(proxy, STALLED_AT)
    (journal,) = (world.root / "before" / "spool").glob("*.journal")
    await until(lambda: len(lines_of(journal)) >= 3, "two extents are journaled")
    crashed = world.root / "data"
    shutil.copytree(world.root / "before", crashed)
    held.set()
    assert (await pull).body == blob.body
    await until_landed(proxy)
    upstream.seen.clear()
    return blob, crashed


@pytest.mark.parametrize("name", DAMAGES)
async def test_a_fill_goes_on_from_what_can_be_believed(
    world: World, upstream: FakeRegistry, name: str
) -> None:
    blob, crashed = await crashed_fill(world, upstream)
    damage, resumed_at = DAMAGES[name]
    (journal,) = (crashed / "spool").glob("*.journal")
    damage(journal.with_suffix(""), journal)
    proxy = await world.start({"lab": upstream})
    await pull_layer(proxy, blob)
    (asked,) = upstream.requests(kind="blob", method="GET")
    wanted = f"bytes={resumed_at}-" if resumed_at else None
    assert asked.headers.get("Range") == wanted
    await until_landed(proxy)
    # And what is now kept for good is right.
    await pull_layer(proxy, blob)
    assert upstream.count(kind="blob", method="GET") == 1
    assert os.listdir(crashed / "spool") == []
    kept = crashed / "blobs" / "public" / "sha256" / blob.digest.hex[:2] / blob.digest.hex
    assert kept.read_bytes() == blob.body


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\0" * 300, b"{", b"[]", b"null", b'{"v":1}', b'{"v":99}', b"[" * 100_000, b"\xff\xfe"],
)
async def test_records_that_are_empty_or_garbage_are_fetched_again(
    world: World, upstream: FakeRegistry, garbage: bytes
) -> None:
    img = upstream.add("app", image(1000, 300_000), "v1")
    await pull_image(world, upstream, img)
    records = [path for path in (world.root / "data" / "repos").rglob("*") if path.is_file()]
    # The tag and its first move, its manifest, the config, two layers.
    assert len(records) == 6
    for path in records:
        path.write_bytes(garbage)
    await pull_image(world, upstream, img)
    # Each content is still there: only what names it had to be asked for.
    assert upstream.count(kind="blob", method="GET") == len(img.blobs)


async def test_records_torn_in_the_middle_are_fetched_again(
    world: World, upstream: FakeRegistry
) -> None:
    img = upstream.add("app", image(1000, 300_000), "v1")
    await pull_image(world, upstream, img)
    for path in (world.root / "data" / "repos").rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    await pull_image(world, upstream, img)


async def pull_image(world: World, upstream: FakeRegistry, img: Image) -> None:
    """With a proxy of its own, which then stops."""
    folder = world.root / "data"
    other = World(world.root)
    async with other.stack:
        proxy = await other.start({"lab": upstream}, data_dir=str(folder))
        await proxy.pull("/v2/lab/app", img, "v1")
        await until_landed(proxy)


@pytest.mark.parametrize(
    "usage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"v": 1}',
        b'{"v": 1, "bytes": 1e999}',
        b'{"v": 1, "bytes": -5}',
        b'{"v": 1, "bytes": "many"}',
        b"[" * 100_000,
        b"\xff",
    ],
)
async def test_a_usage_file_of_garbage_is_counted_anew(
    world: World, upstream: FakeRegistry, usage: bytes
) -> None:
    img = upstream.add("app", image(300_000), "v1")
    await pull_image(world, upstream, img)
    (world.root / "data" / "usage").write_bytes(usage)
    proxy = await world.start({"lab": upstream})
    kept = sum(p.stat().st_size for p in (world.root / "data/blobs").rglob("*") if p.is_file())

    async def counted() -> dict[str, Any] | None:
        disk: dict[str, Any] = (await proxy.status())["disk"]
        return disk if disk["counted"] else None

    disk = await until(counted, "what is kept is counted")
    assert disk["bytes"] == kept >= 300_000


@pytest.mark.parametrize("layout", [b"", b"{", b'{"v"', b"\0\0\0\0", b"[1]", b"[" * 100_000])
async def test_a_torn_layout_and_leftovers_do_not_stop_a_start(
    world: World, upstream: FakeRegistry, layout: bytes
) -> None:
    data = world.root / "data"
    (data / "tmp" / "a folder").mkdir(parents=True)
    (data / "tmp" / "123-4").write_bytes(b"half a reco")
    (data / "spool").mkdir()
    (data / "spool" / "no spool at all").write_bytes(b"?")
    (data / "spool" / "public~sha256~abc.journal").write_bytes(b"?")
    (data / "layout").write_bytes(layout)
    (data / "lock").write_bytes(b"of somebody who is dead")
    proxy = await world.start({"lab": upstream})
    await pull_layer(proxy, add_layer(upstream, 300_000))
    assert not (data / "tmp" / "123-4").exists()
    assert json.loads((data / "layout").read_bytes()) == {"v": 1}
