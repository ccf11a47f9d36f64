"""`entrepot import`: all of a bundle or nothing of it, through the command itself."""

from __future__ import annotations

import asyncio
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proxy import cli
from proxy.bundles import receipts
from tests.flows.conftest import World
from tests.flows.import_side import NOWHERE, Side
from tests.support.bundles import KEY, OTHER_KEY, Made, bundle
from tests.support.fake_registry import FakeRegistry
from tests.support.images import Image, artifact, image, index

AMD64, ARM64 = image(300_000, 20, seed="amd"), image(500, seed="arm", architecture="arm64")
BOTH = index(AMD64, ARM64)
SIGNATURE = artifact(BOTH)


@pytest.fixture
async def side(world: World, tmp_path: Path) -> Side:
    proxy = await world.start({"lab": NOWHERE}, offline=True)
    key = tmp_path / "low.pub"
    key.write_text(KEY.public.pem())
    return Side(proxy, tmp_path, key)


async def test_an_image_is_there_by_tag_and_digest_with_its_signature(side: Side) -> None:
    made = bundle({"lab/app:v1": BOTH}, referrers=[("lab/app", SIGNATURE, None)])
    result = await side.takes(side.put(made))
    assert result.stdout == f"lab/app:v1  {BOTH.digest}\n"
    await side.pulls("lab/app", BOTH, "v1")
    await side.pulls("lab/app", SIGNATURE)
    listed = json.loads((await side.proxy.ask(f"/v2/lab/app/referrers/{BOTH.digest}")).body)
    assert [one["digest"] for one in listed["manifests"]] == [str(SIGNATURE.digest)]
    assert listed["manifests"][0]["artifactType"] == "application/example.signature"
    assert json.loads((await side.proxy.ask("/v2/lab/app/tags/list")).body)["tags"] == ["v1"]


async def test_the_receipt_tells_what_is_here_now(side: Side) -> None:
    first = bundle({"lab/app:v1": AMD64})
    await side.takes(side.put(first))
    second = bundle({"lab/other:v2": ARM64}, bundle_id="2" * 32)
    await side.takes(side.put(second, "second.tar"), "--receipt", side.folder / "r.json")
    receipt = receipts.load(side.folder / "r.json")
    assert receipt.bundle == "2" * 32
    assert receipt.images == {"lab/other:v2": ARM64.digest}
    assert receipt.have == first.blobs.keys() | second.blobs.keys()
    assert receipts.load(side.folder / "b.tar.receipt").have == first.blobs.keys()


async def test_a_delta_needs_its_base_and_says_which(side: Side) -> None:
    changed = Image(
        manifests=(image(300_000, 20, 7, seed="amd").manifests),
        blobs=image(300_000, 20, 7, seed="amd").blobs,
    )
    had = {one.digest for one in AMD64.blobs}
    delta = bundle({"lab/app:v2": changed}, have=had, receipts=["a" * 32])
    line = await side.refuses(side.put(delta, "delta.tar"))
    assert "a" * 32 in line
    assert "import its base first" in line
    await side.lacks("lab/app", "v2", str(changed.digest))
    await side.takes(side.put(bundle({"lab/app:v1": AMD64})))
    await side.takes(side.folder / "delta.tar")
    await side.pulls("lab/app", changed, "v2")
    receipt = receipts.load(side.folder / "delta.tar.receipt")
    assert receipt.have >= {one.digest for one in (*AMD64.blobs, *changed.blobs)}


async def test_it_is_the_same_the_second_time_and_nothing_is_sent(side: Side) -> None:
    path = side.put(bundle({"lab/app:v1": BOTH}))
    await side.takes(path)
    before = side.visible()
    files = {p: p.stat().st_mtime_ns for p in (side.folder / "data" / "blobs").rglob("*")}
    told = json.loads((await side.takes(path, "--json")).stdout)
    assert told["moved"] == 0
    assert told["receipt"] == f"{path}.receipt"
    assert before.keys() == side.visible().keys()
    assert files == {p: p.stat().st_mtime_ns for p in (side.folder / "data" / "blobs").rglob("*")}


