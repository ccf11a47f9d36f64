"""YAML into plain data, remembering the line of every value.

The YAML library's own loader forgets positions and lets the last of two equal
keys win silently; here each mistake is a problem with its line. Never raises
for what stands in the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from proxy.config.problems import Loc, Problem, dotted


@dataclass(slots=True)
class Document:
    """A file's `data`, the 1-based line of each value by its location, and
    what is wrong with the text itself.
    """

    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Loc, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read(path: Path, key: str) -> Document:
    """The document at `path`; `key` is blamed if it can't be read."""
    document = Document()
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        document.problems.append(Problem(key, f"{path} can't be read: {error.strerror}"))
    except UnicodeDecodeError:
        document.problems.append(Problem(key, f"{path} is not UTF-8 text"))
    else:
        _parse(text, document)
    return document


def _parse(text: str, document: Document) -> None:
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if isinstance(node, yaml.MappingNode):
                document.data = _Builder(loader, document).mapping(node, (), ())
            elif node is not None:
                line = node.start_mark.line + 1
                document.problems.append(Problem("", "the file must be `key: value` pairs", line))
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = _unquoted(" ".join(part for part in (error.context, error.problem) if part))
        line = mark.line + 1 if mark else 1
        document.problems.append(Problem("", f"not valid YAML: {said}", line))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        document.problems.append(Problem("", "not valid YAML: a character that may not be", line))


def _unquoted(said: str) -> str:
    """Without the words that the YAML library quotes: `password: *secret` is an
    unknown alias to it, and our messages go to logs.
    """
    return re.sub(r"'[^'<]{2,}'", "'…'", said)


@dataclass(frozen=True, slots=True)
class _Builder:
    loader: yaml.SafeLoader
    document: Document

    def build(self, node: yaml.Node, loc: Loc, above: tuple[yaml.Node, ...]) -> Any:
        """`above`: the nodes we are inside of, for an alias may name one."""
        self.document.lines.setdefault(loc, node.start_mark.line + 1)
        if node in above:
            line = self.document.lines[loc]
            self.document.problems.append(Problem(dotted(loc), "refers to itself", line))
            return None
        match node:
            case yaml.MappingNode():
                return self.mapping(node, loc, above)
            case yaml.SequenceNode():
                inside = (*above, node)
                return [
                    self.build(item, (*loc, index), inside) for index, item in enumerate(node.value)
                ]
            case _:
                return self._scalar(node, loc)

    def mapping(
        self, node: yaml.MappingNode, loc: Loc, above: tuple[yaml.Node, ...]
    ) -> dict[str, Any]:
        self._complain_of_doubles(node, loc)
        self.loader.flatten_mapping(node)  # `<<` puts what it merges in front: later keys win
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node, loc)
            if not isinstance(key, str):
                self._complain(loc, "a key must be text; put it in quotes", key_node)
                continue
            self.document.lines[*loc, key] = key_node.start_mark.line + 1
            data[key] = self.build(value_node, (*loc, key), (*above, node))
        return data

    def _scalar(self, node: yaml.Node, loc: Loc) -> Any:
        try:
            return self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            said = error.problem if isinstance(error, yaml.MarkedYAMLError) else None
            self._complain(loc, "can't be read" + _unquoted(f": {said}" if said else ""), node)
            return None

    def _complain_of_doubles(self, node: yaml.MappingNode, loc: Loc) -> None:
        first: dict[str, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.value == "<<":
                continue
            line = key_node.start_mark.line + 1
            if key_node.value in first:
                before = f"is given twice (before in line {first[key_node.value]})"
                self._complain((*loc, key_node.value), before, key_node)
            first.setdefault(key_node.value, line)

    def _complain(self, loc: Loc, message: str, node: yaml.Node) -> None:
        line = node.start_mark.line + 1
        self.document.problems.append(Problem(dotted(loc), message, line))
