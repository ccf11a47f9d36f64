"""Several logins and reserves in the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from proxy.config import ConfigError, Settings, load, settings_table, shown
from proxy.upstream.credentials import Credentials, StaticCredentials
from proxy.upstream.identity import credential_source, credential_sources


@pytest.fixture
def read(tmp_path: Path):
    def of(hub: dict, environ: dict[str, str] | None = None) -> Settings:
        path = tmp_path / "entrepot.yaml"
        path.write_text(yaml.safe_dump({"upstreams": {"hub": {"url": "http://hub", **hub}}}))
        return load(path, environ or {}, {})

    return of


@pytest.fixture
def mistakes(read):
    def of(hub: dict, environ: dict[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(hub, environ)
        return [f"{one.key}: {one.message}" for one in caught.value.problems]

    return of


def test_logins_take_their_passwords_from_wherever_they_stand(read, tmp_path):
    (tmp_path / "user").write_text("carl\n")
    (tmp_path / "pw").write_text("from a file\n")
    logins = [
        {"username": "bert", "password_env": "ENTREPOT_BERT"},
        {"username_file": str(tmp_path / "user"), "password_file": str(tmp_path / "pw")},
    ]
    first = {"username": "anna", "password": "own"}
    settings = read({**first, "credentials": logins}, {"ENTREPOT_BERT": "from a variable"})
    expected = [("anna", "own"), ("bert", "from a variable"), ("carl", "from a file")]
    assert credential_sources(settings.upstreams["hub"], None) == tuple(
        StaticCredentials(Credentials(*one)) for one in expected
    )
    printed = str(shown(settings)["upstreams"]["hub"])
    assert "bert" in printed
    assert "from a" not in printed
    assert "from a" not in repr(settings)


def test_a_list_alone_will_do(read):
    hub = read({"credentials": [{"username": "bert", "password": "b"}]}).upstreams["hub"]
    assert credential_source(hub, None) == StaticCredentials(Credentials("bert", "b"))


@pytest.mark.parametrize(
    ("hub", "said"),
    [
        ({"credentials": {"username": "a", "password": "b"}}, "credentials: must be a list"),
        ({"credentials": [{"username": "a"}]}, "credentials[0]: needs `password`"),
        ({"credentials": [{"password": "a"}]}, "credentials[0]: needs `username`"),
        (
            {"credentials": [{"username": "a", "password": "b", "password_file": "/x"}]},
            "credentials[0].password_file: give only one of `password` and `password_file`",
        ),
        (
            {"credentials": [{"usrname": "a", "password": "b"}]},
            "credentials[0].usrname: unknown key; did you mean username?",
        ),
        (
            {"credentials": [{"username": "a", "password_env": "NOWHERE"}]},
            "credentials[0].password_env: the environment variable NOWHERE is not set",
        ),
        (
            {
                "username": "a",
                "password": "b",
                "credentials": [{"username": "a", "password": "c"}],
            },
            "credentials[0]: the same user is given twice",
        ),
        ({"quota_reserve": "many"}, "quota_reserve: must be a number of pulls such as 10"),
        ({"quota_reserve": "120%"}, "quota_reserve: must be"),
        ({"quota_reserve": -1}, "quota_reserve: must be"),
        ({"quota_reserve": True}, "quota_reserve: must be"),
        (
            {"quota_reserve": "40%"},
            "quota_warm_reserve: must not be less than `quota_reserve`",
        ),
        (
            {"quota_reserve": 40, "quota_warm_reserve": 30},
            "quota_warm_reserve: must not be less than `quota_reserve`",
        ),
    ],
)
def test_mistakes_are_told_where_they_stand_and_quote_no_secret(mistakes, hub, said):
    found = mistakes(hub)
    assert any(one.startswith(f"upstreams.hub.{said}") for one in found), found


def test_reserves_are_counts_or_shares_and_of_unlike_ones_nothing_is_said(read):
    for reserve, warm in ((0, 0), (10, "30%"), ("10%", 5), ("2.5%", "2.5%")):
        hub = read({"quota_reserve": reserve, "quota_warm_reserve": warm}).upstreams["hub"]
        assert (hub.quota_reserve, hub.quota_warm_reserve) == (str(reserve), str(warm))


def test_what_can_be_written_is_documented():
    table = settings_table()
    assert "| `quota_reserve` | `10%` |" in table
    assert "under `credentials: [{…}]` of an upstream" in table
