"""Blobs on their way: broken bodies are told, broken uploads leave nothing."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import StorageUnavailable, TransferBroken
from proxy.storage.s3.blobs import S3Blobs
from proxy.storage.s3.client import S3Client
from proxy.storage.s3.trouble import S3Refused, S3Unreachable
from tests.support.fake_s3 import FakeS3
from tests.support.processes import free_port

BIG = b"0123456789abcdef" * (1 << 20) * 2  # three parts with the rest
BIG += b"rest"


async def stocked(fake: FakeS3, client: S3Client, sealed, data: bytes):
    key, path = sealed(data)
    blobs = S3Blobs(client)
    await blobs.put(key, path)
    return blobs, key


@pytest.mark.parametrize("do", ["stall", "cut"])
async def test_a_body_that_ends_early_or_stalls_is_broken_and_what_came_is_good(
    fake, connect, sealed, do
):
    data = bytes(range(256)) * 4000
    blobs, key = await stocked(fake, await connect(stall_s=0.3), sealed, data)
    fake.fail(do)
    came = b""
    async with blobs.open(key) as body:
        with pytest.raises(TransferBroken, match="S3 broke off"):  # noqa: PT012 - what came counts
            async for piece in body.chunks:
                came += piece
    assert 0 < len(came) < len(data)
    assert data.startswith(came)


async def test_a_store_that_ignores_ranges_says_where_its_bytes_begin(fake, connect, sealed):
    fake.ranges = False
    blobs, key = await stocked(fake, await connect(), sealed, b"0123456789")
    async with blobs.open(key, start=4) as body:
        assert (body.size, body.offset) == (10, 0)
        assert b"".join([piece async for piece in body.chunks]) == b"0123456789"


async def test_reading_is_tried_again_until_the_head_is_there(fake, connect, sealed):
    blobs, key = await stocked(fake, await connect(), sealed, b"blob")
    fake.fail("503", times=2, method="GET")
    async with blobs.open(key) as body:
        assert [piece async for piece in body.chunks] == [b"blob"]


async def test_an_upload_is_tried_again_with_all_its_bytes(fake, connect, sealed):
    client = await connect()
    fake.fail("reset", times=2, method="PUT")
    blobs, key = await stocked(fake, client, sealed, b"x" * 700_000)
    assert await blobs.stat(key) == 700_000
    assert [one.size for one in fake.asked_for("PUT")] == [700_000] * 3


async def test_a_part_is_tried_again_with_all_its_bytes(fake, connect, sealed):
    fake.fail("503", method="PUT")
    fake.fail("reset", method="PUT")
    await stocked(fake, await connect(), sealed, BIG)
    assert list(fake.objects.values()) == [BIG]
    assert not fake.uploads


async def test_an_upload_that_fails_is_aborted(fake, connect, sealed):
    fake.fail("403", method="PUT")
    with pytest.raises(S3Refused, match="upload_part"):
        await stocked(fake, await connect(), sealed, BIG)
    assert not fake.uploads
    assert not fake.objects
    assert [one.method for one in fake.asked][-1] == "DELETE"


async def test_an_upload_that_is_cancelled_is_aborted(fake, connect, sealed):
    fake.fail("deaf", times=2, method="PUT")
    client = await connect()
    key, path = sealed(BIG)
    blobs = S3Blobs(client)
    upload = asyncio.create_task(blobs.put(key, path))
    async with asyncio.timeout(10):
        await fake.deaf.wait()
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        await blobs.aclose()
    assert not fake.uploads
    assert not fake.objects


async def test_an_upload_that_does_not_move_is_given_up(fake, connect, sealed):
    fake.fail("deaf", times=9, method="PUT")
    key, path = sealed(BIG)
    async with asyncio.timeout(10):
        with pytest.raises(S3Unreachable, match="upload_part"):
            await S3Blobs(await connect(stall_s=0.3)).put(key, path)
    assert not fake.uploads


async def test_an_upload_whose_last_answer_is_lost_counts_if_the_blob_is_there(
    fake, connect, sealed
):
    key, path = sealed(BIG)
    fake.fail("lose", method="POST", key=key.digest.hex, query="uploadId")
    await S3Blobs(await connect()).put(key, path)
    assert list(fake.objects.values()) == [BIG]
    assert fake.asked[-1].method == "HEAD"


async def test_a_source_that_cannot_be_read_is_told(connect, sealed):
    key, path = sealed(b"x")
    path.unlink()
    with pytest.raises(StorageUnavailable, match="No such file"):
        await S3Blobs(await connect()).put(key, path)


async def test_a_source_that_shrinks_is_never_stored(fake, connect, sealed, monkeypatch):
    key, path = sealed(b"x" * 1000)
    monkeypatch.setattr("proxy.storage.s3.bodies.os.pread", lambda *_: b"")
    with pytest.raises(StorageUnavailable):
        await S3Blobs(await connect()).put(key, path)
    assert not fake.objects


async def test_without_s3_an_upload_fails_and_says_so(connect, sealed):
    key, path = sealed(BIG)
    client = await connect(endpoint=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(S3Unreachable, match="create_multipart_upload"):
        await S3Blobs(client).put(key, path)
