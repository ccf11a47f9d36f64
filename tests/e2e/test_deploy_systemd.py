"""The systemd unit: what it says is valid and tight, and what it starts serves.

There is no systemd to start it here. Its words are read by systemd's own offline
tools; its command line is run as it stands, by a process that has given up what
the unit takes away and listens at the notification socket.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.evidence import fetched_once
from tests.support.busybox_image import Built
from tests.support.containers_tools import Settings, Skopeo
from tests.support.distribution import ROOT, installed
from tests.support.docker_registry import DockerRegistry
from tests.support.entrepot import upstreams_of
from tests.support.processes import ServerProcess, accepts, free_port, wait_until
from tests.support.programs import attempt, program, run

UNIT = ROOT / "deploy" / "systemd" / "entrepot.service"
CONFIG = ROOT / "deploy" / "systemd" / "entrepot.yaml"
# systemd's own scale: 0 nothing to gain, 10 as exposed as can be. 14 when written.
EXPOSURE_TENTHS_MAX = 20
# PR_SET_NO_NEW_PRIVS and, where the kernel knows it (6.3), PR_SET_MDWE, which is what
# MemoryDenyWriteExecute= asks for.
_GIVE_UP = """
import ctypes, os, resource, sys
prctl = ctypes.CDLL(None, use_errno=True).prctl
assert prctl(38, 1, 0, 0, 0) == 0
prctl(65, 1, 0, 0, 0)
hard = min(int(sys.argv[1]), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 512), hard))
os.umask(0o077)
os.execv(sys.argv[2], sys.argv[2:])
"""


def unit() -> dict[str, list[str]]:
    """All lines of all sections, by key; the keys of the unit's sections differ."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for key, text in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found[key].append(text)
    return found


class NotifySocket:
    """What the service manager is told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._heard.append(self._socket.recv(4096).decode())
        return self._heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(nook: Path) -> Iterator[NotifySocket]:
    sink = NotifySocket(nook / "notify")
    yield sink
    sink.close()


def _command(config: Path) -> list[str | Path]:
    """The unit's ExecStart, with this machine's places for its two files."""
    (line,) = unit()["ExecStart"]
    words: list[str | Path] = []
    for word in line.split():
        match word:
            case "/opt/entrepot/bin/entrepot":
                words.append(installed())
            case "/etc/entrepot/entrepot.yaml":
                words.append(config)
            case _:
                words.append(word)
    assert words[0] == installed()
    assert config in words
    return words


def test_systemd_finds_no_mistake_in_it(nook: Path) -> None:
    copy = nook / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/entrepot/bin/entrepot", str(installed())))
    said = run(program("systemd-analyze", package="systemd"), "verify", "--man=no", copy)
    assert said.output == ""


def test_it_gives_up_what_it_does_not_need(nook: Path) -> None:
    outcome = attempt(
        program("systemd-analyze", package="systemd"),
        *("security", "--offline=true", f"--threshold={EXPOSURE_TENTHS_MAX}", "--no-pager"),
        UNIT,
    )
    assert outcome.code == 0, outcome.output


def test_its_command_serves_under_its_limits_and_reports_to_the_manager(
    nook: Path, manager: NotifySocket, upstream: DockerRegistry, image: Built
) -> None:
    port, state = free_port(), nook / "state"
    state.mkdir(mode=0o700)
    settings = yaml.safe_load(CONFIG.read_text())
    settings |= {
        "listen": f"127.0.0.1:{port}",
        "admin_listen": f"127.0.0.1:{free_port()}",
        "data_dir": str(state),
        "disk_free_bytes_min": "1MiB",
        "upstreams": upstreams_of(upstream),
    }
    config = nook / "entrepot.yaml"
    config.write_text(yaml.safe_dump(settings))
    (environment,), (watchdog_s,), (files,) = (
        unit()[key] for key in ("Environment", "WatchdogSec", "LimitNOFILE")
    )
    env = dict(word.split("=", 1) for word in environment.split())
    service = ServerProcess(
        ["/usr/bin/python3", "-c", _GIVE_UP, files, *_command(config)],
        log=nook / "log",
        ready=lambda: "READY=1" in manager.heard(),
        env={
            **env,
            "HOME": str(state),
            "NOTIFY_SOCKET": str(manager.path),
            "WATCHDOG_USEC": str(int(watchdog_s) * 1_000_000),
        },
        cwd=state,
        stop_s=60,
    )
    service.start()
    try:
        assert accepts(port), "it says that it is ready before it is"
        wait_until(lambda: "WATCHDOG=1" in manager.heard(), what="a sign of life")
        limits = Path(f"/proc/{service.pid}/limits").read_text()
        assert re.search(r"Max open files\s+(\d+)\s+\1\s", limits), limits  # soft = hard
        skopeo = Skopeo(Settings(nook / "tools", insecure=(f"127.0.0.1:{port}",)))
        skopeo.copy(f"127.0.0.1:{port}/lab/demo/busybox:v1", nook / "copied")
        fetched_once(upstream, image.blobs)
        assert "STOPPING=1" not in manager.heard()
        assert service.stop() == 0, service.log_tail()
    finally:
        service.kill()
    assert manager.heard()[-1] == "STOPPING=1"


def test_a_mistake_in_the_configuration_is_not_tried_again(nook: Path) -> None:
    config = nook / "entrepot.yaml"
    config.write_text("listne: 127.0.0.1:5000\n")
    outcome = attempt(*_command(config))
    assert [str(outcome.code)] == unit()["RestartPreventExitStatus"], outcome.output


def test_it_stops_waiting_only_after_running_transfers_may_have_finished() -> None:
    from proxy.config import Settings as Defaults

    defaults = Defaults()
    (stop_s,) = unit()["TimeoutStopSec"]
    assert int(stop_s) > defaults.drain_delay_s + defaults.drain_s
    assert signal.Signals.SIGTERM.name == unit().get("KillSignal", ["SIGTERM"])[0]


def test_its_configuration_is_valid_as_it_stands() -> None:
    outcome = attempt(installed(), "config", "check", "--config", CONFIG)
    assert outcome.code == 0, outcome.output
