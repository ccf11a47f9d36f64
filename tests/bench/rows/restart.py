"""A proxy that comes back with an empty cache, under twice the load its upstream can bear.

120 blobs of 5 MB over a link of 50 MB/s: T* = 12 s, in which all of them could
have been fetched once. Clients come whatever happens, 20 a second (100 MB/s,
twice the link), each for one blob, all blobs alike: if some were wanted more
than others, those few would be there after a second and the row would show
nothing. One who has not got it after 5 s leaves and asks again: that is what
keeps an overloaded cache down.

The link alone carries half of what is asked for; the rest must be served from
what came over it once. Where each blob is fetched once, for all who wait for it
and for those who ask again, nine tenths are reached well before T*. Where those
who come together, or again, cost a fetch each, it takes longer, or for ever.

Goodput is what completed downloads bring, over three seconds. It has recovered
from the first second on after which it is 90 % of what is asked for and stays
so (twice it may fall short, oftener is a collapse).
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

from tests.bench.arrivals import Load
from tests.bench.client import Target
from tests.bench.measured import Measured
from tests.bench.row import Line, Row
from tests.bench.stage import Stage
from tests.bench.systems import ROOT, System

_BLOBS, _SIZE = 120, 5_000_000
_LINK_BYTES_S = 50_000_000
_PER_S = 20
_FOR_S = 30
_PATIENCE_S = 5.0
_GOOD, _OVER_S, _SHORT_MAX = 0.9, 3, 2
_FLOOR_S = _BLOBS * _SIZE // _LINK_BYTES_S


def turn(stage: Stage, system: System, result: Measured) -> None:
    image = stage.library["restart"]
    before = f"/v2/{image.tag_url}" if system.by_image else ""
    with stage.running(system) as running:
        stage.origin.reset(link_bytes_s=_LINK_BYTES_S)
        load = Load(
            port=running.port,
            targets=[
                Target(
                    path=f"/v2/{one.url}",
                    file=one.path,
                    digest=one.digest,
                    size=one.size,
                    before=before,
                )
                for one in image.layers
            ],
            per_s=_PER_S,
            for_s=_FOR_S,
            patience_s=_PATIENCE_S,
            seed=7,
        )
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.arrivals", json.dumps(asdict(load))],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
            timeout=_FOR_S + 60,
        )
    said = json.loads(done.stdout)
    result.values["restart_upstream"] = stage.origin.sent(*image.layers) / image.size
    result.values["restart_left"] = said["left"]
    for second in range(_FLOOR_S):
        key = f"restart_second_{second + 1}"
        result.values[key] = said["served"][second] / said["asked"][second]
    recovered_s = recovery_s(said["asked"], said["served"])
    if recovered_s is None:
        result.values["restart_floors"] = _FOR_S / _FLOOR_S
        result.edges["restart_floors"] = "≥"
    else:
        result.values["restart_floors"] = recovered_s / _FLOOR_S


def recovery_s(asked: list[int], served: list[int]) -> int | None:
    """The first second from which on goodput holds; None if it never does.

    `asked`, `served`: downloads by the second in which they were begun, and ended.
    """
    seconds = range(len(asked) - _OVER_S + 1)
    good = [
        sum(served[second : second + _OVER_S]) >= _GOOD * sum(asked[second : second + _OVER_S])
        for second in seconds
    ]
    found = (second for second in seconds if good[second])
    return next((one for one in found if good[one:].count(False) <= _SHORT_MAX), None)


ROW = Row(
    name="restart",
    images={"restart": (_SIZE,) * _BLOBS},
    turn=turn,
    peers_once=True,
    lines=(
        Line(
            key="restart_floors",
            title="Empty cache at twice the load: until 90 % of goodput, in T*",
            limits=((2.0, None),),
        ),
        Line(key="restart_upstream", title="… upstream bytes ÷ unique bytes", form="{:.3g}"),
        Line(key="restart_left", title="… clients that left unserved", form="{:.0f}"),
        *(
            Line(
                key=f"restart_second_{second}",
                title=f"… goodput ÷ asked for, second {second}",
                less=False,
            )
            for second in range(1, _FLOOR_S + 1)
        ),
    ),
)
