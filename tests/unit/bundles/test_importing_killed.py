"""An import that is killed at each point where it touches storage: nothing is visible by
halves, and the same bundle brought again ends the same.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.cache import keys
from proxy.oci.digest import Digest
from proxy.oci.names import Repository, Tag
from proxy.ports import PUBLIC, BlobKey
from tests.support.bundles import bundle
from tests.support.images import artifact, image, index
from tests.support.import_core import Core, open_core

APP = index(image(3000, 900, seed="a"), image(500, seed="b", architecture="arm64"))
OTHER = image(2000, seed="c")
MADE = bundle(
    {"lab/app:v1": APP, "lab/other:v2": OTHER}, referrers=[("lab/app", artifact(APP), None)]
)


class Killed(BaseException):
    """As if the process had ended here."""


class Counted:
    """A part of storage of which nothing is left from the `last` call on."""

    calls = 0

    def __init__(self, part: Any, last: list[int]) -> None:
        self._part = part
        self._last = last

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if name not in {"put", "put_bytes", "reserve", "delete", "stat", "read", "get", "latest"}:
            return found

        async def call(*args: Any, **more: Any) -> Any:
            self._last[0] -= 1
            if self._last[0] == 0:
                raise Killed
            return await found(*args, **more)

        return call


async def tags_are_whole(core: Core) -> int:
    """Whoever finds a tag finds all of its image; how many tags there are."""
    count = 0
    wanted = {"app": (Tag("v1"), APP), "other": (Tag("v2"), OTHER)}
    for name, (tag, whole) in wanted.items():
        repository = Repository(name)
        record = await core.facts.tag(core.upstream, repository, tag)
        if record is None:
            continue
        count += 1
        assert record.current.digest == whole.digest
        for one in (*whole.manifests, *whole.blobs):
            link = await core.facts.link(core.upstream, repository, one.digest)
            assert link is not None
            assert link.media_type in {one.media_type, ""}
            assert await core.storage.blobs.stat(BlobKey(PUBLIC, one.digest)) == one.size
            body = await core.storage.blobs.read(BlobKey(PUBLIC, one.digest), 1 << 20)
            assert body == one.body
    return count


async def calls_in_all(root: Path, path: Path) -> int:
    left = [1_000_000]
    async with open_core(root, through=lambda part: Counted(part, left)) as core:
        await core.bring(path)
    return 1_000_000 - left[0]


async def test_wherever_it_is_killed_it_can_be_done_again(tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    path.write_bytes(MADE.tar())
    points = await calls_in_all(tmp_path / "first", path)
    assert points > 60
    seen = set()
    for number, point in enumerate(range(1, points, max(1, points // 22))):
        root, left = tmp_path / str(number), [point]
        with pytest.raises((Killed, BaseExceptionGroup)):
            async with open_core(root, through=lambda part, left=left: Counted(part, left)) as core:
                await core.bring(path)
        async with open_core(root) as core:
            seen.add(await tags_are_whole(core))
            done = await core.bring(path)
            assert await tags_are_whole(core) == 2
            assert done.receipt.have == MADE.blobs.keys()
            assert core.storage.blobs.room.reserved == 0
            moves = [one async for one in core.storage.records.list("repos")]
            assert len([one for one in moves if "/_history/" in one]) <= 2
    assert len(seen) >= 2


async def test_a_second_import_of_the_same_bundle_waits_or_shares(tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    path.write_bytes(MADE.tar())
    async with open_core(tmp_path / "data") as core:
        one, other = await asyncio.gather(core.bring(path), core.bring(path))
        assert one.receipt.have == other.receipt.have
        assert await tags_are_whole(core) == 2
        assert core.storage.blobs.room.reserved == 0
        key = keys.tag("lab", Repository("app"), Tag("v1"))
        assert await core.storage.records.get(key) is not None
        assert not core.staging.holds(BlobKey(PUBLIC, Digest.parse(str(APP.digest))))
