"""A warm 200 MB blob: CPU-seconds for each GB it sends, four clients at a time."""

from __future__ import annotations

from tests.bench.measured import Measured
from tests.bench.row import Line, Row, per_gb, settled_cpu_s
from tests.bench.stage import Stage
from tests.bench.systems import System

_PULLS, _AT_ONCE = 20, 4


def turn(stage: Stage, system: System, result: Measured) -> None:
    image = stage.library["large"]
    stage.origin.reset()
    with stage.running(system) as running:
        # Once unmeasured: then it is cached, and its pages are warm.
        stage.pull(result, running.port, image, by_image=system.by_image)
        before_s = settled_cpu_s(running)
        outcome = stage.pull(result, running.port, image, clients=_AT_ONCE, pulls=_PULLS)
        used_s = running.tree.cpu_s() - before_s
    if len(outcome.done_s) == _PULLS:
        result.values["warm_cpu_s_per_gb"] = per_gb(used_s, _PULLS * image.size)
        result.values["warm_gb_s"] = _PULLS * image.size / 1e9 / outcome.wall_s


ROW = Row(
    name="warm",
    images={"large": (200_000_000,)},
    turn=turn,
    lines=(
        Line(
            key="warm_cpu_s_per_gb",
            title="Warm 200 MB blob, CPU-s/GB",
            form="{:.3f}",
            limits=(
                (1.15, "nginx"),
                (0.12, "drayage"),
                (0.35, "docker-registry"),
                (0.35, "distribution 3"),
            ),
        ),
        Line(key="warm_gb_s", title="Warm 200 MB blob, GB/s from one core", less=False),
    ),
)
