"""Moments as people write them: `2026-10-01`, `2026-10-01T12:30:00Z`.

Kept as text in one spelling, in UTC to the second, so that `config show` prints what
can be pasted back. A date alone is its beginning; what names no zone is UTC.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator

_WISH = "must be a date such as 2026-10-01 or a time such as 2026-10-01T12:30:00Z"


def parse_moment(value: object) -> str:
    """`YYYY-MM-DDTHH:MM:SSZ` from text or from what YAML made of it. Raises `ValueError`."""
    match value:
        case datetime():
            moment = value
        case date():  # YAML's, of a date alone
            moment = datetime(value.year, value.month, value.day, tzinfo=UTC)
        case str():
            try:
                moment = datetime.fromisoformat(value.strip())
            except ValueError:
                raise ValueError(_WISH) from None
        case _:
            raise ValueError(_WISH)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return spelled(moment.timestamp())
    except (OverflowError, ValueError, OSError):
        raise ValueError(_WISH) from None


def seconds(moment: str) -> float:
    """Seconds since the epoch of what `parse_moment` returned."""
    return datetime.fromisoformat(moment).timestamp()


def spelled(at: float) -> str:
    """A time, in seconds since the epoch, to the second below."""
    return datetime.fromtimestamp(at // 1, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment_or_none(value: Any) -> str | None:
    return None if value is None else parse_moment(value)


MomentOrNone = Annotated[str | None, BeforeValidator(_moment_or_none)]
