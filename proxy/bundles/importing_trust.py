"""Whose bundles are believed. The proxy decides this itself, whatever the command that
talks to it has verified already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.bundles import signing
from proxy.bundles.reader import check_signed
from proxy.errors import BadBundle, StartupError

if TYPE_CHECKING:
    from proxy.bundles.keys import PublicKey


@dataclass(frozen=True, slots=True)
class Trust:
    """With configured keys nothing else counts."""

    keys: tuple[PublicKey, ...]
    unsigned: bool

    @classmethod
    def load(cls, files: Sequence[Path], *, unsigned: bool) -> Trust:
        """Raises `StartupError`."""
        if not files:
            return cls((), unsigned)
        from proxy.bundles.keys import load_public  # noqa: PLC0415 - heavy, and seldom used

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
    from proxy.bundles.keys import public  # noqa: PLC0415 - heavy, and seldom used

    return public(pem.encode(), "what was given as a key")
