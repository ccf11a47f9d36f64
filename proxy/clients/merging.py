"""Our settings laid into a JSON or YAML document that is somebody else's.

Nothing of theirs is lost: tables are joined, of lists ours comes first (mirrors
are tried in order), and a value that differs from ours is a `Conflict`.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from proxy.clients.wish import Conflict

_INDENTED = re.compile(r"^([ \t]+)\S", re.MULTILINE)
# Generous: a false alarm asks a person, a missed one would lose what one wrote.
_COMMENT = re.compile(r"(^|\s)#", re.MULTILINE)


class Block(str):
    """Text of several lines that YAML shows as such."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """Knows `Block`."""


_Dumper.add_representer(
    Block, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
)


def into_json(path: str, old: str | None, wanted: dict[str, Any]) -> str:
    """The JSON text, indented as before. Raises `Conflict`."""
    if old is None or not old.strip():
        return json.dumps(wanted, indent=2) + "\n"
    try:
        there = json.loads(old)
    except ValueError as error:
        raise Conflict(path, f"is not JSON: {error}") from error
    merged = _document(path, there, wanted)
    if merged == there:
        return old
    indented = _INDENTED.search(old)
    indent = indented[1] if indented else 2
    return json.dumps(merged, indent=indent, ensure_ascii=False) + "\n"


def into_yaml(path: str, old: str | None, wanted: dict[str, Any]) -> str:
    """The YAML text. Raises `Conflict`, also when comments would be lost."""
    if old is None or not old.strip():
        return dumped(wanted)
    try:
        there = yaml.safe_load(old)
    except yaml.YAMLError as error:
        raise Conflict(path, "is not YAML") from error
    merged = _document(path, {} if there is None else there, wanted)
    if merged == there:
        return old
    if _COMMENT.search(old):
        raise Conflict(path, "has comments, which would be lost; add by hand:\n" + dumped(wanted))
    return dumped(merged)


def dumped(*documents: Any) -> str:
    """YAML as one would write it."""
    several = len(documents) > 1
    return str(
        yaml.dump_all(
            documents,
            Dumper=_Dumper,
            sort_keys=False,
            allow_unicode=True,
            explicit_start=several,
        )
    )


def joined(path: str, there: Any, wanted: Any, where: str) -> Any:
    """`wanted` laid into `there`. Raises `Conflict`."""
    match there, wanted:
        case dict(), dict():
            result = dict(there)
            for key, value in wanted.items():
                if there.get(key) is None:
                    result[key] = value
                else:
                    result[key] = joined(
                        path, there[key], value, f"{where}.{key}" if where else key
                    )
            return result
        case list(), list():
            return [*wanted, *(one for one in there if one not in wanted)]
        case _:
            if there == wanted:
                return there
            raise Conflict(path, f"{where} is {there!r}, and should be {wanted!r}; decide yourself")


def _document(path: str, there: Any, wanted: dict[str, Any]) -> Any:
    if not isinstance(there, dict):
        raise Conflict(path, "does not hold a table of settings")
    return joined(path, there, wanted, "")
