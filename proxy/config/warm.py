"""The settings of warm-ups: what is brought before anybody asks for it, and when."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from proxy.config.cron import Cron
from proxy.config.link import Zone
from proxy.config.values import Text, listed

ALL_PLATFORMS = "all"
_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9_]+(/[a-z0-9_.]+)?", re.ASCII)


def platform_name(value: str) -> str:
    """`os/architecture[/variant]`, or `all`. Raises `ValueError`."""
    value = value.strip().lower()
    if value != ALL_PLATFORMS and _PLATFORM.fullmatch(value) is None:
        raise ValueError("must be a platform such as linux/amd64 or linux/arm/v7, or all")
    return value


Platform = Annotated[Text, AfterValidator(platform_name)]
PlatformNames = Annotated[tuple[Platform, ...], listed()]

_STRICT = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)


class WarmRun(BaseModel):
    """Some images, brought at certain times."""

    model_config = _STRICT

    cron: Cron = Field(
        description="When: minute, hour, day of month, month, day of week, as in crontab."
    )
    images: Annotated[tuple[Text, ...], listed()] = Field(
        default=(), description="Names of images, as one would pull them."
    )
    file: Path | None = Field(
        default=None, description="A file with names, one a line; read anew each time."
    )
    manifests: Annotated[tuple[Path, ...], listed()] = Field(
        default=(), description="Kubernetes manifests, files or folders, whose images are meant."
    )
    helm_charts: Annotated[tuple[Path, ...], listed()] = Field(
        default=(), description="Helm charts, folders or `.tgz`, whose images are meant."
    )
    helm_values: Annotated[tuple[Path, ...], listed()] = Field(
        default=(), description="Files of values for these charts; the last one wins."
    )
    platforms: PlatformNames = Field(default=(), description="Unset: those of `warm`.")
    referrers: bool = Field(
        default=True, description="Signatures, attestations and SBOMs, too, where there are any."
    )

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if not (self.images or self.file or self.manifests or self.helm_charts):
            raise ValueError("names no images: give `images`, `file`, `manifests` or `helm_charts`")
        return self


class WarmLearned(BaseModel):
    """The tags that people really pull, kept up to date."""

    model_config = _STRICT

    cron: Cron = Field(default="0 4 * * *", description="When, as in crontab.")
    tags_max: int = Field(
        default=200, ge=1, le=10_000, description="So many of the tags that are pulled most."
    )


class WarmSettings(BaseModel):
    """What is brought before anybody asks for it."""

    model_config = _STRICT

    platforms: PlatformNames = Field(
        default=(),
        description="Of images for several platforms these, such as `[linux/amd64, linux/arm64]`, "
        "or `[all]`. Unset: the server's own.",
    )
    fetches_max: int = Field(
        default=4, ge=1, le=256, description="Most blobs that all warm-ups fetch at once."
    )
    time_zone: Zone = Field(
        default=None,
        description="The time zone of every `cron`, such as `Europe/Berlin`; unset: the system's.",
    )
    schedule: Annotated[tuple[WarmRun, ...], listed()] = Field(
        default=(), description="What is brought when; see the table below."
    )
    learned: WarmLearned | None = Field(
        default=None,
        description="Refresh the tags that people really pull: `learned: {}`; see the table below.",
    )
