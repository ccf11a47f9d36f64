"""Records as objects in S3: `get` is one GET, `put` one PUT.

A record's version is the object's entity tag. Where the store honours
conditions the store compares; elsewhere we read, compare and write, and of two
replicas that do so at the same moment the later one wins: a tag may then move
back until it is next checked. Content is never wrong by that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from proxy.ports import Record
from proxy.storage.s3.abilities import Trials
from proxy.storage.s3.bodies import BytesUpload
from proxy.storage.s3.client import CALL_S, S3Client
from proxy.storage.s3.listing import listed, walked
from proxy.storage.s3.trouble import S3Refused


class S3Records:
    """`ports.Records` in a bucket."""

    def __init__(self, client: S3Client) -> None:
        self._client = client
        self._trials = Trials(client)

    async def get(self, key: str) -> Record | None:
        """Raises `StorageUnavailable`."""
        try:
            answer = await self._client.call("get_object", {"Key": self._path(key)}, whole=True)
        except S3Refused as refused:
            if refused.absent:
                return None
            raise
        return Record(answer["Body"], str(answer["ETag"]))

    async def latest(self, key: str) -> Record | None:
        """There is no copy: the same as `get`."""
        return await self.get(key)

    async def put(
        self, key: str, value: bytes, *, expect: Record | Literal["any"] | None = "any"
    ) -> bool:
        """Raises `StorageUnavailable`."""
        path = self._path(key)
        if expect == "any":
            await self._write(path, value)
            return True
        abilities = await self._trials.abilities()
        if abilities.if_absent if expect is None else abilities.if_match:
            return await self._put_if(key, value, expect)
        found = await self.get(key)
        if (found and found.version) != (expect and expect.version):
            return False
        await self._write(path, value)
        return True

    async def delete(self, key: str) -> None:
        """Raises `StorageUnavailable`."""
        try:
            await self._client.call("delete_object", {"Key": self._path(key)})
        except S3Refused as refused:
            if not refused.absent:
                raise

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[str]:
        """Keys in ASCII order, a page at a time. Raises `StorageUnavailable`."""
        folder = f"{prefix}/"
        in_order = (await self._trials.abilities()).byte_order
        list_ = listed if in_order else walked
        async for key in list_(self._client, folder, after=after if after > folder else ""):
            yield key

    async def _put_if(self, key: str, value: bytes, expect: Record | None) -> bool:
        condition = {"IfNoneMatch": "*"} if expect is None else {"IfMatch": expect.version}
        try:
            await self._write(self._path(key), value, **condition)
        except S3Refused as refused:
            if not (refused.precondition_failed or refused.absent):
                raise
            if not refused.retried:
                return False
            # An earlier try may be what stands in its way.
            found = await self.get(key)
            return found is not None and found.value == value
        return True

    async def _write(self, path: str, value: bytes, **condition: str) -> None:
        await self._client.call(
            "put_object",
            {"Key": path, **condition, **self._client.encryption},
            body=BytesUpload(value),
            deadline_s=CALL_S,
        )

    def _path(self, key: str) -> str:
        # Keys are built from parsed values; this is the second lock on that door.
        if any(part in {"", ".", ".."} for part in key.split("/")) or "\0" in key:
            raise ValueError(f"not a record key: {key!r}")
        return self._client.full(key)
