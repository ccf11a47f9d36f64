"""The node configurator, run as its DaemonSet runs it, on a folder as the node.

`entrepot mirror-config` is the real one; the mirror is a fake registry that breaks and
heals when a test wants it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.helm.charts import NAME, Helm
from tests.helm.matrix import MATRIX, SINGLE, over
from tests.helm.scripts import FILES, IMAGE, Script, mirror, running
from tests.support.faults import Fault
from tests.support.programs import needs_containers
from tests.support.waiting import until

CONFIG = """version = 3
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "/etc/containerd/certs.d"
"""
BEFORE = '# by hand\nserver = "https://registry-1.docker.io"\n'
LEDGER = "etc/entrepot/mirror-config"
DOWN = Fault(status=503)


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A node whose containerd has a hosts.toml already."""
    hosts = tmp_path / "node/etc/containerd/certs.d/docker.io"
    hosts.mkdir(parents=True)
    (hosts / "hosts.toml").write_text(BEFORE)
    (tmp_path / "node/etc/containerd/config.toml").write_text(CONFIG)
    return tmp_path / "node"


def hosts(node: Path) -> str:
    return (node / "etc/containerd/certs.d/docker.io/hosts.toml").read_text()


def configurator(
    node: Path, server: str, *more: str, runtime: str = "containerd", before: Sequence[str] = ()
) -> AbstractAsyncContextManager[Script]:
    return running(
        FILES / "configure_node.py",
        f"--runtime={runtime}",
        f"--server={server}",
        "--upstream=docker.io",
        "--upstream=ghcr.io",
        f"--image={IMAGE}",
        f"--root={node}",
        f"--ready-file={node.parent / 'ready'}",
        "--interval=0.05",
        "--failures-max=2",
        *more,
        before=before,
    )


async def test_a_node_is_configured_and_put_back_as_it_was(node: Path):
    async with mirror() as registry, configurator(node, registry.url) as script:
        await script.says("containerd pulls through")
        assert f'[host."{registry.url}/v2/docker.io"]' in hosts(node)
        assert (node / "etc/containerd/certs.d/ghcr.io/hosts.toml").exists()
        assert (node.parent / "ready").exists()
        assert await script.ends() == 0
    assert hosts(node) == BEFORE
    assert (node / "etc/containerd/config.toml").read_text() == CONFIG
    assert not (node / "etc/containerd/certs.d/ghcr.io").exists()
    assert not (node / LEDGER).exists()
    assert not (node.parent / "ready").exists()


async def test_nothing_is_written_while_the_mirror_fails(node: Path):
    async with mirror() as registry:
        registry.inject(DOWN, times=None, early=True)
        async with configurator(node, registry.url) as script:
            await script.says("3 in a row")
            assert hosts(node) == BEFORE
            assert not (node / LEDGER).exists()
            assert await script.ends() == 0


async def test_what_was_written_is_taken_back_while_the_mirror_fails(node: Path):
    async with mirror() as registry, configurator(node, registry.url) as script:
        await script.says("containerd pulls through")
        registry.inject(DOWN, times=None, early=True)
        await script.says("restored /etc/containerd/certs.d/docker.io/hosts.toml")
        await script.says("3 in a row")
        assert hosts(node) == BEFORE
        registry.heal()
        await script.says("containerd pulls through")
        assert registry.url in hosts(node)
        assert await script.ends() == 0
    assert hosts(node) == BEFORE


async def test_one_failure_is_none(node: Path):
    async with mirror() as registry, configurator(node, registry.url) as script:
        await script.says("containerd pulls through")
        registry.inject(DOWN, times=1, early=True)
        await script.says("1 in a row")
        before = registry.count()
        await registry.wait_requests(before + 10)
        assert registry.url in hosts(node)
        assert await script.ends() == 0
    assert not any("2 in a row" in line for line in script.lines)


async def test_a_configured_node_asks_for_little(node: Path):
    """Thousands of nodes look each minute; layers are for when something is written."""
    async with mirror() as registry, configurator(node, registry.url) as script:
        await script.says("containerd pulls through")
        before = registry.count()
        assert len({one.reference for one in registry.requests(kind="blob")}) == 3
        await registry.wait_requests(before + 9)
        blobs = {one.reference for one in registry.seen[before : before + 9] if one.kind == "blob"}
        assert len(blobs) == 1
        assert await script.ends() == 0


async def test_what_does_not_lead_to_a_pull_is_rolled_back(node: Path):
    """The first pull works, the one through what was written does not."""
    async with mirror() as registry:
        registry.inject(DOWN, times=1, early=True, match=lambda _: registry.count() == 6)
        async with configurator(node, registry.url) as script:
            await script.says("what was written does not lead to a pull")
            await script.says("restored /etc/containerd/certs.d/docker.io/hosts.toml")
            await script.says("containerd pulls through")
            assert await script.ends() == 0
    assert hosts(node) == BEFORE


async def test_files_of_a_killed_pod_are_taken_over(node: Path):
    async with mirror() as registry:
        async with configurator(node, registry.url) as script:
            await script.says("containerd pulls through")
        assert registry.url in hosts(node)  # it was killed
        registry.inject(DOWN, times=None, early=True)
        async with configurator(node, registry.url) as script:
            await script.says("restored /etc/containerd/certs.d/docker.io/hosts.toml")
            assert await script.ends() == 0
    assert hosts(node) == BEFORE


