"""A Docker daemon of one's own, classic image store, Hub mirrored elsewhere.

Docker mirrors Hub only, falling back to Hub itself; the tests run where Hub
can't be reached, or use names that it does not have. It gets no bridge and no
packet filter, so that it leaves the machine's network as it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.processes import ServerProcess, accepts
from tests.support.programs import Outcome, attempt, needs_containers, program, run


class Dockerd:
    """A running dockerd with an empty store; `mirrors` are URLs for Hub.

    `config`: its daemon.json, instead of an empty one.
    """

    def __init__(
        self, folder: Path, *, mirrors: Sequence[str] = (), config: Path | None = None
    ) -> None:
        needs_containers()
        self._docker = program("docker", package="docker.io")
        folder.mkdir(parents=True)
        self._folder = folder
        self._socket = folder / "socket"
        self._config = config
        # The user's own credentials and contexts are no part of this.
        self._env = {"DOCKER_CONFIG": str(folder / "client")}
        self._process = ServerProcess(
            [
                program("dockerd", package="docker.io"),
                f"--config-file={config or folder / 'daemon.json'}",
                f"--host=unix://{self._socket}",
                f"--data-root={folder / 'data'}",
                f"--exec-root={folder / 'exec'}",
                f"--pidfile={folder / 'pid'}",
                "--storage-driver=vfs",
                "--bridge=none",
                "--iptables=false",
                "--ip6tables=false",
                "--ip-forward=false",
                *[f"--registry-mirror={url}" for url in mirrors],
            ],
            log=folder / "log",
            ready=lambda: accepts(self._socket) and self._try("version").code == 0,
        )

    def __enter__(self) -> Self:
        if self._config is None:
            (self._folder / "daemon.json").write_text("{}")
        self._process.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.stop()
        for mounted in (self._folder / "exec" / "netns").glob("*"):
            attempt(program("umount", package="mount"), mounted)
        shutil.rmtree(self._folder / "data", ignore_errors=True)

    def _try(self, *words: str) -> Outcome:
        return attempt(self._docker, f"--host=unix://{self._socket}", *words, env=self._env)

    def _run(self, *words: str) -> Outcome:
        return run(self._docker, f"--host=unix://{self._socket}", *words, env=self._env)

    def pull(self, image: str) -> None:
        self._run("pull", image)

    def try_push(self, image: str) -> Outcome:
        return self._try("push", image)

    def tag(self, image: str, name: str) -> None:
        self._run("tag", image, name)

    def save(self, image: str, path: Path) -> None:
        self._run("save", "--output", str(path), image)

    def digests(self, image: str) -> str:
        """The repository digests that the daemon remembers for an image."""
        return self._run("image", "inspect", "--format", "{{.RepoDigests}}", image).stdout

    def forget(self) -> None:
        """Remove every image and every layer."""
        self._run("image", "prune", "--all", "--force")

    def images(self) -> list[str]:
        return self._run("images", "--all", "--quiet").stdout.split()

    def says(self, image: str) -> str:
        """Run the image's own command; what it printed."""
        return self._run("run", "--rm", "--network=none", image).stdout.strip()
