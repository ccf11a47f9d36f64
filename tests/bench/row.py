"""What a row of the table is. The rows are in `rows/`, one module each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.bench.measured import Measured
from tests.bench.stage import Stage
from tests.bench.systems import Running, System

Value = Callable[[Measured, Measured | None], float | None]
"""A number of one turn; the second is the same turn straight from the upstream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table.

    `value`: how to get it if not as `values[key]`. `over` takes the rounds'
    values to one. `limits`: (factor, system) pairs for Entrepot; system None
    makes the factor the limit itself. `less`: less is better.
    """

    key: str
    title: str
    form: str = "{:.2f}"
    less: bool = True
    limits: tuple[tuple[float, str | None], ...] = ()
    value: Value | None = None
    over: Callable[[Sequence[float]], float] = median

    def of(self, measured: Measured, straight: Measured | None) -> float | None:
        if self.value is None:
            return measured.values.get(self.key)
        return self.value(measured, straight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`turn` starts a system on the stage, measures, and ends it.

    `images`: what it pulls, the layers' bytes by name. `straight`: the same
    without anything between, always before the systems. `peers_once`: it
    costs so much that peers have it in the first round only.
    """

    name: str
    lines: tuple[Line, ...]
    images: Mapping[str, tuple[int, ...]]
    turn: Callable[[Stage, System, Measured], None]
    straight: Callable[[Stage, Measured], None] | None = None
    peers_once: bool = False
    fits: Callable[[System], bool] = field(default=lambda _: True)


def ratio(key: str, to: str | None = None) -> Value:
    """`key` over straight's `to` (or the same key), each in its own round."""

    def value(measured: Measured, straight: Measured | None) -> float | None:
        own = measured.values.get(key)
        base = straight.values.get(to or key) if straight else None
        return None if own is None or not base else own / base

    return value


def per_gb(used_s: float, size: int) -> float:
    """CPU-seconds for each 10^9 bytes."""
    return used_s / (size / 1e9)


def settled_cpu_s(running: Running) -> float:
    """What it used so far, once it is idle."""
    running.tree.settle()
    return running.tree.cpu_s()
