"""Stores that ignore conditions are found out, once, and worked around."""

from __future__ import annotations

import asyncio

import pytest

from proxy.config import S3Settings
from proxy.storage.s3.abilities import AWS, Abilities, Trials
from proxy.storage.s3.client import S3Client
from proxy.storage.s3.records import S3Records
from proxy.storage.s3.trouble import S3Unreachable


@pytest.mark.parametrize("conditions", [True, False])
async def test_a_store_is_tried_once_and_nothing_of_it_is_left(fake, connect, conditions):
    fake.conditions = conditions
    trials = Trials(await connect())
    found = await asyncio.gather(*(trials.abilities() for _ in range(5)))
    assert set(found) == {Abilities(if_absent=conditions, if_match=conditions, byte_order=True)}
    assert len(fake.asked_for("PUT")) == 4
    assert fake.objects == {}


async def test_a_trial_that_broke_off_teaches_nothing_and_is_made_again(fake, connect):
    trials = Trials(await connect())
    fake.fail("503", times=3)
    with pytest.raises(S3Unreachable):
        await trials.abilities()
    assert (await trials.abilities()).if_match


async def test_aws_needs_no_trial():
    client = S3Client(S3Settings(bucket="entrepot", region="eu-central-1"))
    assert await Trials(client).abilities() == AWS


@pytest.mark.parametrize(("conditions", "asked"), [(True, ["PUT"]), (False, ["GET", "PUT"])])
async def test_a_condition_is_sent_where_it_is_honoured_and_compared_here_where_not(
    fake, connect, conditions, asked
):
    fake.conditions = conditions
    records = S3Records(await connect())
    assert await records.put("repos/r/a", b"1", expect=None)
    record = await records.get("repos/r/a")
    fake.asked.clear()
    assert await records.put("repos/r/a", b"2", expect=record)
    assert [one.method for one in fake.asked] == asked
    assert ("if-match" in fake.asked[-1].headers) is conditions


async def test_a_conditional_write_whose_answer_was_lost_counts_as_written(fake, connect):
    records = S3Records(await connect())
    await records.put("repos/r/b", b"1", expect=None)  # the trial is over
    fake.fail("lose", method="PUT", key="repos/r/a")
    assert await records.put("repos/r/a", b"1", expect=None)
    record = await records.get("repos/r/a")
    fake.fail("lose", method="PUT", key="repos/r/a")
    assert await records.put("repos/r/a", b"2", expect=record)
    assert fake.objects["repos/r/a"] == b"2"


async def test_a_write_that_was_tried_twice_and_lost_to_another_did_not_happen(fake, connect):
    records = S3Records(await connect())
    fake.objects["repos/r/a"] = b"theirs"
    await records.put("repos/r/b", b"1", expect=None)
    fake.fail("503", method="PUT", key="repos/r/a")
    assert not await records.put("repos/r/a", b"ours", expect=None)
    assert fake.objects["repos/r/a"] == b"theirs"
