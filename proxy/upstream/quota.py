"""What headers say of limits: Docker Hub's pull quota, anybody's Retry-After.

Pure: text in, values out; nonsense counts as "unsaid". Sources: Docker's "pull
usage and limits" page, hub-feedback 2081 (a value without its number), RFC
9110 §10.2.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from proxy.ports import Quota


def parse_quota(headers: Mapping[str, str], *, now: float) -> Quota | None:
    """The quota in an answer's headers; None if they do not speak of one.

    `ratelimit-limit: 100;w=21600` is 100 pulls in 21,600 s. Some accounts get
    `;w=21600`: a window, but no number.
    """
    limit_text = headers.get("ratelimit-limit")
    remaining_text = headers.get("ratelimit-remaining")
    if limit_text is None and remaining_text is None:
        return None
    limit, window_s = _counted(limit_text or "")
    remaining, remaining_window_s = _counted(remaining_text or "")
    return Quota(
        limit=limit,
        remaining=remaining,
        window_s=window_s if window_s is not None else remaining_window_s,
        source=headers.get("docker-ratelimit-source"),
        read_at=now,
    )


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Seconds from `now` (since the epoch) that a Retry-After asks for, ≥ 0."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _counted(text: str) -> tuple[int | None, int | None]:
    count, *parameters = (part.strip() for part in text.split(";"))
    window = next((p[2:] for p in parameters if p.startswith("w=")), "")
    return _number(count), _number(window)


def _number(text: str) -> int | None:
    # Longer than any quota; int() of a huge text would take its time.
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 12 else None
