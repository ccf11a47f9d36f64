"""The settings of bundles: whose are believed. Declarative only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from proxy.config.values import listed


class BundleSettings(BaseModel):
    """Which bundles `entrepot import` may bring in."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    keys: Annotated[
        tuple[Path, ...], listed("a list of files, such as [/etc/entrepot/low-side.pub]")
    ] = Field(
        default=(),
        description="Files with public keys (`entrepot keys` makes them). With any here only "
        "bundles signed with one of them are let in, whatever the command says; without, the "
        "command's `--key` decides.",
    )
    unsigned: bool = Field(
        default=True,
        description="`false`: never let in what is not signed, although `import --unsigned` asks "
        "for it. Means nothing with `keys`, which rule it out.",
    )
