# ruff: noqa: INP001 - a script that is copied alone, no module of a package
"""Drops from an installation what Entrepot never reads, while the image is built.

botocore describes every AWS service; Entrepot speaks to S3, and its credential chain
to those that hand out keys. Run with the Python of the installation to prune.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import botocore

KEPT = frozenset({"s3", "sso", "sso-oidc", "sts", "signin"})


def main() -> None:
    """Remove the folders of all other services; fail if the layout is not as known."""
    data = Path(botocore.__file__).parent / "data"
    services = [entry for entry in data.iterdir() if entry.is_dir()]
    missing = {"s3", "sts", "sso", "sso-oidc"} - {entry.name for entry in services}
    if missing:
        raise SystemExit(f"{data} has no {', '.join(sorted(missing))}: look again")
    for entry in services:
        if entry.name not in KEPT:
            shutil.rmtree(entry)


if __name__ == "__main__":
    main()
