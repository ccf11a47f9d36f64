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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.blocking import Asker
from tests.bench.systems import ROOT

Get = Callable[[int], list[int]]
_ORDER = """openssl_conf = all
[all]
ssl_conf = tls
[tls]
system_default = order
[order]
Ciphersuites = TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256
"""


@contextmanager
def secure_client(port: int, ca: Path, path: str, folder: Path) -> Iterator[Get]:
    """One connection, in a process of its own, that gets `path` as often as it is told.

    What it gives answers with the body bytes of each download, and raises `OSError` if
    there were none. `ca`: PEM file of the authority to trust. `folder`: for its
    configuration.
    """
    configuration = folder / "client.cnf"
    configuration.write_text(_ORDER)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.secure_client", str(port), str(ca), path],
        cwd=ROOT,
        env=os.environ | {"OPENSSL_CONF": str(configuration)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    asking, answers = process.stdin, process.stdout

    def get(times: int) -> list[int]:
        asking.write(f"{times}\n")
        asking.flush()
        said = answers.readline()
        if not said:
            raise ConnectionError("the client ended")
        sizes: list[int] = json.loads(said)
        return sizes

    try:
        yield get
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    port, ca, path = sys.argv[1:]
    with Asker(int(port), Path(ca)) as asker:
        for line in sys.stdin:
            got = [asker.get(path) for _ in range(int(line))]
            print(json.dumps([one.size for one in got if one.status == 200]), flush=True)


if __name__ == "__main__":
    main()
