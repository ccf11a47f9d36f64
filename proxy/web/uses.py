"""What was served, to whom: told to whoever keeps accounts of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from proxy.events import RequestServed
from proxy.oci.digest import Digest
from proxy.oci.manifests import Manifest
from proxy.oci.names import Reference, Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What an answer gave, or described.

    reference: as it was asked for; a blob's digest. digest: of the content.
    manifest: the manifest, if it is one and at hand.
    """

    repository: Repository
    reference: Reference
    digest: Digest
    manifest: Manifest | None = None


class Use(NamedTuple):
    """Equal answers to one or several clients.

    `given` is None for lists and the like. `clients`: address (empty: unknown) -> how
    many of `served.count` went there.
    """

    served: RequestServed
    given: Given | None
    clients: Mapping[str, int]


Account = Callable[[Use], None]
"""Called once for each answer that is over, or for several equal ones at a time; on
the event loop, so it must be quick. Never raises.
"""
