"""What a store that is not AWS can do, found out by trying, once a process.

Some clones take a conditional PUT and ignore the condition: that looks like
success and loses an update. So it is tried on objects of our own, which nobody
else names, before anything rests on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass

from proxy.errors import StorageUnavailable
from proxy.storage.s3.bodies import BytesUpload
from proxy.storage.s3.client import S3Client
from proxy.storage.s3.listing import listed
from proxy.storage.s3.trouble import S3Refused

TRIALS = "_trials/"
"""Where the objects of trials are; removed at once, or by the janitor."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """`if_absent`, `if_match`: conditional PUTs are honoured. `byte_order`: lists
    come in the order of bytes.
    """

    if_absent: bool
    if_match: bool
    byte_order: bool


AWS = Abilities(if_absent=True, if_match=True, byte_order=True)


class Trials:
    """Tries once and remembers; nothing is remembered of a trial that broke off."""

    def __init__(self, client: S3Client) -> None:
        self._client = client
        self._trying = asyncio.Lock()
        self._known: Abilities | None = AWS if client.known_store else None

    async def abilities(self) -> Abilities:
        """Raises `StorageUnavailable`."""
        async with self._trying:
            if self._known is None:
                self._known = await self._tried()
            return self._known

    async def _tried(self) -> Abilities:
        folder = f"{TRIALS}{uuid.uuid4().hex}/"
        # In bytes `a-b` is before `a/b`; by folders it is after.
        first, second = f"{folder}a-b", f"{folder}a/b"
        try:
            for key in (second, first):
                await self._put(key)
            return Abilities(
                if_absent=await self._refuses(first, IfNoneMatch="*"),
                # The MD5 of nothing, which nobody's entity tag here is.
                if_match=await self._refuses(first, IfMatch='"d41d8cd98f00b204e9800998ecf8427e"'),
                byte_order=[key async for key in listed(self._client, folder)] == [first, second],
            )
        finally:
            for key in (first, second):
                with contextlib.suppress(StorageUnavailable):
                    await self._client.call("delete_object", {"Key": self._client.full(key)})

    async def _refuses(self, key: str, **condition: str) -> bool:
        try:
            await self._put(key, **condition)
        except S3Refused as refused:
            # 501 and 400 are said by stores that don't know the header: not honoured either.
            return refused.precondition_failed
        return False

    async def _put(self, key: str, **condition: str) -> None:
        await self._client.call(
            "put_object",
            {"Key": self._client.full(key), **condition, **self._client.encryption},
            body=BytesUpload(b"trial"),
        )
