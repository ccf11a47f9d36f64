"""A fake S3 and clients of it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxy.oci.digest import Digest
from proxy.ports import BlobKey
from proxy.storage.s3.client import S3Client
from tests.support.fake_s3 import FakeS3


@pytest.fixture
async def fake() -> AsyncIterator[FakeS3]:
    async with FakeS3() as server:
        yield server


@pytest.fixture
async def connect(fake: FakeS3) -> AsyncIterator[Callable]:
    """`await connect(timing…, **settings)`: an open client of the fake S3."""
    async with AsyncExitStack() as stack:

        async def connected(
            *, call_s: float = 5.0, stall_s: float = 5.0, monotonic=None, **settings: object
        ) -> S3Client:
            timing = {"monotonic": monotonic} if monotonic else {}
            client = S3Client(fake.settings(**settings), call_s=call_s, stall_s=stall_s, **timing)
            return await stack.enter_async_context(client)

        yield connected


@pytest.fixture
def sealed(tmp_path: Path) -> Callable[[bytes], tuple[BlobKey, Path]]:
    """A verified file and its key."""

    def seal(data: bytes) -> tuple[BlobKey, Path]:
        path = tmp_path / "sealed"
        path.write_bytes(data)
        digest = Digest.parse("sha256:" + hashlib.sha256(data).hexdigest())
        return BlobKey("public", digest), path

    return seal
