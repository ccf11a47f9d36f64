"""What clients may not send: refused early, in bounded time, nothing looked up."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from proxy.web.server import PullServer, listen
from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeRegistry
from tests.support.images import image
from tests.support.raw_http import connected, exchange, request

ZEROS = "0" * 64


@pytest.fixture
async def proxy(world: World, upstream: FakeRegistry) -> Running:
    upstream.add("app", image(1000), "v1")
    return await world.start({"lab": upstream})


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/lab/App/manifests/v1", "NAME_INVALID"),
        ("/v2/lab/a__-b/manifests/v1", "NAME_INVALID"),
        ("/v2/lab/app-/manifests/v1", "NAME_INVALID"),
        (f"/v2/lab/{'a' * 300}/manifests/v1", "NAME_INVALID"),
        ("/v2/lab/app//x/manifests/v1", "NAME_INVALID"),
        ("/v2/lab/../app/manifests/v1", "NAME_INVALID"),
        ("/v2/lab/./app/manifests/v1", "NAME_INVALID"),
        ("/v2/lab/app/manifests/..", "NAME_INVALID"),
        ("/v2/lab/app%2Fx/manifests/v1", "NAME_INVALID"),
        ("/v2/lab/%2e%2e/app/manifests/v1", "NAME_INVALID"),
        ("/v2/lab/app/manifests/v1%00", "NAME_INVALID"),
        ("/v2/lab/app/manifests/v1%0a", "NAME_INVALID"),
        ("/v2/lab\\app/manifests/v1", "NAME_INVALID"),
        ("/v2/lab/_tags/manifests/v1", "NAME_INVALID"),
        (f"/v2/lab/{'a/' * 2500}app/manifests/v1", "NAME_INVALID"),
        ("/v2/lab/app/manifests/.v1", "TAG_INVALID"),
        ("/v2/lab/app/manifests/v+1", "TAG_INVALID"),
        (f"/v2/lab/app/manifests/{'v' * 129}", "TAG_INVALID"),
        ("/v2/lab/app/manifests/sha256:baddigeststring", "DIGEST_INVALID"),
        (f"/v2/lab/app/manifests/sha256:{'A' * 64}", "DIGEST_INVALID"),
        (f"/v2/lab/app/blobs/sha256:{ZEROS}0", "DIGEST_INVALID"),
        (f"/v2/lab/app/blobs/md5:{'0' * 32}", "DIGEST_INVALID"),
        (f"/v2/lab/app/blobs/{ZEROS}", "DIGEST_INVALID"),
        (f"/v2/lab/app/referrers/sha512:{ZEROS}", "DIGEST_INVALID"),
        ("/v2/lab/app/tags/list?n=-1", "PAGINATION_NUMBER_INVALID"),
        ("/v2/lab/app/tags/list?n=99999999999", "PAGINATION_NUMBER_INVALID"),
        ("/v2/lab/app/tags/list?last=%00", "PAGINATION_NUMBER_INVALID"),
    ],
)
async def test_malformed_requests_are_400_and_the_upstream_is_not_asked(
    proxy: Running, upstream: FakeRegistry, path: str, code: str
) -> None:
    answer = await exchange(proxy.entrepot.address, request(path))
    assert (answer.status, answer.code) == (400, code)
    assert answer.one("Content-Type") == "application/json"
    head = request(path, method="HEAD")
    answer = await exchange(proxy.entrepot.address, head, to_head=True)
    assert (answer.status, answer.body) == (400, b"")
    assert upstream.seen == []


@pytest.mark.parametrize(
    "data",
    [
        request(f"/v2/lab/{'a' * 10_000}/manifests/v1"),
        request("/v2/lab/app/manifests/v1", *[f"X-{number}: 1" for number in range(129)]),
        request("/v2/lab/app/manifests/v1", f"X: {'a' * 70_000}"),
        request("/v2/lab/app/manifests/v1\0"),
        request("/v2/lab/app/manifests/v1", "Bad Name: 1"),
        request("/v2/lab/app/manifests/v1", "Content-Length: 1", "Content-Length: 2"),
        request("/v2/lab/app/manifests/v1", "Content-Length: 1", "Transfer-Encoding: chunked"),
        request("/v2/lab/app/manifests/v1", version="x.y"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS\r\n\r\n",
        b"what is this?\r\n\r\n",
    ],
    ids=[
        "target too long",
        "too many fields",
        "field too long",
        "NUL",
        "bad field name",
        "two lengths",
        "length and chunked",
        "version",
        "TLS",
        "prose",
    ],
)
async def test_what_the_parser_refuses_is_answered_in_plain_words_and_ends_the_connection(
    proxy: Running, upstream: FakeRegistry, data: bytes
) -> None:
    async with connected(proxy.entrepot.address) as client:
        await client.send(data)
        answer = await client.receive()
        assert (answer.status, answer.code) == (400, "UNSUPPORTED")
        assert answer.one("Content-Type") == "application/json"
        assert answer.one("Docker-Distribution-Api-Version") == "registry/2.0"
        for internal in (b"bytearray", b"Got more than", b"b'", b"aaaa", b"\\r"):
            assert internal not in answer.body
        assert await client.closed()
    assert upstream.seen == []


async def test_a_header_flood_below_the_limits_is_served(proxy: Running) -> None:
    lines = [f"X-{number}: {'a' * 400}" for number in range(100)]
    answer = await exchange(
        proxy.entrepot.address,
        request("/v2/lab/app/manifests/v1", *lines, f"Range: bytes=0-1,{' ' * 65_000}"),
    )
    assert answer.status == 206


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize(
    "path",
    ["/v2/", "/v2/lab/app/manifests/v1", "/v2/lab/app/blobs/uploads/", "/lab/v2/app/tags/list"],
)
async def test_whatever_would_change_something_is_405_and_says_what_is_allowed(
    proxy: Running, upstream: FakeRegistry, method: str, path: str
) -> None:
    data = request(path, "Content-Length: 5", method=method) + b"hello"
    async with connected(proxy.entrepot.address) as client:
        await client.send(data)
        answer = await client.receive()
        if answer.status == 405:
            assert answer.code == "UNSUPPORTED"
            assert answer.one("Allow") == "GET, HEAD"
            # The body was skipped: the next request is read as one.
            await client.send(request("/v2/"))
            assert (await client.receive()).body == b"{}"
        else:
            # A method that HTTP does not know is the parser's to refuse.
            assert (answer.status, method) == (400, "BREW")
    assert upstream.seen == []


async def test_a_large_push_is_refused_at_its_head_not_at_its_end(proxy: Running) -> None:
    head = request("/v2/lab/app/blobs/uploads/x", "Content-Length: 1000000000", method="PATCH")
    async with connected(proxy.entrepot.address) as client:
        await client.send(head + b"\0" * 1000)
        assert (await client.receive()).status == 405


async def test_a_body_on_get_is_read_over_and_changes_nothing(proxy: Running) -> None:
    path = "/v2/lab/app/manifests/v1"
    async with connected(proxy.entrepot.address) as client:
        await client.send(request(path, "Content-Length: 100000") + b"x" * 100_000)
        first = await client.receive()
        await client.send(request(path, "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n")
        second = await client.receive()
        assert (first.status, second.status) == (200, 200)
        assert first.body == second.body


async def test_chunked_garbage_ends_the_connection_and_nothing_else(proxy: Running) -> None:
    path = "/v2/lab/app/manifests/v1"
    async with connected(proxy.entrepot.address) as client:
        await client.send(request(path, "Transfer-Encoding: chunked") + b"zz\r\nnonsense\r\n")
        answer = await client.receive()
        assert answer.status in {200, 400}
        assert await client.closed()
    assert (await proxy.ask(path)).status == 200


@pytest.mark.parametrize("sent", [b"", b"GET /v2/ HTTP/1.1\r\nHost: pro"])
async def test_a_client_that_never_ends_its_head_is_let_go(sent: bytes) -> None:
    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError("there was no request")

    server = PullServer(handler, connections_max=10, header_bytes_max=8192, first_head_s=0.05)
    runner = web.ServerRunner(server)
    await runner.setup()
    try:
        await listen(runner, "127.0.0.1:0")
        host, port = runner.addresses[0][:2]
        async with connected(f"{host}:{port}") as client:
            await client.send(sent)
            assert await client.closed()
    finally:
        await runner.cleanup()


@pytest.fixture
async def full(world: World, upstream: FakeRegistry) -> AsyncIterator[Running]:
    """Two connections may be open, and they are."""
    upstream.add("app", image(1000), "v1")
    proxy = await world.start({"lab": upstream}, connections_max=2)
    async with (
        connected(proxy.entrepot.address) as one,
        connected(proxy.entrepot.address) as other,
    ):
        for client in (one, other):
            await client.send(request("/v2/"))
            await client.receive()
        yield proxy


async def test_a_connection_above_the_limit_is_answered_503_and_closed(full: Running) -> None:
    for ask_first in (True, False):
        async with connected(full.entrepot.address) as client:
            if ask_first:
                await client.send(request("/v2/lab/app/manifests/v1"))
            answer = await client.receive()
            assert (answer.status, answer.code) == (503, "UNAVAILABLE")
            assert answer.one("Connection") == "close"
            assert answer.one("Docker-Distribution-Api-Version") == "registry/2.0"
            assert await client.closed()


async def test_room_that_comes_free_is_given_to_the_next(
    world: World, upstream: FakeRegistry
) -> None:
    proxy = await world.start({"lab": upstream}, connections_max=1)
    for _ in range(5):
        async with connected(proxy.entrepot.address) as client:
            await client.send(request("/v2/", "Connection: close"))
            assert (await client.receive()).status == 200
            assert await client.closed()


async def test_nothing_of_all_this_is_logged_as_a_fault_of_ours(
    proxy: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), capture_logs() as lines:
        for data in (b"what?\r\n\r\n", request("/v2/lab/App/manifests/v1"), b"GET"):
            async with connected(proxy.entrepot.address) as client:
                await client.send(data)
                if data != b"GET":
                    await client.receive()
        # Answered after the others' connections were dealt with.
        assert (await proxy.ask("/v2/")).status == 200
    assert caplog.records == lines == []
