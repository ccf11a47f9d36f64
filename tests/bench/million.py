"""Start time and memory with a million blobs in `data_dir`, against an empty one.

    python -m tests.bench.million [FOLDER]

Takes a minute: the files are hard links to a few. The last line is the verdict.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.support.entrepot import Entrepot

BLOBS = 1_000_000
LINKS_MAX = 30_000  # of one file; ext4 allows 65,000
START_S_MAX, MORE_MIB_MAX = 3.0, 60.0
WATCHED_S = 15.0


def fill(data_dir: Path) -> None:
    """A million names below `blobs/public`, as the proxy lays them out."""
    base = data_dir / "blobs" / "public" / "sha256"
    for number in range(256):
        (base / f"{number:02x}").mkdir(parents=True)
    origin = data_dir
    for number in range(BLOBS):
        if number % LINKS_MAX == 0:
            origin = data_dir / f"origin-{number}"
            origin.write_bytes(b"x")
        os.link(origin, base / f"{number % 256:02x}" / f"{number % 256:02x}{number:062x}")


def rss_mib(pid: int) -> float:
    """Resident memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def measured(entrepot: Entrepot) -> tuple[float, float]:
    """Seconds to the first answer, and the most MiB while it settles."""
    began = time.monotonic()
    entrepot.start()
    took_s, most = time.monotonic() - began, 0.0
    while time.monotonic() - began < WATCHED_S:
        most = max(most, rss_mib(entrepot._process.pid))
        time.sleep(0.05)
    entrepot.kill()
    return took_s, most


def main(root: Path) -> int:
    """The exit status: 0 if within bounds."""
    found: list[tuple[float, float]] = []
    for name in ("empty", "million"):
        one = Entrepot(root / name, upstreams={}, disk_free_bytes_min=0)
        if name == "million":
            fill(one.data_dir)
        found.append(measured(one))
        print(f"{name}: answers after {found[-1][0]:.2f} s, {found[-1][1]:.1f} MiB", flush=True)
    more = found[1][1] - found[0][1]
    good = found[1][0] <= START_S_MAX and more <= MORE_MIB_MAX
    print(f"{'ok' if good else 'TOO MUCH'}: {more:.1f} MiB more with a million blobs")
    return 0 if good else 1


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="million-"))
    try:
        code = main(folder)
    finally:
        shutil.rmtree(folder)
    sys.exit(code)
