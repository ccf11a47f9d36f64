"""The warm 200 MB blob over TLS that the system itself ends: CPU-seconds for each GB.

The client offers what those in Go offer; version and cipher are each system's choice.
"""

from __future__ import annotations

from tests.bench.blocking import Asker
from tests.bench.measured import Measured
from tests.bench.row import Line, Row, per_gb, settled_cpu_s
from tests.bench.secure_client import secure_client
from tests.bench.stage import Stage
from tests.bench.systems import System

_PULLS = 6


def turn(stage: Stage, system: System, result: Measured) -> None:
    layer = stage.library["large"].layers[0]
    path = f"/v2/{layer.url}"
    stage.origin.reset()
    with stage.running(system, tls=True) as running:
        if system.by_image:
            with Asker(running.port, stage.ca.ca) as asker:
                asker.get(f"/v2/{stage.library['large'].tag_url}")
        with secure_client(running.port, stage.ca.ca, path, stage.folder) as get:
            get(1)
            before_s = settled_cpu_s(running)
            sizes = get(_PULLS)
            used_s = running.tree.cpu_s() - before_s
    if sizes != [layer.size] * _PULLS:
        result.failed.append(f"over TLS {sizes} bytes, not {_PULLS} times {layer.size}")
        return
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
