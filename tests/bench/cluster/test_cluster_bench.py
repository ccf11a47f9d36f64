"""The cluster bench can be believed: what it must notice, it does notice."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.bench.cluster import asker
from tests.bench.cluster.crowd import Crowd, Job
from tests.bench.cluster.fleet import Replica
from tests.bench.cluster.library import Library, make_library, zipf
from tests.bench.cluster.relay import Relay, Requests
from tests.bench.cluster.table import results
from tests.bench.cluster.upstream import Library as Upstream
from tests.bench.processes import free_port
from tests.bench.rounds import Measured

SIZE = 3_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("content")


@pytest.fixture(scope="module")
def library(folder: Path) -> Library:
    return make_library(folder, large={"crowd": SIZE}, images=6, trace=0, seed=1)


@pytest.fixture
def upstream(folder: Path, library: Library) -> Iterator[Upstream]:
    with Upstream(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def job(library: Library, *ports: int, **more: object) -> Job:
    blob = library.large["crowd"]
    wanted = Job(
        ports=list(ports),
        each=3,
        path=f"/v2/{blob.path}",
        file=blob.file,
        digest=blob.digest,
        size=blob.size,
        limit_s=20,
    )
    return replace(wanted, **more)  # type: ignore[arg-type]  # plain fields, by name


def port_of(server: Upstream) -> int:
    return int(server.server_address[1])


class Cutting:
    """In front of a server: the first `cuts` connections end after `after` bytes."""

    def __init__(self, target: int, *, cuts: int, after: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.thread = threading.Thread(target=self._serve, args=(target, cuts, after))
        self.thread.start()

    def _serve(self, target: int, cuts: int, after: int) -> None:
        for _ in range(cuts):
            client, _ = self.listener.accept()
            with client, socket.create_connection(("127.0.0.1", target)) as server:
                server.sendall(client.recv(65536))
                left = after
                while left and (data := server.recv(min(left, 65536))):
                    client.sendall(data)
                    left -= len(data)
        self.listener.close()  # from now on there is nobody


def test_a_client_that_is_cut_goes_on_elsewhere_and_is_counted(
    upstream: Upstream, library: Library
) -> None:
    cutting = Cutting(port_of(upstream), cuts=3, after=SIZE // 2)
    ports = (cutting.port, port_of(upstream))
    outcome = Crowd(job(library, *ports, compare_all=True, resume=True)).run()
    cutting.thread.join()
    assert (outcome.failed, outcome.wrong, outcome.cuts) == ([], [], [3, 0])
    assert [len(times) for times in outcome.first_byte_s] == [3, 3]


def test_without_resuming_each_cut_is_a_failure(upstream: Upstream, library: Library) -> None:
    cutting = Cutting(port_of(upstream), cuts=3, after=SIZE // 2)
    outcome = Crowd(job(library, cutting.port)).run()
    cutting.thread.join()
    assert len(outcome.failed) == 3


@pytest.mark.parametrize(("compare_all", "seen_by"), [(True, 3), (False, 1)])
def test_a_wrong_byte_in_the_middle_is_seen(
    upstream: Upstream, library: Library, tmp_path: Path, compare_all: bool, seen_by: int
) -> None:
    other = tmp_path / "other"
    body = bytearray(Path(library.large["crowd"].file).read_bytes())
    body[SIZE // 2] ^= 1
    other.write_bytes(body)
    wanted = job(library, port_of(upstream), file=str(other), compare_all=compare_all)
    assert len(Crowd(wanted).run().wrong) == seen_by


def test_images_share_half_of_their_layers_and_are_pulled_as_containerd_does(
    upstream: Upstream, library: Library
) -> None:
    image = library.images[0]
    base = f"/v2/{image.repository}/manifests"
    questions = [(f"{base}/latest", image.manifest.digest)]
    questions += [(f"/v2/{blob.path}", blob.digest) for blob in image.blobs] * 2
    lists = [(port_of(upstream), list(range(len(questions))))]
    outcome = asker.run(asker.Job(questions=questions, lists=lists, once=True))
    assert (outcome.failed, outcome.wrong, len(outcome.latencies_s)) == ([], [], 10)
    assert upstream.counters.heads == {f"{base}/latest": 1}
    assert set(upstream.counters.gets.values()) == {1}
    distinct = {blob.digest for one in library.images for blob in one.blobs[1:]}
    assert len(distinct) < sum(len(one.blobs) - 1 for one in library.images)


def test_an_answer_that_is_not_what_was_asked_for_is_noticed(
    upstream: Upstream, library: Library
) -> None:
    one, two = library.images[:2]
    questions = [
        (f"/v2/{one.blobs[0].path}", two.blobs[0].digest),
        (f"/v2/{one.repository}/blobs/{two.blobs[0].digest}", two.blobs[0].digest),
    ]
    lists = [(port_of(upstream), [0, 1])]
    outcome = asker.run(asker.Job(questions=questions, lists=lists))
    assert (len(outcome.wrong), outcome.failures) == (1, 1)


def test_requests_are_counted_wherever_the_pieces_end() -> None:
    stream = (
        b"PUT /bucket/blobs/x HTTP/1.1\r\nContent-Length: 30\r\n\r\n"
        b"GET / HTTP/1.1\r\n\r\nnot one\r\n\r\n."
        b"GET /bucket/repos/y?a=b HTTP/1.1\r\nHost: h\r\n\r\n"
    )
    for size in (1, 7, len(stream)):
        requests = Requests()
        found = [
            one
            for at in range(0, len(stream), size)
            for one in requests.feed(stream[at : at + size])
        ]
        assert found == ["PUT blobs", "GET repos"]


def test_the_relay_passes_on_counts_and_refuses_when_stopped(
    upstream: Upstream, library: Library
) -> None:
    relay = Relay(port_of(upstream), free_port())
    relay.start()
    outcome = Crowd(job(library, relay.port, compare_all=True)).run()
    assert (outcome.failed, outcome.wrong, relay.counts.total()) == ([], [], 3)
    relay.stop()
    assert len(Crowd(job(library, relay.port)).run().failed) == 3


def test_the_process_behind_a_connection_is_found(upstream: Upstream) -> None:
    class This:
        class tree:  # noqa: N801 - stands for an attribute
            class process:  # noqa: N801
                pid = os.getpid()

    with socket.create_connection(("127.0.0.1", port_of(upstream))) as mine:
        port = mine.getsockname()[1]
        assert Replica.owns(This, {port})  # type: ignore[arg-type]  # only its process is looked at
        assert not Replica.owns(This, {1})  # type: ignore[arg-type]


def test_popularity_is_skewed() -> None:
    drawn = zipf(300, 3000, Random(1))
    most = max(drawn.count(index) for index in set(drawn))
    assert 300 < most < 700
    assert len(set(drawn)) > 200


def test_limits_are_of_medians_but_none_at_all_is_of_every_round() -> None:
    rounds = [
        {"Entrepot": Measured("Entrepot", {"killed_upstream": up, "killed_errors": bad})}
        for up, bad in ((1.0, 0.0), (1.2, 0.0), (1.01, 1.0))
    ]
    verdicts = {
        str(row["row"]).split(": ")[1]: row["verdict"] for row in results(rounds, ["killed"])
    }
    assert verdicts["upstream ÷ blob"] == "pass"
    assert verdicts["clients that failed after resuming"] == "FAIL"
    json.dumps(results(rounds, ["killed"]))
