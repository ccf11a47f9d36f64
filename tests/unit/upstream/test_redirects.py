"""Where requests are sent on to, and what goes with them."""

from __future__ import annotations

import pytest

from proxy.errors import AccessDenied, BadUpstreamAnswer
from proxy.events import UpstreamAnswered
from proxy.oci.names import Repository, Tag
from tests.support.asking import asking
from tests.support.fake_registry import FakeAuth, FakeRegistry, Fault, Quirks
from tests.support.images import image

REPO = Repository.parse("library/app")
LATEST = Tag.parse("latest")
MOVED = "k8s-artifacts-prod/images"


async def test_blobs_at_a_cdn_are_fetched_without_authorization_and_with_the_range():
    async with FakeRegistry(Quirks(blobs_at_cdn=True), FakeAuth()) as up, asking(up) as ask:
        layer = up.add(REPO, image(5000)).layers[0]
        assert await ask.blob(REPO, layer.digest, 10, 20) == layer.body[10:20]
        at_cdn = up.requests(kind="blob")[-1]
        assert at_cdn.at_cdn
        assert "Authorization" not in at_cdn.headers
        assert at_cdn.headers["Range"] == "bytes=10-19"
        assert at_cdn.headers["Accept-Encoding"] == "identity"
        # The signature arrived as it was given.
        assert at_cdn.query["x"] == ["a+b/"]


async def test_signed_urls_are_never_used_twice():
    async with FakeRegistry(Quirks(blobs_at_cdn=True)) as up, asking(up) as ask:
        layer = up.add(REPO, image(5000)).layers[0]
        for _ in range(2):
            assert await ask.blob(REPO, layer.digest) == layer.body
        assert up.count(kind="blob") == 4


async def test_redirects_count_as_one_exchange():
    async with FakeRegistry(Quirks(blobs_at_cdn=True)) as up, asking(up) as ask:
        layer = up.add(REPO, image(5000)).layers[0]
        await ask.blob(REPO, layer.digest)
        answered = ask.stated(UpstreamAnswered)
        assert [(e.operation, e.method, e.status) for e in answered] == [("blob", "GET", 200)]


async def test_the_size_is_found_where_signed_storage_refuses_head_as_on_ghcr():
    quirks = Quirks(blobs_at_cdn=True, cdn_head_status=403)
    async with FakeRegistry(quirks, FakeAuth()) as up, asking(up) as ask:
        layer = up.add(REPO, image(5000)).layers[0]
        assert (await ask.upstream.stat_blob(REPO, layer.digest)).size == 5000
        assert up.requests(kind="blob")[-1].headers["Range"] == "bytes=0-1"
        assert await ask.upstream.anonymous_may_read(REPO, "blobs", str(layer.digest))


async def test_manifests_may_live_at_another_host_and_path_as_on_registry_k8s_io():
    async with FakeRegistry(Quirks(moved_to=MOVED)) as up, asking(up) as ask:
        made = up.add(REPO, image(), "latest")
        assert (await ask.upstream.resolve(REPO, LATEST)).digest == made.digest
        assert (await ask.upstream.get_manifest(REPO, LATEST)).body == made.manifest.body


async def test_another_host_that_challenges_gets_a_token_of_its_own():
    own, other = FakeAuth(), FakeAuth()
    async with FakeRegistry(Quirks(moved_to=MOVED, cdn_auth=other), own) as up, asking(up) as ask:
        other.realm = f"{up.cdn_url}/token"
        made = up.add(REPO, image(), "latest")
        for _ in range(2):
            assert (await ask.upstream.get_manifest(REPO, LATEST)).body == made.manifest.body
        scopes = [r.query["scope"] for r in up.requests(kind="token")]
        assert scopes == [[f"repository:{REPO}:pull"], [f"repository:{MOVED}/{REPO}:pull"]]
        shown = {
            (r.at_cdn, r.headers["Authorization"])
            for r in up.requests(kind="manifest")
            if r.status == 200
        }
        assert all(h.removeprefix("Bearer ") in other.grants for at_cdn, h in shown if at_cdn)
        # Revoked there: denied once, then forgotten and asked for anew.
        other.revoke()
        with pytest.raises(AccessDenied):
            await ask.upstream.get_manifest(REPO, LATEST)
        assert await ask.upstream.get_manifest(REPO, LATEST)


async def test_another_host_that_wants_a_password_gets_none():
    other = FakeAuth(scheme="basic")
    async with FakeRegistry(Quirks(moved_to=MOVED, cdn_auth=other)) as up, asking(up) as ask:
        up.add(REPO, image(), "latest")
        with pytest.raises(AccessDenied):
            await ask.upstream.get_manifest(REPO, LATEST)
        assert all("Authorization" not in r.headers for r in up.seen if r.at_cdn)


async def test_redirects_without_end_are_a_bad_answer():
    async with FakeRegistry() as up, asking(up) as ask:
        up.inject(Fault(status=307, headers={"Location": "?again"}), kind="manifest", times=None)
        with pytest.raises(BadUpstreamAnswer, match="without end"):
            await ask.upstream.get_manifest(REPO, LATEST)
        assert up.count() == 6


async def test_five_redirects_are_followed():
    async with FakeRegistry() as up, asking(up) as ask:
        up.add(REPO, image(), "latest")
        up.inject(Fault(status=308, headers={"Location": "?again"}), kind="manifest", times=5)
        assert await ask.upstream.get_manifest(REPO, LATEST)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://user:pw@127.0.0.1/"])
async def test_a_redirect_to_nowhere_is_a_bad_answer(location):
    async with FakeRegistry() as up, asking(up) as ask:
        up.inject(Fault(status=302, headers={"Location": location}), kind="blob")
        with pytest.raises(BadUpstreamAnswer) as raised:
            await ask.blob(REPO, image().digest)
        assert "pw" not in str(raised.value)


async def test_a_redirect_without_a_place_is_a_bad_answer():
    async with FakeRegistry() as up, asking(up) as ask:
        up.inject(Fault(status=302), kind="manifest")
        with pytest.raises(BadUpstreamAnswer):
            await ask.upstream.get_manifest(REPO, LATEST)


async def test_messages_hold_no_signatures():
    async with FakeRegistry(Quirks(blobs_at_cdn=True)) as up, asking(up) as ask:
        layer = up.add(REPO, image(5000)).layers[0]
        up.inject(Fault(status=403), kind="blob", times=None)
        with pytest.raises(AccessDenied) as raised:
            await ask.blob(REPO, layer.digest)
        assert "signature" not in str(raised.value)
