"""What is sent as JSON is read, but not without end."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from proxy.errors import InvalidRequest
from proxy.web.bodies import BODY_BYTES_MAX, json_body

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async def page(request: web.Request) -> web.Response:
        try:
            return web.json_response(await json_body(request))
        except InvalidRequest as error:
            return web.Response(status=400, text=str(error))

    app = web.Application()
    app.router.add_post("/", page)
    async with TestClient(TestServer(app)) as client:
        yield client


async def sent(client: Client, data: object) -> tuple[int, str]:
    async with client.post("/", data=data) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize("document", [{"images": ["a", "ä"]}, [], None, "text", 7])
async def test_any_json_is_what_was_sent(client: Client, document: object) -> None:
    status, text = await sent(client, json.dumps(document).encode())
    assert (status, json.loads(text)) == (200, document)


async def test_it_may_come_in_pieces(client: Client) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b'{"images"', b': ["a', b'pp"]}'):
            yield piece

    status, text = await sent(client, pieces())
    assert (status, json.loads(text)) == (200, {"images": ["app"]})


async def test_nothing_at_all_is_an_empty_object(client: Client) -> None:
    assert await sent(client, b"") == (200, "{}")


@pytest.mark.parametrize("body", [b"{", b" ", b"\xff\xfe", b"[" * 100_000, b"nothing"])
async def test_what_is_not_json_is_refused(client: Client, body: bytes) -> None:
    assert await sent(client, body) == (400, "must be JSON")


async def test_it_may_be_as_long_as_that_and_no_longer(client: Client) -> None:
    longest = b'"' + b"x" * (BODY_BYTES_MAX - 2) + b'"'
    status, text = await sent(client, io.BytesIO(longest))
    assert (status, len(text)) == (200, BODY_BYTES_MAX)
    assert await sent(client, io.BytesIO(longest + b" ")) == (400, "the body has more than 16 MiB")
