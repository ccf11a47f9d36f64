"""Tags that bundles move, and those that they would move back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.cache.records import TagRecord
from proxy.errors import BadBundle
from proxy.oci.names import Repository, Tag
from tests.support.bundles import bundle, descriptor
from tests.support.images import Image, artifact, image
from tests.support.import_core import NOW, Core, open_core

OLD, NEW = image(seed="old"), image(seed="new")
APP, V1 = Repository("app"), Tag("v1")
EARLY, LATE = 1_700_000_000, 1_700_000_500


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Core]:
    async with open_core(tmp_path / "data") as core:
        yield core


async def brought(core: Core, what: Image, created: int, *, force: bool = False) -> None:
    made = bundle({"lab/app:v1": what}, created=created)
    path = core.root.parent / "b.tar"
    path.write_bytes(made.tar())
    await core.bring(path, force=force)


async def record(core: Core) -> TagRecord:
    found = await core.facts.tag(core.upstream, APP, V1)
    assert found is not None
    return found


async def confirmed(core: Core, at: float) -> None:
    """The upstream has said so at that time."""
    known = replace(await record(core), checked_at=at)
    await core.facts.move_tag(core.upstream, APP, V1, known)


async def test_a_tag_is_of_this_sides_upstream_and_of_now(core: Core) -> None:
    await brought(core, OLD, EARLY)
    found = await record(core)
    assert (found.url, found.checked_at, found.fetched_at) == (core.upstream.url, NOW, NOW)
    assert found.current == descriptor(OLD.manifest)
    assert found.previous is None
    await brought(core, NEW, LATE)
    assert (await record(core)).previous == descriptor(OLD.manifest)


async def test_what_is_older_is_refused_whatever_came_in_between(core: Core) -> None:
    await brought(core, NEW, LATE)
    with pytest.raises(BadBundle, match=r"older than what is known here of lab/app:v1; --force"):
        await brought(core, OLD, EARLY)
    # The same image once more, in an older bundle, makes what is known no older.
    await brought(core, NEW, EARLY)
    with pytest.raises(BadBundle, match="older"):
        await brought(core, OLD, EARLY + 1)
    await brought(core, OLD, LATE + 1)


async def test_what_the_upstream_said_since_counts(core: Core) -> None:
    await brought(core, NEW, EARLY)
    await brought(core, OLD, LATE)
    await confirmed(core, NOW + 100)
    with pytest.raises(BadBundle, match="older"):
        await brought(core, NEW, int(NOW) + 50)
    await brought(core, NEW, int(NOW) + 150)


async def test_force_moves_it_back_and_that_is_a_move_as_any(core: Core) -> None:
    await brought(core, NEW, LATE)
    await brought(core, OLD, EARLY, force=True)
    assert (await record(core)).current == descriptor(OLD.manifest)
    await brought(core, NEW, EARLY + 1)
    assert (await record(core)).current == descriptor(NEW.manifest)


async def test_many_tags_that_would_go_back_are_told_shortly(core: Core, tmp_path: Path) -> None:
    for what, created in ((NEW, LATE), (OLD, EARLY)):
        made = bundle({f"lab/app{n}:v1": what for n in range(5)}, created=created)
        (tmp_path / "b.tar").write_bytes(made.tar())
        if what is NEW:
            await core.bring(tmp_path / "b.tar")
        else:
            with pytest.raises(BadBundle, match=r"app0:v1, lab/app1:v1, lab/app2:v1 and 2 more"):
                await core.bring(tmp_path / "b.tar")


async def test_cosigns_tags_come_with_what_they_sign(core: Core, tmp_path: Path) -> None:
    signature = artifact(NEW)
    tag = f"sha256-{NEW.digest.hex}.sig"
    made = bundle({"lab/app:v1": NEW}, referrers=[("lab/app", signature, tag)])
    (tmp_path / "b.tar").write_bytes(made.tar())
    done = await core.bring(tmp_path / "b.tar")
    assert done.moved == 2
    found = await core.facts.tag(core.upstream, APP, Tag(tag))
    assert found is not None
    assert found.current == descriptor(signature.manifest)
    assert await core.facts.referrers(core.upstream, APP, NEW.digest) is None
