"""Who we are at an upstream: what to present, and where it comes from.

Sources are asked whenever a token is needed, never once for all: passwords are
rotated under a running process. `docker_config.py` and `credential_helpers.py`
hold the sources that read what people already have.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Credentials:
    """What to present. With an `identity_token` (an OAuth2 refresh token) the
    password is empty.
    """

    username: str
    password: str = field(repr=False)
    identity_token: str | None = field(default=None, repr=False)


class CredentialSource(Protocol):
    """Where the credentials of one upstream come from."""

    async def get(self, *, refresh: bool = False) -> Credentials | None:
        """The credentials now; None means "go without".

        `refresh`: those of before were refused, so don't answer from a cache.
        Raises `UpstreamUnavailable` when the source itself fails.
        """


@dataclass(frozen=True, slots=True)
class StaticCredentials:
    """Credentials that stand in the settings."""

    credentials: Credentials

    async def get(self, *, refresh: bool = False) -> Credentials | None:  # noqa: ARG002 - the Protocol's signature; there is nothing newer to get
        return self.credentials


def masked(source: CredentialSource | None) -> str:
    """A name to tell logins apart by, that gives none away."""
    match source:
        case None:
            return "anonymous"
        case StaticCredentials(Credentials(username=name)):
            return f"{name[:2]}…{name[-1:]}" if len(name) > 3 else f"{name[:1]}…"
        case _:
            return "Docker's config.json"


def account_id(source: CredentialSource | None) -> str:
    """The same on every replica, for the same login."""
    name = masked(source)
    if isinstance(source, StaticCredentials):
        name = f"user {source.credentials.username}"
    return hashlib.sha256(name.encode()).hexdigest()[:16]
