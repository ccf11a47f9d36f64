"""Files from outside, within bounds: no more bytes, nodes or names than anyone needs.

What names images comes from other people's repositories. A file that is far too big,
or a YAML document that unfolds into millions of nodes, is refused with its name; it
never costs more memory than the bounds here allow.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from proxy.errors import EntrepotError
from proxy.images.nodes import DEPTH_MAX, Unreadable, composed

FILE_BYTES_MAX = 32 * 1024 * 1024
# Of a document whose aliases are unfolded.
_VALUES_MAX = 200_000
_NAME_CHARACTERS_MAX = 512
# What no image name has: white space, control characters, quotes, templates' braces.
_NAME = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9._/:@+\[\]-]*", re.ASCII)

_TEXT_TAG = "tag:yaml.org,2002:str"
_NULL_TAG = "tag:yaml.org,2002:null"


class ImagesError(EntrepotError):
    """A list of images that can't be read; the message names the file and the line."""


def checked_name(name: str, place: str) -> str:
    """`name`, if it can be an image's. Raises `ImagesError`."""
    if len(name) > _NAME_CHARACTERS_MAX or _NAME.fullmatch(name) is None:
        raise ImagesError(f"{place}: {name[:100]!r} is no image name")
    return name


def read(path: Path) -> str:
    """A whole text file; `-` is standard input. Raises `ImagesError`."""
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        else:
            with path.open("rb") as file:
                data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ImagesError(f"{path}: {error.strerror}") from error
    return decoded(data, str(path))


def decoded(data: bytes, place: str) -> str:
    """The text of a file that is not too big. Raises `ImagesError`."""
    if len(data) > FILE_BYTES_MAX:
        raise ImagesError(f"{place}: has more than {FILE_BYTES_MAX // 2**20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ImagesError(f"{place}:{line}: is not UTF-8 text") from error


def documents(text: str, place: str) -> Iterator[yaml.Node]:
    """The YAML documents (or the one JSON document) in `text`, as nodes.

    Nodes, not values: an alias is the node it names, once, so a document costs no more
    than its text. Raises `ImagesError`.
    """
    if text.lstrip()[:1] in {"{", "["}:
        try:
            yield _node(json.loads(text))
        except (ValueError, RecursionError):
            # Not JSON, perhaps YAML in braces. If it is neither, YAML's word is as good.
            pass
        else:
            return
    try:
        yield from composed(text)
    except Unreadable as error:
        raise ImagesError(f"{at(place, error.line)}: {error}") from error


def at(place: str, line: int) -> str:
    """Where something stands; line 0 is not known."""
    return f"{place}:{line}" if line else place


def text_of(node: yaml.Node | None) -> str | None:
    """The text of a scalar that is text; None for anything else."""
    if isinstance(node, yaml.ScalarNode) and node.tag == _TEXT_TAG:
        return str(node.value)
    return None


def is_null(node: yaml.Node) -> bool:
    """Whether it is YAML's null, or nothing."""
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL_TAG


def plain(node: yaml.Node, place: str) -> Any:
    """The values of a small document, aliases unfolded. Raises `ImagesError`."""
    return _Unfolding(place).value(node)


class _Unfolding:
    """Counts what it makes, since ten aliases of ten aliases of ten are a thousand."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._left = _VALUES_MAX
        self._depth = 0

    def value(self, node: yaml.Node) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ImagesError(f"{self._place}: unfolds into too many values")
        self._depth += 1
        if self._depth > DEPTH_MAX:
            # By aliases: of nodes, or of one to something that it is in.
            raise ImagesError(f"{self._place}: is nested too deeply")
        try:
            match node:
                case yaml.MappingNode():
                    return self._mapping(node)
                case yaml.SequenceNode():
                    return [self.value(item) for item in node.value]
                case _:
                    return _scalar(node)
        finally:
            self._depth -= 1

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for source in reversed(sources):
                    found = self.value(source)
                    merged |= found if isinstance(found, dict) else {}
            elif isinstance(key, yaml.ScalarNode):
                own[str(key.value)] = self.value(value)
        return merged | own


def _scalar(node: yaml.Node) -> Any:
    """Text as it is written, also of numbers: `tag: 1.10` means 1.10."""
    if is_null(node):
        return None
    if node.tag == "tag:yaml.org,2002:bool":
        return str(node.value).lower() in {"true", "yes", "on"}
    return str(node.value)


def _node(value: Any) -> yaml.Node:
    """JSON as YAML's nodes."""
    match value:
        case dict():
            pairs = [(_node(key), _node(item)) for key, item in value.items()]
            return yaml.MappingNode("tag:yaml.org,2002:map", pairs)
        case list():
            return yaml.SequenceNode("tag:yaml.org,2002:seq", [_node(item) for item in value])
        case str():
            return yaml.ScalarNode(_TEXT_TAG, value)
        case bool():
            return yaml.ScalarNode("tag:yaml.org,2002:bool", str(value).lower())
        case None:
            return yaml.ScalarNode(_NULL_TAG, "")
        case _:
            return yaml.ScalarNode("tag:yaml.org,2002:float", str(value))
