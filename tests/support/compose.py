"""A compose file's services as processes on this machine.

No engine and no images: each service's own program is run with the words, the
configuration and the secrets that the file gives it. All that changes is where
things are: `host:port` of the compose networks becomes a loopback port, and paths
inside containers become folders.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tests.support.distribution import ROOT
from tests.support.processes import free_port

DEPLOY = ROOT / "deploy"
REPLICAS = ("entrepot-1", "entrepot-2")


def services(name: str) -> dict[str, dict[str, Any]]:
    """The services of a file in deploy/, merge keys resolved."""
    document = yaml.safe_load((DEPLOY / name).read_text())
    return dict(document["services"])


class Here:
    """Where a container's things are on this machine.

    `ports` maps `host:port` to a loopback port; `moved` maps paths inside containers.
    """

    def __init__(self, folder: Path, *addresses: str, moved: dict[str, Path]) -> None:
        self.folder = folder
        self.ports = {address: free_port() for address in addresses}
        self._moved = moved

    def text(self, words: str) -> str:
        """`words` with every known place replaced; longest first."""
        for path in sorted(self._moved, key=len, reverse=True):
            words = re.sub(
                rf"(?<![\w./-]){re.escape(path)}(?![\w-])", str(self._moved[path]), words
            )
        for address in sorted(self.ports, key=len, reverse=True):
            pattern = rf"(?<![\w.-]){re.escape(address)}(?!\d)"
            words = re.sub(pattern, f"127.0.0.1:{self.ports[address]}", words)
        return words

    def file(self, source: Path, name: str) -> Path:
        """A copy of a configuration file with its places replaced."""
        copy = self.folder / name
        copy.write_text(self.text(source.read_text()))
        return copy
