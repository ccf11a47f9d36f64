"""What goes while an import ends: nothing of it is visible, and pins are what they were."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.bundles.importing_sending import verify
from proxy.bundles.reader import open_bundle
from proxy.cache.expiry import Expiry
from proxy.cache.pins import Pins
from proxy.coordination.local import LocalCoordination
from proxy.errors import BadBundle, StorageUnavailable
from proxy.ports import PUBLIC, BlobKey, StoredBlob
from tests.support.bundles import KEY, Made, bundle
from tests.support.images import Image, image
from tests.support.import_core import NOW, Core, open_core, sent_from
from tests.support.memory_storage import MemoryBlobs, MemoryRecords

BASE = image(5000, 900, seed="app")
NEXT = image(5000, 900, 40, seed="app")
HAD = {one.digest for one in BASE.blobs} & {one.digest for one in NEXT.blobs}
FIRST = bundle({"lab/app:v1": BASE})
# The same tag again: its pin takes the place of the first one's.
DELTA = bundle(
    {"lab/app:v1": NEXT, "lab/more:v1": NEXT},
    have=HAD,
    receipts=["a" * 32],
    created=1_800_000_100,
    bundle_id="2" * 32,
)


class Hooked:
    """Storage, of which `before` hears what is written."""

    def __init__(self, part: Any, before: list[Callable[[str], Any]]) -> None:
        self._part = part
        self._before = before

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if name != "put":
            return found

        async def put(key: Any, *args: Any, **more: Any) -> Any:
            for hook in self._before:
                await hook(str(key))
            return await found(key, *args, **more)

        return put


async def bring(core: Core, made: Made, path: Path) -> Any:
    path.write_bytes(made.tar())
    return await core.bring(path)


async def committing(core: Core, made: Made, path: Path) -> str:
    """All of it has come."""
    path.write_bytes(made.tar())
    opened = open_bundle([path], [KEY.public])
    begun = await core.importing.begin(opened.body, opened.signature)
    for key, size in begun.lacking:
        body = sent_from(opened, key.digest)
        await core.importing.receive(begun.token, key.group, key.digest, size, body)
    for digest in opened.blobs:
        verify(opened, digest)
    return begun.token


@pytest.mark.parametrize(
    ("going", "said"),
    [(BASE.layers[0], "import its base first"), (NEXT.layers[-1], "came and went again")],
    ids=["base", "brought"],
)
async def test_what_another_replica_removes_before_it_knows_of_the_pins_is_seen(
    tmp_path: Path, going: Any, said: str
) -> None:
    hooks: list[Callable[[str], Any]] = []
    async with open_core(tmp_path / "data", through=lambda part: Hooked(part, hooks)) as core:
        await bring(core, FIRST, tmp_path / "first")
        before = contents(core)
        token = await committing(core, DELTA, tmp_path / "delta")

        async def gone(key: str) -> None:
            if key.startswith("pins"):
                await core.storage.blobs.delete(BlobKey(PUBLIC, going.digest))

        hooks.append(gone)
        with pytest.raises(BadBundle, match=said):
            await core.importing.commit(token)
        hooks.clear()
        assert contents(core) == before


async def test_where_records_fail_pins_are_what_they_were(tmp_path: Path) -> None:
    hooks: list[Callable[[str], Any]] = []
    async with open_core(tmp_path / "data", through=lambda part: Hooked(part, hooks)) as core:
        await bring(core, FIRST, tmp_path / "first")
        before = {name for name in contents(core) if name.startswith("pins")}
        token = await committing(core, DELTA, tmp_path / "delta")

        async def fails(key: str) -> None:
            if "/_links/" in key:
                raise StorageUnavailable("away")

        hooks.append(fails)
        with pytest.raises(StorageUnavailable):
            await core.importing.commit(token)
        hooks.clear()
        assert {name for name in contents(core) if name.startswith("pins")} == before
        # The same again ends as if nothing had been.
        done = await core.importing.commit(token)
        assert done.moved == 2
        assert done.receipt.have == digests(NEXT)


def contents(core: Core) -> dict[str, bytes]:
    return {name: (core.root / name).read_bytes() for name in core.visible()}


def digests(one: Image) -> set[Any]:
    return {content.digest for content in (*one.manifests, *one.blobs)}


@pytest.mark.parametrize("held", [True, False])
async def test_what_an_import_needs_does_not_expire_from_the_store(*, held: bool) -> None:
    key = BlobKey(PUBLIC, BASE.layers[0].digest)
    pins = Pins(MemoryRecords(), _ignore, lambda: NOW)
    if held:
        pins.held = key.__eq__
    gone: list[BlobKey] = []
    expiry = Expiry(
        Shelf(key, gone),
        groups=[PUBLIC],
        bytes_max=None,
        expire_s=60.0,
        coordination=LocalCoordination(),
        observe=_ignore,
        clock=lambda: NOW,
        pins=pins,
    )
    await expiry.round()
    assert gone == ([] if held else [key])


class Shelf(MemoryBlobs):
    """One blob, stored long ago."""

    def __init__(self, key: BlobKey, gone: list[BlobKey]) -> None:
        super().__init__()
        self.key = key
        self.gone = gone

    async def inventory(self, group: str) -> AsyncIterator[StoredBlob]:
        assert group == self.key.group
        yield StoredBlob(self.key, 1000, NOW - 86_400.0)

    async def delete(self, key: BlobKey) -> None:
        self.gone.append(key)


def _ignore(_event: object) -> None:
    pass
