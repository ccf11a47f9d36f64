"""TLS on the pull listener, while its files change."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from proxy.errors import StartupError
from proxy.web.server import PullServer, listen
from proxy.web.tls import Certificates
from tests.flows.conftest import World
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import image
from tests.support.private_ca import PrivateCa, issue


def put(authority: PrivateCa, folder: Path) -> None:
    """As an operator's tool does: new files over the old ones."""
    folder.mkdir(exist_ok=True)
    shutil.copy(authority.cert, folder / "cert.pem")
    shutil.copy(authority.key, folder / "key.pem")


@asynccontextmanager
async def serving(
    folder: Path, client_ca: Path | None = None
) -> AsyncIterator[tuple[str, Certificates]]:
    """The pull listener alone, with the files in `folder`; it answers pings."""
    certificates = Certificates(folder / "cert.pem", folder / "key.pem", client_ca)
    certificates.load()

    async def ping(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b"{}")

    runner = web.ServerRunner(PullServer(ping, connections_max=10, header_bytes_max=8192))
    await runner.setup()
    try:
        await listen(runner, "127.0.0.1:0", tls=certificates.context)
        yield f"127.0.0.1:{runner.addresses[0][1]}", certificates
    finally:
        await runner.cleanup()


async def get(
    address: str, trusted: PrivateCa, path: str = "/v2/", shown: PrivateCa | None = None
) -> bytes:
    """A GET on a connection of its own by a client that trusts and shows these."""
    context = ssl.create_default_context(cafile=str(trusted.ca))
    if shown is not None:
        context.load_cert_chain(shown.cert, shown.key)
    connector = aiohttp.TCPConnector(ssl=context)
    async with (
        aiohttp.ClientSession(connector=connector) as client,
        client.get(f"https://{address}{path}") as response,
    ):
        assert response.status == 200
        return await response.read()


async def test_bytes_are_right_over_tls_cold_followed_and_warm(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    authority = issue(tmp_path / "a")
    blob = upstream.add("app", image(3_000_000), "v1").blobs[1]
    held = asyncio.Event()
    upstream.inject(Fault(stall_at=1_000_000, stall=held), kind="blob")
    proxy = await world.start(
        {"lab": upstream},
        tls_cert_file=str(authority.cert),
        tls_key_file=str(authority.key),
    )
    address, path = proxy.entrepot.address, f"/v2/lab/app/blobs/{blob.digest}"
    followers = [asyncio.create_task(get(address, authority, path)) for _ in range(4)]
    await upstream.wait_requests(1, kind="blob")
    held.set()
    for body in (*await asyncio.gather(*followers), await get(address, authority, path)):
        assert hashlib.sha256(body).hexdigest() == blob.digest.hex
    assert upstream.count(kind="blob") == 1
    # Plain HTTP on this port ends, and harms nobody.
    with pytest.raises(aiohttp.ClientError):
        await proxy.client.get(f"http://{address}/v2/")
    assert await get(address, authority) == b"{}"


@pytest.mark.parametrize("first", ["AES128-GCM-SHA256", "AES256-GCM-SHA384"])
async def test_the_client_chooses_the_cipher(tmp_path: Path, first: str) -> None:
    """Also in connections that a context made from changed files took over."""
    authority = issue(tmp_path / "authority")
    put(authority, tmp_path / "served")
    other = {"AES128-GCM-SHA256", "AES256-GCM-SHA384"} - {first}
    context = ssl.create_default_context(cafile=str(authority.ca))
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # of 1.3 Python can't set the order
    context.set_ciphers(":".join(f"ECDHE-ECDSA-{name}" for name in (first, *other)))
    async with serving(tmp_path / "served") as (address, certificates):
        host, port = address.split(":")
        for changed in (False, True):
            if changed:
                put(authority, tmp_path / "served")
                assert await asyncio.to_thread(certificates.refresh)
            _, writer = await asyncio.open_connection(host, int(port), ssl=context)
            assert writer.get_extra_info("cipher")[0] == f"ECDHE-ECDSA-{first}"
            writer.close()
            await writer.wait_closed()


async def test_a_changed_certificate_is_used_for_new_connections(tmp_path: Path) -> None:
    before, after = issue(tmp_path / "a"), issue(tmp_path / "b")
    put(before, tmp_path / "used")
    async with serving(tmp_path / "used") as (address, certificates):
        assert await get(address, before) == b"{}"
        assert certificates.refresh() is False
        put(after, tmp_path / "used")
        assert certificates.refresh() is True
        assert await get(address, after) == b"{}"
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await get(address, before)


async def test_a_half_written_pair_is_not_used(tmp_path: Path) -> None:
    before, after = issue(tmp_path / "a"), issue(tmp_path / "b")
    put(before, tmp_path / "used")
    cert, key = tmp_path / "used/cert.pem", tmp_path / "used/key.pem"
    async with serving(tmp_path / "used") as (address, certificates):
        for content in (after.cert.read_bytes(), after.cert.read_bytes()[:100], b""):
            cert.write_bytes(content)
            assert certificates.refresh() is False
            assert await get(address, before) == b"{}"
        key.unlink()
        assert certificates.refresh() is False
        assert await get(address, before) == b"{}"
        put(after, tmp_path / "used")
        assert certificates.refresh() is True
        assert await get(address, after) == b"{}"


async def test_clients_must_show_a_certificate_where_that_is_configured(tmp_path: Path) -> None:
    server, clients, strangers = (issue(tmp_path / name) for name in "abc")
    put(server, tmp_path / "used")
    authorities = tmp_path / "clients.pem"
    shutil.copy(clients.ca, authorities)
    async with serving(tmp_path / "used", authorities) as (address, certificates):
        assert await get(address, server, shown=clients) == b"{}"
        for shown in (None, strangers, server):
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await get(address, server, shown=shown)
        # An authority that is taken out of the file is trusted no longer.
        shutil.copy(strangers.ca, authorities)
        assert certificates.refresh() is True
        assert await get(address, server, shown=strangers) == b"{}"
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await get(address, server, shown=clients)


def test_files_that_dont_fit_together_stop_the_start(tmp_path: Path) -> None:
    one, other = issue(tmp_path / "a"), issue(tmp_path / "b")
    with pytest.raises(StartupError, match="certificate or key"):
        Certificates(one.cert, other.key, None).load()
