"""What goes wrong around a command: nobody answers, the wrong one does, nobody reads."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from proxy import cli

ROOT = Path(__file__).parents[2]
LINE = {"image": "lab/app:v1", "state": "complete", "pieces": 1, "bytes": 1500}
SUMS = {
    "done": True,
    "complete": True,
    "images": 1,
    "complete_images": 1,
    "missing": 0,
    "missing_bytes": 0,
    "certain": True,
}
REHEARSED = {
    "done": True,
    "for_s": 600.0,
    "early": False,
    "served": 0,
    "failed": 0,
    "missing": [],
    "unlisted": 0,
}


class Answers(BaseHTTPRequestHandler):
    """An admin listener by half: very many lines of `/missing`, a rehearsal, a scrub."""

    def do_GET(self) -> None:
        """As a pull port answers what it does not have."""
        self.send_response(404)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.end_headers()
        self.wfile.write(b'{"errors": [{"code": "UNSUPPORTED"}]}')

    def do_POST(self) -> None:
        """By path."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.end_headers()
        match self.path:
            case "/missing":
                told = [*[LINE] * 20_000, SUMS]
            case "/rehearse":
                told = [REHEARSED]
            case _:
                media = self.headers["Content-Type"]
                told = [{"blobs": 1, "bytes": 1, "bad": 0, "unread": 0, "elsewhere": media}]
        try:
            for line in told:
                self.wfile.write(json.dumps(line).encode() + b"\n")
        except OSError:
            pass  # The command has ended: that is what is looked at.

    def log_message(self, *_arguments: object) -> None:
        """Be quiet."""


@pytest.fixture
def address() -> Iterator[str]:
    """Where it answers, `host:port`."""
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "entrepot.yaml").write_text("")

    def invoke(*arguments: str) -> Result:
        environ = {"ENTREPOT_CONFIG": str(tmp_path / "entrepot.yaml")}
        return CliRunner().invoke(cli.app, arguments, env=environ)

    return invoke


COMMANDS = (
    ("warm", "lab/app:v1"),
    ("missing", "lab/app:v1"),
    ("explain", "lab/app:v1"),
    ("history", "lab/app:v1"),
    ("savings",),
    ("quota",),
    ("scrub",),
    ("rehearse",),
    ("ls",),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_with_no_server_every_command_says_where_it_asked_and_what_to_do(
    run: Run, command: tuple[str, ...]
) -> None:
    result = run(*command, "--admin", "127.0.0.1:1")
    said = (
        "entrepot: no proxy answers at http://127.0.0.1:1 (Connection refused); "
        'is "entrepot serve" running? --admin names another\n'
    )
    assert (result.exit_code, result.stderr) == (1, said)


def test_a_pull_port_in_place_of_the_admin_listener_is_told(run: Run, address: str) -> None:
    result = run("quota", "--admin", f"http://{address}")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"entrepot: http://{address} is not an admin listener")
    assert "UNSUPPORTED" not in result.output


def test_an_address_without_a_scheme_is_asked_and_so_is_what_has_no_body(
    run: Run, address: str
) -> None:
    result = run("scrub", "--admin", address, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["elsewhere"] == "application/json"
    assert run("missing", "lab/app:v1", "--admin", address).stdout.endswith(
        "lab/app:v1: complete, 1 piece, 1.5 kB\n1 of 1 image is complete\n"
    )


def _command(address: str) -> list[str]:
    return [sys.executable, "-m", "proxy", "missing", "lab/app:v1", "--admin", address]


def test_a_full_disk_is_one_line_and_no_traceback(address: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            _command(address),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (1, "entrepot: No space left on device\n")


def test_a_reader_who_leaves_early_sees_no_traceback(address: str) -> None:
    with subprocess.Popen(
        _command(address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("lab/app:v1: complete")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1


def test_a_closed_stdout_is_no_mistake(address: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@" >&-', "sh", *_command(address)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("text", ["0", "500ms", "2d", "86401"])
def test_a_rehearsal_of_no_time_or_too_much_is_a_mistake_of_the_command_line(
    run: Run, text: str
) -> None:
    result = run("rehearse", "--for", text, "--admin", "127.0.0.1:1")
    assert (result.exit_code, result.stderr) == (2, "entrepot: --for must be 1s to 24h\n")


def test_a_rehearsal_in_which_nobody_pulled_says_that_it_proved_nothing(
    run: Run, address: str
) -> None:
    result = run("rehearse", "--admin", address)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "over after 10 min",
        "nobody pulled meanwhile, so this proved nothing: pull what must work while it runs",
    ]


def test_a_file_without_images_is_named_and_one_that_is_not_there_is_the_same_mistake(
    run: Run, tmp_path: Path
) -> None:
    empty, absent = tmp_path / "images.txt", tmp_path / "absent"
    empty.write_text("# none\n")
    result = run("warm", "--file", str(empty))
    assert (result.exit_code, result.stderr) == (2, f"entrepot: {empty} has no images\n")
    result = run("missing", "--from-manifests", str(empty))
    assert (result.exit_code, result.stderr) == (
        2,
        f"entrepot: {empty} has no images; a list of names goes to --file\n",
    )
    both = run("missing", "--from-manifests", str(empty), "--file", str(empty))
    assert f"{empty}, {empty} have no images" in both.stderr
    for arguments in (
        ("warm", "--file", str(absent)),
        ("missing", "--from-manifests", str(absent)),
        ("warm", "--helm-chart", str(absent)),
        ("keys", "show", str(absent)),
        ("explain", "a", "--config", str(absent)),
        ("mirror-config", "podman", "--server", "https://e", "--ca", str(absent)),
    ):
        result = run(*arguments)
        assert (arguments[0], result.exit_code) == (arguments[0], 2)
        assert str(absent) in result.stderr
