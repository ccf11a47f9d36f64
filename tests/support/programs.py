"""Finding the programs that end-to-end tests drive, and running them once.

What is missing makes a test skip and say which program it wanted. In CI, where
all of them are installed on purpose, the same is a failure: a suite that skips
itself proves nothing.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

RUN_S = 120.0
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished command said; `output` is stdout and stderr together."""

    code: int
    stdout: str
    output: str


class CommandFailedError(AssertionError):
    """A command that had to succeed did not; the message quotes all it said."""


def missing(reason: str) -> None:
    """Skip this test for `reason`; in CI, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}; CI must have it", pytrace=False)
    pytest.skip(reason)


def program(name: str, *, package: str | None = None) -> str:
    """The path of an installed program; skips (in CI: fails) when there is none."""
    found = shutil.which(name, path=SEARCH)
    if found is None:
        missing(f"needs the program {name} (Debian package {package or name})")
        raise AssertionError("unreachable")
    return found


def static_busybox() -> Path:
    """A busybox that runs in an empty root file system."""
    path = Path(program("busybox", package="busybox-static"))
    if b"/ld-linux" in path.read_bytes()[:4096]:
        missing("needs a statically linked busybox (Debian package busybox-static)")
    return path


@functools.cache
def _container_refusal() -> str:
    """Why this machine can't hold containers; empty when it can."""
    if os.geteuid() != 0:
        return "not root"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--net", "--fork", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    return tried.stderr.strip() if tried.returncode else ""


def needs_containers() -> None:
    """Skip where the kernel won't let this user mount and make namespaces.

    That is no missing program and nothing that could be installed, so it stays
    a skip in CI: an engine that can't unpack a layer can't pull either.
    """
    if refusal := _container_refusal():
        pytest.skip(f"this machine does not let us run containers: {refusal}")


def attempt(
    *argv: str | Path, env: Mapping[str, str] | None = None, timeout_s: float = RUN_S
) -> Outcome:
    """Run a command to its end, whatever its exit status."""
    done = subprocess.run(
        [str(word) for word in argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=timeout_s,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stdout + done.stderr)


def run(
    *argv: str | Path, env: Mapping[str, str] | None = None, timeout_s: float = RUN_S
) -> Outcome:
    """Run a command that must succeed; `CommandFailedError` otherwise."""
    outcome = attempt(*argv, env=env, timeout_s=timeout_s)
    if outcome.code:
        words = " ".join(str(word) for word in argv)
        raise CommandFailedError(f"{words}\nexit status {outcome.code}\n{outcome.output}")
    return outcome
