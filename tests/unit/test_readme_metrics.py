"""The README's table of metrics is what a running proxy exports, no more, no less."""

from __future__ import annotations

import re
from pathlib import Path

from proxy.app import Entrepot
from proxy.config import load

README = Path(__file__).parents[2] / "README.md"


async def test_the_readme_lists_exactly_the_metrics_that_are_exported(tmp_path: Path) -> None:
    overrides = {
        "listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "data_dir": str(tmp_path / "data"),
        "drain_s": 0,
    }
    async with Entrepot(load(None, {}, overrides)) as entrepot:
        exported = {
            family.name + ("_total" if family.type == "counter" else "")
            for family in entrepot.telemetry.registry.collect()
            if family.name.startswith("entrepot_")
        }
    block = README.read_text().split("<!-- metrics -->")[1].split("<!-- /metrics -->")[0]
    assert set(re.findall(r"`(entrepot_\w+)`", block)) == exported
