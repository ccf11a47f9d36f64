"""The settings of the link to the upstreams: how much of it may be used, and when.

What is written in words (`20Mbit/s`, `mon-fri`, `08:00`) stays in the settings as it
was written, checked; the functions here say what it means.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from proxy.config.problems import suggestion
from proxy.config.values import listed

UNLIMITED = "unlimited"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MIN = 24 * 60

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)(i?)(bit/s|bps|B/s|Bps)", re.ASCII)
_PREFIXES = ("", "k", "m", "g")
_TIME = re.compile(r"(\d{1,2}):(\d{2})", re.ASCII)
_RATE_MIN = 1000
# What YAML makes of 10:00 and later without quotes: a number to the base of 60.
_SEXAGESIMAL_MIN = 10 * 60


def parse_rate(text: str) -> int | None:
    """Bytes a second; None: unlimited. `k` is 1000, `Ki` is 1024. Raises `ValueError`."""
    text = text.strip()
    if text.lower() == UNLIMITED:
        return None
    number, unit = _split(text)
    found = _RATE.fullmatch(number + unit)
    if found is None:
        raise ValueError("must be a rate such as 20Mbit/s (bits), 2.5MB/s (bytes) or unlimited")
    base = 1024 if found[3] else 1000
    count = float(found[1]) * pow(float(base), _PREFIXES.index(found[2]))
    rate = round(count / 8 if found[4].startswith("b") else count)
    if rate < _RATE_MIN:
        raise ValueError("must be at least 8kbit/s (1kB/s)")
    return rate


def _split(text: str) -> tuple[str, str]:
    """Number and unit; all small letters, but for the B of bytes."""
    unit = text.lstrip("0123456789. ")
    number = text[: len(text) - len(unit)]
    in_bytes = unit.endswith(("B/s", "Bps", "B/S"))
    unit = unit.lower()
    return number, unit[:-3] + ("B/s" if in_bytes else unit[-3:])


def parse_time(text: str) -> int:
    """Minutes since midnight, 24:00 included. Raises `ValueError`."""
    found = _TIME.fullmatch(text.strip())
    minutes = -1 if found is None or int(found[2]) > 59 else int(found[1]) * 60 + int(found[2])
    if not 0 <= minutes <= DAY_MIN:
        raise ValueError('must be a time of day such as "08:00" or "24:00", in quotes')
    return minutes


def parse_days(text: str) -> frozenset[int]:
    """Days of the week, Monday is 0: `mon-fri`, `sat,sun`, `fri-mon`. Raises `ValueError`."""
    days: set[int] = set()
    for part in text.lower().split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"must be days such as mon-fri or sat,sun, out of {', '.join(DAYS)}")
        day, end = DAYS.index(first), DAYS.index(last or first)
        days.add(day)
        while day != end:
            day = (day + 1) % 7
            days.add(day)
    return frozenset(days)


def _rate(value: Any) -> str:
    if value is None:
        return UNLIMITED
    if isinstance(value, bool | int | float):
        raise ValueError("needs a unit, such as 20Mbit/s or 2.5MB/s")  # noqa: TRY004 - pydantic takes ValueError
    parse_rate(str(value))
    return str(value).strip()


def _time(value: Any) -> str:
    if isinstance(value, int) and _SEXAGESIMAL_MIN <= value <= DAY_MIN:
        value = f"{value // 60:02d}:{value % 60:02d}"
    minutes = parse_time(value if isinstance(value, str) else "")
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _days(value: Any) -> str:
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    text = value if isinstance(value, str) else ""
    parse_days(text)
    return text.lower().replace(" ", "")


def _zone(value: Any) -> Any:
    if value is None:
        return None
    try:
        ZoneInfo(str(value))
    except (ValueError, OSError, KeyError):
        known = available_timezones()
        near = suggestion(str(value), known)
        none = "" if known else " (this system knows none; install tzdata)"
        raise ValueError(f"must be a time zone such as Europe/Berlin or UTC{none}{near}") from None
    return str(value)


Rate = Annotated[str, BeforeValidator(_rate)]
"""Text; `parse_rate` says how much it is."""
Time = Annotated[str, BeforeValidator(_time)]
"""`08:00`; see `parse_time`."""
Days = Annotated[str, BeforeValidator(_days)]
"""`mon-fri`; see `parse_days`."""
Zone = Annotated[str | None, BeforeValidator(_zone)]


class LinkHours(BaseModel):
    """Another rate at certain hours. One that ends before it begins goes on past
    midnight, into the day after those that are named.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, populate_by_name=False
    )

    days: Days = Field(default="mon-sun", description="Days, such as `mon-fri` or `sat,sun`.")
    begin: Time = Field(alias="from", description="When it begins, such as `08:00`.")
    end: Time = Field(alias="to", description="When it ends; before `from`: the next day.")
    rate: Rate = Field(description="The rate in that time; `unlimited`: no cap.")

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if parse_time(self.begin) % DAY_MIN == parse_time(self.end):
            raise ValueError('`from` and `to` are the same; a whole day is "00:00" to "24:00"')
        return self


class UpstreamLinkSettings(BaseModel):
    """How much may be fetched from one upstream."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    rate: Rate = Field(
        default=UNLIMITED,
        description="Most that is fetched, such as `20Mbit/s` or `2.5MB/s` (what TCP and TLS add, "
        "some 4 %, comes on top).",
    )
    hours: Annotated[
        tuple[LinkHours, ...],
        listed('a list, such as [{from: "08:00", to: "18:00", rate: 20Mbit/s}]'),
    ] = Field(
        default=(),
        description='Other rates at certain hours: `[{days: mon-fri, from: "08:00", to: "18:00", '
        "rate: 20Mbit/s}]`; the first that fits holds.",
    )
    fetches_max: int | None = Field(
        default=None,
        ge=1,
        description="Most blobs fetched at once; the urgent ones go first. Unset: no bound of its "
        "own.",
    )


class LinkSettings(UpstreamLinkSettings):
    """How much may be fetched from all upstreams together."""

    time_zone: Zone = Field(
        default=None,
        description="The time zone of all `hours`, such as `Europe/Berlin`; unset: the system's.",
    )
