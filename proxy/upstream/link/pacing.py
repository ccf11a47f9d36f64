"""Whose turn it is to read from an upstream. Pure: time is handed in, nothing waits.

A transfer tells of every piece it has read (`took`) and hears whether it may read on; if
not, it stands in a queue until `due` names it. Who goes first:

1. The more urgent class, strictly: while anything more urgent moves (or moved within
   `MOVING_S`), a transfer is held back, whether there is a cap or not: without one, it
   is the link itself that is scarce. So that nothing starves, each class that is held
   back still gets a trickle, `TRICKLE_SHARE` of the cap or of what the link was seen to
   do.
2. Within a class the client that was given least, in bytes; a newcomer begins level with
   the others, and so does one that comes back (start-time fair queuing).
3. For one client the transfer that was given least.

The cap of all upstreams and that of the upstream itself both hold. `fetches_max` of
either bounds how many transfers run: the most urgent and oldest ones. A less urgent one
that already runs is not ended for a more urgent one: it goes on at a trickle.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from proxy.cache.traffic import Traffic, Urgency
from proxy.upstream.link.buckets import Bucket, Peak

MOVING_S = 2.0
TRICKLE_SHARE = 0.02
_TRICKLE_RATE_MIN = 8 * 1024
_HELD_BACK_BYTES = 16 * 1024
_IN_HAND_BYTES = 64 * 1024
# Round trips may take that long, and twice that, without slowing a transfer under a cap.
_WINDOW_S = 0.15
_WINDOW_BYTES_MIN = 32 * 1024
_WINDOW_BYTES_MAX = 1024 * 1024
# Urgency changes without a word; nobody waits longer than this to be looked at again.
LOOK_S = 0.1
_SOON_S = 0.0005

_Client = tuple[Urgency, str]


@dataclass(slots=True, eq=False)
class Scope:
    """What is shared: by all upstreams, or within one. `bytes` and `paused_s` by urgency."""

    name: str
    fetches_max: int | None = None
    bucket: Bucket = field(default_factory=Bucket)
    transfers: int = 0
    bytes: list[int] = field(default_factory=lambda: [0] * len(Urgency))
    paused_s: list[float] = field(default_factory=lambda: [0.0] * len(Urgency))


def window(*scopes: Scope) -> int | None:
    """How many bytes may wait in the kernel for one of their connections, under a cap: its
    share of what comes in `_WINDOW_S`, because all of that comes at once when a sender
    begins. None: no matter.
    """
    shares = [
        scope.bucket.rate * _WINDOW_S / max(1, scope.transfers)
        for scope in scopes
        if scope.bucket.rate is not None
    ]
    share = int(min(shares, default=_WINDOW_BYTES_MAX))
    return None if share >= _WINDOW_BYTES_MAX else max(share, _WINDOW_BYTES_MIN)


@dataclass(slots=True, eq=False)
class Transfer:
    """One body being read, or about to be asked for (until `begun`)."""

    traffic: Traffic
    scopes: tuple[Scope, Scope]
    number: int
    begun: bool = False
    given: float = 0.0
    queued_at: float | None = None
    unpaid: int | None = None
    """Bytes to come that are yet to be counted; None: unknown."""

    @property
    def upstream(self) -> Scope:
        """Its upstream's."""
        return self.scopes[1]

    @property
    def rank(self) -> tuple[Urgency, bool, int]:
        """The lower, the sooner it may run."""
        return self.traffic.urgency, not self.begun, self.number


