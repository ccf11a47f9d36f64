"""Ranges in a fleet: the same bytes and headers on whichever replica, and nothing from the
upstream once S3 has the blob.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from tests.cluster.conftest import REPLICAS, Cluster, layer, right
from tests.support.fake_registry import Fault
from tests.support.images import Content, image
from tests.support.waiting import until

MIB = 1024 * 1024
SIZE = 48 * MIB
TAIL_BYTES = 2 * MIB
BOUNDARY = re.compile(rb"^--([0-9a-f]{32})\r\n")
Span = tuple[int, int]
"""First byte and exclusive end."""

ASKED: dict[str, list[Span]] = {
    "bytes=0-1": [(0, 2)],
    f"bytes={20 * MIB}-{21 * MIB - 1}": [(20 * MIB, 21 * MIB)],
    f"bytes={SIZE - 3}-{SIZE + 9}": [(SIZE - 3, SIZE)],
    "bytes=-70000": [(SIZE - 70_000, SIZE)],
    f"bytes={SIZE - TAIL_BYTES}-": [(SIZE - TAIL_BYTES, SIZE)],
    f"bytes={9 * MIB}-{9 * MIB + 99},0-1,{30 * MIB}-{31 * MIB - 1}": [
        (9 * MIB, 9 * MIB + 100),
        (0, 2),
        (30 * MIB, 31 * MIB),
    ],
    # Nothing to send: 416.
    f"bytes={SIZE}-": [],
    f"bytes={SIZE + 7}-{SIZE + 9},{2 * SIZE}-": [],
}


@dataclass(frozen=True, slots=True)
class Said:
    """An answer without what may differ between two of the same: `Date`, the boundary."""

    status: int
    headers: dict[str, str]
    body: bytes


async def ask(cluster: Cluster, number: int, path: str, asked: str) -> Said:
    """A range from one replica."""
    url = cluster.replicas[number].url + path
    async with cluster.client.get(url, headers={"Range": asked}) as response:
        headers = {name.lower(): value for name, value in response.headers.items()}
        del headers["date"]
        body = await response.read()
        match = BOUNDARY.match(body)
        if headers["content-type"].startswith("multipart/") and match is not None:
            body = body.replace(match[1], b"BOUNDARY")
            kind = headers["content-type"].replace(match[1].decode(), "BOUNDARY")
            headers["content-type"] = kind
        return Said(response.status, headers, body)


def check(said: Said, blob: Content, spans: list[Span]) -> None:
    """Against the blob itself."""
    match spans:
        case []:
            assert (said.status, said.headers["content-range"]) == (416, f"bytes */{SIZE}")
            return
        case [(start, end)]:
            body = blob.body[start:end]
            assert said.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
            assert said.headers["content-type"] == "application/octet-stream"
        case _:
            parts = [
                b"--BOUNDARY\r\nContent-Type: application/octet-stream\r\n"
                + f"Content-Range: bytes {start}-{end - 1}/{SIZE}\r\n\r\n".encode()
                + blob.body[start:end]
                for start, end in spans
            ]
            body = b"\r\n".join([*parts, b"--BOUNDARY--\r\n"])
            assert said.headers["content-type"] == "multipart/byteranges; boundary=BOUNDARY"
    assert (said.status, said.body) == (206, body)
    assert said.headers["docker-content-digest"] == str(blob.digest)
    assert said.headers["etag"] == f'"{blob.digest}"'
    assert said.headers["accept-ranges"] == "bytes"


async def ask_all(cluster: Cluster, path: str, blob: Content, asked: str) -> None:
    """One range of all replicas at once: right, and the same."""
    replicas = range(len(cluster.replicas))
    first, *others = await asyncio.gather(*(ask(cluster, n, path, asked) for n in replicas))
    check(first, blob, ASKED[asked])
    for other in others:
        assert other == first


def added(cluster: Cluster) -> tuple[Content, str]:
    """A layer and where it is asked for."""
    made = cluster.upstream.add("app", image(SIZE), "v1")
    return made.layers[0], layer(0, made)


async def test_cold_ranges_are_the_same_on_every_replica_and_each_fetches_its_own(
    cluster: Cluster,
) -> None:
    blob, path = added(cluster)
    await cluster.start()
    for asked in ASKED:
        await ask_all(cluster, path, blob, asked)
    needed = 2 + MIB + TAIL_BYTES + 100 + MIB
    # Windows are shared within one replica only.
    assert cluster.fetched() == REPLICAS * needed
    for asked in ASKED:
        await ask_all(cluster, path, blob, asked)
    assert cluster.fetched() == REPLICAS * needed


async def test_ranges_of_what_one_replica_is_fetching_come_from_there_as_far_as_it_is(
    cluster: Cluster,
) -> None:
    blob, path = added(cluster)
    at, held = 36 * MIB, asyncio.Event()
    cluster.upstream.inject(Fault(stall_at=at, stall=held), kind="blob", method="GET")
    await cluster.start()
    whole = asyncio.create_task(cluster.pull(0, path))
    await until(lambda: cluster.fetched() == at, "the fill stands still")
    behind = [asked for asked, spans in ASKED.items() if all(end <= at for _, end in spans)]
    ahead = [asked for asked in ASKED if asked not in behind]
    assert len(ahead) == 3
    for asked in behind:
        await ask_all(cluster, path, blob, asked)
    assert cluster.fetched() == at
    # For what is far ahead nobody waits.
    for asked in ahead:
        await ask_all(cluster, path, blob, asked)
    assert cluster.fetched() == at + REPLICAS * TAIL_BYTES
    held.set()
    right(blob, await whole)
    await cluster.stored(0)
    fetched = cluster.fetched()
    assert fetched <= SIZE + REPLICAS * TAIL_BYTES
    for asked in ASKED:
        await ask_all(cluster, path, blob, asked)
    assert cluster.fetched() == fetched


async def test_ranges_of_what_only_s3_holds_cost_the_upstream_nothing(cluster: Cluster) -> None:
    blob, path = added(cluster)
    await cluster.start(1)
    right(blob, await cluster.pull(0, path))
    await cluster.stored()
    await cluster.start(REPLICAS - 1)
    cluster.upstream.inject(Fault(status=500), times=None, early=True)
    before = len(cluster.upstream.seen)
    for asked in ASKED:
        await ask_all(cluster, path, blob, asked)
    assert len(cluster.upstream.seen) == before
