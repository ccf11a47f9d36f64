"""Presigned URLs: a client gets a large blob from S3 itself.

The URL is a credential for that one object. It is good for long enough to begin
a download; a client that resumes asks us again and gets another.
"""

from __future__ import annotations

from proxy.cache import keys
from proxy.ports import BlobKey
from proxy.storage.s3.client import S3Client

VALID_S = 1200


class Presigner:
    """Signs for the public endpoint if there is one, without asking S3 anything."""

    def __init__(self, client: S3Client) -> None:
        self._client = client

    async def presigned(self, key: BlobKey) -> str:
        """Where anyone can GET the blob for `VALID_S`. Raises `StorageUnavailable`
        when there are no credentials.
        """
        return await self._client.presigned(keys.blob(key), valid_s=VALID_S)
