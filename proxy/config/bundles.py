"""The settings of bundles: whose are believed. Declarative only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _files(value: Any) -> Any:
    """Lists as YAML makes them; a lone file is a slip worth telling."""
    if value is None:
        return ()
    if isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - pydantic takes ValueError
            "must be a list of files, such as [/etc/entrepot/low-side.pub]"
        )
    return tuple(value) if isinstance(value, list) else value


class BundleSettings(BaseModel):
    """Which bundles `entrepot import` may bring in."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    keys: Annotated[tuple[Path, ...], BeforeValidator(_files)] = Field(
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
