"""Further addresses for pulls. Declarative only."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from proxy.config.moments import MomentOrNone
from proxy.config.values import Listen, listed


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


PullListeners = Annotated[
    tuple[PullListener, ...],
    listed("a list, such as [{listen: '0.0.0.0:5010', as_of: 2026-10-01}]"),
]
