"""Every way in which clients name an upstream, and the HTTP they do it with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeRegistry
from tests.support.images import Image, image
from tests.support.raw_http import connected, exchange, request

HUB_IMAGE = image(2000, seed="hub")
LAB_IMAGE = image(3000, seed="lab")


@pytest.fixture
async def hub() -> AsyncIterator[FakeRegistry]:
    """Docker Hub's stand-in; also has a project with a registry's name."""
    async with FakeRegistry() as registry:
        registry.add("library/alpine", HUB_IMAGE, "v1")
        registry.add("team/app", HUB_IMAGE, "v1")
        registry.add("lab/app", HUB_IMAGE, "v1")
        yield registry


@pytest.fixture
async def lab() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as registry:
        registry.add("app", LAB_IMAGE, "v1")
        registry.add("docker.io/app", LAB_IMAGE, "v1")
        registry.add("tags/manifests/blobs", LAB_IMAGE, "v1")
        yield registry


@pytest.fixture
async def proxy(world: World, hub: FakeRegistry, lab: FakeRegistry) -> Running:
    upstreams: dict[str, FakeRegistry | dict[str, Any]] = {
        "docker.io": {
            "url": hub.url,
            "library": True,
            "aliases": ["index.docker.io", "registry-1.docker.io"],
        },
        "lab": {"url": lab.url, "aliases": ["lab.example:5000"], "hosts": ["lab.internal"]},
    }
    return await world.start(upstreams)


HUB = [
    # A: the default upstream, or `ns`
    "/v2/library/alpine/{}",
    "/v2/alpine/{}",
    "/v2/team/app/{}",
    "/v2/library/alpine/{}?ns=docker.io",
    "/v2/alpine/{}?ns=registry-1.docker.io",  # regctl
    "/v2/alpine/{}?ns=DOCKER.IO&other=1",
    # B: the prefix after /v2, with or without the same `ns`
    "/v2/docker.io/library/alpine/{}",
    "/v2/docker.io/alpine/{}",
    "/v2/index.docker.io/library/alpine/{}",
    "/v2/docker.io/library/alpine/{}?ns=docker.io",
    "/v2/docker.io/library/alpine/{}?ns=registry-1.docker.io",
    # C: the prefix before /v2
    "/docker.io/v2/library/alpine/{}",
    "/docker.io/v2/alpine/{}",
    "/docker.io/v2/alpine/{}?ns=docker.io",
    "/docker.io/v2/alpine/{}?ns=lab",  # C wins over any `ns`
    # `ns` wins over a prefix that names another: a project may have that name
    "/v2/lab/app/{}?ns=docker.io",
]
LAB = [
    "/v2/app/{}?ns=lab",
    "/v2/app/{}?ns=lab.example:5000",
    "/v2/app/{}?ns=lab.example%3A5000",
    "/v2/lab/app/{}",
    "/v2/lab/app/{}?ns=lab",
    "/v2/lab/app/{}?ns=lab.example:5000",
    "/lab/v2/app/{}",
    "/lab/v2/app/{}?ns=docker.io",
    "/v2/docker.io/app/{}?ns=lab",
    "/v2/lab/tags/manifests/blobs/{}",
]


@pytest.mark.parametrize(
    ("shape", "expected"), [(s, HUB_IMAGE) for s in HUB] + [(s, LAB_IMAGE) for s in LAB]
)
async def test_each_shape_reaches_its_upstream(proxy: Running, shape: str, expected: Image) -> None:
    blob = expected.blobs[1]
    by_tag = await proxy.ask(shape.format("manifests/v1"))
    assert (by_tag.status, by_tag.body) == (200, expected.manifest.body)
    by_digest = await proxy.ask(shape.format(f"manifests/{expected.digest}"))
    assert by_digest.body == expected.manifest.body
    layer = await proxy.ask(shape.format(f"blobs/{blob.digest}"))
    assert (layer.status, layer.body) == (200, blob.body)
    escaped = await proxy.ask(shape.format(f"blobs/{str(blob.digest).replace(':', '%3A')}"))
    assert (escaped.status, escaped.body) == (200, blob.body)
    tags = await proxy.ask(shape.format("tags/list"))
    assert (tags.status, b'"v1"' in tags.body) == (200, True)


async def test_the_same_image_by_all_its_names_is_fetched_once(
    proxy: Running, hub: FakeRegistry
) -> None:
    blob = HUB_IMAGE.blobs[1]
    for shape in HUB:
        if "team" not in shape and "lab/app" not in shape:
            assert (await proxy.ask(shape.format(f"blobs/{blob.digest}"))).status == 200
    assert hub.count(kind="blob") == 1


async def test_the_listeners_host_names_an_upstream_if_nothing_else_does(
    proxy: Running, hub: FakeRegistry
) -> None:
    address = proxy.entrepot.address
    for host in ("lab.internal", "LAB.internal:5000", "lab.internal."):
        answer = await exchange(address, request("/v2/app/manifests/v1", host=host))
        assert (answer.status, answer.body) == (200, LAB_IMAGE.manifest.body)
    assert hub.seen == []
    other = request("/v2/alpine/manifests/v1?ns=docker.io", host="lab.internal")
    assert (await exchange(address, other)).body == HUB_IMAGE.manifest.body


@pytest.mark.parametrize(
    "path",
    [
        "/v2/app/manifests/v1?ns=elsewhere.example",
        "/v2/app/manifests/v1?ns=127.0.0.1:1",
        "/v2/app/manifests/v1?ns=lab.example:5001",
        "/v2/lab/app/manifests/v1?ns=elsewhere.example",
        "/elsewhere.example/v2/app/manifests/v1",
        # Nobody on Docker Hub has a dot in their name: another registry's.
        "/v2/elsewhere.example/app/manifests/v1",
        "/elsewhere.example/v2/",
    ],
)
async def test_an_upstream_that_is_not_configured_is_unknown_and_never_dialled(
    proxy: Running, hub: FakeRegistry, lab: FakeRegistry, path: str
) -> None:
    answer = await exchange(proxy.entrepot.address, request(path))
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")
    assert answer.one("OCI-Namespace") is None
    assert hub.seen == lab.seen == []


@pytest.mark.parametrize(
    "path",
    ["/v2/", "/v2", "/docker.io/v2/", "/docker.io/v2", "/lab/v2/", "/v2/lab/", "/v2/?ns=lab"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_ping_of_any_shape_is_answered_without_a_challenge(
    proxy: Running, hub: FakeRegistry, lab: FakeRegistry, path: str, method: str
) -> None:
    data = request(path, method=method)
    answer = await exchange(proxy.entrepot.address, data, to_head=method == "HEAD")
    assert (answer.status, answer.body) == (200, b"{}" if method == "GET" else b"")
    assert answer.one("Content-Type") == "application/json"
    assert answer.one("Docker-Distribution-Api-Version") == "registry/2.0"
    assert answer.all("WWW-Authenticate") == []
    assert hub.seen == lab.seen == []


async def test_an_absolute_request_target_is_understood_and_its_host_counts(
    proxy: Running,
) -> None:
    address = proxy.entrepot.address
    for target, expected in (
        (f"http://{address}/v2/lab/app/manifests/v1", LAB_IMAGE),
        ("http://lab.internal:80/v2/app/manifests/v1", LAB_IMAGE),
    ):
        answer = await exchange(address, request(target))
        assert (answer.status, answer.body) == (200, expected.manifest.body)


async def test_an_http_1_0_client_gets_a_whole_answer_and_the_end(proxy: Running) -> None:
    blob = LAB_IMAGE.blobs[1]
    async with connected(proxy.entrepot.address) as client:
        await client.send(request(f"/v2/lab/app/blobs/{blob.digest}", version="1.0", host=None))
        answer = await client.receive()
        assert (answer.status, answer.body) == (200, blob.body)
        assert answer.one("Content-Length") == str(blob.size)
        assert await client.closed()


async def test_a_connection_is_kept_over_answers_of_every_kind(
    world: World, lab: FakeRegistry
) -> None:
    large = lab.add("large", image(2_000_000, seed="large"), "v1").blobs[1]
    proxy = await world.start({"lab": lab})
    blob = f"/v2/lab/large/blobs/{large.digest}"
    async with connected(proxy.entrepot.address) as client:
        for path, lines, method, status, body in (
            ("/v2/", (), "GET", 200, b"{}"),
            (blob, (), "GET", 200, large.body),
            (blob, (), "HEAD", 200, b""),
            (blob, ("Range: bytes=5-1000005",), "GET", 206, large.body[5:1_000_006]),
            (blob, (f'If-None-Match: "{large.digest}"',), "GET", 304, b""),
            (blob, ("Range: bytes=2000000-",), "GET", 416, None),
            ("/v2/lab/app/manifests/none", (), "HEAD", 404, b""),
            ("/v2/lab/app/manifests/none", (), "GET", 404, None),
            ("/v2/lab/app/manifests/v1", (), "GET", 200, LAB_IMAGE.manifest.body),
            ("/v2/lab/app/blobs/uploads/", ("Content-Length: 0",), "POST", 405, None),
            (blob, (), "GET", 200, large.body),
        ):
            await client.send(request(path, *lines, method=method))
            answer = await client.receive(to_head=method == "HEAD")
            assert answer.status == status, path
            assert body is None or answer.body == body


async def test_pipelined_requests_are_answered_in_order(world: World, lab: FakeRegistry) -> None:
    large = lab.add("large", image(2_000_000, seed="large"), "v1").blobs[1]
    proxy = await world.start({"lab": lab})
    paths = [
        f"/v2/lab/large/blobs/{large.digest}",
        "/v2/lab/app/manifests/none",
        "/v2/lab/app/manifests/v1",
        f"/v2/lab/large/blobs/{large.digest}",
        "/v2/",
    ]
    bodies = [large.body, None, LAB_IMAGE.manifest.body, large.body, b"{}"]
    async with connected(proxy.entrepot.address) as client:
        await client.send(b"".join(request(path) for path in paths))
        for body in bodies:
            answer = await client.receive()
            assert answer.status == (404 if body is None else 200)
            assert body is None or answer.body == body
