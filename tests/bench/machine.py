"""What a result was measured on: without it, its numbers mean nothing."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from tests.bench.systems import ROOT, NotHere, program

Machine = dict[str, str | int]
"""Plain facts by name, as they stand in a result."""

_VERSIONS = {
    "nginx": (("nginx",), "-v"),
    "docker-registry": (("docker-registry",), "--version"),
    "distribution 3": (("registry",), "--version"),
    "zot": (("zot", "zot-linux-amd64"), "--version"),
    "wrk": (("wrk",), "-v"),
}


def describe(seed: int) -> Machine:
    """This machine, what is installed on it, this commit, now."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next((line for line in cpuinfo.splitlines() if line.startswith("model name")), "?: ?")
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cpu": model.partition(":")[2].strip(),
        "cores": os.cpu_count() or 0,
        "memory_gb": round(int(memory[1]) / 1e6) if memory else 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: _version(names, flag) for name, (names, flag) in _VERSIONS.items()},
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M"),
        "commit": _commit(),
        "seed": seed,
    }


def line(machine: Machine) -> str:
    """In one line."""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"Linux {machine['kernel']}, Python {machine['python']}, {machine['date']}"
    )


def _version(names: tuple[str, ...], flag: str) -> str:
    try:
        path = program(*names)
    except NotHere:
        return "not installed"
    done = subprocess.run([path, flag], capture_output=True, text=True, check=False, timeout=10)
    said = (done.stdout + done.stderr).strip().splitlines()
    found = re.search(r"v?\d+\.\d+[\w.+~-]*", said[0]) if said else None
    return found[0] if found else "?"


def _commit() -> str:
    """Of the tree this runs from, with `+` if it was changed since; `?` outside a clone."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return "?"
    words = ("git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*")
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() or "?"
