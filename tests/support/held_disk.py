"""`python -m tests.support.held_disk BYTES [overlay]`: a disk that hangs when told to.

Commands are lines on stdin, each answered by a line on stdout: `hold read`,
`hold write`, `release`, and `held` (how many requests wait). The first line on stdout
is the folder, or `error ...` where the kernel does not let us.

Nothing stays behind, however this ends. The mounts are in a name space that only
exists as long as its one process, `_keep_mounts`; others reach them through its
`/proc/PID/root`. That process is killed with this one, and this one ends with its
stdin. What was held goes on then, or fails, when nobody is left to answer.

The two are never one: whoever unmounts a file system waits until it is written, and
who writes it here must not wait.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

from tests.support.fuse_file import HeldFile

_COMMAND_S = 30.0
_END_S = 20.0
_PR_SET_PDEATHSIG = 1
_CLONE_NEWNS = 0x20000
_MS_REC_PRIVATE = 0x4000 | 0x40000
# Only in a name space of our own: any folder that is everywhere.
_BASE = "/tmp"
_MOUNTED, _RESULT = b"m", b"r"
_libc = ctypes.CDLL(None, use_errno=True)


def serve(file: HeldFile, keeper: int, told: int) -> None:
    """Until stdin ends and the file is unmounted. `told` is where the keeper tells that
    there is something to serve, and then what came of it.
    """
    commands = sys.stdin.fileno()
    sources = [commands, told]
    deadline = float("inf")
    while time.monotonic() < deadline:
        # Woken now and then to let go of what was held for too long.
        ready, _, _ = select.select(sources, [], [], 1.0)
        _ = file.held
        if told in ready:
            if os.read(told, 1) == _MOUNTED:
                sources.append(file.fd)
            else:
                sources.remove(told)
                print(os.read(told, 4096).decode() or "error: no mounts", flush=True)
        if commands in ready:
            line = os.read(commands, 100).decode()
            if line:
                print(_obey(file, *line.split()), flush=True)
            else:
                file.release()
                sources = [file.fd]
                os.kill(keeper, signal.SIGKILL)
                deadline = time.monotonic() + _END_S
        if file.fd in ready and not file.request():
            return


def _obey(file: HeldFile, verb: str, kind: str = "") -> str:
    match verb, kind:
        case "hold", ("read" | "write"):
            file.hold(kind)
        case "release", "":
            file.release()
        case "held", "":
            return str(file.held)
        case _:
            return f"what is {verb!r}?"
    return "ok"


def _keep_mounts(file: HeldFile, parent: int, tell: int, *, overlay: bool) -> None:
    """In a process of its own: mount, say where, and wait to be killed."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        return
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    try:
        folder = _mount(file, tell, overlay=overlay)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or ""
        line = " ".join(f"error: {error} {said}".split())
    else:
        line = f"/proc/{os.getpid()}/root{folder}"
    os.write(tell, _RESULT + line.encode()[:4000])
    os.close(tell)
    while True:
        signal.pause()


def _mount(file: HeldFile, tell: int, *, overlay: bool) -> str:
    if _libc.unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "a mount name space")
    _mounted("none", "/", "", _MS_REC_PRIVATE)
    _mounted("none", _BASE, "tmpfs")
    backing, disk = f"{_BASE}/backing", f"{_BASE}/disk"
    os.close(os.open(backing, os.O_CREAT | os.O_WRONLY))
    os.mkdir(disk)
    _mounted("held", backing, "fuse", options=file.mount_options)
    # When the server dies, its connection must have nobody left.
    os.close(file.fd)
    os.write(tell, _MOUNTED)
    # The loop device goes when what is mounted from it does.
    _run("mount", "-t", "ext4", "-o", "loop", backing, disk)
    if not overlay:
        return disk
    parts = {name: f"{disk}/{name}" for name in ("lower", "upper", "work")}
    for part in parts.values():
        os.mkdir(part)
    merged = f"{_BASE}/merged"
    os.mkdir(merged)
    options = "lowerdir={lower},upperdir={upper},workdir={work}".format(**parts)
    _mounted("overlay", merged, "overlay", options=options)
    return merged


def _mounted(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    words = (source.encode(), target.encode(), kind.encode())
    if _libc.mount(*words, ctypes.c_ulong(flags), options.encode()) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mounting {kind}: {os.strerror(code)}")


def _run(*command: str, pass_fds: tuple[int, ...] = ()) -> None:
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        timeout=_COMMAND_S,
        pass_fds=pass_fds,
        env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
    )


def main(size: int, *, overlay: bool) -> None:
    """Until stdin ends."""
    # Without a journal: with one, a write to the page cache waits for a commit that
    # hangs, or not, by the second in which it comes.
    made = ("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "nodiscard,lazy_itable_init=0")
    try:
        file = HeldFile(size)
        _run(*made, f"/proc/self/fd/{file.content}", pass_fds=(file.content,))
    except (OSError, subprocess.SubprocessError) as error:
        print(f"error: {error} {getattr(error, 'stderr', '')}".replace("\n", " "), flush=True)
        return
    told, tell = os.pipe()
    parent = os.getpid()
    keeper = os.fork()
    if keeper == 0:
        try:
            _keep_mounts(file, parent, tell, overlay=overlay)
        finally:
            os._exit(1)
    os.close(tell)
    # So that it is not in the way of its own end.
    with suppress(BrokenPipeError):
        serve(file, keeper, told)


if __name__ == "__main__":
    main(int(sys.argv[1]), overlay="overlay" in sys.argv[2:])
