"""`mirror-config`: printing, installing, taking back, and keeping hands off."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from proxy import cli
from proxy.config.presets import PRESETS

SERVER = "http://cache.example:5000"
DAEMON = '{"log-driver": "journald"}\r\n'
CONFIG = "# mine\nversion = 2\n"


class Host:
    """A node's root folder, and the command run on it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, client: str, *words: str, server: str = SERVER) -> Result:
        flags = [] if "--remove" in words else ["--server", server]
        arguments = ["mirror-config", client, *flags, "--root", str(self.root), *words]
        return CliRunner().invoke(cli.app, arguments)

    def install(self, client: str, *words: str, server: str = SERVER) -> Result:
        return self.run(client, "--upstream", "docker.io", "--write", *words, server=server)

    def put(self, path: str, text: str) -> Path:
        at = self.root / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(text.encode())
        return at

    def everything(self) -> dict[str, tuple[bytes | None, int]]:
        """All there is below the root, with its mode."""
        return {
            str(path.relative_to(self.root)): (
                path.read_bytes() if path.is_file() else None,
                path.stat().st_mode,
            )
            for path in self.root.rglob("*")
        }


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("HOME", "/root")
    root = tmp_path / "host"
    root.mkdir()
    return Host(root)


def prepare(host: Host) -> None:
    host.put("etc/docker/daemon.json", DAEMON).chmod(0o600)
    host.put("etc/containerd/config.toml", CONFIG).chmod(0o640)
    host.put("etc/containerd/certs.d/docker.io/hosts.toml", '[host."https://m.example"]\n')
    host.put("etc/rancher/k3s/registries.yaml", "configs: {}\n")
    host.put("etc/buildkit/buildkitd.toml", "debug = true\n")
    host.put("root/.regctl/config.json", '{"hosts": {}}').chmod(0o600)


CLIENTS = ("containerd", "docker", "podman", "crio", "buildkit", "k3s", "kind", "talos", "regctl")


@pytest.mark.parametrize("prepared", [False, True], ids=["bare", "with files"])
@pytest.mark.parametrize("client", CLIENTS)
def test_what_was_written_can_be_written_again_and_taken_back_to_the_byte(
    host: Host, client: str, prepared: bool
) -> None:
    if prepared:
        prepare(host)
    before = host.everything()
    first = host.install(client)
    assert first.exit_code == 0, first.output
    written = host.everything()
    assert written != before
    again = json.loads(host.install(client, "--json").stdout)
    assert (again["written"], host.everything()) == ([], written)
    other = host.install(client, server="http://other.example:81")
    assert other.exit_code == 0, other.output
    assert b"cache.example" not in b"".join(
        content or b"" for name, (content, _) in host.everything().items()
    )
    removed = host.run(client, "--remove")
    assert removed.exit_code == 0, removed.output
    assert host.everything() == before
    assert host.run(client, "--remove").stdout == "nothing to do\n"


def test_printing_touches_nothing_and_names_all_that_entrepot_knows(host: Host) -> None:
    printed = host.run("containerd", "--json")
    paths = [one["path"] for one in json.loads(printed.stdout)["files"]]
    assert paths == [
        "/etc/containerd/config.toml",
        *(f"/etc/containerd/certs.d/{name}/hosts.toml" for name in PRESETS),
    ]
    assert host.everything() == {}


def test_merged_files_keep_their_mode_and_contents(host: Host) -> None:
    prepare(host)
    host.install("docker")
    daemon = host.root / "etc/docker/daemon.json"
    assert daemon.stat().st_mode & 0o777 == 0o600
    assert json.loads(daemon.read_text())["log-driver"] == "journald"


def test_a_registry_that_is_no_longer_wanted_is_taken_back(host: Host) -> None:
    host.install("containerd", "--upstream", "ghcr.io")
    ghcr = host.root / "etc/containerd/certs.d/ghcr.io/hosts.toml"
    assert ghcr.exists()
    done = json.loads(host.install("containerd", "--json").stdout)
    assert done["deleted"] == ["/etc/containerd/certs.d/ghcr.io/hosts.toml"]
    assert not ghcr.exists()