async def test_a_node_that_would_need_a_restart_is_left_alone(node: Path):
    """config.toml names no folder, and is mounted so that nobody can write to it."""
    needs_containers()
    (node / "etc/containerd/config.toml").write_text("version = 3\n")
    host = node.parent / "host"
    mounts = (
        f"mkdir -p {host}/etc/containerd {host}/etc/entrepot {node}/etc/entrepot"
        f" && mount --bind {node}/etc/containerd {host}/etc/containerd"
        f" && mount -o remount,bind,ro {host}/etc/containerd"
        f" && mount --bind {node}/etc/containerd/certs.d {host}/etc/containerd/certs.d"
        f" && mount --bind {node}/etc/entrepot {host}/etc/entrepot"
        ' && exec "$@"'
    )
    private = ["unshare", "--mount", "sh", "-c", mounts, "sh"]
    async with mirror() as registry, configurator(host, registry.url, before=private) as script:
        await script.says("Read-only file system")
        await script.says("Read-only file system")
        assert await script.ends() == 0
    assert hosts(node) == BEFORE
    assert (node / "etc/containerd/config.toml").read_text() == "version = 3\n"
    assert not (node / LEDGER).exists()


async def test_cri_o_is_told_to_read_its_registries_again(node: Path, tmp_path: Path):
    (node / "etc/containers/registries.conf.d").mkdir(parents=True)
    told = tmp_path / "told"
    told.mkdir()
    listener = (
        "import itertools, pathlib, signal\n"
        f"calls, folder = itertools.count(), pathlib.Path({str(told)!r})\n"
        "signal.signal(signal.SIGHUP, lambda *_: (folder / str(next(calls))).touch())\n"
        "print('listening', flush=True)\n"
        "while True: signal.pause()\n"
    )
    async with running("-c", listener) as crio, mirror() as registry:
        await crio.says("listening")
        pid = crio._process.pid
        comm = tmp_path / "proc" / str(pid) / "comm"
        comm.parent.mkdir(parents=True)
        comm.write_text("crio\n")
        proc = f"--proc={tmp_path / 'proc'}"
        async with configurator(node, registry.url, proc, runtime="crio") as script:
            await script.says(f"told CRI-O, process {pid}")
            drop_in = node / "etc/containers/registries.conf.d/entrepot.conf"
            await script.says("crio pulls through")
            assert f"{registry.url.removeprefix('http://')}/docker.io" in drop_in.read_text()
            assert await script.ends() == 0
        assert not drop_in.exists()
        await until(lambda: len(list(told.iterdir())) >= 2, "CRI-O is told again", deadline_s=60)


def test_the_daemon_set_runs_this_script_with_its_arguments(helm: Helm):
    rendered = helm.render(MATRIX["containerd nodes"])
    pod = rendered.one("DaemonSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["python3", "/scripts/configure_node.py"]
    assert container["args"] == [
        "--runtime=containerd",
        "--server=http://$(HOST_IP):30500",
        *(f"--upstream={one}" for one in ("docker.io", "ghcr.io", "quay.io", "registry.k8s.io")),
        "--image=docker.io/library/busybox:latest",
        "--root=/host",
        "--hosts-folder=/etc/containerd/certs.d",
        "--ready-file=/tmp/configured",
        "--interval=60",
        "--failures-max=3",
        "--client-version=2.1",
    ]
    assert container["readinessProbe"]["exec"]["command"] == ["cat", "/tmp/configured"]
    assert pod["hostNetwork"] is True
    assert "hostPID" not in pod
    scripts = rendered.one("ConfigMap", f"{NAME}-scripts")["data"]
    for name in ("pull.py", "configure_node.py"):
        assert scripts[name].strip() == (FILES / name).read_text().strip()


def test_nodes_config_toml_is_out_of_reach_unless_asked(helm: Helm):
    def mounts(**node: object) -> dict[str, bool]:
        values = over(MATRIX["containerd nodes"], nodeConfigurator=node)
        (container,) = helm.render(values).one("DaemonSet")["spec"]["template"]["spec"][
            "containers"
        ]
        return {
            one["mountPath"]: one.get("readOnly", False)
            for one in container["volumeMounts"]
            if one["mountPath"].startswith("/host")
        }

    assert mounts() == {
        "/host/etc/containerd": True,
        "/host/etc/containerd/certs.d": False,
        "/host/etc/entrepot": False,
    }
    assert mounts(editConfig=True)["/host/etc/containerd"] is False


def test_cri_os_nodes_show_their_processes(helm: Helm):
    pod = helm.render(MATRIX["CRI-O nodes"]).one("DaemonSet")["spec"]["template"]["spec"]
    assert pod["hostPID"] is True
    assert pod["nodeSelector"] == {"role": "worker"}
    assert "--ca=/run/secrets/entrepot/ca.crt" in pod["containers"][0]["args"]


def test_an_ipv6_node_is_in_brackets(helm: Helm):
    values = over(MATRIX["IPv6"], nodeConfigurator={"enabled": True})
    (container,) = helm.render(values).one("DaemonSet")["spec"]["template"]["spec"]["containers"]
    assert "--server=http://[$(HOST_IP)]:30500" in container["args"]
    assert helm.render(SINGLE).of("DaemonSet") == []
