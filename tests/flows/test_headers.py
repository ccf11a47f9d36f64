"""The headers that some client needs, on every way to the same content."""

from __future__ import annotations

import asyncio

import pytest

from proxy.oci.manifests import ACCEPT_ALL, OCI_INDEX, OCI_MANIFEST
from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Content, Image, image
from tests.support.raw_http import RawAnswer, exchange, request

SMALL, LARGE = 1000, 700_000
GZIP = "Accept-Encoding: zstd, gzip, deflate"


async def ask(proxy: Running, path: str, *lines: str, method: str = "GET") -> RawAnswer:
    data = request(path, *lines, method=method)
    return await exchange(proxy.entrepot.address, data, to_head=method == "HEAD")


def assert_describes(answer: RawAnswer, content: Content, media_type: str, method: str) -> None:
    assert answer.status == 200
    assert answer.one("Content-Type") == media_type
    assert answer.one("Content-Length") == str(content.size)
    assert answer.one("Docker-Content-Digest") == str(content.digest)
    assert answer.one("ETag") == f'"{content.digest}"'
    assert answer.one("Accept-Ranges") == "bytes"
    assert answer.one("Docker-Distribution-Api-Version") == "registry/2.0"
    assert answer.all("Content-Encoding") == answer.all("Transfer-Encoding") == []
    assert answer.body == (content.body if method == "GET" else b"")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("by", ["tag", "digest"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_manifest_is_described_alike_cold_and_warm(
    world: World, upstream: FakeRegistry, method: str, by: str, algorithm: str
) -> None:
    img = upstream.add("app", image(SMALL, algorithm=algorithm), "v1")
    proxy = await world.start({"lab": upstream})
    path = f"/v2/lab/app/manifests/{'v1' if by == 'tag' else img.digest}"
    for asked in (method, method, "GET", "HEAD"):
        answer = await ask(proxy, path, GZIP, method=asked)
        assert_describes(answer, img.manifest, OCI_MANIFEST, asked)
    assert {r.headers.get("Accept-Encoding") for r in upstream.seen} == {"identity"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_blob_is_described_alike_cold_and_warm(
    world: World, upstream: FakeRegistry, method: str, size: int
) -> None:
    layer = upstream.add("app", image(size), "v1").blobs[1]
    proxy = await world.start({"lab": upstream})
    for asked in (method, method, "GET", "HEAD"):
        answer = await ask(proxy, f"/v2/lab/app/blobs/{layer.digest}", GZIP, method=asked)
        assert_describes(answer, layer, "application/octet-stream", asked)
        assert answer.one("Cache-Control") == "max-age=31536000"
    assert {r.headers.get("Accept-Encoding") for r in upstream.seen} == {"identity"}


async def test_head_of_a_blob_in_flight_tells_its_size_and_asks_nobody(
    world: World, upstream: FakeRegistry
) -> None:
    layer = upstream.add("app", image(LARGE), "v1").blobs[1]
    held = asyncio.Event()
    upstream.inject(Fault(stall_at=300_000, stall=held), kind="blob")
    proxy = await world.start({"lab": upstream})
    path = f"/v2/lab/app/blobs/{layer.digest}"
    async with proxy.client.get(proxy.url + path) as leader:
        await leader.content.readexactly(10)
        answer = await ask(proxy, path, method="HEAD")
        assert_describes(answer, layer, "application/octet-stream", "HEAD")
        held.set()
        await leader.read()
    assert upstream.count(kind="blob") == 1


async def test_an_upstream_that_misnames_a_sha512_manifest_changes_nothing(
    world: World, upstream: FakeRegistry
) -> None:
    img = upstream.add("app", image(SMALL, algorithm="sha512"), "v1")
    upstream.quirks.digest_header = str(Content.of("", img.manifest.body).digest)
    proxy = await world.start({"lab": upstream})
    for method in ("HEAD", "GET", "HEAD"):
        answer = await ask(proxy, f"/v2/lab/app/manifests/{img.digest}", method=method)
        assert_describes(answer, img.manifest, OCI_MANIFEST, method)


@pytest.mark.parametrize("form", ['"{}"', 'W/"{}"', "{}", '"other", "{}"', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_not_modified_is_said_only_to_whom_it_was_asked_for(
    world: World, upstream: FakeRegistry, form: str, method: str
) -> None:
    img = upstream.add("app", image(SMALL), "v1")
    proxy = await world.start({"lab": upstream})
    for kind, content in (("manifests", img.manifest), ("blobs", img.blobs[1])):
        path = f"/v2/lab/app/{kind}/{content.digest}"
        # The first time it is cold.
        for _ in range(2):
            condition = f"If-None-Match: {form.format(content.digest)}"
            answer = await ask(proxy, path, condition, method=method)
            assert (answer.status, answer.body) == (304, b"")
            assert answer.one("ETag") == f'"{content.digest}"'
            assert answer.all("Transfer-Encoding") == []
        answer = await ask(proxy, path, 'If-None-Match: "sha256:0"', method=method)
        assert answer.status == 200
        assert (await ask(proxy, path, method=method)).status == 200


async def test_a_client_that_has_a_blob_causes_no_download_of_it(
    world: World, upstream: FakeRegistry
) -> None:
    layer = upstream.add("app", image(LARGE), "v1").blobs[1]
    proxy = await world.start({"lab": upstream})
    condition = f'If-None-Match: "{layer.digest}"'
    answer = await ask(proxy, f"/v2/lab/app/blobs/{layer.digest}", condition)
    assert answer.status == 304
    assert upstream.count(kind="blob", method="GET") == 0


async def test_ns_is_echoed_as_the_client_wrote_it_and_only_if_it_did(
    world: World, upstream: FakeRegistry
) -> None:
    img = upstream.add("app", image(SMALL), "v1")
    aliased = {"url": upstream.url, "aliases": ["lab.example:5000"]}
    proxy = await world.start({"lab": aliased})
    for path in (
        "/v2/app/manifests/v1",
        f"/v2/app/manifests/{img.digest}",
        f"/v2/app/blobs/{img.blobs[1].digest}",
        "/v2/app/tags/list",
        f"/v2/app/referrers/{img.digest}",
        "/v2/app/manifests/missing",
    ):
        for ns in ("lab", "LAB", "lab.example:5000"):
            answer = await ask(proxy, f"{path}?ns={ns}")
            assert answer.one("OCI-Namespace") == ns, path
        assert (await ask(proxy, path)).one("OCI-Namespace") is None


@pytest.mark.parametrize(
    ("path", "lines", "expected"),
    [
        ("/v2/lab/App/manifests/v1", (), (400, "NAME_INVALID")),
        ("/v2/lab/app/manifests/-v1", (), (400, "TAG_INVALID")),
        ("/v2/lab/app/blobs/sha256:short", (), (400, "DIGEST_INVALID")),
        ("/v2/lab/app/tags/list?n=many", (), (400, "PAGINATION_NUMBER_INVALID")),
        ("/v2/lab/app/manifests/missing", (), (404, "MANIFEST_UNKNOWN")),
        (f"/v2/lab/app/blobs/sha256:{'0' * 64}", (), (404, "BLOB_UNKNOWN")),
        ("/v2/app/manifests/v1?ns=elsewhere", (), (404, "NAME_UNKNOWN")),
        ("/nothing", (), (404, "NAME_UNKNOWN")),
        ("/v2/lab/app/manifests/v1", ("Range: bytes=999999-",), (416, "UNSUPPORTED")),
        ("/v2/lab/broken/manifests/v1", (), (503, "UNAVAILABLE")),
    ],
)
async def test_every_error_is_an_oci_envelope_and_has_no_body_for_head(
    world: World,
    upstream: FakeRegistry,
    path: str,
    lines: tuple[str, ...],
    expected: tuple[int, str],
) -> None:
    upstream.add("app", image(SMALL), "v1")
    upstream.inject(Fault(status=500), match=lambda s: s.repository == "broken", times=None)
    proxy = await world.start({"lab": upstream})
    answer = await ask(proxy, path, *lines)
    assert (answer.status, answer.code) == expected
    assert answer.one("Content-Type") == "application/json"
    assert answer.one("Docker-Distribution-Api-Version") == "registry/2.0"
    assert answer.all("WWW-Authenticate") == answer.all("Retry-After") == []
    if answer.status != 416:  # A range on HEAD means nothing.
        head = await ask(proxy, path, *lines, method="HEAD")
        assert (head.status, head.body) == (answer.status, b"")


async def test_accept_lines_are_joined_and_an_oci_type_they_exclude_is_unknown(
    world: World, upstream: FakeRegistry
) -> None:
    img = upstream.add("app", image(SMALL), "v1")
    proxy = await world.start({"lab": upstream})
    for method in ("HEAD", "GET", "HEAD"):
        for path in ("/v2/lab/app/manifests/v1", f"/v2/lab/app/manifests/{img.digest}"):
            lines = (f"Accept: {OCI_INDEX}", f"Accept: text/html, {OCI_MANIFEST}")
            assert (await ask(proxy, path, *lines, method=method)).status == 200
            for wide in ("Accept: */*", "Accept: application/*", "X-None: 1"):
                assert (await ask(proxy, path, wide, method=method)).status == 200
            refused = await ask(proxy, path, f"Accept: {OCI_INDEX}", method=method)
            assert refused.status == 404
            if method == "GET":
                assert refused.code == "MANIFEST_UNKNOWN"
    # A tag means the same for everyone, so the upstream is always asked for all.
    assert {r.headers["Accept"] for r in upstream.requests(kind="manifest")} == {ACCEPT_ALL}


async def test_a_docker_type_is_served_whatever_accept_says(
    world: World, upstream: FakeRegistry
) -> None:
    img: Image = upstream.add("app", image(SMALL, docker=True), "v1")
    proxy = await world.start({"lab": upstream})
    answer = await ask(proxy, "/v2/lab/app/manifests/v1", f"Accept: {OCI_MANIFEST}")
    assert (answer.status, answer.one("Content-Type")) == (200, img.manifest.media_type)
