"""Asks one URL again and again over kept connections: the load where there is no `wrk`.

`python -m tests.bench.asker JOB`; prints `{"rate": answers a second, "bad": others}`.
One process in Python: against a server that answers more than some 20,000
requests a second, this is what is measured.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def run(url: str, connections: int, for_s: float, accept: str) -> dict[str, float]:
    """`bad`: answers that were not 200, and connections that broke."""
    parts = urlsplit(url)
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: {accept}\r\n\r\n"
    asked = request.encode()
    poll = select.epoll()
    sockets = {}
    held: dict[int, bytes] = {}
    good = bad = 0
    for _ in range(connections):
        one = socket.create_connection((parts.hostname or "", parts.port or 80))
        sockets[one.fileno()] = one
        held[one.fileno()] = b""
        poll.register(one, select.EPOLLIN)
        one.sendall(asked)
    began = time.perf_counter()
    while sockets and time.perf_counter() - began < for_s:
        for number, _ in poll.poll(0.1):
            got = sockets[number].recv(1 << 20)
            held[number] += got
            end = held[number].find(b"\r\n\r\n")
            length = _LENGTH.search(held[number], 0, end + 2) if end >= 0 else None
            if not got or (end >= 0 and (length is None or held[number][9:12] != b"200")):
                bad += 1
                poll.unregister(number)
                sockets.pop(number).close()
            elif length and len(held[number]) >= end + 4 + int(length[1]):
                good += 1
                held[number] = b""
                sockets[number].sendall(asked)
    took_s = time.perf_counter() - began
    for one in sockets.values():
        one.close()
    return {"rate": good / took_s, "bad": bad}


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    print(json.dumps(run(job["url"], job["connections"], job["for_s"], job["accept"])))
