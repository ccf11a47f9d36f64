"""What the durable records say, and their JSON.

Every record carries `v` and the URL of the upstream it was made for: a record
for another URL is a miss, because somebody repointed the name. Fields that this
version does not know survive a rewrite, so that replicas of two versions can
share one store. What can't be read is a miss too, never an error: a torn or
rolled-back write must not take a tag down.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.errors import InvalidDigest
from proxy.oci.digest import Digest
from proxy.oci.manifests import Descriptor

VERSION = 1
_NONE: Mapping[str, object] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRecord:
    """What a tag names. Times in seconds since the epoch.

    `fetched_at`: when `current` was first seen; `checked_at`: when the upstream
    last confirmed it.
    """

    url: str
    current: Descriptor
    previous: Descriptor | None
    fetched_at: float
    checked_at: float
    extra: Mapping[str, object] = field(default_factory=lambda: _NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A repository may serve a digest. `media_type` is empty for opaque blobs."""

    url: str
    media_type: str
    size: int | None
    extra: Mapping[str, object] = field(default_factory=lambda: _NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """An anonymous token could read the repository when last asked."""

    url: str
    checked_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferrersRecord:
    """The descriptors that refer to a digest, as last fetched."""

    url: str
    fetched_at: float
    descriptors: tuple[dict[str, object], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What a tag came to name at `at` (seconds since the epoch), and what it named before.

    `before` None: it was first seen then. `after` None: it was gone.
    """

    url: str
    at: float
    before: Descriptor | None
    after: Descriptor | None


def encode_tag(record: TagRecord) -> bytes:
    """JSON of a tag record."""
    return _encode(
        record.extra,
        url=record.url,
        current=descriptor_out(record.current),
        previous=None if record.previous is None else descriptor_out(record.previous),
        fetched_at=record.fetched_at,
        checked_at=record.checked_at,
    )


def decode_tag(value: bytes, url: str) -> TagRecord | None:
    """The tag record, None if it is unreadable or was made for another URL."""
    document = _decode(value, url)
    if document is None:
        return None
    current = descriptor_in(document.pop("current", None))
    previous = descriptor_in(document.pop("previous", None))
    fetched_at, checked_at = document.pop("fetched_at", 0), document.pop("checked_at", 0)
    if current is None or not isinstance(fetched_at, int | float):
        return None
    return TagRecord(
        url=url,
        current=current,
        previous=previous,
        fetched_at=fetched_at,
        checked_at=checked_at if isinstance(checked_at, int | float) else 0,
        extra=document,
    )


def encode_link(link: Link) -> bytes:
    """JSON of a link."""
    return _encode(link.extra, url=link.url, media_type=link.media_type, size=link.size)


def decode_link(value: bytes, url: str) -> Link | None:
    """The link, None if it is unreadable or was made for another URL."""
    document = _decode(value, url)
    if document is None:
        return None
    media_type, size = document.pop("media_type", ""), document.pop("size", None)
    return Link(
        url=url,
        media_type=media_type if isinstance(media_type, str) else "",
        size=size if isinstance(size, int) else None,
        extra=document,
    )


def encode_exposure(exposure: Exposure) -> bytes:
    """JSON of an exposure record."""
    return _encode(_NONE, url=exposure.url, checked_at=exposure.checked_at)


def decode_exposure(value: bytes, url: str) -> Exposure | None:
    """The exposure, None if it is unreadable or was made for another URL."""
    document = _decode(value, url)
    checked_at = None if document is None else document.get("checked_at")
    if not isinstance(checked_at, int | float):
        return None
    return Exposure(url=url, checked_at=checked_at)


def encode_referrers(record: ReferrersRecord) -> bytes:
    """JSON of a referrers record."""
    return _encode(
        _NONE, url=record.url, fetched_at=record.fetched_at, descriptors=list(record.descriptors)
    )


def decode_referrers(value: bytes, url: str) -> ReferrersRecord | None:
    """The referrers, None if unreadable or made for another URL."""
    document = _decode(value, url)
    if document is None:
        return None
    fetched_at, descriptors = document.get("fetched_at"), document.get("descriptors")
    if not isinstance(fetched_at, int | float) or not isinstance(descriptors, list):
        return None
    if not all(isinstance(item, dict) for item in descriptors):
        return None
    return ReferrersRecord(url=url, fetched_at=fetched_at, descriptors=tuple(descriptors))


def encode_move(move: Move) -> bytes:
    """JSON of a move."""
    return _encode(
        _NONE,
        url=move.url,
        at=move.at,
        before=None if move.before is None else descriptor_out(move.before),
        after=None if move.after is None else descriptor_out(move.after),
    )


def decode_move(value: bytes, url: str) -> Move | None:
    """The move, None if it is unreadable or was made for another URL."""
    document = _decode(value, url)
    if document is None:
        return None
    at, after = document.get("at"), descriptor_in(document.get("after"))
    if not isinstance(at, int | float) or (after is None and document.get("after") is not None):
        return None
    return Move(url=url, at=at, before=descriptor_in(document.get("before")), after=after)


def _encode(extra: Mapping[str, object], **fields: object) -> bytes:
    document = {**extra, "v": VERSION, **fields}
    return json.dumps(document, separators=(",", ":")).encode()


def _decode(value: bytes, url: str) -> dict[str, object] | None:
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.pop("v", None) != VERSION:
        return None
    return document if document.pop("url", None) == url else None


def descriptor_out(descriptor: Descriptor) -> dict[str, object]:
    """A descriptor as records spell it."""
    return {
        "media_type": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }


def descriptor_in(value: object) -> Descriptor | None:
    """A descriptor from a record, None if it is none."""
    match value:
        case {"media_type": str(media_type), "digest": str(digest), "size": int(size)}:
            try:
                return Descriptor(media_type=media_type, digest=Digest.parse(digest), size=size)
            except InvalidDigest:
                return None
        case _:
            return None
