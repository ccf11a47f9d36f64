"""What `entrepot quota` prints."""

from __future__ import annotations

from typing import Any

from proxy.cli.quota import lines

LASTS = {"lasts": True, "pulls_an_hour": 2.0, "runs_out_s": None, "runs_out_at": None}
ENDS = {"lasts": False, "pulls_an_hour": 12.5, "runs_out_s": 900, "runs_out_at": 1000}
GONE = {"lasts": False, "pulls_an_hour": 40.0, "runs_out_s": 0, "runs_out_at": 100}


def login(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "metered": True,
        "limit": 200,
        "remaining": 150,
        "window_s": 21600,
        "reserve": 20,
        "warm_reserve": 60,
        "read_s_ago": 3.0,
        "counted_by": "account",
        "passed_over": None,
        "passed_over_s": 0.0,
        "forecast": LASTS,
        **more,
    }


def upstream(*logins: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "limit": 200,
        "remaining": 150,
        "reserve": 20,
        "saving": False,
        "forecast": LASTS,
        "credentials": list(logins),
        "spent": 0,
        "images": [],
        "clients": [],
        **more,
    }


def printed(**upstreams: dict[str, Any]) -> list[str]:
    return list(lines({"upstreams": upstreams}, at=lambda at: f"<{at}>"))


def test_nothing_is_told_of_nothing():
    assert printed() == ["no upstream has spoken of a quota"]


def test_what_is_left_until_when_and_who_spent_it():
    spent = {
        "spent": 42,
        "images": [{"image": "hub/library/alpine", "pulls": 40}, {"image": "hub/b", "pulls": 2}],
        "clients": [{"client": "192.0.2.0/24", "pulls": 42}],
    }
    an_account = "150 of 200 pulls left in 6 h by account, 20 in reserve (60 from warm-up), lasts"
    assert printed(hub=upstream(login("an…a"), forecast=ENDS, **spent)) == [
        "hub: 150 of 200 pulls left, runs out at <1000> at this pace (12.5 an hour)",
        f"  an…a                    {an_account}",
        "  images that took most of 42 pulls in the last 24 hours",
        "        40  hub/library/alpine",
        "         2  hub/b",
        "  clients that took most of 42 pulls in the last 24 hours",
        "        42  192.0.2.0/24",
    ]


def test_each_login_says_what_is_the_matter_with_it():
    unread = {"metered": False, "limit": None, "remaining": None, "window_s": None}
    told = printed(
        hub=upstream(
            login("a…", limit=None, window_s=90, counted_by=None, forecast=GONE, remaining=0),
            login("b…", **unread, passed_over="refused", passed_over_s=300.0),
            login("c…", passed_over="limited", passed_over_s=59.0),
            saving=True,
        ),
        quay=upstream(login("d…", **unread), limit=None, remaining=None, clients=None),
    )
    assert told[0] == (
        "hub: 150 of 200 pulls left, lasts; tags that moved are answered from what is held"
    )
    assert told[1].split(maxsplit=1)[1] == (
        "0 pulls left in 90 s, 20 in reserve (60 from warm-up), used up"
    )
    assert told[2].endswith("no quota was told; refused, passed over for 5 min")
    assert told[3].endswith("; limited (429), passed over for 59 s")
    assert told[4:6] == ["", "quay: no quota was told"]
