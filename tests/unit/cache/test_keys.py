"""The layout: no two things share a key, and no key is another key's folder."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.cache import keys
from proxy.oci.digest import Digest
from proxy.oci.names import Repository, Tag
from proxy.ports import PUBLIC, BlobKey

# Names that a careless layout would trip over.
COMPONENTS = st.sampled_from(
    ["a", "b", "tags", "links", "a_tags", "sha256", "blobs", "repos", "x.y"]
)
REPOSITORIES = st.lists(COMPONENTS, min_size=1, max_size=4).map("/".join).map(Repository.parse)
UPSTREAMS = st.sampled_from(["docker.io", "lab", "ghcr.io"])
DIGESTS = st.tuples(st.binary(max_size=2), st.sampled_from(["sha256", "sha512"])).map(
    lambda made: Digest.of(made[0], made[1])
)
TAGS = st.sampled_from(["latest", "_tags", "_links", "sha256", "a", "v1.0-rc_1"]).map(Tag.parse)
ALL = st.one_of(
    st.builds(
        lambda g, d: ("blob", keys.blob(BlobKey(g, d)), g, d), UPSTREAMS | st.just(PUBLIC), DIGESTS
    ),
    st.builds(lambda u, r, t: ("tag", keys.tag(u, r, t), u, r, t), UPSTREAMS, REPOSITORIES, TAGS),
    st.builds(
        lambda u, r, d: ("link", keys.link(u, r, d), u, r, d), UPSTREAMS, REPOSITORIES, DIGESTS
    ),
    st.builds(
        lambda u, r, d: ("referrers", keys.referrers(u, r, d), u, r, d),
        UPSTREAMS,
        REPOSITORIES,
        DIGESTS,
    ),
    st.builds(
        lambda u, r, t, at, m: ("move", keys.move(u, r, t, at, m), u, r, t, at, m),
        UPSTREAMS,
        REPOSITORIES,
        TAGS,
        st.sampled_from([0.0, 1.0, 1_790_000_000.5]),
        st.sampled_from(["gone", "0a1b2c3d4e5f"]),
    ),
    st.builds(lambda u, r: ("exposed", keys.exposed(u, r), u, r), UPSTREAMS, REPOSITORIES),
)


@given(one=ALL, other=ALL)
def test_different_things_have_keys_that_can_live_side_by_side(
    one: tuple[object, ...], other: tuple[object, ...]
) -> None:
    what_one, key_one = (one[0], *one[2:]), str(one[1])
    what_other, key_other = (other[0], *other[2:]), str(other[1])
    if what_one == what_other:
        assert key_one == key_other
    else:
        assert key_one != key_other
        assert not key_one.startswith(key_other + "/")


@given(upstream=UPSTREAMS, repository=REPOSITORIES, tag=TAGS)
def test_a_tag_is_in_its_repositorys_folder(
    upstream: str, repository: Repository, tag: Tag
) -> None:
    key = keys.tag(upstream, repository, tag)
    assert key == f"{keys.tags(upstream, repository)}/{tag}"
    assert key.startswith(keys.repositories(upstream) + "/")
    assert keys.LAYOUT.partition("/")[0] not in {"blobs", "repos"}


def test_the_layout_is_what_users_have_on_their_disks() -> None:
    digest = Digest.of(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    repository = Repository.parse("library/alpine")
    assert keys.blob(BlobKey("public", digest)) == f"blobs/public/sha256/e3/{empty}"
    base = "repos/docker.io/library/alpine"
    assert keys.tag("docker.io", repository, Tag.parse("3")) == f"{base}/_tags/3"
    assert keys.link("docker.io", repository, digest) == f"{base}/_links/sha256/{empty}"
    assert keys.referrers("docker.io", repository, digest) == f"{base}/_referrers/sha256/{empty}"
    assert keys.exposed("docker.io", repository) == f"{base}/_exposed"
    assert (keys.LAYOUT, keys.LAYOUT_VERSION) == ("layout", 1)
