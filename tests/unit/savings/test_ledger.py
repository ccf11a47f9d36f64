"""Who saved what: images by what led to them, clients by their subnets."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.cache import traffic
from proxy.cache.pin_records import name_of
from proxy.events import BytesFetched, Event, PullsServed, RequestServed
from proxy.oci.digest import Digest
from proxy.oci.manifests import Manifest
from proxy.oci.names import Reference, Repository, Tag
from proxy.savings.images import Images
from proxy.savings.ledger import Ledger
from proxy.savings.sums import Sums
from proxy.web.uses import Given, Use
from tests.support.images import Image, image, index

NOW = 1_790_000_100.0
APP = Repository("team/app")
AMD64, ARM64 = image(1000, seed="amd"), image(500, seed="arm", architecture="arm64")
BOTH = index(AMD64, ARM64)


class Books:
    """A ledger that is told of pulls; an answer that is spared saves two seconds."""

    def __init__(self, *, by_client: bool = True) -> None:
        self.events: list[Event] = []
        self.ledger = Ledger(
            spell=name_of,
            seconds=lambda served: 2.0 if served.outcome == "hit" else 0.0,
            observe=self.events.append,
            clock=lambda: NOW,
            by_client=by_client,
        )

    def manifest(
        self, what: Image, reference: Reference, outcome: Any = "hit", **facts: Any
    ) -> None:
        manifest = Manifest(descriptor=what.manifest.descriptor, body=what.manifest.body)
        given = Given(repository=APP, reference=reference, digest=what.digest, manifest=manifest)
        self.use(given, "manifest", what.manifest.size, outcome, **facts)

    def blob(self, digest: Digest, size: int, outcome: Any = "hit", **facts: Any) -> None:
        given = Given(repository=APP, reference=digest, digest=digest)
        self.use(given, "blob", size, outcome, **facts)

    def use(
        self,
        given: Given | None,
        kind: Any,
        size: int,
        outcome: Any,
        *,
        clients: dict[str, int] | None = None,
        method: str = "GET",
        status: int = 200,
    ) -> None:
        clients = clients or {"10.1.2.3": 1}
        served = RequestServed(
            kind=kind,
            method=method,
            upstream="lab",
            outcome=outcome,
            status=status,
            size=0 if method == "HEAD" else size,
            complete=True,
            duration_s=0.1,
            first_byte_s=0.1,
            count=sum(clients.values()),
        )
        self.ledger.use(Use(served, given, clients))

    @property
    def images(self) -> dict[str, Sums]:
        return self.ledger.history.ever(NOW).images

    @property
    def clients(self) -> dict[str, Sums]:
        return self.ledger.history.ever(NOW).clients

    @property
    def total(self) -> Sums:
        return self.ledger.history.ever(NOW).total


def test_a_pull_is_one_get_of_what_a_tag_names_and_all_below_is_its_images() -> None:
    books = Books()
    books.manifest(BOTH, Tag("v1"), "miss")
    books.manifest(AMD64, AMD64.digest, "miss")
    for blob in AMD64.blobs:
        books.blob(blob.digest, blob.size, "miss")
    (name, sums), *others = books.images.items()
    assert (name, others) == ("lab/team/app:v1", [])
    assert (sums.pulls, sums.pulls_saved, sums.saved_s) == (1, 0, 0.0)
    bodies = (BOTH.manifest, AMD64.manifest, *AMD64.blobs)
    assert sums.served_bytes == sum(one.size for one in bodies)
    assert books.events == [PullsServed(upstream="lab", count=1, saved=False)]


@pytest.mark.parametrize("outcome", ["hit", "join", "stale"])
def test_a_pull_that_no_get_went_upstream_for_is_saved(outcome: str) -> None:
    books = Books()
    books.manifest(BOTH, Tag("v1"), outcome, clients={"10.1.2.3": 2, "10.1.2.4": 3})
    sums = books.images["lab/team/app:v1"]
    assert (sums.pulls, sums.pulls_saved) == (5, 5)
    assert sums.saved_s == (10.0 if outcome == "hit" else 0.0)
    assert books.events == [PullsServed(upstream="lab", count=5, saved=True)]


def test_a_head_is_no_pull_but_tells_whose_the_digest_is() -> None:
    books = Books()
    books.manifest(BOTH, Tag("v1"), method="HEAD")
    assert books.total.pulls == 0
    books.manifest(BOTH, BOTH.digest)
    assert books.images["lab/team/app:v1"].pulls == 1
    books.manifest(BOTH, Tag("latest"), method="HEAD")
    books.manifest(BOTH, BOTH.digest)
    books.manifest(ARM64, ARM64.digest)
    assert books.images["lab/team/app:latest"].pulls == 1
    assert books.images["lab/team/app:v1"].pulls == 1


def test_an_image_that_no_tag_led_to_goes_by_its_digest() -> None:
    books = Books()
    books.manifest(AMD64, AMD64.digest)
    assert books.images[f"lab/team/app@{AMD64.digest}"].pulls == 1
    assert books.ledger.pulled(9) == []


def test_a_part_of_an_index_that_has_a_tag_of_its_own_is_pulled_by_that() -> None:
    books = Books()
    books.manifest(BOTH, Tag("v1"))
    books.manifest(AMD64, Tag("v1-amd64"))
    assert {name: sums.pulls for name, sums in books.images.items()} == {
        "lab/team/app:v1": 1,
        "lab/team/app:v1-amd64": 1,
    }


def test_of_what_was_forgotten_only_the_repository_is_known() -> None:
    books = Books()
    books.blob(AMD64.blobs[0].digest, 5)
    assert books.images == {"lab/team/app": Sums(served_bytes=5, saved_s=2.0)}
    assert books.ledger.pulled(9) == []


def test_what_is_remembered_of_images_is_bounded() -> None:
    images = Images(name_of, digests_max=10)
    for number in range(100):
        body = b"%d" % number
        images.manifest("lab", APP, Tag("v1"), Digest.of(body), None)
    assert len(images._places) == 10


def test_a_manifest_that_makes_no_sense_is_counted_all_the_same() -> None:
    books = Books()
    broken = Manifest(descriptor=AMD64.manifest.descriptor, body=b'{"layers": [1]}')
    given = Given(repository=APP, reference=Tag("v1"), digest=AMD64.digest, manifest=broken)
    books.use(given, "manifest", 15, "hit")
    assert books.images["lab/team/app:v1"].pulls == 1


@pytest.mark.parametrize(("outcome", "status"), [("error", 404), ("hit", 307), ("hit", 416)])
def test_what_gave_no_content_counts_for_nothing(outcome: str, status: int) -> None:
    books = Books()
    books.manifest(AMD64, Tag("v1"), outcome, status=status)
    assert books.total == Sums()
    assert books.events == []


def test_lists_count_for_their_upstream_alone() -> None:
    books = Books()
    books.use(None, "tags", 100, "hit")
    assert (books.total.served_bytes, books.images) == (100, {})


def test_what_is_fetched_is_on_the_image_and_on_whoever_it_is_for() -> None:
    books = Books()
    books.manifest(AMD64, Tag("v1"))
    fetch = books.ledger.hear
    layer = AMD64.blobs[0]
    with traffic.working_as(traffic.Urgency.WAITING, "192.0.2.77"):
        fetch(
            BytesFetched(
                upstream="lab",
                kind="blob",
                count=1000,
                repository=APP,
                reference=str(layer.digest),
            )
        )
    with traffic.working_as(traffic.Urgency.WARM, "warm"):
        for reference, count in (("v2", 10), (str(AMD64.digest), 3), (str(BOTH.digest), 70)):
            fetch(
                BytesFetched(
                    upstream="lab",
                    kind="manifest",
                    count=count,
                    repository=APP,
                    reference=reference,
                )
            )
    fetch(BytesFetched(upstream="lab", kind="tags", count=500))
    fetched = {name: sums.fetched_bytes for name, sums in books.images.items()}
    assert fetched == {"lab/team/app:v1": 1003, "lab/team/app:v2": 10}
    assert books.total.fetched_bytes == 1583
    by_client = {name: sums.fetched_bytes for name, sums in books.clients.items()}
    # Nobody waited for what the warm-up fetched: it is nobody's.
    assert by_client == {"10.1.2.0/24": 0, "192.0.2.0/24": 1000, "unknown": 500}
    assert books.total.ahead_bytes == 83


def test_clients_share_what_was_served_and_are_left_alone_if_told_so() -> None:
    books = Books()
    books.blob(Digest.of(b""), 7, clients={"10.1.2.3": 2, "10.1.2.200": 1, "10.1.3.3": 4, "": 1})
    served = {name: sums.served_bytes for name, sums in books.clients.items()}
    assert served == {"10.1.2.0/24": 21, "10.1.3.0/24": 28, "unknown": 7}
    assert books.total.served_bytes == 56
    books = Books(by_client=False)
    books.blob(Digest.of(b""), 7)
    books.ledger.hear(BytesFetched(upstream="lab", kind="blob", count=1))
    assert books.clients == {}


def test_the_most_pulled_tags_come_first() -> None:
    books = Books()
    for tag, count in (("a", 1), ("b", 5), ("c", 3)):
        books.manifest(AMD64, Tag(tag), clients={"10.0.0.1": count})
    assert books.ledger.pulled(2) == [("lab/team/app:b", 5.0), ("lab/team/app:c", 3.0)]
    assert len(books.ledger.pulled(9)) == 3
