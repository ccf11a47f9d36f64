"""Claims in Redis: taken, renewed while their work moves, given back.

One script takes and renews: it writes our claim if there is none, if it is ours,
or if it is exactly the one to be taken over; so a claim that Redis has forgotten
comes back with the next renewal, unless somebody else was faster. Time to live
is the server's business alone: no clock of ours is compared with another's.

Inside this process a claim holds whatever Redis says, also while Redis is away:
one fetch per replica then, instead of one per fleet.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal

from proxy.coordination.redis_link import Link, RedisAway, Timings
from proxy.events import LeaseMoved
from proxy.ports import Held, Observe

# KEYS: the claim. ARGV: our claim, its time to live (ms), our token, the token to
# be taken over. Returns somebody else's claim, or nil: it is ours now.
_CLAIM: Final = """
local found = redis.call('GET', KEYS[1])
if found then
  local ok, held = pcall(cjson.decode, found)
  if ok and type(held) == 'table' and type(held.token) == 'string'
      and held.token ~= ARGV[3] and held.token ~= ARGV[4] then
    return found
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""

# KEYS: the claim. ARGV: our token.
_RELEASE: Final = """
local found = redis.call('GET', KEYS[1])
if found then
  local ok, held = pcall(cjson.decode, found)
  if ok and type(held) == 'table' and held.token == ARGV[1] then
    return redis.call('DEL', KEYS[1])
  end
end
return 0
"""


class Claim:
    """`ports.Lease` in Redis. `lost` stays true once it is."""

    __slots__ = ("given_back", "lock", "lost", "moved", "name", "renewed_at", "token")

    def __init__(self, name: str, token: str, now: float) -> None:
        self.name = name
        self.token = token
        self.lost = False
        self.moved = True
        self.renewed_at = now
        self.given_back = False
        # Commands go over several connections: a release must not overtake a renewal.
        self.lock = asyncio.Lock()

    def progress(self) -> None:
        """See `ports.Lease`."""
        self.moved = True


class Leases:
    """The claims of this process. Nothing here raises."""

    def __init__(
        self,
        link: Link,
        *,
        prefix: str,
        advertise_url: str,
        observe: Observe,
        timings: Timings,
        monotonic: Callable[[], float],
    ) -> None:
        self._link = link
        self._prefix = prefix
        self._owner = advertise_url
        self._observe = observe
        self._timings = timings
        self._monotonic = monotonic
        self._claims: dict[str, Claim] = {}
        self._life = secrets.token_hex(8)
        self._numbers = itertools.count()

    async def hold(self, name: str, instead_of: Held | None) -> Claim | Held:
        """Claim `name`; who gets a `Claim` calls `release` with it, once."""
        wanted = "" if instead_of is None else instead_of.token
        current = self._claims.get(name)
        if current is not None and current.token != wanted:
            return self._busy(Held("", current.token))
        claim = Claim(name, f"{self._life}.{next(self._numbers)}", self._monotonic())
        held = await self._first(claim, wanted)
        if held is not None and self._left_behind(held):
            wanted = held.token
            held = await self._first(claim, wanted)
        if held is not None:
            return self._busy(held)
        current = self._claims.get(name)
        if current is not None:
            if current.token != wanted:  # It came while we asked.
                await self.release(claim)
                return self._busy(Held("", current.token))
            self._lose(current)
        self._claims[name] = claim
        self._observe(LeaseMoved(outcome="taken" if wanted else "held"))
        return claim

    async def release(self, claim: Claim) -> None:
        """Give it back, here at once and in Redis as soon as that can be."""
        if self._claims.get(claim.name) is claim:
            del self._claims[claim.name]
        claim.given_back = True
        if self._link.up:
            with suppress(RedisAway):
                await self._link.own(self._give_back(claim))

    async def release_all(self) -> None:
        """Give back what is still held, so that others need not wait for it to run out."""
        await asyncio.gather(*(self.release(claim) for claim in list(self._claims.values())))

    async def renew_forever(self) -> None:
        """Renew what has moved. Runs until cancelled."""
        while True:
            await asyncio.sleep(self._timings.renew_s)
            await asyncio.gather(*(self._renew(claim) for claim in list(self._claims.values())))

    async def _first(self, claim: Claim, instead_of: str) -> Held | None:
        if not self._link.up:
            return None
        try:
            return await self._link.own(self._claim(claim, "claim", instead_of))
        except RedisAway:
            return None
        except asyncio.CancelledError:
            claim.given_back = True
            self._link.leave(self._give_back(claim))
            raise

    async def _claim(
        self, claim: Claim, operation: Literal["claim", "renew"], instead_of: str = ""
    ) -> Held | None:
        """None: it is ours. Raises `RedisAway`."""
        ours = json.dumps({"owner": self._owner, "token": claim.token}, separators=(",", ":"))
        lease_ms = round(self._timings.lease_s * 1000)
        async with claim.lock:
            if claim.given_back:
                return None
            found = await self._link.ask(
                operation,
                "EVAL",
                _CLAIM,
                1,
                self._key(claim),
                ours,
                lease_ms,
                claim.token,
                instead_of,
            )
        return None if found is None else self._read(found)

    async def _give_back(self, claim: Claim) -> None:
        async with claim.lock:
            with suppress(RedisAway):  # It runs out.
                await self._link.ask("release", "EVAL", _RELEASE, 1, self._key(claim), claim.token)

    async def _renew(self, claim: Claim) -> None:
        if not claim.moved:
            if self._monotonic() - claim.renewed_at >= self._timings.lease_s:
                self._lose(claim)
            return
        asked_at = self._monotonic()
        claim.moved = False
        try:
            held = await self._link.own(self._claim(claim, "renew"))
        except RedisAway:
            claim.moved = True
            return
        if held is None:
            claim.renewed_at = asked_at
        elif not claim.given_back:
            self._lose(claim)

    def _lose(self, claim: Claim) -> None:
        claim.lost = True
        if self._claims.get(claim.name) is claim:
            del self._claims[claim.name]
        self._observe(LeaseMoved(outcome="lost"))

    def _busy(self, held: Held) -> Held:
        self._observe(LeaseMoved(outcome="busy"))
        return held

    def _left_behind(self, held: Held) -> bool:
        """Whether it is from this address's life before a crash: nobody works on it."""
        return bool(self._owner) and held.owner == self._owner

    def _read(self, found: bytes) -> Held:
        try:
            value = json.loads(found)
            owner, token = str(value.get("owner") or ""), str(value["token"])
        except ValueError:  # Lua's JSON is wider than ours (bytes that are no UTF-8).
            return Held("", "")
        # A claim of our own has no owner to be asked: that would be asking ourselves.
        return Held("" if token.startswith(f"{self._life}.") else owner, token)

    def _key(self, claim: Claim) -> str:
        return f"{self._prefix}:lease:{claim.name}"
