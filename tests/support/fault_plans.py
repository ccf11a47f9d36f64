"""Which request of a `FakeRegistry` meets which fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.fake_answers import Seen
from tests.support.faults import Fault


@dataclass(slots=True)
class Plan:
    """A fault for the next `left` requests that match (None: all of them).

    `early`: it befalls a request before anything else is decided about it.
    """

    fault: Fault
    matches: Callable[[Seen], bool]
    left: int | None
    early: bool


@dataclass(slots=True)
class FaultPlans:
    """Plans in the order in which they were made; the first that matches counts."""

    plans: list[Plan] = field(default_factory=list)

    def take(self, seen: Seen, *, early: bool) -> Fault | None:
        """The fault for a request, used up by this; None: none is planned."""
        for plan in self.plans:
            if plan.left != 0 and plan.early == early and plan.matches(seen):
                plan.left = None if plan.left is None else plan.left - 1
                return plan.fault
        return None
