"""For whom work is done: how urgent it is, and which client it is for.

Carried along by a contextvar, as traces are: a fill's task inherits it from whoever
started the fill, and code deep below (the pacing of what an upstream sends, the budget
of its quota) reads it without being handed it. It is one object, not a value, so that
somebody who waits can make a warm-up that is under way urgent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from enum import IntEnum


class Urgency(IntEnum):
    """Less is more urgent."""

    WAITING = 0
    """Somebody waits for it."""
    REFRESH = 1
    """What people really pull is brought up to date."""
    WARM = 2
    """It may be wanted one day."""


@dataclass(slots=True, eq=False)
class Traffic:
    """How urgent some work is now, and for which client (an address; empty: unknown)."""

    urgency: Urgency = Urgency.WAITING
    client: str = ""

    def raise_to(self, other: Traffic) -> None:
        """Somebody else wants the same: the more urgent counts."""
        if other.urgency < self.urgency:
            self.urgency, self.client = other.urgency, other.client


_traffic: ContextVar[Traffic | None] = ContextVar("traffic", default=None)


def current() -> Traffic:
    """Of the work that runs now; that nobody spoke of it means that somebody waits."""
    return _traffic.get() or Traffic()


@contextmanager
def working_as(urgency: Urgency, client: str = "") -> Iterator[Traffic]:
    """What begins in here, tasks included, is of this urgency."""
    traffic = Traffic(urgency, client)
    token = _traffic.set(traffic)
    try:
        yield traffic
    finally:
        _traffic.reset(token)


def waiting(client: str) -> None:
    """From here on this task works for a client that waits."""
    _traffic.set(Traffic(Urgency.WAITING, client))


def begun() -> tuple[Traffic, Context]:
    """For a task that begins now and may outlive this one: its traffic, as urgent as
    the current one but its own, and the context to run it in.
    """
    now = current()
    traffic, context = Traffic(now.urgency, now.client), copy_context()
    context.run(_traffic.set, traffic)
    return traffic, context
