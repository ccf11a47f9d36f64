"""The chart's scripts as processes, and a fake registry as the mirror in front of them."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.helm.charts import CHART
from tests.support.fake_registry import FakeRegistry
from tests.support.images import image, index

FILES = CHART / "files"
IMAGE = "docker.io/library/tiny:1"
DEADLINE_S = 60.0
# `entrepot` is found beside this Python, as in the image.
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    "PYTHONDONTWRITEBYTECODE": "1",
    "http_proxy": "http://127.0.0.1:1",  # which must be ignored
}


@asynccontextmanager
async def mirror(*, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeRegistry]:
    """A registry that has `IMAGE` where a mirror would have it, for three architectures."""
    async with FakeRegistry(tls=tls) as registry:
        kinds = [image(3000, 500, seed=one, architecture=one) for one in ("amd64", "arm64", "arm")]
        registry.add("docker.io/library/tiny", index(*kinds), "1")
        yield registry


class Script:
    """A running script whose lines are awaited; made by `running`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []

    async def says(self, words: str) -> str:
        """The next line with these words in it."""
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            while line := (await self._process.stdout.readline()).decode():
                self.lines.append(line)
                if words in line:
                    return line
        raise AssertionError(f"ended without {words!r}: {self.lines}")

    async def ends(self) -> int:
        """SIGTERM, as the kubelet sends it; the exit status."""
        self._process.terminate()
        return await self.over()

    async def over(self) -> int:
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            self.lines += (await self._process.stdout.read()).decode().splitlines()
            return await self._process.wait()


@asynccontextmanager
async def running(*argv: str | Path, before: Sequence[str] = ()) -> AsyncIterator[Script]:
    """Start `argv` with this Python, behind what stands `before` it."""
    process = await asyncio.create_subprocess_exec(
        *before,
        sys.executable,
        *map(str, argv),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=ENVIRONMENT,
    )
    try:
        yield Script(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
