"""Calls to S3: what goes over the wire, how often, and what trouble becomes."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path

import pytest

from proxy.errors import StorageUnavailable
from proxy.storage.s3 import S3Storage
from proxy.storage.s3.blobs import S3Blobs
from proxy.storage.s3.client import S3Client
from proxy.storage.s3.records import S3Records
from proxy.storage.s3.trouble import S3Refused, S3Unreachable
from tests.support.fake_s3 import FakeS3
from tests.support.private_ca import issue
from tests.support.processes import free_port
from tests.support.waiting import until

# --- few requests, plain ones ----------------------------------------------------


async def test_each_operation_is_one_request(fake, connect, sealed):
    client = await connect()
    blobs, records = S3Blobs(client), S3Records(client)
    key, path = sealed(b"blob")
    await blobs.put(key, path)
    assert path.exists()  # it is the local tier's
    await blobs.stat(key)
    async with blobs.open(key) as body:
        assert [piece async for piece in body.chunks] == [b"blob"]
    await records.put("layout", b"{}")
    await records.get("layout")
    await records.delete("layout")
    assert [one.method for one in fake.asked] == ["PUT", "HEAD", "GET", "PUT", "GET", "DELETE"]


async def test_bodies_are_neither_signed_nor_checksummed_nor_announced(fake, connect, sealed):
    client = await connect()
    key, path = sealed(b"x" * (17 << 20))
    await S3Blobs(client).put(key, path)
    await S3Records(client).put("layout", b"{}")
    puts = fake.asked_for("PUT")
    assert sorted(one.size for one in puts) == [2, 1 << 20, 16 << 20]
    for one in puts:
        assert one.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        assert int(one.headers["content-length"]) == one.size
        assert not {"expect", "content-md5", "transfer-encoding", "content-encoding"} & {
            *one.headers
        }
        assert not [name for name in one.headers if "checksum" in name]
    assert not [one for one in fake.asked for name in one.headers if "checksum" in name]


async def test_all_keys_are_below_the_prefix(fake, connect, sealed):
    client = await connect(prefix="a/b")
    blobs, records = S3Blobs(client), S3Records(client)
    key, path = sealed(b"blob")
    await blobs.put(key, path)
    await records.put("repos/r/x", b"{}")
    assert sorted(fake.objects) == [
        f"a/b/blobs/public/sha256/{key.digest.hex[:2]}/{key.digest.hex}",
        "a/b/repos/r/x",
    ]
    assert [one async for one in records.list("repos/r")] == ["repos/r/x"]
    assert [one async for one in blobs.list("public")] == [key]


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({}, {}),
        ({"sse": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
        (
            {"sse": "aws:kms", "sse_kms_key": "k"},
            {
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": "k",
            },
        ),
    ],
)
async def test_encryption_is_asked_for_with_everything_written(
    fake, connect, sealed, settings, headers
):
    client = await connect(**settings)
    for size in (1, 16 << 20):
        key, path = sealed(b"x" * size)
        await S3Blobs(client).put(key, path)
    await S3Records(client).put("layout", b"{}")
    begun = [one for one in fake.asked if "uploadId" not in one.query]
    assert [one.method for one in begun] == ["PUT", "POST", "PUT"]
    for one in begun:
        said = {k: v for k, v in one.headers.items() if k.startswith("x-amz-server-side")}
        assert said == headers


# --- trouble -----------------------------------------------------------------------


@pytest.mark.parametrize("do", ["503", "500", "reset"])
async def test_a_call_that_fails_in_passing_is_tried_again(fake, connect, do):
    fake.objects["layout"] = b"{}"
    fake.fail(do, times=2)
    record = await S3Records(await connect()).get("layout")
    assert record is not None
    assert record.value == b"{}"
    assert len(fake.asked) == 3


@pytest.mark.parametrize("do", ["503", "500"])
async def test_tries_are_bounded(fake, connect, do):
    fake.fail(do, times=100)
    with pytest.raises(S3Unreachable, match="get_object"):
        await S3Records(await connect()).get("layout")
    assert len(fake.asked) == 3


async def test_a_refusal_is_not_tried_again_and_is_no_absence(fake, connect, sealed):
    fake.fail("403", times=2)
    client = await connect()
    with pytest.raises(S3Refused, match=r"403 AccessDenied .*s3:ListBucket"):
        await S3Records(client).get("layout")
    with pytest.raises(StorageUnavailable):
        await S3Blobs(client).stat(sealed(b"")[0])
    assert len(fake.asked) == 2


async def test_a_missing_bucket_is_an_outage_and_not_an_absence(fake, connect):
    client = await connect(bucket="another")
    fake.fail("nobucket")
    with pytest.raises(S3Refused, match="404 NoSuchBucket"):
        await S3Records(client).get("layout")


async def test_a_store_that_never_answers_costs_the_deadline(fake, connect):
    fake.fail("deaf", times=3)
    client = await connect(call_s=0.2)
    began = time.monotonic()
    with pytest.raises(S3Unreachable, match=r"does not answer get_object within 0\.2 s"):
        await S3Records(client).get("layout")
    assert time.monotonic() - began < 2


async def test_a_store_that_never_answers_costs_the_deadline_once(fake, connect):
    fake.fail("deaf", times=2)
    client = await connect(call_s=0.2)
    records = S3Records(client)
    with pytest.raises(S3Unreachable, match="does not answer get_object"):
        await records.get("layout")
    for _ in range(2):
        with pytest.raises(S3Unreachable, match="not asked again yet"):
            await records.put("layout", b"{}")


async def test_what_nobody_waits_for_may_take_longer_and_tells_nothing_of_the_rest(fake, connect):
    client = await connect(call_s=0.2)
    fake.fail("deaf")
    with pytest.raises(S3Unreachable, match="within 1 s"):
        await client.call("list_objects_v2", {}, deadline_s=1.0)
    assert await S3Records(client).get("layout") is None


async def test_a_record_that_stalls_half_way_costs_the_deadline(fake, connect):
    fake.objects["layout"] = b"{}" * 1000
    fake.fail("stall", times=3)
    with pytest.raises(S3Unreachable, match="get_object"):
        await S3Records(await connect(call_s=0.2)).get("layout")


async def test_a_record_cut_half_way_is_read_again(fake, connect):
    fake.objects["layout"] = b"{}" * 1000
    fake.fail("cut")
    record = await S3Records(await connect()).get("layout")
    assert record is not None
    assert record.value == b"{}" * 1000


async def test_a_dead_store_costs_nothing_after_the_first_failures(connect):
    client = await connect(endpoint=f"http://127.0.0.1:{free_port()}")
    records = S3Records(client)
    for _ in range(3):
        with pytest.raises(S3Unreachable, match="does not answer get_object: "):
            await records.get("layout")
    began = time.perf_counter()
    for _ in range(100):
        with pytest.raises(S3Unreachable, match="not asked again yet"):
            await records.get("layout")
    assert time.perf_counter() - began < 2


async def test_a_store_that_comes_back_is_found_without_any_call(fake, connect):
    client = await connect()
    records = S3Records(client)
    fake.fail("503", times=10)
    for _ in range(3):
        with pytest.raises(S3Unreachable, match="503"):
            await records.get("layout")
    assert client.breaker.trouble
    fake.asked.clear()
    await until(lambda: not client.breaker.trouble, "it is found")
    # A probe that failed, and one that was told that there is nothing: that is an answer.
    assert [(one.method, one.key) for one in fake.asked] == [("HEAD", "layout")] * 2
    assert await records.get("layout") is None


async def test_who_waits_for_a_store_that_turns_out_to_be_silent_waits_no_longer(fake, connect):
    client = await connect(call_s=0.5)
    fake.fail("deaf", times=2)
    first = asyncio.create_task(client.call("head_object", {"Key": "first"}))
    await fake.deaf.wait()
    fake.deaf.clear()
    # As it would be with a longer deadline, and is with one that began later.
    client._call_s = 60.0
    second = asyncio.create_task(client.call("head_object", {"Key": "second"}))
    await fake.deaf.wait()
    async with asyncio.timeout(30):
        for one in (first, second):
            with pytest.raises(S3Unreachable, match="does not answer head_object"):
                await one
    assert client.breaker.trouble


async def test_opening_succeeds_while_s3_is_away():
    settings = FakeS3(url=f"http://127.0.0.1:{free_port()}").settings()
    failed: asyncio.Queue[object] = asyncio.Queue()
    async with S3Storage(settings, observe=failed.put_nowait) as s3:
        with pytest.raises(StorageUnavailable):
            await s3.check_layout()
        async with asyncio.timeout(10):
            while "S3 sweep" not in str(await failed.get()):
                pass  # It also hears of each call.


# --- TLS ---------------------------------------------------------------------------


async def test_a_private_authority_is_trusted_when_named_and_only_then(tmp_path: Path):
    ca = issue(tmp_path / "ca")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(ca.cert, ca.key)
    async with FakeS3(objects={"layout": b"{}"}, tls=context) as fake:
        assert fake.url.startswith("https:")
        for trusting in ({"ca_file": ca.ca}, {"insecure": True}):
            async with S3Client(fake.settings(**trusting)) as client:
                assert await S3Records(client).get("layout") is not None
        async with S3Client(fake.settings()) as client:
            with pytest.raises(S3Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
                await S3Records(client).get("layout")
