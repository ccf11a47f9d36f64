"""The settings of an upstream's quota: what is kept back, and further credentials.

Declarative, with the checks that need more than one of a list's entries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from proxy.config import secrets
from proxy.config.problems import Loc, Origins, Problem
from proxy.config.values import Secret, Text, listed

CREDENTIAL_SECRETS = ("username", "password")

_RESERVE = re.compile(r"([0-9]{1,9})|([0-9]{1,3}(?:\.[0-9]{1,3})?)\s*%", re.ASCII)
_WISH = "must be a number of pulls such as 10, or a share of the limit such as 10%"


@dataclass(frozen=True, slots=True)
class Reserve:
    """A number of pulls, or a `share` (0 to 1) of whatever the limit is."""

    count: int = 0
    share: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of `10` or `10%`. Raises `ValueError`."""
        found = _RESERVE.fullmatch(text.strip())
        if found is None or float(found[2] or 0) > 100:
            raise ValueError(_WISH)
        return cls(count=int(found[1])) if found[1] else cls(share=float(found[2]) / 100)

    def pulls(self, limit: int | None) -> int:
        """How many, of a limit; of an unknown limit no share can be kept."""
        return max(self.count, round(self.share * (limit or 0)))


def _reserve(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(_WISH)  # noqa: TRY004 - pydantic takes ValueError
    text = str(value).strip()
    Reserve.parse(text)
    return text


class CredentialSettings(BaseModel):
    """One more login at an upstream."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    username: Text | None = Field(default=None, description="The user to log in as.")
    username_file: Path | None = Field(default=None, description="A file with the user name.")
    password: Secret | None = Field(default=None, description="The password or access token.")
    password_file: Path | None = Field(default=None, description="A file with the password.")
    password_env: Text | None = Field(
        default=None, description="An environment variable with the password."
    )


QuotaReserve = Annotated[str, BeforeValidator(_reserve)]
"""`10` or `10%`; see `Reserve.parse`."""
CredentialList = Annotated[
    tuple[CredentialSettings, ...],
    listed("a list, such as [{username: robot, password_file: /run/secrets/robot}]"),
]


def with_secrets(
    loc: Loc, fields: dict[str, Any], *, environ: Mapping[str, str], origins: Origins
) -> Iterator[Problem]:
    """Replace `credentials` in an upstream's `fields` by a copy with its secrets filled in."""
    given = fields.get("credentials")
    if not isinstance(given, list):
        return
    fields["credentials"] = filled = [dict(one) if isinstance(one, dict) else one for one in given]
    for index, entry in enumerate(filled):
        if isinstance(entry, dict):
            yield from secrets.fill(
                (*loc, "credentials", index),
                entry,
                CredentialSettings,
                CREDENTIAL_SECRETS,
                environ=environ,
                origins=origins,
            )


def contradictions(
    loc: Loc,
    first: str | None,
    credentials: tuple[CredentialSettings, ...],
    reserves: tuple[str, str],
    origins: Origins,
) -> Iterator[Problem]:
    """Problems between the entries. `first`: the upstream's own `username`;
    `reserves`: `quota_reserve` and `quota_warm_reserve`.
    """
    named = {first} - {None}
    for index, one in enumerate(credentials):
        place: Loc = (*loc, "credentials", index)
        # By what was asked for, not by what could be read: that is told elsewhere.
        if not (one.username or one.username_file):
            yield origins.problem(place, "needs `username` or `username_file`")
        if not (one.password or one.password_file or one.password_env):
            yield origins.problem(place, "needs `password`, `password_file` or `password_env`")
        if one.username in named:
            yield origins.problem(
                place, "the same user is given twice; its quota is not more for that"
            )
        named |= {one.username} - {None}
    few, many = (Reserve.parse(text) for text in reserves)
    if bool(few.share) == bool(many.share) and (many.count, many.share) < (few.count, few.share):
        yield origins.problem(
            (*loc, "quota_warm_reserve"),
            "must not be less than `quota_reserve`: who waits goes first",
        )
