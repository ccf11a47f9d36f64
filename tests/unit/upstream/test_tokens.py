from __future__ import annotations

import asyncio

import pytest

from proxy.errors import AccessDenied
from proxy.oci.challenge import TokenReply
from proxy.upstream import tokens as module
from proxy.upstream.tokens import Granted, TokenKey, Tokens
from tests.support.asking import Ticks
from tests.support.waiting import until


def key(repository="a", *, ours=False):
    return TokenKey(
        realm="https://auth/", service="s", scope=(repository,), ours=ours, challenger="up"
    )


class Endpoint:
    """Grants numbered tokens of 100 s, once `open` is set."""

    def __init__(self):
        self.asked = []
        self.open = asyncio.Event()
        self.open.set()
        self.refuses = False

    async def ask(self, key):
        self.asked.append(key)
        await self.open.wait()
        if self.refuses:
            raise AccessDenied("no")
        return Granted(TokenReply(f"t{len(self.asked)}", 100), with_credentials=False)


@pytest.fixture
def endpoint():
    return Endpoint()


@pytest.fixture
def ticks():
    return Ticks()


@pytest.fixture
async def tokens(endpoint, ticks):
    made = Tokens(endpoint.ask, monotonic=ticks)
    yield made
    await made.aclose()


async def test_a_token_is_kept_until_nine_tenths_of_its_life(tokens, endpoint, ticks):
    assert (await tokens.get(key())).fresh
    ticks.now_s += 89.9
    again = await tokens.get(key())
    assert (again.text, again.fresh) == ("t1", False)
    ticks.now_s += 0.1
    assert (await tokens.get(key())).text == "t2"


async def test_its_life_begins_when_it_was_asked_for(tokens, endpoint, ticks):
    endpoint.open.clear()
    waiting = asyncio.create_task(tokens.get(key()))
    await until(lambda: endpoint.asked, "a token is asked for")
    ticks.now_s += 60
    endpoint.open.set()
    await waiting
    ticks.now_s += 30
    assert (await tokens.get(key())).text == "t2"


async def test_identities_and_scopes_do_not_share_tokens(tokens, endpoint):
    texts = {(await tokens.get(k)).text for k in (key("a"), key("b"), key("a", ours=True))}
    assert len(texts) == 3


async def test_many_who_want_the_same_token_ask_once(tokens, endpoint):
    endpoint.open.clear()
    waiting = [asyncio.create_task(tokens.get(key())) for _ in range(20)]
    await until(lambda: endpoint.asked, "a token is asked for")
    endpoint.open.set()
    assert {token.text for token in await asyncio.gather(*waiting)} == {"t1"}
    assert len(endpoint.asked) == 1


async def test_a_caller_that_leaves_does_not_take_the_request_with_it(tokens, endpoint):
    endpoint.open.clear()
    first, second = (asyncio.create_task(tokens.get(key())) for _ in range(2))
    await until(lambda: endpoint.asked, "a token is asked for")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    endpoint.open.set()
    assert (await second).text == "t1"
    assert len(endpoint.asked) == 1


async def test_a_refusal_reaches_all_and_is_not_kept(tokens, endpoint):
    endpoint.refuses = True
    outcomes = await asyncio.gather(*(tokens.get(key()) for _ in range(3)), return_exceptions=True)
    assert [type(o) for o in outcomes] == [AccessDenied] * 3
    endpoint.refuses = False
    assert (await tokens.get(key())).text == "t2"


async def test_dropping_an_old_token_leaves_the_newer_one(tokens, endpoint):
    old = await tokens.get(key())
    tokens.drop(key(), old)
    new = await tokens.get(key())
    tokens.drop(key(), old)
    assert (await tokens.get(key())).text == new.text
    tokens.drop(key("unknown"), old)


async def test_the_least_recently_used_token_makes_room(tokens, endpoint, monkeypatch):
    monkeypatch.setattr(module, "TOKENS_MAX", 2)
    await tokens.get(key("a"))
    await tokens.get(key("b"))
    await tokens.get(key("a"))
    await tokens.get(key("c"))
    assert not (await tokens.get(key("a"))).fresh
    assert (await tokens.get(key("b"))).fresh


async def test_closing_ends_what_is_being_asked(endpoint, ticks):
    tokens = Tokens(endpoint.ask, monotonic=ticks)
    endpoint.open.clear()
    waiting = asyncio.create_task(tokens.get(key()))
    await until(lambda: endpoint.asked, "a token is asked for")
    await tokens.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting
