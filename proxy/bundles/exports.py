"""What a bundle of some images has to hold: all of every one, down to the last layer.

Manifests are fetched where they are not here, blobs are not; those are brought when the
bundle is written. An image of which anything is missing makes it no bundle: it would only
be found out on the other side.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.bundles import archive
from proxy.bundles.contents import Blob, Contents, Image, Place, Referrer
from proxy.bundles.contents_reading import decode
from proxy.cache.closure import Closure, Piece
from proxy.cache.pin_records import name_of
from proxy.cache.platforms import Platforms
from proxy.cache.traffic import Urgency, working_as
from proxy.errors import BadBundle, EntrepotError
from proxy.naming import Names
from proxy.oci.digest import Digest
from proxy.oci.manifests import SCHEMA1_TYPES, Descriptor, Manifest, children
from proxy.oci.names import Tag
from proxy.ports import Clock, Upstream
from proxy.wishes import Wish

CLIENT = "export"
"""For whom its traffic is counted."""

_AT_ONCE = 4
_TEXT_PIECE = 256 * 1024


@dataclass(slots=True)
class _Gathered:
    """What was found so far; blobs by digest, manifests first when it is told."""

    images: dict[str, Image] = field(default_factory=dict)
    referrers: dict[tuple[Digest, Place, Digest], Referrer] = field(default_factory=dict)
    pieces: dict[Digest, tuple[Piece, set[Place]]] = field(default_factory=dict)

    def add(self, image: Image, pieces: Sequence[Piece]) -> None:
        self.images.setdefault(image.name, image)
        for piece in pieces:
            _, places = self.pieces.setdefault(piece.descriptor.digest, (piece, set()))
            places.add(image.place)
            if piece.subject is not None:
                key = (piece.subject, image.place, piece.descriptor.digest)
                self.referrers.setdefault(key, _referrer(piece, piece.subject, image.place))

    def contents(self, *, created: int, platforms: Platforms) -> Contents:
        """All of it as the contents of a new, full bundle. Takes a while for many."""
        blobs = [
            Blob(descriptor=_typed(piece.descriptor), kind=piece.kind, places=tuple(sorted(places)))
            for piece, places in self.pieces.values()
        ]
        # What says what is needed comes before what is large.
        order = ("index", "manifest", "config", "layer")
        blobs.sort(key=lambda one: order.index(one.kind))
        images = tuple(self.images.values())
        return Contents(
            bundle=secrets.token_hex(16),
            created=created,
            receipts=(),
            bundles=(),
            platforms=_names(platforms),
            images=images,
            referrers=tuple(self.referrers.values()),
            blobs=tuple(blobs),
            left_out=(),
            index_sha256=archive.sha256_of(archive.index_body(images)),
            layout_sha256=archive.sha256_of(archive.LAYOUT_BODY),
        )


class Exports:
    """Plans bundles of what a running proxy has or can get."""

    def __init__(
        self,
        closure: Closure,
        names: Names,
        upstreams: Mapping[str, Upstream],
        *,
        clock: Clock,
    ) -> None:
        self._closure = closure
        self._names = names
        self._upstreams = upstreams
        self._clock = clock

    async def plan(self, wish: Wish) -> AsyncGenerator[dict[str, Any], None]:
        """A line for each image: `{"image": its name as given, "name": in full, "blobs",
        "bytes"}`, with a `"warning"` if it may be another by now, or `{"image", "problem"}`;
        then the contents as text in pieces, `{"contents"}`, and `{"done"}`.

        Raises `BadBundle` at the end if an image can't be had whole.
        """
        gate = asyncio.Semaphore(_AT_ONCE)
        with working_as(Urgency.WARM, CLIENT):
            tasks = [asyncio.create_task(self._walk(name, wish, gate)) for name in wish.images]
        gathered, problems = _Gathered(), 0
        try:
            for name, task in zip(wish.images, tasks, strict=True):
                try:
                    image, pieces = await task
                except EntrepotError as error:
                    problems += 1
                    yield {"image": name, "problem": str(error)}
                    continue
                gathered.add(image, pieces)
                size = sum(piece.descriptor.size for piece in pieces)
                line = {"image": name, "name": image.name, "blobs": len(pieces), "bytes": size}
                warning = pieces[0].warning
                yield line if warning is None else {**line, "warning": warning}
        finally:
            for task in tasks:
                task.cancel()
        if problems:
            many = "1 image" if problems == 1 else f"{problems} images"
            raise BadBundle(f"{many} of {len(tasks)} can't be had whole, so there is no bundle")
        created = int(self._clock())
        text = await asyncio.to_thread(_text, gathered, created, wish.platforms)
        for at in range(0, len(text), _TEXT_PIECE):
            yield {"contents": text[at : at + _TEXT_PIECE]}
        yield {"done": True}

    async def _walk(
        self, name: str, wish: Wish, gate: asyncio.Semaphore
    ) -> tuple[Image, list[Piece]]:
        """All of one image. Raises `EntrepotError` if anything is missing."""
        route, _ = self._names.understood(name)
        upstream = self._upstreams[route.upstream]
        pieces: list[Piece] = []
        async with gate:
            async for piece in self._closure.walk(
                upstream,
                route.repository,
                route.reference,
                platforms=wish.platforms,
                fetch=True,
                referrers=wish.referrers,
                # A bundle without signatures would only be found out where there are none.
                certain=True,
            ):
                if piece.missing is not None:
                    raise BadBundle(f"its {piece.kind} {piece.descriptor.digest}: {piece.missing}")
                if piece.descriptor.media_type in SCHEMA1_TYPES:
                    raise BadBundle("it is an image of Docker's schema 1, which nothing can verify")
                pieces.append(piece)
        top = pieces[0].descriptor
        below = (one for one in pieces if one.depth == 1 and not one.referrer)
        if pieces[0].kind == "index" and not any(below):
            raise BadBundle(f"it has nothing for {', '.join(_names(wish.platforms) or ())}")
        place = Place(upstream.name, route.repository)
        tag = route.reference if isinstance(route.reference, Tag) else None
        reference = top.digest if tag is None else tag
        full = name_of(upstream.name, route.repository, reference)
        return Image(name=full, place=place, tag=tag, descriptor=top), pieces


def _referrer(piece: Piece, subject: Digest, place: Place) -> Referrer:
    artifact_type = None
    if piece.body is not None:
        manifest = Manifest(descriptor=piece.descriptor, body=piece.body)
        artifact_type = children(manifest).artifact_type
    return Referrer(
        subject=subject,
        place=place,
        tag=piece.tag,
        descriptor=piece.descriptor,
        artifact_type=artifact_type,
    )


def _typed(descriptor: Descriptor) -> Descriptor:
    if descriptor.media_type:
        return descriptor
    return Descriptor(
        media_type="application/octet-stream", digest=descriptor.digest, size=descriptor.size
    )


def _names(platforms: Platforms) -> tuple[str, ...] | None:
    return None if platforms.wanted is None else tuple(sorted(platforms.wanted))


def _text(gathered: _Gathered, created: int, platforms: Platforms) -> str:
    body = gathered.contents(created=created, platforms=platforms).encode()
    # Nothing is given out that the other side would not take.
    decode(body)
    return body.decode()
