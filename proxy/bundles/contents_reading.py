"""`entrepot/contents.json` read back, believing nothing of it.

Pure. Who holds what `decode` returned knows that it makes sense: every image and referrer
is among the blobs (here or left out), nothing is listed twice, every name is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar, get_args

from proxy.bundles.canonical import Fields, decoded, number
from proxy.bundles.contents import (
    VERSION,
    Blob,
    Contents,
    Image,
    Kind,
    LeftOut,
    Place,
    Referrer,
)
from proxy.errors import BadBundle, InvalidRequest
from proxy.oci.digest import Digest
from proxy.oci.manifests import Descriptor
from proxy.oci.names import Repository, Tag

CONTENTS_BYTES_MAX = 32 * 1024 * 1024
"""Enough for 100,000 blobs, and little enough to be held in memory. More is refused unread."""

_KINDS: dict[str, Kind] = {one: one for one in get_args(Kind)}
_UPSTREAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,254}", re.ASCII)
_BUNDLE = re.compile(r"[0-9a-f]{32}", re.ASCII)
_PLATFORM = re.compile(r"[a-z0-9]+(/[a-z0-9][a-z0-9_.-]*){1,3}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TEXT_MAX = 1024

_Parsed = TypeVar("_Parsed")


def decode(body: bytes) -> Contents:
    """Reads `Contents.encode`. Raises `BadBundle`."""
    if len(body) > CONTENTS_BYTES_MAX:
        raise BadBundle(f"the contents take {len(body)} bytes, more than any bundle needs")
    fields = decoded(body, "the bundle's contents")
    fields.version(VERSION)
    base, hashes = fields.below("base"), fields.below("sha256")
    platforms = fields.items_or_none("platforms")
    places = [_parsed_place(text) for text in fields.texts("repositories")]
    contents = Contents(
        bundle=_matching(_BUNDLE, fields.text("bundle"), "a bundle's id"),
        created=fields.number("created"),
        receipts=_ids(base.texts("receipts")),
        bundles=_ids(base.texts("bundles")),
        platforms=None
        if platforms is None
        else tuple(_matching(_PLATFORM, one, "a platform") for one in platforms),
        images=tuple(_image(one, places) for one in fields.items("images")),
        referrers=tuple(_referrer(one, places) for one in fields.items("referrers")),
        blobs=tuple(_blob(one, places) for one in fields.items("blobs")),
        left_out=tuple(_left_out(one, places) for one in fields.items("left_out")),
        index_sha256=_matching(_SHA256, hashes.text("index.json"), "a SHA-256"),
        layout_sha256=_matching(_SHA256, hashes.text("oci-layout"), "a SHA-256"),
    )
    for part in (base, hashes, fields):
        part.end()
    _check(contents)
    return contents


def _check(contents: Contents) -> None:
    """What belongs together is there, and nothing twice."""
    digests = [one.descriptor.digest for one in contents.blobs]
    digests += [one.digest for one in contents.left_out]
    known = _once(digests, "digest")
    _once([one.name for one in contents.images], "image")
    _once(
        [(one.subject, one.place, one.descriptor.digest) for one in contents.referrers], "subject"
    )
    if not contents.images:
        raise BadBundle("the bundle's contents name no image")
    named = {one.descriptor.digest for one in contents.images}
    named |= {one.descriptor.digest for one in contents.referrers}
    for digest in named - known:
        raise BadBundle(f"the bundle's contents lack what they name: {digest}")
    if contents.left_out and not contents.receipts:
        raise BadBundle("the bundle leaves things out, but builds on no receipt")


def _once(values: Sequence[object], what: str) -> frozenset[object]:
    found = frozenset(values)
    if len(found) != len(values):
        raise BadBundle(f"the bundle's contents list a {what} twice")
    return found


def _image(value: object, places: Sequence[Place]) -> Image:
    fields = Fields(value, "an image of the contents")
    tag = fields.text_or_none("tag")
    image = Image(
        name=fields.text("name"),
        place=_place(fields, places),
        tag=None if tag is None else _parsed(Tag.parse, tag),
        descriptor=_descriptor(fields),
    )
    fields.end()
    at = f"@{image.descriptor.digest}" if image.tag is None else f":{image.tag}"
    if image.name != f"{image.place}{at}":
        raise BadBundle(f"an image of the contents is not called what it is: {image.name[:300]!r}")
    return image


def _referrer(value: object, places: Sequence[Place]) -> Referrer:
    fields = Fields(value, "a referrer of the contents")
    tag = fields.text_or_none("tag")
    artifact_type = fields.text_or_none("artifact_type")
    referrer = Referrer(
        subject=_parsed(Digest.parse, fields.text("subject")),
        place=_place(fields, places),
        tag=None if tag is None else _parsed(Tag.parse, tag),
        descriptor=_descriptor(fields),
        artifact_type=None if artifact_type is None else _short(artifact_type),
    )
    fields.end()
    return referrer


def _blob(value: object, places: Sequence[Place]) -> Blob:
    fields = Fields(value, "a blob of the contents")
    kind = _KINDS.get(fields.text("kind"))
    if kind is None:
        raise fields.wrong("kind")
    blob = Blob(
        kind=kind,
        places=_some(fields.items("repositories"), places),
        descriptor=_descriptor(fields),
    )
    fields.end()
    return blob


def _left_out(value: object, places: Sequence[Place]) -> LeftOut:
    match value:
        case [str(digest), size, list(numbers)]:
            return LeftOut(
                digest=_parsed(Digest.parse, digest),
                size=number(size, "the size of what is left out"),
                places=_some(numbers, places),
            )
        case _:
            raise BadBundle("what is left out is not told as it should be")


def _descriptor(fields: Fields) -> Descriptor:
    return Descriptor(
        media_type=_short(fields.text("media_type")),
        digest=_parsed(Digest.parse, fields.text("digest")),
        size=fields.number("size"),
    )


def _place(fields: Fields, places: Sequence[Place]) -> Place:
    return _numbered(fields.number("repository"), places)


def _parsed_place(text: str) -> Place:
    upstream, _, repository = text.partition("/")
    _matching(_UPSTREAM, upstream, "the name of an upstream")
    return Place(upstream, _parsed(Repository.parse, repository))


def _some(numbers: Sequence[object], places: Sequence[Place]) -> tuple[Place, ...]:
    found = tuple(_numbered(one, places) for one in numbers)
    if not found or len(set(found)) != len(found):
        raise BadBundle("a blob of the contents belongs to no repository, or to one twice")
    return found


def _numbered(value: object, places: Sequence[Place]) -> Place:
    at = number(value, "a repository's number")
    if at >= len(places):
        raise BadBundle(f"the bundle's contents have no repository of number {at}")
    return places[at]


def _ids(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_matching(_BUNDLE, one, "an id") for one in values)


def _short(text: str) -> str:
    if len(text) > _TEXT_MAX:
        raise BadBundle(f"a text of the contents is longer than {_TEXT_MAX} characters")
    return text


def _matching(grammar: re.Pattern[str], value: object, what: str) -> str:
    if not isinstance(value, str) or grammar.fullmatch(value) is None:
        raise BadBundle(f"not {what}: {str(value)[:100]!r}")
    return value


def _parsed(parse: Callable[[str], _Parsed], text: str) -> _Parsed:
    try:
        return parse(text)
    except InvalidRequest as error:
        raise BadBundle(f"the bundle's contents: {error}") from error
