"""The session: where it connects, and what it takes along."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import UpstreamUnavailable
from proxy.oci.names import Repository, Tag
from tests.support.asking import asking
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


async def test_nothing_is_dialled_before_it_is_needed_nor_after_it_is_closed(up):
    async with asking(up) as ask:
        assert ask.upstream.health().state == "unused"
        await ask.upstream.aclose()
        await ask.upstream.aclose()
        with pytest.raises(UpstreamUnavailable):
            await ask.upstream.resolve(REPO, LATEST)
    assert up.count() == 0


async def test_a_ca_file_that_is_not_there_is_said(up, tmp_path):
    async with asking(up, ca_file=str(tmp_path / "none.pem")) as ask:
        with pytest.raises(UpstreamUnavailable, match="CA file"):
            await ask.upstream.resolve(REPO, LATEST)


async def test_a_proxy_that_is_not_there_is_said(up):
    async with asking(up, proxy_url=await gone_url()) as ask:
        with pytest.raises(UpstreamUnavailable, match="proxy"):
            await ask.upstream.resolve(REPO, LATEST)


async def test_requests_go_by_the_proxy_that_is_set(up):
    async with asking("http://registry.invalid", proxy_url=up.url) as ask:
        up.inject(Fault(status=404), times=None)
        assert await ask.upstream.resolve(REPO, LATEST) is None
        assert up.seen[0].headers["Host"] == "registry.invalid"


async def test_proxies_and_passwords_of_the_environment_are_not_used(up, monkeypatch, tmp_path):
    monkeypatch.setenv("HTTP_PROXY", await gone_url())
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password pw\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with asking(up) as ask:
        assert await ask.upstream.resolve(REPO, LATEST)
        assert "Authorization" not in up.seen[0].headers


async def test_cookies_are_not_kept(up):
    async with asking(up.url.replace("127.0.0.1", "localhost")) as ask:
        up.inject(Fault(headers={"Set-Cookie": "session=1; Path=/"}))
        await ask.upstream.resolve(REPO, LATEST)
        await ask.upstream.resolve(REPO, LATEST)
        assert "Cookie" not in up.seen[1].headers


async def test_a_path_before_v2_is_kept(up):
    async with asking(f"{up.url}/nexus/docker/") as ask:
        assert await ask.upstream.resolve(REPO, LATEST) is None
        assert up.seen[0].kind == "other"
        assert ask.upstream.url == f"{up.url}/nexus/docker/"
        assert ask.upstream.name == "up"
