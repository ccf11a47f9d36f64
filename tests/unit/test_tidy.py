"""House rules that no linter knows, checked on the tree itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "proxy"
LINES_MAX = 300
MAY_READ_ENVIRONMENT = {*(PACKAGE / "cli").glob("*.py"), PACKAGE / "__main__.py"}
MADE = re.compile(
    r"__pycache__|.*\.egg-info|build|dist|results|\.(?!ci$|git(ignore|hub)$|docker).*"
)

# Put together from parts, so that this file is not its own finding.
FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.-])/wo" + r"rk/|/tm" + r"p/w/"),
    "a folder outside the tree": re.compile(r"\.\./sha" + r"red"),
    "a package index": re.compile(
        r"py" + r"pi\.org|pythonho" + r"sted\.org|--(extra-)?index" + r"-url|registry\.npm" + r"js"
    ),
}

_IMPORT_EACH_ALONE = """
import importlib, os, sys, traceback
# The libraries once, in the parent; then each module in a child that has seen none of ours.
for library in ("aiohttp.web", "prometheus_client", "pydantic", "structlog", "typer", "yaml"):
    importlib.import_module(library)
assert not any(name.split(".")[0] == "proxy" for name in sys.modules)
failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
sys.exit(f"not importable alone: {failed}" if failed else 0)
"""


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _relative(paths: Iterator[Path] | list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def _tree() -> Iterator[Path]:
    """Every file that is written by hand."""
    waiting = [ROOT]
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            if MADE.fullmatch(path.name):
                continue
            if path.is_dir():
                waiting.append(path)
            else:
                yield path


def _reads_environment(tree: ast.AST) -> bool:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "environb" | "getenv"):
                return True
            case ast.ImportFrom(module="os", names=names) if {name.name for name in names} & {
                "environ",
                "environb",
                "getenv",
            }:
                return True
    return False


def test_no_module_is_too_long_to_be_known_in_five_minutes() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in _modules()}
    assert {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > LINES_MAX} == {}


def test_every_module_says_what_it_is_for() -> None:
    bare = [p for p in _modules() if p.read_text().strip() and not _doc(p)]
    assert _relative(bare) == []


def _doc(path: Path) -> str | None:
    return ast.get_docstring(ast.parse(path.read_text()))


def test_nothing_in_oci_can_wait() -> None:
    waiting = [
        path
        for path in sorted((PACKAGE / "oci").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)
    ]
    assert _relative(waiting) == []


def test_only_the_command_line_reads_the_environment() -> None:
    readers = [path for path in _modules() if _reads_environment(ast.parse(path.read_text()))]
    assert _relative([path for path in readers if path not in MAY_READ_ENVIRONMENT]) == []


@pytest.mark.parametrize(
    "source", ["import os\nos.environ['A']", "import os\nos.getenv('A')", "from os import environ"]
)
def test_the_environment_rule_finds_its_offenders(source: str) -> None:
    assert _reads_environment(ast.parse(source))


def test_each_module_can_be_imported_alone() -> None:
    names = []
    for path in _modules():
        parts = path.relative_to(ROOT).with_suffix("").parts
        if path.stem == "__main__":
            continue  # importing it runs it
        names.append(".".join(parts[:-1] if path.stem == "__init__" else parts))
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_EACH_ALONE, *names],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_nothing_in_the_tree_names_one_machine_or_a_package_index() -> None:
    found = []
    for path in _tree():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # a picture, an archive: nothing that is written by hand
        found += [
            f"{path.relative_to(ROOT)}: {what}"
            for what, pattern in FORBIDDEN.items()
            if pattern.search(text)
        ]
    assert found == []


def test_constraints_pin_versions_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pin = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+")
    assert [line for line in lines if not line.startswith("#") and not pin.fullmatch(line)] == []
