"""Repository names, tags and references, as distribution-spec spells them.

`Repository` and `Tag` are strings that have passed the grammar: holding one is
the proof, so no handler, storage or key builder checks again.
"""

from __future__ import annotations

import re

from proxy.errors import InvalidName, InvalidTag
from proxy.oci.digest import Digest

NAME_LENGTH_MAX = 255
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)


class Repository(str):
    """A repository name inside one upstream, such as `library/alpine`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Repository:
        """Raises `InvalidName` outside the grammar or above 255 characters."""
        if len(text) > NAME_LENGTH_MAX or _NAME.fullmatch(text) is None:
            raise InvalidName(f"not a repository name: {text[:NAME_LENGTH_MAX]!r}")
        return cls(text)


class Tag(str):
    """A tag, such as `3.20`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Tag:
        """Raises `InvalidTag` outside the grammar."""
        if _TAG.fullmatch(text) is None:
            raise InvalidTag(f"not a tag: {text[:128]!r}")
        return cls(text)


Reference = Tag | Digest


def parse_reference(text: str) -> Reference:
    """A tag or, when there is a colon in it, a digest.

    Raises `InvalidTag` or `InvalidDigest`.
    """
    return Digest.parse(text) if ":" in text else Tag.parse(text)
