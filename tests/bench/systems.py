"""The systems that are compared, each as its makers would have it run.

A `System` says how to start one: in an empty folder of its own, on a free
loopback port, caching the registry at `upstream`. Where a default would be
unfair to a peer (nginx's lock gives up after 5 s; drayage's whole-body time
limit is 30 s), it is set to what serves that peer best here. Nobody writes a
line per request.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import Tree, answers, free_port

ROOT = Path(__file__).resolve().parents[2]
_DRAYAGE_VERSION = "0.2.9"


class NotHere(Exception):
    """A peer that this machine does not have; the message says why."""


@dataclass(frozen=True, slots=True)
class System:
    """`plan(folder, port, upstream_port)` writes the configuration and returns the
    command line. Raises `NotHere`.
    """

    name: str
    plan: Callable[[Path, int, int], list[str]]


@dataclass(frozen=True, slots=True)
class Running:
    """A system that answers on `port`."""

    name: str
    port: int
    tree: Tree


def start(system: System, folder: Path, upstream_port: int) -> Running:
    """Start with an empty cache in `folder`. Raises `NotHere`, `DidNotStart`."""
    folder.mkdir(parents=True)
    port = free_port()
    argv = system.plan(folder, port, upstream_port)
    tree = Tree(argv, log=folder / "log", cwd=ROOT)
    try:
        tree.wait_ready(lambda: answers(f"http://127.0.0.1:{port}/v2/"))
    except BaseException:
        tree.stop()
        raise
    return Running(system.name, port, tree)


def _entrepot(folder: Path, port: int, upstream_port: int) -> list[str]:
    config = folder / "entrepot.yaml"
    config.write_text(
        f"""version: 1
listen: 127.0.0.1:{port}
admin_listen: 127.0.0.1:{free_port()}
data_dir: {folder / "data"}
access_log: false
default_upstream: lab
upstreams:
  lab: {{url: "http://127.0.0.1:{upstream_port}", tag_fresh_s: 60}}
"""
    )
    return [sys.executable, "-m", "proxy", "serve", "--config", str(config)]


def _docker_registry(folder: Path, port: int, upstream_port: int) -> list[str]:
    config = folder / "config.yml"
    config.write_text(
        f"""version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  cache: {{blobdescriptor: inmemory}}
  filesystem: {{rootdirectory: {folder / "data"}}}
http: {{addr: "127.0.0.1:{port}"}}
proxy: {{remoteurl: "http://127.0.0.1:{upstream_port}"}}
"""
    )
    return [_program("docker-registry"), "serve", str(config)]


def _nginx(folder: Path, port: int, upstream_port: int) -> list[str]:
    config = folder / "nginx.conf"
    temporary = "\n".join(
        f"  {kind}_temp_path {folder / kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(
        f"""daemon off;
user {_owner(folder)};
worker_processes 1;
pid {folder / "pid"};
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
{temporary}
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  proxy_cache_path {folder / "data"} levels=1:2 keys_zone=blobs:10m max_size=20g use_temp_path=off;
  upstream registry {{ server 127.0.0.1:{upstream_port}; keepalive 32; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://registry;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_cache blobs;
      proxy_cache_key $uri;
      proxy_cache_valid 200 1h;
      proxy_cache_lock on;
      proxy_cache_lock_timeout 15m;
      proxy_cache_lock_age 15m;
    }}
  }}
}}
"""
    )
    return [_program("nginx"), "-c", str(config), "-p", str(folder), "-e", "stderr"]


def _drayage(folder: Path, port: int, upstream_port: int) -> list[str]:
    (folder / "data").mkdir()
    config = folder / "config.toml"
    config.write_text(
        f"""listen = "127.0.0.1:{port}"
cache_dir = "{folder / "data"}"
manifest_ttl_seconds = 900
read_timeout_secs = 600
[upstreams.docker_io]
registry = "http://127.0.0.1:{upstream_port}"
"""
    )
    # Named like Docker Hub because that is where it looks for names without a host.
    return [drayage_program(), "serve", "--config", str(config)]


def drayage_program() -> str:
    """Its program, in a virtual environment of its own under the user's cache folder."""
    home = Path.home() / ".cache" / "entrepot-bench" / f"drayage-{_DRAYAGE_VERSION}"
    program = home / "bin" / "drayage"
    if not program.exists():
        wanted = f"drayage=={_DRAYAGE_VERSION}"
        try:
            subprocess.run(
                [sys.executable, "-m", "venv", str(home)],
                check=True,
                capture_output=True,
                timeout=60,
            )
            subprocess.run(
                [str(home / "bin" / "pip"), "install", "--no-deps", wanted],
                check=True,
                capture_output=True,
                timeout=120,
            )
        except (subprocess.SubprocessError, OSError) as error:
            raise NotHere(f"{wanted} can't be installed: {error}") from error
    return str(program)


def _program(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if path is None:
        raise NotHere(f"{name} is not installed")
    return path


def _owner(folder: Path) -> str:
    """Workers must be able to write where root made the folder."""
    return folder.owner()


ENTREPOT = System("Entrepot", _entrepot)
PEERS = (
    System("docker-registry", _docker_registry),
    System("drayage", _drayage),
    System("nginx", _nginx),
)
