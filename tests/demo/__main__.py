"""Entrepot at work, on this machine only: `python -m tests.demo`, or `make demo`.

Three fake registries (one with a pull limit), two replicas with Redis and S3 if
`redis-server` and SeaweedFS are installed, else one alone; a crowd of clients that
pull as containerd does; now and then some trouble. With `prometheus` installed
(Debian has it) there is something for Grafana to look at.

Everything listens on loopback, lies in a temporary folder and ends with this.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
import time
from pathlib import Path

from tests.demo.boards import FOLDER
from tests.demo.crowd import Crowd
from tests.demo.play import NODES, playing
from tests.demo.stage import Stage

_REPORT_S = 10.0


def main() -> None:
    """Until Ctrl-C, or for `--seconds`."""
    words = argparse.ArgumentParser(prog="make demo", description=__doc__)
    words.add_argument("--seconds", type=float, help="end after this long; else with Ctrl-C")
    words.add_argument("--nodes", type=int, default=NODES, help="clients (%(default)s)")
    words.add_argument("--calm", action="store_true", help="no troubles")
    chosen = words.parse_args()
    with tempfile.TemporaryDirectory(prefix="entrepot-demo-") as folder:
        asyncio.run(_show(Path(folder), chosen.seconds, chosen.nodes, calm=chosen.calm))


async def _show(folder: Path, seconds: float | None, nodes: int, *, calm: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    _say("starting ...")
    async with playing(folder, tell=_say, trouble=not calm, nodes=nodes) as (stage, crowd):
        _say(_greeting(stage))
        end = None if seconds is None else time.monotonic() + seconds
        while not stop.is_set() and (end is None or time.monotonic() < end):
            left_s = _REPORT_S if end is None else min(_REPORT_S, end - time.monotonic())
            try:
                async with asyncio.timeout(max(0.0, left_s)):
                    await stop.wait()
            except TimeoutError:
                _say(_report(crowd))
        _say("ending ...")


def _say(text: str) -> None:
    print(text, flush=True)


def _greeting(stage: Stage) -> str:
    host = stage.replicas[0].address
    lines = [""]
    for number, one in enumerate(stage.replicas, 1):
        lines.append(f"replica {number}:  pulls {one.url}   admin {one.admin}/status")
    if stage.redis is None:
        lines.append("one replica: redis-server and SeaweedFS (weed) would make it two")
    if stage.prometheus is None:
        lines.append("no Prometheus: install it (Debian: prometheus) for the dashboards")
    else:
        lines.append(
            f"prometheus: {stage.prometheus.url}/graph   alerts {stage.prometheus.url}/alerts"
        )
        lines.append(f"dashboards: import {FOLDER}/*.json into a Grafana with that data source")
    lines += [
        "try:",
        f"  curl {stage.replicas[0].admin}/metrics",
        f"  skopeo inspect --tls-verify=false docker://{host}/docker.io/library/alpine",
        f"  podman pull --tls-verify=false {host}/docker.io/library/nginx   (bytes, not programs)",
        "",
    ]
    return "\n".join(lines)


def _report(crowd: Crowd) -> str:
    done = ", ".join(f"{count} x {what}" for what, count in crowd.pulled.most_common())
    return f"{crowd.received_bytes / 1e6:.0f} MB to clients; images: {done or 'none yet'}"


if __name__ == "__main__":
    main()
