"""Content digests: `algorithm:hex`, parsed once and trusted afterwards.

Only algorithms that can be verified here exist as values (distribution-spec
"Content Digests"; go-digest's grammar is wider, but an algorithm nobody can
check may not be cached under its name).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol

from proxy.errors import InvalidDigest

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
# fullmatch: `$` would admit a trailing newline.
_GRAMMAR = re.compile(r"(sha256|sha512):([a-f0-9]{64}(?:[a-f0-9]{64})?)", re.ASCII)


class Hasher(Protocol):
    """The part of hashlib's objects that is used here."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> Hasher: ...


@dataclass(frozen=True, slots=True)
class Digest:
    """A verified-form digest; `hex` is lower case and of the right length."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read `sha256:<64 hex>` or `sha512:<128 hex>`.

        Raises `InvalidDigest` for anything else, unknown algorithms included.
        """
        match = _GRAMMAR.fullmatch(text) if len(text) <= 135 else None
        if match is None or len(match[2]) != _HEX_LENGTH[match[1]]:
            raise InvalidDigest(f"not a sha256 or sha512 digest: {text[:140]!r}")
        return cls(match[1], match[2])

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """The digest of `data`."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    def hasher(self) -> Hasher:
        """A fresh hash object of this digest's algorithm."""
        return hashlib.sha256() if self.algorithm == "sha256" else hashlib.sha512()

    def matches(self, data: bytes) -> bool:
        """Whether `data` is what this digest names."""
        return Digest.of(data, self.algorithm) == self

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"
