"""Many clients at once on one cold image, over an upstream link of 1 Gbit/s.

No proxy can be faster than the longer of two things, both measured in the same
round: T* = max(one client fetches the image over that link; the same crowd is
sent all its copies from a warm file, by one core, with sendfile). The copying
is done by nginx, or by the upstream where there is no nginx. A system that
needs more than three times T* is given up: its T*/T is then at most what is
shown, its upstream bytes at least.

Followers' first byte: of all but the first who got one, the 99th percentile of
the time since each asked, less the first one's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from tests.bench.client import Outcome
from tests.bench.measured import Measured
from tests.bench.peers import nginx_command
from tests.bench.processes import Tree, answers, free_port
from tests.bench.row import Line, Row
from tests.bench.stage import SERVER_CORES, Origin, Stage
from tests.bench.systems import ROOT, NotHere, System

LINK_BYTES_S = 125_000_000
_PATIENCE = 3.0
_LIMIT_LEAST_S = 10.0
_FOLLOWERS_MS = 50


@dataclass(frozen=True, slots=True)
class Shape:
    """`clients` pull `layers` blobs of `size` bytes, all at once."""

    clients: int
    layers: int
    size: int
    said: str

    @property
    def image(self) -> str:
        return f"crowd-of-{self.clients}-on-{self.layers}"

    @property
    def key(self) -> str:
        return f"crowd_{self.clients}_on_{self.layers}x{self.size // 1_000_000}"


SHAPES = (
    Shape(16, 1, 1_000_000_000, "16 clients, one blob of 1 GB"),
    Shape(16, 4, 250_000_000, "16 clients, four of 250 MB"),
    Shape(32, 1, 200_000_000, "32 clients, one of 200 MB"),
    Shape(64, 1, 200_000_000, "64 clients, one of 200 MB"),
    Shape(256, 1, 200_000_000, "256 clients, one of 200 MB"),
    Shape(1024, 1, 16_000_000, "1,024 clients, one of 16 MB"),
)


def straight(stage: Stage, result: Measured, shapes: Sequence[Shape] = SHAPES) -> None:
    with _files(stage, shapes) as port:
        for shape in shapes:
            image = stage.library[shape.image]
            stage.origin.reset(link_bytes_s=LINK_BYTES_S)
            fetch = stage.pull(result, stage.origin.port, image)
            stage.pull(result, port, image)  # the pages are warm
            copy = stage.pull(result, port, image, clients=shape.clients)
            stage.memory[shape.key] = max(fetch.wall_s, copy.wall_s)
            result.values[f"{shape.key}_fetch_s"] = fetch.wall_s
            result.values[f"{shape.key}_copy_s"] = copy.wall_s


@contextmanager
def _files(stage: Stage, shapes: Sequence[Shape]) -> Iterator[int]:
    """The port of a plain server of their layers, on the servers' core."""
    folder = stage.folder / "files"
    folder.mkdir(exist_ok=True)
    try:
        command, port = _static_nginx(stage, folder, shapes)
    except NotHere:
        origin = Origin(stage.content, folder / "log", SERVER_CORES)
        with origin.tree:
            yield origin.port
        return
    with Tree(command, log=folder / "log", cwd=ROOT, cpus=SERVER_CORES) as tree:
        tree.wait_ready(lambda: answers(f"http://127.0.0.1:{port}/v2/"))
        yield port


def _static_nginx(stage: Stage, folder: Path, shapes: Sequence[Shape]) -> tuple[list[str], int]:
    port = free_port()
    layers = {layer for shape in shapes for layer in stage.library[shape.image].layers}
    places = "\n".join(f"location = /v2/{one.url} {{ alias {one.path}; }}" for one in layers)
    http = f"""server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /v2/ {{ return 200; }}
    {places}
  }}"""
    return nginx_command(folder, http), port


def turn(stage: Stage, system: System, result: Measured) -> None:
    with stage.running(system) as running:
        for shape in SHAPES:
            image = stage.library[shape.image]
            floor_s = stage.memory[shape.key]
            limit_s = max(_LIMIT_LEAST_S, _PATIENCE * floor_s)
            stage.origin.reset(link_bytes_s=LINK_BYTES_S)
            outcome = stage.pull(
                result,
                running.port,
                image,
                clients=shape.clients,
                limit_s=limit_s,
                by_image=system.by_image,
            )
            key = shape.key
            result.values[f"{key}_upstream"] = stage.origin.sent(*image.layers) / image.size
            if outcome.late:
                result.edges |= {f"{key}_upstream": "≥", f"{key}_efficiency": "≤"}
                stage.origin.quiet()  # what was given up must not be in the way of the next
            if not outcome.failed:
                result.values[f"{key}_efficiency"] = floor_s / outcome.wall_s
            if not outcome.failed and not outcome.late:
                result.values[f"{key}_follower_ms"] = follower_ms(outcome, shape.layers)
        result.values["crowd_rss_mb"] = running.tree.peak_rss_bytes() / 1e6


def follower_ms(outcome: Outcome, layers: int) -> float:
    """p99 of the followers' first byte less their leader's, over all layers, in ms."""
    later: list[float] = []
    for layer in range(layers):
        own = sorted(
            first_s
            for number, first_s in zip(outcome.target, outcome.first_byte_s, strict=True)
            if number == layer
        )
        later += [first_s - own[0] for first_s in own[1:]]
    return quantiles(later, n=100, method="inclusive")[98] * 1000


def _lines() -> Iterator[Line]:
    for shape in SHAPES:
        title = f"Stampede, {shape.said}: "
        yield Line(
            key=f"{shape.key}_upstream",
            title=title + "upstream bytes ÷ image",
            form="{:.3g}",
            limits=((1.01, None),),
        )
        yield Line(
            key=f"{shape.key}_efficiency",
            title=title + "T*/T",
            less=False,
            limits=((0.90, None),),
        )
        yield Line(
            key=f"{shape.key}_follower_ms",
            title=title + "followers' first byte after the leader's, p99 (ms)",
            form="{:,.0f}",
            limits=((_FOLLOWERS_MS, None),),
        )
    yield Line(
        key="crowd_rss_mb", title="Stampedes: most memory over all of them (MB)", form="{:.0f}"
    )


ROW = Row(
    name="stampede",
    images={shape.image: (shape.size,) * shape.layers for shape in SHAPES},
    turn=turn,
    straight=straight,
    peers_once=True,
    lines=tuple(_lines()),
)
