"""Removing what crashes left in S3: half-done uploads and the objects of trials.

Parts of an upload that nobody finishes are paid for and in no listing. Only what
is below our prefix and much older than any upload takes is touched, so another
replica's upload in progress is safe.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from proxy.ports import Clock
from proxy.storage.s3.abilities import TRIALS
from proxy.storage.s3.client import PATIENT_S, S3Client
from proxy.storage.s3.trouble import S3Refused

STALE_S = 2 * 86400.0


async def sweep(client: S3Client, clock: Clock, *, stale_s: float = STALE_S) -> int:
    """Remove all that began more than `stale_s` ago; how many. Raises `StorageUnavailable`."""
    before = datetime.fromtimestamp(clock(), UTC) - timedelta(seconds=stale_s)
    return await _uploads(client, before) + await _trials(client, before)


async def _uploads(client: S3Client, before: datetime) -> int:
    aborted = 0
    marker: dict[str, Any] = {}
    while True:
        page = await client.call(
            "list_multipart_uploads",
            {"Prefix": client.full("blobs/"), **marker},
            deadline_s=PATIENT_S,
        )
        for upload in page.get("Uploads", ()):
            if upload["Initiated"] < before:
                await _gone(
                    client,
                    "abort_multipart_upload",
                    {"Key": upload["Key"], "UploadId": upload["UploadId"]},
                )
                aborted += 1
        if not page.get("IsTruncated"):
            return aborted
        marker = {
            "KeyMarker": page["NextKeyMarker"],
            "UploadIdMarker": page["NextUploadIdMarker"],
        }


async def _trials(client: S3Client, before: datetime) -> int:
    page = await client.call(
        "list_objects_v2", {"Prefix": client.full(TRIALS)}, deadline_s=PATIENT_S
    )
    stale = [entry["Key"] for entry in page.get("Contents", ()) if entry["LastModified"] < before]
    for key in stale:
        await _gone(client, "delete_object", {"Key": key})
    return len(stale)


async def _gone(client: S3Client, operation: str, what: dict[str, str]) -> None:
    try:
        await client.call(operation, what, deadline_s=PATIENT_S)
    except S3Refused as refused:
        if refused.status != 404:  # another replica was first
            raise
