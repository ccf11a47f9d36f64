"""Our settings laid into a TOML text that is somebody else's, its comments kept.

The standard library reads TOML and does not write it, so the text is edited:
lines are added or replaced, and then the result is read and compared with what
it has to say. Whatever was laid out in a way that this does not foresee ends in
a `Conflict` and never in a broken file.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from proxy.clients.wish import Conflict

Value = str | bool | list[str]
_HEADER = re.compile(r"[ \t]*\[(?!\[)(.+)\][ \t]*(?:#.*)?")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def read(path: str, text: str) -> dict[str, Any]:
    """The document. Raises `Conflict` if it is none."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Conflict(path, f"is not TOML: {error}") from error


def header(table: Sequence[str]) -> str:
    """`[a."b.c"]`."""
    return "[" + ".".join(key if _BARE.fullmatch(key) else _text(key) for key in table) + "]"


def line(key: str, value: Value) -> str:
    """`key = value`."""
    match value:
        case bool():
            return f"{key} = {str(value).lower()}"
        case str():
            return f"{key} = {_text(value)}"
        case list():
            return f"{key} = [{', '.join(_text(one) for one in value)}]"


def section(table: Sequence[str], entries: Mapping[str, Value]) -> str:
    """A whole table."""
    lines = [header(table), *(f"  {line(key, value)}" for key, value in entries.items())]
    return "\n".join(lines) + "\n"


def into(
    path: str,
    old: str,
    wanted: Sequence[tuple[tuple[str, ...], Mapping[str, Value]]],
    *,
    replacing: frozenset[str] = frozenset(),
) -> str:
    """`old` with the `wanted` tables in it.

    Values of the keys in `replacing` are replaced, lists get ours in front, any
    other difference is a `Conflict`.
    """
    expected = copy.deepcopy(read(path, old))
    lines = old.splitlines()
    for table, entries in wanted:
        there = _table(path, expected, table)
        missing: dict[str, Value] = {}
        for key, value in entries.items():
            has = there.get(key)
            if has is None:
                missing[key] = there[key] = value
            elif has != value:
                there[key] = _settled(path, table, key, has, value, replace=key in replacing)
                if there[key] != has:
                    _replace(path, lines, table, key, there[key])
        if missing:
            _add(lines, table, missing)
    result = "\n".join(lines) + "\n"
    if result != old:
        checked(path, result, expected)
    return result if lines != old.splitlines() else old


def checked(path: str, text: str, expected: dict[str, Any]) -> None:
    """Raise `Conflict` unless `text` says exactly what is expected."""
    try:
        same = tomllib.loads(text) == expected
    except tomllib.TOMLDecodeError:
        same = False
    if not same:
        raise Conflict(path, "is laid out in a way that can't be edited safely; do it by hand")


def _table(path: str, document: dict[str, Any], table: Sequence[str]) -> dict[str, Any]:
    for key in table:
        document = document.setdefault(key, {})
        if not isinstance(document, dict):
            raise Conflict(path, f"{header(table)} is not a table there")
    return document


def _settled(
    path: str, table: Sequence[str], key: str, has: Any, value: Value, *, replace: bool
) -> Value:
    if replace:
        return value
    if isinstance(has, list) and isinstance(value, list):
        return [*value, *(one for one in has if one not in value)]
    raise Conflict(path, f"{header(table)} has {key} = {has!r}, not {value!r}; decide yourself")


def _headers(lines: Sequence[str]) -> list[tuple[int, tuple[str, ...]]]:
    found = []
    for number, text in enumerate(lines):
        match = _HEADER.fullmatch(text)
        if match is None:
            continue
        try:
            nested = tomllib.loads(f"[{match[1]}]")
        except tomllib.TOMLDecodeError:
            continue
        keys = []
        while nested:
            ((key, nested),) = nested.items()
            keys.append(key)
        found.append((number, tuple(keys)))
    return found


def _add(lines: list[str], table: Sequence[str], entries: Mapping[str, Value]) -> None:
    for number, name in _headers(lines):
        if name == tuple(table):
            indent = lines[number][: len(lines[number]) - len(lines[number].lstrip())]
            lines[number + 1 : number + 1] = [
                f"{indent}  {line(key, value)}" for key, value in entries.items()
            ]
            return
    lines += ["", *section(table, entries).splitlines()]


def _replace(path: str, lines: list[str], table: Sequence[str], key: str, value: Value) -> None:
    starts = _headers(lines)
    for index, (number, name) in enumerate(starts):
        if name != tuple(table):
            continue
        end = starts[index + 1][0] if index + 1 < len(starts) else len(lines)
        for at in range(number + 1, end):
            if re.match(rf"[ \t]*{re.escape(key)}[ \t]*=", lines[at]):
                indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
                lines[at] = indent + line(key, value)
                return
    raise Conflict(path, f"{header(table)} sets {key} in a way that can't be edited safely")


def _text(value: str) -> str:
    # What JSON escapes, TOML's basic strings read the same way.
    return json.dumps(value, ensure_ascii=False)
