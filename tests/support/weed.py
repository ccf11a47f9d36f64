"""What whoever runs SeaweedFS has to know of it."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Mapping
from pathlib import Path


def takes_a_put(port: int, bucket: str) -> bool:
    """Whether its S3 listener is up so far that a PUT works; makes the bucket.

    Asked without a signature: who may do so without a name has to be configured.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    status = 0
    try:
        for path, body in ((f"/{bucket}", b""), (f"/{bucket}/ready", b"1")):
            connection.request("PUT", path, body)
            answer = connection.getresponse()
            answer.read()
            status = answer.status
    except (OSError, http.client.HTTPException):
        return False
    else:
        return status == 200
    finally:
        connection.close()


def remove_sockets(grpc_ports: Mapping[str, int]) -> None:
    """Those of a killed one, which it puts where no option moves them. `grpc_ports` by
    the name of their option, which begins with what they are for (`filer.port`).
    """
    for name, port in grpc_ports.items():
        with contextlib.suppress(FileNotFoundError):
            Path(f"/tmp/seaweedfs-{name.split('.')[0]}-grpc-{port}.sock").unlink()
