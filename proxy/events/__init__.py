"""Frozen facts that the inner layers state; `telemetry` turns them into
metrics and log lines. Nobody in `cache` or `upstream` knows Prometheus.
"""

from __future__ import annotations

from proxy.events.fills import (
    FlightEnded,
    FlightResumed,
    FlightStarted,
    FollowerJoined,
    TagMoved,
    WarmedUp,
    WarmTrigger,
    WarmUpFailed,
)
from proxy.events.serving import (
    NotHeld,
    PeerServed,
    PullsServed,
    RequestServed,
    ServedStale,
)
from proxy.events.stores import (
    BlobUploaded,
    BytesRead,
    CoordinationAsked,
    CoordinationMoved,
    CoordinationOperation,
    Evicted,
    LeaseMoved,
    ScrubFound,
    StorageAsked,
    StorageFailed,
)
from proxy.events.upstreams import (
    BreakerMoved,
    BytesFetched,
    CableMoved,
    Kind,
    LinkUsed,
    Part,
    QuotaRead,
    QuotaSpent,
    TokenFetched,
    UpstreamAnswered,
)

__all__ = [
    "BlobUploaded",
    "BreakerMoved",
    "BytesFetched",
    "BytesRead",
    "CableMoved",
    "CoordinationAsked",
    "CoordinationMoved",
    "CoordinationOperation",
    "Event",
    "Evicted",
    "FlightEnded",
    "FlightResumed",
    "FlightStarted",
    "FollowerJoined",
    "Kind",
    "LeaseMoved",
    "LinkUsed",
    "NotHeld",
    "Part",
    "PeerServed",
    "PullsServed",
    "QuotaRead",
    "QuotaSpent",
    "RequestServed",
    "ScrubFound",
    "ServedStale",
    "StorageAsked",
    "StorageFailed",
    "TagMoved",
    "TokenFetched",
    "UpstreamAnswered",
    "WarmTrigger",
    "WarmUpFailed",
    "WarmedUp",
]

Event = (
    RequestServed
    | UpstreamAnswered
    | BytesFetched
    | TokenFetched
    | QuotaRead
    | QuotaSpent
    | BreakerMoved
    | LinkUsed
    | CableMoved
    | NotHeld
    | FlightStarted
    | FlightResumed
    | FlightEnded
    | FollowerJoined
    | Evicted
    | PeerServed
    | BytesRead
    | ScrubFound
    | BlobUploaded
    | PullsServed
    | ServedStale
    | TagMoved
    | StorageFailed
    | StorageAsked
    | CoordinationMoved
    | CoordinationAsked
    | LeaseMoved
    | WarmedUp
    | WarmUpFailed
)
