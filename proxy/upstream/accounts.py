"""All logins at one upstream, used in turn: who asks next, and who after a refusal.

Asked is whoever has most pulls left; what does not count goes to the same one, but
now and then to the one that was not heard of for longest, since every HEAD of a
manifest tells how much is left. Who is limited (429) or refused is passed over for a
while, and the question is put again as each other one that may ask. A login counts
as refused only when another one was let in for the same: so nobody can make us pass
over good logins by asking for what does not exist. When all are passed over, none is.

*Several logins are one sharing group.* They must be able to see the same things.
What each may pull goes into the group of the upstream, and a blob that one of them
brought is served without asking as the same one again. That shows nobody more than
before, because no client of ours ever was one of these logins: who may see what is
decided by `expose` alone, per repository, before anything is looked up, and `public`
asks as a stranger. A repository gets a blob that another one brought only after it
was asked for it itself (`cache/vouching.py`), by a login that the upstream lets in.
So what clients may see is what `expose` allows of what *any* of the logins may, and
never more; where logins see different things, an image that only one of them may
pull comes and goes with whose turn it is. Tokens are never mixed: each login has its
own, and one that was given to a stranger is used for strangers only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from proxy.cache import traffic
from proxy.cache.traffic import Urgency
from proxy.errors import AccessDenied, QuotaKept, UpstreamLimited
from proxy.upstream.account import Account
from proxy.upstream.answers import Answer, Ask
from proxy.upstream.bodies import discard
from proxy.upstream.quota_budget import LOOK_AGAIN_S
from proxy.upstream.quota_ledger import Ledger, counts

LIMITED_S_DEFAULT = 60.0
LIMITED_S_MAX = 3600.0
REFUSED_S = 300.0
LOOK_S = 60.0
"""A login that was not heard of for so long may have got its pulls back."""
_REFUSED = frozenset({401, 403})


class Accounts:
    """The logins of one upstream; at least one, which may be that of a stranger."""

    def __init__(self, upstream: str, accounts: Sequence[Account], ledger: Ledger) -> None:
        self._upstream = upstream
        self._accounts = tuple(accounts)
        self.ledger = ledger
        self._turns = 0

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts)

    @property
    def saving(self) -> bool:
        """Whether no login has more left than its reserve."""
        if len(self._accounts) == 1:
            return self._accounts[0].budget.saving
        return all(one.budget.saving for one in self._may_ask(()))

    def choose(self, ask: Ask) -> Account:
        """Who is to ask. Raises `QuotaKept` where nothing may be spent on it."""
        if not counts(ask) or ask.identity == "anonymous":
            return self._for_free(ask)
        chosen = _best(self._may_ask(()))
        refusal = self._refusal(chosen)
        if refusal is not None:
            self.ledger.kept()
            raise refusal
        self._turns += 1
        chosen.used_at = self._turns
        return chosen

    async def answer(self, first: Account, ask: Ask) -> Answer:
        """The answer to `first`, or to another one where that is limited or refused.

        Raises what `Account.answer` raises.
        """
        account, tried, refused = first, [first], list[Account]()
        while True:
            answer = await self._answer_of(account, ask)
            following = self._another(ask, tried) if _elsewhere(answer) else None
            if following is None:
                if isinstance(answer, Exception):
                    raise answer
                if answer.status not in _REFUSED:
                    for one in refused:
                        one.pass_over("refused", REFUSED_S)
                return answer
            if isinstance(answer, Answer):
                await discard(answer.response, self._upstream)
            if not isinstance(answer, UpstreamLimited):
                refused.append(account)
            account = following
            tried.append(account)

    async def refused(self, ask: Ask) -> list[str]:
        """The names of the logins that are not let in. Raises what `Account.answer` raises."""
        names: list[str] = []
        for one in self._accounts:
            try:
                answer = await one.answer(ask)
            except AccessDenied:
                names.append(one.name)
                continue
            await discard(answer.response, self._upstream)
            if answer.status in _REFUSED:
                names.append(one.name)
        return names

    async def aclose(self) -> None:
        """Stop asking for tokens."""
        for one in self._accounts:
            await one.aclose()

    async def _answer_of(
        self, account: Account, ask: Ask
    ) -> Answer | UpstreamLimited | AccessDenied:
        try:
            return await account.answer(ask)
        except AccessDenied as error:
            return error
        except UpstreamLimited as error:
            if ask.identity == "ours":
                wish_s = error.retry_after_s
                wait_s = LIMITED_S_DEFAULT if wish_s is None else min(wish_s, LIMITED_S_MAX)
                account.pass_over("limited", wait_s)
            return error

    def _may_ask(self, tried: Sequence[Account]) -> list[Account]:
        """Those of whom nothing speaks against; of nobody, then of all."""
        waiting = [one for one in self._accounts if one not in tried]
        return [one for one in waiting if not one.passed_over[0]] or ([] if tried else waiting)

    def _another(self, ask: Ask, tried: Sequence[Account]) -> Account | None:
        rest = [] if ask.identity == "anonymous" else self._may_ask(tried)
        if counts(ask):
            rest = [one for one in rest if one.budget.left > 0]
        following = _best(rest) if rest else None
        if following is None or (counts(ask) and self._refusal(following) is not None):
            return None
        return following

    def _for_free(self, ask: Ask) -> Account:
        if ask.identity == "anonymous" or len(self._accounts) == 1:
            return self._accounts[0]
        accounts = self._may_ask(())
        if ask.operation == "manifest":
            longest = max(accounts, key=lambda one: one.budget.age_s)
            if LOOK_S < longest.budget.age_s < math.inf:
                return longest
        return _best(accounts)

    def _refusal(self, account: Account) -> QuotaKept | None:
        """Why this one must not spend a pull now."""
        budget, urgency = account.budget, traffic.current().urgency
        if budget.left <= 0:
            if urgency is Urgency.WAITING and budget.may_look():
                return None
            return QuotaKept(
                f"{self._upstream} has no pulls left for us; it is asked again when it has",
                retry_after_s=LOOK_AGAIN_S,
            )
        if urgency is not Urgency.WAITING and budget.left <= budget.warm_reserve:
            return QuotaKept(
                f"{self._upstream} has {budget.left:.0f} pulls left, which are kept for who waits"
            )
        return None


def _elsewhere(answer: Answer | UpstreamLimited | AccessDenied) -> bool:
    """Whether another login may fare better."""
    match answer:
        case UpstreamLimited():
            return True
        case AccessDenied():
            return answer.authenticated
        case Answer():
            # What another host refuses after a redirect (GHCR's storage any HEAD) it
            # refuses everybody.
            ours = answer.with_credentials and not answer.elsewhere
            return ours and answer.status in _REFUSED


def _best(accounts: Sequence[Account]) -> Account:
    """Who has most left; of equal ones who was asked longest ago."""

    def merit(one: Account) -> tuple[bool, bool, float, int]:
        budget = one.budget
        return budget.left > budget.warm_reserve, not budget.saving, budget.left, -one.used_at

    return max(accounts, key=merit)
