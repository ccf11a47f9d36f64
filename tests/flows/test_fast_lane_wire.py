"""The fast lane as a client meets it: pieces, pipelines, bodies, logs and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.flows.fast_lane import BLOB, IMAGES, MANIFEST, SMALL, Proxy, running, seen, warm
from tests.support.entrepot import Entrepot as Process
from tests.support.fake_registry import FakeRegistry
from tests.support.private_ca import issue
from tests.support.raw_http import connected, request


@pytest.fixture
async def proxy(tmp_path: Path, upstream: FakeRegistry) -> AsyncIterator[Proxy]:
    upstream.add("app", IMAGES[0], "v1")
    async with running(tmp_path, upstream) as one:
        yield one


@pytest.fixture
async def secure(tmp_path: Path, upstream: FakeRegistry) -> AsyncIterator[Proxy]:
    """The same over TLS."""
    authority = issue(tmp_path / "authority")
    upstream.add("app", IMAGES[0], "v1")
    files = {"tls_cert_file": str(authority.cert), "tls_key_file": str(authority.key)}
    async with running(tmp_path, upstream, **files) as one:
        one.tls = ssl.create_default_context(cafile=str(authority.ca))
        yield one


def answered_below(proxy: Proxy) -> float:
    return proxy.count("entrepot_fast_lane_answers_total")


@pytest.mark.parametrize("path", [MANIFEST, BLOB, "/v2/"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_over_tls_answers_are_those_of_the_parser(
    secure: Proxy, path: str, method: str
) -> None:
    head, to_head = request(path, method=method), method == "HEAD"
    await warm(secure, head)
    async with connected(secure.address, tls=secure.tls) as client:
        before = answered_below(secure)
        await client.send(request(path, "Cookie: a=b", method=method))
        parsed = seen(await client.receive(to_head=to_head))
        assert answered_below(secure) == before
        for sent in (1, 5, 1):
            await client.send(head * sent)
            for _ in range(sent):
                assert seen(await client.receive(to_head=to_head)) == parsed
        assert answered_below(secure) == before + 7


@pytest.mark.parametrize("path", [MANIFEST, BLOB, "/v2/"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_head_in_two_pieces_is_answered_wherever_it_was_cut(
    proxy: Proxy, path: str, method: str
) -> None:
    head = request(path, method=method)
    expected = seen(await warm(proxy, head))
    to_head = method == "HEAD"
    async with connected(proxy.address) as client:
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in range(1, len(head)):
            await client.send(head[:cut])
            await asyncio.sleep(0)
            await client.send(head[cut:] + head + head[: cut // 2])
            for _ in range(2):
                assert seen(await client.receive(to_head=to_head)) == expected
            await client.send(head[cut // 2 :])
            assert seen(await client.receive(to_head=to_head)) == expected


async def test_a_body_that_looks_like_a_head_is_none(proxy: Proxy) -> None:
    head = request(MANIFEST)
    expected = seen(await warm(proxy, head))
    async with connected(proxy.address) as client:
        for first, rest in ((head, b""), (b"", head), (head[:-4], head[-4:])):
            body = first + rest
            await client.send(request("/v2/", f"Content-Length: {len(body)}") + first)
            await asyncio.sleep(0.01)
            await client.send(rest)
            assert (await client.receive()).body == b"{}"
            await client.send(head)
            assert seen(await client.receive()) == expected


async def test_pipelined_requests_are_answered_in_their_order(proxy: Proxy) -> None:
    known, unknown = request(MANIFEST), request("/v2/lab/app/manifests/none")
    blob = request(BLOB)
    await warm(proxy, known)
    await warm(proxy, blob)
    order = [known, blob, unknown, known, known, unknown, blob, blob, known]
    async with connected(proxy.address) as client:
        for _ in range(5):
            await client.send(b"".join(order))
            for head in order:
                answer = await client.receive()
                if head == unknown:
                    assert answer.status == 404
                else:
                    expected = IMAGES[0].manifest if head == known else SMALL
                    assert answer.body == expected.body


async def test_who_pipelines_without_reading_is_not_buffered_for(proxy: Proxy) -> None:
    head = request(BLOB)
    await warm(proxy, head)
    loop = asyncio.get_running_loop()
    host, _, port = proxy.address.partition(":")
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(client, (host, int(port)))
        sent = 0
        while sent < 50_000 * len(head):
            try:
                async with asyncio.timeout(0.5):
                    await loop.sock_sendall(client, head * 20)
            except TimeoutError:
                break  # Nothing is read from us any more.
            sent += 20 * len(head)
            await asyncio.sleep(0)
        else:
            pytest.fail("it went on reading")
        (connection,) = [one for one in proxy.server.connections if one.transport is not None]
        assert connection.transport is not None
        waiting = connection.transport.get_write_buffer_size()
        assert waiting <= 256 * 1024
        assert len(connection._messages) <= 64


async def test_who_does_so_over_tls_is_not_either(secure: Proxy) -> None:
    head = request(BLOB)
    await warm(secure, head)
    host, _, port = secure.address.partition(":")
    with socket.socket() as sock, contextlib.ExitStack() as stack:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        _, writer = await asyncio.open_connection(sock=sock, ssl=secure.tls, server_hostname=host)
        stack.callback(writer.transport.abort)
        writer.transport.pause_reading()
        try:
            for _ in range(2_000):
                writer.write(head * 100)
                async with asyncio.timeout(1.0):
                    await writer.drain()
                await asyncio.sleep(0)
            pytest.fail("it went on reading")
        except TimeoutError:
            pass  # Nothing is read from us any more.
        (connection,) = [one for one in secure.server.connections if one.transport is not None]
        assert connection.transport is not None
        session = connection.transport._ssl_protocol
        held = {
            "answers": connection.transport.get_write_buffer_size(),
            "encrypted": session._transport.get_write_buffer_size(),
            "to be decrypted": session._incoming.pending,
        }
        assert held["encrypted"] > 0, held
        # asyncio's limits: 512 KiB of answers, 64 KiB below that, 256 KiB and a read's worth.
        assert sum(held.values()) <= 3 * 512 * 1024, held
        assert len(connection._messages) <= 64


async def test_metrics_and_uses_are_as_if_each_had_been_parsed(proxy: Proxy) -> None:
    head, blob = request(MANIFEST), request(BLOB)
    await warm(proxy, head)
    await warm(proxy, blob)
    before = {
        kind: proxy.count("entrepot_requests_total", kind=kind, outcome="hit", status="200")
        for kind in ("manifest", "blob")
    }
    sent = proxy.count("entrepot_served_bytes_total", kind="blob")
    below = answered_below(proxy)
    async with connected(proxy.address) as client:
        for _ in range(50):
            await proxy.ask(client, head)
        for _ in range(30):
            await proxy.ask(client, blob)
    after = {kind: proxy.count("entrepot_requests_total", kind=kind) for kind in before}
    labels = {"kind": "manifest", "outcome": "hit", "status": "200", "upstream": "lab"}
    now = proxy.count("entrepot_requests_total", method="GET", **labels)
    assert now == before["manifest"] + 50
    assert proxy.count("entrepot_served_bytes_total", kind="blob") == sent + 30 * SMALL.size
    for name in ("entrepot_request_duration_seconds", "entrepot_first_byte_seconds"):
        for kind, count in after.items():
            assert proxy.count(f"{name}_count", kind=kind) == count
            assert proxy.count(f"{name}_bucket", kind=kind, le="+Inf") == count
    assert proxy.repeated >= 80
    assert answered_below(proxy) == below + 80
    assert proxy.count("entrepot_fast_lane_bytes") == proxy.lane.weight > SMALL.size


async def test_each_request_leaves_its_line_in_the_log(
    tmp_path: Path, upstream: FakeRegistry
) -> None:
    upstream.add("app", IMAGES[0], "v1")
    server = Process(
        tmp_path / "entrepot",
        upstreams={"lab": {"url": upstream.url}},
        presets=False,
        default_upstream="lab",
        disk_free_bytes_min=0,
        log_format="json",
    )
    paths = [MANIFEST, BLOB, "/v2/"]
    await asyncio.to_thread(server.start)
    try:
        async with connected(server.address) as client:
            for path in paths * 20:
                await client.send(request(path, "User-Agent: a test"))
                assert (await client.receive()).status == 200
    finally:
        await asyncio.to_thread(server.stop)
    said = [json.loads(line) for line in server.log_text().splitlines() if '"request"' in line]
    lines = [line for line in said if line["agent"] == "a test"]
    assert len(lines) == 60
    for path in paths:
        mine = [line for line in lines if line["target"] == path]
        assert len(mine) == 20
        # Later ones differ from one that was parsed in nothing but their times.
        alike = [{**line, "ms": 0, "timestamp": ""} for line in mine]
        assert alike[2:] == alike[1:2] * 18
        assert {type(line["ms"]) for line in mine} == {float}
        times = [datetime.fromisoformat(line["timestamp"]) for line in mine]
        assert sorted(times) == times
        assert times[0].tzinfo is not None


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer x",
        "Range: bytes=0-4",
        "Connection: close",
        "Content-Length: 0",
        "Expect: 100-continue",
        "Transfer-Encoding: chunked",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ],
)
async def test_some_heads_are_never_kept(proxy: Proxy, line: str) -> None:
    await warm(proxy, request(MANIFEST))
    kept = set(proxy.lane.answers)
    head = request(MANIFEST, line)
    tail = b"0\r\n\r\n" if "chunked" in line else b""
    for _ in range(3):
        async with connected(proxy.address) as client:
            await client.send(head + tail)
            assert (await client.receive()).status in {100, 200, 206}
    async with connected(proxy.address) as client:
        await client.send(request(MANIFEST, version="1.0"))
        assert (await client.receive()).status == 200
    assert set(proxy.lane.answers) == kept


async def test_without_memory_there_is_no_fast_lane(tmp_path: Path, upstream: FakeRegistry) -> None:
    upstream.add("app", IMAGES[0], "v1")
    async with (
        running(tmp_path, upstream, memory_bytes_max=0) as proxy,
        connected(proxy.address) as client,
    ):
        for _ in range(4):
            answer = await proxy.ask(client, request(MANIFEST))
            assert answer.body == IMAGES[0].manifest.body
        assert not proxy.lane.answers


async def test_a_drain_lets_go_of_clients_of_the_fast_lane(proxy: Proxy) -> None:
    head = request(MANIFEST)
    await warm(proxy, head)
    async with connected(proxy.address) as client:
        await proxy.ask(client, head)
        draining = asyncio.create_task(proxy.entrepot.drain())
        assert await client.closed()
        await draining
