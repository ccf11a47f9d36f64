"""What somebody wants to have: images, for which platforms, with signatures or not.

Warm-ups, what is missing, and exports take the same object, so that the same words mean
the same images to all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.cache.platforms import Platforms
from proxy.config.warm import ALL_PLATFORMS, platform_name
from proxy.errors import InvalidRequest
from proxy.images import IMAGES_MAX
from proxy.naming import own_platform

_KEYS = frozenset({"images", "platforms", "referrers"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """`images`: each once, as named. `as_pulled`: of a tag that is here the platforms that
    are here, else `platforms`.
    """

    images: tuple[str, ...]
    platforms: Platforms
    referrers: bool = True
    as_pulled: bool = False


def platforms_of(names: Sequence[str], usual: Sequence[str]) -> Platforms:
    """Those of these names; of none the `usual` ones, else this machine's."""
    chosen = tuple(names) or tuple(usual) or (own_platform(),)
    return Platforms.all() if ALL_PLATFORMS in chosen else Platforms.of(chosen)


def wish_of(document: object, usual: Sequence[str]) -> Wish:
    """From `{"images": [...], "platforms": [...], "referrers": true}`; only the first must
    be there. `usual`: the platforms meant where none are named. Raises `InvalidRequest`.
    """
    if not isinstance(document, dict) or not document.keys() <= _KEYS:
        raise InvalidRequest(f"must be an object with {', '.join(sorted(_KEYS))}")
    images = _texts(document.get("images"), "images")
    if not 0 < len(images) <= IMAGES_MAX:
        raise InvalidRequest(f"`images` must be 1 to {IMAGES_MAX} names")
    names = _texts(document.get("platforms", []), "platforms")
    try:
        platforms = platforms_of([platform_name(name) for name in names], usual)
    except ValueError as error:
        raise InvalidRequest(f"`platforms` {error}") from error
    referrers = document.get("referrers", True)
    if not isinstance(referrers, bool):
        raise InvalidRequest("`referrers` must be true or false")
    return Wish(images=tuple(dict.fromkeys(images)), platforms=platforms, referrers=referrers)


def _texts(value: object, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InvalidRequest(f"`{name}` must be a list of names")
    return value
