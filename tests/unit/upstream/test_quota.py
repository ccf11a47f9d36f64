from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.ports import Quota
from proxy.upstream.quota import parse_quota, parse_retry_after


def quota(limit, remaining, window_s, source=None):
    return Quota(limit=limit, remaining=remaining, window_s=window_s, source=source, read_at=5.0)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        (
            {
                "ratelimit-limit": "100;w=21600",
                "ratelimit-remaining": "76;w=21600",
                "docker-ratelimit-source": "192.0.2.1",
            },
            quota(100, 76, 21600, "192.0.2.1"),
        ),
        ({"ratelimit-limit": ";w=21600"}, quota(None, None, 21600)),
        ({"ratelimit-remaining": "0;w=60"}, quota(None, 0, 60)),
        ({"ratelimit-limit": "lots", "ratelimit-remaining": "-1"}, quota(None, None, None)),
        ({"ratelimit-limit": "9" * 50}, quota(None, None, None)),
    ],
)
def test_docker_hubs_headers_are_read(headers, expected):
    assert parse_quota(headers, now=5.0) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("30", 30.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        (format_datetime(datetime.fromtimestamp(1090, UTC), usegmt=True), 90.0),
        (format_datetime(datetime.fromtimestamp(10, UTC), usegmt=True), 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, expected):
    assert parse_retry_after(value, now=1000.0) == expected


@given(st.text(), st.text())
def test_nonsense_never_fails(left, right):
    parse_quota({"ratelimit-limit": left, "ratelimit-remaining": right}, now=0.0)
    waits = parse_retry_after(left, now=0.0)
    assert waits is None or waits >= 0
