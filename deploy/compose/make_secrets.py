# ruff: noqa: INP001 - a script that is mounted alone, no module of a package
"""Makes what the services of compose.yaml know of each other, once.

Writes into the folder it is given; what is there already stays. The services run as
different users, so all of them may read it; nobody else sees the volume.
"""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path

# Redis holds nothing that matters: no files, and what is old makes room.
_REDIS = """\
requirepass {password}
port 6379
protected-mode no
save ""
appendonly no
maxmemory 192mb
maxmemory-policy allkeys-lru
"""


def _keep(path: Path, text: str) -> str:
    """The content of `path`, which is `text` if there was none; whole or not at all."""
    if not path.exists():
        new = path.with_name(path.name + ".new")
        new.write_text(text)
        new.chmod(0o444)
        new.replace(path)
    return path.read_text()


def main(folder: Path) -> None:
    """All files: secrets by themselves, and those of Redis and S3 made of them."""
    _keep(folder / "peer", secrets.token_hex(24))
    password = _keep(folder / "redis", secrets.token_hex(24))
    access_key = _keep(folder / "s3-id", secrets.token_hex(10))
    secret_key = _keep(folder / "s3-key", secrets.token_hex(24))
    _keep(folder / "redis.conf", _REDIS.format(password=password))
    identity = {
        "name": "entrepot",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    _keep(folder / "s3.json", json.dumps({"identities": [identity]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
