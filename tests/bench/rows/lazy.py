"""Lazy pulls: some 6 % of a cold 1 GB blob in ranges, as three clients ask.

Each pattern on a system with an empty cache, from an upstream that sends
100 MB/s a connection:

* SOCI: the probe `bytes=0-1`, then spans of 4 MiB here and there.
* stargz: the probe, one range of 30 MB up to the landmark, then runs of 1 to 20
  chunks of 50,000 bytes, as files are opened (neighbours merged).
* containerd 2.1's parallel fetch: open ranges `bytes=N-`, left after 8 MiB.
  It wants the whole layer in the end; here it is stopped after 6 %.

What the upstream sent is read once it has been silent for a second, so that
what a system still fetches behind a client's back counts. First window: from
the request to its last byte, over the same straight from the upstream.
"""

from __future__ import annotations

from collections.abc import Iterator
from http.client import HTTPException
from random import Random

from tests.bench.blocking import Asker
from tests.bench.measured import Measured
from tests.bench.row import Line, Row, ratio
from tests.bench.stage import Stage
from tests.bench.systems import System

Window = tuple[int, int, bool]
"""First byte, how many, and whether the request leaves its end open."""

_CONNECTION_BYTES_S = 100_000_000
_SPAN = 4 << 20
_CHUNK = 50_000
_PROBE: Window = (0, 2, False)


def soci(size: int) -> Iterator[Window]:
    """Spans in no order, the first one first."""
    spans = list(range(1, size // _SPAN - 1))
    yield _PROBE
    yield (0, _SPAN, False)
    for number in Random(1).sample(spans, round(size * 0.06 / _SPAN) - 1):
        yield (number * _SPAN, _SPAN, False)


def stargz(size: int) -> Iterator[Window]:
    """A prefetch, then runs of chunks that don't overlap."""
    order = Random(2)
    yield _PROBE
    prefetch = size * 3 // 100
    yield (0, prefetch, False)
    runs = (size * 3 // 100) // (_CHUNK * 10)
    step = (size - prefetch) // runs
    places = [prefetch + number * step // _CHUNK * _CHUNK for number in range(runs - 1)]
    order.shuffle(places)
    for place in places:
        yield (place, min(step, order.randint(1, 20) * _CHUNK), False)


def containerd(size: int) -> Iterator[Window]:
    """Neighbouring windows, each open to the end of the blob."""
    window = 8 << 20
    for number in range(round(size * 0.06 / window)):
        yield (number * window, window, True)


PATTERNS = {"soci": soci, "stargz": stargz, "containerd": containerd}


def straight(stage: Stage, result: Measured) -> None:
    for name in PATTERNS:
        _ask(stage, result, stage.origin.port, name)


def turn(stage: Stage, system: System, result: Measured) -> None:
    for name in PATTERNS:
        with stage.running(system) as running:
            if system.by_image:
                with Asker(running.port) as asker:
                    asker.get(f"/v2/{stage.library['lazy'].tag_url}")
            _ask(stage, result, running.port, name)


def _ask(stage: Stage, result: Measured, port: int, name: str) -> None:
    layer = stage.library["lazy"].layers[0]
    stage.origin.reset(connection_bytes_s=_CONNECTION_BYTES_S)
    taken, first_s = 0, 0.0
    with Asker(port) as asker:
        for start, count, is_open in PATTERNS[name](layer.size):
            end = "" if is_open else start + count - 1
            try:
                got = asker.get(f"/v2/{layer.url}", window=f"bytes={start}-{end}", stop_after=count)
            except (OSError, HTTPException) as error:
                result.failed.append(f"{name} at {start}: {error!r}")
                return
            if got.status != 206 or got.size != count:
                said = f"{name} at {start}: status {got.status}, {got.size} of {count} bytes"
                result.failed.append(said)
                return
            taken += got.size
            if count > 2 and not first_s:
                first_s = got.done_s
    stage.origin.quiet()
    result.values[f"lazy_{name}_upstream"] = stage.origin.sent(layer) / taken
    result.values[f"lazy_{name}_first_s"] = first_s


def _lines() -> Iterator[Line]:
    for name, said in (
        ("soci", "SOCI"),
        ("stargz", "stargz"),
        ("containerd", "containerd's open ranges"),
    ):
        title = f"Lazy pull of 6 % of a cold 1 GB blob, {said}: "
        yield Line(
            key=f"lazy_{name}_upstream",
            title=title + "upstream ÷ client bytes",
            form="{:.3g}",
            limits=((1.10, None),),
        )
        yield Line(
            key=f"lazy_{name}_first",
            title=title + "first window ÷ straight",
            value=ratio(f"lazy_{name}_first_s"),
            limits=((1.2, None),),
        )


ROW = Row(
    name="lazy",
    images={"lazy": (1_000_000_000,)},
    turn=turn,
    straight=straight,
    peers_once=True,
    lines=tuple(_lines()),
)
