"""The dance with tokens, against a registry and its token endpoint."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import AccessDenied, UpstreamUnavailable
from proxy.oci.names import Repository, Tag
from proxy.upstream.credentials import Credentials
from tests.support.asking import asking
from tests.support.fake_registry import FakeAuth, FakeRegistry, Fault, Quirks
from tests.support.images import image

REPO = Repository.parse("library/app")
OTHER = Repository.parse("library/other")
PRIVATE = Repository.parse("team/secret")
LATEST = Tag.parse("latest")
ME = Credentials("me", "hunter2")


def registry(quirks: Quirks | None = None, **auth) -> FakeRegistry:
    auth = {"users": {"me": "hunter2"}, "private": {PRIVATE}, **auth}
    made = FakeRegistry(quirks, FakeAuth(**auth))
    for repository in (REPO, OTHER, PRIVATE):
        made.add(repository, image(seed=repository), "latest")
    return made


def shown(request) -> str:
    return request.headers.get("Authorization", "").partition(" ")[0]


async def test_later_requests_need_neither_another_token_nor_another_401():
    async with registry() as up, asking(up) as ask:
        await ask.upstream.resolve(REPO, LATEST)
        await ask.upstream.get_manifest(REPO, LATEST)
        assert up.count(kind="token") == 1
        await ask.upstream.resolve(OTHER, LATEST)
        assert [r.kind for r in up.seen[-2:]] == ["token", "manifest"]
        assert all(r.status == 200 for r in up.seen[1:])


async def test_many_requests_at_once_share_one_token():
    async with registry() as up, asking(up) as ask:
        await asyncio.gather(*(ask.upstream.resolve(REPO, LATEST) for _ in range(10)))
        assert up.count(kind="token") == 1


async def test_a_refused_anonymous_token_does_not_hide_what_needs_none_as_on_quay():
    async with registry(public_without_token=True) as up, asking(up) as ask:
        await ask.upstream.resolve(REPO, LATEST)
        with pytest.raises(AccessDenied):
            await ask.upstream.get_manifest(PRIVATE, LATEST)
        up.inject(Fault(status=401), kind="token", times=None)
        assert await ask.upstream.get_manifest(OTHER, LATEST)


async def test_basic_registries_get_the_password_on_every_request():
    async with registry(scheme="basic") as up, asking(up, ME) as ask:
        assert await ask.upstream.get_manifest(PRIVATE, LATEST)
        assert [r.kind for r in up.seen] == ["ping", "manifest"]
        assert up.count(kind="token") == 0


async def test_basic_without_or_with_wrong_credentials_is_denied():
    async with registry(scheme="basic") as up:
        async with asking(up) as ask:
            with pytest.raises(AccessDenied) as raised:
                await ask.upstream.get_manifest(REPO, LATEST)
            assert not raised.value.authenticated
        async with asking(up, Credentials("me", "wrong")) as ask:
            with pytest.raises(AccessDenied) as raised:
                await ask.upstream.get_manifest(REPO, LATEST)
            assert raised.value.authenticated


async def test_basic_goes_to_no_host_but_the_upstreams_own():
    quirks = Quirks(blobs_at_cdn=True)
    async with registry(quirks, scheme="basic") as up, asking(up, ME) as ask:
        layer = up.repositories[REPO].blobs
        digest = next(iter(layer.values())).digest
        assert await ask.blob(REPO, digest) == layer[str(digest)].body
        assert [shown(r) for r in up.requests(kind="blob")] == ["Basic", ""]


async def test_a_registry_that_is_silent_at_resources_is_pinged():
    async with registry(silent=True) as up, asking(up) as ask:
        assert await ask.upstream.resolve(REPO, LATEST)
        assert [r.kind for r in up.seen] == ["manifest", "ping", "token", "manifest"]


async def test_revoked_tokens_are_dropped_and_asked_for_once_more():
    async with registry() as up, asking(up) as ask:
        await ask.upstream.resolve(REPO, LATEST)
        up.auth.revoke()
        assert await ask.upstream.resolve(REPO, LATEST)
        assert [r.kind for r in up.seen[3:]] == ["manifest", "token", "manifest"]


async def test_a_registry_that_takes_no_token_is_not_asked_for_ever():
    async with registry() as up, asking(up) as ask:
        up.inject(
            Fault(
                status=401,
                headers={
                    "WWW-Authenticate": f'Bearer realm="{up.url}/token",error="invalid_token"'
                },
            ),
            kind="manifest",
            times=None,
        )
        with pytest.raises(AccessDenied):
            await ask.upstream.get_manifest(REPO, LATEST)
        assert up.count(kind="manifest") <= 3
        assert up.count(kind="token") <= 2


async def test_a_silent_registry_that_forgot_its_tokens_gets_a_new_one():
    async with registry(silent=True) as up, asking(up) as ask:
        await ask.upstream.resolve(REPO, LATEST)
        up.auth.revoke()
        assert await ask.upstream.resolve(REPO, LATEST)
        assert up.count(kind="ping") == 1


async def test_a_silent_registry_that_refuses_is_not_asked_for_ever():
    async with registry(silent=True) as up, asking(up) as ask:
        up.inject(Fault(status=401), kind="manifest", times=None)
        with pytest.raises(AccessDenied):
            await ask.upstream.resolve(REPO, LATEST)
        assert up.count(kind="manifest") == 2


async def test_a_ping_is_shared_by_all_who_need_it():
    async with registry() as up, asking(up, ME) as ask:
        go = asyncio.Event()
        up.inject(Fault(delay=go), kind="manifest", times=None)
        asked = [asyncio.create_task(ask.upstream.resolve(REPO, LATEST)) for _ in range(5)]
        await up.wait_requests(5, kind="manifest")
        go.set()
        await asyncio.gather(*asked)
        assert (up.count(kind="ping"), up.count(kind="token")) == (1, 1)


async def test_a_ping_that_fails_is_trouble_and_is_repeated():
    async with registry() as up, asking(up, ME) as ask:
        up.inject(Fault(status=503), kind="ping", early=True)
        with pytest.raises(UpstreamUnavailable):
            await ask.upstream.resolve(REPO, LATEST)
        assert await ask.upstream.resolve(REPO, LATEST)


async def test_a_challenge_of_another_host_to_a_ping_is_not_learned():
    async with registry(Quirks(), public_without_token=True) as up:
        up.auth = None
        up.inject(Fault(status=307, headers={"Location": f"{up.cdn_url}/v2/"}), kind="ping")
        up.quirks.cdn_auth = FakeAuth(realm=f"{up.url}/token")
        async with asking(up, ME) as ask:
            assert await ask.upstream.resolve(REPO, LATEST)
            assert all("Basic" not in r.headers.get("Authorization", "") for r in up.seen)
