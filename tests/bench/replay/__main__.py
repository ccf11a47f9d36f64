"""`python -m tests.bench.replay`: which blobs to drop, decided by replay.

Replays seeded synthetic traces against every policy at several cache sizes and prints
the share of requests and of bytes that hit, medians over the seeds. The same numbers on
every machine: no clock is read. A minute or two on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

from tests.bench.replay.policies import POLICIES, SHARES, Hits, replay
from tests.bench.replay.trace import KNOWN, WORKLOADS, facts, generate

# Policy, cache size as a share of the unique bytes.
Cell = tuple[str, float]


def measure(job: tuple[str, int, int]) -> tuple[dict[Cell, Hits], dict[str, float]]:
    """All policies on one trace: (workload, seed, requests)."""
    workload, seed, requests = job
    trace = generate(seed, WORKLOADS[workload], requests=requests)
    cells = {
        (policy, share): replay(trace, policy, share) for policy in POLICIES for share in SHARES
    }
    return cells, facts(trace)


def medians(runs: list[dict[Cell, Hits]]) -> dict[Cell, Hits]:
    return {
        cell: Hits(
            median(run[cell].objects for run in runs), median(run[cell].bytes for run in runs)
        )
        for cell in runs[0]
    }


def table(cells: dict[Cell, Hits]) -> str:
    """Markdown: hits in % of objects and of bytes."""
    head = "".join(f" {share:.0%} |" for share in SHARES)
    lines = [f"| objects / bytes |{head}", "|---" * (1 + len(SHARES)) + "|"]
    for policy in POLICIES:
        row = (cells[policy, share] for share in SHARES)
        text = "".join(f" {100 * hits.objects:.1f} / {100 * hits.bytes:.1f} |" for hits in row)
        lines.append(f"| {policy} |{text}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", choices=WORKLOADS, action="append")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--json", type=Path, help="write all medians there, too")
    args = parser.parse_args()
    document: dict[str, object] = {"seeds": args.seeds, "requests": args.requests}
    with ProcessPoolExecutor() as pool:
        for workload in args.workload or WORKLOADS:
            jobs = [(workload, seed, args.requests) for seed in range(args.seeds)]
            runs = list(pool.map(measure, jobs))
            cells = medians([run for run, _ in runs])
            print(f"## {workload}\n")
            for name, known in KNOWN.items():
                print(f"{name}: {median(said[name] for _, said in runs):.3g} (known: {known})")
            print(f"\n{table(cells)}\n", flush=True)
            document[workload] = [
                {"policy": policy, "share": share, "objects": hits.objects, "bytes": hits.bytes}
                for (policy, share), hits in cells.items()
            ]
    if args.json:
        args.json.write_text(json.dumps(document, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
