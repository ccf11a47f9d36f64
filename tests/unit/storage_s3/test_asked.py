"""Each call to S3 is told of once, with its outcome, however many tries it took."""

from __future__ import annotations

import pytest

from proxy.events import StorageAsked
from proxy.storage.s3.client import S3Client
from proxy.storage.s3.records import S3Records
from proxy.storage.s3.trouble import S3Unreachable


async def test_answers_refusals_and_silence_are_told_apart(fake):
    told: list[StorageAsked] = []
    async with S3Client(fake.settings(), observe=told.append, call_s=5.0) as client:
        records = S3Records(client)
        assert await records.get("none") is None  # 404: a refusal is an answer
        fake.fail("503", times=1)  # tried again, and answered
        assert await records.get("none") is None
        fake.fail("503", times=100)
        with pytest.raises(S3Unreachable):
            await records.get("none")
    assert [(one.operation, one.answered) for one in told] == [
        ("get_object", True),
        ("get_object", True),
        ("get_object", False),
    ]
    assert all(one.duration_s > 0 for one in told)
