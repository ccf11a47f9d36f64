from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadUpstreamAnswer
from proxy.oci.challenge import (
    Challenge,
    choose,
    parse_challenges,
    parse_token,
    pull_scope,
)

HUB = (
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
    'scope="repository:library/alpine:pull"'
)


def test_docker_hubs_challenge_is_read():
    assert parse_challenges([HUB]) == (
        Challenge(
            "bearer",
            realm="https://auth.docker.io/token",
            service="registry.docker.io",
            scope="repository:library/alpine:pull",
        ),
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('bEaReR ReAlM="r"', Challenge("bearer", realm="r")),
        ('Bearer realm="a, b=\\"c\\" \\\\d"', Challenge("bearer", realm='a, b="c" \\d')),
        (
            "Bearer realm=https://a/token?x=1,service=s",
            Challenge("bearer", "https://a/token?x=1", "s"),
        ),
        (
            'Bearer realm = "r" , error = "invalid_token"',
            Challenge("bearer", realm="r", error="invalid_token"),
        ),
        (
            'Bearer realm="never closed, service="',
            Challenge("bearer", realm="never closed, service="),
        ),
        ('Bearer realm="first",realm="second"', Challenge("bearer", realm="first")),
        ('Bearer realm="r",scope=""', Challenge("bearer", realm="r", scope="")),
        ("Basic", Challenge("basic")),
        (",, Basic ,,", Challenge("basic")),
    ],
)
def test_odd_but_real_spellings_are_read(line, expected):
    assert parse_challenges([line]) == (expected,)


def test_several_challenges_in_a_line_and_several_lines_keep_their_order():
    found = parse_challenges(
        ['Negotiate a8F==, Basic realm="x", Bearer realm="y",scope="s t"', "NTLM"]
    )
    assert [c.scheme for c in found] == ["negotiate", "basic", "bearer", "ntlm"]
    assert found[1:3] == (Challenge("basic", "x"), Challenge("bearer", "y", scope="s t"))


@pytest.mark.parametrize("line", ["", "   ", 'realm="without a scheme"', '"', "=", ',="'])
def test_nonsense_is_no_challenge(line):
    assert parse_challenges([line]) == ()


def test_bearer_is_chosen_before_basic_wherever_it_stands():
    basic, bearer = Challenge("basic"), Challenge("bearer", realm="r")
    assert choose([basic, bearer]) == bearer
    assert choose([Challenge("bearer"), basic]) == basic
    assert choose([Challenge("negotiate")]) is None
    assert choose([]) is None


@given(st.text())
def test_reading_never_fails_and_never_invents_an_empty_scheme(line):
    assert all(challenge.scheme for challenge in parse_challenges([line]))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Bearer", "BASIC"]),
            st.text(st.characters(min_codepoint=32, max_codepoint=126)),
            st.text(st.characters(min_codepoint=32, max_codepoint=126)),
        ),
        max_size=4,
    )
)
def test_every_quoted_value_comes_back_as_it_was(challenges):
    def quoted(text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    line = ", ".join(f"{s} realm={quoted(r)}, Scope={quoted(p)}" for s, r, p in challenges)
    assert parse_challenges([line]) == tuple(
        Challenge(s.lower(), realm=r, scope=p) for s, r, p in challenges
    )


def test_the_pull_scope_names_the_repository():
    assert pull_scope("library/alpine") == "repository:library/alpine:pull"


@pytest.mark.parametrize("field", ["token", "access_token"])
def test_a_token_is_taken_from_either_field(field):
    reply = parse_token(json.dumps({field: "t", "expires_in": 300, "refresh_token": "r"}).encode())
    assert (reply.token, reply.expires_in_s, reply.refresh_token) == ("t", 300, "r")


@pytest.mark.parametrize(
    ("expires_in", "life_s"),
    [
        ("absent", 60),
        (None, 60),
        (True, 60),
        ("300", 60),
        (float("nan"), 60),
        (-5, 60),
        (59, 60),
        (61, 61),
        (300.5, 300.5),
        (float("inf"), 86_400),
    ],
)
def test_the_life_of_a_token_has_a_floor_and_a_ceiling(expires_in, life_s):
    reply = {"token": "t"} if expires_in == "absent" else {"token": "t", "expires_in": expires_in}
    assert parse_token(json.dumps(reply).encode()).expires_in_s == life_s


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"token": ""}',
        b'{"token": 5}',
        b'{"token": "two words"}',
        b'{"token": "a\\r\\nX-Injected: 1"}',
    ],
)
def test_a_reply_without_a_sendable_token_is_refused(body):
    with pytest.raises(BadUpstreamAnswer):
        parse_token(body)


@pytest.mark.parametrize("refresh_token", ["", 5, None])
def test_an_unusable_refresh_token_is_none(refresh_token):
    body = json.dumps({"token": "t", "refresh_token": refresh_token}).encode()
    assert parse_token(body).refresh_token is None


def test_tokens_do_not_show_in_a_repr():
    reply = parse_token(b'{"token": "secret1", "refresh_token": "secret2"}')
    assert "secret" not in repr(reply)
