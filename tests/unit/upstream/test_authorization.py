"""The dance with tokens, against a registry and its token endpoint."""

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


async def test_a_refused_anonymous_token_does_not_hide_what_needs_none_as_on_quay():
    async with registry(public_without_token=True) as up, asking(up) as ask:
        await ask.upstream.resolve(REPO, LATEST)
        with pytest.raises(AccessDenied):
            await ask.upstream.get_manifest(PRIVATE, LATEST)
        up.inject(Fault(status=401), kind="token", times=None)
        assert await ask.upstream.get_manifest(OTHER, LATEST)


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
        up.inject(Fault(status=503), match=lambda seen: seen.kind == "ping")
        up.auth.scheme = "basic"
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


async def test_a_source_without_credentials_asks_for_an_anonymous_token():
    async with registry() as up, asking(up, Rotating(None, None)) as ask:
        assert await ask.upstream.resolve(REPO, LATEST)
        assert [shown(r) for r in up.requests(kind="token")] == [""]


async def test_an_endpoint_without_a_service_is_asked_without_one():
    async with registry(post_status=None, get_status=404) as up, asking(up, ME) as ask:
        challenge = {"WWW-Authenticate": f'Bearer realm="{up.url}/token?account=a%2Bb"'}
        up.inject(Fault(status=401, headers=challenge), kind="ping")
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
        while not ask.stated(TokenFetched):
            await asyncio.sleep(0)
        assert await ask.upstream.resolve(REPO, LATEST)


async def test_an_endpoint_that_knows_neither_get_nor_post_refuses():
    async with registry(get_status=401, post_status=404) as up, asking(up, ME) as ask:
        with pytest.raises(AccessDenied) as raised:
            await ask.upstream.resolve(REPO, LATEST)
        assert raised.value.authenticated
