"""What to tell a client of what is not here, of an upstream that is not to be dialled.

A client asks for an image by its name and then for parts of it by digest, and it is the
part that is missing. So what manifests were given is remembered, bounded, and the
answer names the image as people write it, the platform where that is known, and how to
bring it in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from proxy.cache.lru import Lru
from proxy.cache.manifests import Served
from proxy.cache.platforms import index_entries
from proxy.errors import BadUpstreamAnswer, InvalidDigest, UpstreamOffline
from proxy.events import Kind, NotHeld
from proxy.oci.digest import Digest
from proxy.oci.endpoints import Addressed, GetBlob, GetManifest, GetReferrers
from proxy.oci.manifests import INDEX_TYPES, Manifest, children
from proxy.oci.names import Repository, Tag
from proxy.ports import Observe

_PARTS_MAX = 20_000


class _Whole(NamedTuple):
    """Whose part something is: an image's name, and which of its platforms."""

    image: str
    platform: str | None


class Missing:
    """One for all listeners."""

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self._parts: Lru[tuple[str, Repository, Digest], _Whole] = Lru(_PARTS_MAX)

    def given(self, route: GetManifest, served: Served) -> None:
        """A manifest was given; its parts will be asked for."""
        if served.manifest is None:
            return
        whole = self._whole(route)
        for digest, platform in _parts(served.manifest):
            part = _Whole(whole.image, platform or whole.platform)
            self._parts.put((route.upstream, route.repository, digest), part)

    def told(self, route: Addressed | None, error: UpstreamOffline, client: str) -> str:
        """The words for the client; whoever wants to know is told, too."""
        if route is None:
            return str(error)
        whole = self._whole(route)
        self._observe(
            NotHeld(
                upstream=route.upstream,
                kind=_kind(route),
                image=whole.image,
                platform=whole.platform,
                client=client,
            )
        )
        if error.final:
            return str(error)
        named = ":" in whole.image.rpartition("/")[2]
        image = whole.image if named else f"{whole.image}:TAG"
        return f"{self._what(route, whole, error)}{brought_in(image, route.upstream)}"

    def _whole(self, route: Addressed) -> _Whole:
        base = f"{route.upstream}/{route.repository}"
        match route:
            case GetManifest(reference=Tag() as tag):
                return _Whole(f"{base}:{tag}", None)
            case GetManifest(reference=Digest() as digest):
                whole = self._parts.get((route.upstream, route.repository, digest))
                return whole or _Whole(f"{base}@{digest}", None)
            case GetBlob(digest=digest):
                whole = self._parts.get((route.upstream, route.repository, digest))
                return whole or _Whole(base, None)
            case _:
                return _Whole(base, None)

    def _what(self, route: Addressed, whole: _Whole, error: UpstreamOffline) -> str:
        platform = "" if whole.platform is None else f" for {whole.platform}"
        match route:
            case GetBlob(digest=digest):
                return f"blob {digest} of {whole.image}{platform} is not here"
            case GetManifest(reference=Digest()) if platform:
                return f"{whole.image}{platform} is not here ({error})"
            case _:
                return str(error)


def brought_in(image: str, upstream: str) -> str:
    """After what is not here: why, and how to bring it in."""
    return (
        f", and {upstream} is offline. To bring it in: `entrepot export {image} -o bundle.tar` "
        f"where {upstream} can be reached, then `entrepot import bundle.tar` here"
    )


def _kind(route: Addressed) -> Kind:
    match route:
        case GetManifest():
            return "manifest"
        case GetBlob():
            return "blob"
        case GetReferrers():
            return "referrers"
        case _:
            return "tags"


def _parts(manifest: Manifest) -> Iterator[tuple[Digest, str | None]]:
    """What the manifest needs, and of an index for which platform."""
    try:
        needed = children(manifest)
        if manifest.descriptor.media_type not in INDEX_TYPES:
            yield from ((one.digest, None) for one in needed.blobs)
            return
        entries = list(index_entries(manifest.body))
    except (BadUpstreamAnswer, InvalidDigest):
        return
    named = {digest: platform for digest, platform, _ in entries}
    yield from ((one.digest, named.get(one.digest) or None) for one in needed.manifests)
