"""A real S3 server: SeaweedFS, all of it in one process in a temporary folder.

It is started with small volumes that grow as they are filled (nothing is
preallocated), so an empty one takes a megabyte of disk and about 130 MB of
memory. It comes with pip; see `dev` in pyproject.toml.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from tests.support.processes import ServerProcess, free_port
from tests.support.programs import missing
from tests.support.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server
from tests.support.weed import remove_sockets, takes_a_put

_PORTS = ("master.port", "volume.port", "filer.port", "s3.port")


def weed() -> Path:
    """The program; skips (in CI: fails) when there is none."""
    beside = Path(sys.executable).with_name("weed")
    found = beside if beside.exists() else shutil.which("weed")
    if not found:
        missing("needs the program weed (pip install -e '.[dev]')")
        raise AssertionError("unreachable")
    return Path(found)


class Seaweed(S3Server):
    """A server with the bucket `BUCKET`; the port stays the same over restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        data = folder / "data"
        data.mkdir(parents=True)
        config = folder / "s3.json"
        everything = {
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        # Who may read without a name lets readiness be asked without a signature.
        nobody = {"name": "anonymous", "actions": ["Admin:" + BUCKET, "Write:" + BUCKET]}
        config.write_text(json.dumps({"identities": [everything, nobody]}))
        ports = {name: free_port() for name in _PORTS}
        self._grpc_ports = {f"{name}.grpc": free_port() for name in _PORTS}
        self.port = ports["s3.port"]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process = ServerProcess(
            [
                *(weed(), "-logtostderr", "server", "-s3", f"-dir={data}", f"-s3.config={config}"),
                *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"),
                "-master.resumeState=false",  # or a restart after a kill takes 20 s
                *(f"-{name}={port}" for name, port in (ports | self._grpc_ports).items()),
                *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"),
                f"-s3.localSocket={folder}/s3.sock",
                f"-filer.localSocket={folder}/filer.sock",
                *("-master.volumeSizeLimitMB=256", "-volume.max=64", "-volume.preStopSeconds=0"),
            ],
            log=folder / "log",
            ready=lambda: takes_a_put(self.port, BUCKET),
        )

    def pause(self) -> None:
        """It takes connections and answers nothing, as a frozen machine does."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Gone from the network at once; what it has acknowledged stays on disk."""
        super().kill()
        remove_sockets(self._grpc_ports)
