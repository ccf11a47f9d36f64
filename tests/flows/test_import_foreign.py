"""`entrepot import --unsigned`: what skopeo, buildx and docker wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.oci.digest import Digest
from tests.flows.conftest import World
from tests.flows.import_side import NOWHERE, Side
from tests.support.bundles import KEY
from tests.support.foreign_archives import REF_NAME, docker_save, layout, tarred, unpacked
from tests.support.images import artifact, image, index

AMD64, ARM64 = image(300_000, 20, seed="amd"), image(500, seed="arm", architecture="arm64")
BOTH = index(AMD64, ARM64)
NAMED = {REF_NAME: "lab/app:v1"}


@pytest.fixture
async def side(world: World, tmp_path: Path) -> Side:
    hub = {**NOWHERE, "library": True}
    proxy = await world.start({"lab": NOWHERE, "docker.io": hub}, offline=True)
    return Side(proxy, tmp_path, tmp_path / "none")


async def test_layouts_come_in_as_archive_and_as_folder(side: Side) -> None:
    signature = artifact(BOTH)
    members = layout([(BOTH, NAMED), (signature, {})])
    path = side.put(tarred(members))
    assert "--unsigned takes archives of others" in await side.refuses(path, key=False)
    result = await side.takes(path, "--unsigned", key=False)
    assert result.stdout == f"lab/app:v1  {BOTH.digest}\n"
    await side.pulls("lab/app", BOTH, "v1")
    listed = json.loads((await side.proxy.ask(f"/v2/lab/app/referrers/{BOTH.digest}")).body)
    assert [one["digest"] for one in listed["manifests"]] == [str(signature.digest)]
    folder = unpacked(layout([(AMD64, {REF_NAME: "v7"})]), side.folder / "folder")
    await side.takes(folder, "--unsigned", "--name", "lab/team/other", key=False)
    await side.pulls("lab/team/other", AMD64, "v7")


async def test_docker_save_becomes_an_image_that_can_be_pulled(side: Side) -> None:
    path = side.put(tarred(docker_save("app:v1", "lab/team/app:v2", doubled=True)))
    result = await side.takes(path, "--unsigned", key=False)
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        "docker.io/library/app:v1",
        "lab/team/app:v2",
    ]
    answer = await side.proxy.ask("/v2/docker.io/app/manifests/v1")
    assert answer.status == 200
    manifest = json.loads(answer.body)
    for one in (manifest["config"], *manifest["layers"]):
        blob = await side.proxy.ask(f"/v2/docker.io/app/blobs/{one['digest']}")
        assert Digest.of(blob.body) == Digest.parse(one["digest"])


async def test_one_platform_of_an_index_is_as_much_as_was_copied(side: Side) -> None:
    without = {one.digest for one in (*ARM64.manifests, *ARM64.blobs)}
    path = side.put(tarred(layout([(BOTH, NAMED)], without=without)))
    await side.takes(path, "--unsigned", key=False)
    await side.pulls("lab/app", AMD64, "v1")
    await side.lacks("lab/app", str(ARM64.digest))


async def test_names_that_lead_nowhere_are_told(side: Side) -> None:
    for name, word in (
        ("localhost/app:v1", "localhost, which is not configured here"),
        ("registry.example:5000/app:v1", "registry.example"),
        ("quay.io/team/app:v1", "quay.io, which is not configured here"),
        ("lab/UPPER:v1", "UPPER"),
    ):
        path = side.put(tarred(layout([(AMD64, {REF_NAME: name})])))
        assert word in await side.refuses(path, "--unsigned", key=False)
    await side.takes(path, "--unsigned", "--name", "lab/app:v1", key=False)


async def test_a_layer_of_other_bytes_is_refused_and_nothing_of_it_seen(side: Side) -> None:
    wrong = f"blobs/sha256/{AMD64.layers[0].digest.hex}"
    members = [
        (name, bytes(len(body)) if name == wrong else body)
        for name, body in layout([(AMD64, NAMED)])
    ]
    line = await side.refuses(side.put(tarred(members)), "--unsigned", key=False)
    assert str(AMD64.layers[0].digest) in line
    await side.lacks("lab/app", "v1", str(AMD64.digest))


async def test_configured_keys_keep_foreign_archives_out(world: World, tmp_path: Path) -> None:
    (tmp_path / "low.pub").write_text(KEY.public.pem())
    bundles = {"keys": [str(tmp_path / "low.pub")]}
    proxy = await world.start({"lab": NOWHERE}, offline=True, bundles=bundles)
    side = Side(proxy, tmp_path, tmp_path / "low.pub")
    path = side.put(tarred(layout([(AMD64, NAMED)])))
    assert "nobody signed it" in await side.refuses(path, "--unsigned", key=False)
