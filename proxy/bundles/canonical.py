"""JSON of which there is one spelling only, and the plain values read from it.

What is hashed or signed must be told from the same bytes by everyone: keys sorted, no
white space, ASCII. Reading refuses another spelling and keys that nobody expects, so
what was checked is all that there is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from proxy.errors import BadBundle

_SIZE_MAX = 2**53


def encoded(document: Mapping[str, Any]) -> bytes:
    """The one spelling of it."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def decoded(body: bytes, what: str) -> Fields:
    """Reads `encoded` back; `what` is the name of it for complaints. Raises `BadBundle`."""
    try:
        document = json.loads(body)
        if isinstance(document, dict) and encoded(document) == body:
            return Fields(document, what)
    except (ValueError, RecursionError):
        pass
    raise BadBundle(f"{what} is damaged: not a JSON object in the spelling that is used here")


class Fields:
    """The fields of an object; each is taken once, with the type that it must have.

    Everything raises `BadBundle`.
    """

    def __init__(self, document: object, what: str) -> None:
        if not isinstance(document, dict):
            raise BadBundle(f"{what} is not an object")
        self._left = dict(document)
        self._what = what

    def text(self, name: str) -> str:
        """A string of at least one character."""
        value = self._take(name)
        if not isinstance(value, str) or not value:
            raise self.wrong(name)
        return value

    def text_or_none(self, name: str) -> str | None:
        """A string that is not empty, or null."""
        if self._left.get(name, "") is None:
            del self._left[name]
            return None
        return self.text(name)

    def number(self, name: str) -> int:
        """An integer from 0 on."""
        return number(self._take(name), f"{name!r} of {self._what}")

    def items(self, name: str) -> list[object]:
        """A list."""
        value = self._take(name)
        if not isinstance(value, list):
            raise self.wrong(name)
        return value

    def items_or_none(self, name: str) -> list[object] | None:
        """A list, or null."""
        if self._left.get(name, "") is None:
            del self._left[name]
            return None
        return self.items(name)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        values = self.items(name)
        if not all(isinstance(value, str) for value in values):
            raise self.wrong(name)
        return tuple(str(value) for value in values)

    def mapping(self, name: str) -> dict[str, str]:
        """An object of strings."""
        value = self._take(name)
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise self.wrong(name)
        return {str(key): str(text) for key, text in value.items()}

    def below(self, name: str) -> Fields:
        """An object."""
        return Fields(self._take(name), f"{name!r} of {self._what}")

    def version(self, newest: int) -> None:
        """Takes `v`, which must be one that is known here."""
        version = self.number("v")
        if not 1 <= version <= newest:
            raise BadBundle(f"{self._what} is of version {version}, known here is {newest}")

    def end(self) -> None:
        """There is nothing else."""
        if self._left:
            names = ", ".join(sorted(map(repr, self._left)))[:200]
            raise BadBundle(f"{self._what} has what nobody expects there: {names}")

    def wrong(self, name: str) -> BadBundle:
        """The complaint about a field."""
        return BadBundle(f"{name!r} of {self._what} is not what it should be")

    def _take(self, name: str) -> object:
        if name not in self._left:
            raise BadBundle(f"{self._what} has no {name!r}")
        return self._left.pop(name)


def number(value: object, what: str) -> int:
    """An integer from 0 on, calling it `what`. Raises `BadBundle`."""
    # `type`: true and false are ints as well.
    if type(value) is not int or not 0 <= value <= _SIZE_MAX:
        raise BadBundle(f"{what} is not a number from 0 on")
    return value
