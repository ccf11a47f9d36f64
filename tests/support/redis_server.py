"""Real Redis servers on loopback: one, a Sentinel group, a Cluster.

Each is started by its own process id, on ports nobody used a moment ago, keeps
nothing on disk, and can be paused, killed and started again. Looking into it is
done with redis-py's synchronous client over connections of its own, so that no
test sees what the code under test believes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests.support.processes import ServerProcess, free_port, wait_until
from tests.support.programs import program

MASTER = "fleet"


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. `client_ca`: who may connect; None: anybody."""

    ca: Path
    cert: Path
    key: Path
    client_ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None


class RedisServer:
    """One server. `options` are configuration lines, `password` is asked of all."""

    def __init__(
        self,
        folder: Path,
        *,
        options: tuple[str, ...] = (),
        password: str | None = None,
        tls: Tls | None = None,
        sentinel: bool = False,
    ) -> None:
        folder.mkdir(parents=True)
        self.port = free_port()
        self._password = password
        self._tls = tls
        lines = ["bind 127.0.0.1", f"dir {folder}", *options]
        if not sentinel:
            lines += ['save ""', "appendonly no", "repl-diskless-sync-delay 0"]
        if password is not None:
            lines.append(f"requirepass {password}")
        if tls is None:
            lines.append(f"port {self.port}")
        else:
            lines += [
                "port 0",
                f"tls-port {self.port}",
                f"tls-cert-file {tls.cert}",
                f"tls-key-file {tls.key}",
                f"tls-ca-cert-file {tls.client_ca or tls.ca}",
                f"tls-auth-clients {'no' if tls.client_ca is None else 'yes'}",
            ]
        config = folder / "redis.conf"
        config.write_text("\n".join(lines) + "\n")
        words = [program("redis-server"), str(config)]
        self.process = ServerProcess(
            [*words, "--sentinel"] if sentinel else words,
            log=folder / "log",
            ready=self.answers,
        )

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'redis' if self._tls is None else 'rediss'}://{self.address}"

    def start(self) -> None:
        self.process.start()

    def stop(self) -> None:
        # Asked nicely it would wait for its replicas; nothing is to be kept.
        self.process.kill()

    def pause(self) -> None:
        """It keeps its connections and answers nothing, as a frozen machine does."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def command(self, *words: Any, **options: Any) -> Any:
        """One command over a connection of its own; its reply."""
        client: Any = redis.Redis(  # typed by halves
            host="127.0.0.1",
            port=self.port,
            password=self._password,
            socket_timeout=5,
            **({} if self._tls is None else self._tls_options(self._tls)),
        )
        try:
            return client.execute_command(*words, **options)
        finally:
            client.close()

    def answers(self) -> bool:
        try:
            return bool(self.command("PING"))
        except redis.RedisError:
            return False

    @staticmethod
    def _tls_options(tls: Tls) -> dict[str, Any]:
        return {
            "ssl": True,
            "ssl_ca_certs": str(tls.ca),
            "ssl_certfile": None if tls.client_cert is None else str(tls.client_cert),
            "ssl_keyfile": None if tls.client_key is None else str(tls.client_key),
        }


@contextmanager
def running(*servers: RedisServer) -> Iterator[None]:
    """All of them, for as long as the context lasts."""
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.stop()


class SentinelGroup:
    """A master, a replica and three Sentinels who agree by two; `password` is theirs."""

    def __init__(self, folder: Path, *, password: str) -> None:
        first = RedisServer(folder / "one")
        second = RedisServer(folder / "two", options=(f"replicaof 127.0.0.1 {first.port}",))
        self.servers = (first, second)
        self.sentinels = tuple(
            RedisServer(
                folder / f"sentinel-{number}",
                sentinel=True,
                password=password,
                options=(
                    f"sentinel monitor {MASTER} 127.0.0.1 {first.port} 2",
                    f"sentinel down-after-milliseconds {MASTER} 500",
                    f"sentinel failover-timeout {MASTER} 2000",
                ),
            )
            for number in range(3)
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        with running(*self.servers, *self.sentinels):
            wait_until(self._settled, what="the Sentinels know each other and the replica")
            yield

    def master(self) -> RedisServer:
        """Who the Sentinels say is the master."""
        found = self.sentinels[0].command("SENTINEL GET-MASTER-ADDR-BY-NAME", MASTER)
        port = int(found[1])
        return next(server for server in self.servers if server.port == port)

    def fail_over(self) -> RedisServer:
        """Kill the master; returns the new one once it takes writes."""
        old = self.master()
        old.process.kill()
        wait_until(lambda: self.master() is not old, what="the Sentinels chose another master")
        new = self.master()
        wait_until(lambda: new.command("ROLE")[0] == b"master", what="it is a master")
        return new

    def _settled(self) -> bool:
        first = self.servers[0].command("INFO", "replication")
        states = [one.command("SENTINEL MASTER", MASTER) for one in self.sentinels]
        return (
            first["connected_slaves"] == 1
            and first["slave0"]["state"] == "online"
            and all(one["num-slaves"] == 1 and one["num-other-sentinels"] == 2 for one in states)
        )


class RedisCluster:
    """Three masters without replicas, a third of the slots each."""

    def __init__(self, folder: Path) -> None:
        self._buses = [free_port() for _ in range(3)]
        self.servers = tuple(
            RedisServer(
                folder / f"node-{number}",
                options=(
                    "cluster-enabled yes",
                    f"cluster-port {bus}",
                    "cluster-node-timeout 2000",
                ),
            )
            for number, bus in enumerate(self._buses)
        )

    @property
    def url(self) -> str:
        return self.servers[0].url

    @contextmanager
    def running(self) -> Iterator[None]:
        with running(*self.servers):
            bounds = (0, 5461, 10923, 16384)
            for number, server in enumerate(self.servers):
                server.command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
                server.command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            for server, bus in zip(self.servers[1:], self._buses[1:], strict=True):
                self.servers[0].command("CLUSTER MEET", "127.0.0.1", server.port, bus)
            wait_until(self._settled, what="all nodes know all slots")
            yield

    def _settled(self) -> bool:
        return all(
            (state := server.command("CLUSTER INFO"))["cluster_state"] == "ok"
            and state["cluster_known_nodes"] == "3"
            for server in self.servers
        )
