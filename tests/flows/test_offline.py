"""Offline: nothing is dialled, what is here is served, what is not is told by name."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from proxy.config import load
from proxy.doctor import upstreams as doctor
from tests.flows.conftest import Answer, Running, World
from tests.support.fake_registry import FakeAuth, FakeRegistry
from tests.support.images import Image, artifact, image, index

ROOT = Path(__file__).parents[2]
ARM, AMD = image(3000, 2000, architecture="arm64"), image(3000, 4000)
BOTH = index(AMD, ARM)
OLD, NEW = image(1000, seed="old"), image(1000, 2000, seed="new")
APP = "/v2/lab/app"
BRING = "`entrepot export lab/app:v1 -o bundle.tar`"


def words(answer: Answer) -> str:
    """The message of an error envelope."""
    (error,) = json.loads(answer.body)["errors"]
    return str(error["message"])


async def offline_after(
    world: World, upstream: FakeRegistry, *pulls: tuple[Image, str], **settings: object
) -> Running:
    """A proxy through which these were pulled, started again without any link."""
    proxy = await world.start({"lab": upstream})
    for one, tag in pulls:
        await proxy.pull(APP, one, tag)
    await world.stack.aclose()
    upstream.seen.clear()
    return await world.start({"lab": upstream}, offline=True, **settings)


async def test_what_was_pulled_is_served_whatever_its_age_and_unmarked(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", BOTH, "v1")
    proxy = await offline_after(world, upstream, (BOTH, "v1"))
    upstream.add("app", NEW, "v1")
    for _ in range(3):
        for method in ("HEAD", "GET"):
            answer = await proxy.ask(f"{APP}/manifests/v1", method)
            assert answer.status == 200
            assert answer.headers["Docker-Content-Digest"] == str(BOTH.digest)
            assert "Warning" not in answer.headers
    await proxy.pull(APP, BOTH, "v1")
    assert upstream.seen == []
    assert await proxy.metric("entrepot_stale_served_total") == 0
    assert await proxy.metric("entrepot_upstream_offline", upstream="lab") == 1
    assert (await proxy.status())["upstreams"]["lab"]["state"] == "offline"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_image_that_is_not_here_is_named_with_how_to_bring_it_in(
    world: World, upstream: FakeRegistry, method: str
) -> None:
    upstream.add("app", OLD, "v1")
    proxy = await offline_after(world, upstream)
    answer = await proxy.ask(f"{APP}/manifests/v1", method)
    assert answer.status == 404
    if method == "GET":
        assert answer.code == "MANIFEST_UNKNOWN"
        assert words(answer).startswith("lab/app:v1 is not here, and lab is offline")
        assert BRING in words(answer)
        assert "`entrepot import bundle.tar` here" in words(answer)
    assert upstream.seen == []
    assert await proxy.metric("entrepot_not_held_total", upstream="lab") == 1


async def test_a_missing_platform_is_told_by_its_name(world: World, upstream: FakeRegistry) -> None:
    upstream.add("app", BOTH, "v1")
    proxy = await world.start({"lab": upstream})
    for reference in ("v1", AMD.digest):
        assert (await proxy.ask(f"{APP}/manifests/{reference}")).status == 200
    for blob in AMD.blobs:
        assert (await proxy.ask(f"{APP}/blobs/{blob.digest}")).status == 200
    await proxy.settled()
    await world.stack.aclose()
    upstream.seen.clear()
    proxy = await world.start({"lab": upstream}, offline=True)
    assert (await proxy.ask(f"{APP}/manifests/v1")).body == BOTH.manifest.body
    assert (await proxy.ask(f"{APP}/manifests/{AMD.digest}")).status == 200
    answer = await proxy.ask(f"{APP}/manifests/{ARM.digest}")
    assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
    assert words(answer).startswith("lab/app:v1 for linux/arm64 is not here")
    assert BRING in words(answer)
    assert upstream.seen == []


async def test_half_an_image_is_not_begun_and_its_layers_are_told_by_its_name(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", NEW, "v1")
    proxy = await world.start({"lab": upstream})
    for path in ("manifests/v1", f"blobs/{NEW.config.digest}", f"blobs/{NEW.layers[0].digest}"):
        assert (await proxy.ask(f"{APP}/{path}")).status == 200
    await proxy.settled()
    await world.stack.aclose()
    upstream.seen.clear()
    proxy = await world.start({"lab": upstream}, offline=True)
    for reference in ("v1", str(NEW.digest)):
        answer = await proxy.ask(f"{APP}/manifests/{reference}")
        assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
        assert "1 of 3 layers and configs are not here" in words(answer)
    answer = await proxy.ask(f"{APP}/blobs/{NEW.layers[1].digest}")
    assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")
    assert f"blob {NEW.layers[1].digest} of lab/app is not here" in words(answer)
    assert upstream.seen == []


async def test_the_previous_image_of_a_tag_is_better_than_half_of_the_new_one(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    proxy = await world.start({"lab": upstream})
    await proxy.pull(APP, OLD, "v1")
    upstream.add("app", NEW, "v1")
    assert (await proxy.ask(f"{APP}/manifests/v1")).status == 200
    await world.stack.aclose()
    proxy = await world.start({"lab": upstream}, offline=True)
    answer = await proxy.ask(f"{APP}/manifests/v1")
    assert (answer.status, answer.body) == (200, OLD.manifest.body)
    assert "this is the previous one" in answer.headers["Warning"]


async def test_lists_are_of_what_is_held(world: World, upstream: FakeRegistry) -> None:
    signature = artifact(OLD)
    upstream.add("app", OLD, "v1", "v2")
    upstream.add("app", signature)
    upstream.add("app", NEW, "v3")
    proxy = await world.start({"lab": upstream})
    await proxy.pull(APP, OLD, "v1")
    await proxy.pull(APP, NEW, "v3")
    assert (await proxy.ask(f"{APP}/referrers/{OLD.digest}")).status == 200
    await world.stack.aclose()
    upstream.seen.clear()
    proxy = await world.start({"lab": upstream}, offline=True)
    answer = await proxy.ask(f"{APP}/tags/list")
    assert (answer.status, json.loads(answer.body)["tags"]) == (200, ["v1", "v3"])
    assert "Warning" not in answer.headers
    answer = await proxy.ask(f"{APP}/tags/list?n=1")
    assert json.loads(answer.body)["tags"] == ["v1"]
    assert "Link" in answer.headers
    for subject, expected in ((OLD, [str(signature.digest)]), (NEW, [])):
        answer = await proxy.ask(f"{APP}/referrers/{subject.digest}")
        listed = [one["digest"] for one in json.loads(answer.body)["manifests"]]
        assert (answer.status, listed) == (200, expected)
        assert "Warning" not in answer.headers
    assert (await proxy.ask("/v2/lab/none/tags/list")).status == 404
    assert json.loads((await proxy.ask("/v2/_catalog")).body)["repositories"] == ["lab/app"]
    assert upstream.seen == []


async def test_the_doctor_asks_no_upstream_that_is_offline(upstream: FakeRegistry) -> None:
    settings = load(
        None,
        {},
        {
            "presets": False,
            "default_upstream": None,
            "upstreams": {"lab": {"url": upstream.url, "offline": True}},
        },
    )
    (found,) = await doctor.examine(settings)
    assert (found.state, found.name) == ("ok", "upstream lab")
    assert "is not asked" in found.what
    assert upstream.seen == []


async def test_one_upstream_may_be_offline_and_another_not(world: World, tmp_path: Path) -> None:
    async with FakeRegistry() as far, FakeRegistry() as near:
        far.add("app", OLD, "v1")
        near.add("app", OLD, "v1")
        far_off = {"far": {"url": far.url, "offline": True}, "near": near}
        near_on = {"far": far, "near": {"url": near.url, "offline": False}}
        for upstreams, settings in ((far_off, {}), (near_on, {"offline": True})):
            proxy = await world.start(
                upstreams, data_dir=str(tmp_path / str(len(settings))), **settings
            )
            assert (await proxy.ask("/v2/far/app/manifests/v1")).status == 404
            assert (await proxy.ask("/v2/near/app/manifests/v1")).status == 200
        assert far.seen == []


@pytest.mark.parametrize("expose", ["all", "public"])
async def test_what_only_our_credentials_may_see_is_not_shown_for_want_of_asking(
    world: World, expose: str
) -> None:
    auth = FakeAuth(users={"me": "secret"}, private={"app"})
    async with FakeRegistry(auth=auth) as upstream:
        upstream.add("app", OLD, "v1")
        lab = {"url": upstream.url, "username": "me", "password": "secret"}
        proxy = await world.start({"lab": {**lab, "expose": "all"}})
        await proxy.pull(APP, OLD, "v1")
        await world.stack.aclose()
        upstream.seen.clear()
        proxy = await world.start({"lab": {**lab, "expose": expose}}, offline=True)
        paths = [f"{APP}/manifests/v1", f"{APP}/blobs/{OLD.config.digest}", f"{APP}/tags/list"]
        for path in paths:
            answer = await proxy.ask(path)
            if expose == "all":
                assert answer.status == 200
            else:
                assert answer.status == 404
                assert "`expose`" in words(answer)
        assert upstream.seen == []


async def test_what_was_public_when_last_asked_stays_so(world: World) -> None:
    auth = FakeAuth(users={"me": "secret"})
    async with FakeRegistry(auth=auth) as upstream:
        upstream.add("app", OLD, "v1")
        lab = {"url": upstream.url, "username": "me", "password": "secret"}
        proxy = await world.start({"lab": lab})
        await proxy.pull(APP, OLD, "v1")
        await world.stack.aclose()
        upstream.seen.clear()
        proxy = await world.start({"lab": lab}, offline=True, expose_recheck_s=0)
        await proxy.pull(APP, OLD, "v1")
        assert upstream.seen == []


@pytest.mark.parametrize("mode", ["offline", "online"])
async def test_nothing_is_dialled_by_any_request_nor_by_starting(
    world: World, upstream: FakeRegistry, tmp_path: Path, mode: str
) -> None:
    """`online` shows that the hook would have seen it: the doctor asks upstreams."""
    upstream.add("app", BOTH, "v1")
    proxy = await world.start({"lab": upstream})
    await proxy.pull(APP, BOTH, "v1")
    await world.stack.aclose()
    upstream.seen.clear()
    known = [
        *(f"{APP}/manifests/{one.digest}" for one in BOTH.manifests),
        *(f"{APP}/blobs/{one.digest}" for one in BOTH.blobs),
        f"{APP}/referrers/{BOTH.digest}",
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.dial_probe",
        str(tmp_path / "data"),
        upstream.url,
        mode,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(json.dumps(known).encode())
    assert process.returncode == 0, err.decode()
    dialled = json.loads(out.splitlines()[-1])
    if mode == "offline":
        assert dialled == []
        assert upstream.seen == []
    else:
        assert any(one.startswith("connect 127.0.0.1:") for one in dialled)
        assert upstream.seen != []
