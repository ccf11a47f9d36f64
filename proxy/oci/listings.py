"""Tag lists, catalogs and referrers: their paging, their bodies, their links.

Links go out *relative* only: go-containerregistry and ORAS refuse a next page
on another origin, and behind TLS termination nobody here knows which origin
the client sees. Links that come in may be absolute (Quay); whoever follows one
must check that it stays with the upstream.

Nothing here waits or asks anybody. Sources: distribution-spec "Listing Tags",
"Listing Referrers", "Referrers Tag Schema"; RFC 8288 for Link.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, quote

from proxy.errors import BadUpstreamAnswer, InvalidDigest, InvalidTag
from proxy.oci.digest import Digest
from proxy.oci.manifests import MEDIA_TYPES, OCI_INDEX, Descriptor, json_object, media_type_of
from proxy.oci.names import Tag

_PARAMETER = r'\s*;\s*([^\s;,="<>]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"<>]*)))?'
# No part of it can run past the next `<` or closing quote, and nothing after
# the parameters can fail: linear time, whatever an upstream sends.
_LINK = re.compile(rf"<([^<>]*)>((?:{_PARAMETER})*)")
_LINK_PARAMETER = re.compile(_PARAMETER)
# Signatures, attestations and lists of contents, from before the referrers API.
_COSIGN = ("sig", "att", "sbom")
# Those and `fallback_tag`. What a sha512 would need is longer than the 128 of a tag.
_OF_A_DIGEST = re.compile(r"sha256-([a-f0-9]{64})(?:\.[a-zA-Z0-9._-]{1,56})?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class NextPage:
    """An upstream's link to the page after this one.

    `target` as it was written, relative or absolute; `n` and `last` as its
    query tells them, None where it does not.
    """

    target: str
    n: int | None
    last: str | None


def page_tags(tags: Iterable[str], n: int | None, last: str | None) -> tuple[list[str], bool]:
    """One page, in ASCII order, and whether more follow.

    `last` is exclusive and need not be among the tags. `n=0` asks for nothing
    and gets no next page either; a client following that would never end.
    """
    ordered = sorted(set(tags))
    rest = ordered[bisect_right(ordered, last) :] if last is not None else ordered
    if n is None:
        return rest, False
    return rest[:n], 0 < n < len(rest)


def next_link(path: str, *, n: int, last: str, namespace: str | None) -> str:
    """The Link header to the next page of the listing at `path` (without query)."""
    query = f"n={n}&last={quote(last, safe='')}"
    if namespace is not None:
        query += f"&ns={quote(namespace, safe='')}"
    return f'<{path}?{query}>; rel="next"'


def parse_next(values: Iterable[str]) -> NextPage | None:
    """The first link with `rel=next` in an upstream's Link header lines."""
    for value in values:
        for link in _LINK.finditer(value):
            if "next" in _relations(link[2]):
                return _next_page(link[1])
    return None


def tag_list_body(name: str, tags: Sequence[str]) -> bytes:
    """The answer of `tags/list`; `name` in the client's terms."""
    return _json({"name": name, "tags": list(tags)})


def catalog_body(names: Sequence[str]) -> bytes:
    """The answer of `_catalog`."""
    return _json({"repositories": list(names)})


def parse_tag_list(body: bytes) -> list[str]:
    """An upstream's tags, in its order. No list at all (null) is an empty one.

    What is no tag by the grammar is left out: no client could ask for it here.
    Raises `BadUpstreamAnswer` for anything but a tag list.
    """
    document = json_object(body, "the tag list")
    if "tags" not in document and "name" not in document:
        raise BadUpstreamAnswer("the tag list has neither name nor tags")
    tags = document.get("tags")
    if tags is None:
        return []
    if not isinstance(tags, list):
        raise BadUpstreamAnswer("the tags are not a list")
    return [tag for tag in tags if _is_tag(tag)]


def parse_referrers(content_type: str, body: bytes) -> list[dict[str, object]] | None:
    """The descriptors of a referrers answer; None if it is no OCI index.

    None stands for "this upstream has no such API", whose place a login page or
    some other JSON with a 200 takes. What calls itself an OCI index and is
    broken raises `BadUpstreamAnswer`: to take it for "unsupported" would tell a
    verifier that there are no signatures.
    """
    if media_type_of(content_type) != OCI_INDEX:
        return None
    document = json_object(body, "the list of referrers")
    if document.get("mediaType", OCI_INDEX) != OCI_INDEX:
        return None
    found = document.get("manifests", "absent")
    if found is None:
        return []
    if not isinstance(found, list):
        raise BadUpstreamAnswer("the list of referrers has no manifests")
    descriptors: list[dict[str, object]] = []
    for descriptor in found:
        if not isinstance(descriptor, dict):
            raise BadUpstreamAnswer("a referrer is not an object")
        descriptors.append(descriptor)
    return descriptors


def filter_referrers(
    descriptors: Iterable[dict[str, object]], artifact_type: str | None
) -> list[dict[str, object]]:
    """Those of one artifact type; all of them for None."""
    return [
        descriptor
        for descriptor in descriptors
        if artifact_type is None or descriptor.get("artifactType") == artifact_type
    ]


def referrers_index(descriptors: Sequence[dict[str, object]]) -> bytes:
    """The OCI index of those referrers, often of none.

    Raises `BadUpstreamAnswer` when they nest deeper than can be written.
    """
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(descriptors)}
    try:
        return _json(index)
    except RecursionError as error:
        raise BadUpstreamAnswer("a referrer is nested too deeply") from error


def referrer_of(entry: dict[str, object]) -> Descriptor | None:
    """One of a list of referrers; None if it is no manifest that can be asked for."""
    match entry:
        case {"mediaType": str(media_type), "digest": str(text), "size": int(size)}:
            try:
                digest = Digest.parse(text)
            except InvalidDigest:
                return None
            if media_type in MEDIA_TYPES:
                return Descriptor(media_type=media_type, digest=digest, size=size)
        case _:
            pass
    return None


def fallback_tag(digest: Digest) -> Tag:
    """The tag that holds a manifest's referrers where the API is missing."""
    return Tag.parse(f"{digest.algorithm[:32]}-{digest.hex[:64]}")


def signature_tags(digest: Digest) -> tuple[Tag, ...]:
    """Those that cosign gives to what it says of a digest; none for one that no tag can hold."""
    if digest.algorithm != "sha256":
        return ()
    return tuple(Tag.parse(f"sha256-{digest.hex}.{kind}") for kind in _COSIGN)


def subject_of(tag: str) -> Digest | None:
    """What a tag is about that only says which digest; None for any other text."""
    found = _OF_A_DIGEST.fullmatch(tag)
    return None if found is None else Digest("sha256", found[1])


def _json(document: dict[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _is_tag(item: object) -> bool:
    if not isinstance(item, str):
        raise BadUpstreamAnswer("a tag is not a string")
    try:
        Tag.parse(item)
    except InvalidTag:
        return False
    return True


def _relations(parameters: str) -> list[str]:
    """The first `rel` counts, as RFC 8288 has it; one may name several."""
    for parameter in _LINK_PARAMETER.finditer(parameters):
        if parameter[1].lower() == "rel":
            return (parameter[2] or parameter[3] or "").lower().split()
    return []


def _next_page(target: str) -> NextPage:
    query = parse_qs(target.partition("?")[2].partition("#")[0].replace("+", "%2B"))
    n, last = query.get("n", [""])[0], query.get("last", [None])[0]
    usable = n.isascii() and n.isdigit() and len(n) <= 10
    return NextPage(target=target, n=int(n) if usable else None, last=last)
