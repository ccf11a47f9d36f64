"""For how long an answer to a request for a manifest may be given again without a look.

Pure reading of what is remembered now, not of what was true when the answer came about.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from proxy.cache.as_of import REPEATED_S
from proxy.cache.exposure import ExposureGuard
from proxy.cache.facts import Facts
from proxy.cache.freshness import Policy, fresh_window
from proxy.cache.manifests import ManifestCache, Served
from proxy.cache.offline import LOOK_EVERY_S
from proxy.cache.standing import Standing
from proxy.oci.digest import Digest
from proxy.oci.names import Reference, Repository, Tag
from proxy.ports import Clock, Upstream


class TagStanding:
    """Says on what answers by tag and by digest stand."""

    def __init__(
        self,
        *,
        manifests: ManifestCache,
        facts: Facts,
        exposure: ExposureGuard,
        policies: Mapping[str, Policy],
        clock: Clock,
    ) -> None:
        self._manifests = manifests
        self._facts = facts
        self._exposure = exposure
        self._policies = policies
        self._clock = clock

    def of(
        self,
        upstream: Upstream,
        repository: Repository,
        reference: Reference,
        served: Served,
        *,
        as_of: float | None,
    ) -> Standing | None:
        """For how long `TagCache.serve` would answer this again, at once; None if not now."""
        shown = self._exposure.standing(upstream, repository)
        if shown is None or served.manifest is None or served.outcome != "hit" or served.warning:
            return None
        held = self._manifests.standing(upstream, repository, served.manifest)
        if held is None:
            return None
        if isinstance(reference, Digest):
            return held.on(shown) if served.descriptor.digest == reference else None
        named = self._named(upstream, repository, reference, served, as_of)
        return None if named is None else held.on(named).on(shown)

    def _named(
        self,
        upstream: Upstream,
        repository: Repository,
        tag: Tag,
        served: Served,
        as_of: float | None,
    ) -> Standing | None:
        """On what it stands that the tag names this."""
        policy, now = self._policies[upstream.name].of(repository, tag), self._clock()
        when = policy.as_of if as_of is None else as_of
        if when is not None:
            # What is yet to come is not settled.
            return Standing(until=now + REPEATED_S) if when < now - REPEATED_S else None
        known = self._facts.tag_life(upstream, repository, tag)
        if known is None or known[0].current.digest != served.descriptor.digest:
            return None
        if upstream.offline:
            return Standing((known[1],), -math.inf, now + LOOK_EVERY_S)
        if not policy.cached:
            return None
        return Standing((known[1],), *fresh_window(known[0], policy))
