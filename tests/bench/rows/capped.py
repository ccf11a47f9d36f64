"""One client, one cold 200 MB blob, from an upstream that sends 50 MB/s a connection.

As any client does, it gets the manifest first.
"""

from __future__ import annotations

from tests.bench.measured import Measured
from tests.bench.row import Line, Row, ratio
from tests.bench.stage import Stage
from tests.bench.systems import System

_CONNECTION_BYTES_S = 50_000_000


def straight(stage: Stage, result: Measured) -> None:
    stage.origin.reset(connection_bytes_s=_CONNECTION_BYTES_S)
    outcome = stage.pull(result, stage.origin.port, stage.library["large"], by_image=True)
    result.values["capped_s"] = outcome.wall_s


def turn(stage: Stage, system: System, result: Measured) -> None:
    image = stage.library["large"]
    with stage.running(system) as running:
        stage.origin.reset(connection_bytes_s=_CONNECTION_BYTES_S)
        outcome = stage.pull(result, running.port, image, by_image=True)
    if outcome.done_s:
        result.values["capped_s"] = outcome.wall_s
        result.values["capped_upstream"] = stage.origin.sent(*image.layers) / image.size


ROW = Row(
    name="capped",
    images={"large": (200_000_000,)},
    turn=turn,
    straight=straight,
    lines=(
        Line(
            key="capped_time",
            title="Cold 200 MB pull, upstream at 50 MB/s a connection: time ÷ straight",
            value=ratio("capped_s"),
            limits=((0.7, None),),
        ),
        Line(key="capped_upstream", title="… upstream bytes ÷ blob", form="{:.3g}"),
    ),
)
