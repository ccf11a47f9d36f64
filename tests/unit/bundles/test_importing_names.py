"""Names in foreign archives: by their registry, or Docker Hub's."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.bundles.importing_names import ForeignNames
from proxy.config import load
from proxy.errors import InvalidRequest, UnknownUpstream
from proxy.naming import Names

HUB = {"url": "https://hub.example", "library": True, "aliases": ["index.docker.io"]}
LAB = {"url": "https://lab.example", "aliases": ["lab.example:5000"]}


def names(**upstreams: dict[str, Any]) -> ForeignNames:
    settings = {"presets": False, "default_upstream": "lab", "upstreams": {"lab": LAB, **upstreams}}
    return ForeignNames(Names(load(None, {}, settings)).understood)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("busybox", ("docker.io", "library/busybox", "latest")),
        ("busybox:1.36", ("docker.io", "library/busybox", "1.36")),
        ("team/app:v1", ("docker.io", "team/app", "v1")),
        ("docker.io/busybox", ("docker.io", "library/busybox", "latest")),
        ("index.docker.io/team/app", ("docker.io", "team/app", "latest")),
        ("lab/app:v1", ("lab", "app", "v1")),
        ("lab.example:5000/team/app:v1", ("lab", "team/app", "v1")),
        ("lab/app@sha256:" + "1" * 64, ("lab", "app", None)),
    ],
)
def test_a_name_leads_to_its_registry_or_to_hub(
    name: str, read: tuple[str, str, str | None]
) -> None:
    found = names(**{"docker.io": HUB}).named(name)
    assert (found["upstream"], found["repository"], found["tag"]) == read


@pytest.mark.parametrize("name", ["localhost/app", "quay.io/team/app:v1", "x.example:5000/app"])
def test_a_registry_that_is_not_configured_is_not_the_default(name: str) -> None:
    with pytest.raises(UnknownUpstream, match="configured"):
        names(**{"docker.io": HUB}).named(name)


def test_without_hub_nothing_is_hubs() -> None:
    with pytest.raises(UnknownUpstream, match=r"docker\.io, which is not configured"):
        names().named("busybox")


@pytest.mark.parametrize("name", ["", "UPPER", "lab/a:b:c", "lab/app@sha256:1"])
def test_what_is_no_name_is_told(name: str) -> None:
    with pytest.raises(InvalidRequest):
        names(**{"docker.io": HUB}).named(name)
