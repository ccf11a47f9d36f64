"""What may be concluded from what a stranger is told."""

from __future__ import annotations

import pytest

from proxy.errors import AccessDenied, BadUpstreamAnswer, UpstreamUnavailable
from proxy.events import TokenFetched
from proxy.oci.names import Repository, Tag
from proxy.upstream.credentials import Credentials
from tests.support.asking import Rotating, asking
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


async def test_a_stranger_gets_an_anonymous_token_after_the_first_401():
    async with registry() as up, asking(up) as ask:
        assert await ask.upstream.resolve(REPO, LATEST)
        assert [r.kind for r in up.seen] == ["manifest", "token", "manifest"]
        token = up.requests(kind="token")[0]
        assert token.query == {"service": ["fake.registry"], "scope": [f"repository:{REPO}:pull"]}
        assert shown(token) == ""
        assert ask.stated(TokenFetched) == [TokenFetched(upstream="up", granted=True)]


async def test_with_credentials_the_challenge_is_learned_by_a_ping_and_nothing_asked_as_a_stranger():
    async with registry() as up, asking(up, ME) as ask:
        assert ask.upstream.credentialed
        assert await ask.upstream.resolve(PRIVATE, LATEST)
        assert [r.kind for r in up.seen] == ["ping", "token", "manifest"]
        assert shown(up.seen[1]) == "Basic"
        assert up.seen[1].query["client_id"] == ["entrepot"]
        await ask.upstream.resolve(OTHER, LATEST)
        assert up.count(kind="ping") == 1


async def test_a_stranger_is_denied_what_is_private_as_on_docker_hub():
    async with registry() as up, asking(up) as ask:
        with pytest.raises(AccessDenied) as raised:
            await ask.upstream.get_manifest(PRIVATE, LATEST)
        assert not raised.value.authenticated
        assert ask.upstream.health().state == "ok"


async def test_a_stranger_is_denied_at_the_token_endpoint_as_on_ghcr():
    async with registry(private_refused_at_token=True) as up, asking(up) as ask:
        for _ in range(2):
            with pytest.raises(AccessDenied) as raised:
                await ask.upstream.get_manifest(PRIVATE, LATEST)
            assert not raised.value.authenticated
        assert await ask.upstream.get_manifest(REPO, LATEST)


async def test_with_credentials_a_404_to_a_stranger_proves_nothing():
    async with registry() as up:
        up.auth.realm = f"{up.cdn_url}/token"
        async with asking(up, ME) as ask:
            with pytest.raises(AccessDenied):
                await ask.upstream.get_manifest(REPO, Tag.parse("none"))
            with pytest.raises(AccessDenied):
                await ask.upstream.referrers(Repository.parse("a/b"), image().digest)


async def test_credentials_for_a_registry_that_never_asks_are_presented_before_a_404_counts():
    async with FakeRegistry() as up, asking(up, ME) as ask:
        assert await ask.upstream.get_manifest(REPO, LATEST) is None
        assert [shown(r) for r in up.seen] == ["", "", "Basic"]


async def test_without_any_credentials_at_hand_a_404_proves_nothing():
    async with FakeRegistry() as up, asking(up, Rotating(None, None)) as ask:
        with pytest.raises(AccessDenied):
            await ask.upstream.get_manifest(REPO, LATEST)


async def test_what_strangers_may_read_is_asked_as_a_stranger():
    async with registry() as up, asking(up, ME) as ask:
        assert await ask.upstream.get_manifest(PRIVATE, LATEST)
        may = ask.upstream.anonymous_may_read
        assert await may(REPO, "manifests", "latest")
        assert await may(REPO, "tags", "")
        assert not await may(PRIVATE, "manifests", "latest")
        assert not await may(PRIVATE, "tags", "")
        blob = next(iter(up.repositories[PRIVATE].blobs))
        assert not await may(PRIVATE, "blobs", blob)
        before = len(up.seen)
        assert await may(REPO, "manifests", "latest")
        assert {shown(r) for r in up.seen[before:]} == {"Bearer"}


async def test_what_strangers_may_read_stays_open_when_the_upstream_is_in_trouble():
    async with registry() as up, asking(up, ME) as ask:
        up.inject(Fault(status=503), kind="manifest", times=None)
        with pytest.raises(UpstreamUnavailable):
            await ask.upstream.anonymous_may_read(REPO, "manifests", "latest")
        up.heal()
        up.inject(Fault(html=True), kind="tags")
        with pytest.raises(BadUpstreamAnswer):
            await ask.upstream.anonymous_may_read(REPO, "tags", "")


async def test_a_right_scope_that_does_not_suffice_is_not_asked_for_again():
    async with registry() as up, asking(up) as ask:
        for _ in range(2):
            with pytest.raises(AccessDenied):
                await ask.upstream.get_manifest(PRIVATE, LATEST)
        assert up.count(kind="token") == 1
