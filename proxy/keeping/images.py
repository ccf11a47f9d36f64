"""An image as it is held: its parts, where they are, and what can be pulled of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from proxy.cache.pin_records import name_of
from proxy.cache.records import TagRecord
from proxy.oci.digest import Digest
from proxy.oci.manifests import Descriptor, json_object
from proxy.oci.names import Repository, Tag
from proxy.ports import BlobKey, Upstream

Kind = Literal["index", "manifest", "config", "layer"]
State = Literal["complete", "partial", "absent"]

_ABOUT = "vnd.docker.reference.digest"
# cosign's tags and the referrers' fallback (distribution-spec): they name what they are of.
_OF_A_DIGEST = re.compile(r"(sha256|sha512)-([0-9a-f]{64,128})(?:\..+)?", re.ASCII)
_GLOB = re.compile(r"[*?\[]")


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


def index_entries(body: bytes) -> Iterator[tuple[Digest, str, bool]]:
    """Of each manifest of an index: its platform, and whether it is about another one.

    Raises `BadUpstreamAnswer`, `InvalidDigest`.
    """
    entries = json_object(body, "the index").get("manifests")
    named: dict[str, str] = {}
    about: list[tuple[Digest, str]] = []
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or not isinstance(entry.get("digest"), str):
            continue
        digest, annotations = Digest.parse(entry["digest"]), entry.get("annotations")
        subject = annotations.get(_ABOUT) if isinstance(annotations, dict) else None
        if isinstance(subject, str):
            about.append((digest, subject))
        else:
            named[str(digest)] = platform = _spelled(entry.get("platform"))
            yield digest, platform, False
    for digest, subject in about:
        yield digest, named.get(subject, ""), True


def subject_of(tag: str) -> Digest | None:
    """What a tag is about that only says which digest; None for any other."""
    found = _OF_A_DIGEST.fullmatch(tag)
    if found is None or len(found[2]) != (64 if found[1] == "sha256" else 128):
        return None
    return Digest(found[1], found[2])


def is_pattern(text: str) -> bool:
    """Whether it has to be expanded."""
    return _GLOB.search(text) is not None


def _spelled(platform: object) -> str:
    """`os/architecture[/variant]`; empty if the entry tells none."""
    if not isinstance(platform, dict):
        return ""
    parts = [platform.get("os"), platform.get("architecture"), platform.get("variant")]
    return "/".join(part for part in parts if isinstance(part, str) and part)
