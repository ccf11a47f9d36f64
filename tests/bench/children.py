"""The two ends of a fill as child processes, so that their time is not counted with it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator

_PIECE = bytes(1024 * 1024)


def send_blobs(size: int, listener: socket.socket) -> None:
    """An upstream that answers every request with the same blob."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(head)
            for _ in range(size // len(_PIECE)):
                connection.sendall(_PIECE)


def swallow(listener: socket.socket) -> None:
    """A follower."""
    buffer = bytearray(len(_PIECE))
    while True:
        connection, _ = listener.accept()
        with connection:
            while connection.recv_into(buffer):
                pass


@contextlib.contextmanager
def child(work: Callable[[socket.socket], None]) -> Iterator[int]:
    """Its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pid = os.fork()
        if pid == 0:
            try:
                work(listener)
            finally:
                os._exit(1)  # never on into what the parent does next
        try:
            yield int(listener.getsockname()[1])
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