class Pacing:
    """All transfers. Each call is told the time."""

    def __init__(self, everything: Scope, now: float) -> None:
        self._everything = everything
        self._transfers: list[Transfer] = []
        self._queue: list[Transfer] = []
        self._numbers = 0
        self._given: dict[_Client, float] = {}
        self._level = [0.0] * len(Urgency)
        self._moved_at = [-MOVING_S] * len(Urgency)
        self._trickles = [Bucket(0.0, now) for _ in Urgency]
        self._peak = Peak(now)

    # --- transfers ---------------------------------------------------------------------

    def begin(self, upstream: Scope, traffic: Traffic, now: float) -> Transfer:
        """It wants to run; `may_begin` says whether it may ask for its bytes."""
        self._numbers += 1
        transfer = Transfer(traffic, (self._everything, upstream), self._numbers)
        for scope in transfer.scopes:
            scope.transfers += 1
        same = [one.given for one in self._transfers if one.traffic.client == traffic.client]
        transfer.given = min(same, default=0.0)
        self._transfers.append(transfer)
        self.stirs(traffic.urgency, now)
        return transfer

    def may_begin(self, transfer: Transfer) -> bool:
        """Whether there is a place for it; then it has it."""
        transfer.begun = transfer.begun or self._has_a_place(transfer)
        return transfer.begun

    def end(self, transfer: Transfer, now: float) -> None:
        """It is done with."""
        self._transfers.remove(transfer)
        for scope in transfer.scopes:
            scope.transfers -= 1
        if transfer.queued_at is not None:
            self._leave(transfer, now)
        clients = {(one.traffic.urgency, one.traffic.client) for one in self._transfers}
        self._given = {client: had for client, had in self._given.items() if client in clients}

    def stirs(self, urgency: Urgency, now: float) -> None:
        """Something of this urgency is under way."""
        self._moved_at[urgency] = now

    def took(self, transfer: Transfer, count: int, now: float) -> bool:
        """It has read so many bytes; whether it may read on. If not, it is queued."""
        urgency = transfer.traffic.urgency
        self._moved_at[urgency] = now
        everything, upstream = transfer.scopes
        everything.bytes[urgency] += count
        upstream.bytes[urgency] += count
        capped = everything.bucket.rate is not None or upstream.bucket.rate is not None
        if urgency is Urgency.WAITING and not capped and transfer.queued_at is None:
            return True
        client = (urgency, transfer.traffic.client)
        self._given[client] = max(self._given.get(client, 0.0), self._level[urgency]) + count
        transfer.given += count
        if transfer.unpaid is not None:
            count = min(count, transfer.unpaid)
            transfer.unpaid -= count
        buckets = self._buckets(transfer, now)
        for bucket in buckets:
            bucket.refill(now)
            bucket.take(count)
        free = all(bucket.open for bucket in buckets) and not (capped and self._queue)
        if free and transfer.queued_at is None:
            return True
        if transfer.queued_at is None:
            transfer.queued_at = now
            self._queue.append(transfer)
        return False

    def expect(self, transfer: Transfer, length: int, ahead: int, now: float) -> None:
        """So many bytes will come, of which the kernel takes `ahead` before they are read."""
        if all(scope.bucket.rate is None for scope in transfer.scopes):
            return
        ahead = min(ahead, length)
        transfer.unpaid = length - ahead
        for scope in transfer.scopes:
            scope.bucket.refill(now)
            scope.bucket.take(ahead)

    def counted(self, upstream: Scope, urgency: Urgency, count: int, now: float) -> None:
        """Bytes that are not held back, but come over the same link."""
        for scope in (self._everything, upstream):
            scope.bytes[urgency] += count
            scope.bucket.refill(now)
            scope.bucket.take(count)

    def piece(self, transfer: Transfer, now: float) -> int | None:
        """How many bytes it may read at once; None: whatever is there."""
        bound = None
        for scope in transfer.scopes:
            if scope.bucket.rate is not None:
                bound = min(bound or scope.bucket.quantum, scope.bucket.quantum)
        if bound is None and transfer.traffic.urgency is not Urgency.WAITING:
            bound = _HELD_BACK_BYTES if self._held_back(transfer, now) else _IN_HAND_BYTES
        return bound

    # --- turns -------------------------------------------------------------------------

    def due(self, now: float) -> list[Transfer]:
        """Those that may read on; they stand in the queue no longer."""
        self._peak.sample(sum(self._everything.bytes), now)
        due = []
        while (transfer := self._next(now)) is not None:
            for bucket in self._buckets(transfer, now):
                bucket.promise(now)
            self._leave(transfer, now)
            urgency = transfer.traffic.urgency
            had = self._given.get((urgency, transfer.traffic.client), 0.0)
            self._level[urgency] = max(self._level[urgency], had)
            due.append(transfer)
        return due

    def next_due_in(self, now: float) -> float | None:
        """After how many seconds to call `due` again; None: nobody waits."""
        if not self._queue:
            return None
        waits = (
            max(bucket.opens_in() for bucket in self._buckets(one, now)) for one in self._queue
        )
        return max(_SOON_S, min(LOOK_S, *waits))

    def _next(self, now: float) -> Transfer | None:
        best: tuple[tuple[bool, Urgency, float, float], Transfer] | None = None
        for one in self._queue:
            buckets = self._buckets(one, now)
            for bucket in buckets:
                bucket.refill(now)
            if not all(bucket.open for bucket in buckets):
                continue
            traffic = one.traffic
            # A trickle is little, and its turn comes before all others.
            order = (
                len(buckets) == len(one.scopes),
                traffic.urgency,
                self._given.get((traffic.urgency, traffic.client), 0.0),
                one.given,
            )
            if best is None or order < best[0]:
                best = order, one
        return None if best is None else best[1]

    def _leave(self, transfer: Transfer, now: float) -> None:
        self._queue.remove(transfer)
        paused_s = now - (transfer.queued_at or now)
        transfer.queued_at = None
        for scope in transfer.scopes:
            scope.paused_s[transfer.traffic.urgency] += paused_s

    # --- who is held back --------------------------------------------------------------

    def _buckets(self, transfer: Transfer, now: float) -> list[Bucket]:
        """All of what it needs."""
        buckets = [scope.bucket for scope in transfer.scopes]
        if self._held_back(transfer, now):
            trickle = self._trickles[transfer.traffic.urgency]
            trickle.set_rate(self._trickle_rate(), now)
            buckets.append(trickle)
        return buckets

    def _trickle_rate(self) -> float:
        cap = self._everything.bucket.rate
        if cap is not None:
            return cap * TRICKLE_SHARE
        return max(self._peak.rate * TRICKLE_SHARE, _TRICKLE_RATE_MIN)

    def _held_back(self, transfer: Transfer, now: float) -> bool:
        urgency = transfer.traffic.urgency
        return any(now - at < MOVING_S for at in self._moved_at[:urgency]) or (
            urgency is not Urgency.WAITING
            and (self._queues_before(urgency) or not self._has_a_place(transfer))
        )

    def _queues_before(self, urgency: Urgency) -> bool:
        return any(one.traffic.urgency < urgency for one in self._queue)

    def _has_a_place(self, transfer: Transfer) -> bool:
        """Whether it is among those that may run, everywhere."""
        for scope in transfer.scopes:
            if scope.fetches_max is not None and scope.transfers > scope.fetches_max:
                rank = transfer.rank
                before = sum(scope in o.scopes and o.rank < rank for o in self._transfers)
                if before >= scope.fetches_max:
                    return False
        return True

    # --- for status pages --------------------------------------------------------------

    def transfers(self) -> Iterable[Transfer]:
        """All, those that have yet to begin included."""
        return tuple(self._transfers)
