"""`python -m tests.bench.check`: counts what must not grow, and says what did.

Compares with `results/counts.json`, which `--keep` writes anew. Times are left
out, so that it says the same on a slow machine: what is compared are upstream
bytes and requests, threads woken, calls a GB, what the fast lane left to the
parser. The exit status is 1 if one of them grew past its band, or if Entrepot
did not serve. What became less is told: keep it then.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.bench.counts import IMAGES, Counts, Unserved, count
from tests.bench.kept import FOLDER
from tests.bench.machine import describe
from tests.bench.processes import DidNotStart
from tests.bench.rounds import say
from tests.bench.stage import LOAD_CORES, staged

KEPT = FOLDER / "counts.json"
_LIMIT_S = 240

_BANDS = (
    # (what the name has in it, factor, and what is added): the rest is exact.
    ("in pieces", 1.0, 0.5),
    ("capped blob: upstream GETs", 2.0, 0.0),
    # A seventh as a rule; over one connection it is one half (the trial, the rest) or all.
    ("for each upstream GET", 2.0, 0.05),
    ("parts in one request", 1.1, 0.0),
    ("bytes /", 1.0, 0.01),
    ("warm blob: threads woken", 2.0, 2.0),
    ("threads woken", 1.5, 0.25),
    ("share not answered", 1.0, 0.05),
    ("sendfiles", 2.0, 100.0),
)


def bound(name: str, kept: float) -> float:
    """The most that passes: what depends on the machine's timing has some room."""
    for part, factor, more in _BANDS:
        if part in name:
            return kept * factor + more
    return kept


def compare(now: Mapping[str, float], kept: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """What is worse, and what is better or new, in words."""
    worse = [
        f"{name}: {_number(value)}, was {_number(kept[name])}"
        for name, value in now.items()
        if name in kept and value > bound(name, kept[name])
    ]
    worse += [f"{name}: not counted any more" for name in kept if name not in now]
    better = [
        f"{name}: {_number(value)}, was {_number(kept[name])}"
        for name, value in now.items()
        if name in kept and bound(name, value) < kept[name]
    ]
    better += [f"{name}: {_number(value)}, new" for name, value in now.items() if name not in kept]
    return worse, better


def _number(value: float) -> str:
    return f"{value:.4g}"


def _count() -> Counts:
    # Ended from outside it must end its servers too, so the signals become exceptions.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"not done after {_LIMIT_S} s"))
    signal.alarm(_LIMIT_S)
    with tempfile.TemporaryDirectory(prefix="entrepot-bench-check-") as name:
        os.sched_setaffinity(0, LOAD_CORES)
        with staged(Path(name), IMAGES) as stage:
            return count(stage)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.check", description=__doc__)
    parser.add_argument("--keep", action="store_true", help=f"write {KEPT.name} instead")
    arguments = parser.parse_args()
    try:
        now = _count()
    except (Unserved, DidNotStart) as error:
        print(f"FAIL: {error}")
        return 1
    if arguments.keep:
        machine = {name: describe(0)[name] for name in ("kernel", "python", "date", "commit")}
        rounded = {name: float(f"{value:.5g}") for name, value in now.items()}
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(json.dumps({"machine": machine, "counts": rounded}, indent=1) + "\n")
        say(f"kept as {KEPT}")
    kept: Counts = json.loads(KEPT.read_text())["counts"]
    worse, better = compare(now, kept)
    for name, value in now.items():
        print(f"{_number(value):>8}  {name}")
    for text in better:
        print(f"better: {text} (--keep it)")
    for text in worse:
        print(f"FAIL: {text}")
    print(f"{len(now)} counts, {len(worse)} worse than what is kept")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
