"""Several logins at one upstream: whose turn it is, and what each is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.cache.traffic import Urgency, working_as
from proxy.config.quota import Reserve
from proxy.errors import AccessDenied, QuotaKept, UpstreamLimited
from proxy.events import QuotaRead, QuotaSpent
from proxy.oci.names import Repository, Tag
from proxy.upstream.accounts import LIMITED_S_DEFAULT, LOOK_S, REFUSED_S
from proxy.upstream.credentials import Credentials, StaticCredentials, account_id, masked
from proxy.upstream.quota_budget import LOOK_AGAIN_S
from tests.support.asking import Asking, asking
from tests.support.fake_registry import FakeAuth, FakeRegistry, Fault, Quirks
from tests.support.images import image

REPO = Repository.parse("library/app")
PRIVATE = Repository.parse("team/secret")
LATEST = Tag.parse("latest")
PASSWORDS = {"anna": "a", "bert": "b", "carl": "c"}


def hub(scheme: str = "bearer", **quotas: int) -> FakeRegistry:
    auth = FakeAuth(users=dict(PASSWORDS), private={PRIVATE}, scheme=scheme)
    made = FakeRegistry(Quirks(quotas=quotas), auth)
    for repository in (REPO, PRIVATE):
        made.add(repository, image(seed=repository), "latest")
    return made


def login(name: str, password: str | None = None) -> StaticCredentials:
    return StaticCredentials(Credentials(name, password or PASSWORDS[name]))


@asynccontextmanager
async def asked_as(
    up: FakeRegistry, *names: str | StaticCredentials, **settings
) -> AsyncIterator[Asking]:
    sources = [one if isinstance(one, StaticCredentials) else login(one) for one in names]
    async with asking(up, sources[0], further_credentials=tuple(sources[1:]), **settings) as ask:
        yield ask


def gets(up: FakeRegistry) -> Counter[str]:
    """Manifests that each user got."""
    return Counter(
        one.user for one in up.requests(kind="manifest", method="GET") if one.status == 200
    )


async def get(ask: Asking, times: int = 1, repository: Repository = REPO) -> None:
    for _ in range(times):
        assert await ask.upstream.get_manifest(repository, LATEST)


@pytest.mark.parametrize("scheme", ["bearer", "basic"])
async def test_whoever_has_most_left_asks_until_all_have_the_same(scheme):
    async with hub(scheme, anna=30, bert=20) as up, asked_as(up, "anna", "bert") as ask:
        await get(ask, 22)
        # One of each before anything is known of both.
        assert gets(up) == {"anna": 16, "bert": 6}
        assert up.quirks.quotas == {"anna": 14, "bert": 14}


async def test_each_is_shown_its_own_tokens_only_and_asks_for_one_once():
    async with hub(anna=50, bert=50) as up, asked_as(up, "anna", "bert") as ask:
        await get(ask, 10)
        assert up.count(kind="token") == 2
        shown = {one.headers["Authorization"]: one.user for one in up.requests(kind="manifest")}
        assert sorted(shown.values()) == ["anna", "bert"]


async def test_one_that_nobody_counts_is_used_all_the_time():
    async with hub(anna=50) as up, asked_as(up, "anna", "bert") as ask:
        await get(ask, 9)
        assert gets(up) == {"bert": 8, "anna": 1}


async def test_one_below_its_reserve_leaves_it_to_the_others():
    settings = {"quota_reserve": Reserve(count=10)}
    async with hub(anna=12, bert=11) as up, asked_as(up, "anna", "bert", **settings) as ask:
        assert not ask.upstream.health().saving
        await get(ask, 3)
        assert up.quirks.quotas == {"anna": 10, "bert": 10}
        assert ask.upstream.health().saving
        await get(ask, 2)  # What nobody has is fetched all the same.
        assert up.quirks.quotas == {"anna": 9, "bert": 9}


async def test_a_429_is_tried_again_as_another_and_the_upstream_is_not_called_limited():
    async with hub(anna=50, bert=40) as up, asked_as(up, "anna", "bert") as ask:
        await get(ask, 2)
        up.inject(Fault(status=429), match=lambda seen: seen.user == "anna")
        await get(ask, 5)
        assert gets(up) == {"anna": 1, "bert": 6}
        assert ask.upstream.health().state == "ok"
        ask.ticks.now_s += LIMITED_S_DEFAULT
        await get(ask)
        assert gets(up)["anna"] == 2


async def test_as_long_as_it_was_asked_for_a_limited_one_is_left_alone():
    async with hub(anna=50, bert=40) as up, asked_as(up, "anna", "bert") as ask:
        await get(ask, 2)
        wish = {"Retry-After": "900"}
        up.inject(Fault(status=429, headers=wish), match=lambda seen: seen.user == "anna")
        await get(ask)
        ask.ticks.now_s += 899
        await get(ask)
        assert gets(up)["anna"] == 1
        ask.ticks.now_s += 1
        await get(ask)
        assert gets(up)["anna"] == 2


async def test_when_all_are_limited_the_upstream_is():
    async with hub(anna=50, bert=40) as up, asked_as(up, "anna", "bert") as ask:
        up.inject(Fault(status=429), kind="manifest", times=None)
        with pytest.raises(UpstreamLimited):
            await get(ask)
        assert up.count(kind="manifest", method="GET") == 2
        assert ask.upstream.health().state == "limited"
        up.heal()
        ask.ticks.now_s += 6
        await get(ask)


@pytest.mark.parametrize("scheme", ["bearer", "basic"])
async def test_a_wrong_password_is_passed_over(scheme):
    wrong = login("anna", "old")
    async with hub(scheme, anna=99, bert=9) as up, asked_as(up, wrong, "bert") as ask:
        await get(ask, 4, PRIVATE)
        assert gets(up) == {"bert": 4}
        refused = [one for one in up.seen if one.status == 401]
        before = len(refused)
        await get(ask, 2, PRIVATE)
        assert len([one for one in up.seen if one.status == 401]) == before
        (anna, bert) = ask.upstream.accounts
        assert (anna.passed_over[0], bert.passed_over[0]) == ("refused", "")
        ask.ticks.now_s += REFUSED_S
        assert anna.passed_over[0] == ""


async def test_asking_for_what_nobody_may_see_makes_no_login_suspect():
    async with hub("basic", anna=50, bert=50) as up, asked_as(up, "anna", "bert") as ask:
        up.inject(Fault(status=403), times=None)
        with pytest.raises(AccessDenied):
            await get(ask)
        assert [one.passed_over[0] for one in ask.upstream.accounts] == ["", ""]


async def test_what_a_stranger_is_refused_makes_no_login_suspect():
    async with hub(anna=50, bert=50) as up, asked_as(up, "anna", "bert") as ask:
        up.inject(Fault(status=429), kind="manifest")
        with pytest.raises(UpstreamLimited):
            await ask.upstream.anonymous_may_read(REPO, "manifests", "latest")
        assert [one.passed_over[0] for one in ask.upstream.accounts] == ["", ""]


async def test_what_storage_elsewhere_refuses_is_not_asked_for_as_everybody():
    quirks = Quirks(blobs_at_cdn=True, cdn_head_status=403)
    async with FakeRegistry(quirks, FakeAuth(users=dict(PASSWORDS))) as up:
        up.add(REPO, image(), "latest")
        async with asked_as(up, "anna", "bert") as ask:
            assert await ask.upstream.stat_blob(REPO, image().layers[0].digest)
        heads = up.requests(kind="blob", method="HEAD")
        assert {one.user for one in heads if not one.at_cdn} == {"anna"}


async def test_a_single_login_is_asked_whatever_happened():
    async with hub(anna=50) as up, asked_as(up, "anna") as ask:
        up.inject(Fault(status=429))
        with pytest.raises(UpstreamLimited):
            await get(ask)
        ask.ticks.now_s += 6  # The breaker's time, not a minute.
        await get(ask)


async def test_what_a_stranger_is_told_is_no_logins_quota():
    async with hub(anna=50, **{"": 3}) as up, asked_as(up, "anna") as ask:
        assert await ask.upstream.anonymous_may_read(REPO, "manifests", "latest")
        assert ask.upstream.health().quota is None
        await get(ask)
        assert ask.upstream.health().quota.remaining == 49


async def test_logins_that_are_one_source_draw_from_one_pot():
    async with hub(anna=50, bert=50) as up, asked_as(up, "anna", "bert") as ask:
        told = {"ratelimit-limit": "100;w=60", "docker-ratelimit-source": "192.0.2.1"}
        for remaining in (41, 40):
            headers = {**told, "ratelimit-remaining": f"{remaining};w=60"}
            up.inject(Fault(headers=headers), kind="manifest")
            await get(ask)
        assert [one.budget.left for one in ask.upstream.accounts] == [40, 40]


async def test_a_free_question_looks_after_the_one_that_was_not_heard_of_for_long():
    async with hub(anna=50, bert=2) as up, asked_as(up, "anna", "bert") as ask:
        await get(ask, 2)
        up.quirks.quotas["bert"] = 100  # Its window ended.
        ask.ticks.now_s += LOOK_S - 1
        await get(ask)
        await ask.upstream.resolve(REPO, LATEST)
        ask.ticks.now_s += 2
        await ask.upstream.resolve(REPO, LATEST)
        assert [one.budget.left for one in ask.upstream.accounts] == [48, 100]


# --- what is kept back --------------------------------------------------------


@pytest.mark.parametrize("urgency", [Urgency.REFRESH, Urgency.WARM])
async def test_what_nobody_waits_for_spends_nothing_below_its_mark(urgency):
    settings = {"quota_reserve": Reserve(count=10), "quota_warm_reserve": Reserve(share=0.3)}
    async with hub(anna=33) as up, asked_as(up, "anna", **settings) as ask:
        with working_as(urgency):
            await get(ask, 3)
            with pytest.raises(QuotaKept):
                await get(ask)
            assert await ask.upstream.resolve(REPO, LATEST)  # Free.
        assert up.quirks.quotas == {"anna": 30}
        await get(ask, 3)
        assert up.quirks.quotas == {"anna": 27}
        assert ask.upstream.health().state == "ok"
        outcomes = Counter((one.urgency, one.outcome) for one in ask.stated(QuotaSpent))
        name = urgency.name.lower()
        assert outcomes == {(name, "counted"): 3, (name, "kept"): 1, ("waiting", "counted"): 3}


async def test_with_none_left_the_answer_is_fast_and_a_look_now_and_then_tells_of_more():
    async with hub(anna=1) as up, asked_as(up, "anna") as ask:
        await get(ask)
        asked = up.count()
        for _ in range(5):
            with pytest.raises(QuotaKept, match="no pulls left"):
                await get(ask)
        assert up.count() == asked
        assert ask.upstream.health().state == "ok"  # HEADs and blobs go on.
        up.quirks.quotas["anna"] = 7
        ask.ticks.now_s += LOOK_AGAIN_S
        await get(ask, 2)
        assert up.quirks.quotas["anna"] == 5


async def test_a_head_tells_of_a_refill_at_once():
    async with hub(anna=1) as up, asked_as(up, "anna") as ask:
        await get(ask)
        up.quirks.quotas["anna"] = 100
        await ask.upstream.resolve(REPO, LATEST)
        await get(ask)
        assert up.quirks.quotas["anna"] == 99


async def test_a_window_without_a_number_keeps_nothing_back():
    settings = {"quota_reserve": Reserve(count=1000)}
    async with hub(anna=3) as up, asked_as(up, "anna", **settings) as ask:
        headers = {"ratelimit-limit": ";w=21600", "ratelimit-remaining": ";w=21600"}
        up.inject(Fault(headers=headers), kind="manifest", times=None)
        with working_as(Urgency.WARM):
            await get(ask, 3)
        assert not ask.upstream.health().saving


async def test_where_nobody_counts_any_more_nothing_is_kept_back():
    settings = {"quota_reserve": Reserve(count=1000)}
    async with hub(anna=3, bert=9) as up, asked_as(up, "anna", **settings) as ask:
        await get(ask)
        assert ask.upstream.health().saving
        del up.quirks.quotas["anna"]  # It pays now.
        await get(ask)
        assert not ask.upstream.health().saving


async def test_the_sums_are_stated_with_the_reserve():
    settings = {"quota_reserve": Reserve(count=7)}
    async with hub(anna=50, bert=20) as up, asked_as(up, "anna", "bert", **settings) as ask:
        await get(ask, 2)
        last = ask.stated(QuotaRead)[-1]
        assert (last.limit, last.remaining, last.reserve) == (200, 68, 14)
        images = ask.upstream.accounts.ledger.spenders.images(9)
        assert images == [("up/library/app", 2)]


async def test_only_what_was_counted_is_charged_to_anyone():
    async with hub(anna=50) as up, asked_as(up, "anna") as ask:
        await ask.upstream.resolve(REPO, LATEST)
        assert await ask.upstream.get_manifest(REPO, Tag.parse("none")) is None
        with working_as(Urgency.WAITING, client="192.0.2.9"):
            await get(ask)
        spenders = ask.upstream.accounts.ledger.spenders
        assert spenders.clients(9) == [("192.0.2.0/24", 1)]
        assert spenders.total == 1


@pytest.mark.parametrize(
    ("name", "shown"), [("robot$office", "ro…e"), ("anna", "an…a"), ("bob", "b…"), ("", "…")]
)
def test_names_are_masked_and_logins_told_apart(name, shown):
    source = StaticCredentials(Credentials(name, "secret"))
    assert masked(source) == shown
    assert account_id(source) != account_id(StaticCredentials(Credentials("other", "secret")))
    assert "secret" not in account_id(source)
