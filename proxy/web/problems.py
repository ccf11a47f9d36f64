"""From what went wrong to what the client is told: the one table.

Statuses follow what each client does with them (see the table in the README,
"When things fail"): a mirror-capable client must fall back fast, so trouble is
503 without Retry-After, never 429 (podman and containerd sit on a 429), and an
upstream's 401 is never passed on (clients would log in at the wrong party).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from proxy.errors import (
    AccessDenied,
    EntrepotError,
    InvalidDigest,
    InvalidHeader,
    InvalidName,
    InvalidPage,
    InvalidRequest,
    InvalidTag,
    NotExposed,
    Overloaded,
    StorageUnavailable,
    UnknownBlob,
    UnknownManifest,
    UnknownRoute,
    UnknownUpstream,
    UnsatisfiableRange,
    UnsupportedOperation,
    UpstreamOffline,
    UpstreamUnavailable,
)

_TABLE: dict[type[EntrepotError], tuple[int, str]] = {
    InvalidName: (400, "NAME_INVALID"),
    InvalidTag: (400, "TAG_INVALID"),
    InvalidDigest: (400, "DIGEST_INVALID"),
    InvalidPage: (400, "PAGINATION_NUMBER_INVALID"),
    InvalidHeader: (400, "UNSUPPORTED"),
    InvalidRequest: (400, "NAME_INVALID"),
    UnsupportedOperation: (405, "UNSUPPORTED"),
    UnknownRoute: (404, "NAME_UNKNOWN"),
    UnsatisfiableRange: (416, "UNSUPPORTED"),
    UnknownUpstream: (404, "NAME_UNKNOWN"),
    UnknownManifest: (404, "MANIFEST_UNKNOWN"),
    UnknownBlob: (404, "BLOB_UNKNOWN"),
    NotExposed: (403, "DENIED"),
    AccessDenied: (403, "DENIED"),
    UpstreamOffline: (404, "MANIFEST_UNKNOWN"),
    UpstreamUnavailable: (503, "UNAVAILABLE"),
    StorageUnavailable: (503, "UNAVAILABLE"),
    Overloaded: (503, "UNAVAILABLE"),
    EntrepotError: (500, "UNKNOWN"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """An error answer: status, OCI code, words, further headers."""

    status: int
    code: str
    message: str
    headers: dict[str, str]

    def body(self) -> bytes:
        """The envelope of distribution-spec "Error Codes"."""
        error = {"code": self.code, "message": self.message, "detail": None}
        return json.dumps({"errors": [error]}).encode()


def problem(error: EntrepotError, *, blob: bool) -> Problem:
    """What to answer; `blob`: a blob was asked for, not a manifest or list."""
    status, code = next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)
    if isinstance(error, AccessDenied) and not (
        error.authenticated or isinstance(error, NotExposed)
    ):
        # Docker Hub and GHCR say 401 or 403 for what does not exist.
        status, code = (404, "BLOB_UNKNOWN") if blob else (404, "MANIFEST_UNKNOWN")
    if isinstance(error, UpstreamOffline) and blob:
        code = "BLOB_UNKNOWN"
    headers: dict[str, str] = {}
    match error:
        case UnsatisfiableRange(size=size):
            headers["Content-Range"] = f"bytes */{size}"
        case UnsupportedOperation():
            headers["Allow"] = "GET, HEAD"
        case _:
            pass
    return Problem(status, code, str(error), headers)
