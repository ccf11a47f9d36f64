"""The bench can be believed: what it must notice, it does notice."""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.arrivals import Load
from tests.bench.arrivals import run as arrive
from tests.bench.asker import run as ask
from tests.bench.blocking import Asker
from tests.bench.client import Job, Outcome, Target, run
from tests.bench.cold_steps import measure, table
from tests.bench.content import MANIFEST_TYPE, Image, Item, make_library, read_catalog
from tests.bench.crowd_profile import kinds
from tests.bench.processes import Tree
from tests.bench.upstream import Link, Registry

SIZE = 300_000


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return make_library(tmp_path, {"one": (SIZE, SIZE)})["one"]


@pytest.fixture
def registry(tmp_path: Path, image: Image) -> Iterator[Registry]:
    with Registry(read_catalog(tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def target(item: Item, before: str = "") -> Target:
    return Target(
        path=f"/v2/{item.url}", file=item.path, digest=item.digest, size=item.size, before=before
    )


def pull(
    registry: Registry, *items: Item, at_once: int = 4, pulls: int = 4, before: str = ""
) -> Outcome:
    job = Job(
        port=registry.server_address[1],
        targets=[target(item, before) for item in items],
        at_once=at_once,
        pulls=pulls,
        limit_s=20,
    )
    return run(job)


def overwrite(path: str, offset: int, data: bytes) -> None:
    with Path(path).open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_every_pull_is_counted_at_both_ends(registry: Registry, image: Image) -> None:
    outcome = pull(registry, image.layers[0], at_once=3, pulls=7)
    assert (outcome.failed, outcome.wrong) == ([], [])
    assert len(outcome.done_s) == len(outcome.first_byte_s) == 7
    path = f"/v2/{image.layers[0].url}"
    assert registry.counters.gets == {path: 7}
    assert registry.counters.sent == {path: 7 * SIZE}


def test_a_wrong_byte_in_the_middle_is_seen_by_the_pull_that_keeps_its_bytes(
    registry: Registry, image: Image
) -> None:
    overwrite(image.layers[0].path, SIZE // 2, b"\0" * 16)
    outcome = pull(registry, image.layers[0])
    assert len(outcome.wrong) == 1
    assert "sha256" in outcome.wrong[0]


def test_a_wrong_end_is_seen_by_every_pull(
    registry: Registry, image: Image, tmp_path: Path
) -> None:
    good = tmp_path / "good"
    good.write_bytes(Path(image.layers[0].path).read_bytes())
    overwrite(image.layers[0].path, SIZE - 16, b"\0" * 16)
    outcome = pull(registry, replace(image.layers[0], path=str(good)))
    assert len(outcome.wrong) == 4


def test_a_body_that_is_cut_is_a_failed_pull(registry: Registry, image: Image) -> None:
    good = pull(registry, image.layers[0], at_once=1, pulls=1)
    assert good.failed == []
    os.truncate(image.layers[0].path, SIZE - 100_000)
    outcome = pull(registry, image.layers[0])
    assert len(outcome.failed) == 4
    assert outcome.done_s == []


def test_a_refusal_and_another_length_are_failed_pulls(registry: Registry, image: Image) -> None:
    absent = replace(image.layers[0], digest="sha256:" + "0" * 64)
    assert len(pull(registry, absent).failed) == 4
    longer = replace(image.layers[0], size=SIZE + 1)
    assert len(pull(registry, longer).failed) == 4


def test_the_upstream_keeps_to_its_rate(registry: Registry, image: Image) -> None:
    registry.bytes_s = 20 * SIZE
    registry.window_bytes = SIZE // 10
    outcome = pull(registry, image.layers[0], at_once=1, pulls=1)
    assert outcome.done_s[0] >= 0.9 * 0.9 / 20  # the first tenth leaves at once


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-0", (206, 1, f"bytes 0-0/{SIZE}")),
        ("bytes=100-", (206, SIZE - 100, f"bytes 100-{SIZE - 1}/{SIZE}")),
        ("bytes=-7", (206, 7, f"bytes {SIZE - 7}-{SIZE - 1}/{SIZE}")),
        (f"bytes=5-{SIZE * 2}", (206, SIZE - 5, f"bytes 5-{SIZE - 1}/{SIZE}")),
        (f"bytes={SIZE}-", (416, 0, f"bytes */{SIZE}")),
        ("rows=1-2", (200, SIZE, None)),
    ],
)
def test_the_upstream_answers_ranges(
    registry: Registry,
    image: Image,
    asked: str,
    expected: tuple[int, int, str | None],
) -> None:
    url = f"http://127.0.0.1:{registry.server_address[1]}/v2/{image.layers[0].url}"
    request = urllib.request.Request(url, headers={"Range": asked, "Connection": "close"})
    try:
        answer = urllib.request.urlopen(request, timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        got = (answer.status, len(answer.read()), answer.headers["Content-Range"])
    assert got == expected


def test_a_tree_measures_and_ends_its_children_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "sleep 60 & sleep 60 & echo started; wait"
    with Tree(["sh", "-c", script], log=log, cwd=tmp_path) as tree:
        tree.wait_ready(lambda: log.read_text() == "started\n")
        pids = tree.pids()
        assert len(pids) == 3
        assert tree.peak_rss_bytes() > 0
        assert tree.cpu_s() > 0
    assert [pid for pid in pids if running(pid)] == []


def running(pid: int) -> bool:
    """Ended but not yet collected by the system's first process counts as ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_crowd_on_several_blobs_pulls_each_of_them(registry: Registry, image: Image) -> None:
    outcome = pull(registry, *image.layers, at_once=6, pulls=6)
    assert (outcome.failed, outcome.wrong, outcome.late) == ([], [], 0)
    assert sorted(outcome.target) == [0, 0, 0, 1, 1, 1]
    assert registry.counters.sent == {f"/v2/{one.url}": 3 * SIZE for one in image.layers}


def test_who_needs_the_manifest_first_asks_on_the_same_connection(
    registry: Registry, image: Image
) -> None:
    outcome = pull(registry, image.layers[0], before=f"/v2/{image.tag_url}")
    assert (outcome.failed, outcome.wrong) == ([], [])
    assert registry.counters.gets[f"/v2/{image.tag_url}"] == 4


def test_all_connections_together_keep_to_the_links_rate(registry: Registry, image: Image) -> None:
    registry.link = Link(20 * SIZE)
    outcome = pull(registry, image.layers[0])
    assert outcome.failed == []
    assert outcome.wall_s >= 0.1  # of 0.2; the last piece and a catch-up don't wait


def test_the_own_load_counts_good_answers_only(registry: Registry, image: Image) -> None:
    base = f"http://127.0.0.1:{registry.server_address[1]}/v2/"
    good = ask(base + image.tag_url, 2, 0.2, MANIFEST_TYPE)
    assert good["rate"] > 0
    assert good["bad"] == 0
    assert ask(base + "bench/one/manifests/absent", 2, 5, MANIFEST_TYPE) == {"rate": 0, "bad": 2}


def test_a_window_is_left_when_enough_came(registry: Registry, image: Image) -> None:
    with Asker(registry.server_address[1]) as asker:
        path = f"/v2/{image.layers[0].url}"
        got = asker.get(path, window="bytes=1000-", stop_after=5000)
        assert (got.status, got.size) == (206, 5000)
        got = asker.get(path, window="bytes=0-1")
        assert (got.status, got.size) == (206, 2)


async def test_clients_that_come_are_counted_by_their_second(
    registry: Registry, image: Image
) -> None:
    load = Load(
        port=registry.server_address[1],
        targets=[target(one) for one in image.layers],
        per_s=8,
        for_s=1,
        patience_s=20,
        seed=1,
    )
    said = await arrive(load)
    assert (said.asked, sum(said.served), said.left) == ([8], 8, 0)
    refused = replace(load, targets=[replace(load.targets[0], path="/v2/absent")], per_s=1)
    said = await arrive(refused)
    assert (said.asked, sum(said.served), said.left) == ([1], 0, 3)


def test_every_step_of_a_cold_fill_can_be_measured(tmp_path: Path) -> None:
    # Twice the journal's extent: of less there is none.
    found = measure(str(tmp_path), 16 * 1024 * 1024, 1)
    assert all(min(taken.cpu_s) > 0 for taken in found.values())
    assert table(found).count("\n") == len(found) + 1
    assert list(tmp_path.iterdir()) == []


def test_a_profile_is_told_by_kind() -> None:
    shares, functions = kinds(
        """# Overhead  Shared Object  Symbol
    60.50%  [kernel.kallsyms]  [k] splice_to_socket   -  -
    20.25%  libcrypto.so.3  [.] 0x00000000001234   -  -
    10.00%  libpython3.11.so.1.0  [.] _PyEval_EvalFrameDefault   -  -
     5.25%  libc.so.6  [.] malloc   -  -
"""
    )
    assert shares == {"kernel": 60.5, "hashing": 20.25, "Python": 15.25}
    assert functions[0] == (60.5, "splice_to_socket")
    assert functions[2] == (10.0, "_PyEval_EvalFrameDefault (libpython3.11.so.1.0)")
