"""What only S3 has, on a real server: presigned URLs, left-over uploads, outages."""

from __future__ import annotations

import hashlib
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from proxy.config import S3Settings
from proxy.errors import StartupError, StorageUnavailable
from proxy.oci.digest import Digest
from proxy.ports import BlobKey
from proxy.storage.s3 import S3Storage
from proxy.storage.s3.abilities import TRIALS, Abilities, Trials
from proxy.storage.s3.bodies import BytesUpload
from proxy.storage.s3.janitor import STALE_S, sweep
from tests.support.minio import Minio
from tests.support.seaweed import Seaweed

DATA = b"a blob of some size" * 1000
KEY = BlobKey("public", Digest.parse("sha256:" + hashlib.sha256(DATA).hexdigest()))


@pytest.fixture(scope="module", params=[Seaweed, Minio])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Seaweed | Minio]:
    with request.param(tmp_path_factory.mktemp("s3") / "server") as one:
        yield one


@pytest.fixture
async def s3(server: Seaweed | Minio) -> AsyncIterator[S3Storage]:
    settings = S3Settings.model_validate(server.settings(prefix=uuid.uuid4().hex))
    async with S3Storage(settings, observe=lambda _event: None) as storage:
        yield storage


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "sealed"
    path.write_bytes(DATA)
    return path


async def test_conditions_are_honoured_and_lists_come_by_folder_or_in_order(
    s3: S3Storage, server: Seaweed | Minio
):
    found = await Trials(s3.client).abilities()
    in_order = isinstance(server, Minio)
    assert found == Abilities(if_absent=True, if_match=True, byte_order=in_order)


async def test_anyone_can_get_a_blob_by_its_presigned_url(s3: S3Storage, sealed: Path):
    await s3.blobs.put(KEY, sealed)
    url = await s3.presigner.presigned(KEY)
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == DATA
    other = url.replace(KEY.digest.hex, "0" * 64)
    with pytest.raises(OSError, match="403"):
        urllib.request.urlopen(other)


async def test_the_janitor_removes_what_a_crash_left_and_nothing_that_is_young(
    s3: S3Storage, server: Seaweed | Minio
):
    client = s3.client
    key = client.full("blobs/public/sha256/ab/abc")
    begun = await client.call("create_multipart_upload", {"Key": key})
    await client.call(
        "upload_part",
        {"Key": key, "UploadId": begun["UploadId"], "PartNumber": 1},
        body=BytesUpload(b"x"),
    )
    trial = client.full(f"{TRIALS}left/a")
    await client.call("put_object", {"Key": trial}, body=BytesUpload(b"x"))
    await s3.records.put("repos/r/a", b"{}")

    assert await sweep(client, time.time) == 0
    # MinIO lists uploads only under their whole key, and removes them itself in a day.
    itself = isinstance(server, Minio)
    assert await sweep(client, lambda: time.time() + STALE_S + 60) == (1 if itself else 2)
    assert await sweep(client, lambda: time.time() + STALE_S + 60) == 0
    left = (await client.call("list_multipart_uploads", {"Prefix": key})).get("Uploads")
    assert itself or not left
    assert not (await client.call("list_objects_v2", {"Prefix": trial})).get("Contents")
    assert await s3.records.get("repos/r/a") is not None


async def test_a_bucket_of_another_layout_is_refused(s3: S3Storage):
    await s3.check_layout()
    record = await s3.records.get("layout")
    assert record is not None
    assert record.value == b'{"v": 1}'
    await s3.check_layout()
    for value in (b'{"v": 2}', b"not JSON", b"[]"):
        await s3.records.put("layout", value)
        with pytest.raises(StartupError, match="layout"):
            await s3.check_layout()


async def test_wrong_keys_are_an_outage_and_no_absence(server: Seaweed | Minio):
    settings = S3Settings.model_validate(server.settings(secret_key="wrong"))
    async with S3Storage(settings, observe=lambda _event: None) as s3:
        with pytest.raises(StorageUnavailable, match="403"):
            await s3.records.get("layout")
        with pytest.raises(StorageUnavailable, match="403"):
            await s3.blobs.stat(KEY)


@pytest.mark.parametrize("make", [Seaweed, Minio])
async def test_what_was_stored_is_there_after_the_server_was_killed(
    make: type[Seaweed | Minio], tmp_path: Path, sealed: Path
):
    with make(tmp_path / "server") as server:
        settings = S3Settings.model_validate(server.settings())
        async with S3Storage(settings, observe=lambda _event: None) as s3:
            await s3.blobs.put(KEY, sealed)
            server.kill()
            with pytest.raises(StorageUnavailable):
                await s3.blobs.stat(KEY)
            server.start()
            assert await s3.blobs.stat(KEY) == len(DATA)
