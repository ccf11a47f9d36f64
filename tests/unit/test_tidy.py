"""House rules that no linter knows, checked on the tree itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
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


def _named() -> dict[str, Path]:
    """Modules by what imports call them."""
    named = {}
    for path in _modules():
        parts = path.relative_to(ROOT).with_suffix("").parts
        named[".".join(parts[:-1] if path.stem == "__init__" else parts)] = path
    return named


def _imported(tree: ast.Module, known: Collection[str]) -> set[str]:
    """Modules of ours that importing this one needs: not those for type checkers, nor
    those that its functions import once they are called.
    """
    found: set[str] = set()
    for node in tree.body:
        match node:
            case ast.Import(names=names):
                found |= {name.name for name in names}
            case ast.ImportFrom(module=str(module), names=names):
                parts = {f"{module}.{name.name}" for name in names}
                found |= parts & set(known) or {module}
            case _:
                pass
    return found & set(known)


def _in_a_circle(needs: dict[str, set[str]]) -> set[str]:
    """What is left when all is taken away that needs nothing that is left."""
    left = dict(needs)
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    return set(left)


def test_modules_can_be_imported_in_any_order() -> None:
    named = _named()
    needs = {
        name: _imported(ast.parse(path.read_text()), named) - {name} for name, path in named.items()
    }
    assert _in_a_circle(needs) == set()
    assert sum(map(len, needs.values())) > len(named)


def test_the_rule_on_circles_finds_one() -> None:
    assert _in_a_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == {"a", "b", "c"}


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
