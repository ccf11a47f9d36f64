"""Receipts: what the other side has, carried back so that the next bundle is small.

A checksum guards against damage on the way. Against forgery nothing does, and nothing
needs to: with a wrong receipt a bundle lacks what its importer then misses, and is refused.

    v        1
    receipt  its id, 32 hex digits, drawn at random
    bundle   the id of the bundle whose import wrote it
    created  seconds since the epoch
    images   {name: digest}: what that bundle brought
    have     [digest, ...]: all that came with bundles and is there now
    sha256   of the canonical JSON of all other fields
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.bundles.canonical import decoded, encoded
from proxy.errors import BadBundle, InvalidDigest
from proxy.oci.digest import Digest

RECEIPT_BYTES_MAX = 256 * 1024 * 1024
"""More is refused unread."""

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """See the module."""

    receipt: str
    bundle: str
    created: int
    images: Mapping[str, Digest]
    have: frozenset[Digest]

    def encode(self) -> bytes:
        """The bytes of its file."""
        document = self._document()
        return encoded({**document, "sha256": _checksum(document)})

    def _document(self) -> dict[str, Any]:
        return {
            "v": _VERSION,
            "receipt": self.receipt,
            "bundle": self.bundle,
            "created": self.created,
            "images": {name: str(digest) for name, digest in self.images.items()},
            "have": sorted(map(str, self.have)),
        }


def decode(body: bytes) -> Receipt:
    """Reads `Receipt.encode`. Raises `BadBundle`."""
    # An editor may have ended the file with a line feed.
    fields = decoded(body.rstrip(b"\r\n"), "the receipt")
    fields.version(_VERSION)
    images = fields.mapping("images")
    try:
        receipt = Receipt(
            receipt=fields.text("receipt"),
            bundle=fields.text("bundle"),
            created=fields.number("created"),
            images={name: Digest.parse(text) for name, text in images.items()},
            have=frozenset(map(Digest.parse, fields.texts("have"))),
        )
    except InvalidDigest as error:
        raise BadBundle(f"the receipt: {error}") from error
    sha256 = fields.text("sha256")
    fields.end()
    if receipt.encode() != body.rstrip(b"\r\n"):
        raise BadBundle(f"the receipt is damaged: its checksum {sha256[:64]} is not right")
    return receipt


def load(path: Path) -> Receipt:
    """From a file. Raises `BadBundle`."""
    try:
        with path.open("rb") as file:
            body = file.read(RECEIPT_BYTES_MAX + 1)
    except OSError as error:
        raise BadBundle(f"{path} can't be read: {error.strerror}") from error
    if len(body) > RECEIPT_BYTES_MAX:
        raise BadBundle(f"{path} is too long for a receipt")
    return decode(body)


def _checksum(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(encoded(document)).hexdigest()
