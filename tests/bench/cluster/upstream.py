"""The bench's upstream with many repositories, on a port it can come back to.

`python -m tests.bench.cluster.upstream FOLDER PORT`. Besides what the plain one
has, `GET /senders` lists the client ports that a body is being sent to: who they
belong to is the replica that fetches.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from socketserver import BaseServer
from typing import Any

from tests.bench.cluster.library import read_routes
from tests.bench.content import Item
from tests.bench.processes import Tree, answers
from tests.bench.systems import ROOT
from tests.bench.upstream import Connection, Registry


class Library(Registry):
    """Listens at `port`, 0 for any; routes come from the folder."""

    def __init__(self, folder: Path, port: int) -> None:
        self._port = port
        super().__init__([])
        self.RequestHandlerClass = Sender
        self.senders: set[int] = set()
        for path, (blob, kind) in read_routes(folder).items():
            self.routes[path] = Item(blob.file, blob.digest, blob.size, kind)

    def server_bind(self) -> None:
        self.server_address = ("127.0.0.1", self._port)
        super().server_bind()


class Sender(Connection):
    """Remembers itself while it sends a body."""

    server: Library

    def __init__(self, request: Any, client_address: Any, server: BaseServer) -> None:
        self._peer_port = int(client_address[1])
        super().__init__(request, client_address, server)

    def _answer(self, method: str, target: str, headers: dict[str, str]) -> None:
        if target == "/senders":
            with self.server.lock:
                self._json(200, sorted(self.server.senders))
            return
        super()._answer(method, target, headers)

    def _body(self, path: str, item: Item, start: int, end: int) -> None:
        with self.server.lock:
            self.server.senders.add(self._peer_port)
        try:
            super()._body(path, item, start, end)
        finally:
            with self.server.lock:
                self.server.senders.discard(self._peer_port)


class Upstream:
    """The process, seen from the bench."""

    def __init__(self, content: Path, log: Path, port: int) -> None:
        self.port = port
        argv = [sys.executable, "-m", "tests.bench.cluster.upstream", str(content), str(port)]
        self.tree = Tree(argv, log=log, cwd=ROOT)
        try:
            self.tree.wait_ready(lambda: answers(f"http://127.0.0.1:{port}/v2/"))
        except BaseException:
            self.tree.stop()
            raise

    def reset(self, bytes_s: int) -> None:
        """Count from zero; limit each body to come (0: no limit)."""
        self.ask(f"reset?bytes_s={bytes_s}")

    def sent(self) -> int:
        """Body bytes since the reset."""
        return sum(self.ask("counters")["sent"].values())

    def tag_questions(self) -> dict[str, int]:
        """How often each tag was asked for, HEAD and GET together, since the reset."""
        counters = self.ask("counters")
        asked: dict[str, int] = {}
        for kind in ("gets", "heads"):
            for path, count in counters[kind].items():
                if path.endswith("/manifests/latest"):
                    asked[path] = asked.get(path, 0) + count
        return asked

    def ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=10) as answer:
            return json.load(answer)


def main() -> None:
    with Library(Path(sys.argv[1]), int(sys.argv[2])) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
