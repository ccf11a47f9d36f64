"""The admin listener and web pages: what a browser may be made to send does nothing."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from proxy.web.ops import admin_app

Client = TestClient[web.Request, web.Application]


class Done:
    """What was really done."""

    def __init__(self) -> None:
        self.scrubs = 0
        self.bodies: list[bytes] = []

    async def scrub(self) -> dict[str, object]:
        self.scrubs += 1
        return {}

    async def take(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        return web.Response()


@pytest.fixture
def done() -> Done:
    return Done()


@pytest.fixture
async def client(done: Done) -> AsyncIterator[Client]:
    async def nothing(*_arguments: object) -> dict[str, object]:
        return {}

    app = admin_app(
        ready=lambda: None,
        metrics=lambda: b"",
        status=dict,
        scrub=done.scrub,
        evict=nothing,
        explain=nothing,
        more=[web.put("/bundles/blob", done.take), web.post("/keep/rm", done.take)],
        hosts=("proxy.corp.example:5001",),
    )
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},
        {"Host": "evil.example:5001"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "svc.evil.example."},
    ],
)
async def test_what_a_web_page_can_send_does_nothing(
    client: Client, done: Done, headers: dict[str, str]
) -> None:
    for method, path in (("POST", "/scrub"), ("GET", "/status"), ("PUT", "/bundles/blob")):
        answer = await client.request(method, path, headers=headers)
        assert answer.status == 403
        assert "admin listener" in await answer.text()
    assert (done.scrubs, done.bodies) == (0, [])


@pytest.mark.parametrize(
    "media",
    [
        "text/plain",
        "text/plain; x=application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
    ],
)
async def test_a_post_of_a_type_that_pages_may_send_does_nothing(
    client: Client, done: Done, media: str
) -> None:
    answer = await client.post("/keep/rm", data=b"{}", headers={"Content-Type": media})
    assert answer.status == 403
    assert "application/json" in await answer.text()
    assert done.bodies == []


async def test_a_body_without_a_type_is_taken_only_where_a_page_must_ask_first(
    client: Client, done: Done
) -> None:
    bare = {"skip_auto_headers": ["Content-Type"]}
    assert (await client.post("/keep/rm", data=b"{}", **bare)).status == 403
    assert (await client.put("/bundles/blob", data=b"bytes", **bare)).status == 200
    assert (await client.put("/bundles/blob", data=b"bytes")).status == 200
    text = {"Content-Type": "text/plain"}
    assert (await client.put("/bundles/blob", data=b"bytes", headers=text)).status == 403
    assert done.bodies == [b"bytes", b"bytes"]


async def test_commands_work_with_json_or_with_nothing(client: Client, done: Done) -> None:
    assert (await client.post("/keep/rm", json={})).status == 200
    utf8 = {"Content-Type": "application/json; charset=utf-8"}
    assert (await client.post("/keep/rm", data=b"{}", headers=utf8)).status == 200
    assert (await client.post("/scrub")).status == 200
    assert (await client.post("/scrub", data=b"")).status == 200
    # As typed into the browser by the operator.
    assert (await client.get("/status", headers={"Sec-Fetch-Site": "none"})).status == 200
    assert done.scrubs == 2


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.2.3.4:5001",
        "[::1]:5001",
        "[fe80::1]",
        "localhost:5001",
        "entrepot:5001",
        "Entrepot.Registry.svc:5001",
        "entrepot-0.entrepot.registry.svc.cluster.local:5001",
        "nas.local",
        "cache.internal.",
        "x.localhost",
        "proxy.corp.example",
        "PROXY.corp.example.:9",
        socket.gethostname(),
    ],
)
async def test_addresses_private_names_and_those_allowed_are_answered(
    client: Client, host: str
) -> None:
    assert (await client.get("/status", headers={"Host": host})).status == 200


async def test_probes_and_metrics_are_answered_by_any_name_but_not_to_pages(
    client: Client,
) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        assert (await client.get(path, headers={"Host": "evil.example"})).status == 200
        assert (await client.get(path, headers={"Origin": "http://a.example"})).status == 403
