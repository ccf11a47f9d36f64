"""Blobs in S3: one HEAD to know, one GET to read, PUT or multipart to keep.

Only ever handed sealed, verified files, so an object is complete or not there.
Measured against SeaweedFS on the same machine, this process alone: 0.8 CPU-s/GB
up, 0.25 down (1.3 GB/s); 85 MB of memory in all, whatever the blob's size.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from proxy.cache import keys
from proxy.cache.local import OpenFile
from proxy.errors import InvalidDigest, StorageUnavailable
from proxy.oci.digest import Digest
from proxy.ports import BlobKey, Body, StoredBlob
from proxy.storage import files
from proxy.storage.s3.bodies import FileUpload, nothing, received
from proxy.storage.s3.client import PATIENT_S, S3Client
from proxy.storage.s3.listing import entries, listed
from proxy.storage.s3.parts import PART_BYTES_MIN, Part, parts
from proxy.storage.s3.trouble import S3Refused

# Two keep a connection busy while the other waits for its answer; more only cost memory.
_PARTS_AT_ONCE = 2
# AWS may take minutes to join 10,000 parts; it keeps the connection alive meanwhile.
_COMPLETE_S = 300.0
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)", re.ASCII)


class S3Blobs:
    """`ports.Blobs` in a bucket. `put` leaves its source where it is."""

    def __init__(self, client: S3Client) -> None:
        self._client = client
        self._aborts: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        """Wait for what must not be left behind."""
        await asyncio.gather(*self._aborts)

    # --- reading -----------------------------------------------------------------------

    async def stat(self, key: BlobKey) -> int | None:
        """See `ports.Blobs`: one HEAD. Raises `StorageUnavailable`."""
        try:
            answer = await self._client.call("head_object", {"Key": self._path(key)})
        except S3Refused as refused:
            if refused.absent:
                return None
            raise
        return int(answer["ContentLength"])

    @asynccontextmanager
    async def open(
        self, key: BlobKey, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[Body | None]:
        """See `ports.Blobs`: one GET. Raises `StorageUnavailable`."""
        if end is not None and end <= start:  # S3 knows no empty range
            size = await self.stat(key)
            yield None if size is None else Body(size, start, nothing())
            return
        found = await self._get(key, _range(start, end), start)
        if not isinstance(found, tuple):
            yield found
            return
        body, stream = found
        try:
            yield body
        finally:
            # Ends the connection, unless all has been read and it is free again already.
            stream.close()

    async def _get(
        self, key: BlobKey, wanted: dict[str, str], start: int
    ) -> tuple[Body, Any] | Body | None:
        try:
            answer = await self._client.call("get_object", {"Key": self._path(key), **wanted})
        except S3Refused as refused:
            if refused.absent:
                return None
            if refused.status != 416:
                raise
            said = _CONTENT_RANGE.fullmatch(refused.headers.get("content-range", ""))
            size = int(said[2]) if said else await self.stat(key)  # MinIO does not say
            return None if size is None else Body(size, start, nothing())
        stream = answer["Body"]
        said = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
        if said is None or said[1] is None:  # a store that ignores ranges sends it whole
            return Body(int(answer["ContentLength"]), 0, received(stream)), stream
        start, length = int(said[1]), int(answer["ContentLength"])
        return Body(int(said[2]), start, received(stream), end=start + length), stream

    async def list(self, group: str) -> AsyncIterator[BlobKey]:
        """See `ports.Blobs`, in no particular order. Raises `StorageUnavailable`."""
        async for path in listed(self._client, f"blobs/{group}/"):
            key = _key_of(group, path)
            if key is not None:
                yield key

    async def inventory(self, group: str) -> AsyncIterator[StoredBlob]:
        """See `ports.Blobs`; one request for 1,000 blobs. Raises `StorageUnavailable`."""
        async for path, size, stored_at in entries(self._client, f"blobs/{group}/"):
            key = _key_of(group, path)
            if key is not None:
                yield StoredBlob(key, size, stored_at)

    # --- writing -----------------------------------------------------------------------

    async def put(self, key: BlobKey, source: Path) -> None:
        """See `ports.Blobs`. Raises `StorageUnavailable`; nothing is left behind then
        that `janitor.py` does not remove.
        """
        try:
            file = await asyncio.to_thread(_opened, source)
        except OSError as error:
            raise files.translate(error, f"reading {key.digest}") from error
        try:
            if file.size < PART_BYTES_MIN:
                await self._client.call(
                    "put_object",
                    {"Key": self._path(key), **self._client.encryption},
                    body=FileUpload(file, 0, file.size),
                )
            else:
                await self._put_parts(self._path(key), file)
        finally:
            file.release()

    async def delete(self, key: BlobKey) -> None:
        """See `ports.Blobs`. Raises `StorageUnavailable`."""
        try:
            await self._client.call("delete_object", {"Key": self._path(key)}, deadline_s=PATIENT_S)
        except S3Refused as refused:
            if not refused.absent:
                raise

    async def _put_parts(self, path: str, file: OpenFile) -> None:
        answer = await self._client.call(
            "create_multipart_upload",
            {"Key": path, **self._client.encryption},
            deadline_s=PATIENT_S,
        )
        upload = str(answer["UploadId"])
        try:
            tags = await self._send_parts(path, upload, file)
            await self._complete(path, upload, tags, file.size)
        except BaseException:
            # Whoever cancels us may not wait; `aclose` does.
            abort = asyncio.create_task(self._abort(path, upload))
            self._aborts.add(abort)
            abort.add_done_callback(self._aborts.discard)
            await asyncio.shield(abort)
            raise

    async def _send_parts(self, path: str, upload: str, file: OpenFile) -> dict[int, str]:
        """The entity tags by part number."""
        tags: dict[int, str] = {}
        waiting = parts(file.size)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_PARTS_AT_ONCE):
                    group.create_task(self._send_some(path, upload, file, waiting, tags))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return tags

    async def _send_some(
        self,
        path: str,
        upload: str,
        file: OpenFile,
        waiting: Iterator[Part],
        tags: dict[int, str],
    ) -> None:
        for part in waiting:
            answer = await self._client.call(
                "upload_part",
                {"Key": path, "UploadId": upload, "PartNumber": part.number},
                body=FileUpload(file, part.start, part.size),
            )
            tags[part.number] = str(answer["ETag"])

    async def _complete(self, path: str, upload: str, tags: dict[int, str], size: int) -> None:
        listed_parts = [{"PartNumber": number, "ETag": tags[number]} for number in sorted(tags)]
        try:
            await self._client.call(
                "complete_multipart_upload",
                {"Key": path, "UploadId": upload, "MultipartUpload": {"Parts": listed_parts}},
                deadline_s=_COMPLETE_S,
            )
        except S3Refused as refused:
            # The first try may have been done, and its answer lost.
            if refused.code != "NoSuchUpload" or not refused.retried:
                raise
            found = await self._client.call("head_object", {"Key": path}, deadline_s=PATIENT_S)
            if found["ContentLength"] != size:
                raise

    async def _abort(self, path: str, upload: str) -> None:
        # What this leaves, the janitor finds.
        with contextlib.suppress(StorageUnavailable):
            await self._client.call(
                "abort_multipart_upload",
                {"Key": path, "UploadId": upload},
                deadline_s=PATIENT_S,
            )

    def _path(self, key: BlobKey) -> str:
        return self._client.full(keys.blob(key))


def _opened(source: Path) -> OpenFile:
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    return OpenFile(fd, os.fstat(fd).st_size)


def _range(start: int, end: int | None) -> dict[str, str]:
    if end is not None:
        return {"Range": f"bytes={start}-{end - 1}"}
    return {"Range": f"bytes={start}-"} if start else {}


def _key_of(group: str, path: str) -> BlobKey | None:
    _, _, algorithm, _, name = path.split("/", 4)
    try:
        return BlobKey(group, Digest.parse(f"{algorithm}:{name}"))
    except InvalidDigest:
        return None
