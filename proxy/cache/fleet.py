"""One upstream fetch over the whole fleet: who brings a blob, and from where.

In this order: the durable store (no claim needed); then the claim on the digest;
with it the durable store once more, because somebody may just have finished, and
the upstream; without it the replica that holds it, whose spool is read live from
our own offset.

The claim saves traffic and decides nothing. Whoever can't read from its holder
goes on alone, from the byte it has: at worst one fetch too many, never a wrong
byte and never a client that waits for a dead replica.

| The holder | We |
|---|---|
| is gone (refused, reset) | take exactly its claim over; of several, one succeeds |
| is silent, its claim lapses | get the claim the ordinary way |
| is silent, its claim is renewed | the upstream stalls: go on following, but not for ever |
| can't be reached (partition) | try twice, then go alone |
| has nothing | look in the store again, then try for the claim again |
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

from proxy.cache.elsewhere import PeerSupply, StorageSupply
from proxy.cache.peering import Peers
from proxy.cache.supplies import Origin, Supply, UpstreamSupplies
from proxy.errors import (
    EntrepotError,
    PeerGone,
    PeerUnreachable,
    UpstreamUnavailable,
)
from proxy.ports import BlobKey, Blobs, Coordination, Held, Lease

_STORAGE_TRIES = 2
_UNREACHABLE_MAX = 2
_SILENT_MAX = 6
_EMPTY_MAX = 40
_EMPTY_DELAY_S = 0.1
# A claim without an owner is a look of our own process, or of a replica without peers.
_NAMELESS_MAX = 3
_NAMELESS_DELAY_S = 0.02
# A range that starts further ahead of what somebody has than this does not wait for it.
AHEAD_BYTES_MAX = 8 * 1024 * 1024


class Uploader(Protocol):
    """Brings verified blobs of the local tier to the durable store."""

    async def promise(self, key: BlobKey) -> None:
        """Remember, over a crash too, that a blob about to be kept here is to be stored.
        Never raises.
        """

    async def add(self, key: BlobKey, *, ask_first: bool = False) -> Awaitable[None]:
        """Take one over; the future ends when it is stored. Never raises."""

    def add_later(self, key: BlobKey) -> None:
        """Another replica is storing it: look after a while whether it did."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a replica shares with others; nothing on a machine alone.

    `together`: replicas coordinate, so claims and outcomes are worth sharing.
    """

    durable: Blobs | None = None
    uploader: Uploader | None = None
    peers: Peers | None = None
    together: bool = False


class FleetSupplies:
    """`Supplies` of one flight. `aclose` gives the claim back.

    `lease` is set while the claim is ours.
    """

    def __init__(
        self,
        key: BlobKey,
        upstreams: UpstreamSupplies,
        *,
        fleet: Fleet,
        coordination: Coordination,
        claims: bool = True,
    ) -> None:
        """Without `claims` nothing is claimed, and a holder read only as far as it is."""
        self._key = key
        self._name = f"blob/{key.group}/{key.digest}"
        self._upstreams = upstreams
        self._durable = durable = fleet.durable
        self._peers = fleet.peers
        self._coordination = coordination
        self._stack = AsyncExitStack()
        self._ask_storage = durable is not None
        self._storage_failures = 0
        self._gone: Held | None = None
        self._unreachable = 0
        self._silent = 0
        self._empty = 0
        self._nameless = 0
        self._last: Supply | None = None
        self._claims = claims
        self.alone = False
        self.lease: Lease | None = None

    async def choose(self) -> Supply:
        """See `Supplies`. Raises what the upstreams refuse with."""
        self._last = supply = await self._choose()
        return supply

    async def _choose(self) -> Supply:
        while True:
            if self._ask_storage and self._durable is not None:
                return StorageSupply(self._durable, self._key)
            if self.lease is not None or self.alone:
                return await self._upstreams.choose()
            if not self._claims:
                held = await self._look()
                if held is not None and held.owner and self._peers is not None:
                    return PeerSupply(self._peers, held, self._key, ahead_max=AHEAD_BYTES_MAX)
                self.alone = True
                continue
            if self._empty:
                await asyncio.sleep(_EMPTY_DELAY_S)
            held = await self._claim()
            if held is None:
                # Somebody may have finished between our look and our claim.
                self._ask_storage = self._durable is not None
            elif held.owner and self._peers is not None:
                return PeerSupply(self._peers, held, self._key)
            elif self._nameless < _NAMELESS_MAX:
                self._nameless += 1
                await asyncio.sleep(_NAMELESS_DELAY_S)
            else:
                self.alone = True

    def refused(self, supply: Supply, error: EntrepotError | None) -> None:
        """See `Supplies`."""
        match supply.origin:
            case "upstream":
                self._upstreams.refused(supply, error)
            case "peer":
                self._empty += 1
                self._ask_storage = self._durable is not None
                self.alone = not self._claims or self._empty >= _EMPTY_MAX
            case "storage":
                self._ask_storage = False

    def failed(self, supply: Supply, error: UpstreamUnavailable) -> None:
        """See `Supplies`."""
        match supply:
            case PeerSupply(held=held):
                self._peer_failed(held, error)
            case StorageSupply():
                self._storage_failures += 1
                self._ask_storage = self._storage_failures < _STORAGE_TRIES
            case _:
                self._upstreams.failed(supply, error)

    @property
    def origin(self) -> Origin:
        """Where the last bytes came from."""
        return "upstream" if self._last is None else self._last.origin

    def progress(self) -> None:
        """The fill moves, or stands still because its supply does."""
        if self.lease is not None:
            self.lease.progress()

    def hopeless(self) -> bool:
        """Only the upstream can be hopeless; a claim may change hands any moment."""
        return self.origin == "upstream" and self._upstreams.hopeless()

    def retry_in_s(self) -> float:
        """See `Supplies`."""
        return self._upstreams.retry_in_s() if self.origin == "upstream" else 0.0

    async def aclose(self) -> None:
        """Give the claim back."""
        self.lease = None
        await self._stack.aclose()

    def _peer_failed(self, held: Held, error: UpstreamUnavailable) -> None:
        match error:
            case PeerGone():
                self._gone = held
                self._unreachable += 1
            case PeerUnreachable():
                self._unreachable += 1
            case _:
                self._silent += 1
        # Who claims nothing only looked whether it is there already.
        patience = self._unreachable <= _UNREACHABLE_MAX and self._silent <= _SILENT_MAX
        self.alone = not self._claims or not patience

    async def _look(self) -> Held | None:
        """Who has the claim. None: nobody, and that stays so."""
        async with self._coordination.try_hold(self._name) as claim:
            return claim if isinstance(claim, Held) else None

    async def _claim(self) -> Held | None:
        """None: it is ours now."""
        stack = AsyncExitStack()
        claim = await stack.enter_async_context(
            self._coordination.try_hold(self._name, instead_of=self._gone)
        )
        if isinstance(claim, Held):
            await stack.aclose()
            return claim
        self.lease = claim
        self._stack.push_async_callback(stack.aclose)
        return None
