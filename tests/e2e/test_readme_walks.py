"""The README's walk-throughs, for an office and for an air gap, run as they stand there.

In a network of their own, where the ports that they name are free and nothing but
loopback can be reached.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

from tests.support.busybox_image import Built
from tests.support.containers_tools import Settings, Skopeo
from tests.support.distribution import installed
from tests.support.docker_registry import DockerRegistry
from tests.support.programs import attempt, missing, needs_containers, program

README = Path(__file__).parents[2] / "README.md"
WALK = re.compile(r"<!-- walk: (\w+) -->\n```sh\n(.*?)```\n<!-- /walk -->", re.DOTALL)
LIMIT_S = 120

REGISTRY = """
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: "content"}}
http: {addr: "127.0.0.1:5005", secret: "only for tests"}
"""
BEFORE = """set -eux
ip link set lo up
trap 'kill $(jobs -p) 2>/dev/null' EXIT
docker-registry serve registry.yml > registry.log 2>&1 &
until skopeo list-tags --tls-verify=false docker://127.0.0.1:5005/app; do sleep 0.1; done
"""
AFTER = """
cmp app/manifest.json carried/manifest.json
"""


def test_every_command_of_the_walk_throughs_works_as_it_stands(nook: Path, image: Built) -> None:
    needs_containers()
    unshare = program("unshare", package="util-linux")
    program("docker-registry")
    program("skopeo")
    tried = attempt(unshare, "--net", "--", "ip", "link", "set", "lo", "up")
    if tried.code:
        missing(f"needs a network namespace of its own: {tried.output.strip()}")
    with DockerRegistry(nook / "stocking", nook / "content") as registry:
        skopeo = Skopeo(Settings(nook / "tools", insecure=(registry.address,)))
        for name in ("app", "base"):
            target = f"docker://{registry.address}/{name}:v1"
            skopeo.run("copy", "--all", "--preserve-digests", f"oci:{image.layout}:multi", target)
    walks = dict(WALK.findall(README.read_text(encoding="utf-8")))
    assert list(walks) == ["office", "staging", "island", "delta"]
    (nook / "registry.yml").write_text(REGISTRY)
    (nook / "walk.sh").write_text(BEFORE + "".join(walks.values()) + AFTER)
    code, said = _run([unshare, "--net", "--", "bash", "walk.sh"], nook)
    assert code == 0, said + _logs(nook)


def _run(command: list[str | Path], folder: Path) -> tuple[int, str]:
    """In a session of its own, of which nothing is left afterwards."""
    path = f"{installed().parent}:{os.environ['PATH']}:/usr/sbin"
    environment = {"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8"}
    with (folder / "said").open("w") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return code, (folder / "said").read_text()[-6000:]


def _logs(folder: Path) -> str:
    found = (folder / name for name in ("office.log", "island.log", "registry.log"))
    return "".join(f"\n--- {one.name}\n{one.read_text()[-1500:]}" for one in found if one.exists())
