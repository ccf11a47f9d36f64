"""`python -m tests.bench`: Entrepot and its peers, side by side, in one table.

Loopback only, bounded in time and disk. It never fails because a machine is
slow: the exit status is 0 whatever the times are, and 1 if a byte was wrong,
or if Entrepot did not start or did not serve. A run of the whole table is kept
in `tests/bench/results`.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.bench import kept
from tests.bench.machine import describe, line
from tests.bench.peers import PEERS
from tests.bench.processes import DidNotStart
from tests.bench.report import SUBJECT, markdown, results
from tests.bench.rounds import STRAIGHT, Bench, say
from tests.bench.rows import ROWS
from tests.bench.stage import CORES, LOAD_CORES
from tests.bench.systems import ENTREPOT

_ROUNDS = 3
_BUDGET_S = 1900.0
_QUICK_SHRINK = 8
_OVERTIME_S = 500
_BUSY = 0.7  # load average of the minute before
_FREE_BYTES = 12_000_000_000

# The cluster bench's names for these two.
_machine, _say = describe, say


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"one round, sizes divided by {_QUICK_SHRINK}: to see that it runs, not to compare",
    )
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help=f"default {_ROUNDS}")
    parser.add_argument("--rows", metavar="ROW,…", help=",".join(ROWS))
    names = ",".join(system.name for system in PEERS)
    parser.add_argument("--peers", metavar="PEER,…", help=f"{names}, or none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the result here")
    parser.add_argument("--budget-s", type=float, default=_BUDGET_S, help="begin no turn past this")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments = parser.parse_args()
    arguments.rows = _chosen(parser, arguments.rows, list(ROWS))
    arguments.peers = _chosen(parser, arguments.peers, [peer.name for peer in PEERS])
    return arguments


def _chosen(parser: argparse.ArgumentParser, said: str | None, known: list[str]) -> list[str]:
    if said is None:
        return known
    wanted = [name.strip() for name in said.split(",") if name.strip() not in ("", "none")]
    if unknown := sorted(set(wanted) - set(known)):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    return [name for name in known if name in wanted]


def main() -> int:
    arguments = _arguments()
    rows = [ROWS[name] for name in arguments.rows]
    systems = [ENTREPOT, *(peer for peer in PEERS if peer.name in arguments.peers)]
    whole = len(rows) == len(ROWS) and len(systems) == len(PEERS) + 1 and not arguments.quick
    if shutil.disk_usage(tempfile.gettempdir()).free < _FREE_BYTES:
        say(f"needs {_FREE_BYTES / 1e9:.0f} GB free in {tempfile.gettempdir()}")
        return 1
    # Ended from outside it must end its systems too, so the signal becomes an exception.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A system that hangs must not hold the bench for longer than it promises.
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("out of time: a system hangs"))
    signal.alarm(int(arguments.budget_s) + _OVERTIME_S)
    busy = os.getloadavg()[0]
    os.sched_setaffinity(0, LOAD_CORES)  # whatever is started here without a word is load
    with tempfile.TemporaryDirectory(prefix="entrepot-bench-") as folder:
        bench = Bench(Path(folder), rows, systems)
        try:
            bench.run(
                1 if arguments.quick else arguments.rounds,
                budget_s=arguments.budget_s,
                order=random.Random(arguments.seed),
                shrink=_QUICK_SHRINK if arguments.quick else 1,
            )
        except DidNotStart as error:
            bench.faults.append(f"the upstream did not start: {error}")
    if len(CORES) == 1:
        bench.notes.append("one core only: servers and load shared it")
    if busy > _BUSY:
        bench.notes.append(f"{kept.BUSY} (load {busy:.1f}) when this began: don't compare")
    if arguments.quick:
        bench.notes.append(f"quick: sizes are a {_QUICK_SHRINK}th of what the titles say")
    if shutil.which("wrk") is None:
        bench.notes.append("requests were made by our own client, which is slower than wrk")
    machine = describe(arguments.seed)
    table = results(bench.rounds, rows)
    columns = [STRAIGHT, *(system.name for system in systems)]
    columns = [name for name in columns if any(name in entry["median"] for entry in table)]
    spread = " (least..most)" if len(bench.rounds) > 1 else ""
    print(f"\n{line(machine)}; {kept.sampling(len(bench.rounds))}{spread}, ", end="")
    print(f"order by seed {arguments.seed}\n")
    print(markdown(table, columns))
    for text in (*bench.notes, *bench.faults):
        print(f"\n* {text}")
    result = kept.Result(
        version=kept.VERSION,
        machine=machine,
        rounds=len(bench.rounds),
        columns=columns,
        table=table,
        notes=bench.notes,
        faults=bench.faults,
    )
    if arguments.json:
        kept.write(arguments.json, result)
    elif whole:
        say(f"\nkept as {kept.keep(result)}")
    print(f"\n{sum(e['verdict'] == 'FAIL' for e in table)} of {SUBJECT}'s limits are not met.")
    return 1 if bench.faults else 0


if __name__ == "__main__":
    sys.exit(main())
