"""`python -m tests.bench.crowd_profile [CLIENTS,…]`: what a crowd's time goes into.

One stampede of the table for each number of clients, with `perf` (Debian's linux-perf)
sampling Entrepot's process: shares of the kernel, of hashing (libcrypto) and of Python,
the heaviest functions, and T*, T and CPU-seconds of the same pull. `LIMITS.md` quotes it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.bench.measured import Measured
from tests.bench.rows import stampede
from tests.bench.stage import LOAD_CORES, Stage, staged
from tests.bench.systems import ENTREPOT

_CLIENTS = (256, 1024)
_TOP = 6
_LIMIT_S = 120.0
# `  12.34%  libcrypto.so.3  [.] sha256_block_data_order   -  -`
_LINE = re.compile(r"^\s*([\d.]+)%\s+(\S+)\s+\[([.k])\]\s+(\S+)", re.MULTILINE)


def kinds(report: str) -> tuple[dict[str, float], list[tuple[float, str]]]:
    """Per cent by kind, and the heaviest functions, from `perf report`'s lines."""
    shares: Counter[str] = Counter()
    functions: list[tuple[float, str]] = []
    for percent, library, space, name in _LINE.findall(report):
        share = float(percent)
        kind = "hashing" if "libcrypto" in library else "Python"
        shares["kernel" if space == "k" else kind] += share
        functions.append((share, name if space == "k" else f"{name} ({library})"))
    return dict(shares), sorted(functions, reverse=True)[:_TOP]


def _profiled(stage: Stage, shape: stampede.Shape) -> None:
    result, image = Measured("straight"), stage.library[shape.image]
    stampede.straight(stage, result, [shape])
    least_s = stage.memory[shape.key]
    data = stage.folder / f"{shape.clients}.data"
    with stage.running(ENTREPOT) as running:
        stage.origin.reset(link_bytes_s=stampede.LINK_BYTES_S)
        before_s = running.tree.cpu_s()
        pid = str(running.tree.pids()[0])
        words = ["perf", "record", "-e", "cpu-clock", "-F", "499", "-o", str(data), "-p", pid]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as perf:
            outcome = stage.pull(
                result, running.port, image, clients=shape.clients, limit_s=_LIMIT_S
            )
            perf.send_signal(signal.SIGINT)
        used_s = running.tree.cpu_s() - before_s
    said = subprocess.run(
        ["perf", "report", "-i", str(data), "--stdio", "--sort", "dso,symbol"],
        capture_output=True,
        text=True,
        check=True,
        timeout=_LIMIT_S,
    )
    shares, functions = kinds(said.stdout)
    print(f"{shape.said}: T* {least_s:.2f} s, T {outcome.wall_s:.2f} s, CPU {used_s:.2f} s")
    print("  " + ", ".join(f"{name} {share:.0f} %" for name, share in sorted(shares.items())))
    for share, name in functions:
        print(f"  {share:5.1f} %  {name}")


def main() -> int:
    clients = [int(one) for one in sys.argv[1].split(",")] if sys.argv[1:] else _CLIENTS
    if shutil.which("perf") is None:
        print("needs the program perf (Debian package linux-perf)")
        return 1
    shapes = [shape for shape in stampede.SHAPES if shape.clients in clients]
    images = {shape.image: (shape.size,) * shape.layers for shape in shapes}
    os.sched_setaffinity(0, LOAD_CORES)
    with (
        tempfile.TemporaryDirectory(prefix="entrepot-profile-") as name,
        staged(Path(name), images) as stage,
    ):
        for shape in shapes:
            _profiled(stage, shape)
    return 0


if __name__ == "__main__":
    sys.exit(main())
