"""Warm small answers: requests a second from one core.

The load is `wrk` without a script, 32 connections kept alive; where it is not
installed, our own client, which is slower than a fast server and says so in
the notes. The answers are checked once before they are counted.
"""

from __future__ import annotations

import hashlib
import json
import re
import resource
import shutil
import subprocess
import sys
import urllib.request

from tests.bench.content import MANIFEST_TYPE
from tests.bench.measured import Measured
from tests.bench.row import Line, Row
from tests.bench.stage import Stage
from tests.bench.systems import ROOT, Running, System

_CONNECTIONS = 32
_FOR_S = 2
_BUSY = 0.9
_REGISTRIES = ("docker-registry", "distribution 3")


def turn(stage: Stage, system: System, result: Measured) -> None:
    image = stage.library["small"]
    stage.origin.reset()
    with stage.running(system) as running:
        for key, path, digest in (
            ("manifest_tag_rps", image.tag_url, image.manifest.digest),
            ("manifest_digest_rps", image.manifest.url, image.manifest.digest),
            ("small_blob_rps", image.layers[0].url, image.layers[0].digest),
        ):
            _one(result, running, key, f"http://127.0.0.1:{running.port}/v2/{path}", digest)


def _one(result: Measured, running: Running, key: str, url: str, digest: str) -> None:
    request = urllib.request.Request(url, headers={"Accept": MANIFEST_TYPE})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
    except OSError as error:
        result.failed.append(f"{key}: {error}")
        return
    if f"sha256:{hashlib.sha256(body).hexdigest()}" != digest:
        result.wrong.append(f"{key}: {len(body)} bytes with another digest")
        return
    server_s, load_s = running.tree.cpu_s(), _children_s()
    rate = _wrk(result, key, url) if shutil.which("wrk") else _own(result, key, url)
    if rate is None:
        return
    result.values[key] = rate
    result.values[f"{key}_server_busy"] = (running.tree.cpu_s() - server_s) / _FOR_S
    if (_children_s() - load_s) / _FOR_S > _BUSY:
        result.edges[key] = "≥"  # the load's core was the bottleneck


def _children_s() -> float:
    """CPU time of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wrk(result: Measured, key: str, url: str) -> float | None:
    """Good answers per second. Raises `CalledProcessError`."""
    words = ("wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{_FOR_S}s", "-H", f"Accept: {MANIFEST_TYPE}")
    done = subprocess.run(
        [*words, url], check=True, capture_output=True, text=True, timeout=_FOR_S + 30
    )
    if bad := re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout):
        result.failed.append(f"{key}: {bad[1]} answers were not 200")
        return None
    if broken := re.search(r"Socket errors: .*", done.stdout):
        result.failed.append(f"{key}: {broken[0]}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    return float(rate[1]) if rate else None


def _own(result: Measured, key: str, url: str) -> float | None:
    job = {"url": url, "connections": _CONNECTIONS, "for_s": _FOR_S, "accept": MANIFEST_TYPE}
    words = [sys.executable, "-m", "tests.bench.asker", json.dumps(job)]
    done = subprocess.run(
        words, cwd=ROOT, check=True, capture_output=True, text=True, timeout=_FOR_S + 30
    )
    said = json.loads(done.stdout)
    if said["bad"]:
        result.failed.append(f"{key}: {said['bad']} answers were not 200")
        return None
    return float(said["rate"])


def _limits(nginx: float, drayage: float, registry: float) -> tuple[tuple[float, str], ...]:
    return ((nginx, "nginx"), (drayage, "drayage"), *((registry, name) for name in _REGISTRIES))


ROW = Row(
    name="requests",
    images={"small": (10_240,)},
    turn=turn,
    lines=(
        Line(
            key="manifest_tag_rps",
            title="Warm manifest by tag, requests/s on one core",
            form="{:,.0f}",
            less=False,
            limits=_limits(1.0, 1.5, 15),
        ),
        Line(
            key="manifest_digest_rps",
            title="Warm manifest by digest, requests/s on one core",
            form="{:,.0f}",
            less=False,
            limits=_limits(1.0, 1.5, 15),
        ),
        Line(
            key="small_blob_rps",
            title="Warm 10 KB blob, requests/s on one core",
            form="{:,.0f}",
            less=False,
            limits=_limits(0.8, 10, 10),
        ),
    ),
)
