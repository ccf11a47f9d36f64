"""The peers, each set to what serves it best here.

Where a default would be unfair (nginx's lock gives up after 5 s, drayage's
whole-body time limit is 30 s) it is raised. Nobody writes a line per request.
What a machine lacks is not measured, and the report says so; only drayage, a
package as our own dependencies are, is installed on the spot. `make
bench-peers` builds distribution 3.

zot fetches whole images only. Its configuration follows its manual; it has
never been run here, since its module could not be had.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.bench.systems import NotHere, Place, System, program

_DRAYAGE_VERSION = "0.2.9"


def _docker_registry(place: Place) -> list[str]:
    return [program("docker-registry"), "serve", _distribution(place)]


def _distribution_3(place: Place) -> list[str]:
    # Its exporter of traces would look for a collector.
    return ["env", "OTEL_TRACES_EXPORTER=none", program("registry"), "serve", _distribution(place)]


def _distribution(place: Place) -> str:
    config = place.folder / "config.yml"
    tls = ""
    if place.tls:
        tls = f", tls: {{certificate: {place.tls.cert}, key: {place.tls.key}}}"
    config.write_text(
        f"""version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  cache: {{blobdescriptor: inmemory}}
  filesystem: {{rootdirectory: {place.folder / "data"}}}
http: {{addr: "127.0.0.1:{place.port}"{tls}}}
proxy: {{remoteurl: "http://127.0.0.1:{place.upstream_port}"}}
"""
    )
    return str(config)


def _zot(place: Place) -> list[str]:
    config = place.folder / "config.json"
    http: dict[str, object] = {"address": "127.0.0.1", "port": str(place.port)}
    if place.tls:
        http["tls"] = {"cert": str(place.tls.cert), "key": str(place.tls.key)}
    upstream = {
        "urls": [f"http://127.0.0.1:{place.upstream_port}"],
        "onDemand": True,
        "tlsVerify": False,
        "content": [{"prefix": "**"}],
    }
    document = {
        "distSpecVersion": "1.1.1",
        "storage": {"rootDirectory": str(place.folder / "data"), "gc": False},
        "http": http,
        "log": {"level": "error"},
        "extensions": {"sync": {"enable": True, "registries": [upstream]}},
    }
    config.write_text(json.dumps(document))
    return [program("zot", "zot-linux-amd64"), "serve", str(config)]


def _nginx(place: Place) -> list[str]:
    folder = place.folder
    tls = ""
    if place.tls:
        tls = f"ssl_certificate {place.tls.cert}; ssl_certificate_key {place.tls.key};"
    return nginx_command(
        folder,
        f"""
  proxy_cache_path {folder / "data"} levels=1:2 keys_zone=blobs:10m max_size=20g use_temp_path=off;
  upstream registry {{ server 127.0.0.1:{place.upstream_port}; keepalive 32; }}
  server {{
    listen 127.0.0.1:{place.port} {"ssl" if tls else ""} backlog=4096;
    {tls}
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
  }}""",
    )


def nginx_command(folder: Path, http: str) -> list[str]:
    """One worker, sendfile, with `http` in its http block. Raises `NotHere`."""
    temporary = "\n".join(
        f"  {kind}_temp_path {folder / kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"""daemon off;
user {folder.owner()};
worker_processes 1;
worker_rlimit_nofile 8192;
pid {folder / "pid"};
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
{temporary}
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
{http}
}}
"""
    )
    return [program("nginx"), "-c", str(config), "-p", str(folder), "-e", "stderr"]


def _drayage(place: Place) -> list[str]:
    (place.folder / "data").mkdir()
    config = place.folder / "config.toml"
    config.write_text(
        f"""listen = "127.0.0.1:{place.port}"
cache_dir = "{place.folder / "data"}"
manifest_ttl_seconds = 900
read_timeout_secs = 600
[upstreams.docker_io]
registry = "http://127.0.0.1:{place.upstream_port}"
"""
    )
    # Named like Docker Hub because that is where it looks for names without a host.
    return [_drayage_program(), "serve", "--config", str(config)]


def _drayage_program() -> str:
    """In a virtual environment of its own under the user's cache folder."""
    home = Path.home() / ".cache" / "entrepot-bench" / f"drayage-{_DRAYAGE_VERSION}"
    found = home / "bin" / "drayage"
    if not found.exists():
        wanted = f"drayage=={_DRAYAGE_VERSION}"
        pip = [str(home / "bin" / "pip"), "install", "--no-deps", wanted]
        try:
            for words in ([sys.executable, "-m", "venv", str(home)], pip):
                subprocess.run(words, check=True, capture_output=True, timeout=120)
        except (subprocess.SubprocessError, OSError) as error:
            raise NotHere(f"{wanted} can't be installed: {error}") from error
    return str(found)


PEERS = (
    System(name="nginx", plan=_nginx),
    System(name="drayage", plan=_drayage, tls=False),
    System(name="docker-registry", plan=_docker_registry),
    System(name="distribution 3", plan=_distribution_3),
    System(name="zot", plan=_zot, by_image=True),
)