def test_what_somebody_changed_since_is_theirs(host: Host) -> None:
    prepare(host)
    host.install("docker")
    daemon = host.root / "etc/docker/daemon.json"
    changed = json.dumps({**json.loads(daemon.read_text()), "debug": True})
    daemon.write_text(changed)
    # Nothing is missing, so nothing has to be done.
    assert host.install("docker").exit_code == 0
    refused = host.install("docker", server="http://other.example")
    assert refused.exit_code == 1
    assert "nothing was changed" in refused.stderr
    removed = host.run("docker", "--remove")
    assert removed.exit_code == 1
    assert removed.stdout.startswith("left /etc/docker/daemon.json")
    assert daemon.read_text() == changed
    assert host.run("docker", "--remove", "--force").exit_code == 0
    assert daemon.read_bytes() == DAEMON.encode()


def test_one_conflict_leaves_all_files_as_they_were(host: Host) -> None:
    host.put("etc/containerd/certs.d/docker.io/hosts.toml", "not toml")
    before = host.everything()
    refused = host.install("containerd")
    assert (refused.exit_code, host.everything()) == (1, before)
    assert "/etc/containerd/certs.d/docker.io/hosts.toml: is not TOML" in refused.stderr


def test_a_strangers_file_of_our_name_is_not_replaced(host: Host) -> None:
    host.put("etc/containers/registries.conf.d/entrepot.conf", "# somebody's\n")
    before = host.everything()
    assert host.install("podman").exit_code == 1
    assert host.everything() == before


def test_links_are_not_followed_out_of_the_root(host: Host, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (host.root / "etc").mkdir()
    (host.root / "etc/docker").symlink_to(outside)
    refused = host.install("docker")
    assert refused.exit_code == 1
    assert "a link in it leads out" in refused.stderr
    (host.root / "etc/docker").unlink()
    target = host.put("etc/real.json", "{}")
    (host.root / "etc/docker").mkdir()
    (host.root / "etc/docker/daemon.json").symlink_to(target)
    assert "is a link" in host.install("docker").stderr
    assert list(outside.iterdir()) == []


def test_a_crash_between_the_ledger_and_the_files_is_made_good(host: Host) -> None:
    prepare(host)
    before = host.everything()
    host.install("docker")
    # As if the rename had not happened: the copy and the ledger are there.
    (host.root / "etc/docker/daemon.json").write_bytes(DAEMON.encode())
    assert host.install("docker").exit_code == 0
    assert b"cache.example" in (host.root / "etc/docker/daemon.json").read_bytes()
    (host.root / "etc/docker/daemon.json").write_bytes(DAEMON.encode())
    assert host.run("docker", "--remove").exit_code == 0
    assert host.everything() == before


@pytest.mark.parametrize(
    "words",
    [
        ("frobnicate", "--server", SERVER),
        ("docker",),
        ("docker", "--server", "cache"),
        ("docker", "--server", SERVER, "--write", "--remove"),
        ("docker", "--server", SERVER, "--client-version", "new"),
        ("docker", "--server", SERVER, "--upstream", "ghcr.io"),
        ("podman", "--server", SERVER, "--upstream", "a.b", "--upstream", "a.b=c"),
        ("docker", "--server", SERVER, "--ca", os.devnull),
        ("docker", "--server", "https://c", "--ca", os.devnull),
    ],
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli.app, ["mirror-config", *words])
    assert result.exit_code == 2
    assert result.stderr.startswith("entrepot: ")


def test_a_private_key_is_never_copied_to_a_node(tmp_path: Path) -> None:
    bundle = tmp_path / "both.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n")
    words = ["mirror-config", "docker", "--server", "https://c", "--ca", str(bundle)]
    assert CliRunner().invoke(cli.app, words).exit_code == 2
