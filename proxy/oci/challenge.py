"""`WWW-Authenticate` lines and token replies, read the way they are really sent.

Reading never fails: what makes no sense is left out, and then there is simply
no challenge to answer. A token reply, on the other hand, either holds a usable
token or raises. Nothing here decides whom to trust with a password
(`upstream/realms.py` does).

Sources: RFC 9110 §11.6.1 (many challenges in a line, many lines), RFC 6750 §3
(Bearer, `error`), distribution `spec/auth/{token,jwt,oauth,scope}.md`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from proxy.errors import BadUpstreamAnswer

EXPIRES_S_MIN = 60
"""Clients treat a shorter life as this, and so no life said."""
EXPIRES_S_MAX = 86_400
"""No reply binds us longer, however large its number."""

# Lenient on purpose: an unquoted realm (a URL) is not a token by the RFC.
_SCHEME = re.compile(r"[^\s,=\"]+")
_PARAMETER = re.compile(r"([^\s,=\"]+)[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.)*)(?:\"|$)|([^\s,\"]*))")
_ESCAPE = re.compile(r"\\(.)")
_SENDABLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a registry wants to see. `scheme` is lower case; absent is None.

    `scope` is as it was sent: space-separated entries.
    """

    scheme: str
    realm: str | None = None
    service: str | None = None
    scope: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TokenReply:
    """A token that was granted, and for how many seconds from now."""

    token: str = field(repr=False)
    expires_in_s: float
    refresh_token: str | None = field(default=None, repr=False)


def parse_challenges(values: Iterable[str]) -> tuple[Challenge, ...]:
    """All challenges of all lines, in order; never raises."""
    return tuple(challenge for value in values for challenge in _challenges(value))


def choose(challenges: Iterable[Challenge]) -> Challenge | None:
    """The challenge to answer: Bearer (with a realm) before Basic."""
    candidates = tuple(challenges)
    for challenge in candidates:
        if challenge.scheme == "bearer" and challenge.realm:
            return challenge
    return next((c for c in candidates if c.scheme == "basic"), None)


def pull_scope(repository: str) -> str:
    """The scope that reading `repository` needs."""
    return f"repository:{repository}:pull"


def parse_token(body: bytes) -> TokenReply:
    """Read the reply of a token endpoint.

    Raises `BadUpstreamAnswer` unless it holds a token that can be sent in a
    header. The body is never quoted in the message.
    """
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadUpstreamAnswer("the token reply is not JSON") from error
    if not isinstance(reply, dict):
        raise BadUpstreamAnswer("the token reply is not a JSON object")
    token = reply.get("token") or reply.get("access_token")
    if not isinstance(token, str) or _SENDABLE.fullmatch(token) is None:
        raise BadUpstreamAnswer("the token reply holds no usable token")
    refresh_token = reply.get("refresh_token")
    return TokenReply(
        token,
        _life_s(reply.get("expires_in")),
        refresh_token if isinstance(refresh_token, str) and refresh_token else None,
    )


def _life_s(expires_in: object) -> float:
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float):
        return EXPIRES_S_MIN
    if math.isnan(expires_in):
        return EXPIRES_S_MIN
    return min(max(expires_in, EXPIRES_S_MIN), EXPIRES_S_MAX)


def _challenges(line: str) -> Iterator[Challenge]:
    scheme = ""
    parameters: dict[str, str] = {}
    position = 0
    while position < len(line):
        if parameter := _PARAMETER.match(line, position):
            name, quoted, bare = parameter.groups()
            value = bare if quoted is None else _ESCAPE.sub(r"\1", quoted)
            # The first one counts: a repeated parameter is illegal anyway.
            parameters.setdefault(name.lower(), value)
            position = parameter.end()
        elif word := _SCHEME.match(line, position):
            if scheme:
                yield _challenge(scheme, parameters)
            scheme, parameters = word[0].lower(), {}
            position = word.end()
        else:
            position += 1
    if scheme:
        yield _challenge(scheme, parameters)


def _challenge(scheme: str, parameters: dict[str, str]) -> Challenge:
    return Challenge(
        scheme,
        realm=parameters.get("realm"),
        service=parameters.get("service"),
        scope=parameters.get("scope"),
        error=parameters.get("error"),
    )
