"""Further addresses for pulls. Declarative only."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from proxy.config.moments import MomentOrNone
from proxy.config.values import Listen


def _list(value: Any) -> Any:
    if value is None:
        return ()
    if isinstance(value, str | dict):
        raise ValueError(  # noqa: TRY004 - pydantic takes ValueError
            "must be a list, such as [{listen: '0.0.0.0:5010', as_of: 2026-10-01}]"
        )
    return tuple(value) if isinstance(value, list) else value


class PullListener(BaseModel):
    """One more address for pulls, with TLS as `listen` has it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    listen: Listen = Field(description="Address for pulls.")
    as_of: MomentOrNone = Field(
        default=None,
        description="Serve tags as they stood at this date (its beginning, UTC) or time, by their "
        "history here; goes before `as_of` of an upstream. Unset: as `listen`.",
    )


PullListeners = Annotated[tuple[PullListener, ...], BeforeValidator(_list)]
