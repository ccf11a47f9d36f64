"""What replicas say to each other: the address of a blob and the proof of who asks.

Version 1. A request is signed with the shared secret over its method, its target
(which holds the offset) and the time, so it can't be turned into another one and
is worth nothing after two minutes. Clocks may differ by 60 s. A replay within
that time reads the same bytes again and nothing else: there are only reads.

    GET /peer/v1/blobs/<group>/<digest>?start=<offset>
    Authorization: Entrepot-1 time=<seconds> nonce=<hex> mac=<hex>

The answer says how long the whole blob is (`Entrepot-Size`) and how much of it is
there at this moment (`Entrepot-Written`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from proxy.errors import InvalidDigest
from proxy.oci.digest import Digest
from proxy.ports import BlobKey, Body

SKEW_S = 60.0
PING = "/peer/v1/ping"
_BLOBS = "/peer/v1/blobs/"
_HEADER = re.compile(r"Entrepot-1 time=(\d{1,12}) nonce=([0-9a-f]{32}) mac=([0-9a-f]{64})")
_TARGET = re.compile(r"/peer/v1/blobs/([a-z0-9._-]{1,255})/([a-z0-9]+:[a-f0-9]+)\?start=(\d{1,18})")


class Peers(Protocol):
    """Other replicas, as sources of blobs."""

    def open_blob(
        self, owner: str, key: BlobKey, *, start: int, ahead_max: int | None = None
    ) -> AbstractAsyncContextManager[Body | None]:
        """What the replica at `owner` has of a blob and what it goes on getting.

        None: it neither has it nor is bringing it, or `start` is more than `ahead_max`
        bytes ahead of what it has. Raises `TransferBroken`;
        `PeerGone` when nobody is there any more.
        """


def sign(secret: bytes, method: str, target: str, *, now: float) -> str:
    """The Authorization header of a request."""
    time, nonce = str(int(now)), secrets.token_hex(16)
    return f"Entrepot-1 time={time} nonce={nonce} mac={_mac(secret, method, target, time, nonce)}"


def signed(secret: bytes, header: str, method: str, target: str, *, now: float) -> bool:
    """Whether somebody who knows the secret signed this very request just now."""
    match = _HEADER.fullmatch(header)
    if match is None:
        return False
    time, nonce, mac = match.groups()
    genuine = hmac.compare_digest(mac, _mac(secret, method, target, time, nonce))
    return genuine and abs(now - int(time)) <= SKEW_S


def target(key: BlobKey, start: int) -> str:
    """The request target of a blob from `start` on."""
    return f"{_BLOBS}{key.group}/{key.digest}?start={start}"


def parse_target(text: str) -> tuple[BlobKey, int] | None:
    """What a target asks for; None if it asks for no blob."""
    match = _TARGET.fullmatch(text)
    if match is None:
        return None
    try:
        return BlobKey(match[1], Digest.parse(match[2])), int(match[3])
    except InvalidDigest:
        return None


def _mac(secret: bytes, method: str, target: str, time: str, nonce: str) -> str:
    message = f"entrepot-peer-1\n{method}\n{target}\n{time}\n{nonce}"
    return hmac.new(secret, message.encode(), hashlib.sha256).hexdigest()
