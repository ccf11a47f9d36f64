"""Tags that a HEAD showed to name a digest nobody has fetched yet.

containerd resolves a tag by HEAD and then asks by digest only. The record of
the tag may move only once the manifest is stored, so the tag waits here, under
its digest, for the GET that usually follows at once. May be forgotten: then the
next HEAD notes it again.
"""

from __future__ import annotations

import json

from proxy.errors import InvalidTag
from proxy.oci.digest import Digest
from proxy.oci.names import Repository, Tag
from proxy.ports import Coordination, Upstream

_TTL_S = 900.0
_TAGS_MAX = 16


async def note(
    coordination: Coordination,
    upstream: Upstream,
    repository: Repository,
    tag: Tag,
    digest: Digest,
) -> None:
    """`tag` names `digest`, says a HEAD."""
    key = _key(upstream, repository, digest)
    tags = _tags(await coordination.get(key))
    if tag not in tags:
        value = json.dumps([*tags, tag][-_TAGS_MAX:]).encode()
        await coordination.put(key, value, ttl_s=_TTL_S)


async def take(
    coordination: Coordination, upstream: Upstream, repository: Repository, digest: Digest
) -> list[Tag]:
    """The tags that were waiting for `digest`; they wait no longer."""
    key = _key(upstream, repository, digest)
    value = await coordination.get(key)
    if value is None:
        return []
    await coordination.delete(key)
    return _tags(value)


def _key(upstream: Upstream, repository: Repository, digest: Digest) -> str:
    return f"noted/{upstream.name}/{repository}/{digest}"


def _tags(value: bytes | None) -> list[Tag]:
    try:
        tags = json.loads(value) if value else []
        return [Tag.parse(tag) for tag in tags]
    except (ValueError, TypeError, InvalidTag):
        return []
