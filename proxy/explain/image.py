"""One image, from its name down to the layers of one platform.

The answer is a document for `entrepot explain`: sizes in bytes, times in seconds
since the epoch, what is not known is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.backing import Backing
from proxy.cache.assembly import Cache
from proxy.cache.exposure import ExposureGuard
from proxy.cache.vouching import group_of
from proxy.config import Settings, UpstreamSettings
from proxy.errors import BadUpstreamAnswer
from proxy.explain.pieces import Look, Pieces
from proxy.explain.tag import TagExplainer
from proxy.naming import Names, for_platform, own_platform
from proxy.oci.digest import Digest
from proxy.oci.manifests import INDEX_TYPES, Descriptor, Manifest, children, json_object
from proxy.ports import Clock, Upstream
from proxy.upstreams import expose, policies


class Explainer:
    """Answers for one running replica."""

    def __init__(
        self,
        settings: Settings,
        cache: Cache,
        backing: Backing,
        upstreams: Mapping[str, Upstream],
        *,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._facts = cache.facts
        self._pieces = Pieces(cache, backing, manifest_bytes_max=settings.manifest_bytes_max)
        self._upstreams = upstreams
        self._clock = clock
        self._names = Names(settings)
        self._tags = TagExplainer(cache.facts, policies(settings), clock=clock)
        self._expose = expose(settings)
        # One of its own: what it remembers of refusals is of no use here.
        self._exposure = ExposureGuard(
            self._expose, facts=cache.facts, clock=clock, recheck_s=settings.expose_recheck_s
        )

    async def document(self, image: str, platform: str | None = None) -> dict[str, Any]:
        """All of it. Raises `InvalidRequest`, `UnknownUpstream`."""
        route, read = self._names.understood(image)
        upstream = self._upstreams[route.upstream]
        look = Look(upstream, route, platform or own_platform())
        shown = await self._exposure.known(upstream, route.repository)
        if not shown:
            look.asks.append(f"{upstream.name} is asked whether anyone may read the repository")
        tag, digest = await self._reference(look)
        if digest is not None:
            await self._descend(look, digest)
        return {
            "image": image,
            "route": {
                "upstream": upstream.name,
                "repository": str(route.repository),
                "reference": str(route.reference),
                **read,
            },
            "upstream": self._upstream(upstream, shown=shown),
            "tag": tag,
            "platform": look.platform,
            "contents": look.contents,
            "pull": look.pull(),
        }

    def _upstream(self, upstream: Upstream, *, shown: bool) -> dict[str, Any]:
        settings, health = self._settings.upstreams[upstream.name], upstream.health()
        if not upstream.credentialed:
            credentials = None
        elif names := _users(settings):
            credentials = f"user {names[0]}" if len(names) == 1 else f"users {', '.join(names)}"
        else:
            credentials = f"from {self._settings.docker_config_file}"
        rule = self._expose[upstream.name]
        return {
            "name": upstream.name,
            "url": upstream.url,
            "credentials": credentials,
            "group": group_of(upstream),
            "expose": list(rule) if isinstance(rule, tuple) else rule,
            "shown": shown,
            "state": health.state,
            "reason": health.reason,
        }

    async def _reference(self, look: Look) -> tuple[dict[str, Any] | None, Digest | None]:
        """What the tag is known to name; None and the digest where there is no tag."""
        reference = look.route.reference
        if isinstance(reference, Digest):
            return None, reference
        return await self._tags.document(look, reference)

    async def _descend(self, look: Look, digest: Digest, size: int | None = None) -> None:
        """The manifest, and what below it belongs to the platform."""
        link = await self._facts.link(look.upstream, look.route.repository, digest)
        media_type = "" if link is None else link.media_type
        what = "index" if media_type in INDEX_TYPES else "manifest"
        if link is not None and link.size is not None:
            size = link.size
        await self._pieces.add(look, what, digest, size, media_type)
        body = await self._pieces.manifest(look, digest)
        if body is None:
            look.certain = False
            return
        descriptor = Descriptor(media_type=media_type, digest=digest, size=len(body))
        try:
            needed = children(Manifest(descriptor=descriptor, body=body))
        except BadUpstreamAnswer as error:
            look.trouble, look.certain = str(error), False
            return
        if needed.manifests:
            look.contents[-1]["what"] = "index"
            chosen = for_platform(body, look.platform)
            sizes = {one.digest: one.size for one in needed.manifests}
            if chosen not in sizes:
                look.asks.append(f"the image has nothing for {look.platform}")
            else:
                await self._descend(look, chosen, sizes[chosen])
            return
        config = json_object(body, "the manifest").get("config")
        for blob in needed.blobs:
            own = isinstance(config, dict) and config.get("digest") == str(blob.digest)
            kind = "config" if own else "layer"
            await self._pieces.add(look, kind, blob.digest, blob.size, blob.media_type)


def _users(settings: UpstreamSettings) -> list[str]:
    """Whom the settings name; all are used in turn."""
    given = (settings.username, *(one.username for one in settings.credentials))
    return [name for name in given if name is not None]