async def test_whoever_signed_it_decides(side: Side, tmp_path: Path) -> None:
    other = tmp_path / "other.pub"
    other.write_text(OTHER_KEY.public.pem())
    mine, theirs = bundle({"lab/app:v1": AMD64}), bundle({"lab/app:v1": AMD64}, key=OTHER_KEY)
    nobodys = bundle({"lab/app:v1": AMD64}, key=None)
    assert "not trusted" in await side.refuses(side.put(theirs))
    assert "not signed" in await side.refuses(side.put(nobodys))
    assert "--unsigned" in await side.refuses(side.put(nobodys), key=False)
    assert "public key" in await side.refuses(side.put(mine), key=False)
    assert "can't be read" in await side.refuses(side.put(mine), "--key", tmp_path / "absent.pub")
    await side.takes(side.put(theirs), "--key", other)
    await side.takes(side.put(nobodys), "--unsigned", key=False)
    await side.takes(side.put(mine), "--unsigned", key=False)


async def test_configured_keys_rule_out_all_others(world: World, tmp_path: Path) -> None:
    key = tmp_path / "low.pub"
    key.write_text(KEY.public.pem())
    proxy = await world.start({"lab": NOWHERE}, offline=True, bundles={"keys": [str(key)]})
    side = Side(proxy, tmp_path, tmp_path / "other.pub")
    side.key.write_text(OTHER_KEY.public.pem())
    theirs = bundle({"lab/app:v1": AMD64}, key=OTHER_KEY)
    assert "not trusted" in await side.refuses(side.put(theirs))
    assert "not trusted" in await side.refuses(side.put(theirs), "--unsigned", key=False)
    nobodys = bundle({"lab/app:v1": AMD64}, key=None)
    assert "nobody signed it" in await side.refuses(side.put(nobodys), "--unsigned", key=False)
    await side.takes(side.put(bundle({"lab/app:v1": AMD64})), key=False)


async def test_unsigned_can_be_forbidden(world: World, tmp_path: Path) -> None:
    proxy = await world.start({"lab": NOWHERE}, offline=True, bundles={"unsigned": False})
    side = Side(proxy, tmp_path, tmp_path / "low.pub")
    side.key.write_text(KEY.public.pem())
    path = side.put(bundle({"lab/app:v1": AMD64}, key=None))
    assert "bundles.unsigned is false" in await side.refuses(path, "--unsigned", key=False)
    await side.takes(side.put(bundle({"lab/app:v1": AMD64})))


async def test_a_bundle_that_is_not_whole_is_refused(side: Side) -> None:
    for lost in (AMD64.layers[0], AMD64.config, ARM64.manifest):
        made = bundle({"lab/app:v1": BOTH}, without=[lost.digest])
        line = await side.refuses(side.put(made))
        assert f"lacks {lost.digest}" in line
        await side.lacks("lab/app", "v1", str(BOTH.digest))


async def test_platforms_that_were_left_behind_are_declared(side: Side) -> None:
    without = [ARM64.digest, *(one.digest for one in ARM64.blobs)]
    made = bundle({"lab/app:v1": BOTH}, without=without, platforms=["linux/amd64"])
    await side.takes(side.put(made))
    await side.pulls("lab/app", AMD64, "v1")
    answer = await side.proxy.ask("/v2/lab/app/manifests/v1")
    assert answer.body == BOTH.manifest.body


async def test_an_upstream_that_is_not_configured_is_told(side: Side) -> None:
    line = await side.refuses(side.put(bundle({"ghcr.io/team/app:v1": AMD64})))
    assert "ghcr.io: {url: https://ghcr.io}" in line


async def test_a_registry_may_have_another_name_over_there(world: World, tmp_path: Path) -> None:
    lab = {**NOWHERE, "aliases": ["ghcr.io"]}
    side = Side(await world.start({"lab": lab}, offline=True), tmp_path, tmp_path / "low.pub")
    side.key.write_text(KEY.public.pem())
    await side.takes(side.put(bundle({"ghcr.io/team/app:v1": AMD64})))
    await side.pulls("lab/team/app", AMD64, "v1")


async def test_an_older_bundle_moves_no_tag_back_unless_told_to(side: Side) -> None:
    new = bundle({"lab/app:v1": AMD64}, created=1_700_000_100)
    old = bundle({"lab/app:v1": ARM64}, created=1_700_000_000)
    await side.takes(side.put(new))
    assert "older" in await side.refuses(side.put(old, "old.tar"))
    await side.pulls("lab/app", AMD64, "v1")
    await side.takes(side.folder / "old.tar", "--force")
    await side.pulls("lab/app", ARM64, "v1")
    newer = bundle({"lab/app:v1": AMD64}, created=1_700_000_050)
    await side.takes(side.put(newer, "newer.tar"))
    await side.pulls("lab/app", AMD64, "v1")


