"""The layout of durable storage: one place that turns values into keys.

The same on disk and in S3. Built from parsed values only. A component that
starts with `_` is never a repository's, so no key is another key's folder.
Changing anything here orphans what users have stored.

    layout                                              {"v": 1}
    blobs/<group>/<algorithm>/<2 hex>/<hex>
    repos/<upstream>/<repository>/_tags/<tag>
    repos/<upstream>/<repository>/_links/<algorithm>/<hex>
    repos/<upstream>/<repository>/_referrers/<algorithm>/<hex>
    repos/<upstream>/<repository>/_exposed
"""

from __future__ import annotations

from proxy.oci.digest import Digest
from proxy.oci.names import Repository, Tag
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
