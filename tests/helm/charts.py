"""The chart as Helm renders it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.programs import missing

CHART = Path(__file__).parents[2] / "helm" / "entrepot"
RELEASE, NAMESPACE = "cache", "mirrors"
NAME = f"{RELEASE}-entrepot"
ANSWER_S = 60.0

Document = dict[str, Any]
Values = dict[str, Any]


class HelmRefusedError(Exception):
    """Helm's own words."""


class Helm:
    """Helm in a process of its own; see `renderer.py`. A context manager."""

    def __init__(self, home: Path) -> None:
        """`home` is where it may leave what it leaves in a home."""
        for module, package in (
            ("helm_python", "helm-python-sdk"),
            ("kubernetes_validate", "kubernetes-validate"),
        ):
            if importlib.util.find_spec(module) is None:
                missing(f"needs {package} from PyPI, which has no build for every machine")
        self._process = subprocess.Popen(
            [sys.executable, "-P", Path(__file__).parent / "renderer.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "HOME": str(home), "KUBECONFIG": str(home / "none")},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(ANSWER_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def ask(self, do: str, **more: Any) -> Any:
        """Raises `HelmRefusedError`."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        process.stdin.flush()
        # A Helm that hangs must not take the whole run with it.
        watch = threading.Timer(ANSWER_S, process.kill)
        watch.start()
        line = process.stdout.readline()
        watch.cancel()
        assert line, "Helm ended, or took too long"
        reply = json.loads(line)
        if "error" in reply:
            raise HelmRefusedError(reply["error"])
        return reply["ok"]

    def render(self, values: Values, **opts: Any) -> Rendered:
        """As `helm template` does. Raises `HelmRefusedError`."""
        opts = {"name": RELEASE, "namespace": NAMESPACE, **opts}
        texts = self.ask("render", chart=str(CHART), values=values, opts=opts)
        notes = texts.pop("entrepot/templates/NOTES.txt")
        return Rendered(
            [one for text in texts.values() for one in yaml.safe_load_all(text) if one], notes
        )


@dataclass(slots=True)
class Rendered:
    """The objects of one set of values."""

    documents: list[Document]
    notes: str = field(repr=False)

    def of(self, kind: str) -> list[Document]:
        return [one for one in self.documents if one["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> Document:
        """The only one of its kind, or the one of that name."""
        found = [one for one in self.of(kind) if name in {None, one["metadata"]["name"]}]
        assert len(found) == 1, f"{len(found)} of {kind} {name or ''}"
        return found[0]

    @property
    def workload(self) -> Document:
        (found,) = self.of("Deployment") + self.of("StatefulSet")
        return found

    @property
    def pod(self) -> Document:
        """The proxy's pod template."""
        template: Document = self.workload["spec"]["template"]
        return template

    @property
    def container(self) -> Document:
        (container,) = self.pod["spec"]["containers"]
        return dict(container)

    @property
    def config_text(self) -> str:
        text: str = self.one("ConfigMap", NAME)["data"]["entrepot.yaml"]
        return text

    @property
    def config(self) -> dict[str, Any]:
        """`entrepot.yaml`, read."""
        config: dict[str, Any] = yaml.safe_load(self.config_text)
        return config

    def secret_paths(self) -> set[str]:
        """Where files from Secrets and ConfigMaps lie in the proxy's container."""
        mounts = {one["name"]: one["mountPath"] for one in self.container["volumeMounts"]}
        return {
            f"{mounts[volume['name']]}/{item['path']}"
            for volume in self.pod["spec"]["volumes"]
            for source in volume.get("projected", {}).get("sources", [])
            for part in source.values()
            for item in part["items"]
        }
