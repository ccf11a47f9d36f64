"""What an index lists, and which of its images somebody wants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from proxy.oci.digest import Digest
from proxy.oci.manifests import json_object

_ABOUT = "vnd.docker.reference.digest"


@dataclass(frozen=True, slots=True)
class Platforms:
    """Which images of an index are wanted; `wanted` is None for all of them."""

    wanted: frozenset[str] | None

    @classmethod
    def all(cls) -> Platforms:
        """Every one."""
        return cls(None)

    @classmethod
    def of(cls, platforms: Iterable[str]) -> Platforms:
        """Those of `os/architecture[/variant]`; without a variant: of any."""
        return cls(frozenset(map(_plain, platforms)))

    def chosen(self, index: bytes) -> dict[Digest, str]:
        """The wanted manifests of an index, and the platform of each.

        What is about another entry goes with it. Raises as `index_entries`.
        """
        found: dict[Digest, str] = {}
        images: set[str] = set()
        for digest, platform, subject in index_entries(index):
            if subject is None and self._wants(platform):
                images.add(str(digest))
                found.setdefault(digest, platform)
            elif subject in images:
                found.setdefault(digest, platform)
        return found

    def _wants(self, platform: str) -> bool:
        if self.wanted is None or not platform:
            return True
        return platform in self.wanted or platform.rpartition("/")[0] in self.wanted


def index_entries(body: bytes) -> Iterator[tuple[Digest, str, str | None]]:
    """Each manifest of an index, its platform, and the digest of the entry that it is about.

    The platform is `os/architecture[/variant]`, empty if none is told; the subject is None
    for images, which come first. What is about an image (BuildKit's attestations, which call
    themselves `unknown/unknown`) has the platform of that. Raises `BadUpstreamAnswer`,
    `InvalidDigest`.
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
            yield digest, platform, None
    for digest, subject in about:
        yield digest, named.get(subject, ""), subject


def _spelled(platform: object) -> str:
    """`os/architecture[/variant]`; empty if the entry tells none."""
    if not isinstance(platform, dict):
        return ""
    parts = [platform.get("os"), platform.get("architecture"), platform.get("variant")]
    return _plain("/".join(part for part in parts if isinstance(part, str) and part))


def _plain(platform: str) -> str:
    """Without the variant that an architecture has anyway (containerd, platforms.Normalize)."""
    for usual in ("arm64/v8", "amd64/v1"):
        if platform.endswith(f"/{usual}"):
            return platform.rpartition("/")[0]
    return platform
