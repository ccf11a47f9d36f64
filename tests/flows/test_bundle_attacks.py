"""Bundles that somebody has tampered with: refused, each, and nothing comes of them."""

from __future__ import annotations

import asyncio
import random
import resource
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy import cli
from proxy.bundles.foreign import open_foreign
from proxy.bundles.reader import is_bundle
from proxy.errors import BadBundle
from tests.flows.conftest import World
from tests.support.bundle_attacks import APP, GOOD, OTHER, attack, repacked
from tests.support.bundles import KEY
from tests.support.import_core import Core, open_core

ATTACKS = 1000
OVER_HTTP = 40
GROWTH_BYTES_MAX = 100 * 1024 * 1024


async def brought(core: Core, path: Path) -> None:
    """Raises `BadBundle`."""
    if not is_bundle(path):
        with pytest.raises(BadBundle):
            open_foreign([path], lambda name: ("lab", name, None), name="lab/x:v1", created=0)
        raise BadBundle("no bundle")
    await core.bring(path)


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Core]:
    async with open_core(tmp_path / "data") as core:
        yield core
        assert core.storage.blobs.room.reserved == 0
        assert not core.staging._held


async def test_of_a_thousand_mutated_bundles_none_is_accepted(
    core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "here"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    path = tmp_path / "mutated.tar"
    reasons: Counter[str] = Counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(ATTACKS):
        made = attack(seed)
        path.write_bytes(made.data)
        try:
            await brought(core, path)
        except BadBundle as error:
            reasons[str(error)[:40]] += 1
        else:
            pytest.fail(f"attack {seed} was accepted: {made.kind}")
        if seed % 100 == 0:
            # So that blobs are brought again, not only compared.
            for blob in [one async for one in core.storage.blobs.list("public")]:
                await core.storage.blobs.delete(blob)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < GROWTH_BYTES_MAX
    assert core.visible() == []
    assert len(reasons) > 10
    assert not any("\n" in reason for reason in reasons)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["data", "here", "mutated.tar"]
    assert list(elsewhere.iterdir()) == []
    assert [one.name for one in (core.root / "spool").iterdir()] == []
    path.write_bytes(GOOD.tar())
    await brought(core, path)
    assert core.visible() != []


async def test_one_that_another_program_packed_is_told_apart(core: Core, tmp_path: Path) -> None:
    path = tmp_path / "repacked.tar"
    path.write_bytes(repacked(random.Random(1)))
    with pytest.raises(BadBundle):
        await brought(core, path)
    assert core.visible() == []


async def test_the_command_and_the_running_proxy_refuse_them_alike(
    world: World, tmp_path: Path
) -> None:
    proxy = await world.start({"lab": {"url": "http://127.0.0.1:1"}}, offline=True)
    key, path = tmp_path / "low.pub", tmp_path / "mutated.tar"
    key.write_text(KEY.public.pem())
    admin = f"http://{proxy.entrepot.admin_address}"
    argv = ["import", str(path), "--key", str(key), "--admin", admin]
    for seed in range(ATTACKS, ATTACKS + OVER_HTTP):
        made = attack(seed)
        path.write_bytes(made.data)
        result = await asyncio.to_thread(CliRunner().invoke, cli.app, argv)
        assert (result.exit_code, result.stdout) == (2, ""), (seed, made.kind, result.output)
        assert len(result.stderr.splitlines()) == 1, (seed, result.stderr)
    for top in ("repos", "pins"):
        assert [one for one in (tmp_path / "data" / top).rglob("*") if one.is_file()] == []
    for reference in ("v1", APP.digest, OTHER.digest):
        assert (await proxy.ask(f"/v2/lab/app/manifests/{reference}")).status != 200
    assert not path.with_name("mutated.tar.receipt").exists()
    path.write_bytes(GOOD.tar())
    result = await asyncio.to_thread(CliRunner().invoke, cli.app, argv)
    assert result.exit_code == 0, result.output
    await proxy.pull("/v2/lab/app", APP, "v1")
