"""A real Prometheus that scrapes the demo's replicas, and questions to it."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from tests.support.processes import ServerProcess, free_port

ALERTS = Path(__file__).parents[2] / "grafana" / "alerts"
RULES = ALERTS / "entrepot.rules.yaml"
SCRAPE_S = 1
_ASK_S = 20.0


class Prometheus:
    """`targets` are `host:port` of admin listeners. `program`: where it is installed."""

    def __init__(self, program: str, folder: Path, targets: list[str], *, port: int = 0) -> None:
        folder.mkdir(parents=True)
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = folder / "prometheus.yml"
        every = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
        job = {"job_name": "entrepot", "static_configs": [{"targets": targets}]}
        config.write_text(
            yaml.safe_dump({"global": every, "scrape_configs": [job], "rule_files": [str(RULES)]})
        )
        self._process = ServerProcess(
            [
                *(program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"),
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--storage.tsdb.retention.time=1d",
            ],
            log=folder / "log",
            ready=self._ready,
            cwd=folder,
        )

    def start(self) -> None:
        """Up and answering."""
        self._process.start()

    def stop(self) -> None:
        """Gone."""
        self._process.stop()

    def _ready(self) -> bool:
        """It answers 503 while it only begins."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2):
                return True
        except OSError:
            return False

    def ask(self, path: str, **query: Any) -> Any:
        """The `data` of an answer of its HTTP API. Blocks; raises what urllib raises."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=_ASK_S) as answer:
            return json.load(answer)["data"]

    def now(self, expr: str) -> list[Any]:
        """The series of an expression, each with `metric` and `value`."""
        return list(self.ask("query", query=expr)["result"])

    def range(self, expr: str, *, since: float, until: float, step_s: float = 1) -> list[Any]:
        """The series of an expression, each with `metric` and `values`."""
        return list(
            self.ask("query_range", query=expr, start=since, end=until, step=step_s)["result"]
        )
