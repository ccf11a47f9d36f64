"""When to stop asking S3, and when to ask again.

A dead store must cost microseconds, not a deadline for every request. After 3
failures in a row all calls fail at once, until a probe (`client.py` sends them, no
client ever waits for one) is answered, whatever the answer says. Probes come after
1 s, doubling up to 5 s.
One call that is left in silence is enough, if nobody else got an answer meanwhile:
three in a row would cost a client its own deadline.
No I/O, no tasks, no `await` between looking and deciding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from proxy.storage.s3.trouble import S3Refused, S3Unreachable

FAILURES_MAX = 3
OPEN_S_MIN = 1.0
OPEN_S_MAX = 5.0


class Breaker:
    """The breaker of one store. `wait_s`: how long before the next probe, while open."""

    def __init__(self) -> None:
        self._failures = 0
        self._answers = 0
        self._reason = ""
        self.wait_s = 0.0

    @property
    def trouble(self) -> str:
        """Why calls fail at once; empty while they don't."""
        return self._reason if self.wait_s else ""

    @contextmanager
    def call(self, *, probe: bool = False) -> Iterator[None]:
        """Around one call. Raises `S3Unreachable` at once while open, but to a probe.

        Learns from what passes through; a cancelled call teaches nothing.
        """
        if self.wait_s and not probe:
            raise S3Unreachable(f"{self._reason}; not asked again yet")
        answers = self._answers
        try:
            yield
        except S3Refused:
            self._answered()
            raise
        except S3Unreachable as error:
            alone = error.silent and answers == self._answers
            self._failed(str(error), probe=probe, alone=alone)
            raise
        else:
            self._answered()

    def _answered(self) -> None:
        self._answers += 1
        self._failures, self.wait_s = 0, 0.0

    def _failed(self, reason: str, *, probe: bool, alone: bool) -> None:
        self._failures += 1
        # Calls that began before it opened tell nothing new.
        if probe or (not self.wait_s and (alone or self._failures >= FAILURES_MAX)):
            self._reason = reason
            self.wait_s = min(max(OPEN_S_MIN, self.wait_s * 2), OPEN_S_MAX)
