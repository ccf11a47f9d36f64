"""What Kubernetes accepts, by its own JSON schemas (of the package kubernetes-validate).

The package reads and parses megabytes for each object that it is asked about; here
that is done once for each version.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from typing import Any

VERSIONS = ("1.27", "1.37")
"""The oldest and the newest that are asked."""


def trouble(document: dict[str, Any], version: str) -> list[str]:
    """What is wrong with an object, unknown fields too; empty: nothing."""
    # networking.k8s.io/v1 -> networking-v1, as the files are called.
    of = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", document["apiVersion"])
    validator = _validator(version, f"{document['kind'].lower()}-{of}.json")
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


@functools.cache
def _validator(version: str, file: str) -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(_schema(version, file), registry=_registry(version))


@functools.cache
def _registry(version: str) -> Any:
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT202012

    definitions = Resource.from_contents(
        _schema(version, "_definitions.json"), default_specification=DRAFT202012
    )
    # Crawled now, or it would be anew for each reference.
    return Registry().with_resource("/api/_definitions.json", definitions).crawl()


def _schema(version: str, file: str) -> Any:
    folder = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"
    return json.loads((folder / f"v{version}.0-local-strict" / file).read_text())
