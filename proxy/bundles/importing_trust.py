"""Whose bundles are believed. The proxy decides this itself, whatever the command that
talks to it has verified already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from proxy.bundles import signing
from proxy.bundles.keys import PublicKey, load_public
from proxy.bundles.reader import check_signed
from proxy.errors import BadBundle, StartupError


@dataclass(frozen=True, slots=True)
class Trust:
    """With configured keys nothing else counts."""

    keys: tuple[PublicKey, ...]
    unsigned: bool

    @classmethod
    def load(cls, files: Sequence[Path], *, unsigned: bool) -> Trust:
        """Raises `StartupError`."""
        try:
            return cls(tuple(load_public(path) for path in files), unsigned)
        except BadBundle as error:
            raise StartupError(f"bundles.keys: {error}") from error

    def check(
        self, contents: bytes, signature: bytes | None, *, keys: Sequence[str], unsigned: bool
    ) -> None:
        """keys: public ones in PEM, that the command was given; `unsigned`: it was told to
        do without. Raises `BadBundle` if that is not enough.
        """
        believed = self.keys or tuple(parsed(key) for key in keys)
        if believed:
            if signature is None or signing.read(signature).key is None:
                whose = "its own configured keys" if self.keys else "the key that was given"
                raise BadBundle(f"nobody signed it, and this side takes what {whose} signed")
            check_signed(signature, contents, believed)
        elif not unsigned:
            raise BadBundle("whose is it? Tell the public key of who signed it, or --unsigned")
        elif not self.unsigned:
            raise BadBundle("this side takes nothing without a key: bundles.unsigned is false")
        elif signature is not None:
            check_signed(signature, contents, None)


def parsed(pem: str) -> PublicKey:
    """Raises `BadBundle`."""
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadBundle("what was given as a key is not a public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BadBundle("what was given as a key is not an Ed25519 key")
    return PublicKey(key)
