"""Redis, SeaweedFS and replicas: real ones, started and ended by the bench.

Each in an empty folder of its own and on free loopback ports.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from tests.bench.processes import Tree, answers, free_port
from tests.bench.systems import ROOT, NotHere
from tests.support.weed import remove_sockets, takes_a_put

ACCESS_KEY, SECRET_KEY = "bench", "only for this bench"
BUCKET = "bench"
_SECRET = "a secret of the bench's replicas"
_WEED_PORTS = ("master.port", "volume.port", "filer.port", "s3.port")


class Server:
    """A started process; `stop` ends it, `kill` at once (-9)."""

    tree: Tree

    def stop(self) -> None:
        self.tree.stop()

    def kill(self) -> None:
        self.tree.process.send_signal(signal.SIGKILL)
        self.tree.process.wait()
        self.tree.stop()


class Redis(Server):
    """Keeps nothing on disk; comes back empty on the same port."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.port = free_port()
        self._folder = folder
        self.start()

    def start(self) -> None:
        options = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder))
        keep_nothing = ("--save", "", "--appendonly", "no")
        argv = [program("redis-server"), *options, *keep_nothing]
        self.tree = Tree(argv, log=self._folder / "log", cwd=self._folder)
        self.tree.wait_ready(self._answers)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as one:
                one.sendall(b"PING\r\n")
                return one.recv(100).startswith(b"+PONG")
        except OSError:
            return False


class Weed(Server):
    """SeaweedFS as an S3 server with the bucket `BUCKET`."""

    def __init__(self, folder: Path) -> None:
        data = folder / "data"
        data.mkdir(parents=True)
        config = folder / "s3.json"
        keys = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        nobody = {"name": "anonymous", "actions": [f"Admin:{BUCKET}", f"Write:{BUCKET}"]}
        someone = {"name": "bench", "credentials": keys, "actions": actions}
        config.write_text(json.dumps({"identities": [someone, nobody]}))
        ports = {name: free_port() for name in _WEED_PORTS}
        self._grpc = {name: free_port() for name in _WEED_PORTS}
        self.port = ports["s3.port"]
        argv = [
            *(program("weed"), "-logtostderr", "server", "-s3", f"-dir={data}"),
            *(f"-s3.config={config}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *("-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"),
            *(f"-{name}={port}" for name, port in ports.items()),
            *(f"-{name}.grpc={port}" for name, port in self._grpc.items()),
            *(f"-s3.localSocket={folder}/s3.sock", f"-filer.localSocket={folder}/filer.sock"),
            *("-master.volumeSizeLimitMB=1024", "-volume.max=64", "-volume.preStopSeconds=0"),
        ]
        self.tree = Tree(argv, log=folder / "log", cwd=folder)
        self.tree.wait_ready(lambda: takes_a_put(self.port, BUCKET))

    def stop(self) -> None:
        self.kill()
        remove_sockets(self._grpc)

    def kill(self) -> None:
        """At once: asked nicely it takes seconds, and nothing of it is kept."""
        if self.tree.process.poll() is None:
            super().kill()


class Replica(Server):
    """One Entrepot. `s3` and `redis` are ports, None: alone on its disk.

    The upstream has two names: `lab`, whose tags stay fresh for a minute, and
    `short`, whose tags are asked for each second.
    """

    def __init__(
        self,
        folder: Path,
        upstream: int,
        *,
        s3: int | None = None,
        redis: int | None = None,
        disk_bytes_max: int | None = None,
    ) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.port = free_port()
        url = f"http://127.0.0.1:{upstream}"
        settings: dict[str, object] = {
            "version": 1,
            "listen": f"127.0.0.1:{self.port}",
            "admin_listen": f"127.0.0.1:{free_port()}",
            "data_dir": str(folder / "data"),
            "access_log": False,
            "presets": False,
            "drain_s": 1,
            "default_upstream": "lab",
            "upstreams": {"lab": {"url": url}, "short": {"url": url, "tag_fresh_s": 1}},
        }
        if s3 is not None:
            endpoint = f"http://127.0.0.1:{s3}"
            keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
            settings["storage"] = {"s3": {"endpoint": endpoint, "bucket": BUCKET, **keys}}
        if redis is not None:
            settings["redis"] = {"url": f"redis://127.0.0.1:{redis}"}
            settings["peer_listen"] = f"127.0.0.1:{free_port()}"
            settings["peer_secret"] = _SECRET
        if disk_bytes_max is not None:
            settings["disk_bytes_max"] = disk_bytes_max
        (folder / "entrepot.yaml").write_text(json.dumps(settings))  # JSON is YAML
        self.launch()

    def launch(self) -> None:
        config = str(self.folder / "entrepot.yaml")
        argv = [sys.executable, "-m", "proxy", "serve", "--config", config]
        self.tree = Tree(argv, log=self.folder / "log", cwd=ROOT)

    def wait(self) -> None:
        """Raises `DidNotStart`."""
        self.tree.wait_ready(lambda: answers(f"http://127.0.0.1:{self.port}/v2/"))

    def unstored(self) -> int:
        """Blobs that S3 does not have yet."""
        pending = self.folder / "data" / "pending"
        with suppress(FileNotFoundError), os.scandir(pending) as found:
            return sum(1 for one in found if one.is_file())
        return 0

    def owns(self, ports: set[int]) -> bool:
        """Whether one of these local ports of TCP connections is this process's."""
        inodes = set()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            words = line.split()
            if int(words[1].rpartition(":")[2], 16) in ports:
                inodes.add(f"socket:[{words[9]}]")
        folder = f"/proc/{self.tree.process.pid}/fd"
        for fd in os.listdir(folder):
            with suppress(OSError):
                if os.readlink(f"{folder}/{fd}") in inodes:
                    return True
        return False


class DockerRegistry(Server):
    """Debian's, as a proxy that keeps in S3 and describes blobs in Redis."""

    def __init__(self, folder: Path, upstream: int, *, s3: int, redis: int) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.port = free_port()
        config = folder / "config.yml"
        config.write_text(
            f"""version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  cache: {{blobdescriptor: redis}}
  redirect: {{disable: true}}
  s3:
    accesskey: {ACCESS_KEY}
    secretkey: {SECRET_KEY}
    region: us-east-1
    regionendpoint: http://127.0.0.1:{s3}
    bucket: {BUCKET}
    secure: false
    rootdirectory: /peer
redis: {{addr: "127.0.0.1:{redis}"}}
http: {{addr: "127.0.0.1:{self.port}"}}
proxy: {{remoteurl: "http://127.0.0.1:{upstream}"}}
"""
        )
        # Its AWS library ends it if it is told of a CA bundle, even for plain HTTP.
        argv = ["env", "-u", "AWS_CA_BUNDLE", program("docker-registry"), "serve", str(config)]
        self.tree = Tree(argv, log=folder / "log", cwd=folder)

    def wait(self) -> None:
        self.tree.wait_ready(lambda: answers(f"http://127.0.0.1:{self.port}/v2/"))


def program(name: str) -> str:
    """Raises `NotHere`."""
    beside = Path(sys.executable).with_name(name)
    path = str(beside) if beside.exists() else shutil.which(name)
    if path is None:
        raise NotHere(f"{name} is not installed")
    return path
