"""Uses of whole images, noted as their manifests are served.

Who pulls a manifest needs all that is below it, wherever the client has that from: so a
use of a manifest counts as one of its layers, and eviction, which goes by last use,
drops an image whole before it breaks one that is alive. Here it is only noted, once a
minute for each image and in constant time, since manifests are served thousands of
times a second; `take` hands it on to whoever does the work in the background.

Work that nobody waits for, a warm-up say, is no use. But whoever moves a tag, by whatever
way it came, that is noted as well: patterns that somebody pinned may mean it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from proxy.cache.lru import Lru
from proxy.cache.traffic import Urgency, current
from proxy.oci.manifests import Manifest
from proxy.oci.names import Reference, Repository, Tag
from proxy.ports import Upstream

EVERY_S = 60.0
_REMEMBERED_MAX = 20_000
_WAITING_MAX = 2000
# Names only; those beyond are found by whoever looks at all tags now and then.
_MOVED_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Use:
    """Somebody asked an upstream's repository for `reference` and got `manifest`, or only
    its digest (None).
    """

    upstream: Upstream
    repository: Repository
    reference: Reference
    manifest: Manifest | None


class ImageUses:
    """What was noted and not yet taken; bounded, since a lost use does little harm."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._noted: Lru[tuple[str, Repository, Reference], tuple[float, object]] = Lru(
            _REMEMBERED_MAX
        )
        self._waiting: list[Use] = []
        self._moved: dict[tuple[str, Repository, Tag], None] = {}

    def note(
        self,
        upstream: Upstream,
        repository: Repository,
        reference: Reference,
        manifest: Manifest | None,
    ) -> None:
        """It was served. Work that nobody waits for is no use."""
        if current().urgency is not Urgency.WAITING or len(self._waiting) >= _WAITING_MAX:
            return
        key, now = (upstream.name, repository, reference), self._monotonic()
        noted, digest = self._noted.get(key), manifest and manifest.descriptor.digest
        if noted is None or now - noted[0] >= EVERY_S or noted[1] != digest:
            self._noted.put(key, (now, digest))
            self._waiting.append(Use(upstream, repository, reference, manifest))

    def moved(self, upstream: str, repository: Repository, tag: Tag) -> None:
        """A tag names something new here, or for the first time."""
        if len(self._moved) < _MOVED_MAX:
            self._moved[(upstream, repository, tag)] = None

    def take_moved(self) -> list[tuple[str, Repository, Tag]]:
        """All that moved since the last time."""
        taken, self._moved = list(self._moved), {}
        return taken

    def take(self) -> list[Use]:
        """All that was noted since the last time."""
        taken, self._waiting = self._waiting, []
        return taken
