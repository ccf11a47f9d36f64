"""The library's exceptions in our words: outages apart from refusals."""

from __future__ import annotations

import aiohttp
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)

from proxy.storage.s3.trouble import EXPECTED, S3Refused, S3Unreachable, translate


def answered(status: int, code: str) -> ClientError:
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject"
    )


@pytest.mark.parametrize(
    "error",
    [
        answered(500, "InternalError"),
        answered(503, "SlowDown"),
        answered(429, "TooManyRequests"),
        answered(400, "RequestTimeout"),
        answered(409, "ConditionalRequestConflict"),
        ConnectTimeoutError(endpoint_url="http://x"),
        ReadTimeoutError(endpoint_url="http://x"),
        EndpointConnectionError(endpoint_url="http://x", error=OSError("refused")),
        NoCredentialsError(),
        aiohttp.ClientPayloadError("cut"),
        TimeoutError(),
        ConnectionResetError(),
    ],
)
def test_what_another_try_may_mend_is_unreachable(error):
    assert isinstance(error, EXPECTED)
    translated = translate(error, "get_object")
    assert isinstance(translated, S3Unreachable)
    assert "get_object" in str(translated)


@pytest.mark.parametrize(
    ("status", "code", "absent", "precondition"),
    [
        (404, "NoSuchKey", True, False),
        (404, "404", True, False),
        (404, "NoSuchBucket", False, False),
        (404, "NoSuchUpload", False, False),
        (412, "PreconditionFailed", False, True),
        (403, "AccessDenied", False, False),
        (501, "NotImplemented", False, False),
    ],
)
def test_what_no_try_mends_is_a_refusal(status, code, absent, precondition):
    refused = translate(answered(status, code), "put_object")
    assert isinstance(refused, S3Refused)
    assert (refused.absent, refused.precondition_failed) == (absent, precondition)
    assert str(refused) == f"S3 answers put_object with {status} {code}"
