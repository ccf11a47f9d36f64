"""The machine a server runs on: its folder, ports, limits. Asks no network but loopback."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import socket
import ssl
import tempfile
from pathlib import Path

from proxy.cache import keys
from proxy.config import Settings, host_and_port
from proxy.doctor.finding import Finding

_GIB = 1024**3
_FILES_SPARE = 1024


def examine(settings: Settings, *, running: bool) -> list[Finding]:
    """All of it. `running`: the server is up, so its ports and lock are its own."""
    return [
        _writable(settings.data_dir),
        _room(settings),
        _lock(settings.data_dir, running=running),
        *(_port(name, address, running=running) for name, address in _listeners(settings)),
        _files(settings),
        *_certificate(settings),
    ]


def _existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that is there."""
    while not path.exists():
        path = path.parent
    return path


def _writable(data_dir: Path) -> Finding:
    name, there = "data_dir", _existing(data_dir.absolute())
    user = os.geteuid()
    if not there.is_dir():
        return Finding(name, "fail", f"{there} is not a folder", "set data_dir to one")
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".entrepot-doctor-") as probe:
            probe.write(b"probe")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return Finding(
            name,
            "fail",
            f"user {user} can't write to {there}: {error.strerror}",
            f"chown {data_dir} to the user that Entrepot runs as, or mount it read-write",
        )
    if there != data_dir.absolute():
        return Finding(name, "ok", f"{data_dir} will be made in {there}")
    problem = _layout(data_dir)
    if problem is not None:
        return Finding(name, "fail", problem, "use an empty folder, or the version that wrote it")
    return Finding(name, "ok", f"{data_dir} can be written (as user {user})")


def _layout(data_dir: Path) -> str | None:
    try:
        version = json.loads((data_dir / keys.LAYOUT).read_bytes()).get("v")
    except (OSError, ValueError, AttributeError):
        return None
    if version == keys.LAYOUT_VERSION:
        return None
    return f"{data_dir} has layout {version}; this version reads layout {keys.LAYOUT_VERSION}"


def _room(settings: Settings) -> Finding:
    name, there = "disk", _existing(settings.data_dir.absolute())
    status = os.statvfs(there)
    free, total = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
    said = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB are free at {there}"
    if free <= settings.disk_free_bytes_min:
        return Finding(
            name,
            "fail",
            f"{said}, and disk_free_bytes_min is {settings.disk_free_bytes_min / _GIB:.1f} GiB: "
            "nothing can be kept",
            "make room, or lower disk_free_bytes_min",
        )
    if status.f_files and status.f_favail < status.f_files // 50:
        return Finding(
            name,
            "warn",
            f"{said}, but only {status.f_favail} inodes",
            "use a file system with more inodes; each blob and tag takes one",
        )
    wanted = settings.disk_bytes_max
    if wanted is not None and wanted > total - settings.disk_free_bytes_min:
        return Finding(
            name,
            "warn",
            f"disk_bytes_max is {wanted / _GIB:.1f} GiB, more than the file system holds",
            "lower disk_bytes_max; until then disk_free_bytes_min is the bound",
        )
    return Finding(name, "ok", said)


def _lock(data_dir: Path, *, running: bool) -> Finding:
    try:
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return Finding("lock", "ok", "no other process uses data_dir")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if running:
            return Finding("lock", "ok", "data_dir is in use by the running server")
        return Finding(
            "lock",
            "fail",
            "data_dir is in use, but no server answers at admin_listen",
            "another Entrepot with other ports has this data_dir, or one that hangs: see "
            f"`fuser {data_dir}/lock`",
        )
    finally:
        os.close(descriptor)
    return Finding("lock", "ok", "no other process uses data_dir")


def _listeners(settings: Settings) -> list[tuple[str, str]]:
    listeners = [("listen", settings.listen), ("admin_listen", settings.admin_listen)]
    if settings.peer_listen is not None:
        listeners.append(("peer_listen", settings.peer_listen))
    return listeners


def _port(name: str, address: str, *, running: bool) -> Finding:
    host, port = host_and_port(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return _taken(name, address, error, running=running)
    if running:
        return Finding(
            name,
            "fail",
            f"the running server does not listen at {address}",
            "it was started with another configuration; restart it, or give --config",
        )
    return Finding(name, "ok", f"{address} is free")


def _taken(name: str, address: str, error: OSError, *, running: bool) -> Finding:
    match error.errno:
        case errno.EADDRINUSE if running:
            return Finding(name, "ok", f"{address} is in use by the running server")
        case errno.EADDRINUSE:
            todo = "stop the program that has it (see `ss -ltnp`), or choose another port"
        case errno.EACCES:
            todo = "a port below 1024 needs CAP_NET_BIND_SERVICE; choose another"
        case errno.EADDRNOTAVAIL:
            todo = "this machine does not have that address; 0.0.0.0 means all it has"
        case _:
            todo = "choose another address"
    return Finding(name, "fail", f"can't listen at {address}: {error.strerror}", todo)


def _files(settings: Settings) -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * settings.connections_max + _FILES_SPARE
    if hard != resource.RLIM_INFINITY and hard < wanted:
        return Finding(
            "files",
            "warn",
            f"at most {hard} open files here; connections_max {settings.connections_max} may "
            f"need {wanted}",
            "raise LimitNOFILE (systemd), --ulimit nofile (containers), or lower connections_max",
        )
    return Finding("files", "ok", f"{'any number of' if hard < 0 else hard} open files are allowed")


def _certificate(settings: Settings) -> list[Finding]:
    cert, key = settings.tls_cert_file, settings.tls_key_file
    if cert is None or key is None:
        return []
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror or error
        todo = "both must be PEM, readable, and belong to each other"
        return [Finding("tls", "fail", f"{cert} with {key} can't be used: {why}", todo)]
    return [Finding("tls", "ok", "certificate and key belong to each other")]
