"""`python -m tests.bench`: Entrepot and its peers, side by side, in one table.

Loopback only, bounded in time and disk. It never fails because a machine is
slow: the exit status is 0 whatever the times are, and 1 if a byte was wrong,
if a pull through Entrepot failed, or if a system that this machine has did not
run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.bench.content import Image, make_image
from tests.bench.processes import DidNotStart
from tests.bench.report import SUBJECT, Round, markdown, results
from tests.bench.rounds import PARTS, Measured, Origin, measure, measure_straight
from tests.bench.systems import ENTREPOT, PEERS, NotHere, System, start

_BLOB_BYTES = 200_000_000
_SMALL_BYTES = 10_240
_ROUNDS = 5
_QUICK_ROUNDS = 2
_LOG_CHARS = 800
_OVERTIME_S = 110
_FREE_BYTES = 4_000_000_000


class Bench:
    """All rounds; `notes` are for the reader, `faults` make the exit status 1."""

    def __init__(self, folder: Path, parts: list[str], systems: list[System]) -> None:
        self.folder = folder
        self.parts = parts
        self.systems = systems
        self.rounds: list[Round] = []
        self.notes: list[str] = []
        self.faults: list[str] = []

    def run(self, count: int, budget_s: float, order: random.Random) -> None:
        began = time.monotonic()
        content = self.folder / "content"
        content.mkdir()
        image = make_image(content, blob_bytes=_BLOB_BYTES, small_bytes=_SMALL_BYTES)
        with (origin := Origin(content, self.folder / "upstream.log")).tree:
            for number in range(1, count + 1):
                round_began = time.monotonic()
                self.rounds.append(self._round(number, origin, image, order))
                round_s = time.monotonic() - round_began
                _say(f"round {number} of {count}: {round_s:.0f} s")
                left_s = budget_s - (time.monotonic() - began)
                if number < count and left_s < round_s * 1.3:
                    self.notes.append(f"stopped after round {number} of {count}: out of time")
                    break

    def _round(self, number: int, origin: Origin, image: Image, order: random.Random) -> Round:
        turns: list[System | None] = [None, *self.systems]
        order.shuffle(turns)
        done: Round = {}
        for system in turns:
            measured = (
                measure_straight(origin, image, self.parts)
                if system is None
                else self._one(number, system, origin, image)
            )
            if measured is not None:
                done[measured.system] = measured
                self._judge(number, measured)
        return done

    def _one(self, number: int, system: System, origin: Origin, image: Image) -> Measured | None:
        folder = self.folder / f"{number}-{system.name}"
        try:
            running = start(system, folder, origin.port)
            with running.tree:
                measured = measure(running, origin, image, self.parts)
            if measured.failed:
                log = (folder / "log").read_text(errors="replace")
                measured.failed.append(f"the end of its log: {log[-_LOG_CHARS:]}")
        except NotHere as error:
            self.systems.remove(system)
            self.notes.append(f"{system.name}: not measured, {error}")
        except DidNotStart as error:
            self.systems.remove(system)
            self.faults.append(f"{system.name} did not start: {error}")
        except (subprocess.SubprocessError, OSError) as error:
            self.faults.append(f"{system.name} did not last round {number}: {error}")
        else:
            return measured
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return None

    def _judge(self, number: int, measured: Measured) -> None:
        where = f"{measured.system}, round {number}"
        self.faults += [f"WRONG BYTES: {where}: {fault}" for fault in measured.wrong]
        if measured.failed:
            said = (
                f"{where}: not all served. First: {measured.failed[0]}; last: {measured.failed[-1]}"
            )
            (self.faults if measured.system in (SUBJECT, "straight") else self.notes).append(said)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK_ROUNDS} rounds only")
    parser.add_argument("--rounds", type=int, help=f"how many rounds (default {_ROUNDS})")
    parser.add_argument(
        "--only", action="append", choices=PARTS, metavar="ROW", help="|".join(PARTS)
    )
    parser.add_argument("--system", action="append", metavar="NAME", help="this system; repeatable")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every number here")
    parser.add_argument("--budget-s", type=float, default=780.0, help="begin no round past this")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    parts = [part for part in PARTS if not arguments.only or part in arguments.only]
    known = {system.name.lower(): system for system in (ENTREPOT, *PEERS)}
    systems = [
        system
        for name, system in known.items()
        if not arguments.system or name in {wanted.lower() for wanted in arguments.system}
    ]
    if shutil.disk_usage(tempfile.gettempdir()).free < _FREE_BYTES:
        _say(f"needs {_FREE_BYTES / 1e9:.0f} GB free in {tempfile.gettempdir()}")
        return 1
    # Ended from outside it must end its systems too, so the signal becomes an exception.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A system that hangs must not hold the bench for longer than it promises.
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("out of time: a system hangs"))
    signal.alarm(int(arguments.budget_s) + _OVERTIME_S)
    count = arguments.rounds or (_QUICK_ROUNDS if arguments.quick else _ROUNDS)
    columns = ["straight", *(system.name for system in systems)]
    with tempfile.TemporaryDirectory(prefix="entrepot-bench-") as folder:
        bench = Bench(Path(folder), parts, systems)
        bench.run(count, arguments.budget_s, random.Random(arguments.seed))
    table = results(bench.rounds, parts)
    machine = _machine(arguments.seed)
    print(f"\n{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; ", end="")
    print(f"{len(bench.rounds)} rounds, medians (least..most), order by seed {arguments.seed}\n")
    print(markdown(table, columns))
    for line in (*bench.notes, *bench.faults):
        print(f"\n* {line}")
    if arguments.json:
        document = {
            "machine": machine,
            "table": table,
            "rounds": [[asdict(one) for one in measured.values()] for measured in bench.rounds],
            "notes": bench.notes,
            "faults": bench.faults,
        }
        arguments.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return 1 if bench.faults else 0


def _machine(seed: int) -> dict[str, str | int]:
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next((line for line in cpuinfo.splitlines() if line.startswith("model name")), "?: ?")
    return {
        "cpu": model.partition(":")[2].strip(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "nginx": _version("nginx", "-v"),
        "docker-registry": _version("docker-registry", "--version"),
        "seed": seed,
    }


def _version(program: str, flag: str) -> str:
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if path is None:
        return "not installed"
    said = subprocess.run([path, flag], capture_output=True, text=True, check=False, timeout=10)
    return (said.stdout + said.stderr).strip()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
