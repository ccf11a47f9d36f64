"""The token endpoint: who is shown what, and what its answers are worth."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import AccessDenied, BadUpstreamAnswer, UpstreamLimited, UpstreamUnavailable
from proxy.events import TokenFetched
from proxy.oci.names import Repository, Tag
from proxy.upstream.credentials import Credentials
from tests.support.asking import Rotating, asking
from tests.support.fake_registry import FakeAuth, FakeRegistry, Fault, Quirks
from tests.support.images import image
from tests.support.waiting import until

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


async def test_a_wrong_password_is_denied_and_said_to_be_ours():
    async with registry() as up, asking(up, Credentials("me", "wrong")) as ask:
        with pytest.raises(AccessDenied) as raised:
            await ask.upstream.get_manifest(REPO, LATEST)
        assert raised.value.authenticated
        assert "wrong" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["bearer", "basic"])
async def test_a_password_that_was_rotated_is_read_anew(scheme):
    source = Rotating(Credentials("me", "old"), ME)
    async with registry(scheme=scheme) as up, asking(up, source) as ask:
        assert await ask.upstream.get_manifest(PRIVATE, LATEST)
        assert source.asked[-1] is True


async def test_an_identity_token_is_posted():
    auth = {"identity_tokens": {"refresh-me"}, "post_status": None}
    mine = Credentials("<token>", "", identity_token="refresh-me")
    async with registry(**auth) as up, asking(up, mine) as ask:
        assert await ask.upstream.get_manifest(PRIVATE, LATEST)
        assert [r.method for r in up.requests(kind="token")] == ["POST"]


@pytest.mark.parametrize("status", [400, 401, 404, 405])
async def test_where_get_with_credentials_is_refused_they_are_posted(status):
    auth = {"get_status": status, "post_status": None, "field_name": "access_token"}
    async with registry(**auth) as up, asking(up, ME) as ask:
        assert await ask.upstream.get_manifest(PRIVATE, LATEST)
        assert [r.method for r in up.requests(kind="token")] == ["GET", "POST"]


async def test_another_scope_is_asked_for_when_it_is_demanded_as_on_acr():
    async with registry(tags_scope="metadata_read") as up, asking(up, ME) as ask:
        assert (await ask.upstream.list_tags(REPO)).tags == ("latest",)
        scopes = [r.query["scope"] for r in up.requests(kind="token")]
        assert scopes == [[f"repository:{REPO}:pull"], [f"repository:{REPO}:metadata_read"]]


async def test_tokens_are_renewed_before_they_expire():
    async with registry(expires_in_s=None) as up, asking(up) as ask:
        await ask.upstream.resolve(REPO, LATEST)
        ask.ticks.now_s += 53
        await ask.upstream.resolve(REPO, LATEST)
        assert up.count(kind="token") == 1
        ask.ticks.now_s += 1
        await ask.upstream.resolve(REPO, LATEST)
        assert up.count(kind="token") == 2


async def test_no_password_goes_to_a_foreign_realm():
    async with registry() as up:
        # "localhost" is another host than 127.0.0.1, with no owner in common.
        up.auth.realm = f"{up.cdn_url}/token"
        async with asking(up, ME) as ask:
            with pytest.raises(AccessDenied) as raised:
                await ask.upstream.get_manifest(PRIVATE, LATEST)
            assert not raised.value.authenticated
            assert {shown(r) for r in up.requests(kind="token")} == {""}
            assert await ask.upstream.get_manifest(REPO, LATEST)


async def test_a_listed_realm_may_see_the_password():
    async with registry() as up:
        up.auth.realm = f"{up.cdn_url}/token"
        async with asking(up, ME, token_realms=("localhost",)) as ask:
            assert await ask.upstream.get_manifest(PRIVATE, LATEST)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=500), UpstreamUnavailable),
        (Fault(status=429, headers={"Retry-After": "7"}), UpstreamLimited),
        (Fault(hang_up=True), UpstreamUnavailable),
        (Fault(html=True), BadUpstreamAnswer),
        (Fault(status=302, headers={"Location": "/other"}), BadUpstreamAnswer),
        (Fault(end_at=3), UpstreamUnavailable),
        (Fault(length=300_000), BadUpstreamAnswer),
    ],
)
async def test_trouble_at_the_token_endpoint_is_trouble_not_denial(fault, error):
    async with registry() as up, asking(up) as ask:
        up.inject(fault, kind="token", times=None)
        with pytest.raises(error) as raised:
            await ask.upstream.get_manifest(REPO, LATEST)
        assert "up" in str(raised.value)
        assert ask.stated(TokenFetched)[-1] == TokenFetched(upstream="up", granted=False)


async def test_a_realm_that_may_not_be_asked_is_a_bad_answer():
    async with registry() as up:
        up.auth.realm = "ftp://127.0.0.1/token"
        async with asking(up) as ask:
            with pytest.raises(BadUpstreamAnswer):
                await ask.upstream.get_manifest(REPO, LATEST)


async def test_a_source_without_credentials_asks_for_an_anonymous_token():
    async with registry() as up, asking(up, Rotating(None, None)) as ask:
        assert await ask.upstream.resolve(REPO, LATEST)
        assert [shown(r) for r in up.requests(kind="token")] == [""]


async def test_an_endpoint_without_a_service_is_asked_without_one():
    async with registry(post_status=None, get_status=404) as up, asking(up, ME) as ask:
        challenge = {"WWW-Authenticate": f'Bearer realm="{up.url}/token?account=a%2Bb"'}
        up.inject(Fault(status=401, headers=challenge), kind="ping", early=True)
        await ask.upstream.resolve(REPO, LATEST)
    get, post = up.requests(kind="token")
    assert "service" not in get.query
    assert get.query["account"] == ["a+b"]
    assert post.method == "POST"


async def test_a_token_endpoint_that_hangs_is_given_up_even_when_nobody_waits_for_it():
    async with registry() as up, asking(up, head_s=0.2) as ask:
        up.inject(Fault(delay=asyncio.Event()), kind="token")
        with pytest.raises(UpstreamUnavailable):
            await ask.upstream.resolve(REPO, LATEST)
        await until(lambda: ask.stated(TokenFetched), "the request for a token has ended")
        assert await ask.upstream.resolve(REPO, LATEST)


async def test_an_endpoint_that_knows_neither_get_nor_post_refuses():
    async with registry(get_status=401, post_status=404) as up, asking(up, ME) as ask:
        with pytest.raises(AccessDenied) as raised:
            await ask.upstream.resolve(REPO, LATEST)
        assert raised.value.authenticated
