"""Starts the systems that are compared, each as its makers would have it run.

A `System` says how to start one: in an empty folder of its own, on a free
loopback port, on given cores, caching a registry. The peers are in `peers.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import Tree, answers, free_port
from tests.support.private_ca import PrivateCa

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / ".bench"
"""Where `make bench-peers` puts what it builds."""


# Taken out of the environment, where Entrepot would wonder what it is to set.
_FOLDER = os.environ.pop("ENTREPOT_BENCH_BIN", "")


class NotHere(Exception):
    """A peer that this machine does not have; the message says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one is to run. `tls`: serve with this certificate; None: plain HTTP."""

    folder: Path
    port: int
    upstream_port: int
    tls: PrivateCa | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """`plan` writes the configuration and returns the command line. Raises `NotHere`.

    `tls`: it can end TLS itself. `by_image`: it fetches whole images only, so
    whoever wants a blob asks for the manifest first.
    """

    name: str
    plan: Callable[[Place], list[str]]
    tls: bool = True
    by_image: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """A system that answers on `port`."""

    system: System
    port: int
    tree: Tree
    folder: Path

    def last_words(self) -> str:
        """The end of what it logged."""
        return (self.folder / "log").read_text(errors="replace")[-800:]


def start(
    system: System,
    folder: Path,
    upstream_port: int,
    *,
    cpus: list[int],
    tls: PrivateCa | None = None,
) -> Running:
    """Start with an empty cache in `folder`. Raises `NotHere`, `DidNotStart`."""
    folder.mkdir(parents=True)
    place = Place(folder, free_port(), upstream_port, tls)
    tree = Tree(system.plan(place), log=folder / "log", cwd=ROOT, cpus=cpus)
    url = f"{'https' if tls else 'http'}://127.0.0.1:{place.port}/v2/"
    try:
        tree.wait_ready(lambda: answers(url, tls.ca if tls else None), every_s=0.005)
    except BaseException:
        tree.stop()
        raise
    return Running(system, place.port, tree, folder)


def program(*names: str) -> str:
    """The first of these that is in `ENTREPOT_BENCH_BIN`, in `.bench` or on the path.

    Raises `NotHere`.
    """
    folders = (_FOLDER, str(BUILT), os.environ["PATH"])
    for name in names:
        path = shutil.which(name, path=os.pathsep.join((*filter(None, folders), "/usr/sbin")))
        if path is not None:
            return path
    raise NotHere(f"{names[0]} is not installed")


def entrepot_settings(place: Place) -> dict[str, object]:
    """Its configuration, as a document."""
    settings: dict[str, object] = {
        "version": 1,
        "listen": f"127.0.0.1:{place.port}",
        "admin_listen": f"127.0.0.1:{free_port()}",
        "data_dir": str(place.folder / "data"),
        "access_log": False,
        "default_upstream": "lab",
        "upstreams": {"lab": {"url": f"http://127.0.0.1:{place.upstream_port}"}},
    }
    if place.tls:
        settings |= {"tls_cert_file": str(place.tls.cert), "tls_key_file": str(place.tls.key)}
    return settings


def entrepot_command(place: Place, settings: dict[str, object]) -> list[str]:
    """Writes `settings` and returns the command line."""
    config = place.folder / "entrepot.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    return [sys.executable, "-m", "proxy", "serve", "--config", str(config)]


ENTREPOT = System(
    name="Entrepot", plan=lambda place: entrepot_command(place, entrepot_settings(place))
)
