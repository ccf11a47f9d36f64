"""What was removed is known no longer: the upstream is asked again, at once.

Records and the memory of them go, and with that whatever the fast lane gave on their
ground; so do answers that replicas share for a while. Bytes are others' business.
"""

from __future__ import annotations

from proxy.cache import manifests, tag_answers
from proxy.cache.facts import Facts
from proxy.cache.shared import Shared
from proxy.oci.digest import Digest
from proxy.oci.names import Repository, Tag
from proxy.ports import Upstream


class Forgetting:
    """For this replica, and for what all share."""

    def __init__(self, facts: Facts, shared: Shared) -> None:
        self._facts = facts
        self._shared = shared

    async def tag(self, upstream: Upstream, repository: Repository, tag: Tag) -> None:
        """What the tag names is known no longer."""
        await self._facts.remove_tag(upstream, repository, tag)
        await self._shared.forget(tag_answers.shared_name(upstream, repository, tag))

    async def digest(self, upstream: Upstream, repository: Repository, digest: Digest) -> None:
        """That the repository may serve it is known no longer."""
        await self._facts.remove_link(upstream, repository, digest)
        await self._shared.forget(manifests.shared_name(upstream, repository, digest))
