"""podman, buildah and skopeo, each with a store and settings of its own.

They share one library and so one set of habits: a mirror is chosen once per
image, by ping and manifest, and has to deliver all of it. Settings of the
machine (registries, signature policy, credentials) are replaced, not extended.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.programs import Outcome, attempt, needs_containers, program, run

_ACCEPT_ALL = '{"default":[{"type":"insecureAcceptAnything"}]}'
_ENGINE = """\
[containers]
log_driver = "k8s-file"
# The defaults are above what an ordinary process may raise its own limits to.
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
"""
_MIRRORED = """\
[[registry]]
prefix = "{name}"
location = "{name}"
[[registry.mirror]]
location = "{mirror}"
insecure = {insecure}
"""


class Settings:
    """The files these tools read, in `folder`; `mirrors` maps a registry's name to
    `host:port/path` of its mirror, `insecure` are registries spoken to in plain HTTP.
    """

    def __init__(
        self,
        folder: Path,
        *,
        mirrors: dict[str, str] | None = None,
        insecure: tuple[str, ...] = (),
    ) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.policy = folder / "policy.json"
        self.policy.write_text(_ACCEPT_ALL)
        self.registries = folder / "registries.conf"
        parts = ['short-name-mode = "disabled"\n']
        for name, mirror in (mirrors or {}).items():
            plain = str(mirror.split("/")[0] in insecure).lower()
            parts.append(_MIRRORED.format(name=name, mirror=mirror, insecure=plain))
        parts += [f'[[registry]]\nlocation = "{name}"\ninsecure = true\n' for name in insecure]
        self.registries.write_text("".join(parts))
        (folder / "containers.conf").write_text(_ENGINE)
        (folder / "auth.json").write_text("{}")
        self.env = {
            "CONTAINERS_REGISTRIES_CONF": str(self.registries),
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "REGISTRY_AUTH_FILE": str(folder / "auth.json"),
        }


class Podman:
    """podman with an empty store; `certs` holds a private CA as `<host>/ca.crt`."""

    def __init__(self, settings: Settings, store: str) -> None:
        needs_containers()
        program("runc")
        self._settings = settings
        folder = settings.folder / store
        self._argv = [
            program("podman"),
            f"--root={folder / 'root'}",
            f"--runroot={folder / 'run'}",
            f"--tmpdir={folder / 'tmp'}",
            "--storage-driver=vfs",
        ]

    def pull(self, image: str, *, certs: Path | None = None) -> None:
        outcome = self.try_pull(image, certs=certs)
        assert outcome.code == 0, outcome.output

    def try_pull(self, image: str, *, certs: Path | None = None) -> Outcome:
        extra = [f"--cert-dir={certs}"] if certs else []
        policy = f"--signature-policy={self._settings.policy}"
        return attempt(*self._argv, "pull", policy, *extra, image, env=self._settings.env)

    def digest(self, image: str) -> str:
        words = ["image", "inspect", "--format", "{{.Digest}}", image]
        return run(*self._argv, *words, env=self._settings.env).stdout.strip()

    def says(self, image: str) -> str:
        """Run the image's own command; what it printed."""
        words = ["run", "--rm", "--network=none", "--pull=never", image]
        return run(*self._argv, *words, env=self._settings.env).stdout.strip()


class Buildah:
    """buildah with an empty store."""

    def __init__(self, settings: Settings, store: str) -> None:
        needs_containers()
        self._settings = settings
        folder = settings.folder / store
        self._argv = [
            program("buildah"),
            f"--root={folder / 'root'}",
            f"--runroot={folder / 'run'}",
            "--storage-driver=vfs",
        ]

    def start_from(self, image: str) -> str:
        """`buildah from`: pull the base image; the working container's name."""
        words = ["from", f"--signature-policy={self._settings.policy}", image]
        return run(*self._argv, *words, env=self._settings.env).stdout.strip()

    def says(self, container: str, *command: str) -> str:
        """`buildah run` as a RUN line of a Dockerfile would; what it printed."""
        words = ["run", "--isolation=chroot", container, "--", *command]
        return run(*self._argv, *words, env=self._settings.env).stdout.strip()


class Skopeo:
    """skopeo; its copies become folders in OCI layout."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._argv = [
            program("skopeo"),
            "--insecure-policy",
            f"--registries-conf={settings.registries}",
        ]

    def attempt(self, *words: str | Path) -> Outcome:
        return attempt(*self._argv, *words, env=self._settings.env)

    def run(self, *words: str | Path) -> Outcome:
        return run(*self._argv, *words, env=self._settings.env)

    def copy(self, image: str, target: Path, *, every_platform: bool = False) -> set[str]:
        """Copy `host/name:tag` to a new OCI layout; the digests it has there."""
        outcome = self.try_copy(image, target, every_platform=every_platform)
        assert outcome.code == 0, outcome.output
        return {f"sha256:{path.name}" for path in (target / "blobs" / "sha256").iterdir()}

    def try_copy(
        self, image: str, target: Path, *, every_platform: bool = False, certs: Path | None = None
    ) -> Outcome:
        words = ["--all"] if every_platform else []
        words += [f"--src-cert-dir={certs}"] if certs else []
        return self.attempt("copy", *words, f"docker://{image}", f"oci:{target}:copied")

    def tags(self, repository: str) -> list[str]:
        listed = json.loads(self.run("list-tags", f"docker://{repository}").stdout)
        return list(listed["Tags"])
