"""The commands, as they are typed: what they print and how they exit."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from typer.testing import CliRunner

import proxy
from proxy import cli
from proxy.config import Settings, settings_table
from proxy.errors import StartupError


@pytest.fixture
def run(tmp_path: Path):
    """Runs a command; without a file of its own it gets an empty one, so that
    nothing depends on the machine's.
    """

    def invoke(*arguments: str, text: str = "", environ: dict[str, str] | None = None):
        path = tmp_path / "entrepot.yaml"
        path.write_text(text)
        environment = {"ENTREPOT_CONFIG": str(path), **(environ or {})}
        return CliRunner().invoke(cli.app, arguments, env=environment)

    return invoke


@pytest.fixture
def served(monkeypatch):
    """Stands in for the server (`proxy.app`): takes settings, gives an outcome."""
    given: list[Settings] = []
    outcome: list[int | Exception] = [0]

    def stand_in(settings: Settings, _manager: object) -> int:
        given.append(settings)
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    module = ModuleType("proxy.app")
    module.run = stand_in
    monkeypatch.setitem(sys.modules, "proxy.app", module)
    return given, outcome


MISTAKEN = "listen: 5000\nlog_format: xml\n"


# --- serve ---------------------------------------------------------------------


def test_serve_runs_the_server_with_the_flags_on_top(run, served):
    given, outcome = served
    outcome[0] = 3
    result = run(
        "serve",
        *("--listen", "h:1", "--admin-listen", "h:2", "--data-dir", "/d", "--log-format", "json"),
        text="listen: h:9\nflights_max: 7",
    )
    assert result.exit_code == 3
    [settings] = given
    assert (settings.listen, settings.admin_listen, settings.log_format) == ("h:1", "h:2", "json")
    assert (settings.data_dir, settings.flights_max) == (Path("/d"), 7)


def test_serve_with_mistakes_prints_them_all_and_starts_nothing(run, served):
    result = run("serve", "--admin-listen", "x", text=MISTAKEN)
    assert result.exit_code == 2
    assert result.stdout == ""
    *lines, last = result.stderr.splitlines()
    assert [line.rpartition("/")[2].split(": ")[0] for line in lines] == [
        "--admin-listen",
        "entrepot.yaml:1",
        "entrepot.yaml:2",
    ]
    assert last == "entrepot: 3 mistakes in the configuration"
    assert served[0] == []


def test_what_keeps_the_server_from_starting_is_one_plain_line(run, served):
    served[1][0] = StartupError("127.0.0.1:5000 is in use")
    result = run("serve")
    assert (result.exit_code, result.stderr) == (1, "entrepot: 127.0.0.1:5000 is in use\n")


# --- config --------------------------------------------------------------------


def test_check_says_ok_and_how_many_upstreams_there_are(run):
    text = "presets: false\nupstreams: {a: {url: 'http://a'}, b: {url: 'http://b',"
    text += " username: me, password: pw}}"
    result = run("config", "check", text=text)
    assert (result.exit_code, result.stdout) == (0, "ok: 2 upstreams, 1 with credentials\n")
    assert json.loads(run("config", "check", "--json").stdout) == {"ok": True, "problems": []}


def test_check_prints_every_mistake_and_exits_2(run, tmp_path):
    result = run("config", "check", text=MISTAKEN)
    assert result.exit_code == 2
    path = tmp_path / "entrepot.yaml"
    assert f"{path}:1: listen: must be text" in result.stderr
    assert f"{path}:2: log_format: must be 'auto', 'console' or 'json'" in result.stderr
    result = run("config", "check", "--json", text=MISTAKEN)
    assert result.exit_code == 2
    answer = json.loads(result.stdout)
    assert answer["ok"] is False
    assert [(one["key"], one["line"]) for one in answer["problems"]] == [
        ("listen", 1),
        ("log_format", 2),
    ]


def test_check_takes_the_file_from_the_flag_before_the_variable(run, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("log_level: loud")
    result = run("config", "check", "--config", str(other))
    assert result.exit_code == 2
    assert f"{other}:1: log_level" in result.stderr


def test_check_finds_a_docker_config_that_can_not_be_used(run, tmp_path):
    docker = tmp_path / "config.json"
    docker.write_text('{"auths": {"a": {"auth": "hunter2"}}}')
    for command in ("check", "show"):
        result = run("config", command, text=f"docker_config_file: {docker}")
        assert result.exit_code == 2
        assert "docker_config_file: the Docker config has a bad `auth` for a" in result.stderr
        assert "hunter2" not in result.stderr


def test_show_masks_secrets_and_says_who_is_credentialed(run, tmp_path):
    docker = tmp_path / "config.json"
    docker.write_text('{"credHelpers": {"ghcr.io": "x"}}')
    text = f"docker_config_file: {docker}\n"
    text += "upstreams: {docker.io: {username: me, password: hunter2}}"
    result = run("config", "show", text=text)
    assert result.exit_code == 0
    assert "hunter2" not in result.stdout
    shown = yaml.safe_load(result.stdout)
    assert shown == json.loads(run("config", "show", "--json", text=text).stdout)
    assert shown["data_dir"] == "/var/lib/entrepot"
    hub, github, quay = (shown["upstreams"][name] for name in ("docker.io", "ghcr.io", "quay.io"))
    assert hub["password"] == "***"
    assert hub["url"] == "https://registry-1.docker.io"
    assert (hub["group"], hub["credentialed"]) == ("docker.io", True)
    assert (github["group"], github["credentialed"]) == ("ghcr.io", True)
    assert (quay["group"], quay["credentialed"]) == ("public", False)


def test_table_prints_what_the_readme_holds(run):
    assert run("config", "table").stdout == settings_table() + "\n"


# --- healthcheck ---------------------------------------------------------------


class Ops(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/livez" else 503)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def ops():
    """The port of a server that answers 200 at /livez."""
    with HTTPServer(("127.0.0.1", 0), Ops) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_healthcheck_asks_the_configured_admin_port(run, ops, host):
    # A proxy from the environment must not be asked for our own port.
    environ = {"http_proxy": "http://127.0.0.1:1"}
    result = run("healthcheck", text=f"admin_listen: {host}:{ops}", environ=environ)
    assert (result.exit_code, result.stdout) == (0, f"http://127.0.0.1:{ops}/livez: ok\n")


def test_healthcheck_fails_on_another_answer_or_none(run, ops):
    url = f"http://127.0.0.1:{ops}/other"
    result = run("healthcheck", "--url", url)
    assert (result.exit_code, result.stderr) == (1, f"{url}: answered 503\n")
    result = run("healthcheck", "--url", "http://127.0.0.1:1/", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["ok"] is False
    assert "refused" in answer["reason"]
    assert run("healthcheck", "--url", "file:///etc/passwd").exit_code == 1


# --- the command itself --------------------------------------------------------


def test_the_version_is_told_in_each_way(run):
    expected = f"entrepot {proxy.__version__}\n"
    assert run("version").stdout == run("--version").stdout == expected
    assert json.loads(run("version", "--json").stdout)["version"] == proxy.__version__


def test_python_dash_m_is_the_command_and_imports_nothing_heavy():
    heavy = ("aiohttp", "structlog", "rich", "asyncio", "prometheus_client", "urllib.request")
    code = (
        "import sys, runpy\n"
        "sys.argv = ['entrepot', '--version']\n"
        "try: runpy.run_module('proxy', run_name='__main__')\n"
        "except SystemExit as end: print(end.code)\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.splitlines() == [f"entrepot {proxy.__version__}", "0", "[]"]


def test_a_server_loads_what_few_need_only_when_it_is_needed():
    heavy = ("aiobotocore", "botocore", "redis", "cryptography", "opentelemetry", "rich")
    code = (
        "import sys\n"
        "from proxy.cli import main\n"
        "sys.argv = ['entrepot', 'serve', '--data-dir', '/dev/null/none']\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code)\n"
        f"print('proxy.app' in sys.modules, [name for name in {heavy!r} if name in sys.modules])\n"
        "import rich.console\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == ["1", "True []"]
