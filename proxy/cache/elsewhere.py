"""Ways to a blob that are not its upstream: the durable store, another replica."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from proxy.cache.peering import Peers
from proxy.cache.supplies import Origin
from proxy.oci.digest import Digest
from proxy.ports import BlobKey, Blobs, Body, Held


class StorageSupply:
    """The durable store."""

    origin: Origin = "storage"
    repository = ""
    name = "storage"

    def __init__(self, blobs: Blobs, key: BlobKey) -> None:
        self._blobs = blobs
        self._key = key

    def open(
        self, digest: Digest, *, start: int, end: int | None
    ) -> AbstractAsyncContextManager[Body | None]:
        """See `Supply`; `digest` is the key's. Entering also raises `StorageUnavailable`."""
        if digest != self._key.digest:
            raise ValueError("a supply is of one blob")
        # A store that can't be asked counts as one that has nothing: it may not use up
        # the patience that is meant for the upstream.
        return self._blobs.open(self._key, start=start, end=end)


class PeerSupply:
    """The replica that holds the claim."""

    origin: Origin = "peer"
    repository = ""
    name = "peer"

    def __init__(
        self, peers: Peers, held: Held, key: BlobKey, *, ahead_max: int | None = None
    ) -> None:
        """`ahead_max`: see `Peers.open_blob`."""
        self._peers = peers
        self._key = key
        self._ahead_max = ahead_max
        self.held = held

    def open(
        self,
        digest: Digest,  # noqa: ARG002 - the key's
        *,
        start: int,
        end: int | None,  # noqa: ARG002 - a fill reads to the end
    ) -> AbstractAsyncContextManager[Body | None]:
        """See `Supply`."""
        return self._peers.open_blob(
            self.held.owner, self._key, start=start, ahead_max=self._ahead_max
        )
