"""Rules for tags by pattern. Declarative only; `cache/tag_rules.py` applies them."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from proxy.config.units import SecondsOrNone
from proxy.config.values import Text, listed

_PATTERN = re.compile(r"[a-z0-9._/*?\[\]!-]+:[A-Za-z0-9._*?\[\]!-]+", re.ASCII)


def _pattern(value: str) -> str:
    if _PATTERN.fullmatch(value) is None:
        raise ValueError(
            "must be REPOSITORY:TAG with * and ?, such as library/*:*-slim (lower case in front "
            "of the colon)"
        )
    return value


class TagRule(BaseModel):
    """What holds for the tags that `match`; of several rules the first one."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    match: Annotated[Text, AfterValidator(_pattern)] = Field(
        description="`REPOSITORY:TAG` with `*` (slashes, too) and `?`; in a rule for all "
        "upstreams the repository may have its upstream's name in front (`ghcr.io/*:main`)."
    )
    fresh_s: SecondsOrNone = Field(default=None, ge=0, description="`tag_fresh_s` for these tags.")
    immutable: bool = Field(
        default=False,
        description="They never move: once seen, their upstream is never asked about them again.",
    )
    cache: bool = Field(
        default=True,
        description="`false`: their upstream is asked at each pull, nothing is written down and "
        "nothing is served without it. The content they name is kept as any other.",
    )

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if self.immutable and not self.cache:
            raise ValueError("`immutable` needs what `cache: false` forbids: a record")
        if self.immutable and self.fresh_s is not None:
            raise ValueError("`immutable` means fresh for ever; leave out `fresh_s`")
        if not self.cache and self.fresh_s is not None:
            raise ValueError("`cache: false` means never fresh; leave out `fresh_s`")
        if self.cache and not self.immutable and self.fresh_s is None:
            raise ValueError("says nothing: give `fresh_s`, `immutable: true` or `cache: false`")
        return self


TagRules = Annotated[
    tuple[TagRule, ...], listed("a list of rules, such as [{match: '*:v*', immutable: true}]")
]
