"""An image as it is held: its parts, where they are, and what can be pulled of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from proxy.cache.pin_records import name_of
from proxy.cache.records import TagRecord
from proxy.oci.digest import Digest
from proxy.oci.manifests import Descriptor
from proxy.oci.names import Repository, Tag
from proxy.ports import BlobKey, Upstream

Kind = Literal["index", "manifest", "config", "layer"]
State = Literal["complete", "partial", "absent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One piece of content that belongs to an image.

    here: on this machine's disk. stored: in the durable store (False where there is
    none). platform: of the image of an index that it belongs to. optional: no pull needs
    it (attestations, signatures). used_at: in seconds since the epoch, 0 if not here.
    """

    kind: Kind
    key: BlobKey
    size: int
    platform: str
    optional: bool
    here: bool
    used_at: float
    stored_at: float
    stored: bool = False

    @property
    def held(self) -> bool:
        """Whether it can be served with the upstream gone."""
        return self.here or self.stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A tag as it is recorded."""

    upstream: Upstream
    repository: Repository
    tag: Tag
    record: TagRecord

    @property
    def current(self) -> Descriptor:
        """The root of the image that it names."""
        return self.record.current

    @property
    def roots(self) -> list[Descriptor]:
        """Those of all that is served of it: that image, and the one before."""
        return [one for one in (self.record.current, self.record.previous) if one is not None]

    @property
    def seen_at(self) -> float:
        """When it was last fetched or confirmed, in seconds since the epoch; by whoever
        wanted that, so it says nothing of pulls.
        """
        return max(self.record.fetched_at, self.record.checked_at)

    @property
    def name(self) -> str:
        """In full."""
        return name_of(self.upstream.name, self.repository, self.tag)


@dataclass(frozen=True, slots=True)
class Image:
    """All parts that are known, the root first."""

    root: Digest
    parts: tuple[Part, ...]
    platforms: dict[str, bool] = field(default_factory=dict)
    """What it is for; whether all of that is held. An image that is no index: ''."""

    @property
    def state(self) -> State:
        """Of what a pull would need."""
        if self.platforms and all(self.platforms.values()):
            return "complete"
        return "partial" if any(part.held for part in self.parts) else "absent"

    @property
    def usable(self) -> bool:
        """Whether at least one of its platforms can be pulled with the upstream gone."""
        return any(self.platforms.values())

    @property
    def here_bytes(self) -> int:
        """On this machine's disk."""
        return sum(part.size for part in self.parts if part.here)

    @property
    def used_at(self) -> float:
        """When it was last pulled, by its root's file; 0 if that is not here."""
        return self.parts[0].used_at if self.parts else 0.0

    def covers(self, other: Image) -> bool:
        """Whether nobody who could be served with `other` is worse off with this one."""
        wanted = {name for name, whole in other.platforms.items() if whole}
        offered = wanted & self.platforms.keys()
        return self.usable and all(self.platforms[name] for name in offered)


def platforms_of(parts: tuple[Part, ...]) -> dict[str, bool]:
    """Which platforms parts make up, and whether each is whole."""
    found: dict[str, bool] = {}
    for part in parts:
        if not part.optional and part.kind != "index":
            found[part.platform] = found.get(part.platform, True) and part.held
    return found
