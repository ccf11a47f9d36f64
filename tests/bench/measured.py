"""What one turn of one system gave: the currency between rows and report."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Measured:
    """One system in one turn: numbers by name, and what went wrong.

    `edges`: for a number that is only a bound, since the turn was given up,
    on which side the truth is: `≤` (the true number is at most this) or `≥`.
    `wrong`: bytes that were not what they must be; `failed`: what was refused,
    cut or late.
    """

    system: str
    values: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    edges: dict[str, str] = field(default_factory=dict)
