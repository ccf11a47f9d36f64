"""The promises of `test_storage.py` that are easily broken, kept by S3 on a real server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from proxy.config import S3Settings
from proxy.storage.s3 import S3Storage, records
from tests.conformance.test_storage import (
    Store,
    test_a_blob_can_come_back,
    test_a_counter_loses_no_step_to_concurrency,
    test_a_reader_sees_one_whole_value_while_it_is_replaced,
    test_a_sha512_blob_is_kept_under_its_own_name,
    test_a_version_that_was_never_there_replaces_nothing,
    test_many_who_put_the_same_blob_leave_one,
    test_of_many_who_replace_the_same_version_one_does,
    test_of_many_who_write_first_one_does,
)
from tests.support.minio import Minio
from tests.support.seaweed import Seaweed

__all__ = [
    "test_a_blob_can_come_back",
    "test_a_counter_loses_no_step_to_concurrency",
    "test_a_reader_sees_one_whole_value_while_it_is_replaced",
    "test_a_sha512_blob_is_kept_under_its_own_name",
    "test_a_version_that_was_never_there_replaces_nothing",
    "test_many_who_put_the_same_blob_leave_one",
    "test_of_many_who_replace_the_same_version_one_does",
    "test_of_many_who_write_first_one_does",
]


@pytest.fixture(scope="module", params=[Seaweed, Minio])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Seaweed | Minio]:
    with request.param(tmp_path_factory.mktemp("s3") / "server") as one:
        yield one


@pytest.fixture
async def store(
    server: Seaweed | Minio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    # How long many at once may take is no promise, and not this machine's to give.
    monkeypatch.setattr(records, "CALL_S", 60.0)
    settings = S3Settings.model_validate(server.settings(prefix=uuid.uuid4().hex))
    async with S3Storage(settings, observe=lambda _event: None) as s3:
        yield Store(s3.blobs, s3.records, tmp_path)
