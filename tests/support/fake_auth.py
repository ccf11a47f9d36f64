"""How a `FakeRegistry` lets people in: tokens or Basic, with the habits of the
real ones. Sources of each habit stand at its field.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

SERVICE = "fake.registry"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token is worth. `user` is None for an anonymous one."""

    user: str | None
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer other than "come in"."""

    status: int
    code: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class FakeAuth:
    """Who may read what. Mutable: a test may change its mind half way."""

    scheme: Literal["bearer", "basic"] = "bearer"
    """`basic`: ECR private; every request carries `Basic`, there are no tokens."""
    users: dict[str, str] = field(default_factory=dict)
    """Name to password."""
    identity_tokens: set[str] = field(default_factory=set)
    """Refresh tokens (Docker `config.json` "identitytoken"; ACR); user `identity`."""
    private: set[str] = field(default_factory=set)
    """Repositories that only `users` may read; all others are public."""
    public_without_token: bool = False
    """Quay: public repositories need no token at all."""
    private_refused_at_token: bool = False
    """GHCR: the token endpoint itself says 401 for a private repository; the
    others grant a token that is worth nothing (Docker Hub)."""
    silent: bool = False
    """Old gcr.io: the 401 of a resource has no challenge, that of `/v2/` has."""
    get_status: int | None = None
    """What GET of the token endpoint says; 200s if None. ACR 400, some 404/405."""
    post_status: int | None = 405
    """What POST of the token endpoint says; Docker's old token servers 405."""
    field_name: Literal["token", "access_token"] = "token"
    """ACR sends `access_token` only."""
    expires_in_s: int | None = 300
    tags_scope: str = "pull"
    """ACR wants `metadata_read` for tag lists."""
    realm: str = ""
    """Where tokens are to be had; the registry fills in its own `/token`."""
    grants: dict[str, Grant] = field(default_factory=dict)
    """Tokens that are good now."""

    def revoke(self) -> None:
        """All tokens become invalid, as when a registry restarts."""
        self.grants.clear()

    def check(self, repository: str, kind: str, authorization: str | None) -> Refusal | None:
        """May this request go on? None: yes. `kind` "ping" has no repository."""
        if self.scheme == "basic":
            if self.user_of(authorization) is not None:
                return None
            return Refusal(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="fake"'})
        action = self.tags_scope if kind == "tags" else "pull"
        scope = f"repository:{repository}:{action}" if repository else ""
        if authorization is None:
            if kind != "ping" and self.public_without_token and repository not in self.private:
                return None
            return self._challenge(kind, scope)
        grant = self.grants.get(authorization.removeprefix("Bearer "))
        if grant is None:
            return self._challenge(kind, scope, error="invalid_token")
        if scope and scope not in grant.scopes:
            return self._challenge(kind, scope, error="insufficient_scope")
        return None

    def token(
        self, method: str, query: Mapping[str, list[str]], authorization: str | None
    ) -> Refusal | bytes:
        """The token endpoint. `query` holds the form of a POST."""
        unsupported = self.get_status if method == "GET" else self.post_status
        if unsupported is not None:
            return Refusal(unsupported, "UNSUPPORTED")
        user = None
        if method == "GET" and authorization is not None:
            user = self.user_of(authorization)
            if user is None:
                return Refusal(401, "UNAUTHORIZED")
        if method == "POST":
            user = self._posted_user(query)
            if user is None:
                return Refusal(401, "UNAUTHORIZED")
        asked = [scope for entry in query.get("scope", []) for scope in entry.split()]
        granted = frozenset(s for s in asked if user or s.split(":")[1] not in self.private)
        if self.private_refused_at_token and granted != frozenset(asked):
            return Refusal(401, "UNAUTHORIZED")
        token = f"token-{len(self.grants)}-{secrets.token_hex(8)}"
        self.grants[token] = Grant(user, granted)
        reply: dict[str, object] = {self.field_name: token}
        if self.expires_in_s is not None:
            reply["expires_in"] = self.expires_in_s
        return json.dumps(reply).encode()

    def whose(self, authorization: str | None) -> str | None:
        """The user that an admitted request came from; None: a stranger."""
        if self.scheme == "basic":
            return self.user_of(authorization)
        grant = self.grants.get((authorization or "").removeprefix("Bearer "))
        return None if grant is None else grant.user

    def user_of(self, authorization: str | None) -> str | None:
        """The user that a `Basic` header proves, or None."""
        scheme, _, encoded = (authorization or "").partition(" ")
        if scheme.lower() != "basic":
            return None
        name, _, password = base64.b64decode(encoded).decode().partition(":")
        return name if password and self.users.get(name) == password else None

    def _posted_user(self, form: Mapping[str, list[str]]) -> str | None:
        match form.get("grant_type"), form.get("client_id"):
            case ["password"], [_]:
                name, password = form["username"][0], form["password"][0]
                return name if self.users.get(name) == password else None
            case ["refresh_token"], [_]:
                return "identity" if form["refresh_token"][0] in self.identity_tokens else None
            case _:
                return None

    def _challenge(self, kind: str, scope: str, error: str = "") -> Refusal:
        if self.silent and kind != "ping":
            return Refusal(401, "UNAUTHORIZED")
        parts = [f'realm="{self.realm}"', f'service="{SERVICE}"']
        if scope:
            parts.append(f'scope="{scope}"')
        if error:
            parts.append(f'error="{error}"')
        return Refusal(401, "UNAUTHORIZED", {"WWW-Authenticate": "Bearer " + ",".join(parts)})
