"""Tags that a bundle moves: last of all, and never back unless somebody insists.

A bundle is older than what is known of a tag if it was made before the upstream last
confirmed that, or before the bundle was made that brought it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from proxy.bundles.contents import Contents, Place
from proxy.cache import keys
from proxy.cache.facts import Facts
from proxy.cache.records import TagRecord, decode_tag, encode_tag
from proxy.errors import BadBundle, StorageUnavailable
from proxy.events import TagMoved
from proxy.oci.manifests import Descriptor
from proxy.oci.names import Tag
from proxy.ports import Clock, Observe, Records, Upstream

_TRIES = 5
_NAMED_MAX = 3
_MARK = "bundle"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a bundle says that a tag names."""

    place: Place
    tag: Tag
    descriptor: Descriptor


def wanted(contents: Contents) -> Iterator[Wanted]:
    """Those of images, and cosign's."""
    for image in contents.images:
        if image.tag is not None:
            yield Wanted(image.place, image.tag, image.descriptor)
    for referrer in contents.referrers:
        if referrer.tag is not None:
            yield Wanted(referrer.place, referrer.tag, referrer.descriptor)


class TagMoves:
    """Writes tag records, each durable before the next one."""

    def __init__(self, records: Records, facts: Facts, clock: Clock, observe: Observe) -> None:
        self._records = records
        self._observe = observe
        self._facts = facts
        self._clock = clock

    async def refuse_older(self, contents: Contents, upstreams: Mapping[Place, Upstream]) -> None:
        """Raises `BadBundle` if a tag would go back, `StorageUnavailable`."""
        back: list[str] = []
        for one in wanted(contents):
            upstream = upstreams[one.place]
            known = await self._known(upstream, one)
            if known is not None and known.current.digest != one.descriptor.digest:
                as_of = _as_of(known)
                if as_of > contents.created:
                    back.append(f"{one.place}:{one.tag}")
        if back:
            more = f" and {len(back) - _NAMED_MAX} more" if len(back) > _NAMED_MAX else ""
            raise BadBundle(
                f"the bundle is older than what is known here of {', '.join(back[:_NAMED_MAX])}"
                f"{more}; --force moves tags back"
            )

    async def move(self, contents: Contents, upstreams: Mapping[Place, Upstream]) -> int:
        """All of them; how many name something new. Raises `StorageUnavailable`."""
        moved = 0
        for one in wanted(contents):
            moved += await self._move(upstreams[one.place], one, contents.created)
        return moved

    async def _move(self, upstream: Upstream, one: Wanted, created: int) -> bool:
        key, now = keys.tag(upstream.name, one.place.repository, one.tag), self._clock()
        digest = str(one.descriptor.digest)
        for _ in range(_TRIES):
            stored = await self._records.latest(key)
            known = None if stored is None else decode_tag(stored.value, upstream.url)
            same = known is not None and known.current.digest == one.descriptor.digest
            as_of = max(created, _as_of(known)) if known is not None and same else created
            new = TagRecord(
                url=upstream.url,
                current=one.descriptor,
                previous=None if known is None else known.previous if same else known.current,
                fetched_at=known.fetched_at if known is not None and same else now,
                checked_at=now,
                extra={
                    **({} if known is None else known.extra),
                    _MARK: {"as_of": as_of, "at": now, "digest": digest},
                },
            )
            if await self._records.put(key, encode_tag(new), expect=stored):
                self._facts.forget(key)
                if not same:
                    where = (upstream.name, one.place.repository, one.tag)
                    await self._facts.history.moved(*where, known, new)
                    self._observe(
                        TagMoved(
                            upstream=upstream.name,
                            repository=one.place.repository,
                            tag=one.tag,
                            digest=digest,
                            back=_is_back(known, one),
                        )
                    )
                return not same
        raise StorageUnavailable(f"somebody else keeps writing the tag {one.place}:{one.tag}")

    async def _known(self, upstream: Upstream, one: Wanted) -> TagRecord | None:
        key = keys.tag(upstream.name, one.place.repository, one.tag)
        stored = await self._records.latest(key)
        return None if stored is None else decode_tag(stored.value, upstream.url)


def _is_back(known: TagRecord | None, one: Wanted) -> bool:
    before = None if known is None else known.previous
    return before is not None and before.digest == one.descriptor.digest


def _as_of(known: TagRecord) -> float:
    """When it was last true what the record says, as far as anybody knows."""
    match known.extra.get(_MARK):
        case {"as_of": int() | float() as as_of, "at": int() | float() as at, "digest": digest}:
            # The upstream has not been asked since the import.
            if digest == str(known.current.digest) and known.checked_at <= at:
                return as_of
        case _:
            pass
    return known.checked_at
