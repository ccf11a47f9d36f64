"""Sizes and durations as people write them: `50GiB`, `500MB`, `10s`, `7d`.

A bare number is bytes or seconds, as the setting's name says. Both directions
live here, so that what `config show` and the README print can be pasted back.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)b?", re.ASCII | re.IGNORECASE)
_SIZE_UNITS = ("", "k", "m", "g", "t", "p")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)?", re.ASCII)
_DURATION_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_size(value: object) -> int:
    """Bytes from an int or text; `k` is 1000, `Ki` is 1024. Raises `ValueError`."""
    match value:
        case bool():
            pass
        case int() if value >= 0:
            return value
        case float() if value >= 0 and value.is_integer():
            return int(value)
        case str() if found := _SIZE.fullmatch(value.strip()):
            number, prefix, binary = found.groups()
            if prefix or not binary:
                base = 1024 if binary else 1000
                return round(float(number) * pow(float(base), _SIZE_UNITS.index(prefix.lower())))
    raise ValueError("must be a size such as 1048576, 500MB or 50GiB")


def parse_duration(value: object) -> float:
    """Seconds from a number or text. Raises `ValueError`."""
    match value:
        case bool():
            pass
        case int() | float() if value >= 0 and math.isfinite(value):
            return float(value)
        case str() if found := _DURATION.fullmatch(value.strip()):
            return float(found[1]) * _DURATION_UNITS[found[2] or "s"]
    raise ValueError("must be a duration such as 10, 2.5, 500ms, 10s, 5m or 7d")


def format_size(count: int) -> str:
    """`8388608` → `8MiB`; what `parse_size` reads back to the same number."""
    power = 0
    while power < len(_SIZE_UNITS) - 1 and count and count % 1024 == 0:
        count, power = count // 1024, power + 1
    return f"{count}{_SIZE_UNITS[power].upper()}iB" if power else str(count)


def format_duration(seconds: float) -> str:
    """`604800` → `7d`; what `parse_duration` reads back to the same number."""
    for unit in ("d", "h", "m"):
        length = _DURATION_UNITS[unit]
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s" if seconds else "0s"


def _size_or_none(value: Any) -> int | None:
    return None if value is None else parse_size(value)


def _duration_or_none(value: Any) -> float | None:
    return None if value is None else parse_duration(value)


Size = Annotated[int, BeforeValidator(parse_size)]
SizeOrNone = Annotated[int | None, BeforeValidator(_size_or_none)]
Seconds = Annotated[float, BeforeValidator(parse_duration)]
SecondsOrNone = Annotated[float | None, BeforeValidator(_duration_or_none)]
