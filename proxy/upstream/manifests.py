"""From an answer's head and body to a `Descriptor` or `Manifest`. Pure.

What an upstream claims about a manifest is used only where it can be checked
later (`described`) or is checked here (`verified`).
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.errors import BadUpstreamAnswer, DigestMismatch, InvalidDigest
from proxy.oci.digest import Digest
from proxy.oci.manifests import (
    MEDIA_TYPES,
    SCHEMA1_TYPES,
    Descriptor,
    Manifest,
    check,
    media_type_of,
)
from proxy.oci.names import Reference


def described(headers: Mapping[str, str], reference: Reference) -> Descriptor | None:
    """What the head of a HEAD says the manifest is; None if not enough.

    Needs type, length and, for a tag, a digest. A digest that contradicts the
    one asked for makes the head worthless, not the manifest: a GET will tell.
    """
    media_type = media_type_of(headers.get("Content-Type", ""))
    length = headers.get("Content-Length", "")
    encoded = headers.get("Content-Encoding", "identity").lower() != "identity"
    digest = _claimed(headers)
    if isinstance(reference, Digest):
        if digest is not None and _contradicts(digest, reference):
            return None
        digest = reference
    if digest is None or media_type not in MEDIA_TYPES or encoded:
        return None
    if not (length.isascii() and length.isdecimal()) or int(length) == 0:
        return None
    return Descriptor(media_type=media_type, digest=digest, size=int(length))


def verified(headers: Mapping[str, str], body: bytes, reference: Reference) -> Manifest:
    """The manifest in the answer to a GET.

    Raises `DigestMismatch` unless `body` is what was asked for and what the
    head claims, `BadUpstreamAnswer` unless it can be a manifest. A schema 1
    manifest can't be checked (its digest is over the signed payload): it gets
    the digest that was asked for or claimed.
    """
    media_type = media_type_of(headers.get("Content-Type", ""))
    check(media_type, body)
    claimed = _claimed(headers)
    if isinstance(reference, Digest):
        if claimed is not None and _contradicts(claimed, reference):
            raise DigestMismatch(f"asked for {reference}, was sent {claimed}")
        claimed = reference
    if claimed is None:
        if media_type in SCHEMA1_TYPES:
            raise BadUpstreamAnswer("a schema 1 manifest came without its digest")
        claimed = Digest.of(body)
    elif media_type not in SCHEMA1_TYPES and not claimed.matches(body):
        raise DigestMismatch(f"the bytes of a manifest are not those of {claimed}")
    descriptor = Descriptor(media_type=media_type, digest=claimed, size=len(body))
    return Manifest(descriptor=descriptor, body=body)


def _claimed(headers: Mapping[str, str]) -> Digest | None:
    """`Docker-Content-Digest`; a malformed one is as good as none."""
    try:
        return Digest.parse(headers.get("Docker-Content-Digest", "").strip())
    except InvalidDigest:
        return None


def _contradicts(claimed: Digest, asked: Digest) -> bool:
    # Asked by sha512, some registries name the sha256 all the same.
    return claimed.algorithm == asked.algorithm and claimed != asked
