"""An export that is killed and repeated writes what one that nobody killed would have."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from proxy import cli
from proxy.bundles.export_plan import path_of
from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import artifact, image, index
from tests.support.killed_exports import killed
from tests.support.waiting import until

APP = index(image(400_000, 70_000, seed="amd"), image(300, seed="arm", architecture="arm64"))
WANTED: dict[str, Any] = {"images": ["lab/app:v1"], "platforms": ["all"], "referrers": True}
PART = "100000"
# Where in the archive, which is a little longer than its blobs.
OFFSETS = (0, 1, 511, 513, 3000, 5000, 9000, 20_000, 150_000, 300_000, 411_000, 470_000)


def order(proxy: Running, out: Path, form: str, **when: int) -> dict[str, Any]:
    url = f"http://{proxy.entrepot.admin_address}"
    return {"url": url, "out": str(out), "wanted": WANTED, "form": form, **when}


def told(out: Path) -> dict[str, str]:
    """All that lies at and beside `out`, by name, and what is in it."""
    found = {}
    for path in sorted(out.parent.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(out.parent))
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


async def test_killed_at_twenty_points_and_repeated_it_is_the_same_to_the_byte(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", APP, "v1")
    upstream.add("app", artifact(APP))
    proxy = await world.start({"lab": upstream})

    # Killed once the plan is kept: the same plan for all.
    plans, whole = {}, {}
    for form in ("archive", PART, "folder"):
        plans[form] = tmp_path / form / "plan" / "bundle"
        plans[form].parent.mkdir(parents=True)
        assert await killed([order(proxy, plans[form], form, names=2)]) == [9]
        out = tmp_path / form / "whole" / "bundle"
        _begin(plans[form], out)
        assert await killed([order(proxy, out, form)]) == [0]
        whole[form] = told(out)
    assert [len(found) for found in whole.values()] == [1, 5, 15]

    points = [("archive", {"bytes": offset}) for offset in OFFSETS]
    points += [("archive", {"names": number}) for number in (1, 2)]
    points += [(PART, {"names": number}) for number in (1, 3, 5)]
    points += [("folder", {"names": number}) for number in (4, 9, 25)]
    attempts, outs = [], []
    for number, (form, when) in enumerate(points):
        out = tmp_path / str(number) / "bundle"
        out.parent.mkdir()
        _begin(plans[form], out)
        outs.append((form, out))
        attempts += [order(proxy, out, form, **when), order(proxy, out, form)]
    ended = await killed(attempts)
    assert len(points) == 20
    assert 0 not in ended[::2]
    assert set(ended[1::2]) == {0}
    for (form, out), when in zip(outs, points, strict=True):
        assert told(out) == whole[form], when


async def test_killed_again_and_again_it_gets_on_each_time(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", APP, "v1")
    proxy = await world.start({"lab": upstream})
    out = tmp_path / "out" / "bundle"
    out.parent.mkdir()
    # First before there is a plan.
    attempts = [order(proxy, out, "archive", names=1)]
    attempts += [order(proxy, out, "archive", bytes=size) for size in OFFSETS[4:]]
    ended = await killed([*attempts, order(proxy, out, "archive")])
    assert 0 not in ended[:-1]
    assert ended[-1] == 0
    assert list(told(out)) == ["bundle"]
    # What an attempt had written, the next one did not fetch again.
    await proxy.settled()
    sent = upstream.bytes_sent(kind="blob", method="GET")
    assert sent == sum(one.size for one in {*APP.blobs})


async def test_what_was_written_is_verified_and_not_believed(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", APP, "v1")
    proxy = await world.start({"lab": upstream})
    out, other = tmp_path / "out" / "bundle", tmp_path / "other" / "bundle"
    for one in (out, other):
        one.parent.mkdir()
    assert await killed([order(proxy, out, "archive", bytes=440_000)]) == [25]
    _begin(out, other)
    assert await killed([order(proxy, other, "archive")]) == [0]
    partial = out.with_name("bundle.partial")
    body = bytearray(partial.read_bytes())
    assert len(body) == 440_000
    # As a power cut leaves it: some of it was never written.
    body[200_000:230_000] = bytes(30_000)
    partial.write_bytes(body + b"and more" * 50_000)
    assert await killed([order(proxy, out, "archive")]) == [0]
    assert told(out) == told(other)


async def test_an_interrupted_one_says_how_to_go_on(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", APP, "v1")
    # It can't be done before it is interrupted.
    upstream.inject(Fault(stall_at=100_000), kind="blob", method="GET", times=None)
    proxy = await world.start({"lab": upstream})
    out = tmp_path / "out" / "bundle"
    out.parent.mkdir()
    admin = f"http://{proxy.entrepot.admin_address}"
    command = ["export", "lab/app:v1", "-o", str(out), "--all-platforms", "--admin", admin]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", *command),
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    partial = out.with_name("bundle.partial")

    def begun_writing() -> bool:
        return partial.exists() and partial.stat().st_size >= 3000

    await until(begun_writing, "some of it is written", deadline_s=60)
    async with asyncio.timeout(60):
        process.send_signal(signal.SIGINT)
        _, said = await process.communicate()
    assert process.returncode == 130
    _unsigned, begun, ended = said.decode().splitlines()
    assert begun.startswith("writing bundle, 47")
    assert ended == "interrupted; the same command goes on where it was"
    upstream.heal()
    await proxy.entrepot.__aexit__()
    proxy = await world.start({"lab": upstream})
    admin = f"http://{proxy.entrepot.admin_address}"
    done = await asyncio.to_thread(CliRunner().invoke, cli.app, [*command[:-1], admin])
    assert done.exit_code == 0, done.output
    assert "going on with what was begun" in done.output


async def test_another_export_is_not_mistaken_for_this_one(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", APP, "v1")
    proxy = await world.start({"lab": upstream})
    out = tmp_path / "out" / "bundle"
    out.parent.mkdir()
    assert await killed([order(proxy, out, "archive", bytes=100_000)]) == [25]
    before = told(out)
    admin = f"http://{proxy.entrepot.admin_address}"
    command = ["export", "lab/app:v1", "-o", str(out), "--admin", admin, "--no-referrers"]
    done = await asyncio.to_thread(CliRunner().invoke, cli.app, command)
    assert done.exit_code == 1
    assert "begun with other platforms, referrers" in done.output
    assert told(out).items() >= before.items() - {("bundle.lock", before["bundle.lock"])}
    plan = path_of(out)
    plan.write_bytes(plan.read_bytes()[:-5])
    done = await asyncio.to_thread(CliRunner().invoke, cli.app, [*command[:-1], "--all-platforms"])
    assert done.exit_code == 1
    assert "is damaged" in done.output


def _begin(plan: Path, out: Path) -> None:
    out.parent.mkdir(exist_ok=True)
    shutil.copy(path_of(plan), path_of(out))
