"""What a release ships, for tests: the wheel, and a folder with all it depends on.

`make test` builds the wheel once and names its folder in `DIST_FOLDER`; run by
itself, a test builds one from a copy of the tree. The wheels of the dependencies
are those for this machine's own `/usr/bin/python3`, which is the Python of the
image that tests build, in the versions of `constraints.txt`.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import missing, run

ROOT = Path(__file__).parents[2]
SYSTEM_PYTHON = Path("/usr/bin/python3")
_SOURCES = ("proxy", "pyproject.toml", "README.md", "LICENSE")
_NETWORK_S = 300.0


@dataclass(frozen=True, slots=True)
class Distribution:
    """`wheel` is Entrepot's, built from `source`; `wheels` holds it and all it needs;
    `python` is a virtual environment's, of the system's Python, with nothing installed.
    """

    source: Path
    wheel: Path
    wheels: Path
    python: Path


def installed() -> Path:
    """The `entrepot` command that tests run: of `INSTALLED_PYTHON`'s environment, where
    `make test` has installed the wheel, else of the one the tests themselves are in.
    """
    return Path(os.environ.get("INSTALLED_PYTHON") or sys.executable).with_name("entrepot")


@functools.cache
def distribution(folder: Path) -> Distribution:
    """Made once for each `folder` (pytest's base folder), below which it lies."""
    home = folder / "distribution"
    home.mkdir()
    ready = _ready_wheel()
    wheel = ready or _build(home)
    if not SYSTEM_PYTHON.exists():
        missing(f"needs {SYSTEM_PYTHON} (Debian package python3)")
    python = new_environment(home / "system")
    constraints = ROOT / "constraints.txt"
    words = ["-m", "pip", "wheel", "-q", "-c", constraints, "-w", home / "wheels", wheel]
    run(python, *words, timeout_s=_NETWORK_S)
    source = ROOT if ready else home / "source"
    return Distribution(source, wheel, home / "wheels", python)


def new_environment(folder: Path) -> Path:
    """The Python of a new virtual environment of the system's Python."""
    try:
        run(SYSTEM_PYTHON, "-m", "venv", folder)
    except AssertionError as refused:
        if "ensurepip" not in str(refused):
            raise
        missing("needs the Debian package python3-venv")
    return folder / "bin" / "python"


def _ready_wheel() -> Path | None:
    place = os.environ.get("DIST_FOLDER")
    if not place:
        return None
    (wheel,) = Path(place).glob("entrepot-*.whl")
    return wheel


def _build(home: Path) -> Path:
    source = home / "source"
    source.mkdir()
    for name in _SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source)
    words = ["-m", "pip", "wheel", "-q", "--no-deps", "-w", home / "wheel", source]
    run(sys.executable, *words, timeout_s=_NETWORK_S)
    (wheel,) = (home / "wheel").glob("*.whl")
    return wheel
