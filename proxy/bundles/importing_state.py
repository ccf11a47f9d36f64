"""An import that is under way, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from proxy.bundles.contents import Contents, Place
from proxy.bundles.receipts import Receipt
from proxy.errors import EntrepotError
from proxy.ports import BlobKey, Upstream


class UnknownImport(EntrepotError):
    """Nothing is known of this import: it has to begin again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What the other side needs to know: what to send, and under which token."""

    token: str
    lacking: Sequence[tuple[BlobKey, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How it ended. `moved`: tags that name something new."""

    receipt: Receipt
    moved: int
    warnings: Sequence[str]


@dataclass(slots=True)
class Import:
    """One that is under way; sizes in bytes. wanted: what it brings. base: what it leaves
    out because it is here. lacking: of what it brings, all that has not come yet.
    """

    contents: Contents
    upstreams: Mapping[Place, Upstream]
    wanted: dict[BlobKey, int]
    base: dict[BlobKey, int]
    lacking: dict[BlobKey, int] = field(default_factory=dict)
    reserved: int = 0
    busy: int = 0
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    @property
    def needed(self) -> dict[BlobKey, int]:
        """All that must be here in the end."""
        return self.wanted | self.base
