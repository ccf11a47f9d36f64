"""Upstreams that don't answer, fail or limit; how soon we say so."""

from __future__ import annotations

import asyncio
import time

import pytest

from proxy.errors import AccessDenied, BadUpstreamAnswer, UpstreamLimited, UpstreamUnavailable
from proxy.events import BreakerMoved, UpstreamAnswered
from proxy.oci.digest import Digest
from proxy.oci.names import Repository, Tag
from proxy.upstream.credentials import Credentials
from tests.support.asking import EPOCH_S, asking
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import image

REPO = Repository.parse("library/app")
LATEST = Tag.parse("latest")
LAYER = image().layers[0]


@pytest.fixture
async def up():
    async with FakeRegistry() as registry:
        registry.add(REPO, image(), "latest")
        yield registry


async def gone_url() -> str:
    async with FakeRegistry() as registry:
        return registry.url


async def raw_server(answer: bytes):
    """Says `answer` to whoever connects, whatever they say."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


async def test_a_refused_connection_is_unavailable_at_once():
    async with asking(await gone_url()) as ask:
        with pytest.raises(UpstreamUnavailable, match=r"^up: no connection"):
            await ask.upstream.resolve(REPO, LATEST)
        assert [e.status for e in ask.stated(UpstreamAnswered)] == [0]


async def test_a_name_that_does_not_resolve_is_unavailable():
    async with asking("http://nowhere.invalid") as ask:
        with pytest.raises(UpstreamUnavailable, match=r"nowhere\.invalid"):
            await ask.upstream.resolve(REPO, LATEST)


async def test_a_head_that_does_not_come_is_given_up(up):
    async with asking(up, head_s=0.2) as ask:
        up.inject(Fault(delay=asyncio.Event()), times=None)
        with pytest.raises(UpstreamUnavailable, match="in time"):
            await ask.upstream.get_manifest(REPO, LATEST)


async def test_the_time_for_tokens_is_part_of_the_time_for_the_head(up):
    up.inject(
        Fault(status=401, headers={"WWW-Authenticate": f'Bearer realm="{up.url}/token"'}),
        kind="manifest",
    )
    up.inject(Fault(delay=asyncio.Event()), kind="token")
    async with asking(up, head_s=0.2) as ask:
        with pytest.raises(UpstreamUnavailable, match="in time"):
            await ask.upstream.get_manifest(REPO, LATEST)


async def test_a_connection_that_closes_without_an_answer_is_unavailable(up):
    async with asking(up) as ask:
        up.inject(Fault(hang_up=True), times=None)
        with pytest.raises(UpstreamUnavailable, match="without an answer"):
            await ask.upstream.get_manifest(REPO, LATEST)


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nx\r\n\r\n"])
async def test_what_is_no_http_is_a_bad_answer(answer):
    server = await raw_server(answer)
    async with server, asking(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as ask:
        with pytest.raises(BadUpstreamAnswer, match=r"^up"):
            await ask.upstream.get_manifest(REPO, LATEST)


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 599])
async def test_5xx_and_408_are_unavailable(up, status):
    async with asking(up) as ask:
        up.inject(Fault(status=status), times=None)
        for question in (ask.upstream.resolve, ask.upstream.get_manifest):
            with pytest.raises(UpstreamUnavailable, match=str(status)):
                await question(REPO, LATEST)


async def test_after_three_failures_an_answer_takes_no_time_and_no_request(up):
    async with asking(up) as ask:
        up.inject(Fault(status=503), times=None)
        for _ in range(3):
            with pytest.raises(UpstreamUnavailable):
                await ask.upstream.resolve(REPO, LATEST)
        health = ask.upstream.health()
        assert (health.state, health.reason, health.retry_in_s) == ("failing", "up answered 503", 2)
        before = up.count()
        began = time.perf_counter()
        for _ in range(100):
            with pytest.raises(UpstreamUnavailable, match="503"):
                await ask.upstream.resolve(REPO, LATEST)
            with pytest.raises(UpstreamUnavailable, match="503"):
                await ask.blob(REPO, LAYER.digest)
        assert time.perf_counter() - began < 2
        assert up.count() == before
        up.heal()
        ask.ticks.now_s += 2
        assert await ask.upstream.resolve(REPO, LATEST)
        assert [e.state for e in ask.stated(BreakerMoved)] == ["failing", "ok"]


async def test_an_upstream_that_comes_back_is_found_again(up):
    async with asking(up) as ask:
        await up.stop()
        for _ in range(3):
            with pytest.raises(UpstreamUnavailable):
                await ask.upstream.resolve(REPO, LATEST)
        await up.start()
        with pytest.raises(UpstreamUnavailable):
            await ask.upstream.resolve(REPO, LATEST)
        ask.ticks.now_s += 2
        assert await ask.upstream.resolve(REPO, LATEST)


async def test_a_probe_goes_alone(up):
    async with asking(up) as ask:
        up.inject(Fault(status=503), times=3)
        for _ in range(3):
            with pytest.raises(UpstreamUnavailable):
                await ask.upstream.resolve(REPO, LATEST)
        ask.ticks.now_s += 2
        go = asyncio.Event()
        up.inject(Fault(delay=go))
        probe = asyncio.create_task(ask.upstream.resolve(REPO, LATEST))
        await up.wait_requests(4)
        with pytest.raises(UpstreamUnavailable):
            await ask.upstream.resolve(REPO, LATEST)
        go.set()
        assert await probe
        assert await ask.upstream.resolve(REPO, LATEST)


async def test_429_spares_the_api_and_lets_blobs_through(up):
    async with asking(up) as ask:
        up.inject(Fault(status=429, headers={"Retry-After": "30"}), kind="manifest")
        with pytest.raises(UpstreamLimited) as raised:
            await ask.upstream.get_manifest(REPO, LATEST)
        assert raised.value.retry_after_s == 30
        for question in (
            ask.upstream.resolve(REPO, LATEST),
            ask.upstream.get_manifest(REPO, LATEST),
            ask.upstream.list_tags(REPO),
        ):
            with pytest.raises(UpstreamLimited) as raised:
                await question
            assert raised.value.retry_after_s == 30
        assert up.count(kind="manifest") == 1
        assert await ask.blob(REPO, LAYER.digest) == LAYER.body
        assert ask.upstream.health().state == "limited"
        ask.ticks.now_s += 30
        assert await ask.upstream.get_manifest(REPO, LATEST)
        assert ask.upstream.health().state == "ok"


async def test_a_blob_that_is_limited_leaves_manifests_alone(up):
    async with asking(up) as ask:
        up.inject(Fault(status=429), kind="blob")
        for _ in range(2):
            with pytest.raises(UpstreamLimited):
                await ask.blob(REPO, LAYER.digest)
        assert up.count(kind="blob") == 1
        assert await ask.upstream.get_manifest(REPO, LATEST)


async def test_retry_after_may_be_a_date(up):
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(EPOCH_S + 25))
    async with asking(up) as ask:
        up.inject(Fault(status=429, headers={"Retry-After": date}))
        with pytest.raises(UpstreamLimited) as raised:
            await ask.upstream.get_manifest(REPO, LATEST)
        assert raised.value.retry_after_s == 25


async def test_docker_hub_over_quota_is_limited(up):
    up.quirks.quota = 1
    async with asking(up) as ask:
        assert await ask.upstream.get_manifest(REPO, LATEST)
        with pytest.raises(UpstreamLimited):
            await ask.upstream.get_manifest(REPO, LATEST)
        assert ask.upstream.health().quota.remaining == 0


async def test_long_error_pages_are_not_read(up):
    async with asking(up) as ask:
        up.inject(Fault(status=500, length=30_000_000), times=None)
        with pytest.raises(UpstreamUnavailable):
            await ask.upstream.get_manifest(REPO, LATEST)
    assert up.bytes_sent() < 20_000_000


async def test_a_kept_connection_that_went_away_is_replaced_unseen(up):
    async with asking(up) as ask:
        await ask.upstream.resolve(REPO, LATEST)
        up.inject(Fault(hang_up=True))
        assert await ask.upstream.resolve(REPO, LATEST)


async def test_secrets_show_in_no_message_and_no_repr(up):
    async with asking(up, Credentials("me", "hunter2")) as ask:
        up.inject(Fault(status=401), times=None)
        with pytest.raises(AccessDenied) as raised:
            await ask.upstream.resolve(REPO, LATEST)
        assert "hunter2" not in repr(raised.value) + repr(ask.events)


async def test_tls_to_a_plain_port_is_unavailable(up):
    async with asking(up.url.replace("http:", "https:")) as ask:
        with pytest.raises(UpstreamUnavailable, match="TLS"):
            await ask.upstream.resolve(REPO, LATEST)


async def test_unknown_is_none_not_trouble(up):
    async with asking(up) as ask:
        assert await ask.upstream.stat_blob(REPO, Digest.of(b"none")) is None
        assert ask.upstream.health().state == "ok"
