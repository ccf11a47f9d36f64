"""Times as cron has them: `0 2 * * *` is two in the morning, every day.

Five fields as in Debian's cron (crontab(5)), days and months by name too, and its way
with clocks that are put forward or back: what falls into the missing hour is done right
after it, what falls into the doubled one is done once.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator

from proxy.config.values import Text

_FIELDS = 5
# Any day will do: it is only asked whether there is a next time at all.
_SOME_DAY = datetime(2024, 1, 1)  # noqa: DTZ001 - no time zone, so no clock is put back


def next_time(cron: str, after: float, zone: str | None) -> float:
    """When it is due next, later than `after`; both in seconds since the epoch.

    `zone` as `Europe/Berlin`; None: the system's.
    """
    # Times are whole seconds. In an hour that comes twice its first times may be past already.
    times = (due.timestamp() for due in CronSim(cron, _clock(math.floor(after), zone)))
    return next(due for due in times if due > after)


def last_time(cron: str, before: float, zone: str | None) -> float:
    """When it was due last, earlier than `before`."""
    times = (
        due.timestamp() for due in CronSim(cron, _clock(math.ceil(before), zone), reverse=True)
    )
    return next(due for due in times if due < before)


def _clock(at: int, zone: str | None) -> datetime:
    # A naive time is one of the system's zone, whose clock it follows through the year.
    return datetime.fromtimestamp(at, None if zone is None else ZoneInfo(zone))


def _cron(value: str) -> str:
    value = " ".join(value.split())
    wish = "must be five fields as in crontab, such as '0 2 * * *' (every day at 02:00)"
    if len(value.split(" ")) != _FIELDS:
        raise ValueError(wish)
    try:
        next(CronSim(value, _SOME_DAY))
    except (CronSimError, AssertionError, ValueError) as error:
        why = f": {str(error).lower()}" if isinstance(error, CronSimError) else ""
        raise ValueError(wish + why) from None
    except StopIteration:
        raise ValueError("never comes, such as the 30th of February") from None
    return value


Cron = Annotated[Text, AfterValidator(_cron)]
"""Five fields; see `next_time`."""
