"""What is kept on purpose, and for how long the rest. Declarative only; `keeping` acts."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from proxy.config.units import SecondsOrNone
from proxy.config.values import Text, listed

_IMAGE = re.compile(r"[A-Za-z0-9._/:@*?\[\]!-]+", re.ASCII)


def image_or_pattern(value: str) -> str:
    """The text as it is. Raises `ValueError`."""
    if _IMAGE.fullmatch(value) is None:
        raise ValueError(
            "must be an image such as docker.io/library/alpine:3.20, or a pattern of full names "
            "with * (slashes, too) and ?, such as docker.io/library/*:*-slim"
        )
    return value


_Images = Annotated[Text, AfterValidator(image_or_pattern)]


class RetentionRule(BaseModel):
    """How long the tags that `match` stay; of several rules the first one."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    match: _Images = Field(
        description="A pattern of full names with `*` (slashes, too) and `?`, such as "
        "`ghcr.io/ours/*:pr-*`; `*` is all."
    )
    unused_s: SecondsOrNone = Field(
        default=None,
        gt=0,
        description="Drop what nobody has pulled for so long; a warm-up is no pull, and for a "
        "tag never pulled time counts from when it came. Unset: whatever its last pull.",
    )
    newest: Annotated[int | None, Field(ge=0)] = Field(
        default=None, description="So many of each repository stay in any case, the newest."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.unused_s is None and self.newest is None:
            raise ValueError("says nothing: give `unused_s`, `newest` or both")
        return self


class KeepSettings(BaseModel):
    """The section `keep`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    pins: Annotated[tuple[_Images, ...], listed()] = Field(
        default=(),
        description="Images and patterns of full names that are never evicted, such as "
        "`docker.io/library/*:*-slim`; once they are here.",
    )
    retention: Annotated[tuple[RetentionRule, ...], listed("a list of rules")] = Field(
        default=(),
        description="Rules by pattern for how long tags stay that are not pinned; see the table "
        "below. Without: until room is needed.",
    )
