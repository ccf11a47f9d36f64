"""Routing: three shapes, one meaning; hostile targets, no surprises."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import (
    EntrepotError,
    InvalidDigest,
    InvalidName,
    InvalidPage,
    InvalidTag,
    UnknownRoute,
    UnknownUpstream,
    UnsupportedOperation,
)
from proxy.oci.digest import Digest
from proxy.oci.names import Repository, Tag
from proxy.oci.routes import (
    Addressed,
    Catalog,
    GetBlob,
    GetManifest,
    GetReferrers,
    ListTags,
    Ping,
    RouteTable,
    UpstreamNames,
)

HUB = UpstreamNames(
    name="docker.io",
    aliases=("index.docker.io", "registry-1.docker.io"),
    hosts=("hub.proxy.example",),
    library=True,
)
LAB = UpstreamNames(name="lab", aliases=("localhost:5005",), hosts=("lab.proxy.example:5000",))
GHCR = UpstreamNames(name="ghcr.io", hosts=("[::1]",))
UPSTREAMS = (HUB, LAB, GHCR)
TABLE = RouteTable(UPSTREAMS, "docker.io")
CLOSED = RouteTable(UPSTREAMS, None)
SHA = Digest.of(b"content")

components = st.sampled_from(
    ["blobs", "manifests", "tags", "list", "v2", "referrers", "uploads", "library", "a", "b-c__d"]
)
names = st.lists(components, min_size=1, max_size=4).map("/".join)
endpoints = st.sampled_from(
    [
        ("manifests/latest", GetManifest),
        ("manifests/manifests", GetManifest),
        (f"manifests/{SHA}", GetManifest),
        (f"manifests/{str(SHA).replace(':', '%3A')}", GetManifest),
        (f"blobs/{SHA}", GetBlob),
        ("tags/list", ListTags),
        (f"referrers/{SHA}", GetReferrers),
    ]
)


def get(target: str, host: str | None = None, table: RouteTable = TABLE) -> Addressed:
    found = table.route("GET", target, host)
    assert isinstance(found, Addressed)
    return found


def where(found: Addressed) -> tuple[str, str]:
    return found.upstream, found.repository


@given(names, endpoints, st.sampled_from(UPSTREAMS), st.data())
def test_every_shape_leads_to_the_same_place(
    name: str, endpoint: tuple[str, type[Addressed]], upstream: UpstreamNames, data: st.DataObject
) -> None:
    end, kind = endpoint
    called = data.draw(st.sampled_from([upstream.name, *upstream.aliases]))
    shape_a = get(f"/v2/{name}/{end}?ns={called}", table=CLOSED)
    shape_b = get(f"/v2/{called}/{name}/{end}", table=CLOSED)
    shape_b_with_ns = get(f"/v2/{called}/{name}/{end}?ns={upstream.name}", table=CLOSED)
    shape_c = get(f"/{called}/v2/{name}/{end}", table=CLOSED)
    shape_c_with_ns = get(f"/{called}/v2/{name}/{end}?ns=unknown.example", table=CLOSED)
    by_host = get(f"/v2/{name}/{end}", upstream.hosts[0], table=CLOSED)
    by_default = get(f"/v2/{name}/{end}", table=RouteTable(UPSTREAMS, upstream.name))
    prefix = "library/" if upstream.library and "/" not in name else ""
    assert {
        where(found)
        for found in (
            shape_a, shape_b, shape_b_with_ns, shape_c, shape_c_with_ns, by_host, by_default
        )
    } == {(upstream.name, prefix + name)}  # fmt: skip
    # All else is the same as well, but for what is the client's own view.
    assert isinstance(shape_a, kind)
    view = {"client_name": name, "client_path": "", "namespace": None}
    assert replace(shape_a, **view) == replace(shape_b, **view) == replace(shape_c, **view)
    assert shape_a.client_name == shape_c.client_name == by_default.client_name == name
    assert shape_b.client_name == shape_b_with_ns.client_name == f"{called}/{name}"
    assert shape_b.client_path == f"/v2/{called}/{name}/{end}"
    assert shape_c_with_ns.client_path == f"/{called}/v2/{name}/{end}"
    assert shape_a.namespace == called
    assert shape_b_with_ns.namespace == upstream.name
    assert shape_b.namespace is shape_c.namespace is shape_c_with_ns.namespace is None


def test_a_manifest_a_blob_and_a_referrers_request_as_values() -> None:
    assert TABLE.route("HEAD", "/v2/docker.io/alpine/manifests/3.20?ns=DOCKER.io", None) == (
        GetManifest(
            upstream="docker.io",
            repository=Repository("library/alpine"),
            client_name="docker.io/alpine",
            client_path="/v2/docker.io/alpine/manifests/3.20",
            namespace="DOCKER.io",
            reference=Tag("3.20"),
        )
    )
    assert TABLE.route("GET", f"/lab/v2/app/blobs/sha256%3a{SHA.hex}", None) == GetBlob(
        upstream="lab",
        repository=Repository("app"),
        client_name="app",
        client_path=f"/lab/v2/app/blobs/sha256%3a{SHA.hex}",
        namespace=None,
        digest=SHA,
    )
    asked = TABLE.route("GET", f"/v2/app/referrers/{SHA}?artifactType=a/b+json&ns=lab", None)
    assert asked == GetReferrers(
        upstream="lab",
        repository=Repository("app"),
        client_name="app",
        client_path=f"/v2/app/referrers/{SHA}",
        namespace="lab",
        digest=SHA,
        artifact_type="a/b+json",
    )
    unfiltered = TABLE.route("GET", f"/v2/app/referrers/{SHA}?artifactType=", None)
    assert isinstance(unfiltered, GetReferrers)
    assert unfiltered.artifact_type is None


def test_a_page_of_tags_as_a_value() -> None:
    assert TABLE.route("GET", "/v2/lab/app/tags/list?n=1000000&last=v1", None) == ListTags(
        upstream="lab",
        repository=Repository("app"),
        client_name="lab/app",
        client_path="/v2/lab/app/tags/list",
        namespace=None,
        n=1000000,
        last="v1",
    )


@pytest.mark.parametrize(
    ("target", "place"),
    [
        # A first component alone is a repository, whoever else is called so.
        ("/v2/lab/manifests/x", ("docker.io", "library/lab")),
        ("/v2/lab/tags/list", ("docker.io", "library/lab")),
        ("/v2/lab/manifests/manifests/x", ("lab", "manifests")),
        # The last keyword counts.
        ("/v2/a/blobs/b/manifests/x", ("docker.io", "a/blobs/b")),
        ("/v2/lab/manifests/tags/list", ("lab", "manifests")),
        ("/v2/lab/tags/manifests/list", ("lab", "tags")),
        ("/v2/a/v2/b/manifests/x", ("docker.io", "a/v2/b")),
        # A Harbor project called docker.io: another ns means that B does not hold.
        ("/v2/docker.io/library/alpine/manifests/x?ns=lab", ("lab", "docker.io/library/alpine")),
        ("/v2/docker.io/alpine/manifests/x?ns=registry-1.docker.io", ("docker.io", "library/alpine")),
        ("/v2/ghcr.io/alpine/manifests/x?ns=docker.io", ("docker.io", "ghcr.io/alpine")),
        # C before B.
        ("/lab/v2/docker.io/alpine/manifests/x", ("lab", "docker.io/alpine")),
        # ns may hold a port; letters' case means nothing; empty is absent.
        ("/v2/a/manifests/x?ns=localhost%3A5005", ("lab", "a")),
        ("/v2/a/manifests/x?ns=localhost:5005", ("lab", "a")),
        ("/v2/a/manifests/x?ns=GHCR.io", ("ghcr.io", "a")),
        ("/GHCR.io/v2/a/manifests/x", ("ghcr.io", "a")),
        ("/v2/ghcr.io/a/manifests/x?ns=", ("ghcr.io", "a")),
        ("/v2/a/manifests/x?ns=lab&ns=ghcr.io", ("lab", "a")),
        # The host of an absolute target counts, not the header.
        ("http://lab.proxy.example:5000/v2/a/manifests/x", ("lab", "a")),
        # Dots are Docker Hub's business only in the first of several components.
        ("/v2/a.b/manifests/x", ("docker.io", "library/a.b")),
        ("/v2/a/b.c/manifests/x", ("docker.io", "a/b.c")),
        # Unknown keys are nobody's business.
        ("/v2/a/b/manifests/x?n=many&utm=%zz", ("docker.io", "a/b")),
    ],
)  # fmt: skip
def test_the_traps_of_addressing(target: str, place: tuple[str, str]) -> None:
    assert where(get(target)) == place


@pytest.mark.parametrize(
    ("host", "upstream"),
    [
        ("lab.proxy.example:5000", "lab"),
        ("lab.proxy.example", "docker.io"),
        ("hub.proxy.example:443", "docker.io"),
        ("[::1]:5000", "ghcr.io"),
        ("[::1]", "ghcr.io"),
        ("LAB.Proxy.Example:5000", "lab"),
        ("elsewhere.example", "docker.io"),
        ("", "docker.io"),
        (None, "docker.io"),
    ],
)
def test_the_listeners_host_chooses_before_the_default(host: str | None, upstream: str) -> None:
    assert get("/v2/a/b/manifests/x", host).upstream == upstream


def test_a_host_with_a_trailing_dot_is_the_same_host() -> None:
    assert get("/v2/a/b/manifests/x", "hub.proxy.example.:80", CLOSED).upstream == "docker.io"


def test_path_and_ns_choose_before_the_host() -> None:
    host = "lab.proxy.example:5000"
    assert get("/v2/ghcr.io/a/manifests/x", host).upstream == "ghcr.io"
    assert get("/ghcr.io/v2/a/manifests/x", host).upstream == "ghcr.io"
    assert get("/v2/a/manifests/x?ns=ghcr.io", host).upstream == "ghcr.io"


@pytest.mark.parametrize(
    ("target", "table"),
    [
        ("/v2/a/manifests/x?ns=evil.example", TABLE),
        ("/v2/lab/a/manifests/x?ns=evil.example", TABLE),
        ("/v2/?ns=evil.example", TABLE),
        ("/v2/_catalog?ns=evil.example", TABLE),
        ("/v2/a/manifests/x?ns=doc%E2%84%AAer.io", TABLE),  # K, the Kelvin sign, lowers to k
        ("/v2/a/manifests/x?ns=ghcr.io%0d%0aX-Evil:1", TABLE),
        ("/evil.example/v2/a/manifests/x", TABLE),
        ("/evil.example/v2/", TABLE),
        ("/v2/a/manifests/x", CLOSED),
        # No other registry's names go to Docker Hub by default.
        ("/v2/evil.example/a/manifests/x", TABLE),
        ("/v2/quay.io/a/b/manifests/x", TABLE),
    ],
)
def test_upstreams_that_are_not_configured_are_unknown(target: str, table: RouteTable) -> None:
    with pytest.raises(UnknownUpstream):
        table.route("GET", target, None)


def test_another_kind_of_default_may_own_dotted_names() -> None:
    table = RouteTable(UPSTREAMS, "LAB")
    assert where(get("/v2/team.one/a/manifests/x", table=table)) == ("lab", "team.one/a")


def test_without_listener_hosts_the_host_is_not_looked_at() -> None:
    table = RouteTable([replace(LAB, hosts=())], "lab")
    assert get("/v2/a/manifests/x", "hub.proxy.example", table).upstream == "lab"


@pytest.mark.parametrize(
    ("target", "host", "upstream"),
    [
        ("/v2", None, None),
        ("/v2/", None, None),
        ("/v2/?ns=lab", None, "lab"),
        ("/v2/", "hub.proxy.example", "docker.io"),
        ("/lab/v2", None, "lab"),
        ("/lab/v2/", None, "lab"),
        ("/v2/lab/", None, "lab"),
        ("/v2/lab", None, "lab"),
        ("http://h/v2/", None, None),
    ],
)
def test_pings_of_every_shape(target: str, host: str | None, upstream: str | None) -> None:
    assert TABLE.route("GET", target, host) == Ping(upstream=upstream)


@pytest.mark.parametrize(
    ("target", "upstream", "namespace"),
    [
        ("/v2/_catalog", None, None),
        ("/v2/_catalog?ns=lab", "lab", "lab"),
        ("/v2/lab/_catalog", "lab", None),
        ("/lab/v2/_catalog", "lab", None),
        ("/lab/v2/_catalog?ns=ghcr.io", "lab", None),
    ],
)
def test_catalogs_of_every_shape(target: str, upstream: str | None, namespace: str | None) -> None:
    path, mark, query = target.partition("?")
    paged = f"{path}?n=5&last=a/b" + (f"&{query}" if mark else "")
    assert TABLE.route("GET", paged, None) == Catalog(
        upstream=upstream, client_path=path, namespace=namespace, n=5, last="a/b"
    )


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("/v2/app/manifests/sha256:baddigeststring", InvalidDigest),
        ("/v2/app/blobs/sha256:baddigeststring", InvalidDigest),
        ("/v2/app/blobs/latest", InvalidDigest),
        ("/v2/app/blobs/", InvalidDigest),
        ("/v2/app/referrers/latest", InvalidDigest),
        ("/v2/app/manifests/.hidden", InvalidTag),
        ("/v2/app/manifests/" + "a" * 129, InvalidTag),
        ("/v2/app/manifests/a b", InvalidTag),
        ("/v2/app/manifests/", InvalidTag),
        ("/v2/App/manifests/x", InvalidName),
        ("/v2/a___b/manifests/x", InvalidName),
        ("/v2/lab/-/manifests/x", InvalidName),
        ("/v2/" + "a" * 256 + "/manifests/x", InvalidName),
        # `library/` counts too: the name is too long for the upstream.
        ("/v2/" + "a" * 250 + "/manifests/x", InvalidName),
        ("/v2/a%2Fb/manifests/x?ns=evil.example", InvalidName),
        ("/../v2/", InvalidName),
        ("/metrics/%2e%2e/v2", InvalidName),
        ("/v2/app/tags/list?n=-1", InvalidPage),
        ("/v2/_catalog?n=many", InvalidPage),
        ("/v2/app/tags/list?last=%0d%0a", InvalidPage),
        ("/", UnknownRoute),
        ("", UnknownRoute),
        ("*", UnknownRoute),
        ("http://h", UnknownRoute),
        ("h:443", UnknownRoute),
        ("/metrics", UnknownRoute),
        ("/v1/_ping", UnknownRoute),
        ("/v2/app", UnknownRoute),
        ("/v2/lab/app", UnknownRoute),
        ("/v2/app/tags", UnknownRoute),
        ("/v2/app/tags/list/", UnknownRoute),
        ("/v2/app/tags/first", UnknownRoute),
        ("/v2/manifests/x", UnknownRoute),
        ("/lab/v2/manifests/x", UnknownRoute),
        ("/lab/v2/lab/_catalog", UnknownRoute),
        ("/v2/a/lab/_catalog", UnknownRoute),
        ("/v2/docker.io/?ns=lab", UnknownRoute),
        ("/v2/app/blobs/uploads/", UnsupportedOperation),
        ("/v2/app/blobs/uploads/some-id", UnsupportedOperation),
    ],
)
def test_requests_that_cannot_be_answered(target: str, error: type[EntrepotError]) -> None:
    with pytest.raises(error):
        TABLE.route("GET", target, None)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get", ""])
def test_there_is_no_pushing_anywhere_below_v2(method: str) -> None:
    for target in (
        "/v2/",
        "/v2/app/manifests/latest",
        "/v2/app/blobs/uploads/?mount=sha256:x&from=y",
        "/lab/v2/app/manifests/latest",
        "/v2/nothing/of/the/kind?ns=evil.example",
    ):
        with pytest.raises(UnsupportedOperation):
            TABLE.route(method, target, None)
    with pytest.raises(UnknownRoute):
        TABLE.route(method, "/metrics", None)
    with pytest.raises(InvalidName):
        TABLE.route(method, "/v2/../x", None)


pieces = st.sampled_from(
    ["/v2", "/", "lab", "docker.io", "/manifests/", "/blobs/", "/tags/list", "_catalog", "?ns=",
     "&n=", "%3A", str(SHA), "..", "%", "http://", "@", "\udc80", "\x00", "a", "?"]
)  # fmt: skip


@given(
    st.sampled_from(["GET", "HEAD", "POST"]) | st.text(),
    st.text() | st.lists(pieces).map("".join),
    st.none() | st.text(),
)
def test_any_request_is_routed_or_refused_in_our_own_words(
    method: str, target: str, host: str | None
) -> None:
    try:
        found = TABLE.route(method, target, host)
    except EntrepotError:
        return
    assert method in {"GET", "HEAD"}
    assert found.upstream is None or found.upstream in {"docker.io", "lab", "ghcr.io"}


def test_two_upstreams_may_not_share_a_name_or_a_host() -> None:
    with pytest.raises(ValueError, match=r"'docker\.io' and 'other' are both called 'Docker\.IO'"):
        RouteTable([HUB, UpstreamNames(name="other", aliases=("Docker.IO",))], None)
    with pytest.raises(ValueError, match="both called"):
        RouteTable([HUB, UpstreamNames(name="other", hosts=("hub.proxy.example",))], None)
    with pytest.raises(ValueError, match=r"default upstream 'quay\.io'"):
        RouteTable(UPSTREAMS, "quay.io")


def test_an_upstream_may_say_its_own_name_twice() -> None:
    table = RouteTable([UpstreamNames(name="lab", aliases=("LAB", "lab"))], "Lab")
    assert get("/v2/a/manifests/x", table=table).upstream == "lab"
