"""The warm 200 MB blob over TLS that the system itself ends: CPU-seconds for each GB.

Each with its own choice of version and cipher, as a real client would meet it.
"""

from __future__ import annotations

from tests.bench.blocking import Asker
from tests.bench.measured import Measured
from tests.bench.row import Line, Row, per_gb, settled_cpu_s
from tests.bench.stage import Stage
from tests.bench.systems import System

_PULLS = 6


def turn(stage: Stage, system: System, result: Measured) -> None:
    layer = stage.library["large"].layers[0]
    stage.origin.reset()
    with (
        stage.running(system, tls=True) as running,
        Asker(running.port, stage.ca.ca) as asker,
    ):
        path = f"/v2/{layer.url}"
        if system.by_image:
            asker.get(f"/v2/{stage.library['large'].tag_url}")
        asker.get(path)
        before_s = settled_cpu_s(running)
        for _ in range(_PULLS):
            got = asker.get(path)
            if got.size != layer.size:
                result.failed.append(f"over TLS {got.size} of {layer.size} bytes, {got.status}")
                return
        used_s = running.tree.cpu_s() - before_s
    result.values["tls_cpu_s_per_gb"] = per_gb(used_s, _PULLS * layer.size)


ROW = Row(
    name="tls",
    images={"large": (200_000_000,)},
    turn=turn,
    fits=lambda system: system.tls,
    lines=(
        Line(
            key="tls_cpu_s_per_gb",
            title="The same over TLS, CPU-s/GB",
            form="{:.3f}",
            limits=((0.8, "docker-registry"), (0.8, "distribution 3")),
        ),
    ),
)
