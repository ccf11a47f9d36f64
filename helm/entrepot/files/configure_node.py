"""Keeps a node's mirror configuration there exactly as long as the mirror works.

Runs on every node, with the node's folders below `--root`. The files themselves are
made, and taken back, by `entrepot mirror-config`; this decides when: written after a
pull through the mirror succeeded, pulled through once more by what was written, taken
back when pulls keep failing and when the process is told to end (a release that is
uninstalled tells all its pods). A crash leaves the files: runtimes then fall back to
the registries themselves.
"""
# ruff: noqa: INP001 - a script in a chart, in no package

from __future__ import annotations

import argparse
import os
import signal
import ssl
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from types import FrameType

from pull import Image, PullFailedError, pull, tls_context

LEDGERS = {"containerd": "containerd.json", "crio": "containers.json"}
DROP_IN = "etc/containers/registries.conf.d/entrepot.conf"
PULL_LIMIT_S = 60.0
COMMAND_LIMIT_S = 30.0


class Node:
    """One node's runtime and the mirror that it should use."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self._asked = asked
        self._image = Image.parse(asked.image)
        self._root = Path(asked.root)
        self._tls: ssl.SSLContext | None = tls_context(asked.ca, insecure=False)
        self._ready = Path(asked.ready_file)
        self._ready.unlink(missing_ok=True)  # of a container that was killed
        self._written = False
        self._failures = 0

    def step(self) -> None:
        """Look once, and do what follows from it."""
        configured = self._written and self._there()
        there = f"{self._asked.server.rstrip('/')}/v2/{self._name_there()}"
        # All nodes look each minute: afterwards without the layers, to spare the network.
        trouble = self._trouble(there, layers=not configured)
        if trouble is not None:
            self._failures += 1
            say(f"the mirror fails from here, {self._failures} in a row: {trouble}")
            if self._failures >= self._asked.failures_max:
                self.take_back()
            return
        self._failures = 0
        if configured:
            return
        if not self._run("--server", self._asked.server, *self._wishes(), "--write"):
            self.take_back()
            return
        if (trouble := self._trouble_as_written()) is not None:
            say(f"what was written does not lead to a pull: {trouble}")
            self.take_back()
            return
        self._written = True
        self._ready.touch()
        say(f"{self._asked.runtime} pulls through {self._asked.server}")

    def take_back(self) -> None:
        """Put back what was there before. Nothing happens where nothing was written."""
        self._written = False
        self._ready.unlink(missing_ok=True)
        if self._there():
            self._run("--remove")

    def _there(self) -> bool:
        return (self._root / "etc/entrepot/mirror-config" / LEDGERS[self._asked.runtime]).exists()

    def _trouble(self, base: str, *, layers: bool) -> str | None:
        try:
            pull(base, self._image, tls=self._tls, limit_s=PULL_LIMIT_S, layers=layers)
        except PullFailedError as error:
            return str(error)
        return None

    def _trouble_as_written(self) -> str | None:
        try:
            base = self._as_written()
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"it can't be read: {error!r}"
        return None if base is None else self._trouble(base, layers=True)

    def _name_there(self) -> str:
        """What the mirror calls the image's registry."""
        names = dict(word.partition("=")[::2] for word in self._asked.upstream)
        return names.get(self._image.registry) or self._image.registry

    def _wishes(self) -> list[str]:
        words = [word for name in self._asked.upstream for word in ("--upstream", name)]
        if self._asked.ca:
            words += ["--ca", self._asked.ca]
        if self._asked.client_version:
            words += ["--client-version", self._asked.client_version]
        return words

    def _as_written(self) -> str | None:
        """Where the runtime will turn to for the image; None: the image's registry was
        not among those to mirror. Raises what reading raises.
        """
        registry = self._image.registry
        if self._asked.runtime == "crio":
            document = tomllib.loads((self._root / DROP_IN).read_text())
            for entry in document["registry"]:
                if entry.get("prefix") == registry:
                    mirror = entry["mirror"][0]
                    scheme = "http" if self._asked.server.startswith("http:") else "https"
                    host, _, path = mirror["location"].partition("/")
                    return f"{scheme}://{host}/v2/{path}"
            return None
        file = self._root / self._asked.hosts_folder.lstrip("/") / registry / "hosts.toml"
        if not file.exists():
            return None
        hosts = tomllib.loads(file.read_text())["host"]
        return next((url for url in hosts if url.startswith(self._asked.server)), None)

    def _run(self, *words: str) -> bool:
        argv = ["entrepot", "mirror-config", self._asked.runtime, "--root", str(self._root), *words]
        try:
            done = subprocess.run(  # noqa: S603 - our own words
                argv, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            say(f"{' '.join(argv)}: {error}")
            return False
        for line in (done.stdout + done.stderr).splitlines():
            say(line)
        changed = any(
            line.startswith(("written", "restored", "deleted")) for line in done.stdout.splitlines()
        )
        if changed and self._asked.runtime == "crio":
            reload_crio(Path(self._asked.proc))
        return done.returncode == 0


def reload_crio(proc: Path) -> None:
    """Have CRI-O read its registries again: SIGHUP, as its unit's reload does."""
    for comm in proc.glob("[0-9]*/comm"):
        try:
            if comm.read_text().strip() == "crio":
                os.kill(int(comm.parent.name), signal.SIGHUP)
                say(f"told CRI-O, process {comm.parent.name}, to read its registries again")
                return
        except (OSError, ValueError):  # it ended, or is not ours to see
            continue
    say("no process called crio: it reads its registries when it starts next")


def say(text: str) -> None:
    """A line of the pod's log."""
    print(text, flush=True)  # noqa: T201 - the log


def main(arguments: list[str]) -> int:
    """Until SIGTERM; exit status 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", choices=sorted(LEDGERS), required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--upstream", action="append", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--root", required=True)
    parser.add_argument("--hosts-folder", default="/etc/containerd/certs.d")
    parser.add_argument("--ready-file", required=True)
    parser.add_argument("--ca")
    parser.add_argument("--client-version")
    parser.add_argument("--interval", type=float, default=60.0)
    parser.add_argument("--failures-max", type=int, default=3)
    parser.add_argument("--proc", default="/proc")
    asked = parser.parse_args(arguments)

    ending = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    node = Node(asked)
    while not ending.is_set():
        node.step()
        ending.wait(asked.interval)
    node.take_back()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
