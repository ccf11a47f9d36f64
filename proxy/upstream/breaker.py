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

What another replica found out may be heard (`hear_…`): then the same holds here
without a failure of our own. Only `news`, what was seen first-hand, is passed on,
so that nothing goes round in circles.
"""

from __future__ import annotations

import math
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
# What is heard is that old in addition, at most.
_HEARSAY_S = 2.0

State = Literal["unused", "ok", "failing", "limited"]
Lane = Literal["api", "blob"]


@dataclass(frozen=True, slots=True)
class News:
    """What this replica saw itself, `at` (monotonic), and until when it holds."""

    state: Literal["ok", "failing", "limited"]
    reason: str
    at: float
    until: float


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
    _failed_at: float = -math.inf
    _succeeded_at: float = -math.inf
    used_at: float = -math.inf
    """When it was last asked for a call (monotonic)."""
    news: News | None = None

    def enter(self, lane: Lane) -> Call:
        """Begin a call; use the result as a context manager around it.

        Raises `UpstreamLimited` or `UpstreamUnavailable` when it may not begin.
        """
        self.used_at = now = self.monotonic()
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

    def hear_failing(self, reason: str, *, age_s: float, left_s: float) -> None:
        """Another replica gave up `age_s` ago, for `left_s` from now."""
        now = self.monotonic()
        # Who reached it since, or is as far already, knows better.
        if self._open_s or self._succeeded_at > now - age_s - _HEARSAY_S or left_s <= 0:
            return
        self._reason, self._failed_at = reason, now - age_s
        self._open_s, self._open_until = OPEN_S_MIN, now + min(left_s, OPEN_S_MAX)
        self._announce()

    def hear_limited(self, left_s: float) -> None:
        """Another replica was told to wait, for the API."""
        until = self.monotonic() + min(left_s, LIMITED_S_MAX)
        self._limited_until["api"] = max(until, self._limited_until.get("api", until))
        self._announce()

    def hear_ok(self, *, age_s: float) -> None:
        """Another replica reached it again `age_s` ago."""
        if self._open_s and self.monotonic() - age_s > self._failed_at:
            self._failures, self._open_s = 0, 0.0
            self._announce()

    def _succeeded(self) -> None:
        self._succeeded_at = now = self.monotonic()
        if self._open_s:
            self.news = News("ok", "", now, now)
        self._failures, self._open_s = 0, 0.0
        self._announce()

    def _failed(self, reason: str, *, probe: bool) -> None:
        self._failures += 1
        # Calls that began before it opened tell nothing new.
        if probe or (self._failures >= FAILURES_MAX and not self._open_s):
            self._reason, self._failed_at = reason, self.monotonic()
            self._open_s = min(max(OPEN_S_MIN, self._open_s * 2), OPEN_S_MAX)
            self._open_until = self._failed_at + self._open_s
            self.news = News("failing", reason, self._failed_at, self._open_until)
            self._announce()

    def _limited(self, lane: Lane, retry_after_s: float | None) -> None:
        wait_s = LIMITED_S_DEFAULT if retry_after_s is None else retry_after_s
        now = self.monotonic()
        self._limited_until[lane] = until = now + min(wait_s, LIMITED_S_MAX)
        self._succeeded()
        if lane == "api":
            self.news = News("limited", "answered 429", now, until)

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
