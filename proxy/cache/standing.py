"""What an answer stands on: for how long it may be given again without looking here.

The cache says it, the web layer's fast lane uses it. A `Life` is that of one value
in a bounded memory, or of one upstream's good health: it ends the moment the value
leaves or is replaced, or the upstream fails, and whoever watches it hears of that
in the same step. So nothing has to be looked up again per request, and an answer
whose ground is gone is gone with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from proxy.events import BreakerMoved, CableMoved, Event
from proxy.ports import Observe


class Life:
    """Ends once, and tells those who watch. `used()` counts as a use of the value."""

    __slots__ = ("_watchers", "over", "used")

    def __init__(self, used: Callable[[], object] = lambda: None) -> None:
        self.over = False
        self.used = used
        self._watchers: dict[int, Callable[[], None]] = {}

    def watch(self, watcher: object, ended: Callable[[], None]) -> None:
        """`ended` is called at the end, unless `watcher` was withdrawn before."""
        self._watchers[id(watcher)] = ended

    def unwatch(self, watcher: object) -> None:
        """Idempotent."""
        self._watchers.pop(id(watcher), None)

    def end(self) -> None:
        """It is over, for good."""
        self.over = True
        watchers, self._watchers = self._watchers, {}
        for ended in watchers.values():
            ended()


class Lives:
    """One life at a time by name; `end` ends it, and the next who asks begins another."""

    def __init__(self) -> None:
        self._lives: dict[Hashable, Life] = {}

    def of(self, name: Hashable, used: Callable[[], object] = lambda: None) -> Life:
        """The present one."""
        life = self._lives.get(name)
        if life is None:
            self._lives[name] = life = Life(used)
        return life

    def end(self, name: Hashable) -> None:
        """Nothing happens if nobody asked for it."""
        life = self._lives.pop(name, None)
        if life is not None:
            life.end()


def ending_with_failures(health: Lives, observe: Observe) -> Observe:
    """As `observe`; an upstream's life in `health` ends in the step in which it begins to
    fail, or in which it may no longer be dialled, or may be again.
    """

    def note(event: Event) -> None:
        match event:
            case BreakerMoved(upstream=name, state="failing") | CableMoved(upstream=name):
                health.end(name)
            case _:
                pass
        observe(event)

    return note


@dataclass(frozen=True, slots=True)
class Standing:
    """All of `lives`, and the cache's clock in `[since, until)` (seconds since the epoch).

    `touch` is to be called now and then while the answer is repeated: a use of what
    it came from, for those who evict by use.
    """

    lives: tuple[Life, ...] = ()
    since: float = -math.inf
    until: float = math.inf
    touch: Callable[[], None] | None = None

    def on(self, other: Standing) -> Standing:
        """Both grounds are needed; `touch` is ours."""
        return Standing(
            self.lives + other.lives,
            max(self.since, other.since),
            min(self.until, other.until),
            self.touch,
        )

    def holds(self, now: float) -> bool:
        """Whether the answer may be repeated at this moment."""
        return self.since <= now < self.until and not any(life.over for life in self.lives)

    def used(self) -> None:
        """The answer was repeated since this was last called."""
        for life in self.lives:
            life.used()
        if self.touch is not None:
            self.touch()
