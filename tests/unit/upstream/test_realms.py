from __future__ import annotations

import pytest
from yarl import URL

from proxy.errors import BadUpstreamAnswer
from proxy.upstream.realms import (
    Origin,
    is_private,
    may_see_credentials,
    realm_url,
    redirect_target,
)

HUB = Origin("https", "registry-1.docker.io", 443)
HERE = URL("https://registry-1.docker.io/v2/library/a/blobs/x")
LAB = Origin("http", "127.0.0.1", 5005)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "a.localhost",
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "10.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
    ],
)
def test_private_addresses_are_seen_in_every_spelling(host):
    assert is_private(host)


@pytest.mark.parametrize("host", ["quay.io", "8.8.8.8", "2606:4700::1111", "127.example.com"])
def test_public_addresses_and_names_are_not_private(host):
    assert not is_private(host)


def test_a_signed_url_is_kept_to_the_byte():
    signed = "https://cdn.example/a%2Fb?X-Amz=a%2Bb%2F%3D&y=%7e+z"
    assert str(redirect_target(HUB, HERE, signed)) == signed


def test_a_relative_redirect_stays_at_its_host():
    assert str(redirect_target(HUB, HERE, "/x?y=%2F#z")) == "https://registry-1.docker.io/x?y=%2F"


@pytest.mark.parametrize(
    "location",
    [
        "http://registry-1.docker.io/",
        "http://cdn.example/",
        "ftp://cdn.example/",
        "https://user:pw@cdn.example/",
        "https://cdn.example:99999/",
        "https://10.0.0.1/",
        "https://127.1/",
        "//169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://localhost/",
        "https://%31%30.0.0.1/",
        "https://cdn.example/a b",
        "https://cdn.example/\r\nX: y",
        "https://cdn.example/é",
        "https://[::1",
        "",
    ],
)
def test_dangerous_redirects_are_refused(location):
    with pytest.raises(BadUpstreamAnswer):
        redirect_target(HUB, HERE, location)


def test_a_private_upstream_may_redirect_to_private_addresses():
    here = URL("http://127.0.0.1:5005/v2/a/blobs/x")
    assert redirect_target(LAB, here, "http://10.0.0.1/x").host == "10.0.0.1"


def test_a_public_address_may_redirect_to_itself_only():
    origin = Origin("https", "8.8.8.8", 443)
    assert redirect_target(origin, URL("https://8.8.8.8/"), "https://8.8.8.8:444/x").port == 444


def test_the_query_of_a_realm_is_kept():
    found = realm_url(HUB, HUB, "https://auth.docker.io/token?account=x", ())
    assert str(found) == "https://auth.docker.io/token?account=x"


@pytest.mark.parametrize(
    "realm", ["http://auth.docker.io/token", "https://10.0.0.1/token", "/token", "", "ldap://x/"]
)
def test_dangerous_realms_are_refused(realm):
    with pytest.raises(BadUpstreamAnswer):
        realm_url(HUB, HUB, realm, ())


def test_listing_a_realm_does_not_make_http_good_enough_for_https():
    with pytest.raises(BadUpstreamAnswer):
        realm_url(HUB, HUB, "http://auth.docker.io/token", ("auth.docker.io",))


def test_an_http_upstream_may_have_an_http_realm_on_its_host_on_loopback_or_listed():
    lab = Origin("http", "registry.lab", 80)
    assert realm_url(lab, lab, "http://registry.lab:8080/token", ())
    assert realm_url(lab, lab, "http://auth.lab/token", ("auth.lab",))
    assert realm_url(LAB, LAB, "http://localhost:5001/token", ())
    with pytest.raises(BadUpstreamAnswer):
        realm_url(lab, lab, "http://auth.lab/token", ())


@pytest.mark.parametrize(
    ("upstream", "realm", "listed", "expected"),
    [
        ("registry-1.docker.io", "auth.docker.io", (), True),
        ("ghcr.io", "ghcr.io", (), True),
        ("registry.gitlab.com", "gitlab.com", (), True),
        ("registry.gitlab.com", "evil.com", (), False),
        ("registry.lab", "auth.lab", (), False),
        ("registry.lab", "auth.lab", ("auth.lab",), True),
        ("a.cluster.local", "b.cluster.local", (), False),
        ("a.co.uk", "b.co.uk", (), False),
        ("a.github.io", "b.github.io", (), False),
        ("10.0.0.1", "10.0.0.2", (), False),
    ],
)
def test_passwords_go_to_the_same_owner_or_to_listed_hosts_only(upstream, realm, listed, expected):
    found = may_see_credentials(Origin("https", upstream, 443), Origin("https", realm, 443), listed)
    assert found is expected


def test_origins_compare_without_case_and_trailing_dot():
    assert Origin.of(URL("HTTPS://Quay.IO./v2")) == Origin.of(URL("https://quay.io:443/"))
