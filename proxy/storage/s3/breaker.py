"""When to stop asking S3, and when to ask again.

A dead store must cost microseconds, not a deadline for every request. After 3
failures in a row all calls fail at once for 1 s, doubling up to 30 s; then one
call at a time may try, and the first answer, whatever it says, closes it again.
No I/O, no tasks, no `await` between looking and deciding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from proxy.storage.s3.trouble import S3Refused, S3Unreachable

FAILURES_MAX = 3
OPEN_S_MIN = 1.0
OPEN_S_MAX = 30.0


class Breaker:
    """The breaker of one store; `monotonic` in seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failures = 0
        self._open_s = 0.0
        self._open_until = 0.0
        self._probing = False
        self._reason = ""

    @property
    def trouble(self) -> str:
        """Why calls fail at once; empty while they don't."""
        return self._reason if self._open_s else ""

    @contextmanager
    def call(self) -> Iterator[bool]:
        """Around one call; gives whether it is a probe. Raises `S3Unreachable`.

        Learns from what passes through; a cancelled call teaches nothing.
        """
        if self._open_s and (self._probing or self._monotonic() < self._open_until):
            raise S3Unreachable(f"{self._reason}; not asked again yet")
        probe = self._probing = self._open_s > 0
        try:
            yield probe
        except S3Refused:
            self._answered()
            raise
        except S3Unreachable as error:
            self._failed(str(error), probe=probe)
            raise
        else:
            self._answered()
        finally:
            if probe:
                self._probing = False

    def _answered(self) -> None:
        self._failures, self._open_s = 0, 0.0

    def _failed(self, reason: str, *, probe: bool) -> None:
        self._failures += 1
        # Calls that began before it opened tell nothing new.
        if probe or (self._failures >= FAILURES_MAX and not self._open_s):
            self._reason = reason
            self._open_s = min(max(OPEN_S_MIN, self._open_s * 2), OPEN_S_MAX)
            self._open_until = self._monotonic() + self._open_s
