"""Keys that bundles are signed with: Ed25519 (RFC 8032).

In files as other tools know them, so `openssl` can make and check them, too: the private
key as PEM of PKCS #8 (RFC 5958), readable by its owner only, the public one as PEM of a
SubjectPublicKeyInfo (RFC 8410). A key's id is the start of the SHA-256 of its 32 public
bytes, in hex.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from proxy.errors import BadBundle

_ID_LENGTH = 16
_FILE_BYTES_MAX = 16 * 1024
_PRIVATE_MODE = 0o600
_PUBLIC_MODE = 0o644


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Checks signatures."""

    _key: Ed25519PublicKey

    @property
    def id(self) -> str:
        """Names the key; 16 hex digits."""
        raw = self._key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return hashlib.sha256(raw).hexdigest()[:_ID_LENGTH]

    def pem(self) -> str:
        """As it stands in a file."""
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the private key of this one has signed `message`."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """Signs. Never printed: its representation is that of the key's object."""

    _key: Ed25519PrivateKey

    @classmethod
    def new(cls) -> PrivateKey:
        """A key that nobody has had before."""
        return cls(Ed25519PrivateKey.generate())

    @property
    def public(self) -> PublicKey:
        """What others need to check its signatures."""
        return PublicKey(self._key.public_key())

    def pem(self) -> str:
        """As it stands in a file."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def sign(self, message: bytes) -> bytes:
        """64 bytes; the same ones for the same message."""
        return self._key.sign(message)


def write_pair(key: PrivateKey, name: str, folder: Path) -> tuple[Path, Path]:
    """`NAME.key` and `NAME.pub`. Nothing is ever written over: raises `FileExistsError`,
    and other `OSError`.
    """
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    if public.exists():
        raise FileExistsError(f"{public} exists")
    _write(private, key.pem(), _PRIVATE_MODE)
    _write(public, key.public.pem(), _PUBLIC_MODE)
    return private, public


def load_private(path: Path) -> PrivateKey:
    """Raises `BadBundle`."""
    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadBundle(f"{path} is not a private key in PEM without a passphrase") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadBundle(f"{path} is not an Ed25519 key")
    return PrivateKey(key)


def load_public(path: Path) -> PublicKey:
    """Raises `BadBundle`. Of a private key's file, too."""
    body = _read(path)
    if b"PRIVATE KEY" in body:
        return load_private(path).public
    return public(body, str(path))


def public(pem: bytes, called: str) -> PublicKey:
    """Raises `BadBundle`, with what the key is called in its words."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadBundle(f"{called} is not a public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BadBundle(f"{called} is not an Ed25519 key")
    return PublicKey(key)


def is_private(path: Path) -> bool:
    """Whether it says of itself that it holds a private key. Raises `BadBundle`."""
    return b"PRIVATE KEY" in _read(path)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_FILE_BYTES_MAX)
    except OSError as error:
        raise BadBundle(f"{path} can't be read: {error.strerror}") from error


def _write(path: Path, text: str, mode: int) -> None:
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "w") as file:
        # Whatever the umask.
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
