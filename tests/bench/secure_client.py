"""Downloads over TLS with the ciphers of containers' clients: containerd, docker, podman
and skopeo are written in Go, which offers AES-128-GCM first where a processor has AES
(`defaultCipherSuitesTLS13` in crypto/tls).

`python -m tests.bench.secure_client PORT CA PATH` reads how often to get PATH, a line
for each batch, and answers each with the body sizes of its downloads, as JSON. Which
order is offered is part of OpenSSL's configuration, so this is a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.bench.blocking import Asker
from tests.bench.systems import ROOT

_ORDER = """openssl_conf = all
[all]
ssl_conf = tls
[tls]
system_default = order
[order]
Ciphersuites = TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256
"""


class SecureClient:
    """One connection, in a process of its own. Use as a context manager."""

    def __init__(self, port: int, ca: Path, path: str, folder: Path) -> None:
        """`ca`: PEM file of the authority to trust. `folder`: for its configuration."""
        configuration = folder / "client.cnf"
        configuration.write_text(_ORDER)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.secure_client", str(port), str(ca), path],
            cwd=ROOT,
            env=os.environ | {"OPENSSL_CONF": str(configuration)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def get(self, times: int) -> list[int]:
        """Body bytes of each download. Raises `OSError` if there were none."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{times}\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline()
        if not said:
            raise ConnectionError("the client ended")
        sizes: list[int] = json.loads(said)
        return sizes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


def main() -> None:
    port, ca, path = sys.argv[1:]
    with Asker(int(port), Path(ca)) as asker:
        for line in sys.stdin:
            got = [asker.get(path) for _ in range(int(line))]
            print(json.dumps([one.size for one in got if one.status == 200]), flush=True)


if __name__ == "__main__":
    main()
