"""What is counted, not timed, of one short life of Entrepot: the same on any machine.

Each number is a count or a ratio of counts, and less is better for all. Small
content, an upstream that counts, a minute at most. How many threads were woken
is read from the kernel (voluntary switches of all threads but the first, from
`/proc/PID/task/*/status`), so it covers whatever the product does inside.
"""

from __future__ import annotations

import os
import re
import urllib.request
from http.client import HTTPException
from pathlib import Path
from random import Random

from tests.bench.blocking import Asker
from tests.bench.content import MANIFEST_TYPE, Image, Item
from tests.bench.measured import Measured
from tests.bench.stage import Stage
from tests.bench.systems import ENTREPOT, Running

Counts = dict[str, float]

IMAGES = {
    "crowd": (7_000_000,),
    "wide": (64_000_000,),
    "four": (6_000_000,) * 4,
    "small": (10_240,),
    "lazy": (48_000_000,),
}
_CLIENTS = 32
_WARM = 200
_WARM_PULLS = 10
_SPAN = 4 << 20


class Unserved(Exception):
    """Entrepot failed or sent something wrong, so there is nothing to compare."""


def count(stage: Stage) -> Counts:
    """All of them. Raises `Unserved`, `DidNotStart`."""
    counts: Counts = {}
    with stage.running(ENTREPOT) as running:
        for part in (_crowds, _warm, _tags, _lazy):
            try:
                part(stage, running, counts)
            except (OSError, HTTPException) as error:
                raise Unserved(f"{part.__name__[1:]}: {error!r}; {running.last_words()}") from error
    return counts


def _crowds(stage: Stage, running: Running, counts: Counts) -> None:
    for name in ("crowd", "wide", "four"):
        image = stage.library[name]
        stage.origin.reset(link_bytes_s=50_000_000)
        _pull(stage, running, image, _CLIENTS)
        asked = stage.origin.requests()
        # A large one may be fetched in pieces, how many is a matter of timing.
        share = "upstream bytes / image" + (", in pieces" if name == "wide" else "")
        counts[f"{name}: {share}"] = stage.origin.sent(*image.layers) / image.size
        if name != "wide":
            whole = sum(asked.get(f"/v2/{layer.url}", 0) for layer in image.layers)
            counts[f"{name}: upstream GETs a layer"] = whole / len(image.layers)
        heads = stage.origin.requests("heads")
        counts[f"{name}: upstream HEADs of layers"] = sum(
            heads.get(f"/v2/{layer.url}", 0) for layer in image.layers
        )


def _warm(stage: Stage, running: Running, counts: Counts) -> None:
    image, small = stage.library["wide"], stage.library["small"]
    wanted = (small.tag_url, small.manifest.url, small.layers[0].url)
    with Asker(running.port) as asker:
        for path in wanted:
            asker.get(f"/v2/{path}")
        running.tree.settle()
        stage.origin.reset()
        for path, name in zip(wanted, ("tag", "manifest", "small blob"), strict=True):
            before = woken(running.tree.process.pid)
            for _ in range(_WARM):
                if asker.get(f"/v2/{path}").status != 200:
                    raise Unserved(f"a warm {name} was not served")
            more = woken(running.tree.process.pid) - before
            counts[f"warm {name}: threads woken a request"] = more / _WARM
    before, calls = woken(running.tree.process.pid), _sends(running)
    _pull(stage, running, image, 1, _WARM_PULLS)
    gigabytes = _WARM_PULLS * image.size / 1e9
    counts["warm blob: threads woken a request"] = (
        woken(running.tree.process.pid) - before
    ) / _WARM_PULLS
    counts["warm blob: reads and sendfiles a GB"] = (_sends(running) - calls) / gigabytes
    counts["warm: upstream requests"] = sum(
        sum(stage.origin.requests(kind).values()) for kind in ("gets", "heads")
    )


def _tags(stage: Stage, running: Running, counts: Counts) -> None:
    """What one cold image costs at the upstream: its tag, manifest, config, layers."""
    stage.origin.reset()
    image = stage.library["lazy"]
    _manifest(running, image.tag_url, image.manifest)
    _manifest(running, image.manifest.url, image.manifest)
    with Asker(running.port) as asker:
        asker.get(f"/v2/{image.config.url}")
    counts["cold tag, manifest, config: upstream GETs"] = sum(stage.origin.requests().values())
    counts["cold tag, manifest, config: upstream HEADs"] = sum(
        stage.origin.requests("heads").values()
    )


def _lazy(stage: Stage, running: Running, counts: Counts) -> None:
    """Two spans of a cold layer, and the same again."""
    layer = stage.library["lazy"].layers[0]
    stage.origin.reset(connection_bytes_s=20_000_000)
    places = Random(3).sample(range(layer.size // _SPAN), 2)
    with Asker(running.port) as asker:
        for turn in ("cold", "again"):
            taken = 0
            for place in places:
                start = place * _SPAN
                got = asker.get(f"/v2/{layer.url}", window=f"bytes={start}-{start + _SPAN - 1}")
                if got.status != 206 or got.size != min(_SPAN, layer.size - start):
                    raise Unserved(f"a span: {got}")
                taken += got.size
            stage.origin.quiet()
            sent = stage.origin.sent(layer)
            counts[f"two spans of a blob, {turn}: upstream bytes / asked"] = sent / taken


def _manifest(running: Running, path: str, item: Item) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{running.port}/v2/{path}", headers={"Accept": MANIFEST_TYPE}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        if answer.read() != Path(item.path).read_bytes():
            raise Unserved(f"{path}: wrong bytes")


def _pull(
    stage: Stage, running: Running, image: Image, clients: int, pulls: int | None = None
) -> None:
    result = Measured(ENTREPOT.name)
    stage.pull(result, running.port, image, clients=clients, pulls=pulls, limit_s=60)
    if result.failed or result.wrong:
        raise Unserved(f"{(result.failed + result.wrong)[0]}; {running.last_words()}")


def woken(pid: int) -> int:
    """How often all threads but the first were woken so far (each sleep ends in one)."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        if int(thread) != pid:
            said = Path(f"/proc/{pid}/task/{thread}/status").read_text()
            found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", said, re.MULTILINE)
            total += int(found[1]) if found else 0
    return total


def _sends(running: Running) -> int:
    """Calls that read files so far, `sendfile` among them (proc(5), io, syscr)."""
    said = Path(f"/proc/{running.tree.process.pid}/io").read_text()
    found = re.search(r"^syscr: (\d+)", said, re.MULTILINE)
    return int(found[1]) if found else 0
