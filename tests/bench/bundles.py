"""How fast bundles are written and brought in, against `cp` and `sha256sum` of the same bytes.

    python -m tests.bench.bundles [--gb N] [FOLDER]

Everything lies on the disk of FOLDER, three times. A round copies the bundle with `cp`,
hashes the copy with `sha256sum`, and then has a running proxy that holds everything write
it anew; both sides end with the page cache full and the disk busy, so the rounds take
turns. The last bundle is then imported into an empty proxy, as many times. The best round of each counts. Memory is the peak of each process.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.content import make_library
from tests.bench.stage import Origin
from tests.support.entrepot import Entrepot

ROUNDS = 3
SHARE_MIN = 0.5
MIB_MAX = 150.0
_LAYER = 128 << 20
_SMALL = 40
NAME = "bench/bench/image:latest"


@dataclass(slots=True)
class Measured:
    """What was found; rates in MB/s, the best of all rounds; memory in MiB, the worst."""

    rates: dict[str, float] = field(default_factory=dict)
    mib: dict[str, float] = field(default_factory=dict)

    def rate(self, what: str, count: int, took_s: float) -> None:
        """`count` bytes took `took_s`."""
        self.rates[what] = max(self.rates.get(what, 0.0), count / took_s / 1e6)

    def memory(self, what: str, mib: float) -> None:
        """So much was resident at most."""
        self.mib[what] = max(self.mib.get(what, 0.0), mib)


def run(*words: str | Path) -> tuple[float, float]:
    """Seconds and peak MiB of a command that must succeed."""
    began = time.monotonic()
    pid = os.posix_spawnp(str(words[0]), [str(word) for word in words], os.environ)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{' '.join(map(str, words))}: status {status}")
    return time.monotonic() - began, usage.ru_maxrss / 1024


def peak_mib(pid: int) -> float:
    """Of a process that runs."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main(folder: Path, size: int) -> int:
    """The exit status: 0 if within bounds."""
    content = folder / "content"
    content.mkdir(parents=True)
    layers = [_LAYER] * (size // _LAYER) + [100_000] * _SMALL
    make_library(content, {"image": layers})
    found = Measured()
    origin = Origin(content, folder / "origin.log", cpus=())
    upstreams = {"bench": {"url": f"http://127.0.0.1:{origin.port}"}}
    high = Entrepot(folder / "high", upstreams=upstreams, disk_free_bytes_min=0)
    try:
        with high:
            bundle = exported(high, folder, found)
            shutil.rmtree(content)
    finally:
        origin.tree.stop()
    shutil.rmtree(folder / "high" / "data")
    imported(bundle, folder, found)
    bundle.unlink()
    return told(found)


def exported(proxy: Entrepot, folder: Path, found: Measured) -> Path:
    """The rounds of the export; the bundle of the last."""
    bundle, copy = folder / "bundle.tar", folder / "copy.tar"
    export = [sys.executable, "-m", "proxy", "export", NAME, "-o", bundle, "--admin", proxy.admin]
    took_s, mib = run(*export)
    size = bundle.stat().st_size
    found.rate("export, nothing held", size, took_s)
    found.memory("export", mib)
    for _ in range(ROUNDS):
        copied_s = run("cp", bundle, copy)[0]
        hashed_s = run("sha256sum", copy)[0]
        found.rate("cp", size, copied_s)
        found.rate("sha256sum", size, hashed_s)
        found.rate("cp + sha256sum", size, copied_s + hashed_s)
        copy.unlink()
        bundle.unlink()
        took_s, mib = run(*export)
        found.rate("export", size, took_s)
        found.memory("export", mib)
    found.memory("proxy that exports", peak_mib(proxy.pid))
    return bundle


def imported(bundle: Path, folder: Path, found: Measured) -> None:
    """The rounds of the import, each into nothing."""
    upstreams = {"bench": {"url": "http://127.0.0.1:1"}}
    for number in range(ROUNDS):
        home = folder / f"import{number}"
        with Entrepot(home, upstreams=upstreams, offline=True, disk_free_bytes_min=0) as proxy:
            words = ["import", bundle, "--unsigned", "--receipt", folder / "receipt"]
            took_s, mib = run(sys.executable, "-m", "proxy", *words, "--admin", proxy.admin)
            found.rate("import", bundle.stat().st_size, took_s)
            found.memory("import", mib)
            found.memory("proxy that imports", peak_mib(proxy.pid))
        shutil.rmtree(home)


def told(found: Measured) -> int:
    """Prints it; the exit status."""
    for what, rate in found.rates.items():
        print(f"{what:24} {rate:8.0f} MB/s")
    for what, mib in found.mib.items():
        print(f"{what:24} {mib:8.0f} MiB at most")
    floor, good = found.rates["cp + sha256sum"], True
    for what in ("export", "import"):
        share = found.rates[what] / floor
        good = good and share >= SHARE_MIN
        print(f"{what}: {share:.2f} x what cp + sha256sum reach (at least {SHARE_MIN})")
    good = good and max(found.mib.values()) <= MIB_MAX
    print("ok" if good else "TOO SLOW OR TOO MUCH")
    return 0 if good else 1


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bundles")
    parser.add_argument("--gb", type=float, default=2.0, help="of layers")
    parser.add_argument("folder", nargs="?", type=Path, help="on the disk that is to be used")
    return parser.parse_args(words)


if __name__ == "__main__":
    asked = _parsed(sys.argv[1:])
    place = Path(tempfile.mkdtemp(prefix="bundles-", dir=asked.folder))
    try:
        code = main(place, int(asked.gb * 1e9))
    finally:
        shutil.rmtree(place)
    sys.exit(code)
