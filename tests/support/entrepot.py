"""Entrepot as users run it: a process with a configuration file and ports.

Nothing of the package is imported here. The tests see what a client or an
operator sees: the two listeners, the exit status and the log.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.support.distribution import installed
from tests.support.docker_registry import DockerRegistry
from tests.support.processes import ServerProcess, accepts, answers_http, free_port


def upstreams_of(registry: DockerRegistry) -> dict[str, dict[str, Any]]:
    """One registry in two roles: `lab`, with the names clients may know it by, and
    Docker Hub. Tags are asked for each time, so that each test sees the upstream.
    """
    names = ["registry.test", registry.address]
    return {
        "lab": {"url": registry.url, "tag_fresh_s": 0, "aliases": names},
        "docker.io": {"url": registry.url, "tag_fresh_s": 0},
    }


class Entrepot:
    """One replica with its own folder; ports and data survive `restart`.

    `upstreams` are entries of the configuration section of that name;
    `settings` are further top-level keys. It listens at `host`; its command comes
    after the words `within`, with `env` added to the environment. With a `tls_cert_file` among them the
    listener speaks TLS and `url` begins with https.
    """

    def __init__(
        self,
        folder: Path,
        *,
        upstreams: dict[str, dict[str, Any]],
        host: str = "127.0.0.1",
        within: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.admin_port = free_port(), free_port()
        self.address = f"{host}:{self.port}"
        secure = "tls_cert_file" in settings
        self.url = f"{'https' if secure else 'http'}://{self.address}"
        self.admin = f"http://{host}:{self.admin_port}"
        self.data_dir = folder / "data"
        self.config = folder / "entrepot.yaml"
        self.config.write_text(
            yaml.safe_dump(
                {
                    "version": 1,
                    "listen": self.address,
                    "admin_listen": f"{host}:{self.admin_port}",
                    "data_dir": str(self.data_dir),
                    "upstreams": upstreams,
                    **settings,
                }
            )
        )
        self._process = ServerProcess(
            [*within, installed(), "serve", "--config", self.config],
            log=folder / "log",
            ready=lambda: accepts(self.port) if secure else answers_http(self.port, host=host),
            env=env,
            # Its own folder: what is installed is tested, not what lies around here.
            cwd=folder,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.running

    def start(self) -> None:
        self._process.start()

    def stop(self) -> int | None:
        """SIGTERM; its exit status."""
        return self._process.stop()

    def kill(self) -> None:
        """SIGKILL, as a crash or the kernel's out-of-memory killer would."""
        self._process.kill()

    def pause(self) -> None:
        """It keeps its connections and does nothing, as a frozen machine does."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM, without waiting for the end; `stop` waits."""
        os.kill(self._process.pid, signal.SIGTERM)

    def restart(self) -> None:
        self.stop()
        self.start()

    def log_text(self) -> str:
        return self._process.log_text()
