"""`missing`: the proof that images are all here, which asks no upstream anything."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from proxy import cli
from proxy.ports import PUBLIC, BlobKey
from tests.flows.conftest import DEADLINE_S, Running, World
from tests.support.fake_auth import FakeAuth
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_s3 import BUCKET, FakeS3
from tests.support.images import Content, artifact, image, index
from tests.support.waiting import until

AMD64 = image(300_000, 2_000_000, seed="amd")
ARM64 = image(500, 400_000, seed="arm", architecture="arm64")
BOTH = index(AMD64, ARM64)

Line = dict[str, Any]


async def told(proxy: Running, page: str, *images: str, **more: Any) -> tuple[list[Line], Line]:
    """What is told of each image, and the sums."""
    url = f"http://{proxy.entrepot.admin_address}/{page}"
    body = {"images": list(images), "platforms": ["linux/amd64"], **more}
    async with asyncio.timeout(DEADLINE_S):
        async with proxy.client.post(url, json=body) as response:
            assert response.status == 200, await response.text()
            lines = [json.loads(line) async for line in response.content]
    return lines[:-1], lines[-1]


def file_of(proxy: Running, content: Content) -> Path:
    assert proxy.entrepot.status is not None
    local = proxy.entrepot.status._backing.local
    return Path(local.blobs.path(BlobKey(PUBLIC, content.digest)))


async def again(world: World, upstream: FakeRegistry, **settings: Any) -> Running:
    """A proxy that finds what the last one left, and remembers nothing."""
    return await world.start({"lab": upstream}, **settings)


async def test_of_what_was_never_here_only_the_name_is_known(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", BOTH, "v1")
    proxy = await world.start({"lab": upstream})
    lines, sums = await told(proxy, "missing", "lab/app:v1", "no such name", "x.example:1/y")
    assert [one["state"] for one in lines] == ["incomplete"] * 3
    assert lines[0]["reason"] == "not here"
    assert all(one["reason"] for one in lines)
    assert (sums["complete"], sums["certain"], sums["complete_images"]) == (False, False, 0)
    assert upstream.seen == []


async def test_a_warmed_image_is_complete_for_its_platforms_and_no_others(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", BOTH, "v1")
    proxy = await world.start({"lab": upstream})
    await told(proxy, "warm", "lab/app:v1")
    asked = len(upstream.seen)
    (one,), sums = await told(proxy, "missing", "lab/app:v1")
    assert (one["state"], one["missing"], sums["complete"]) == ("complete", [], True)
    assert one["pieces"] == 2 + len(AMD64.blobs)
    (by_digest,), _ = await told(proxy, "missing", f"lab/app@{BOTH.digest}")
    assert by_digest["state"] == "complete"
    (other,), sums = await told(proxy, "missing", "lab/app:v1", platforms=["all"])
    (lacks,) = other["missing"]
    assert (lacks["digest"], lacks["kind"]) == (str(ARM64.digest), "manifest")
    assert lacks["platform"] == "linux/arm64"
    # What the missing manifest needs is not known.
    assert (sums["certain"], sums["missing_bytes"]) == (False, ARM64.manifest.size)
    assert len(upstream.seen) == asked


async def test_every_single_piece_that_is_gone_is_found(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    sbom = artifact(AMD64)
    upstream.add("app", AMD64, "v1")
    upstream.add("app", sbom)
    settings: dict[str, Any] = {"memory_bytes_max": 0, "tag_fresh_s": 3600}
    first = await world.start({"lab": upstream}, **settings)
    await told(first, "warm", "lab/app:v1")
    await first.settled()
    for content in (*AMD64.manifests, *AMD64.blobs, *sbom.manifests, *sbom.blobs):
        path = file_of(first, content)
        aside = path.rename(tmp_path / "aside")
        # Another one: this one has files open.
        await world.stack.aclose()
        proxy = await again(world, upstream, **settings)
        (one,), sums = await told(proxy, "missing", "lab/app:v1")
        assert one["state"] == "incomplete", content
        found = {lacks["digest"] for lacks in one["missing"]}
        assert found == {str(content.digest)} or one["reason"] == "not here"
        assert sums["complete"] is False
        if content in sbom.blobs:
            (without,), _ = await told(proxy, "missing", "lab/app:v1", referrers=False)
            assert without["state"] == "complete"
        aside.rename(path)
    await world.stack.aclose()
    proxy = await again(world, upstream, **settings)
    _, sums = await told(proxy, "missing", "lab/app:v1")
    assert sums["complete"] is True


async def test_a_file_of_another_length_is_no_proof(world: World, upstream: FakeRegistry) -> None:
    upstream.add("app", AMD64, "v1")
    first = await world.start({"lab": upstream})
    await told(first, "warm", "lab/app:v1")
    await first.settled()
    path = file_of(first, AMD64.layers[1])
    await world.stack.aclose()
    with path.open("r+b") as file:
        file.truncate(10)
    proxy = await again(world, upstream)
    (one,), _ = await told(proxy, "missing", "lab/app:v1")
    (lacks,) = one["missing"]
    assert (lacks["digest"], lacks["reason"]) == (
        str(AMD64.layers[1].digest),
        "here, with 10 bytes",
    )


async def test_what_is_guarded_by_a_password_must_have_been_shown_to_be_in_its_repository(
    world: World,
) -> None:
    auth = FakeAuth(private={"app", "other"}, users={"u": "p"})
    async with FakeRegistry(auth=auth) as upstream:
        upstream.add("app", AMD64, "v1")
        upstream.add("other", AMD64, "v1")
        proxy = await world.start(
            {"lab": {"url": upstream.url, "username": "u", "password": "p", "expose": "all"}}
        )
        await told(proxy, "warm", "lab/app:v1")
        (mine, other), sums = await told(proxy, "missing", "lab/app:v1", "lab/other:v1")
        assert (mine["state"], other["state"]) == ("complete", "incomplete")
        await told(proxy, "warm", "lab/other:v1")
        _, sums = await told(proxy, "missing", "lab/app:v1", "lab/other:v1")
        assert sums["complete"] is True


async def test_the_command_lists_what_is_missing_and_says_so_by_its_exit_code(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", BOTH, "v1")
    proxy = await world.start({"lab": upstream})
    (tmp_path / "pod.yaml").write_text("spec: {containers: [{image: lab/app:v1}]}")

    async def run(*arguments: str) -> Any:
        options = (
            "--from-manifests",
            str(tmp_path / "pod.yaml"),
            "--admin",
            f"http://{proxy.entrepot.admin_address}",
        )
        command = ["missing", *arguments, *options]
        return await asyncio.to_thread(CliRunner().invoke, cli.app, command)

    lacks = await run("--platform", "linux/amd64")
    assert lacks.exit_code == 1
    assert "lab/app:v1: not here" in lacks.output
    assert "0 of 1 image is complete" in lacks.output
    await told(proxy, "warm", "lab/app:v1")
    done = await run("--platform", "linux/amd64")
    assert done.exit_code == 0, done.output
    assert "lab/app:v1: complete, 5 pieces" in done.output
    partly = await run("--all-platforms")
    assert partly.exit_code == 1
    assert f"manifest {str(ARM64.digest)[:19]}…" in partly.output
    assert "at least 1 piece is missing" in partly.output
    as_json = await run("--all-platforms", "--json")
    assert as_json.exit_code == 1
    assert [json.loads(line).get("state") for line in as_json.stdout.splitlines()] == [
        "incomplete",
        None,
    ]


async def test_what_another_replica_left_in_s3_is_here_too(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", AMD64, "v1")
    async with FakeS3() as store:
        s3 = {"endpoint": store.url, "bucket": BUCKET, "access_key": "a", "secret_key": "s"}
        settings: dict[str, Any] = {"storage": {"s3": s3}, "tag_fresh_s": 3600}
        first = await world.start({"lab": upstream}, **settings)
        await told(first, "warm", "lab/app:v1")
        wanted = {
            f"blobs/public/sha256/{one.digest.hex[:2]}/{one.digest.hex}"
            for one in (*AMD64.manifests, *AMD64.blobs)
        } | {"repos/lab/app/_tags/v1", f"repos/lab/app/_links/sha256/{AMD64.digest.hex}"}
        await until(lambda: wanted <= set(store.objects), "all is in the store")
        asked = len(upstream.seen)
        other = await world.start({"lab": upstream}, **settings, data_dir=str(tmp_path / "other"))
        _, sums = await told(other, "missing", "lab/app:v1")
        assert sums["complete"] is True
        assert len(upstream.seen) == asked
        # Nor is it fetched again: it is kept for all.
        _, sums = await told(other, "warm", "lab/app:v1")
        assert (sums["complete"], sums["fetched_bytes"]) == (True, 0)
        lost = AMD64.layers[1].digest
        del store.objects[f"blobs/public/sha256/{lost.hex[:2]}/{lost.hex}"]
        (one,), _ = await told(other, "missing", "lab/app:v1")
        assert [lacks["digest"] for lacks in one["missing"]] == [str(lost)]
