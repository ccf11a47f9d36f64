"""A real S3 server of another make: MinIO, where its program is at hand.

Not on PyPI and not in Debian, so nobody has to have it: built by `go install
github.com/minio/minio@latest`, found as `minio` or as `$MINIO_PROGRAM`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.processes import ServerProcess, answers_http, free_port
from tests.support.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server


def minio() -> Path:
    """The program; skips when there is none, in CI too."""
    found = os.environ.get("MINIO_PROGRAM") or shutil.which("minio")
    if not found:
        pytest.skip("needs the program minio, on PATH or as $MINIO_PROGRAM")
    return Path(found)


class Minio(S3Server):
    """A server with the bucket `BUCKET`."""

    def __init__(self, folder: Path) -> None:
        # A folder that is there when it starts is a bucket.
        (folder / "data" / BUCKET).mkdir(parents=True)
        self.port, console = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process = ServerProcess(
            [
                *(minio(), "server", "--quiet", f"--config-dir={folder / 'config'}"),
                *(f"--address=127.0.0.1:{self.port}", f"--console-address=127.0.0.1:{console}"),
                folder / "data",
            ],
            log=folder / "log",
            ready=lambda: answers_http(self.port, "/minio/health/ready"),
            env={
                "MINIO_ROOT_USER": ACCESS_KEY,
                "MINIO_ROOT_PASSWORD": SECRET_KEY,
                "MINIO_BROWSER": "off",
                "MINIO_UPDATE": "off",
            },
        )
