"""Cold fill: CPU-seconds for each GB that one client pulls for the first time.

All of it counts: receiving, hashing, writing, sending, and what is done after
the client has its last byte, until the system is idle. The upstream sends as
fast as it can.
"""

from __future__ import annotations

from tests.bench.measured import Measured
from tests.bench.row import Line, Row, per_gb, settled_cpu_s
from tests.bench.stage import Stage
from tests.bench.systems import System

_REGISTRIES = ("docker-registry", "distribution 3")


def turn(stage: Stage, system: System, result: Measured) -> None:
    image = stage.library["fill"]
    stage.origin.reset()
    with stage.running(system) as running:
        # Connections, token, first code paths: not what is measured.
        stage.pull(result, running.port, stage.library["small"], by_image=system.by_image)
        before_s = settled_cpu_s(running)
        outcome = stage.pull(result, running.port, image, by_image=system.by_image)
        used_s = settled_cpu_s(running) - before_s
    if outcome.done_s:
        result.values["fill_cpu_s_per_gb"] = per_gb(used_s, image.size)
        result.values["fill_gb_s"] = image.size / 1e9 / outcome.wall_s


ROW = Row(
    name="fill",
    images={"small": (10_240,), "fill": (500_000_000,)},
    turn=turn,
    lines=(
        Line(
            key="fill_cpu_s_per_gb",
            title="Cold fill of 500 MB, one client, CPU-s/GB",
            limits=((1.6, None), *((1.0, name) for name in _REGISTRIES)),
        ),
        Line(key="fill_gb_s", title="Cold fill, GB/s through one core", less=False),
    ),
)
