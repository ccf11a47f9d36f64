"""All services of deploy/compose.yaml that pulls go through, as processes: Redis, S3,
two replicas and the load balancer, each started with the words that the file has.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import yaml

from tests.support.compose import DEPLOY, REPLICAS, Here, services
from tests.support.distribution import installed
from tests.support.docker_registry import DockerRegistry
from tests.support.entrepot import upstreams_of
from tests.support.processes import ServerProcess, accepts, answers_http, free_port
from tests.support.programs import program, run
from tests.support.seaweed import weed


@dataclass(slots=True)
class Fleet:
    """All services of compose.yaml that pulls go through."""

    here: Here
    replicas: dict[str, ServerProcess]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.here.ports[':5000']}"


def _command(name: str, here: Here, **programs: str | Path) -> list[str | Path]:
    """A service's words; the program's name is replaced by where it is here."""
    service = services("compose.yaml")[name]
    words = [*service.get("entrypoint", ()), *service["command"]]
    return [programs.get(word, here.text(word)) for word in words]


def _start_store(folder: Path, here: Here, stack: ExitStack) -> None:
    """Redis and S3."""
    secrets = folder / "secrets"
    secrets.mkdir()
    # What compose gives is a container's own port; here all share a machine.
    run(sys.executable, *_command("secrets", here, python="-B")[1:])
    redis_port, s3_port = here.ports["redis:6379"], here.ports["s3:8333"]
    conf = (secrets / "redis.conf").read_text()
    own_conf = folder / "redis.conf"
    own_conf.write_text(conf.replace("port 6379", f"port {redis_port}\nbind 127.0.0.1"))
    binary = program("redis-server")
    redis_words = _command(
        "redis", here, **{"redis-server": binary, "/secrets/redis.conf": own_conf}
    )
    redis = ServerProcess(
        redis_words, log=folder / "redis.log", ready=lambda: accepts(redis_port), cwd=folder
    )
    stack.callback(redis.stop)
    redis.start()

    (folder / "objects").mkdir()
    bound = {
        "weed": weed(),
        "-s3.port=8333": f"-s3.port={s3_port}",
        "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1",
    }
    ports = {name: free_port() for name in ("master.port", "volume.port", "filer.port")}
    grpc = {f"{name}.grpc": free_port() for name in (*ports, "s3.port")}
    aside = [f"-{name}={port}" for name, port in (ports | grpc).items()]
    aside += ["-ip=127.0.0.1", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    aside += [f"-{name}.localSocket={folder}/{name}.sock" for name in ("s3", "filer")]
    s3 = ServerProcess(
        [*_command("s3", here, **bound), *aside],
        log=folder / "s3.log",
        ready=lambda: _healthy("s3", s3_port),
        cwd=folder,
    )
    stack.callback(_sweep, grpc)
    stack.callback(s3.kill)
    s3.start(deadline_s=90)


def _sweep(grpc: dict[str, int]) -> None:
    """SeaweedFS puts these where no option moves them."""
    for name, port in grpc.items():
        kind = name.split(".")[0]
        Path(f"/tmp/seaweedfs-{kind}-grpc-{port}.sock").unlink(missing_ok=True)


def _healthy(name: str, port: int) -> bool:
    """The service's own health check, asked here: a URL that `wget` must be able to get."""
    *_, url = services("compose.yaml")[name]["healthcheck"]["test"]
    return answers_http(port, "/" + url.split("/", 3)[3])


@contextlib.contextmanager
def fleet(folder: Path, upstream: DockerRegistry) -> Iterator[Fleet]:
    """All of it, in the new folder `folder`, in front of `upstream`."""
    folder.mkdir()
    addresses = [f"{name}:{port}" for name in REPLICAS for port in (5000, 5001, 5002)]
    moved = {"/secrets": folder / "secrets", "/data": folder / "objects"}
    moved["/make_secrets.py"] = DEPLOY / "compose" / "make_secrets.py"
    here = Here(folder, "redis:6379", "s3:8333", ":5000", *addresses, moved=moved)
    with ExitStack() as stack:
        _start_store(folder, here, stack)
        replicas = {}
        for name in REPLICAS:
            replicas[name] = _replica(name, folder, here, upstream)
            stack.callback(replicas[name].stop)
            replicas[name].start()
        balancer = _balancer(folder, here)
        stack.callback(balancer.stop)
        balancer.start()
        yield Fleet(here, replicas)


def _replica(name: str, folder: Path, here: Here, upstream: DockerRegistry) -> ServerProcess:
    service = services("compose.yaml")[name]
    settings = yaml.safe_load(here.text((DEPLOY / "compose" / "entrepot.yaml").read_text()))
    for key, port in (("listen", 5000), ("admin_listen", 5001), ("peer_listen", 5002)):
        assert settings[key] == f"0.0.0.0:{port}"
        settings[key] = f"127.0.0.1:{here.ports[f'{name}:{port}']}"
    settings["data_dir"] = str(folder / name)
    settings["upstreams"] = upstreams_of(upstream)
    settings["disk_bytes_max"] = "1GiB"
    settings["disk_free_bytes_min"] = "1MiB"
    settings["drain_delay_s"] = "0s"  # nobody new is to come, when a test ends
    config = folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump(settings))
    port = here.ports[f"{name}:5000"]
    return ServerProcess(
        [installed(), *service["command"]],
        env={**service.get("environment", {}), "ENTREPOT_CONFIG": str(config)},
        log=folder / f"{name}.log",
        ready=lambda: answers_http(port),
        cwd=folder,
    )


def _balancer(folder: Path, here: Here) -> ServerProcess:
    text = (DEPLOY / "compose" / "haproxy.cfg").read_text()
    for name in REPLICAS:  # one port for checks in a container, one for each here
        server = f"server {name} {name}:5000"
        assert server in text
        text = text.replace(server, f"{server} port {here.ports[f'{name}:5001']}")
    assert "bind :5000" in text
    assert "maxconn 16384" in text
    text = text.replace("maxconn 16384", "maxconn 512")  # of file descriptors there are few here
    (folder / "haproxy.cfg").write_text(here.text(text))
    places = {"haproxy": program("haproxy")}
    places["/usr/local/etc/haproxy/haproxy.cfg"] = str(folder / "haproxy.cfg")
    port = here.ports[":5000"]
    return ServerProcess(
        _command("lb", here, **places),
        log=folder / "haproxy.log",
        ready=lambda: _healthy("lb", port),
        cwd=folder,
    )


def served(fleet: Fleet) -> bool:
    """Whether there is anybody behind the balancer."""
    try:
        with urlopen(f"http://{fleet.address}/v2/", timeout=20) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def pending(fleet: Fleet, name: str) -> int:
    port = fleet.here.ports[f"{name}:5001"]
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        metrics = answer.read().decode()
    (value,) = re.findall(r"^entrepot_pending_uploads (\S+)$", metrics, re.MULTILINE)
    return int(float(value))


def check_redis(fleet: Fleet) -> None:
    """Its own health check."""
    kind, line = services("compose.yaml")["redis"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    program("redis-cli", package="redis-tools")
    command = fleet.here.text(line.replace("$$", "$"))
    port = fleet.here.ports["redis:6379"]
    assert "-p 6379" in command
    run("sh", "-c", command.replace("-p 6379", f"-p {port}"))
