"""There and back: a low side that exports, a high side that imports, and the receipt that
makes the next bundle small. Images of six layers that share their bases.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy import cli
from proxy.bundles.keys import load_public
from proxy.bundles.reader import open_bundle
from proxy.oci.manifests import OCI_MANIFEST
from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeRegistry
from tests.support.images import (
    OCI_CONFIG,
    OCI_LAYER,
    Content,
    Image,
    document,
    image,
    pseudo_random,
)

IMAGES, CHANGED, BASES = 6, 2, 2
LAYER_BYTES = 2_000


def made(number: int, version: int) -> Image:
    """Four layers of one of `BASES`, and two of its own."""
    base = [f"base{number % BASES}/{n}" for n in range(4)]
    own = [f"own{number}/{version}/{n}" for n in range(2)]
    layers = [Content.of(OCI_LAYER, pseudo_random(seed, LAYER_BYTES)) for seed in (*base, *own)]
    config = Content.of(OCI_CONFIG, document({"number": number, "version": version}))
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.descriptor(),
        "layers": [layer.descriptor() for layer in layers],
    }
    root = Content.of(OCI_MANIFEST, document(manifest))
    return Image(manifests=(root,), blobs=(config, *layers))


async def run(proxy: Running, *words: str | Path) -> None:
    admin = ["--admin", f"http://{proxy.entrepot.admin_address}"]
    argv = [*map(str, words), *admin]
    result = await asyncio.to_thread(CliRunner().invoke, cli.app, argv)
    assert result.exit_code == 0, result.output


async def test_a_delta_brings_what_is_new_and_the_next_one_nothing(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    names = [f"lab/team/app{number}:v1" for number in range(IMAGES)]
    before = [made(number, 1) for number in range(IMAGES)]
    after = [made(number, 2 if number < CHANGED else 1) for number in range(IMAGES)]
    for number, one in enumerate(before):
        upstream.add(f"team/app{number}", one, "v1")
    low = await world.start({"lab": upstream})
    lab = {"url": "http://127.0.0.1:1"}
    high = await world.start({"lab": lab}, offline=True, data_dir=str(tmp_path / "high"))
    keys = await asyncio.to_thread(
        CliRunner().invoke, cli.app, ["keys", "new", "low", "--out", str(tmp_path)]
    )
    assert keys.exit_code == 0
    sign, verify = ["--key", tmp_path / "low.key"], ["--key", tmp_path / "low.pub"]
    full, delta = tmp_path / "full", tmp_path / "delta"
    await run(low, "export", *names, "-o", full, *sign)
    await run(high, "import", full, *verify)
    for number in range(CHANGED):
        upstream.add(f"team/app{number}", after[number], "v1")
    receipt = tmp_path / "full.receipt"
    await run(low, "export", *names, "-o", delta, *sign, "--since", receipt)
    old = {one.digest for each in before for one in (*each.manifests, *each.blobs)}
    new = {one.digest for each in after for one in (*each.manifests, *each.blobs)} - old
    opened = open_bundle([delta], [load_public(tmp_path / "low.pub")])
    assert opened.blobs.keys() == new
    await run(high, "import", delta, *verify)
    for number in (0, CHANGED - 1, CHANGED, IMAGES - 1):
        await high.pull(f"/v2/lab/team/app{number}", after[number], "v1")
    # What is there now is known again: the next delta of the same images is empty.
    again = tmp_path / "again"
    await run(low, "export", *names, "-o", again, *sign, "--since", tmp_path / "delta.receipt")
    assert open_bundle([again], None).blobs == {}
    await run(high, "import", again, *verify)
    told = json.loads((tmp_path / "again.receipt").read_text())
    # What no image needs any more may be evicted, so it is not told.
    now = {str(one.digest) for each in after for one in (*each.manifests, *each.blobs)}
    assert set(told["have"]) == now


async def test_a_delta_is_refused_where_its_base_never_came(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", image(5000, 600, seed="one"), "v1")
    low = await world.start({"lab": upstream})
    lab = {"url": "http://127.0.0.1:1"}
    high = await world.start({"lab": lab}, offline=True, data_dir=str(tmp_path / "high"))
    other = await world.start({"lab": lab}, offline=True, data_dir=str(tmp_path / "other"))
    full, delta = tmp_path / "full", tmp_path / "delta"
    await run(low, "export", "lab/app:v1", "-o", full)
    await run(high, "import", full, "--unsigned")
    await run(low, "export", "lab/app:v1", "-o", delta, "--since", tmp_path / "full.receipt")
    with pytest.raises(AssertionError, match="import its base first"):
        await run(other, "import", delta, "--unsigned")
    assert (await other.ask("/v2/lab/app/manifests/v1")).status != 200