async def test_a_tag_that_the_upstream_confirmed_later_stays(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", AMD64, "v1")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    side = Side(proxy, tmp_path, tmp_path / "low.pub")
    side.key.write_text(KEY.public.pem())
    await proxy.pull("/v2/lab/app", AMD64, "v1")
    assert "lab/app:v1" in await side.refuses(side.put(bundle({"lab/app:v1": ARM64})))
    await side.takes(side.put(bundle({"lab/app:v1": AMD64})))


async def test_parts_and_folders_are_bundles_too(side: Side) -> None:
    made = bundle({"lab/app:v1": BOTH})
    data = made.tar()
    for number, at in enumerate(range(0, len(data), 90_000), 1):
        (side.folder / f"parts.tar.{number:03}").write_bytes(data[at : at + 90_000])
    lost = side.folder / "parts.tar.002"
    aside = lost.rename(side.folder / "aside")
    assert "part 002 of parts.tar is not there" in await side.refuses(side.folder / "parts.tar.001")
    aside.rename(lost)
    (side.folder / "parts.tar.004").rename(aside)
    assert "cut short" in await side.refuses(side.folder / "parts.tar.001")
    aside.rename(side.folder / "parts.tar.004")
    await side.takes(side.folder / "parts.tar.001")
    assert receipts.load(side.folder / "parts.tar.receipt").have == made.blobs.keys()
    await side.pulls("lab/app", BOTH, "v1")
    await unpacked(side, bundle({"lab/other:v1": AMD64}))
    await side.pulls("lab/other", AMD64, "v1")


async def unpacked(side: Side, made: Made) -> None:
    with tarfile.open(side.put(made)) as tar:
        tar.extractall(side.folder / "unpacked", filter="data")
    blob = side.folder / "unpacked" / "blobs" / "sha256" / AMD64.layers[0].digest.hex
    aside = blob.rename(side.folder / "layer")
    blob.symlink_to(aside)
    assert "is a link" in await side.refuses(side.folder / "unpacked")
    blob.unlink()
    assert "lacks" in await side.refuses(side.folder / "unpacked")
    aside.rename(blob)
    await side.takes(side.folder / "unpacked")
    assert (side.folder / "unpacked.receipt").exists()


async def test_there_is_no_room_and_nothing_was_written(world: World, tmp_path: Path) -> None:
    proxy = await world.start({"lab": NOWHERE}, offline=True, disk_bytes_max="1MiB")
    side = Side(proxy, tmp_path, tmp_path / "low.pub")
    side.key.write_text(KEY.public.pem())
    path = side.put(bundle({"lab/app:v1": image(3_000_000)}))
    line = await side.refuses(path, code=1)
    assert "the bundle brings 3.0 MB that are not here, and there is no room for 2." in line
    assert " MB of them: nothing was written" in line
    blobs = tmp_path / "data" / "blobs"
    assert not [one for one in blobs.rglob("*") if one.is_file()]


async def test_imported_images_are_pinned_unless_told_otherwise(side: Side) -> None:
    await side.takes(side.put(bundle({"lab/app:v1": AMD64})))
    await side.takes(side.put(bundle({"lab/tmp:v1": ARM64})), "--no-pin")
    assert sorted(name for name in side.visible() if name.startswith("pins/")) != []
    pinned = b"".join(v for k, v in side.visible().items() if k.startswith("pins/"))
    assert str(AMD64.layers[0].digest).encode() in pinned
    assert str(ARM64.digest).encode() not in pinned


async def test_nothing_is_reached_where_no_proxy_runs(tmp_path: Path) -> None:
    key = tmp_path / "low.pub"
    key.write_text(KEY.public.pem())
    path = tmp_path / "b.tar"
    path.write_bytes(bundle({"lab/app:v1": AMD64}).tar())
    argv = ["import", str(path), "--key", str(key), "--admin", "http://127.0.0.1:1"]
    result: Any = await asyncio.to_thread(CliRunner().invoke, cli.app, argv)
    assert result.exit_code == 1
    assert "can't be reached" in result.stderr
