"""S3 as the store: the client, blobs, records, presigned URLs, and their upkeep."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Self

from proxy.cache import keys
from proxy.config import S3Settings
from proxy.errors import StartupError, StorageUnavailable
from proxy.events import StorageFailed
from proxy.ports import Clock, Observe
from proxy.storage.s3.blobs import S3Blobs
from proxy.storage.s3.client import S3Client
from proxy.storage.s3.janitor import sweep
from proxy.storage.s3.presign import Presigner
from proxy.storage.s3.records import S3Records

_SWEEP_EVERY_S = 6 * 3600.0


class S3Storage:
    """Opened with `async with`, which succeeds while S3 is away, too."""

    def __init__(self, settings: S3Settings, *, observe: Observe, clock: Clock = time.time) -> None:
        self.client = S3Client(settings, observe=observe)
        self.blobs = S3Blobs(self.client)
        self.records = S3Records(self.client)
        self.presigner = Presigner(self.client)
        self._observe = observe
        self._clock = clock
        self._upkeep: asyncio.Task[None] | None = None

    @property
    def trouble(self) -> str:
        """Why S3 is not asked at the moment; empty while it is."""
        return self.client.breaker.trouble

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        self._upkeep = asyncio.create_task(self._keep_up())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        try:
            if self._upkeep is not None:
                self._upkeep.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._upkeep
            await self.blobs.aclose()
        finally:
            await self.client.__aexit__(None, None, None)

    async def check_layout(self) -> None:
        """Leave the layout's version, or compare it.

        Raises `StartupError` for a bucket that another version wrote, and
        `StorageUnavailable`.
        """
        record = await self.records.get(keys.LAYOUT)
        if record is None:
            value = json.dumps({"v": keys.LAYOUT_VERSION}).encode()
            if await self.records.put(keys.LAYOUT, value, expect=None):
                return
            record = await self.records.get(keys.LAYOUT)
        try:
            version = json.loads(record.value)["v"] if record else keys.LAYOUT_VERSION
        except (ValueError, TypeError, KeyError):
            version = "of some other program"
        if version != keys.LAYOUT_VERSION:
            raise StartupError(
                f"the S3 bucket has layout {version}; this version reads "
                f"layout {keys.LAYOUT_VERSION}"
            )

    async def _keep_up(self) -> None:
        while True:
            try:
                await sweep(self.client, self._clock)
            except StorageUnavailable as error:
                self._observe(StorageFailed(operation="S3 sweep", reason=str(error)))
            await asyncio.sleep(_SWEEP_EVERY_S)
