"""A base image with Python, made of this machine's own Debian packages.

Stands in for `python:3.11-slim`, which is on a registry that tests don't reach:
the files of the installed packages `ROOTS` and of all they depend on, packed as
one layer. No network, a few seconds, and a real Debian user land with a C library,
a shell, Python with `venv`, and the certificate authorities this machine trusts.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

from tests.support.programs import missing, program, run

ROOTS = (
    *("python3", "python3-venv", "ca-certificates", "netbase"),
    *("base-files", "coreutils", "dash", "findutils", "grep", "libc-bin", "sed"),
)
_MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
# Neither read by a program nor wanted in a container.
_UNREAD = re.compile(r"/usr/share/(?:doc|man|info|locale|lintian|bug|i18n|gcc|gdb|perl)/|/boot/")
_STATUS = "${db:Status-Abbrev}\t${binary:Package}\t${Pre-Depends}, ${Depends}\t${Provides}\n"


def make_root(folder: Path) -> None:
    """Fill the new folder `folder`; skips (in CI: fails) where this is no Debian
    with the packages.
    """
    program("dpkg-query", package="dpkg")
    folder.mkdir()
    for name in _MERGED:
        if Path("/", name).is_symlink():
            (folder / name).symlink_to(f"usr/{name}")
            (folder / "usr" / name).mkdir(parents=True, exist_ok=True)
    listed = run("dpkg-query", "-L", *sorted(_closure())).stdout.splitlines()
    for line in listed:
        if line.startswith("/") and line != "/." and not _UNREAD.search(f"{line}/"):
            _copy(line, folder)
    for made in ("/etc/ssl/certs", "/etc/alternatives"):  # by maintainer scripts, not by dpkg
        shutil.copytree(made, folder / made[1:], symlinks=True, dirs_exist_ok=True)
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\n")
    (folder / "tmp").mkdir(mode=0o1777, exist_ok=True)
    run("ldconfig", "-r", folder, env={"PATH": f"{os.environ['PATH']}:/sbin:/usr/sbin"})


def _copy(path: str, folder: Path) -> None:
    try:
        kind = os.lstat(path)
    except FileNotFoundError:
        return  # A machine may leave out documentation.
    target = os.path.realpath(folder / os.path.dirname(path)[1:]) + "/" + os.path.basename(path)
    if os.path.lexists(target):
        return
    if stat.S_ISDIR(kind.st_mode):
        os.makedirs(target)
        os.chmod(target, stat.S_IMODE(kind.st_mode))
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copy2(path, target, follow_symlinks=False)


def _closure() -> set[str]:
    """`ROOTS` and what they need, as names of installed packages."""
    needs: dict[str, list[list[str]]] = {}
    provided: dict[str, str] = {}
    text = subprocess.check_output(["dpkg-query", "-W", "-f", _STATUS], text=True)
    for line in text.splitlines():
        status, package, depends, provides = line.split("\t")
        if not status.startswith("ii"):
            continue
        name = package.split(":")[0]
        needs[name] = [_names(group.split("|")) for group in depends.split(",")]
        provided |= dict.fromkeys(_names(provides.split(",")), name)
    chosen: set[str] = set()
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        if name not in needs:
            missing(f"needs the Debian package {name}")
        if name in chosen:
            continue
        chosen.add(name)
        for group in needs[name]:
            found = (provided.get(one, one) if one not in needs else one for one in group)
            waiting += [one for one in found if one in needs][:1]
    # What installs packages; nothing that is installed needs it to run.
    return chosen - {"debconf", "dpkg", "perl-base", "tar", "openssl", "libssl-dev"}


def _names(words: list[str]) -> list[str]:
    """`libc6 (>= 2.36)`, `python3:any` → `libc6`, `python3`."""
    bare = [re.split(r"[\s(:]", word.strip())[0] for word in words]
    return [word for word in bare if word]
