"""YAML text as nodes, one by one, without recursion.

The library's own composer calls itself for each level, and the compiled one ends the
process where a document is nested deeply enough. Here depth and number are bounded, and
an alias is the very node it names: a document never costs more than its text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

# Kubernetes' deepest objects (CRD schemas) have some sixty levels.
DEPTH_MAX = 200
# A deployed cluster's whole list has some hundred thousand.
NODES_MAX = 2_000_000

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unreadable(ValueError):
    """No YAML, or too much of it. `line` counts from 1; 0 where it is not known."""

    def __init__(self, message: str, mark: Any = None) -> None:
        super().__init__(message)
        self.line = 0 if mark is None else mark.line + 1


def composed(text: str) -> Iterator[yaml.Node]:
    """The root of each document that has one. Raises `Unreadable`."""
    try:
        loader = _LOADER(text)
        try:
            yield from _documents(loader)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Unreadable(f"is not YAML: {error.problem or error.context}", mark) from error
    except yaml.YAMLError as error:
        raise Unreadable(f"is not YAML: {str(error).splitlines()[0]}") from error


def _documents(loader: Any) -> Iterator[yaml.Node]:
    composer = _Composer(loader)
    while loader.check_event():
        event = loader.get_event()
        if isinstance(event, yaml.DocumentStartEvent):
            composer.begin()
        elif isinstance(event, yaml.DocumentEndEvent):
            if composer.root is not None:
                yield composer.root
        elif isinstance(event, yaml.NodeEvent):
            composer.add(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            composer.close()


class _Composer:
    """Puts the events of one document together."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._left = NODES_MAX
        self.root: yaml.Node | None = None
        self._anchors: dict[str, yaml.Node] = {}
        # The open collections, each with the key that waits for its value.
        self._open: list[tuple[yaml.CollectionNode, list[yaml.Node]]] = []

    def begin(self) -> None:
        self.root = None
        self._anchors = {}
        self._open = []

    def add(self, event: Any) -> None:
        self._left -= 1
        if self._left < 0:
            raise Unreadable(f"has more than {NODES_MAX} nodes", event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            name = str(event.anchor)
            node = self._anchors.get(name)
            if node is None:
                raise Unreadable(f"has no anchor {name[:50]!r}", event.start_mark)
            self._place(node)
            return
        node = self._node(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._place(node)
        if isinstance(node, yaml.CollectionNode):
            if len(self._open) >= DEPTH_MAX:
                raise Unreadable("is nested too deeply", event.start_mark)
            self._open.append((node, []))

    def close(self) -> None:
        self._open.pop()

    def _place(self, node: yaml.Node) -> None:
        if not self._open:
            self.root = node
            return
        parent, waiting = self._open[-1]
        if isinstance(parent, yaml.SequenceNode):
            parent.value.append(node)
        elif waiting:
            parent.value.append((waiting.pop(), node))
        else:
            waiting.append(node)

    def _node(self, event: Any) -> yaml.Node:
        marks: tuple[Any, Any] = (event.start_mark, event.end_mark)
        if isinstance(event, yaml.ScalarEvent):
            tag = event.tag
            if tag is None or tag == "!":
                tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
            return yaml.ScalarNode(tag, event.value, *marks)
        kind = yaml.SequenceNode if isinstance(event, yaml.SequenceStartEvent) else yaml.MappingNode
        return kind(kind.__name__, [], *marks)
