"""The high side of an air gap, all of it in one network namespace that has nothing but
loopback: an empty Entrepot, the import, and real clients that pull and run what came.

Run as `python -m tests.support.high_side FOLDER` inside that namespace; it tells what it
saw as JSON. What it is given lies in FOLDER: `bundle` files, `low.pub`, and `asked.json`.
"""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.support.containerd import Containerd, write_mirror
from tests.support.containers_tools import Podman, Settings
from tests.support.distribution import installed
from tests.support.dockerd import Dockerd
from tests.support.entrepot import Entrepot

# Not an address of anything, in a namespace without a route to anything.
_UPSTREAM = "http://registry.test"


def main(folder: Path) -> None:
    """Prints one JSON object."""
    asked = json.loads((folder / "asked.json").read_text())
    upstreams: dict[str, dict[str, Any]] = {
        "lab": {"url": _UPSTREAM, "aliases": ["registry.test"]},
        "docker.io": {"url": _UPSTREAM},
    }
    high = Entrepot(folder / "high", upstreams=upstreams, presets=False, offline=asked["offline"])
    seen: dict[str, Any] = {"interfaces": sorted(name for _, name in socket.if_nameindex())}
    with high:
        seen["before"] = _status(f"{high.url}/v2/lab/{asked['repository']}/manifests/multi")
        imported = _import(folder, high, asked["bundle"])
        seen["import"] = imported.stdout + imported.stderr
        seen["code"] = imported.returncode
        if imported.returncode == 0:
            seen["sha256"] = {path: _sha256(f"{high.url}/v2/lab/{path}") for path in asked["paths"]}
            seen["says"] = _clients(folder, high, asked)
    json.dump(seen, sys.stdout)


def _import(folder: Path, high: Entrepot, bundle: str) -> subprocess.CompletedProcess[str]:
    argv = [installed(), "import", folder / bundle, "--key", folder / "low.pub"]
    argv += ["--config", high.config]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def _clients(folder: Path, high: Entrepot, asked: dict[str, Any]) -> dict[str, str]:
    """What each image says by each of its names, by client."""
    jobs: dict[str, Callable[[], dict[str, str]]] = {
        "docker": lambda: _docker(folder, high, asked),
        "containerd": lambda: _containerd(folder, high, asked),
        "podman": lambda: _podman(folder, high, asked),
    }
    with ThreadPoolExecutor(len(jobs)) as pool:
        futures = {name: pool.submit(jobs[name]) for name in asked["clients"]}
        return {
            f"{client} {name}": said
            for client, future in futures.items()
            for name, said in future.result().items()
        }


def _docker(folder: Path, high: Entrepot, asked: dict[str, Any]) -> dict[str, str]:
    said = {}
    with Dockerd(folder / "d", mirrors=[high.url]) as docker:
        for reference in asked["references"]:
            # By Hub's name, and by Entrepot's own.
            for name in (asked["hub"], f"{high.address}/lab/{asked['repository']}"):
                image = f"{name}{reference}"
                docker.pull(image)
                said[image.replace(high.address, "high")] = docker.says(image)
    return said


def _containerd(folder: Path, high: Entrepot, asked: dict[str, Any]) -> dict[str, str]:
    write_mirror(folder / "certs", "registry.test", f"{high.url}/v2/lab", override_path=True)
    said = {}
    with Containerd(folder / "c") as containerd:
        for reference in asked["references"]:
            image = f"registry.test/{asked['repository']}{reference}"
            containerd.pull(image, folder / "certs")
            said[image] = containerd.says(image)
    return said


def _podman(folder: Path, high: Entrepot, asked: dict[str, Any]) -> dict[str, str]:
    mirrors = {"registry.test": f"{high.address}/lab"}
    settings = Settings(folder / "tools", mirrors=mirrors, insecure=(high.address,))
    podman, said = Podman(settings, "store"), {}
    for reference in asked["references"]:
        image = f"registry.test/{asked['repository']}{reference}"
        podman.pull(image)
        said[image] = podman.says(image)
    return said


def _sha256(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return hashlib.sha256(answer.read()).hexdigest()


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


if __name__ == "__main__":
    main(Path(sys.argv[1]))
