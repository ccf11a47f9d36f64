"""An image's name as people write it: where it leads, and which of an index's images a
platform means.
"""

from __future__ import annotations

import json
import platform as machine

from proxy.config import Settings
from proxy.errors import InvalidName, UnknownUpstream
from proxy.oci.digest import Digest
from proxy.oci.endpoints import GetManifest
from proxy.upstreams import routes

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm/v7"}


class Names:
    """Reads the names of images, by the configured upstreams."""

    def __init__(self, settings: Settings) -> None:
        self._routes = routes(settings)
        self._called = frozenset(
            called.lower()
            for name, one in settings.upstreams.items()
            for called in (name, *one.aliases)
        )

    def understood(self, image: str) -> tuple[GetManifest, dict[str, str | None]]:
        """Where a pull of `image` leads, and how its name was read.

        `image` as one would pull it: by its registry's name, or by Entrepot's own
        address in front. Raises `InvalidRequest`, `UnknownUpstream`.
        """
        name, reference = _split(image)
        first, _, rest = name.partition("/")
        second, _, further = rest.partition("/")
        tail = f"manifests/{reference}"
        if rest and first.lower() in self._called:
            # A port can't stand in a path.
            target = f"{rest}/{tail}?ns={first}" if ":" in first else f"{name}/{tail}"
            return self._manifest(target), {"read_by": "registry", "name": first}
        if further and any(mark in first for mark in ".:") and second.lower() in self._called:
            read: dict[str, str | None] = {"read_by": "own address", "name": second}
            return self._manifest(f"{rest}/{tail}"), read
        if ":" in first and rest:
            raise UnknownUpstream(f"no upstream called {first[:100]!r} is configured")
        return self._manifest(f"{name}/{tail}"), {"read_by": "default", "name": None}

    def _manifest(self, target: str) -> GetManifest:
        route = self._routes.route("GET", f"/v2/{target}", None)
        if not isinstance(route, GetManifest):
            raise InvalidName("not the name of an image")
        return route


def own_platform() -> str:
    """That of this machine, in Go's words."""
    name = machine.machine()
    return f"linux/{_MACHINES.get(name, name)}"


def for_platform(index: bytes, platform: str) -> Digest | None:
    """The first manifest of an index for `os/architecture[/variant]`."""
    system, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    for entry in json.loads(index)["manifests"]:
        has = entry.get("platform")
        if not isinstance(has, dict) or (has.get("os"), has.get("architecture")) != (
            system,
            architecture,
        ):
            continue
        if not variant or has.get("variant") in {variant, None}:
            return Digest.parse(entry["digest"])
    return None


def _split(image: str) -> tuple[str, str]:
    name, at, digest = image.partition("@")
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    if at:
        return head + slash + last, str(Digest.parse(digest))
    return head + slash + last, tag if colon else "latest"
