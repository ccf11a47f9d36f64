"""When to stop asking an upstream, and when to ask again.

A pure state machine over an injected monotonic clock: no I/O, no tasks, and no
`await`, so every call is an atomic step. A refused call costs microseconds;
that is the point: clients fall back to another mirror at once instead of
waiting for a dead one.

- *failing*: after 3 failures in a row (no connection, no head in time, 5xx)
  every call is refused for 2 s, doubling up to 60 s; then one call at a time
  may probe. A body that breaks half way is no failure: the transfer resumes.
- *limited*: after a 429 the API (manifests, tags, referrers) is left alone for
  as long as asked, 5 s if unsaid, at most 60 s. Blobs go on, unless a blob was
  answered 429 itself: on Docker Hub they do not count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from proxy.errors import UpstreamLimited, UpstreamUnavailable

FAILURES_MAX = 3
OPEN_S_MIN = 2.0
OPEN_S_MAX = 60.0
LIMITED_S_DEFAULT = 5.0
LIMITED_S_MAX = 60.0

State = Literal["unused", "ok", "failing", "limited"]
Lane = Literal["api", "blob"]


@dataclass(slots=True)
class Breaker:
    """The breaker of one upstream. `moved` hears of every change of state."""

    name: str
    monotonic: Callable[[], float]
    moved: Callable[[Literal["ok", "failing", "limited"], str], None]
    _failures: int = 0
    _open_s: float = 0.0
    _open_until: float = 0.0
    _probing: bool = False
    _limited_until: dict[Lane, float] = field(default_factory=dict)
    _reason: str = ""
    _announced: State = "unused"

    def enter(self, lane: Lane) -> Call:
        """Begin a call; use the result as a context manager around it.

        Raises `UpstreamLimited` or `UpstreamUnavailable` when it may not begin.
        """
        now = self.monotonic()
        if self._open_s and (now < self._open_until or self._probing):
            raise UpstreamUnavailable(f"{self._reason}; not asked again yet")
        limited_s = self._limited_until.get(lane, now) - now
        if limited_s > 0:
            raise UpstreamLimited(
                f"{self.name} limits our requests; it is left alone for {limited_s:.0f} s",
                retry_after_s=limited_s,
            )
        probe = self._open_s > 0
        self._probing = probe
        return Call(self, lane, probe=probe)

    def state(self) -> tuple[State, str, float]:
        """The state now, its reason, and after how many seconds a call may go."""
        now = self.monotonic()
        if self._open_s:
            return "failing", self._reason, max(0.0, self._open_until - now)
        limited_s = max((until - now for until in self._limited_until.values()), default=0.0)
        if limited_s > 0:
            return "limited", "answered 429", limited_s
        return ("unused" if self._announced == "unused" else "ok"), "", 0.0

    def _succeeded(self) -> None:
        self._failures, self._open_s = 0, 0.0
        self._announce()

    def _failed(self, reason: str, *, probe: bool) -> None:
        self._failures += 1
        # Calls that began before it opened tell nothing new.
        if probe or (self._failures >= FAILURES_MAX and not self._open_s):
            self._reason = reason
            self._open_s = min(max(OPEN_S_MIN, self._open_s * 2), OPEN_S_MAX)
            self._open_until = self.monotonic() + self._open_s
            self._announce()

    def _limited(self, lane: Lane, retry_after_s: float | None) -> None:
        wait_s = LIMITED_S_DEFAULT if retry_after_s is None else retry_after_s
        self._limited_until[lane] = self.monotonic() + min(wait_s, LIMITED_S_MAX)
        self._succeeded()

    def _announce(self) -> None:
        state, reason, _ = self.state()
        before, self._announced = self._announced, "ok" if state == "unused" else state
        if self._announced != before and not (before == "unused" and self._announced == "ok"):
            self.moved(self._announced, reason)


@dataclass(slots=True)
class Call:
    """One admitted call. Tell it how it went, at most once; leaving it untold
    (cancelled, or nothing to learn) gives a probe's turn to the next caller.
    """

    breaker: Breaker
    lane: Lane
    probe: bool
    _told: bool = False

    def succeeded(self) -> None:
        """The upstream answered, whatever it said."""
        if self._tell():
            self.breaker._succeeded()  # noqa: SLF001 - one state machine in two classes

    def failed(self, reason: str) -> None:
        """No connection, no head in time, or 5xx."""
        if self._tell():
            self.breaker._failed(reason, probe=self.probe)  # noqa: SLF001 - as above

    def limited(self, retry_after_s: float | None) -> None:
        """429."""
        if self._tell():
            self.breaker._limited(self.lane, retry_after_s)  # noqa: SLF001 - as above

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tell()

    def _tell(self) -> bool:
        first, self._told = not self._told, True
        if first and self.probe:
            self.breaker._probing = False  # noqa: SLF001 - as above
        return first
