"""The layout of durable storage: one place that turns values into keys.

The same on disk and in S3. Built from parsed values only. A component that
starts with `_` is never a repository's, so no key is another key's folder.
Changing anything here orphans what users have stored.

    layout                                              {"v": 1}
    blobs/<group>/<algorithm>/<2 hex>/<hex>
    repos/<upstream>/<repository>/_tags/<tag>
    repos/<upstream>/<repository>/_links/<algorithm>/<hex>
    repos/<upstream>/<repository>/_referrers/<algorithm>/<hex>
    repos/<upstream>/<repository>/_history/<tag>/<milliseconds>-<mark>
    repos/<upstream>/<repository>/_pulled/tags/<tag>
    repos/<upstream>/<repository>/_pulled/<algorithm>/<hex>
    repos/<upstream>/<repository>/_exposed
    removed/<time>-<mark>
    pins/<sha256 of what is pinned>/<sha256 of the record>
    warm/<sha256 of the plan>
"""

from __future__ import annotations

from proxy.oci.digest import Digest
from proxy.oci.names import Reference, Repository, Tag
from proxy.ports import BlobKey

LAYOUT = "layout"
LAYOUT_VERSION = 1


def blob(key: BlobKey) -> str:
    """Where a blob's bytes are."""
    digest = key.digest
    return f"blobs/{key.group}/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"


def repositories(upstream: str) -> str:
    """The folder of all that is known of one upstream."""
    return f"repos/{upstream}"


def tags(upstream: str, repository: Repository) -> str:
    """The folder of a repository's tag records."""
    return f"repos/{upstream}/{repository}/_tags"


def tag(upstream: str, repository: Repository, tag: Tag) -> str:
    """Where a tag record is."""
    return f"repos/{upstream}/{repository}/_tags/{tag}"


def link(upstream: str, repository: Repository, digest: Digest) -> str:
    """Where "this repository may serve this digest" is."""
    return f"repos/{upstream}/{repository}/_links/{digest.algorithm}/{digest.hex}"


def referrers(upstream: str, repository: Repository, digest: Digest) -> str:
    """Where the last known referrers of a digest are."""
    return f"repos/{upstream}/{repository}/_referrers/{digest.algorithm}/{digest.hex}"


def exposed(upstream: str, repository: Repository) -> str:
    """Where "anonymous callers may read this repository" is."""
    return f"repos/{upstream}/{repository}/_exposed"


def pulled(upstream: str, repository: Repository, reference: Reference) -> str:
    """Where it is noted when somebody last pulled by this tag or digest."""
    at = f"repos/{upstream}/{repository}/_pulled"
    if isinstance(reference, Digest):
        return f"{at}/{reference.algorithm}/{reference.hex}"
    return f"{at}/tags/{reference}"


def histories(upstream: str, repository: Repository) -> str:
    """The folder of all that a repository's tags ever named."""
    return f"repos/{upstream}/{repository}/_history"


def history(upstream: str, repository: Repository, tag: Tag) -> str:
    """The folder of one tag's moves."""
    return f"{histories(upstream, repository)}/{tag}"


def move(upstream: str, repository: Repository, tag: Tag, at: float, mark: str) -> str:
    """Where a move at `at` (seconds since the epoch) is. Keys are in order of time; `mark`
    tells apart what happened in the same millisecond, and is the same for the same move.
    """
    return f"{history(upstream, repository, tag)}/{moment(at)}-{mark}"


def moment(at: float) -> str:
    """How the key of a move begins that happened at `at`."""
    return f"{max(0, round(at * 1000)):015d}"


REMOVED = "removed"
"""The folder of what replicas tell each other to forget."""


def removed(at: float, mark: str) -> str:
    """Where a notice written at `at` (seconds since the epoch) is; keys are in order of time."""
    return f"{REMOVED}/{moment(at)}-{mark}"


PINS = "pins"
"""The folder of all pins."""


def pin(identity: str, content: str) -> str:
    """Where a pin is, by two hashes in hex."""
    return f"{PINS}/{identity}/{content}"


def warm_up(plan: str) -> str:
    """Where it is noted when a planned warm-up was last done, by the plan's hash in hex."""
    return f"warm/{plan}"
