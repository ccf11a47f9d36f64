"""What is counted, not timed, of one short life of Entrepot: the same on any machine.

Each number is a count or a ratio of counts, and less is better for all: what
must not become less is counted as what is lacking, or as its inverse. Small
content, an upstream that counts, a minute at most. How many threads were woken
is read from the kernel (voluntary switches of all threads but the first, from
`/proc/PID/task/*/status`), so it covers whatever the product does inside.
"""

from __future__ import annotations

import json
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
    "capped": (64 << 20,),
    "scattered": (48_000_000,),
}
_CLIENTS = 32
_WARM = 200
_WARM_PULLS = 10
_TURNS = 3  # the least counts: work in the background falls into one of them, not into all
_SPAN = 4 << 20
_PARTS, _PART = 100, 4096


class Unserved(Exception):
    """Entrepot failed or sent something wrong, so there is nothing to compare."""


def count(stage: Stage) -> Counts:
    """All of them. Raises `Unserved`, `DidNotStart`."""
    counts: Counts = {}
    with stage.running(ENTREPOT) as running:
        for part in (_crowds, _warm, _tags, _lazy, _capped, _scattered):
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


def _capped(stage: Stage, running: Running, counts: Counts) -> None:
    """A large blob whose size is known, from an upstream that caps each connection."""
    image = stage.library["capped"]
    stage.origin.reset(connection_bytes_s=10_000_000)
    _pull(stage, running, image, 1, by_image=True)
    layer = image.layers[0]
    asked = stage.origin.requests().get(f"/v2/{layer.url}", 0)
    counts["capped blob: upstream GETs"] = asked
    # One for each connection and piece, so what grows if it is fetched over fewer.
    counts["capped blob: blobs for each upstream GET"] = 1 / max(1, asked)
    counts["capped blob: upstream bytes / image, in pieces"] = stage.origin.sent(layer) / image.size


def _warm(stage: Stage, running: Running, counts: Counts) -> None:
    image, small = stage.library["wide"], stage.library["small"]
    wanted = (small.tag_url, small.manifest.url, small.layers[0].url)
    with Asker(running.port) as asker:
        for path in wanted:
            asker.get(f"/v2/{path}")
        running.tree.settle()
        stage.origin.reset()
        for path, name in zip(wanted, ("tag", "manifest", "small blob"), strict=True):
            below, more = _below_parser(running), []
            for _ in range(_TURNS):
                before = woken(running.tree.process.pid)
                for _ in range(_WARM):
                    if asker.get(f"/v2/{path}").status != 200:
                        raise Unserved(f"a warm {name} was not served")
                more.append(woken(running.tree.process.pid) - before)
            counts[f"warm {name}: threads woken a request"] = min(more) / _WARM
            below = _below_parser(running) - below
            counts[f"warm {name}: share not answered below the parser"] = 1 - below / (
                _TURNS * _WARM
            )
    more, calls = [], []
    for _ in range(_TURNS):
        awake, sent = woken(running.tree.process.pid), _sends(running)
        _pull(stage, running, image, 1, _WARM_PULLS)
        more.append(woken(running.tree.process.pid) - awake)
        calls.append(_sends(running) - sent)
    gigabytes = _WARM_PULLS * image.size / 1e9
    counts["warm blob: threads woken a request"] = min(more) / _WARM_PULLS
    counts["warm blob: reads and sendfiles a GB"] = min(calls) / gigabytes
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


def _scattered(stage: Stage, running: Running, counts: Counts) -> None:
    """One request for many small parts of a cold layer, in no order."""
    layer = stage.library["scattered"].layers[0]
    stage.origin.reset()
    places = [number * layer.size // _PARTS for number in range(_PARTS)]
    Random(4).shuffle(places)
    window = ",".join(f"{place}-{place + _PART - 1}" for place in places)
    with Asker(running.port) as asker:
        got = asker.get(f"/v2/{layer.url}", window=f"bytes={window}")
    if got.status != 206 or got.size < _PARTS * _PART:
        raise Unserved(f"scattered parts: {got}")
    stage.origin.quiet()
    name = f"{_PARTS} parts in one request"
    counts[f"{name}: upstream GETs"] = stage.origin.requests().get(f"/v2/{layer.url}", 0)
    counts[f"{name}: upstream bytes / asked"] = stage.origin.sent(layer) / (_PARTS * _PART)


def _manifest(running: Running, path: str, item: Item) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{running.port}/v2/{path}", headers={"Accept": MANIFEST_TYPE}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        if answer.read() != Path(item.path).read_bytes():
            raise Unserved(f"{path}: wrong bytes")


def _pull(
    stage: Stage,
    running: Running,
    image: Image,
    clients: int,
    pulls: int | None = None,
    *,
    by_image: bool = False,
) -> None:
    result = Measured(ENTREPOT.name)
    stage.pull(
        result, running.port, image, clients=clients, pulls=pulls, limit_s=60, by_image=by_image
    )
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


def _below_parser(running: Running) -> float:
    """Answers of the fast lane so far."""
    settings = json.loads((running.folder / "entrepot.yaml").read_text())
    with urllib.request.urlopen(f"http://{settings['admin_listen']}/metrics", timeout=30) as answer:
        said = answer.read().decode()
    found = re.findall(r"^entrepot_fast_lane_answers_total\S* (\S+)$", said, re.MULTILINE)
    if not found:
        raise Unserved("no metric says what the fast lane answers")
    return sum(map(float, found))


def _sends(running: Running) -> int:
    """Calls that read files so far, `sendfile` among them (proc(5), io, syscr)."""
    said = Path(f"/proc/{running.tree.process.pid}/io").read_text()
    found = re.search(r"^syscr: (\d+)", said, re.MULTILINE)
    return int(found[1]) if found else 0
