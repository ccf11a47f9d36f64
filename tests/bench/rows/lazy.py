"""Lazy pulls: some 6 % of a cold 1 GB blob in ranges, as three clients ask.

Each pattern on a system with an empty cache, from an upstream that sends
100 MB/s a connection:

* SOCI: the probe `bytes=0-1`, then spans of 4 MiB here and there.
* stargz: the probe, one range of 30 MB up to the landmark, then runs of 1 to 20
  chunks of 50,000 bytes, as files are opened (neighbours merged), 1 to 8 runs in
  one multi-range request. It takes the whole blob, too, where it is given that.
* containerd 2.1's parallel fetch: open ranges `bytes=N-`, left after 8 MiB.
  It wants the whole layer in the end; here it is stopped after 6 %.

What the upstream sent is read once it has been silent for a second, so that
what a system still fetches behind a client's back counts. First window: from
the request to its last byte, over the same straight from the upstream, which is
asked for nothing beyond it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from random import Random

from tests.bench.blocking import Asker, Got
from tests.bench.measured import Measured
from tests.bench.row import Line, Row, ratio
from tests.bench.stage import Stage
from tests.bench.systems import System

Window = tuple[int, int]
"""First byte, and how many."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, for one window or several. `is_open`: its one window is asked for
    without an end, and left when it is full.
    """

    windows: tuple[Window, ...]
    is_open: bool = False

    @property
    def count(self) -> int:
        """Bytes that the client is after."""
        return sum(count for _, count in self.windows)

    @property
    def header(self) -> str:
        """What its Range says."""
        if self.is_open:
            return f"bytes={self.windows[0][0]}-"
        return "bytes=" + ",".join(f"{start}-{start + count - 1}" for start, count in self.windows)

    def fits(self, got: Got, blob_bytes: int) -> bool:
        """Whether that is an answer, by its status and its length."""
        parts = len(self.windows)
        if parts == 1:
            return got.status == 206 and got.size == self.count
        if got.status == 200:
            return got.size == blob_bytes
        return got.status == 206 and 0 < got.size - self.count < (parts + 1) * _PART_HEAD_BYTES_MAX


_CONNECTION_BYTES_S = 100_000_000
_SPAN = 4 << 20
_CHUNK = 50_000
_RUNS_MAX = 8
_PART_HEAD_BYTES_MAX = 300
_PROBE = Ask(((0, 2),))


def soci(size: int) -> Iterator[Ask]:
    """Spans in no order, the first one first."""
    spans = list(range(1, size // _SPAN - 1))
    yield _PROBE
    yield Ask(((0, _SPAN),))
    for number in Random(1).sample(spans, round(size * 0.06 / _SPAN) - 1):
        yield Ask(((number * _SPAN, _SPAN),))


def stargz(size: int) -> Iterator[Ask]:
    """A prefetch, then runs of chunks that don't overlap."""
    order = Random(2)
    yield _PROBE
    prefetch = size * 3 // 100
    yield Ask(((0, prefetch),))
    runs = (size * 3 // 100) // (_CHUNK * 10)
    step = (size - prefetch) // runs
    places = [prefetch + number * step // _CHUNK * _CHUNK for number in range(runs - 1)]
    order.shuffle(places)
    while places:
        opened = [places.pop() for _ in range(min(len(places), order.randint(1, _RUNS_MAX)))]
        yield Ask(tuple((at, min(step, order.randint(1, 20) * _CHUNK)) for at in sorted(opened)))


def containerd(size: int) -> Iterator[Ask]:
    """Neighbouring windows, each open to the end of the blob."""
    window = 8 << 20
    for number in range(round(size * 0.06 / window)):
        yield Ask(((number * window, window),), is_open=True)


PATTERNS = {"soci": soci, "stargz": stargz, "containerd": containerd}


def straight(stage: Stage, result: Measured) -> None:
    for name in PATTERNS:
        _ask(stage, result, stage.origin.port, name, first_only=True)


def turn(stage: Stage, system: System, result: Measured) -> None:
    for name in PATTERNS:
        with stage.running(system) as running:
            if system.by_image:
                with Asker(running.port) as asker:
                    asker.get(f"/v2/{stage.library['lazy'].tag_url}")
            _ask(stage, result, running.port, name)


def _ask(stage: Stage, result: Measured, port: int, name: str, *, first_only: bool = False) -> None:
    layer = stage.library["lazy"].layers[0]
    stage.origin.reset(connection_bytes_s=_CONNECTION_BYTES_S)
    taken, first_s = 0, 0.0
    with Asker(port) as asker:
        for ask in PATTERNS[name](layer.size):
            window, stop_after = ask.header, ask.count if ask.is_open else None
            try:
                got = asker.get(f"/v2/{layer.url}", window=window, stop_after=stop_after)
            except (OSError, HTTPException) as error:
                result.failed.append(f"{name}, {window[:60]}: {error!r}")
                return
            if not ask.fits(got, layer.size):
                said = f"status {got.status}, {got.size} bytes for {ask.count}"
                result.failed.append(f"{name}, {window[:60]}: {said}")
                return
            taken += ask.count
            if ask is not _PROBE and not first_s:
                first_s = got.done_s
                if first_only:
                    break
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
