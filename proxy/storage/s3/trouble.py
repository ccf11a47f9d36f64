"""What can go wrong with S3: the library's many exceptions in two of our own.

The difference matters to retries and to the breaker: who refuses is alive and
will refuse again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NotConnected

from proxy.errors import StorageUnavailable

# Statuses below 500 that ask for another try all the same.
_AGAIN = frozenset(
    {
        "ConditionalRequestConflict",
        "OperationAborted",
        "RequestTimeout",
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
    }
)


class S3Unreachable(StorageUnavailable):
    """No answer, or one that says "later": worth another try.

    `silent`: nothing came for as long as a call may take that somebody waits for.
    """

    silent = False


class S3Refused(StorageUnavailable):
    """An answer that another try won't change. `status` is HTTP's, `code` is S3's.

    `retried`: an earlier try of the same call got no answer, so it may have
    taken effect.
    """

    def __init__(self, message: str, *, status: int, code: str, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers
        self.retried = False

    @property
    def absent(self) -> bool:
        """There is no such object. Of HEAD only the status can tell."""
        return self.status == 404 and self.code in {"NoSuchKey", "404", "NotFound", "Not Found"}

    @property
    def precondition_failed(self) -> bool:
        """`If-Match` or `If-None-Match` did not hold."""
        return self.status == 412 or self.code == "PreconditionFailed"


EXPECTED = (BotoCoreError, ClientError, aiohttp.ClientError, OSError, TimeoutError)
"""All that the library raises for what is no fault of ours; see `translate`."""


def translate(error: Exception, operation: str) -> S3Unreachable | S3Refused:
    """One of `EXPECTED` in our words."""
    if isinstance(error, ClientError):
        return _answered(error.response, operation)
    if isinstance(error, HTTPClientError | NotConnected | aiohttp.ClientError | OSError):
        return S3Unreachable(f"S3 does not answer {operation}: {_plain(error)}")
    # No credentials, no region, an answer that can't be parsed.
    return S3Unreachable(f"S3 can't be asked to {operation}: {error}")


def _answered(response: Mapping[str, Any], operation: str) -> S3Unreachable | S3Refused:
    error = response.get("Error", {})
    meta = response.get("ResponseMetadata", {})
    status, code = int(meta.get("HTTPStatusCode", 0)), str(error.get("Code", ""))
    said = f"S3 answers {operation} with {status} {code}"
    if code in _AGAIN or status == 429 or (status >= 500 and status != 501):
        return S3Unreachable(said)
    if status == 403 and operation in {"head_object", "get_object"}:
        said += " (without s3:ListBucket it says so of what does not exist, too)"
    return S3Refused(said, status=status, code=code, headers=meta.get("HTTPHeaders", {}))


def _plain(error: Exception) -> str:
    # botocore wraps what went wrong, and repeats the URL, which may be presigned.
    inner = getattr(error, "kwargs", {}).get("error", error)
    return f"{type(inner).__name__}: {inner}" if str(inner) else type(inner).__name__
