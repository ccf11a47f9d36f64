"""Fifty images are carried over, then what became of them: no more than what is new."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from proxy import cli
from proxy.bundles.keys import PrivateKey, write_pair
from proxy.oci.digest import Digest
from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeRegistry
from tests.support.images import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Content,
    Image,
    artifact,
    document,
    pseudo_random,
)

IMAGES = 50
CHANGED = 5
BASE_BYTES = 100_000
OWN_BYTES = 20_000
NEW_BYTES = 1_200_000
SHARE_MAX = 1.02


def _image(layers: list[Content], seed: str) -> Image:
    config = Content.of(
        OCI_CONFIG, document({"architecture": "amd64", "os": "linux", "seed": seed})
    )
    body = document(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config.descriptor(),
            "layers": [layer.descriptor() for layer in layers],
        }
    )
    return Image(manifests=(Content.of(OCI_MANIFEST, body),), blobs=(config, *layers))


def _layer(seed: str, size: int) -> Content:
    return Content.of(OCI_LAYER, pseudo_random(seed, size))


def fleet() -> dict[str, Image]:
    """Each of six layers, of which four are one of five bases."""
    bases = [[_layer(f"base{b}/{n}", BASE_BYTES) for n in range(4)] for b in range(5)]
    return {
        f"team/app{number:02}": _image(
            [*bases[number % 5], *(_layer(f"{number}/{n}", OWN_BYTES) for n in range(2))],
            str(number),
        )
        for number in range(IMAGES)
    }


def rebuilt(image: Image, seed: str) -> Image:
    """With another topmost layer."""
    return _image([*image.layers[:-1], _layer(f"{seed}/new", NEW_BYTES)], f"{seed}/new")


def sizes(*images: Image) -> dict[Digest, int]:
    return {one.digest: one.size for some in images for one in (*some.manifests, *some.blobs)}


async def run(proxy: Running, *words: str | Path) -> dict[str, Any]:
    admin = ["--json", "--admin", f"http://{proxy.entrepot.admin_address}"]
    argv = [*map(str, words), *admin]
    done = await asyncio.to_thread(CliRunner().invoke, cli.app, argv)
    assert done.exit_code == 0, done.output
    # The proxy runs in this process, too, and may log a line meanwhile.
    told, _ = json.JSONDecoder().raw_decode(done.stdout, done.stdout.index("{\n"))
    return dict(told)


async def test_what_changed_of_fifty_images_takes_hardly_more_than_its_new_bytes(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    images = fleet()
    listed = tmp_path / "images.txt"
    listed.write_text("".join(f"lab/{name}:v1\n" for name in images))
    for name, image in images.items():
        upstream.add(name, image, "v1")
    signed = images["team/app07"]
    upstream.add("team/app07", artifact(signed))
    private, public = write_pair(PrivateKey.new(), "site", tmp_path)
    high = await world.start({"lab": upstream}, data_dir=str(tmp_path / "high"))
    low = await world.start(
        {"lab": {"url": "http://127.0.0.1:1"}}, data_dir=str(tmp_path / "low"), offline=True
    )

    full, first = tmp_path / "full.tar", tmp_path / "first.json"
    await run(high, "export", "--file", listed, "-o", full, "--key", private)
    await run(low, "import", full, "--key", public, "--receipt", first)

    before = sizes(*images.values(), artifact(signed))
    for number, name in enumerate(list(images)[: CHANGED * 7 : 7]):
        images[name] = upstream.add(name, rebuilt(images[name], f"{number}"), "v1")
    new = sizes(*images.values())
    new = {digest: size for digest, size in new.items() if digest not in before}
    assert len(new) == CHANGED * 3

    delta = tmp_path / "delta.tar"
    words = ["--file", listed, "-o", delta, "--key", private, "--since", first]
    told = await run(high, "export", *words)
    assert told["blobs"] == len(new)
    assert told["blob_bytes"] == sum(new.values())
    assert delta.stat().st_size == told["bytes"] <= SHARE_MAX * sum(new.values())
    await run(low, "import", delta, "--key", public, "--receipt", tmp_path / "second.json")

    for name, image in images.items():
        await low.pull(f"/v2/lab/{name}", image, "v1", str(image.digest))
    # And once more: there is nothing to carry.
    await run(
        high,
        *("export", "--file", listed, "-o", tmp_path / "none.tar", "--key", private),
        *("--since", tmp_path / "second.json"),
    )
    assert (tmp_path / "none.tar").stat().st_size < 100_000
