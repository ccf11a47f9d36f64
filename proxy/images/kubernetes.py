"""The images that Kubernetes manifests run.

No kind is known by name, so that custom resources and lists need nothing of their own:
wherever a list of containers stands, each of its members has an `image`; a volume may
be an image, too. https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
What names an image in a way of its own (an operator's `spec.image`, a kustomization's
`images`) is not found; render such things first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from proxy.images.reading import (
    ImagesError,
    at,
    checked_name,
    documents,
    is_null,
    read,
    text_of,
)

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_FILES_MAX = 20_000
# Pods' three, and what Argo Workflows and Tekton call theirs.
_CONTAINERS = frozenset(
    {"containers", "initContainers", "ephemeralContainers", "sidecars", "steps"}
)
_CONTAINER = frozenset({"container", "script", "stepTemplate"})


def images_under(path: Path) -> Iterator[str]:
    """Of a file, or of all YAML and JSON files in a folder, in the order of their names.

    `-` is standard input. Raises `ImagesError`.
    """
    for number, file in enumerate(_files(path)):
        if number >= _FILES_MAX:
            raise ImagesError(f"{path}: has more than {_FILES_MAX} files")
        yield from images_in(read(file), str(file))


def images_in(text: str, place: str) -> Iterator[str]:
    """Of one text with any number of documents. Raises `ImagesError`."""
    for document in documents(text, place):
        yield from _images(document, place)


def _files(path: Path) -> Iterator[Path]:
    if str(path) == "-" or not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        # `.git` and the like; in the same order everywhere.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(folder, name)


def _images(document: yaml.Node, place: str) -> Iterator[str]:
    """Depth first, each node once: aliases, and loops of them, cost nothing."""
    seen: set[int] = set()
    stack: list[yaml.Node] = [document]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        match node:
            case yaml.MappingNode():
                for key, value in node.value:
                    yield from _named(text_of(key), value, place)
                stack.extend(value for _, value in reversed(node.value))
            case yaml.SequenceNode():
                stack.extend(reversed(node.value))
            case _:
                pass


def _named(key: str | None, value: yaml.Node, place: str) -> Iterator[str]:
    """The images of the containers or volumes that stand under `key`."""
    if key in _CONTAINERS and isinstance(value, yaml.SequenceNode):
        for container in value.value:
            yield from _image(_entry(container, "image"), place)
    elif key in _CONTAINER:
        yield from _image(_entry(value, "image"), place)
    elif key == "volumes" and isinstance(value, yaml.SequenceNode):
        for volume in value.value:
            image = _entry(volume, "image")
            if isinstance(image, yaml.MappingNode):
                yield from _image(_entry(image, "reference"), place)


def _image(node: yaml.Node | None, place: str) -> Iterator[str]:
    if node is None or is_null(node):
        return
    if isinstance(node, yaml.CollectionNode) and not _is_template(node):
        # Some custom resource's own way to say it.
        return
    where = at(place, 0 if node.start_mark is None else node.start_mark.line + 1)
    name = text_of(node)
    if name is None:
        raise ImagesError(f"{where}: the image of a container must be text, and rendered")
    if name:
        yield checked_name(name, where)


def _is_template(node: yaml.CollectionNode) -> bool:
    """Whether it was written `{{ .Values.image }}`: to YAML a mapping as a key."""
    return isinstance(node, yaml.MappingNode) and any(
        isinstance(key, yaml.CollectionNode) for key, _ in node.value
    )


def _entry(node: yaml.Node, wanted: str) -> yaml.Node | None:
    """A mapping's entry, its own before one that it merges (`<<: *base`)."""
    seen: set[int] = set()
    # Taken from the end: the nearest first.
    left = [node]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        match one:
            case yaml.SequenceNode():
                left.extend(reversed(one.value))
            case yaml.MappingNode():
                for key, value in one.value:
                    if text_of(key) == wanted:
                        return value  # type: ignore[no-any-return]  # types-PyYAML leaves it open
                merged = [value for key, value in one.value if key.tag.endswith(":merge")]
                left.extend(reversed(merged))
            case _:
                pass
    return None
