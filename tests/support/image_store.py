"""Building an image from a Dockerfile and running it, in a store of its own.

buildah builds, podman loads the archive and runs it; they share their store. The base is made on this
machine (`oci_base.py`), under the name that the Dockerfile asks for.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.containers_tools import Settings
from tests.support.oci_base import make_root
from tests.support.processes import ServerProcess
from tests.support.programs import Outcome, attempt, needs_containers, program, run

_BUILD_S = 300.0


def _driver(folder: Path) -> str:
    """overlay where this file system can be under one: vfs copies all for each container."""
    lower, upper, work, merged = (folder / name for name in ("lower", "upper", "work", "merged"))
    for one in (lower, upper, work, merged):
        one.mkdir(parents=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    words = ("unshare", "--mount", "mount", "-t", "overlay", "-o", options, "overlay", merged)
    return "vfs" if attempt(*words).code else "overlay"


class ImageStore:
    """An empty store in the new folder `folder`."""

    def __init__(self, folder: Path) -> None:
        needs_containers()
        program("runc")
        settings = Settings(folder)
        self._folder = folder
        # Nothing here has systemd, which podman would have time the health checks.
        self._env = {**settings.env, "DISABLE_HC_SYSTEMD": "true"}
        self._policy = f"--signature-policy={settings.policy}"
        place = [f"--root={folder / 'root'}", f"--runroot={folder / 'run'}"]
        place.append(f"--storage-driver={_driver(folder / 'probe')}")
        self._buildah = [program("buildah"), *place]
        self._podman = [program("podman"), *place, f"--tmpdir={folder / 'tmp'}"]

    def make_base(self, name: str) -> None:
        """Debian with Python, tagged `name`."""
        context = self._folder / "base"
        context.mkdir()
        make_root(context / "root")
        (context / "Dockerfile").write_text("FROM scratch\nCOPY root/ /\n")
        words = ["build", self._policy, "--quiet", "--isolation=chroot", "-t", name, context]
        run(*self._buildah, *words, env=self._env, timeout_s=_BUILD_S)

    def build_archive(self, context: Path, archive: Path) -> None:
        """The release's own way, with dist/ in `context`, asking no registry and no
        index for anything.
        """
        words = [self._policy, "--quiet", "--pull-never", "--build-arg=PIP_NO_INDEX=1"]
        run(
            *(context / "deploy" / "image" / "archive.sh", archive),
            env={
                **self._env,
                "ENGINE": " ".join(self._buildah),
                "BUILDAH_ISOLATION": "chroot",
                "BUILD_ARGS": " ".join(words),
                "CONTEXT": str(context),
            },
            timeout_s=_BUILD_S,
        )

    def close(self) -> None:
        """Remove all images, and the mount that keeps the folder from being removed."""
        self.try_podman("rmi", "--all", "--force")
        attempt("umount", "--lazy", "--quiet", self._folder / "root" / "overlay")

    def inspect(self, name: str) -> dict[str, Any]:
        (found,) = json.loads(self.podman("image", "inspect", name).stdout)
        return dict(found)

    def podman(self, *words: str | Path) -> Outcome:
        return run(*self._podman, *words, env=self._env)

    def try_podman(self, *words: str | Path) -> Outcome:
        return attempt(*self._podman, *words, env=self._env)

    @contextlib.contextmanager
    def running(
        self, name: str, *words: str | Path, log: Path, ready: Callable[[], bool]
    ) -> Iterator[ServerProcess]:
        """`podman run WORDS` in the foreground, under the container's name `name`."""
        argv = [*self._podman, "run", f"--name={name}", "--network=host", *words]
        process = ServerProcess(argv, log=log, ready=ready, env=self._env, stop_s=60.0)
        try:
            process.start(deadline_s=120.0)
            yield process
        finally:
            process.stop()
            self.try_podman("rm", "--force", "--time=0", name)
