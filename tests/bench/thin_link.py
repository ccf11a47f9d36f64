"""`python -m tests.bench.thin_link`: what a thin, metered, unreliable link feels like.

- **breaks**: one client pulls one large blob over a link that resets every connection
  each five seconds (and, in a second run, kills Entrepot on the way): how often it asked,
  and how many bytes crossed the link for it.
- **cap**: four pulls under a cap, over a link that could do much more: the most and the
  least that crossed it in any ten seconds.
- **interactive**: how much longer a pull takes while a warm-up of six blobs is under way,
  with a cap and without one.

The link is a relay in this process (`tests/support/flaky_link.py`), which counts what it
has delivered; the registry behind it is a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import aiohttp

from proxy.app import Entrepot as InProcess
from proxy.cache.flights import Source
from proxy.cache.traffic import Urgency, working_as
from proxy.config import load
from proxy.oci.digest import Digest
from proxy.ports import BlobKey
from tests.bench.content import Item, make_library
from tests.bench.stage import Origin
from tests.support.entrepot import Entrepot
from tests.support.flaky_link import FlakyLink

MBIT = 125_000
BREAK_S = 5.0
WINDOW_S = 10.0
WARM_UPS = 6
_PULL_BYTES = 25_000_000
_KILLS = (0.2, 0.5, 0.8)
Row = tuple[str, str, str]


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("--mbit", type=int, default=100, help="of the link that breaks")
    parser.add_argument("--megabytes", type=int, default=1000, help="of the blob that crosses it")
    parser.add_argument("--rows", default="breaks,cap,interactive")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thin-link-") as folder:
        rows = asyncio.run(_all(Path(folder), given))
    print("| What | Measured | Wanted |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


async def _all(folder: Path, given: argparse.Namespace) -> list[Row]:
    content = folder / "content"
    content.mkdir()
    size = given.megabytes * 1_000_000
    shapes = {"large": [size], "killed": [size // 5]}
    shapes |= {f"layer{number}": [_PULL_BYTES] for number in range(20)}
    layers = {
        name: image.layers[0]
        for name, image in (await asyncio.to_thread(make_library, content, shapes)).items()
    }
    origin = await asyncio.to_thread(Origin, content, folder / "origin.log")
    rows: list[Row] = []
    with origin.tree:
        if "breaks" in given.rows:
            rows += await _breaks(folder, origin, layers, given.mbit)
        if "cap" in given.rows:
            rows += await _cap(folder, origin, [layers[f"layer{n}"] for n in range(4)])
        if "interactive" in given.rows:
            spare = [layer for name, layer in layers.items() if name.startswith("layer")]
            for cap in (None, 20):
                rows += await _interactive(folder, origin, spare, cap)
    return rows


async def _breaks(folder: Path, origin: Origin, layers: dict[str, Item], mbit: int) -> list[Row]:
    rows: list[Row] = []
    for name, kills in (("large", ()), ("killed", _KILLS)):
        layer = layers[name]
        async with FlakyLink(origin.port, cut_s=BREAK_S, rate=mbit * MBIT) as link:
            entrepot = _process(folder / name, link)
            await asyncio.to_thread(entrepot.start)
            try:
                began, asked = time.monotonic(), 0
                pulling: asyncio.Task[bool] | None = None
                for share in (*kills, None):
                    pulling, asked = asyncio.create_task(_pull(entrepot.url, layer)), asked + 1
                    if share is None:
                        break
                    while link.delivered < share * layer.size:
                        await asyncio.sleep(0.05)
                    await asyncio.to_thread(entrepot.kill)
                    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                        await pulling
                    await asyncio.to_thread(entrepot.start)
                whole = pulling is not None and await pulling
                took_s = time.monotonic() - began
            finally:
                await asyncio.to_thread(entrepot.kill)
        killed = f", {len(kills)} kills" if kills else ""
        what = (
            f"{layer.size / 1e6:.0f} MB over {mbit} Mbit/s that breaks every "
            f"{BREAK_S:.0f} s ({link.cuts} times{killed})"
        )
        said = (
            f"{'whole' if whole else 'BROKEN'}, {asked} requests of the client, {took_s:.0f} s, "
            f"{link.delivered / layer.size:.4f} x the bytes"
        )
        rows.append((what, said, f"whole, {len(kills) + 1}, <= {1.1 if kills else 1.02} x"))
    return rows


async def _cap(folder: Path, origin: Origin, layers: list[Item]) -> list[Row]:
    rate = 20 * MBIT
    async with FlakyLink(origin.port) as link:
        entrepot = _process(folder / "cap", link, link={"rate": "20Mbit/s"})
        await asyncio.to_thread(entrepot.start)
        try:
            began = time.monotonic()
            await asyncio.gather(*(_pull(entrepot.url, layer) for layer in layers))
            took_s = time.monotonic() - began
        finally:
            await asyncio.to_thread(entrepot.kill)
    most, least = _windows(link.log)
    said = f"{most / rate / WINDOW_S:.3f} x at most, {least / rate / WINDOW_S:.3f} x at least"
    what = f"cap of 20 Mbit/s, in any {WINDOW_S:.0f} s of {took_s:.0f} s, four pulls"
    return [(what, said, "<= 1.05 x")]


def _windows(log: list[tuple[float, int]]) -> tuple[int, int]:
    """The most and the least bytes in any window that lies within the log."""
    most, least, total, first = 0, 1 << 62, 0, 0
    for moment, count in log:
        total += count
        while log[first][0] <= moment - WINDOW_S:
            total -= log[first][1]
            first += 1
        most = max(most, total)
        if first:
            least = min(least, total)
    return most, least


async def _interactive(
    folder: Path, origin: Origin, layers: list[Item], cap: int | None
) -> list[Row]:
    """In this process, since that is how a warm-up can be told to begin at this moment."""
    spare = iter(layers)
    limit = {} if cap is None else {"rate": f"{cap}Mbit/s"}
    async with FlakyLink(origin.port, rate=(20 if cap is None else 200) * MBIT) as link:
        settings = _settings(folder / f"interactive-{cap}", link) | {"link": limit}
        async with InProcess(load(None, {}, settings)) as entrepot:
            url = f"http://{entrepot.address}"
            alone = [await _timed(lambda: _pull(url, next(spare))) for _ in range(2)]
            _warm_up(entrepot, spare)
            # Until it has the link to itself.
            before = link.delivered
            while link.delivered < before + 10_000_000:
                await asyncio.sleep(0.05)
            beside = [await _timed(lambda: _pull(url, next(spare))) for _ in range(2)]
    slower = statistics.median(beside) / statistics.median(alone) - 1
    kind = "no cap, link of 20 Mbit/s" if cap is None else f"cap of {cap} Mbit/s"
    said = f"{statistics.median(alone):.2f} s alone, {statistics.median(beside):.2f} s beside it"
    what = f"pull of 25 MB beside a warm-up of {WARM_UPS} blobs, {kind}"
    return [(what, f"{said}: {slower:+.1%}", "<= 10 % slower")]


def _warm_up(entrepot: InProcess, layers: Iterable[Item]) -> None:
    assert entrepot.status is not None
    status = entrepot.status
    for _, layer in zip(range(WARM_UPS), layers, strict=False):
        source = Source(status._upstreams["lab"], layer.repository)
        with working_as(Urgency.WARM, "warm"):
            key = BlobKey("public", Digest.parse(layer.digest))
            status._cache.flights.join(key, source)


async def _timed(work: Callable[[], Awaitable[bool]]) -> float:
    began = time.monotonic()
    if not await work():
        raise RuntimeError("the pull brought wrong bytes")
    return time.monotonic() - began


async def _pull(url: str, layer: Item) -> bool:
    """Whether all of it came, and was right."""
    hasher, timeout = hashlib.sha256(), aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout, read_bufsize=1 << 20) as session,
        session.get(f"{url}/v2/lab/{layer.url}") as response,
    ):
        response.raise_for_status()
        async for chunk in response.content.iter_any():
            hasher.update(chunk)
    return f"sha256:{hasher.hexdigest()}" == layer.digest


def _process(folder: Path, over: FlakyLink, **settings: object) -> Entrepot:
    lab = {"url": f"http://127.0.0.1:{over.port}"}
    return Entrepot(
        folder, upstreams={"lab": lab}, presets=False, default_upstream="lab", **settings
    )


def _settings(folder: Path, link: FlakyLink) -> dict[str, object]:
    return {
        "listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "data_dir": str(folder),
        "presets": False,
        "default_upstream": "lab",
        "access_log": False,
        "drain_s": 0,
        "upstreams": {"lab": {"url": f"http://127.0.0.1:{link.port}"}},
    }


if __name__ == "__main__":
    main()
