"""Where a row is measured: the upstream, the cores, the folders, and the load.

Servers under test run on one core from their first instruction on; the
upstream, the load and the bench itself on the other. What is started here is
ended here, and its folder removed, whatever happens in between.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench.client import Job, Outcome, Target
from tests.bench.content import Image, Item, Library, make_library
from tests.bench.measured import Measured
from tests.bench.processes import Tree, answers
from tests.bench.systems import ROOT, Running, System, start
from tests.support.private_ca import PrivateCa, issue

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORES = CORES[:1]
LOAD_CORES = CORES[-1:]
_QUIET_S = 1.0
_QUIET_MAX_S = 15.0


class Origin:
    """The upstream, started and steered. Use as a context manager."""

    def __init__(self, content: Path, log: Path, cpus: Sequence[int] = LOAD_CORES) -> None:
        argv = [sys.executable, "-m", "tests.bench.upstream", str(content)]
        self.tree = Tree(argv, log=log, cwd=ROOT, cpus=cpus)
        self.port = 0
        try:
            self.tree.wait_ready(lambda: log.read_text().endswith("\n"))
            self.port = int(log.read_text())
            self.tree.wait_ready(lambda: answers(f"http://127.0.0.1:{self.port}/v2/"))
        except BaseException:
            self.tree.stop()
            raise

    def reset(self, *, connection_bytes_s: int = 0, link_bytes_s: int = 0) -> None:
        """Count from zero, and limit what is to come (0: no limit)."""
        self._ask(f"reset?bytes_s={connection_bytes_s}&link_bytes_s={link_bytes_s}")

    def sent(self, *items: Item) -> int:
        """Body bytes of `items` that went out since the reset."""
        sent = self._ask("counters")["sent"]
        return sum(sent.get(f"/v2/{item.url}", 0) for item in items)

    def requests(self, kind: str = "gets") -> dict[str, int]:
        """`gets` or `heads` by URL path since the reset."""
        return self._ask("counters")[kind]

    def quiet(self) -> None:
        """Wait, bounded, until it has sent nothing for a second."""
        until = time.monotonic() + _QUIET_MAX_S
        before, since = -1, time.monotonic()
        while time.monotonic() < until and time.monotonic() - since < _QUIET_S:
            now = sum(self._ask("counters")["sent"].values())
            if now != before:
                before, since = now, time.monotonic()
            time.sleep(0.1)

    def _ask(self, path: str) -> dict[str, dict[str, int]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=30) as answer:
            body: dict[str, dict[str, int]] = json.load(answer)
            return body


@dataclass(slots=True)
class Stage:
    """What every row is given. `memory`: what a row keeps from straight to its turns."""

    folder: Path
    content: Path
    origin: Origin
    library: Library
    ca: PrivateCa
    memory: dict[str, float] = field(default_factory=dict)
    starts: int = 0

    @contextmanager
    def running(self, system: System, *, tls: bool = False) -> Iterator[Running]:
        """A system with an empty cache. Raises `NotHere`, `DidNotStart`."""
        self.starts += 1
        folder = self.folder / f"{self.starts}-{system.name.replace(' ', '-')}"
        try:
            running = start(
                system,
                folder,
                self.origin.port,
                cpus=SERVER_CORES,
                tls=self.ca if tls else None,
            )
            with running.tree:
                yield running
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def pull(
        self,
        result: Measured,
        port: int,
        image: Image,
        *,
        clients: int = 1,
        pulls: int | None = None,
        limit_s: float = 120.0,
        by_image: bool = False,
    ) -> Outcome:
        """`clients` at once pull all layers of `image`; `pulls` of them in all."""
        before = f"/v2/{image.tag_url}" if by_image else ""
        targets = [
            Target(
                path=f"/v2/{one.url}",
                file=one.path,
                digest=one.digest,
                size=one.size,
                before=before,
            )
            for one in image.layers
        ]
        job = Job(
            port=port,
            targets=targets,
            at_once=clients * len(targets),
            pulls=(pulls or clients) * len(targets),
            limit_s=limit_s,
        )
        said = subprocess.run(
            [sys.executable, "-m", "tests.bench.client", json.dumps(asdict(job))],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
            timeout=limit_s + 60,
        ).stdout
        outcome = Outcome(**json.loads(said))
        result.failed += outcome.failed
        if outcome.late:
            result.failed.append(f"{outcome.late} of {job.pulls} not done after {limit_s:.0f} s")
        result.wrong += outcome.wrong
        return outcome


@contextmanager
def staged(folder: Path, images: Mapping[str, Sequence[int]]) -> Iterator[Stage]:
    """A stage in this empty folder, whose upstream has these images (layers' sizes by name).

    Raises `DidNotStart` for the upstream.
    """
    content = folder / "content"
    content.mkdir()
    library = make_library(content, images)
    with (origin := Origin(content, folder / "upstream.log")).tree:
        yield Stage(folder, content, origin, library, issue(folder / "tls"))
