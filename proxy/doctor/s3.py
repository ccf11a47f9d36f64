"""S3: every right that the server needs, tried on keys of the doctor's own."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Awaitable
from typing import Any

from proxy.config import S3Settings
from proxy.doctor.finding import Finding, skew
from proxy.errors import StorageUnavailable
from proxy.storage.s3.bodies import BytesUpload
from proxy.storage.s3.client import S3Client
from proxy.storage.s3.trouble import S3Refused

_CONTENT = b"entrepot doctor"
_RIGHTS = {
    "put": "s3:PutObject",
    "get": "s3:GetObject",
    "list": "s3:ListBucket",
    "multipart": "s3:PutObject, s3:AbortMultipartUpload, s3:ListMultipartUploadParts",
    "delete": "s3:DeleteObject",
}


async def examine(settings: S3Settings) -> list[Finding]:
    """Put, get, list, upload in parts, delete; what is left is deleted."""
    findings: list[Finding] = []
    async with S3Client(settings) as client:
        probe = _Probe(client, findings)
        await probe.run()
    return findings


class _Probe:
    def __init__(self, client: S3Client, findings: list[Finding]) -> None:
        self._client = client
        self._findings = findings
        self._key = client.full(f"doctor/{secrets.token_hex(8)}")

    async def run(self) -> None:
        put = self._client.call(
            "put_object",
            {"Key": self._key, **self._client.encryption},
            body=BytesUpload(_CONTENT),
        )
        stored = await self._try("put", put)
        if stored is None and self._findings[-1].name == "s3":
            return
        await self._get(stored is not None)
        prefix = self._client.full("doctor/")
        await self._try("list", self._client.call("list_objects_v2", {"Prefix": prefix}))
        await self._try("multipart", self._upload())
        await self._try("delete", self._client.call("delete_object", {"Key": self._key}))

    async def _get(self, stored: bool) -> None:
        if not stored:
            self._findings.append(Finding("s3 get", "skipped", "nothing could be put to get"))
            return
        asked = self._client.call("get_object", {"Key": self._key}, whole=True)
        answer = await self._try("get", asked)
        if answer is not None:
            if answer["Body"] != _CONTENT:
                said = "S3 gives back other bytes than it was given"
                self._findings.append(Finding("s3 bytes", "fail", said, "check what is between"))
            headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            date = str(headers.get("date", ""))
            self._findings.append(skew("clock s3", date, now=time.time(), whose="S3"))

    async def _upload(self) -> dict[str, Any]:
        """In one part, as large blobs are in many."""
        made = await self._client.call(
            "create_multipart_upload", {"Key": self._key, **self._client.encryption}
        )
        upload = {"Key": self._key, "UploadId": str(made["UploadId"])}
        try:
            part = await self._client.call(
                "upload_part", {**upload, "PartNumber": 1}, body=BytesUpload(_CONTENT)
            )
            parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
            return await self._client.call(
                "complete_multipart_upload", {**upload, "MultipartUpload": parts}
            )
        except StorageUnavailable:
            with contextlib.suppress(StorageUnavailable):
                await self._client.call("abort_multipart_upload", upload)
            raise

    async def _try(self, right: str, asked: Awaitable[dict[str, Any]]) -> dict[str, Any] | None:
        name = f"s3 {right}"
        try:
            answer = await asked
        except S3Refused as refused:
            if refused.code in {"NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch"}:
                self._findings.append(Finding("s3", "fail", str(refused), _TODO[refused.code]))
                return None
            todo = f"allow {_RIGHTS.get(right, right)} on the bucket and what is in it"
            self._findings.append(Finding(name, "fail", str(refused), todo))
            return None
        except StorageUnavailable as error:
            todo = "check endpoint, firewall, ca_file and credentials"
            self._findings.append(Finding("s3", "fail", str(error), todo))
            return None
        self._findings.append(Finding(name, "ok", f"{right} is allowed"))
        return answer


_TODO = {
    "NoSuchBucket": "make the bucket, or mend `bucket`; Entrepot makes none",
    "InvalidAccessKeyId": "check access_key; is it of this store?",
    "SignatureDoesNotMatch": "check secret_key, region, and the clock",
}
