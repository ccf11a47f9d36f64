"""containerd of one's own, and hosts.toml files that point it at a mirror.

`ctr` resolves and fetches with containerd's own resolver, which is what kubelet
and Docker's newer image store use. Nothing of the machine's containerd is
touched: root, state and socket lie in the given folder, and the snapshotter is
`native`, which works on any file system.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.processes import ServerProcess, accepts
from tests.support.programs import Outcome, attempt, needs_containers, program, run

NAMESPACE = "e2e"

_CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]

[grpc]
  address = "{folder}/socket"
"""


def write_mirror(
    certs: Path,
    registry: str,
    url: str,
    *,
    override_path: bool = False,
    ca: Path | None = None,
) -> None:
    """Make `registry` (a host, with port where it has one) a name for `url`.

    `server` is the mirror, too: there is nothing to fall back to, so what was
    pulled came through it.
    """
    lines = [
        f'server = "{url}"',
        f'[host."{url}"]',
        '  capabilities = ["pull", "resolve"]',
        f"  override_path = {str(override_path).lower()}",
    ]
    if ca:
        lines.append(f'  ca = "{ca}"')
    folder = certs / registry
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text("\n".join(lines) + "\n")


class Containerd:
    """A running containerd with an empty store."""

    def __init__(self, folder: Path) -> None:
        needs_containers()
        self._ctr = program("ctr", package="containerd")
        program("runc")
        folder.mkdir(parents=True)
        config = folder / "config.toml"
        config.write_text(_CONFIG.format(folder=folder))
        self._socket = folder / "socket"
        self._process = ServerProcess(
            [program("containerd"), "--config", config],
            log=folder / "log",
            ready=lambda: accepts(self._socket),
        )

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.stop()

    def _argv(self, *words: str | Path) -> list[str | Path]:
        return [self._ctr, "--address", self._socket, "--namespace", NAMESPACE, *words]

    def _pull_argv(self, image: str, certs: Path) -> list[str | Path]:
        options = ("--snapshotter", "native", "--hosts-dir", certs)
        return self._argv("images", "pull", *options, image)

    def pull(self, image: str, certs: Path) -> None:
        run(*self._pull_argv(image, certs))

    def try_pull(self, image: str, certs: Path) -> Outcome:
        return attempt(*self._pull_argv(image, certs))

    def try_push(self, image: str) -> Outcome:
        """Push an image of the store to the registry that its name says."""
        return attempt(*self._argv("images", "push", "--plain-http", image))

    def tag(self, image: str, name: str) -> None:
        run(*self._argv("images", "tag", image, name))

    def digests(self) -> set[str]:
        """All content in the store."""
        return set(run(*self._argv("content", "ls", "--quiet")).stdout.split())

    def says(self, image: str) -> str:
        """Run the image's own command; what it printed."""
        argv = self._argv("run", "--rm", "--snapshotter", "native", image, "say")
        return run(*argv).stdout.strip()
