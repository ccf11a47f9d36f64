"""A proxy that reaches nothing, and `entrepot import` beside it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner, Result

from proxy import cli
from tests.flows.conftest import Running
from tests.support.bundles import Made
from tests.support.images import Image

NOWHERE = {"url": "http://127.0.0.1:1"}


@dataclass(slots=True)
class Side:
    """`key` is the public one that is given to the command."""

    proxy: Running
    folder: Path
    key: Path

    def put(self, made: Made | bytes, name: str = "b.tar") -> Path:
        path = self.folder / name
        path.write_bytes(made if isinstance(made, bytes) else made.tar())
        return path

    async def run(self, *words: str | Path, key: bool = True) -> Result:
        argv = ["import", *map(str, words)]
        argv += ["--key", str(self.key)] if key else []
        argv += ["--admin", f"http://{self.proxy.entrepot.admin_address}"]
        return await asyncio.to_thread(CliRunner().invoke, cli.app, argv)

    async def takes(self, *words: str | Path, key: bool = True) -> Result:
        result = await self.run(*words, key=key)
        assert result.exit_code == 0, result.output
        return result

    async def refuses(self, *words: str | Path, code: int = 2, key: bool = True) -> str:
        """The one sentence; nothing is visible, whatever was there."""
        before = self.visible()
        result = await self.run(*words, key=key)
        assert result.exit_code == code, result.output
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith("entrepot: ")
        after = self.visible()
        changed = sorted(after.items() ^ before.items())
        assert not changed, changed
        return line

    def visible(self) -> dict[str, bytes]:
        """All records of repositories, and pins; not when images were pulled, noted later."""
        root = self.proxy.entrepot.settings.data_dir
        return {
            str(path.relative_to(root)): path.read_bytes()
            for top in ("repos", "pins")
            for path in (root / top).rglob("*")
            if path.is_file() and "_pulled" not in path.parts
        }

    async def pulls(self, repository: str, wanted: Image, *references: str) -> None:
        """All of it, byte for byte."""
        await self.proxy.pull(f"/v2/{repository}", wanted, *references)
        for one in wanted.manifests:
            answer = await self.proxy.ask(f"/v2/{repository}/manifests/{one.digest}")
            assert (answer.status, answer.body) == (200, one.body)
            assert answer.headers["Content-Type"] == one.media_type

    async def lacks(self, repository: str, *references: str) -> None:
        for reference in references:
            answer = await self.proxy.ask(f"/v2/{repository}/manifests/{reference}")
            assert answer.status in {404, 503}
