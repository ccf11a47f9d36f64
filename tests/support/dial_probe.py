"""What a proxy dials that may dial nothing: run as a process of its own, since an audit
hook stays for ever.

    python -m tests.support.dial_probe DATA_DIR URL offline|online

Starts a proxy in front of the registry at URL (`lab`, and `mine`, the same with
credentials) and of all preset ones, asks it everything there is to ask, and prints what
was dialled or looked up meanwhile, less its own addresses, as a JSON list.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import aiohttp

from proxy.app import Entrepot
from proxy.config import load
from proxy.doctor import upstreams as doctor

NOTHING = f"sha256:{'0' * 64}"
_dialled: list[str] = []
_own: set[int] = set()


def _hook(event: str, args: tuple[Any, ...]) -> None:
    match event, args:
        case "socket.connect", (_, (str(host), int(port), *_)):
            if not (host == "127.0.0.1" and port in _own):
                _dialled.append(f"connect {host}:{port}")
        case "socket.connect" | "socket.sendto", _:
            _dialled.append(f"{event} {args[-1]}")
        case (("socket.getaddrinfo" | "socket.gethostbyname"), (host, *_)):
            if host not in {"127.0.0.1", None}:
                _dialled.append(f"look up {host}")
        case "subprocess.Popen", _:
            _dialled.append(f"run {args[0]}")
        case _:
            pass


def _paths(known: list[str]) -> list[str]:
    found = ["/v2/", "/v2/_catalog", *known]
    for repository in (
        "lab/app",
        "lab/none",
        "mine/app",
        "docker.io/library/alpine",
        "ghcr.io/a/b",
    ):
        base = f"/v2/{repository}"
        found += [
            f"{base}/manifests/v1",
            f"{base}/manifests/none",
            f"{base}/manifests/{NOTHING}",
            f"{base}/blobs/{NOTHING}",
            f"{base}/tags/list",
            f"{base}/referrers/{NOTHING}",
        ]
    return found


async def _ask_all(proxy: Entrepot, known: list[str]) -> None:
    _own.update(int(address.rpartition(":")[2]) for address in (proxy.address, proxy.admin_address))
    pulls, admin = f"http://{proxy.address}", f"http://{proxy.admin_address}"
    async with aiohttp.ClientSession() as client:
        for path in _paths(known):
            for method, headers in (("HEAD", {}), ("GET", {}), ("GET", {"Range": "bytes=0-9"})):
                async with client.request(method, pulls + path, headers=headers) as answer:
                    await answer.read()
        for method, path in (
            ("GET", "/readyz"),
            ("GET", "/metrics"),
            ("GET", "/status"),
            ("GET", "/explain?image=lab/app:v1"),
            ("GET", "/explain?image=docker.io/library/alpine"),
            ("GET", "/history?image=lab/app:v1"),
            ("POST", "/scrub"),
        ):
            async with client.request(method, admin + path) as answer:
                await answer.read()
                assert answer.status == 200, (path, answer.status)


async def _run(data_dir: str, url: str, *, offline: bool) -> None:
    known = json.loads(sys.stdin.read() or "[]")
    login = {"username": "me", "password": "secret"}
    settings = load(
        None,
        {},
        {
            "listen": "127.0.0.1:0",
            "admin_listen": "127.0.0.1:0",
            "data_dir": data_dir,
            "access_log": False,
            "disk_free_bytes_min": 0,
            "tag_fresh_s": 0,
            "expose_recheck_s": 0,
            "drain_s": 1,
            "offline": offline,
            # Online, too, nothing but the loopback is to be dialled by this.
            "presets": offline,
            **({} if offline else {"default_upstream": "lab"}),
            "upstreams": {"lab": {"url": url}, "mine": {"url": url, **login}},
        },
    )
    await doctor.examine(settings)
    async with Entrepot(settings) as proxy:
        if offline:
            await _ask_all(proxy, known)
        await proxy.drain()


def main() -> None:
    """See the module."""
    _, data_dir, url, mode = sys.argv
    sys.addaudithook(_hook)
    asyncio.run(_run(data_dir, url, offline=mode == "offline"))
    print(json.dumps(_dialled))


if __name__ == "__main__":
    main()
