"""`export` and the disk it writes to: room, folders, and who may read what was written."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from proxy import cli
from proxy.bundles import export_room
from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeRegistry
from tests.support.images import image
from tests.support.killed_exports import killed

APP = image(400_000, 70_000, seed="app")
WANTED: dict[str, Any] = {"images": ["lab/app:v1"], "platforms": [], "referrers": True}
AGAIN = "the same command goes on from there"


async def run(proxy: Running, *words: str | Path) -> Result:
    admin = ["--admin", f"http://{proxy.entrepot.admin_address}"]
    command = ["export", "lab/app:v1", *map(str, words), *admin]
    return await asyncio.to_thread(CliRunner().invoke, cli.app, command)


@pytest.fixture
async def low(world: World, upstream: FakeRegistry) -> Running:
    upstream.add("app", APP, "v1")
    return await world.start({"lab": upstream})


async def begun(low: Running, out: Path, form: str, **when: int) -> None:
    """And killed."""
    out.parent.mkdir()
    url = f"http://{low.entrepot.admin_address}"
    order = {"url": url, "out": str(out), "wanted": WANTED, "form": form, **when}
    assert await killed([order]) in ([9], [25])


@pytest.mark.parametrize("form", ["archive", "folder"])
async def test_a_disk_that_becomes_full_ends_it_at_once(
    low: Running, tmp_path: Path, form: str
) -> None:
    out = tmp_path / "out" / "bundle"
    await begun(low, out, form, names=2)
    full = out.with_name("bundle.partial")
    if form == "folder":
        full = full / "blobs" / "sha256" / f"{APP.layers[0].digest.hex}.partial"
    full.parent.mkdir(parents=True, exist_ok=True)
    full.unlink(missing_ok=True)
    # Whatever is written there: no space left.
    full.symlink_to("/dev/full")
    words = ["-o", str(out), *(["--folder"] if form == "folder" else [])]
    async with asyncio.timeout(60):
        done = await run(low, *words)
    assert done.exit_code == 1
    *_, last = done.stderr.splitlines()
    assert f"{out}: no space left on its disk; 4" in last
    assert f" kB more are needed; {AGAIN}" in last
    assert "trying again" not in done.output
    full.unlink()
    done = await run(low, *words)
    assert done.exit_code == 0, done.output
    assert "going on with what was begun" in done.output


@pytest.mark.parametrize("form", [[], ["--folder"], ["--split", "100kB"]], ids=str)
async def test_nothing_is_begun_without_room_for_all_of_it(
    low: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    out = tmp_path / "out" / "bundle"
    out.parent.mkdir()
    with monkeypatch.context() as small:
        small.setattr(export_room, "free_bytes", lambda _folder: 470_000)
        done = await run(low, "-o", out, *form)
        assert done.exit_code == 1
        assert f"{out}: no space left on its disk; " in done.stderr
        assert f" kB more are needed; {AGAIN}" in done.stderr
        assert list(out.parent.iterdir()) == []
        # Where the file system does not tell it is tried.
        small.setattr(export_room, "free_bytes", lambda _folder: None)
        assert (await run(low, "-o", out, *form)).exit_code == 0


async def test_what_is_written_already_needs_no_room(
    low: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out" / "bundle"
    await begun(low, out, "archive", bytes=300_000)
    monkeypatch.setattr(export_room, "free_bytes", lambda _folder: 200_000)
    done = await run(low, "-o", out)
    assert done.exit_code == 0, done.output


async def test_a_folder_that_is_not_there_is_named(low: Running, tmp_path: Path) -> None:
    done = await run(low, "-o", tmp_path / "none" / "x.tar")
    assert done.exit_code == 1
    assert f"there is no folder {tmp_path / 'none'}" in done.stderr
    assert ".lock" not in done.stderr


async def test_it_is_told_that_nobody_signed_it(low: Running, tmp_path: Path) -> None:
    done = await run(low, "-o", tmp_path / "x.tar")
    said = "not signed: the other side takes it only with --unsigned"
    assert done.stderr.splitlines()[0] == said
    made = await asyncio.to_thread(
        CliRunner().invoke, cli.app, ["keys", "new", "site", "--out", str(tmp_path)]
    )
    assert made.exit_code == 0
    done = await run(low, "-o", tmp_path / "y.tar", "--key", tmp_path / "site.key")
    assert done.exit_code == 0
    assert said not in done.stderr


async def test_only_its_owner_reads_what_was_exported(low: Running, tmp_path: Path) -> None:
    plan, partial = tmp_path / "plan" / "bundle", tmp_path / "killed" / "bundle"
    await begun(low, plan, "archive", names=2)
    await begun(low, partial, "archive", bytes=9_000)
    for number, form in enumerate(([], ["--folder"], ["--split", "100kB"])):
        out = tmp_path / f"out{number}" / "bundle"
        out.parent.mkdir()
        done = await run(low, "-o", out, *form)
        assert done.exit_code == 0, done.output
    tops = [plan.parent, partial.parent, *tmp_path.glob("out*")]
    written = [one for top in tops for one in top.rglob("*")]
    assert len([one for one in written if one.is_file()]) > 10
    for one in written:
        mode = stat.S_IMODE(one.stat().st_mode)
        if one.is_file():
            assert mode == 0o600, one
    assert stat.S_IMODE((tmp_path / "out1" / "bundle").stat().st_mode) == 0o700
