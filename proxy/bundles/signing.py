"""`entrepot/contents.sig`: the checksum of the contents and who vouches for them.

The signature is over the exact bytes of `contents.json` behind a prefix of our own, so no
signature that a key makes elsewhere counts here, nor one from here elsewhere. A bundle
without a signature still has its checksum: damage is found, forgery is not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.bundles.canonical import decoded, encoded
from proxy.errors import BadBundle

if TYPE_CHECKING:
    from proxy.bundles.keys import PrivateKey, PublicKey

SIGNATURE_BYTES_MAX = 4096
"""More is refused unread."""

_VERSION = 1
_DOMAIN = b"entrepot bundle contents v1\n"


@dataclass(frozen=True, slots=True)
class Signature:
    """What `contents.sig` says; `key` and `signature` are None if nobody signed."""

    sha256: str
    key: str | None
    signature: bytes | None


def signed(contents: bytes, key: PrivateKey | None) -> bytes:
    """The bytes of `contents.sig`; the same ones for the same contents and key."""
    signature = None if key is None else base64.b64encode(key.sign(_DOMAIN + contents)).decode()
    return encoded(
        {
            "v": _VERSION,
            "sha256": hashlib.sha256(contents).hexdigest(),
            "key": None if key is None else key.public.id,
            "signature": signature,
        }
    )


def verify(signature: bytes, contents: bytes, keys: Iterable[PublicKey]) -> PublicKey | None:
    """The key out of `keys` that signed `contents`; None if nobody did.

    Whether that is enough is the caller's to say. Raises `BadBundle` if the contents
    are not those that the checksum is of, if a key signed that is not among `keys`, or
    if the signature is wrong.
    """
    said = read(signature)
    if hashlib.sha256(contents).hexdigest() != said.sha256:
        raise BadBundle("the bundle's contents are not those that its signature file is about")
    if said.key is None or said.signature is None:
        return None
    for key in keys:
        if key.id == said.key:
            if key.verifies(said.signature, _DOMAIN + contents):
                return key
            raise BadBundle(f"the bundle's signature is not one that key {key.id} made")
    raise BadBundle(f"the bundle is signed with key {said.key}, which is not trusted here")


def read(signature: bytes) -> Signature:
    """What it says, unchecked. Raises `BadBundle`."""
    if len(signature) > SIGNATURE_BYTES_MAX:
        raise BadBundle("the bundle's signature file is longer than any signature")
    fields = decoded(signature, "the bundle's signature file")
    fields.version(_VERSION)
    sha256, key = fields.text("sha256"), fields.text_or_none("key")
    text = fields.text_or_none("signature")
    fields.end()
    if (key is None) != (text is None):
        raise BadBundle("the bundle's signature file is incomplete")
    try:
        raw = None if text is None else base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadBundle("the bundle's signature is not base64") from error
    # Several spellings of base64 mean the same; there is to be one only.
    if raw is not None and base64.b64encode(raw).decode() != text:
        raise BadBundle("the bundle's signature is not spelled as it should be")
    return Signature(sha256, key, raw)
