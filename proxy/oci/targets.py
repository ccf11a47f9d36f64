"""The raw request target, taken apart without changing what it says.

Routing works on the path as it was sent: nothing but `%3A` (in a digest) is
decoded, because a name that two parties decode differently, or one of them
twice, is how a request is smuggled past an access rule. What could be read in
two ways is refused here, before anything is looked up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from proxy.errors import InvalidName, InvalidPage, UnknownRoute

PATH_LENGTH_MAX = 4096
N_DIGITS_MAX = 10
LAST_LENGTH_MAX = 512

_QUERY_KEYS = frozenset({"ns", "n", "last", "artifactType"})
_DOT_COMPONENT = re.compile(r"/\.{1,2}(?:/|\Z)")
_ABSOLUTE = re.compile(r"https?://(?:[^/@]*@)?([^/@]*)(.*)", re.IGNORECASE | re.DOTALL)


def absolute_form(target: str, host: str | None) -> tuple[str, str | None]:
    """Path and host of `http://h/p`, whose host beats the header (RFC 9112 3.2.2)."""
    match = _ABSOLUTE.fullmatch(target)
    return (match[2], match[1]) if match is not None else (target, host)


def plain(path: str) -> str:
    """The path with `%3A` decoded in its last component; else nothing is decoded,
    and everything that parties may read differently is refused: `InvalidName`.
    """
    if len(path) > PATH_LENGTH_MAX:
        raise InvalidName(f"the path has more than {PATH_LENGTH_MAX} characters")
    if "%" in path:
        head, slash, word = path.rpartition("/")
        path = head + slash + word.replace("%3A", ":").replace("%3a", ":")
    if (
        "%" in path
        or "//" in path
        or "\\" in path
        or not (path.isascii() and path.isprintable())
        or ("/." in path and _DOT_COMPONENT.search(path) is not None)
    ):
        raise InvalidName("the path has an escape, a dot segment or an unprintable character")
    return path


def after_v2(path: str) -> tuple[str | None, str]:
    """What stands before `/v2` (None: nothing) and what comes after it.

    Raises `UnknownRoute` for a path without `/v2` as first or second component.
    """
    if path == "/v2" or path.startswith("/v2/"):
        return None, path[4:]
    prefix, _, tail = path[1:].partition("/")
    if path.startswith("/") and prefix and (tail == "v2" or tail.startswith("v2/")):
        return prefix, tail[3:]
    raise UnknownRoute("this is no path of the registry API, which is below /v2/")


def query_values(text: str) -> dict[str, str]:
    """The values of the keys that mean something; of a repeated key, the first.

    `+` stays: no value here can hold a space, and media types hold pluses that
    hand-written queries do not escape.
    """
    found: dict[str, str] = {}
    for pair in text.split("&"):
        key, _, value = pair.partition("=")
        if key in _QUERY_KEYS and key not in found:
            found[key] = unquote(value) if "%" in value else value
    return found


def page(query: Mapping[str, str]) -> tuple[int | None, str | None]:
    """`n` and `last` of a listing, None where not asked; `InvalidPage` if unusable."""
    n, last = query.get("n"), query.get("last") or None
    if n is not None and not (n.isascii() and n.isdigit() and len(n) <= N_DIGITS_MAX):
        raise InvalidPage(f"n is not a number of at most {N_DIGITS_MAX} digits: {n[:40]!r}")
    if last is not None and not (
        len(last) <= LAST_LENGTH_MAX and last.isascii() and last.isprintable()
    ):
        raise InvalidPage(f"last is not at most {LAST_LENGTH_MAX} printable characters")
    return None if n is None else int(n), last
