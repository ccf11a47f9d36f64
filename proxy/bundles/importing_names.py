"""What a foreign archive calls its images, as the proxy calls them."""

from __future__ import annotations

from collections.abc import Callable

from proxy.errors import UnknownUpstream
from proxy.oci.digest import Digest
from proxy.oci.endpoints import GetManifest

Understood = Callable[[str], tuple[GetManifest, dict[str, str | None]]]

_HUB = "docker.io"


class ForeignNames:
    """Reads names by the configured upstreams, and those without a registry as docker
    does: they are Docker Hub's, whatever a pull without one leads to here.
    """

    def __init__(self, understood: Understood) -> None:
        self._understood = understood

    def named(self, image: str) -> dict[str, object]:
        """Upstream, repository and tag of a name; the tag None for a digest.

        Raises `InvalidRequest`, and `UnknownUpstream` for a registry that is not one of
        those that are configured.
        """
        route, read = self._understood(image)
        if read["read_by"] == "default":
            first, slash, _ = image.partition("/")
            if slash and (first == "localhost" or any(mark in first for mark in ".:")):
                raise _unknown(image, first)
            hub = f"{_HUB}/{image}" if slash else f"{_HUB}/library/{image}"
            route, read = self._understood(hub)
            if read["read_by"] != "registry":
                raise _unknown(image, _HUB)
        reference = route.reference
        return {
            "upstream": route.upstream,
            "repository": str(route.repository),
            "tag": None if isinstance(reference, Digest) else str(reference),
        }


def _unknown(image: str, registry: str) -> UnknownUpstream:
    return UnknownUpstream(
        f"{image[:200]} is an image of {registry}, which is not configured here: add it to "
        "`upstreams`, or give the image another name with --name"
    )
