"""Sending clients to a real object store for large blobs."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.cluster.conftest import Cluster, layer
from tests.cluster.relay import relay_to
from tests.support.fake_registry import FakeAuth
from tests.support.images import Content, image

LARGE = 10_000_000


async def head_of(
    cluster: Cluster, path: str, method: str = "GET", **headers: str
) -> tuple[int, str, str]:
    """Status, Location and digest of the body, without going where it leads."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with cluster.client.request(
        method, cluster.replicas[0].url + path, headers=named, allow_redirects=False
    ) as response:
        body = await response.read()
        found = "sha256:" + hashlib.sha256(body).hexdigest()
        return response.status, response.headers.get("Location", ""), found


async def stored(cluster: Cluster, size: int = LARGE, **more: Any) -> tuple[str, Content]:
    """One replica that redirects, and a layer that the store has."""
    made = cluster.upstream.add("app", image(size), "v1")
    s3 = cluster.s3.settings(prefix=cluster.folder.name, redirect=True, **more)
    await cluster.start(1, storage={"s3": s3})
    got = await cluster.pull(0, layer(0, made))
    assert (got.status, got.sha256) == (200, str(made.layers[0].digest))
    await cluster.stored(0)
    return layer(0, made), made.layers[0]


async def test_a_stored_large_blob_is_had_from_the_store_with_the_right_bytes(
    cluster: Cluster,
) -> None:
    path, blob = await stored(cluster)
    status, location, _ = await head_of(cluster, path)
    assert status == 307
    assert location.startswith(cluster.s3.url)
    # The client goes there as it is: without a word of ours.
    async with cluster.client.get(location) as response:
        assert response.status == 200
        assert await response.read() == blob.body
    async with cluster.client.get(location, headers={"Range": "bytes=5-9"}) as response:
        assert response.status == 206
        assert await response.read() == blob.body[5:10]


@pytest.mark.parametrize(
    "headers",
    [
        {"User_Agent": "cosign/v2 (linux; amd64) go-containerregistry/v0.20.0"},
        {"User_Agent": "regclient/regctl (v0.8)"},
        {"User_Agent": "containerd-stargz-grpc/0.15"},
        {"Entrepot_Redirect": "No"},
    ],
)
async def test_who_can_not_or_will_not_follow_gets_the_bytes_here(
    cluster: Cluster, headers: dict[str, str]
) -> None:
    path, blob = await stored(cluster)
    assert await head_of(cluster, path, **headers) == (200, "", str(blob.digest))


async def test_head_and_small_blobs_and_incomplete_ones_are_not_redirected(
    cluster: Cluster,
) -> None:
    path, _ = await stored(cluster)
    assert (await head_of(cluster, path, "HEAD"))[0] == 200
    small = cluster.upstream.add("app", image(100_000, seed="small"), "small")
    fresh = cluster.upstream.add("app", image(LARGE, seed="fresh"), "fresh")
    for one in (small, fresh):
        digest = str(one.layers[0].digest)
        assert await head_of(cluster, layer(0, one)) == (200, "", digest)
    await cluster.stored(0)
    assert (await head_of(cluster, layer(0, small)))[0] == 200
    assert (await head_of(cluster, layer(0, fresh)))[0] == 307


async def test_a_repository_that_has_it_not_is_not_sent_to_it(cluster: Cluster) -> None:
    path, _ = await stored(cluster)
    cluster.upstream.add("other", image(1000, seed="other"), "v1")
    status, location, _ = await head_of(cluster, path.replace("/app/", "/other/"))
    assert (status, location) == (404, "")


async def test_a_store_that_is_away_does_not_keep_what_is_here(cluster: Cluster) -> None:
    async with relay_to(cluster.s3.port) as relay:
        path, blob = await stored(cluster, endpoint=relay.url)
        await relay.cut()
        assert await head_of(cluster, path) == (200, "", str(blob.digest))


async def test_a_private_blob_is_not_redirected_to_strangers(cluster: Cluster) -> None:
    cluster.upstream.auth = FakeAuth(
        realm=f"{cluster.upstream.url}/token", users={"me": "pw"}, private={"app"}
    )
    made = cluster.upstream.add("app", image(LARGE), "v1")
    path, digest = layer(0, made), str(made.layers[0].digest)
    s3 = cluster.s3.settings(prefix=cluster.folder.name, redirect=True)
    lab = {"username": "me", "password": "pw"}
    await cluster.start(1, lab={**lab, "expose": "all"}, storage={"s3": s3})
    await cluster.start(1, lab=lab, storage={"s3": s3})
    assert await head_of(cluster, path) == (200, "", digest)
    await cluster.stored(0)
    assert (await head_of(cluster, path))[0] == 307
    # The second shows only what is public, though the store has it.
    cluster.replicas.reverse()
    try:
        status, location, _ = await head_of(cluster, path)
    finally:
        cluster.replicas.reverse()
    assert (status in {401, 403, 404}, location) == (True, "")
