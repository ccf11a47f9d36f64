"""Who may see what: our credentials open nothing to those who reach us."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.flows.conftest import Running, World
from tests.support.entrepot import Entrepot
from tests.support.fake_registry import FakeAuth, FakeRegistry, Fault
from tests.support.images import Image, image

PUBLIC, PRIVATE = image(1000, 400_000, seed="public"), image(1000, 400_000, seed="private")
PASSWORD = "correct-horse-battery"


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    """`open/app` is for everyone, `team/app` for `me`."""
    auth = FakeAuth(users={"me": PASSWORD}, private={"team/app", "team/other"})
    async with FakeRegistry(auth=auth) as upstream:
        upstream.add("open/app", PUBLIC, "v1")
        upstream.add("team/app", PRIVATE, "v1")
        yield upstream


def known(upstream: FakeRegistry, **settings: Any) -> dict[str, Any]:
    """That registry with our credentials."""
    return {"url": upstream.url, "username": "me", "password": PASSWORD, **settings}


def everything(repository: str, img: Image) -> list[str]:
    return [
        f"/v2/{repository}/manifests/v1",
        f"/v2/{repository}/manifests/{img.digest}",
        *(f"/v2/{repository}/blobs/{blob.digest}" for blob in img.blobs),
        f"/v2/{repository}/tags/list",
        f"/v2/{repository}/referrers/{img.digest}",
    ]


async def assert_hidden(proxy: Running, repository: str, img: Image) -> None:
    for path in everything(repository, img):
        answer = await proxy.ask(path)
        assert (answer.status, answer.code) == (403, "DENIED"), path
        for secret in (PASSWORD.encode(), img.manifest.body, img.blobs[1].body):
            assert secret not in answer.body
        head = await proxy.ask(path, "HEAD")
        assert (head.status, head.body) == (403, b""), path


@pytest.mark.parametrize("at_token", [False, True])
async def test_by_default_only_what_a_stranger_could_pull_is_shown(
    world: World, registry: FakeRegistry, at_token: bool
) -> None:
    assert registry.auth is not None
    registry.auth.private_refused_at_token = at_token
    proxy = await world.start({"lab": known(registry)})
    await assert_hidden(proxy, "lab/team/app", PRIVATE)
    await proxy.pull("/v2/lab/open/app", PUBLIC, "v1")
    for path in everything("lab/open/app", PUBLIC):
        assert (await proxy.ask(path)).status == 200


async def test_what_is_hidden_stays_so_although_its_bytes_are_held(
    world: World, registry: FakeRegistry
) -> None:
    proxy = await world.start({"lab": known(registry, expose="all")})
    await proxy.pull("/v2/lab/team/app", PRIVATE, "v1")
    await world.stack.aclose()
    proxy = await world.start({"lab": known(registry)})
    await assert_hidden(proxy, "lab/team/app", PRIVATE)
    # Not by way of a public repository either, which does not have them.
    for blob in PRIVATE.blobs:
        for method in ("GET", "HEAD"):
            path = f"/v2/lab/open/app/blobs/{blob.digest}"
            assert (await proxy.ask(path, method)).status in {403, 404}
    answer = await proxy.ask(f"/v2/lab/open/app/manifests/{PRIVATE.digest}")
    assert answer.status in {403, 404}
    names = await proxy.ask("/v2/_catalog")
    assert b"team" not in names.body
    await registry.stop()
    for path in everything("lab/team/app", PRIVATE):
        assert (await proxy.ask(path)).status in {403, 503}


async def test_private_bytes_are_not_shared_with_other_upstreams(
    world: World, registry: FakeRegistry, upstream: FakeRegistry
) -> None:
    upstream.add("app", image(10), "v1")
    proxy = await world.start({"lab": known(registry, expose="all"), "other": upstream})
    await proxy.pull("/v2/lab/team/app", PRIVATE, "v1")
    for outage in (False, True):
        if outage:
            await upstream.stop()
        for kind, digest in (
            ("manifests", PRIVATE.digest),
            ("blobs", PRIVATE.blobs[1].digest),
            ("blobs", PRIVATE.blobs[2].digest),
        ):
            for method in ("GET", "HEAD"):
                answer = await proxy.ask(f"/v2/other/app/{kind}/{digest}", method)
                assert answer.status in {404, 503}
                assert answer.body.startswith(b'{"errors"') or method == "HEAD"


async def test_the_same_bytes_are_shared_by_upstreams_that_anyone_may_read(
    world: World, registry: FakeRegistry, upstream: FakeRegistry
) -> None:
    upstream.add("app", PUBLIC, "v1")
    async with FakeRegistry() as third:
        third.add("copy", PUBLIC, "v1")
        upstreams = {"lab": known(registry), "one": upstream, "two": third}
        proxy = await world.start(upstreams)
        await proxy.pull("/v2/one/app", PUBLIC, "v1")
        await proxy.pull("/v2/two/copy", PUBLIC, "v1")
        assert third.count(kind="blob", method="GET") == 0
        # One with credentials keeps its own, even of what is public there.
        await proxy.pull("/v2/lab/open/app", PUBLIC, "v1")
        assert registry.count(kind="blob", method="GET") == len(PUBLIC.blobs)


async def test_whether_a_repository_is_public_is_asked_once_and_remembered(
    world: World, registry: FakeRegistry
) -> None:
    proxy = await world.start({"lab": known(registry)}, tag_fresh_s=3600)
    await proxy.pull("/v2/lab/open/app", PUBLIC, "v1")
    questions = [s for s in registry.seen if granted_to(registry, s.headers) == "nobody"]
    assert len(questions) == 1
    await world.stack.aclose()
    await registry.stop()
    proxy = await world.start({"lab": known(registry)}, tag_fresh_s=3600)
    await proxy.pull("/v2/lab/open/app", PUBLIC, "v1")


async def test_a_repository_that_is_made_private_is_hidden_at_the_next_check(
    world: World, registry: FakeRegistry
) -> None:
    proxy = await world.start({"lab": known(registry)}, expose_recheck_s=0)
    await proxy.pull("/v2/lab/open/app", PUBLIC, "v1")
    assert registry.auth is not None
    registry.auth.private.add("open/app")
    registry.auth.revoke()
    await assert_hidden(proxy, "lab/open/app", PUBLIC)
    assert b"open" not in (await proxy.ask("/v2/_catalog")).body


async def test_an_outage_does_not_hide_what_was_public(
    world: World, registry: FakeRegistry
) -> None:
    proxy = await world.start({"lab": known(registry)}, expose_recheck_s=0)
    await proxy.pull("/v2/lab/open/app", PUBLIC, "v1")
    await registry.stop()
    await proxy.pull("/v2/lab/open/app", PUBLIC, "v1")


async def test_patterns_show_what_they_name_and_nothing_else(
    world: World, registry: FakeRegistry
) -> None:
    proxy = await world.start({"lab": known(registry, expose=["team/*", "x"])})
    await proxy.pull("/v2/lab/team/app", PRIVATE, "v1")
    await assert_hidden(proxy, "lab/open/app", PUBLIC)
    assert (await proxy.ask("/v2/_catalog")).body == b'{"repositories":["lab/team/app"]}'


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
async def test_a_clients_authorization_is_ignored_and_goes_nowhere(
    world: World, registry: FakeRegistry, upstream: FakeRegistry, scheme: str
) -> None:
    upstream.add("app", PUBLIC, "v1")
    theirs = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    proxy = await world.start({"lab": known(registry), "plain": upstream})
    for path, status in (
        ("/v2/", 200),
        ("/v2/plain/app/manifests/v1", 200),
        (f"/v2/plain/app/blobs/{PUBLIC.blobs[1].digest}", 200),
        ("/v2/lab/open/app/manifests/v1", 200),
        # Nor does it open anything.
        ("/v2/lab/team/app/manifests/v1", 403),
    ):
        answer = await proxy.ask(path, Authorization=f"{scheme} {theirs}x", Cookie="a=b")
        assert answer.status == status
    for seen in (*registry.seen, *upstream.seen):
        assert f"{theirs}x" not in str(seen.headers)
        assert "Cookie" not in seen.headers
    assert all("Authorization" not in seen.headers for seen in upstream.seen)


async def test_our_credentials_show_up_in_no_answer_log_metric_or_status_page(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    assert registry.auth is not None
    wrong = {**known(registry, expose="all"), "password": f"{PASSWORD}-wrong"}
    server = Entrepot(
        tmp_path,
        upstreams={"lab": known(registry, expose="all"), "wrong": wrong},
        log_level="debug",
        presets=False,
        default_upstream="lab",
    )
    said = []
    await asyncio.to_thread(server.start)
    try:
        async with aiohttp.ClientSession() as client:
            for trouble in (None, Fault(status=500), Fault(html=True), Fault(hang_up=True)):
                if trouble is not None:
                    registry.inject(trouble, times=None)
                for upstream in ("lab", "wrong"):
                    for path in everything(f"{upstream}/team/app", PRIVATE)[:6]:
                        async with client.get(server.url + path) as response:
                            said.append(f"{response.headers} {await response.read()!r}")
                registry.heal()
            for page in ("/status", "/metrics", "/readyz"):
                async with client.get(server.admin + page) as response:
                    assert response.status == 200
                    said.append(await response.text())
    finally:
        await asyncio.to_thread(server.stop)
    said.append(server.log_text())
    assert '"outcome":"miss"' in said[-1]
    basic = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    for secret in (PASSWORD, basic[:20], *registry.auth.grants):
        for text in said:
            assert secret not in text


def granted_to(registry: FakeRegistry, headers: Any) -> str | None:
    """Whose token a request carried; None: no token."""
    assert registry.auth is not None
    grant = registry.auth.grants.get(headers.get("Authorization", "").removeprefix("Bearer "))
    return None if grant is None else grant.user or "nobody"
