"""Whose certificates are believed, and where."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from proxy.errors import UpstreamUnavailable
from proxy.oci.names import Repository, Tag
from tests.support.asking import asking
from tests.support.fake_registry import FakeRegistry, Fault, Quirks
from tests.support.images import image
from tests.support.private_ca import PrivateCa, issue

REPO = Repository.parse("library/app")
LATEST = Tag.parse("latest")


@pytest.fixture(scope="module")
def ca(tmp_path_factory) -> PrivateCa:
    return issue(tmp_path_factory.mktemp("ca"))


@pytest.fixture
async def up(ca):
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(ca.cert, ca.key)
    async with FakeRegistry(tls=tls) as registry:
        registry.add(REPO, image(), "latest")
        yield registry


async def test_an_unknown_authority_is_not_trusted(up):
    async with asking(up) as ask:
        with pytest.raises(UpstreamUnavailable, match="not trusted"):
            await ask.upstream.resolve(REPO, LATEST)


async def test_the_ca_file_is_trusted(up, ca):
    async with asking(up, ca_file=str(ca.ca)) as ask:
        found = await asyncio.gather(*(ask.upstream.resolve(REPO, LATEST) for _ in range(3)))
        assert all(found)


async def test_insecure_believes_the_upstream_and_no_other_host(up):
    async with asking(up, insecure=True) as ask:
        assert await ask.upstream.resolve(REPO, LATEST)
        up.quirks = Quirks(blobs_at_cdn=True)
        with pytest.raises(UpstreamUnavailable, match="localhost is not trusted"):
            await ask.blob(REPO, image().layers[0].digest)


async def test_a_redirect_from_https_to_http_is_refused(up, ca):
    async with asking(up, ca_file=str(ca.ca)) as ask:
        away = up.url.replace("https", "http")
        up.inject(Fault(status=302, headers={"Location": away}), kind="manifest")
        with pytest.raises(UpstreamUnavailable, match="from https to http"):
            await ask.upstream.get_manifest(REPO, LATEST)
