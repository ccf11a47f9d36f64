"""What everything that claims to be a `Coordination` does, in-process or shared.

A class of tests that takes a fixture `replicas`: two users of one coordination
(for the in-process one, twice the same object). Times to live are real and
short; what ran out is asked for until it has, within a limit.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from proxy.oci.digest import Digest
from proxy.ports import PUBLIC, BlobKey, Coordination, Held
from tests.support.waiting import until

Replicas = tuple[Coordination, Coordination]

KEY = BlobKey(PUBLIC, Digest.of(b"some blob"))
NAME = f"blob/{PUBLIC}/{KEY.digest}"


class CoordinationSuite:
    """The port's contract."""

    async def test_what_is_held_by_one_is_busy_for_the_other(self, replicas: Replicas) -> None:
        one, other = replicas
        async with one.try_hold(NAME) as lease:
            assert not isinstance(lease, Held)
            assert not lease.lost
            async with other.try_hold(NAME) as held:
                assert isinstance(held, Held)
                assert held.token

    async def test_what_was_given_back_can_be_held_by_the_other(self, replicas: Replicas) -> None:
        one, other = replicas
        async with one.try_hold(NAME):
            pass
        async with other.try_hold(NAME) as lease:
            assert not isinstance(lease, Held)

    async def test_work_that_fails_gives_its_claim_back(self, replicas: Replicas) -> None:
        one, other = replicas
        with pytest.raises(ZeroDivisionError):
            async with one.try_hold(NAME):
                raise ZeroDivisionError
        async with other.try_hold(NAME) as lease:
            assert not isinstance(lease, Held)

    async def test_work_that_is_cancelled_gives_its_claim_back(self, replicas: Replicas) -> None:
        one, other = replicas
        inside = asyncio.Event()

        async def work() -> None:
            async with one.try_hold(NAME):
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with other.try_hold(NAME) as lease:
            assert not isinstance(lease, Held)

    async def test_names_do_not_disturb_each_other(self, replicas: Replicas) -> None:
        one, other = replicas
        async with one.try_hold(NAME), other.try_hold(NAME + "0") as lease:
            assert not isinstance(lease, Held)

    async def test_of_twenty_contenders_one_holds(self, replicas: Replicas) -> None:
        async with AsyncExitStack() as stack:
            claims = await asyncio.gather(
                *(
                    stack.enter_async_context(replicas[number % 2].try_hold(NAME))
                    for number in range(20)
                )
            )
            assert sum(not isinstance(claim, Held) for claim in claims) == 1

    async def test_of_several_who_take_over_one_succeeds(self, replicas: Replicas) -> None:
        one, other = replicas
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(one.try_hold(NAME))
            gone = await stack.enter_async_context(other.try_hold(NAME))
            assert isinstance(gone, Held)
            claims = await asyncio.gather(
                *(
                    stack.enter_async_context(replicas[number % 2].try_hold(NAME, instead_of=gone))
                    for number in range(10)
                )
            )
            assert sum(not isinstance(claim, Held) for claim in claims) == 1

    async def test_a_claim_that_is_over_is_not_taken_over(self, replicas: Replicas) -> None:
        one, other = replicas
        async with one.try_hold(NAME), other.try_hold(NAME) as old:
            assert isinstance(old, Held)
        async with one.try_hold(NAME), other.try_hold(NAME, instead_of=old) as claim:
            assert isinstance(claim, Held)
            assert claim.token != old.token

    async def test_who_was_taken_over_frees_nothing(self, replicas: Replicas) -> None:
        one, other = replicas
        async with AsyncExitStack() as new:
            async with one.try_hold(NAME), other.try_hold(NAME) as old:
                assert isinstance(old, Held)
                taken = await new.enter_async_context(other.try_hold(NAME, instead_of=old))
                assert not isinstance(taken, Held)
            async with one.try_hold(NAME) as claim:
                assert isinstance(claim, Held)

    async def test_progress_may_be_reported_at_any_time(self, replicas: Replicas) -> None:
        async with replicas[0].try_hold(NAME) as lease:
            assert not isinstance(lease, Held)
            lease.progress()
        lease.progress()

    async def test_a_value_is_seen_by_all_and_replaced_for_all(self, replicas: Replicas) -> None:
        one, other = replicas
        assert await other.get("tag") is None
        for value in (bytes(range(256)), b"", b"x" * 100_000):
            await one.put("tag", value, ttl_s=60)
            assert await other.get("tag") == value
            assert await one.get("tag") == value

    async def test_a_value_is_deleted_for_all(self, replicas: Replicas) -> None:
        one, other = replicas
        await one.put("tag", b"value", ttl_s=60)
        await other.delete("tag")
        await other.delete("tag")
        assert await one.get("tag") is None
        assert await other.get("tag") is None

    async def test_a_value_runs_out(self, replicas: Replicas) -> None:
        one, other = replicas
        await one.put("tag", b"value", ttl_s=0.05)

        async def gone() -> bool:
            return await one.get("tag") is None and await other.get("tag") is None

        await until(gone, "the value ran out")

    async def test_a_claim_is_no_value(self, replicas: Replicas) -> None:
        one, _ = replicas
        await one.put(NAME, b"value", ttl_s=60)
        async with one.try_hold(NAME) as lease:
            assert not isinstance(lease, Held)
            assert await one.get(NAME) == b"value"

    async def test_uses_are_answered_one_by_one(self, replicas: Replicas) -> None:
        one, _ = replicas
        unknown = BlobKey("elsewhere", KEY.digest)
        one.touch(KEY)
        answers = await one.last_used([unknown, KEY, unknown])
        assert len(answers) == 3
        assert answers[0] is None
        assert answers[2] is None
        assert await one.last_used([]) == []

    async def test_nothing_raises_after_the_end(self, replicas: Replicas) -> None:
        one, _ = replicas
        await one.aclose()
        await one.aclose()
        async with one.try_hold(NAME) as lease:
            assert not isinstance(lease, Held)
        await one.put("tag", b"value", ttl_s=60)
        assert await one.get("tag") == b"value"
        await one.delete("tag")
        one.touch(KEY)
        assert len(await one.last_used([KEY])) == 1
