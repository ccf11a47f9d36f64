"""`python -m tests.bench.cluster`: three replicas with real Redis and S3, in one table.

Loopback only, bounded in time and disk. The exit status is 0 whatever the times
are, and 1 if a byte was wrong, if a pull through Entrepot failed, or if Entrepot
did not start or did not last.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.bench.__main__ import _machine, _say
from tests.bench.cluster.library import Library, make_library
from tests.bench.cluster.parts import PARTS, STREAM_BLOBS, peer
from tests.bench.cluster.stage import Stage
from tests.bench.cluster.table import PEER, results
from tests.bench.processes import DidNotStart
from tests.bench.report import SUBJECT, Round, markdown
from tests.bench.rounds import Measured
from tests.bench.systems import NotHere

_LARGE = {"crowd": 200_000_000, "killed": 200_000_000, "cold": 200_000_000}
_STREAMS = dict.fromkeys(STREAM_BLOBS, 20_000_000)
_IMAGES = 200
_TRACE_BLOBS = 300
_FREE_BYTES = 8_000_000_000
_ROUNDS = 3
_OVERTIME_S = 60
_LOG_CHARS = 600


class Bench:
    """All rounds; `notes` are for the reader, `faults` make the exit status 1."""

    def __init__(self, folder: Path, parts: list[str], *, with_peer: bool) -> None:
        self.folder = folder
        self.parts = parts
        self.with_peer = with_peer
        self.rounds: list[Round] = []
        self.notes: list[str] = []
        self.faults: list[str] = []

    def run(self, count: int, budget_s: float, seed: int) -> None:
        began = time.monotonic()
        content = self.folder / "content"
        content.mkdir()
        library = make_library(
            content, large=_LARGE | _STREAMS, images=_IMAGES, trace=_TRACE_BLOBS, seed=seed
        )
        _say(f"content: {time.monotonic() - began:.0f} s")
        for number in range(1, count + 1):
            round_began = time.monotonic()
            self.rounds.append(self._round(number, content, library))
            round_s = time.monotonic() - round_began
            _say(f"round {number} of {count}: {round_s:.0f} s")
            left_s = budget_s - (time.monotonic() - began)
            if number < count and left_s < round_s * 1.1:
                self.notes.append(f"stopped after round {number} of {count}: out of time")
                break

    def _round(self, number: int, content: Path, library: Library) -> Round:
        done: Round = {}
        folder = self.folder / f"round-{number}"
        own = Measured(SUBJECT)
        done[SUBJECT] = own
        try:
            with Stage(folder, content, library, number, own) as stage:
                if self.with_peer:
                    self._peer(number, stage, done)
                stage.result = own
                for name in self.parts:
                    began = time.monotonic()
                    PARTS[name](stage)
                    _say(f"  {name}: {time.monotonic() - began:.1f} s")
                if own.failed:
                    own.failed.append(_last_words(folder))
        except (DidNotStart, NotHere) as error:
            self.faults.append(f"round {number} did not start: {error}")
        except (subprocess.SubprocessError, OSError) as error:
            said = f"round {number} did not last: {error!r}; {_last_words(folder)}"
            self.faults.append(said)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._judge(number, own, self.faults)
        return done

    def _peer(self, number: int, stage: Stage, done: Round) -> None:
        stage.result = measured = Measured(PEER)
        began = time.monotonic()
        try:
            peer(stage)
        except (DidNotStart, NotHere, subprocess.SubprocessError, OSError) as error:
            self.with_peer = False
            self.notes.append(f"{PEER}: not measured: {error!r}")
            return
        finally:
            _say(f"  {PEER}: {time.monotonic() - began:.1f} s")
        done[PEER] = measured
        self._judge(number, measured, self.notes)

    def _judge(self, number: int, measured: Measured, where: list[str]) -> None:
        title = f"{measured.system}, round {number}"
        # Wrong bytes through the peer are the peer's news, not Entrepot's fault.
        where += [f"WRONG BYTES: {title}: {fault}" for fault in measured.wrong]
        if measured.failed:
            where.append(f"{title}: not all served: " + "; ".join(measured.failed)[:2000])


def _last_words(folder: Path) -> str:
    """The ends of the replicas' logs, while they are there."""
    logs = sorted(folder.glob("*-[0-9]/log"))
    return " | ".join(
        f"{log.parent.name}: {log.read_text(errors='replace')[-_LOG_CHARS:]}" for log in logs
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument(
        "--only", action="append", choices=PARTS, metavar="PART", help="|".join(PARTS)
    )
    parser.add_argument("--no-peer", action="store_true", help=f"without {PEER}")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every number here")
    parser.add_argument("--budget-s", type=float, default=640.0, help="begin no round past this")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    parts = [part for part in PARTS if not arguments.only or part in arguments.only]
    if shutil.disk_usage(tempfile.gettempdir()).free < _FREE_BYTES:
        _say(f"needs {_FREE_BYTES / 1e9:.0f} GB free in {tempfile.gettempdir()}")
        return 1
    # Ended from outside it must end its servers too, so the signal becomes an exception.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("out of time: something hangs"))
    signal.alarm(int(arguments.budget_s) + _OVERTIME_S)
    with tempfile.TemporaryDirectory(prefix="entrepot-bench-") as folder:
        bench = Bench(Path(folder), parts, with_peer="crowd" in parts and not arguments.no_peer)
        bench.run(arguments.rounds, arguments.budget_s, arguments.seed)
    table = results(bench.rounds, parts)
    machine = _machine(arguments.seed)
    print(f"\n{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; ", end="")
    print(f"{len(bench.rounds)} rounds, medians (least..most), seed {arguments.seed}\n")
    print(markdown(table, [SUBJECT, PEER]))
    for line in (*bench.notes, *bench.faults):
        print(f"\n* {line}")
    if arguments.json:
        document = {
            "machine": machine,
            "table": table,
            "rounds": [[asdict(one) for one in done.values()] for done in bench.rounds],
            "notes": bench.notes,
            "faults": bench.faults,
        }
        arguments.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return 1 if bench.faults else 0


if __name__ == "__main__":
    sys.exit(main())
