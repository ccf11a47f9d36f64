"""Listing keys, a page at a time; the walk for stores that sort by folder.

AWS lists in the order of bytes. Stores over a file system (SeaweedFS) list a
folder `a/` where `a` sorts, before `a-b`; and what comes `after` a key is then
something else, too. For those a folder at a time is listed and sorted here, as
a folder sorts with its slash.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from proxy.storage.s3.client import PATIENT_S, S3Client


async def listed(client: S3Client, prefix: str, *, after: str = "") -> AsyncIterator[str]:
    """Keys that begin with `prefix`, in the store's order. Raises `StorageUnavailable`."""
    start = {"StartAfter": client.full(after)} if after else {}
    async for page in _pages(client, Prefix=client.full(prefix), **start):
        for entry in page.get("Contents", ()):
            yield client.bare(entry["Key"])


async def entries(client: S3Client, prefix: str) -> AsyncIterator[tuple[str, int, float]]:
    """Key, size in bytes and time of writing (seconds since the epoch), in the
    store's order. Raises `StorageUnavailable`.
    """
    async for page in _pages(client, Prefix=client.full(prefix)):
        for entry in page.get("Contents", ()):
            written_at = entry["LastModified"].timestamp()
            yield client.bare(entry["Key"]), int(entry["Size"]), written_at


async def walked(client: S3Client, prefix: str, *, after: str = "") -> AsyncIterator[str]:
    """The same in the order of bytes whatever the store's, one folder at a time.

    `prefix` ends with a slash. Memory: the names of one folder at each depth.
    """
    names: list[str] = []
    async for page in _pages(client, Prefix=client.full(prefix), Delimiter="/"):
        names += [client.bare(entry["Key"]) for entry in page.get("Contents", ())]
        names += [client.bare(entry["Prefix"]) for entry in page.get("CommonPrefixes", ())]
    for name in sorted(names):
        if not name.endswith("/"):
            if name > after:
                yield name
        elif name != prefix and (name > after or after.startswith(name)):
            async for key in walked(client, name, after=after):
                yield key


async def _pages(client: S3Client, **parameters: Any) -> AsyncIterator[dict[str, Any]]:
    while True:
        page = await client.call("list_objects_v2", parameters, deadline_s=PATIENT_S)
        yield page
        token = page.get("NextContinuationToken")
        if not page.get("IsTruncated") or not token:
            return
        parameters["ContinuationToken"] = token
