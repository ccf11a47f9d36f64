"""A real upstream: Debian's docker-registry, with or without authentication.

Its access log is the evidence of the end-to-end tests: what it lists was asked
of the upstream, and the user agent says by whom. Its content is a folder, so a
registry can be stocked once and started by many tests on the same bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.processes import Running, ServerProcess, answers_http, free_port, wait_until
from tests.support.programs import program

CLIENT_AGENTS = re.compile(
    r"containerd/|docker/|containers/|skopeo/|buildah|libpod|podman", re.IGNORECASE
)
_LINE = re.compile(
    r'^\S+ - \S* \[[^]]*\] "(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+" (?P<status>\d+) \d+'
    r' "[^"]*" "(?P<agent>(?:[^"\\]|\\.)*)"$',
    re.MULTILINE,
)
_BLOB = re.compile(r"/v2/(?P<name>.+)/blobs/(?P<digest>sha256:[0-9a-f]{64})$")


@dataclass(frozen=True, slots=True)
class Asked:
    """One line of the access log."""

    method: str
    path: str
    status: int
    agent: str


class DockerRegistry(Running):
    """A docker-registry over the folder `content`; `auth` is its configuration
    section of that name. The port stays the same over restarts.
    """

    def __init__(self, folder: Path, content: Path, *, auth: dict[str, Any] | None = None) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        folder.mkdir(parents=True, exist_ok=True)
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(content)},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": {"addr": self.address, "secret": "only for tests"},
        }
        if auth:
            config["auth"] = auth
        path = folder / "config.yml"
        path.write_text(yaml.safe_dump(config))
        self._process = ServerProcess(
            [program("docker-registry"), "serve", path],
            log=folder / "log",
            ready=lambda: answers_http(self.port),
        )

    def asked(self) -> list[Asked]:
        """All requests answered so far, without the harness's own readiness probe."""
        found = _LINE.finditer(self._process.log_text())
        asked = [Asked(m["method"], m["path"], int(m["status"]), m["agent"]) for m in found]
        return [one for one in asked if one.agent]

    def blobs_sent(self) -> Counter[str]:
        """How often the bytes of each blob were asked for and sent."""
        paths = [one.path for one in self.asked() if one.method == "GET" and one.status < 300]
        return Counter(m["digest"] for path in paths if (m := _BLOB.search(path.split("?")[0])))

    def wait_for_blobs(self, digests: frozenset[str]) -> None:
        """The log line follows the last byte; wait until all of them are written."""
        wait_until(
            lambda: digests <= set(self.blobs_sent()),
            what=f"the upstream's log names the blobs {sorted(digests)}; it has {self.asked()}",
            deadline_s=10,
        )

    def clients_seen(self) -> set[str]:
        """User agents of pulling programs that came past the proxy; must be empty."""
        return {one.agent for one in self.asked() if CLIENT_AGENTS.search(one.agent)}
