"""Plays the kubelet for two pods of the chart, with nothing but what Linux has.

    unshare --mount --net -- python tests/helm/pod.py < play.json > report.json

Makes a root file system in which the pods' volumes lie where the manifests say, on a
network of its own, so that the manifests' ports are free whatever runs here. Starts the
proxy by the Deployment's exact command, with no capabilities; asks its probes; runs the
test pod's exact command; ends the proxy as the kubelet would. The upstream is a fake
registry in this process.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.fake_registry import FakeRegistry
from tests.support.images import image, index
from tests.support.waiting import until

UPSTREAM_PORT = 5100
_DEADLINE_S = 60.0
# The machine's own, apart from what a container image has its own of.
_OURS = frozenset({"etc", "run", "var", "lost+found"})
_CONFINED = ["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"]


def enter_root(files: dict[str, str], folders: list[str], hosts: list[str]) -> None:
    """Become root of a file system with these `files`, of which only `folders` are writable."""
    root = Path(tempfile.mkdtemp(prefix="pod-"))  # of the caller's folder, which it removes
    mount("-t", "tmpfs", "tmpfs", root)
    for entry in Path("/").iterdir():
        if entry.name in _OURS:
            continue
        if entry.is_symlink():
            (root / entry.name).symlink_to(entry.readlink())
        elif entry.is_dir():
            (root / entry.name).mkdir()
            mount("--rbind", entry, root / entry.name)
    shutil.copytree("/etc", root / "etc", symlinks=True)
    with (root / "etc/hosts").open("a") as file:
        file.write("".join(f"\n127.0.0.1 {host}\n" for host in hosts))
    for path, text in files.items():
        file_path = root / path.lstrip("/")
        file_path.parent.mkdir(parents=True, exist_ok=True)
        file_path.write_text(text)
    for folder in folders:
        at = root / folder.lstrip("/")
        at.mkdir(parents=True, exist_ok=True)
        mount("-t", "tmpfs", "tmpfs", at)
    mount("-o", "remount,ro", root)
    os.chroot(root)
    os.chdir("/")


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def raise_loopback() -> None:
    """`ip link set lo up`, of which a bare Debian has no program."""
    set_flags, up_running = 0x8914, 0x1 | 0x40
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", up_running))


async def play(asked: dict[str, Any]) -> dict[str, Any]:
    """What happened; keys are read by the test."""
    registry = FakeRegistry()
    registry.url = f"http://127.0.0.1:{UPSTREAM_PORT}"
    await registry.start()
    kinds = [image(300_000, seed=one, architecture=one) for one in ("amd64", "arm64", "arm")]
    registry.add("team/tiny", index(*kinds), "1")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    # Nothing of this machine's environment, as in a container.
    environment = {"PATH": path, **asked["env"]}
    proxy = await asyncio.create_subprocess_exec(
        *_CONFINED,
        *asked["command"],
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=sys.stderr,
    )
    report: dict[str, Any] = {}
    try:
        await until_ready(proxy, asked["probe"])
        report["livez"] = await status_of(asked["livez"])
        for pull in ("first", "second"):
            test = await asyncio.create_subprocess_exec(
                *_CONFINED,
                *asked["test"],
                env={"PATH": path},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            said, _ = await test.communicate()
            report[pull] = {"code": test.returncode, "said": said.decode()}
        report["blobs_fetched"] = registry.count(kind="blob", method="GET")
        report["as"] = proxy_status(proxy.pid)
        proxy.terminate()
        async with asyncio.timeout(_DEADLINE_S):
            report["exit"] = await proxy.wait()
    finally:
        if proxy.returncode is None:
            proxy.kill()
            await proxy.wait()
        await registry.stop()
    return report


def proxy_status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (one.partition(":") for one in lines)}


async def until_ready(proxy: asyncio.subprocess.Process, url: str) -> None:
    async def ready() -> bool:
        if proxy.returncode is not None:
            raise RuntimeError(f"the proxy ended with {proxy.returncode}")
        return await status_of(url) == 200

    await until(ready, "the proxy is ready", deadline_s=_DEADLINE_S)


async def status_of(url: str) -> int | None:
    try:
        async with aiohttp.ClientSession() as client, client.get(url) as answer:
            return answer.status
    except aiohttp.ClientError:
        return None


def main() -> None:
    asked = json.load(sys.stdin)
    raise_loopback()
    enter_root(asked["files"], asked["folders"], asked["hosts"])
    print(json.dumps(asyncio.run(play(asked))))


if __name__ == "__main__":
    main()
