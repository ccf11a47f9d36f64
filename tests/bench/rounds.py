"""What is done to each system, once per round; every number is measured here.

A round starts the system with an empty cache and takes it through all parts
in one life, so that its peak memory is that of the whole. Which core runs what
is left to the kernel where time is measured, and fixed (server on one core,
load and upstream on the other) where CPU time or requests are counted.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import quantiles

from tests.bench.client import Job, Outcome
from tests.bench.content import MANIFEST_TYPE, REPOSITORY, TAG, Image, Item
from tests.bench.processes import Tree, answers
from tests.bench.systems import ROOT, Running

CLIENTS = 32
RATE_BYTES_S = 100_000_000
PARTS = ("stampede", "warm", "cold", "requests")
_WARM_PULLS = 40
_WARM_AT_ONCE = 4
_WRK_S = 2
_CORES = sorted(os.sched_getaffinity(0))
_SERVER_CORE = _CORES[0]
_LOAD_CORE = _CORES[-1]


@dataclass(slots=True)
class Measured:
    """One system in one round: numbers by name (`report.py` knows them), and what went wrong."""

    system: str
    values: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Origin:
    """The upstream, started and steered. Use as a context manager."""

    def __init__(self, content: Path, log: Path) -> None:
        self.tree = Tree(
            [sys.executable, "-m", "tests.bench.upstream", str(content)], log=log, cwd=ROOT
        )
        self.port = 0
        try:
            self.tree.wait_ready(lambda: log.read_text().endswith("\n"))
            self.port = int(log.read_text())
            self.tree.wait_ready(lambda: answers(f"http://127.0.0.1:{self.port}/v2/"))
        except BaseException:
            self.tree.stop()
            raise

    def reset(self, bytes_s: int) -> None:
        """Count from zero, and limit each connection to come (0: no limit)."""
        self._ask(f"reset?bytes_s={bytes_s}")

    def sent(self, item: Item) -> int:
        """Body bytes of `item` that went out since the reset."""
        return int(self._ask("counters")["sent"].get(f"/v2/{item.url}", 0))

    def _ask(self, path: str) -> dict[str, dict[str, int]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=10) as answer:
            body: dict[str, dict[str, int]] = json.load(answer)
            return body


def measure(running: Running, origin: Origin, image: Image, parts: Sequence[str]) -> Measured:
    """Take a caching system through `parts`, in the order of `PARTS`."""
    result = Measured(running.name)
    if "stampede" in parts:
        _free(running.tree, origin.tree)
        origin.reset(RATE_BYTES_S)
        outcome = _pull(result, running.port, image.crowd, at_once=CLIENTS, pulls=CLIENTS)
        _crowd(result, outcome, origin, image)
    if "warm" in parts:
        _warm(result, running, origin, image)
    if "cold" in parts:
        _free(running.tree, origin.tree)
        origin.reset(RATE_BYTES_S)
        outcome = _pull(result, running.port, image.single)
        if not outcome.failed:
            result.values["cold_s"] = outcome.wall_s
    if "requests" in parts:
        origin.reset(0)
        running.tree.pin({_SERVER_CORE})
        origin.tree.pin({_LOAD_CORE})
        _requests(result, running, image)
    result.values["peak_rss_mb"] = running.tree.peak_rss_bytes() / 1e6
    return result


def measure_straight(origin: Origin, image: Image, parts: Sequence[str]) -> Measured:
    """The same without anything between: the baseline of this round."""
    result = Measured("straight")
    _free(origin.tree)
    if "stampede" in parts:
        origin.reset(0)
        outcome = _pull(result, origin.port, image.crowd, at_once=CLIENTS, pulls=CLIENTS)
        if not outcome.failed:
            result.values["copy_s"] = outcome.wall_s
        origin.reset(RATE_BYTES_S)
        outcome = _pull(result, origin.port, image.crowd, at_once=CLIENTS, pulls=CLIENTS)
        _crowd(result, outcome, origin, image)
    if "stampede" in parts or "cold" in parts:
        origin.reset(RATE_BYTES_S)
        outcome = _pull(result, origin.port, image.single)
        if not outcome.failed:
            result.values["cold_s"] = outcome.wall_s
            result.values["first_byte_s"] = outcome.first_byte_s[0]
    return result


def _crowd(result: Measured, outcome: Outcome, origin: Origin, image: Image) -> None:
    # A crowd that was not served has no time; what it cost upstream stands all the same.
    result.values["stampede_upstream"] = origin.sent(image.crowd) / image.crowd.size
    if not outcome.failed:
        result.values["stampede_s"] = outcome.wall_s
        result.values["stampede_first_byte_s"] = quantiles(
            outcome.first_byte_s, n=100, method="inclusive"
        )[98]


def _warm(result: Measured, running: Running, origin: Origin, image: Image) -> None:
    origin.reset(0)
    # Once unmeasured: it is cached then even if there was no stampede, and its pages are warm.
    _pull(result, running.port, image.crowd)
    running.tree.pin({_SERVER_CORE})
    running.tree.settle()
    before_s = running.tree.cpu_s()
    outcome = _pull(
        result,
        running.port,
        image.crowd,
        at_once=_WARM_AT_ONCE,
        pulls=_WARM_PULLS,
        cpus=[_LOAD_CORE],
    )
    used_s = running.tree.cpu_s() - before_s
    gigabytes = _WARM_PULLS * image.crowd.size / 1e9
    if not outcome.failed:
        result.values["warm_cpu_s_per_gb"] = used_s / gigabytes
        result.values["warm_gb_s"] = gigabytes / outcome.wall_s


def _requests(result: Measured, running: Running, image: Image) -> None:
    by_tag = f"{REPOSITORY}/manifests/{TAG}"
    for name, path, item in (
        ("small_blob_rps", image.small.url, image.small),
        ("manifest_digest_rps", image.manifest.url, image.manifest),
        ("manifest_tag_rps", by_tag, image.manifest),
    ):
        url = f"http://127.0.0.1:{running.port}/v2/{path}"
        request = urllib.request.Request(url, headers={"Accept": MANIFEST_TYPE})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                body = answer.read()
        except OSError as error:
            result.failed.append(f"{name}: {error}")
            continue
        if f"sha256:{hashlib.sha256(body).hexdigest()}" != item.digest:
            result.wrong.append(f"{name}: {len(body)} bytes with another digest")
        rate = _wrk(result, name, url)
        if rate is not None:
            result.values[name] = rate


def _wrk(result: Measured, name: str, url: str) -> float | None:
    """Good answers per second, 32 connections. Raises `CalledProcessError`."""
    said = subprocess.run(
        [
            *("taskset", "-c", str(_LOAD_CORE)),
            *("wrk", "-t1", f"-c{CLIENTS}", f"-d{_WRK_S}s"),
            *("-H", f"Accept: {MANIFEST_TYPE}", url),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=_WRK_S + 30,
    ).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    if bad:
        result.failed.append(f"{name}: {bad[1]} answers were not 200")
        return None
    broken = re.search(r"Socket errors: .*", said)
    if broken:
        result.failed.append(f"{name}: {broken[0]}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    return float(rate[1]) if rate else None


def _pull(
    result: Measured,
    port: int,
    item: Item,
    *,
    at_once: int = 1,
    pulls: int = 1,
    cpus: list[int] | None = None,
) -> Outcome:
    job = Job(
        port=port,
        path=f"/v2/{item.url}",
        file=item.path,
        digest=item.digest,
        size=item.size,
        at_once=at_once,
        pulls=pulls,
        cpus=cpus or [],
    )
    said = subprocess.run(
        [sys.executable, "-m", "tests.bench.client", json.dumps(asdict(job))],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=job.limit_s + 30,
    ).stdout
    outcome = Outcome(**json.loads(said))
    result.failed += outcome.failed
    result.wrong += outcome.wrong
    return outcome


def _free(*trees: Tree) -> None:
    for tree in trees:
        tree.pin(set(_CORES))
