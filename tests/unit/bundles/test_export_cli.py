"""`keys`, and how an export tells how far it is."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from proxy import cli
from proxy.cli.export_drawn import Bar, Lines


def run(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    return done.exit_code, done.output


def test_a_pair_is_made_shown_and_never_written_over(tmp_path: Path) -> None:
    code, said = run("keys", "new", "site", "--out", tmp_path, "--json")
    assert code == 0
    told = json.loads(said)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["site.key", "site.pub"]
    private, public = Path(told["private"]), Path(told["public"])
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    for path, kind in ((private, "private"), (public, "public")):
        code, said = run("keys", "show", path)
        assert (code, said) == (0, f"key {told['id']}, {kind}\n{public.read_text()}")
    assert json.loads(run("keys", "show", private, "--json")[1]) == {
        "id": told["id"],
        "private": True,
        "public": public.read_text(),
    }
    before = private.read_bytes()
    code, said = run("keys", "new", "site", "--out", tmp_path)
    assert (code, "never written over" in said) == (1, True)
    assert private.read_bytes() == before


def test_a_pair_is_told_in_words(tmp_path: Path) -> None:
    code, said = run("keys", "new", "site", "--out", tmp_path)
    assert code == 0
    assert "keep it secret" in said
    assert "PRIVATE" not in said


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-x", "a b"])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    code, _ = run("keys", "new", "--out", tmp_path, "--", name)
    assert code == 2
    assert list(tmp_path.iterdir()) == []


def test_trouble_with_files_is_told(tmp_path: Path) -> None:
    code, said = run("keys", "new", "site", "--out", tmp_path / "none")
    assert (code, "No such file" in said) == (1, True)
    code, said = run("keys", "show", tmp_path / "none")
    assert (code, "can't be read" in said) == (2, True)


def test_lines_tell_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    with Lines(monotonic=lambda: now) as shows:
        shows.begin("b.tar", 4_000_000)
        shows.wrote(1_000_000)
        now = 11.0
        shows.wrote(1_000_000)
        shows.wrote(1_000_000)
        shows.say("a break")
    assert capsys.readouterr().err.splitlines() == [
        "writing b.tar, 4.0 MB",
        "2.0 MB of 4.0 MB",
        "a break",
    ]


def test_a_bar_shows_the_same() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with Bar(console) as shows:
        shows.begin("b.tar", 4_000_000)
        shows.wrote(5_000_000)
        shows.wrote(-1_000_000)
        shows.say("a break [of the link]")
    assert "b.tar" in out.getvalue()
    assert "4.0/4.0 MB" in out.getvalue()
    assert "a break [of the link]" in out.getvalue()
