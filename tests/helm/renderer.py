"""Helm, as a library in a process of its own: lines of JSON in, lines of JSON out.

The library is Helm's Go SDK (from PyPI). Its runtime brings threads and signal
handlers, which have no business in the process that runs the tests.

    {"do": "render", "chart": …, "values": …, "opts": …}    -> {"ok": {template: text}}
    {"do": "lint", "chart": …, "values": …}                 -> {"ok": {"messages": …}}
    {"do": "open", "kubeconfig": path, "namespace": …}      -> {"ok": null}
    {"do": "install" | "upgrade" | "uninstall", "name": …}  -> {"ok": {…, "manifest": …}}

What Helm refuses comes back as {"error": text}. Ends at the end of its input.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import helm_python as helm


class Renderer:
    """Holds the cluster that was opened, between requests."""

    def __init__(self) -> None:
        self._cluster: helm.Config | None = None

    def answer(self, asked: dict[str, Any]) -> Any:
        match asked["do"]:
            case "render":
                with helm.Chart.load(asked["chart"]) as chart:
                    chart.validate_schema(chart.merge_values(asked["values"]))
                    return chart.render(asked["values"], **asked["opts"])
            case "lint":
                return helm.lint(
                    asked["chart"], asked["values"], strict=True, kube_version="v1.31.0"
                )
            case "open":
                self.close()
                # Releases in memory: a test has one cluster and one process.
                self._cluster = helm.Config(
                    kubeconfig_path=asked["kubeconfig"],
                    namespace=asked["namespace"],
                    storage_driver="memory",
                )
                return None
            case "uninstall":
                return self._open.uninstall(asked["name"])
            case "install":
                return self._open.install(asked["chart"], asked["name"], asked["values"])
            case "upgrade":
                return self._open.upgrade(asked["chart"], asked["name"], asked["values"])
        raise ValueError(asked["do"])

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    @property
    def _open(self) -> helm.Config:
        assert self._cluster is not None, "open comes first"
        return self._cluster


def main() -> None:
    renderer = Renderer()
    for line in sys.stdin:
        try:
            reply = {"ok": renderer.answer(json.loads(line))}
        except helm.HelmError as error:
            reply = {"error": str(error)}
        print(json.dumps(reply), flush=True)
    renderer.close()


if __name__ == "__main__":
    main()
