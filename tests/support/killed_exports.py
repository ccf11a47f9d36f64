"""Exports that are killed at exact points, each in a process of its own.

`python -m tests.support.killed_exports` takes a JSON list on stdin, an object for each:
`url`, `out`, `wanted`, `form` as `Export` takes them, and when to be killed: `bytes`
(by the kernel, as soon as a file would become longer) or `names` (with SIGKILL before
the so manieth change of a name: rename, remove, make folder). Prints a list of what
became of them: the number of the signal, 0 for one that went on to its end.

All of them are forked off one process that has loaded everything already.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

_NAMES = frozenset({"os.rename", "os.remove", "os.mkdir"})


async def killed(attempts: list[dict[str, Any]]) -> list[int]:
    """Make these attempts; what became of each."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.killed_exports",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    out, _ = await process.communicate(json.dumps(attempts).encode())
    assert process.returncode == 0
    return [int(one) for one in json.loads(out)]


class _Silent:
    def say(self, text: str) -> None:
        pass

    def begin(self, name: str, size: int) -> None:
        pass

    def wrote(self, count: int) -> None:
        pass


def _attempt(one: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, one
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    try:
        _die_when(one)
        from proxy.bundles.export_run import Export

        Export(url=one["url"], out=Path(one["out"]), wanted=one["wanted"], form=one["form"]).run(
            _Silent()
        )
    except BaseException:  # noqa: BLE001 - told by the exit status
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def _die_when(one: dict[str, Any]) -> None:
    if one.get("bytes") is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (one["bytes"], one["bytes"]))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if one.get("names") is not None:
        left = one["names"]

        def hook(event: str, _arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in _NAMES:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)


if __name__ == "__main__":
    import proxy.bundles.export_run  # noqa: F401 - once, for all children

    print(json.dumps([_attempt(one) for one in json.load(sys.stdin)]))
