"""Ranges: the same answer on hit, on miss and while the blob is in flight."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.flows.conftest import Answer, Running, World
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Content, image
from tests.support.raw_http import exchange, request

SIZE = 900_000
MANIFEST_TYPES = "application/vnd.oci.image.manifest.v1+json"
STATES = ("cold", "in flight", "held", "held, new process")
PART = re.compile(
    rb"--([0-9a-f]+)\r\nContent-Type: ([^\r]+)\r\nContent-Range: bytes (\d+)-(\d+)/(\d+)\r\n\r\n"
)


def parts_of(answer: Answer) -> list[tuple[int, int, bytes]]:
    """Start, exclusive end and bytes of each part, read as a client would."""
    boundary = answer.headers["Content-Type"].removeprefix("multipart/byteranges; boundary=")
    body, at, found = answer.body, 0, []
    # By position: a thousand parts are not to be a thousand copies of the rest.
    while (match := PART.match(body, at)) is not None:
        assert match[1].decode() == boundary
        start, end = int(match[3]), int(match[4]) + 1
        at = match.end() + end - start
        found.append((start, end, body[match.end() : at]))
        at += 2 * body.startswith(b"\r\n", at)
    assert body[at:] == f"--{boundary}--\r\n".encode()
    return found


async def in_state(world: World, upstream: FakeRegistry, state: str, blob: Content) -> Running:
    """A proxy in which the blob is so."""
    path = f"/v2/lab/app/blobs/{blob.digest}"
    if state == "in flight":
        upstream.inject(Fault(stall_at=SIZE // 2, stall=asyncio.Event()), kind="blob")
    proxy = await world.start({"lab": upstream})
    if state == "in flight":
        response = await world.stack.enter_async_context(proxy.client.get(proxy.url + path))
        await response.content.readexactly(SIZE // 3)
    if state.startswith("held"):
        assert (await proxy.ask(path)).body == blob.body
        await proxy.settled()
    if state == "held, new process":
        await world.stack.aclose()
        proxy = await world.start({"lab": upstream})
    return proxy


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    ("asked", "span"),
    [
        ("bytes=0-1", (0, 2)),
        ("bytes=1000-99999", (1000, 100_000)),
        ("bytes=0-0", (0, 1)),
        ("bytes=  7-8 ", (7, 9)),
        ("Bytes=5-6", (5, 7)),
    ],
)
async def test_a_single_range_is_the_same_in_every_state(
    world: World, upstream: FakeRegistry, state: str, asked: str, span: tuple[int, int]
) -> None:
    start, end = span
    blob = upstream.add("app", image(SIZE), "v1").blobs[1]
    proxy = await in_state(world, upstream, state, blob)
    answer = await proxy.ask(f"/v2/lab/app/blobs/{blob.digest}", Range=asked)
    assert (answer.status, answer.body) == (206, blob.body[start:end])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert answer.headers["Content-Length"] == str(end - start)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Docker-Content-Digest"] == str(blob.digest)


@pytest.mark.parametrize("state", ["cold", "held", "held, new process"])
@pytest.mark.parametrize(
    ("asked", "start"),
    [
        ("bytes=1000-", 1000),
        ("bytes=0-", 0),
        (f"bytes={SIZE - 1}-", SIZE - 1),
        ("bytes=-500", SIZE - 500),
        (f"bytes=-{SIZE + 5}", 0),
        # regctl resumes with an end that is one past the last byte.
        (f"bytes=450000-{SIZE}", 450_000),
        ("bytes=450000-99999999999999999999999999", 450_000),
    ],
)
async def test_open_suffix_and_overlong_ranges_reach_the_last_byte(
    world: World, upstream: FakeRegistry, state: str, asked: str, start: int
) -> None:
    blob = upstream.add("app", image(SIZE), "v1").blobs[1]
    proxy = await in_state(world, upstream, state, blob)
    answer = await proxy.ask(f"/v2/lab/app/blobs/{blob.digest}", Range=asked)
    assert (answer.status, answer.body) == (206, blob.body[start:])
    assert answer.headers["Content-Range"] == f"bytes {start}-{SIZE - 1}/{SIZE}"


@pytest.mark.parametrize("state", STATES)
async def test_several_ranges_come_as_as_many_parts_in_the_order_asked(
    world: World, upstream: FakeRegistry, state: str
) -> None:
    blob = upstream.add("app", image(SIZE), "v1").blobs[1]
    proxy = await in_state(world, upstream, state, blob)
    # Out of order, touching, one byte long: nothing is sorted or merged.
    asked = [(250_000, 250_100), (0, 1), (1, 9), (100, 200_000), (9, 20)]
    header = "bytes=" + ",".join(f"{a}-{b - 1}" for a, b in asked)
    answer = await proxy.ask(f"/v2/lab/app/blobs/{blob.digest}", Range=header)
    assert answer.status == 206
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert "Content-Range" not in answer.headers
    assert parts_of(answer) == [(a, b, blob.body[a:b]) for a, b in asked]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=9999999-10000000", "bytes=-0"])
async def test_a_range_beyond_the_end_is_refused_with_the_size(
    world: World, upstream: FakeRegistry, state: str, asked: str
) -> None:
    blob = upstream.add("app", image(SIZE), "v1").blobs[1]
    proxy = await in_state(world, upstream, state, blob)
    answer = await proxy.ask(f"/v2/lab/app/blobs/{blob.digest}", Range=asked)
    assert answer.status == 416
    assert answer.headers["Content-Range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize("asked", ["items=0-1", "bytes=", "bytes=9-7", "bytes=a-b", "bytes=-"])
async def test_what_is_no_byte_range_gets_the_whole(
    world: World, upstream: FakeRegistry, asked: str
) -> None:
    blob = upstream.add("app", image(SIZE), "v1").blobs[1]
    proxy = await world.start({"lab": upstream})
    for _ in range(2):
        answer = await proxy.ask(f"/v2/lab/app/blobs/{blob.digest}", Range=asked)
        assert (answer.status, answer.body) == (200, blob.body)


async def test_if_range_allows_a_range_only_with_the_blobs_own_tag(
    world: World, upstream: FakeRegistry
) -> None:
    blob = upstream.add("app", image(SIZE), "v1").blobs[1]
    proxy = await world.start({"lab": upstream})
    path = f"/v2/lab/app/blobs/{blob.digest}"
    for condition, status in (
        (f'"{blob.digest}"', 206),
        (f'W/"{blob.digest}"', 200),
        ('"sha256:other"', 200),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 200),
    ):
        answer = await proxy.ask(path, Range="bytes=5-9", If_Range=condition)
        assert answer.status == status
        assert answer.body == (blob.body[5:10] if status == 206 else blob.body)


async def test_ranges_of_manifests_work_and_head_ignores_them(
    world: World, upstream: FakeRegistry
) -> None:
    img = upstream.add("app", image(SIZE), "v1")
    body, blob = img.manifest.body, img.blobs[1]
    proxy = await world.start({"lab": upstream})
    for path in ("/v2/lab/app/manifests/v1", f"/v2/lab/app/manifests/{img.digest}"):
        answer = await proxy.ask(path, Range="bytes=5-")
        assert (answer.status, answer.body) == (206, body[5:])
        assert answer.headers["Content-Type"] == MANIFEST_TYPES
        assert parts_of(await proxy.ask(path, Range="bytes=3-4,0-1")) == [
            (3, 5, body[3:5]),
            (0, 2, body[:2]),
        ]
        head = await proxy.ask(path, "HEAD", Range="bytes=5-6")
        assert (head.status, head.headers["Content-Length"]) == (200, str(len(body)))
    head = await proxy.ask(f"/v2/lab/app/blobs/{blob.digest}", "HEAD", Range="bytes=5-6")
    assert (head.status, head.headers["Content-Length"]) == (200, str(SIZE))


async def test_a_thousand_ranges_in_a_64_kib_header_are_served(
    world: World, upstream: FakeRegistry
) -> None:
    blob = upstream.add("app", image(SIZE), "v1").blobs[1]
    proxy = await world.start({"lab": upstream})
    asked = [(number * 800, number * 800 + 10) for number in range(1024)]
    header = "bytes=" + ",".join(f"{a}-{b - 1}".rjust(62) for a, b in asked)
    assert 64_000 < len(header) < 65_536
    path = f"/v2/lab/app/blobs/{blob.digest}"
    for _ in range(2):  # cold, then held
        answer = await proxy.ask(path, Range=header)
        assert parts_of(answer) == [(a, b, blob.body[a:b]) for a, b in asked]


async def test_too_many_overlapping_or_contradicting_ranges_are_refused(
    world: World, upstream: FakeRegistry
) -> None:
    blob = upstream.add("app", image(SIZE), "v1").blobs[1]
    proxy = await world.start({"lab": upstream})
    path = f"/v2/lab/app/blobs/{blob.digest}"
    address = proxy.entrepot.address
    many = ",".join(["0-1"] * 1025)
    overlapping = ",".join(["0-"] * 3)
    for lines in (
        (f"Range: bytes={many}",),
        (f"Range: bytes={overlapping}",),
        ("Range: bytes=0-1", "Range: bytes=5-6"),
    ):
        answer = await exchange(address, request(path, *lines))
        assert (answer.status, answer.code) == (400, "UNSUPPORTED")
    # The same one twice says the same thing.
    answer = await exchange(address, request(path, "Range: bytes=0-1", "Range: bytes=0-1"))
    assert (answer.status, answer.body) == (206, blob.body[:2])


async def test_a_client_that_hangs_up_on_an_open_range_does_not_stop_the_fill(
    world: World, upstream: FakeRegistry
) -> None:
    blob = upstream.add("app", image(4_000_000), "v1").blobs[1]
    held = asyncio.Event()
    upstream.inject(Fault(stall_at=1_000_000, stall=held), kind="blob")
    proxy = await world.start({"lab": upstream})
    path = f"/v2/lab/app/blobs/{blob.digest}"
    for offset in (0, 200_000, 500_000):  # as containerd's parallel fetch does
        async with proxy.client.get(
            proxy.url + path, headers={"Range": f"bytes={offset}-"}
        ) as response:
            chunk = await response.content.readexactly(50_000)
            assert chunk == blob.body[offset : offset + 50_000]
            response.close()
    held.set()
    answer = await proxy.ask(path, Range="bytes=3999990-")
    assert answer.body == blob.body[-10:]
    assert (await proxy.ask(path)).body == blob.body
    assert upstream.count(kind="blob", method="GET") == 1
