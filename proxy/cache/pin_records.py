"""What the record of a pin says, and its JSON.

A pin is of an image (by tag or digest) or of a pattern; what a pattern has found is
pinned as images that name it, so that nothing has to be found again before it is kept.
A pin holds whatever URL its upstream has now: what was kept on purpose is not given up
because somebody mistyped an address.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal, cast, get_args

from proxy.cache.records import VERSION
from proxy.errors import InvalidDigest
from proxy.oci.digest import Digest
from proxy.oci.names import Reference

Source = Literal["cli", "import", "config"]
"""Who wants it: a person, a bundle that was imported, the configuration."""


@dataclass(frozen=True, slots=True)
class PinnedImage:
    """All digests of one image, its own first."""

    closure: tuple[Digest, ...]

    @property
    def root(self) -> Digest:
        """The image's own digest."""
        return self.closure[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One pin; a pattern has no `upstream`.

    name: the image in full, or the pattern. pattern: the one that led to an image;
    empty where it was named itself. images: the newest first; more than one while a tag
    has moved and the new image is not all here; none while nothing of it is.
    pinned_at: in seconds since the epoch.
    """

    name: str
    source: Source
    pinned_at: float
    pattern: str = ""
    upstream: str = ""
    repository: str = ""
    reference: str = ""
    group: str = ""
    url: str = ""
    images: tuple[PinnedImage, ...] = ()

    @property
    def is_pattern(self) -> bool:
        """Whether it is a pattern itself."""
        return not self.upstream

    @property
    def identity(self) -> tuple[str, str, str]:
        """What there is only one of."""
        return self.source, self.name, self.pattern


def name_of(upstream: str, repository: str, reference: Reference) -> str:
    """An image's full name, in which nothing is left to a default:
    `docker.io/library/alpine:3.20`, `quay.io/team/app@sha256:…`.
    """
    return f"{upstream}/{repository}{'@' if isinstance(reference, Digest) else ':'}{reference}"


def encode_pin(pin: Pin) -> bytes:
    """JSON of a pin."""
    document = {
        "v": VERSION,
        "name": pin.name,
        "source": pin.source,
        "pinned_at": pin.pinned_at,
        "pattern": pin.pattern,
        "upstream": pin.upstream,
        "repository": pin.repository,
        "reference": pin.reference,
        "group": pin.group,
        "url": pin.url,
        "images": [[str(digest) for digest in image.closure] for image in pin.images],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def decode_pin(value: bytes) -> Pin | None:
    """The pin, None if it can't be read."""
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return None
    match document:
        case {
            "v": 1,
            "name": str(name),
            "source": str(source),
            "pinned_at": int(pinned_at) | float(pinned_at),
            "images": list(images),
        } if source in get_args(Source):
            words = [document.get(word, "") for word in _WORDS]
            found = [_image(image) for image in images]
            if not all(isinstance(word, str) for word in words) or None in found:
                return None
            pattern, upstream, repository, reference, group, url = cast("list[str]", words)
            return Pin(
                name=name,
                source=cast("Source", source),
                pinned_at=pinned_at,
                pattern=pattern,
                upstream=upstream,
                repository=repository,
                reference=reference,
                group=group,
                url=url,
                images=tuple(image for image in found if image is not None),
            )
        case _:
            return None


_WORDS = ("pattern", "upstream", "repository", "reference", "group", "url")


def _image(closure: object) -> PinnedImage | None:
    if not isinstance(closure, list) or not closure:
        return None
    try:
        return PinnedImage(tuple(Digest.parse(digest) for digest in closure))
    except (InvalidDigest, TypeError):
        return None
