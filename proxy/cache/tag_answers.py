"""What an upstream says a tag names: asked by one replica, told to all.

An answer carries the time it was given, so that a replica that hears of it later
does not count the tag as fresh for longer. "No such tag" and failures are not
told here: the one is remembered for seconds elsewhere, and of the other each
replica finds out for itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from proxy.cache.freshness import Policy
from proxy.cache.manifests import ManifestCache
from proxy.cache.records import descriptor_in, descriptor_out
from proxy.cache.shared import Shared
from proxy.oci.manifests import SCHEMA1_TYPES, Descriptor, Manifest
from proxy.oci.names import Repository, Tag
from proxy.ports import Clock, Upstream

Found = Descriptor | Manifest | None


@dataclass(frozen=True, slots=True)
class Told:
    """What was found, and when, in seconds since the epoch. None: there is no such tag.

    A whole `Manifest` only for the replica that fetched it.
    """

    found: Found
    at: float


class TagAnswers:
    """Asks upstreams. Raises what they raise."""

    def __init__(
        self,
        *,
        shared: Shared,
        manifests: ManifestCache,
        policies: Mapping[str, Policy],
        clock: Clock,
    ) -> None:
        self._shared = shared
        self._manifests = manifests
        self._policies = policies
        self._clock = clock

    async def resolve(self, upstream: Upstream, repository: Repository, tag: Tag) -> Told:
        """By HEAD, where that tells enough."""
        return await self._once(
            upstream, repository, tag, lambda: upstream.resolve(repository, tag)
        )

    async def fetch(self, upstream: Upstream, repository: Repository, tag: Tag) -> Told:
        """By GET: a GET by tag counts no more than a HEAD and a GET by digest."""

        async def get() -> Found:
            manifest = await upstream.get_manifest(repository, tag)
            if manifest is not None:
                await self._manifests.share(upstream, repository, manifest)
            return manifest

        return await self._once(upstream, repository, tag, get)

    async def _once(
        self,
        upstream: Upstream,
        repository: Repository,
        tag: Tag,
        ask: Callable[[], Awaitable[Found]],
    ) -> Told:
        policy = self._policies[upstream.name]
        fresh_s = policy.of(repository, tag).fresh_s
        if not math.isfinite(fresh_s):
            fresh_s = policy.fresh_s
        ours: list[Told] = []

        async def work() -> bytes | None:
            found = await ask()
            ours.append(Told(found, self._clock()))
            return _encode(ours[0])

        name = shared_name(upstream, repository, tag)
        outcome = await self._shared.once(name, work, ttl_s=fresh_s)
        told = ours[0] if ours else _decode(outcome)
        if told is None:
            await work()
            told = ours[0]
        return told


def shared_name(upstream: Upstream, repository: Repository, tag: Tag) -> str:
    """Under which replicas share what the upstream answered."""
    return f"tag/{upstream.name}/{repository}/{tag}"


def _encode(told: Told) -> bytes | None:
    descriptor = told.found.descriptor if isinstance(told.found, Manifest) else told.found
    if descriptor is None or descriptor.media_type in SCHEMA1_TYPES:
        return None  # Schema 1 can't be verified, so it can't be handed on.
    return json.dumps({"at": told.at, "found": descriptor_out(descriptor)}).encode()


def _decode(outcome: bytes | None) -> Told | None:
    try:
        document = json.loads(outcome or b"null")
    except ValueError:
        return None
    match document:
        case {"at": int(at) | float(at), "found": dict(found)}:
            descriptor = descriptor_in(found)
            return None if descriptor is None else Told(descriptor, at)
        case _:
            return None
