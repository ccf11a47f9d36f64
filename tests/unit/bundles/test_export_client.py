"""The side that writes: what it does when the bytes of a blob do not come as they should."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from proxy.bundles.contents import Blob
from proxy.bundles.export_client import Giver, Readable
from proxy.bundles.export_writing import WriteFailed
from proxy.errors import BadBundle, UpstreamUnavailable
from tests.support.bundle_contents import APP, OTHER, described

BODY = bytes(range(256)) * 40
BLOB = Blob(descriptor=described(BODY), kind="layer", places=(OTHER, APP))

Answer = tuple[int, bytes, int | None]
"""Status, body, how much of it is sent (None: all)."""


class Server:
    """Answers one after the other; `asked` are repository and range."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str | None]] = []

    @contextmanager
    def running(self) -> Iterator[str]:
        asked, answers = self.asked, self.answers

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                asked.append((query["repository"][0], self.headers["Range"]))
                assert query["digest"] == [str(BLOB.descriptor.digest)]
                status, body, sent = answers.pop(0)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:sent])
                if sent is not None:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()
                thread.join()


class Taken:
    """What came, and how long was waited for it."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.waited: list[float] = []
        self.told: list[str] = []
        self._buffer = memoryview(bytearray(1000))

    def take(self, source: Readable) -> int:
        count = source.readinto(self._buffer)
        self.body += self._buffer[:count]
        return count

    def from_(self, url: str, start: int = 0, *, patience_s: float = 300.0) -> None:
        with Giver(
            url, tell=self.told.append, patience_s=patience_s, sleep=self.waited.append
        ) as giver:
            giver.give(BLOB, start, self.take)


def test_it_goes_on_where_it_broke_off_and_waits_anew_after_each_step() -> None:
    server = Server(
        (503, b"busy", None),
        (503, b"busy", None),
        (200, BODY, 1500),
        (206, BODY[1500:], 100),
        (206, BODY[1600:], None),
    )
    taken = Taken()
    with server.running() as url:
        taken.from_(url)
    assert bytes(taken.body) == BODY
    assert [range_ for _, range_ in server.asked] == [
        None,
        None,
        None,
        "bytes=1500-",
        "bytes=1600-",
    ]
    assert taken.waited == [0.2, 1.0, 0.2, 0.2]
    assert "busy; trying again" in taken.told[0]


def test_it_begins_where_it_is_told_to() -> None:
    server, taken = Server((206, BODY[4000:], None)), Taken()
    with server.running() as url:
        taken.from_(url, 4000)
    assert bytes(taken.body) == BODY[4000:]
    assert server.asked == [("team/other", "bytes=4000-")]


def test_another_repository_is_asked_when_one_says_no() -> None:
    server, taken = Server((404, b"none", None), (200, BODY, None)), Taken()
    with server.running() as url:
        taken.from_(url)
    assert [repository for repository, _ in server.asked] == ["team/other", "library/app"]
    assert taken.waited == []


def test_when_all_say_no_that_is_told() -> None:
    server, taken = Server((404, b"none", None), (403, b"not for you", None)), Taken()
    with server.running() as url, pytest.raises(BadBundle, match="not for you"):
        taken.from_(url)


@pytest.mark.parametrize("answer", [(200, BODY + b"!", None), (200, BODY[:-1], None)])
def test_another_size_is_told_at_once(answer: Answer) -> None:
    taken = Taken()
    with Server(answer).running() as url, pytest.raises(BadBundle, match="what refers to it says"):
        taken.from_(url)


def test_the_whole_in_place_of_a_part_is_not_taken_for_it() -> None:
    taken = Taken()
    with Server((200, BODY, None)).running() as url, pytest.raises(BadBundle):
        taken.from_(url, 4000)
    assert not taken.body


def test_patience_ends() -> None:
    taken = Taken()
    with (
        Server(*[(503, b"busy", None)] * 5).running() as url,
        pytest.raises(UpstreamUnavailable, match="busy"),
    ):
        taken.from_(url, patience_s=10.0)
    assert taken.waited == [0.2, 1.0, 3.0, 10.0]


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(BadBundle, match="http://"):
        Giver("localhost:5001", tell=print)


def test_a_connection_that_was_idle_for_too_long_is_no_trouble() -> None:
    # Each answer is whole, and then its connection is gone.
    server = Server((200, BODY, len(BODY)), (404, b"none", 4), (200, BODY, len(BODY)))
    told: list[str] = []
    waited: list[float] = []
    with server.running() as url, Giver(url, tell=told.append, sleep=waited.append) as giver:
        for _ in range(2):
            taken = Taken()
            giver.give(BLOB, 0, taken.take)
            assert bytes(taken.body) == BODY
    assert (told, waited) == ([], [])
    assert [repository for repository, _ in server.asked] == [
        "team/other",
        "team/other",
        "library/app",
    ]


def test_a_disk_that_fails_is_not_taken_for_the_network() -> None:
    told: list[str] = []

    def take(source: Readable) -> int:
        source.readinto(memoryview(bytearray(100)))
        raise WriteFailed(OSError(errno.ENOSPC, "full"))

    with (
        Server((200, BODY, None)).running() as url,
        Giver(url, tell=told.append, sleep=_not_waited) as giver,
        pytest.raises(WriteFailed),
    ):
        giver.give(BLOB, 0, take)
    assert told == []


def _not_waited(delay_s: float) -> None:
    pytest.fail(f"waited {delay_s} s")
