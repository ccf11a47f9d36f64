"""A removal or an eviction that is killed at any point: repeated, the result is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.errors import EntrepotError
from proxy.keeping.removal import Removal
from proxy.storage import room
from tests.flows.conftest import Running, World
from tests.flows.kept import digests, listed, run, told
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_s3 import BUCKET, FakeS3
from tests.support.images import Image, image, index

POINTS = 20


class Killed(EntrepotError):
    """Nothing of ours gets to clean up after it."""


class Killer:
    """Raises at the nth call, and ever after: whoever is dead does nothing more."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, *_: object) -> None:
        if self.left <= 0:
            raise Killed
        self.left -= 1


def images() -> tuple[Image, Image, Image]:
    base = image(5000, 3000, seed="base")
    both = index(base, image(4000, 6000, 100, seed="arm", architecture="arm64"))
    return both, base, image(3000, seed="other")


async def pulled(proxy: Running) -> None:
    both, base, other = images()
    for tag, one in (("v1", both), ("v2", other), ("keep", base)):
        await proxy.pull("/v2/lab/app", one, tag)


@pytest.mark.parametrize("with_s3", [False, True], ids=["disk", "s3"])
async def test_a_removal_killed_at_any_point_is_right_when_repeated(
    world: World,
    upstream: FakeRegistry,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    with_s3: bool,
) -> None:
    both, base, other = images()
    for tag, one in (("v1", both), ("v2", other), ("keep", base)):
        upstream.add("app", one, tag)
    points = range(2, POINTS, 6) if with_s3 else range(POINTS)
    for point in points:
        async with FakeS3() as store:
            s3 = {"endpoint": store.url, "bucket": BUCKET, "access_key": "a", "secret_key": "s"}
            settings = {"data_dir": str(tmp_path / f"{point}"), "tag_fresh_s": 3600}
            if with_s3:
                settings["storage"] = {"s3": s3}
            proxy = await world.start({"lab": upstream}, **settings)
            await pulled(proxy)
            killer = Killer(point)
            with monkeypatch.context() as patched:
                patched.setattr(Removal, "_step", killer)
                with_kill = await run(proxy, "rm", "lab/app:v1", "lab/app:v2")
            assert killer.left == 0, "the last point is beyond the end"
            assert with_kill.exit_code == 1
            await world.stack.aclose()
            proxy = await world.start({"lab": upstream}, **settings)
            # Whatever is left of them can be pulled, and what is said of it is true.
            found = await listed(proxy)
            assert found["lab/app:keep"]["state"] == "complete"
            # (Of what had gone already it is said so.)
            again = await run(proxy, "rm", "lab/app:v1", "lab/app:v2")
            assert "pinned" not in again.stderr
            assert list(await listed(proxy)) == ["lab/app:keep"]
            kept = digests(base)
            files = {p.name for p in (tmp_path / f"{point}" / "blobs").rglob("*") if p.is_file()}
            assert files == {digest.hex for digest in kept}
            if with_s3:
                blobs = {key.rpartition("/")[2] for key in store.objects if key[:6] == "blobs/"}
                assert blobs == files
            asked = len(upstream.seen)
            await proxy.pull("/v2/lab/app", base, "keep")
            assert len(upstream.seen) == asked
            await world.stack.aclose()


async def test_an_eviction_killed_at_any_point_is_right_when_repeated(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    many = {f"v{number}": image(3000, seed=str(number)) for number in range(8)}
    for tag, one in many.items():
        upstream.add("app", one, tag)
    for point in range(0, POINTS, 4):
        settings = {"data_dir": str(tmp_path / f"{point}"), "tag_fresh_s": 3600}
        proxy = await world.start({"lab": upstream}, **settings)
        for tag, one in many.items():
            await proxy.pull("/v2/lab/app", one, tag)
        await told(proxy, "pin", "lab/app:v0")
        killer, unlink = Killer(point), room._unlink

        def dies(*args, killer=killer, unlink=unlink):
            killer()
            return unlink(*args)

        with monkeypatch.context() as patched:
            patched.setattr(room, "_unlink", dies)
            assert (await run(proxy, "evict", "--free", "1GiB")).exit_code == 1
        # As a kill leaves it: no number of what is kept.
        await world.stack.aclose()
        (tmp_path / f"{point}" / "usage").unlink(missing_ok=True)
        proxy = await world.start({"lab": upstream}, **settings)
        for tag, one in many.items():
            await proxy.pull("/v2/lab/app", one, tag)
        assert proxy.entrepot.status is not None
        kept = proxy.entrepot.status._backing.local.blobs.room
        (done,) = await told(proxy, "evict", "--free", "1GiB")
        assert done["disk"]["dropped_bytes"] > 0
        assert kept.used == kept.count_blocking()
        files = {p.name for p in (tmp_path / f"{point}" / "blobs").rglob("*") if p.is_file()}
        assert files >= {digest.hex for digest in digests(many["v0"])}
        await world.stack.aclose()
