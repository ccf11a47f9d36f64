"""Credential helpers: real programs, in a folder of the test's own."""

from __future__ import annotations

import asyncio
import os
import select
from pathlib import Path

import pytest

from proxy.errors import UpstreamUnavailable
from proxy.upstream.credential_helpers import HelperCall, HelperSource
from proxy.upstream.credentials import Credentials


@pytest.fixture
def helper(tmp_path: Path):
    """Installs `docker-credential-<name>`, a shell script that logs its runs."""

    def install(body: str, name: str = "x") -> Path:
        program = tmp_path / f"docker-credential-{name}"
        log = tmp_path / f"{name}.log"
        log.touch()
        # The server has no newline after it, so `read` says that it failed.
        program.write_text(f'#!/bin/sh\nread -r server\necho "$1 $server" >> {log}\n{body}\n')
        program.chmod(0o755)
        return log

    return install


def source(tmp_path: Path, **options) -> HelperSource:
    return HelperSource(HelperCall("x", "reg.lan"), search_path=str(tmp_path), **options)


GIVES = """echo '{"ServerURL":"s","Username":"me","Secret":"hunter2"}'"""


async def test_a_helper_is_asked_on_its_standard_input_as_docker_does(helper, tmp_path):
    log = helper(GIVES)
    assert await source(tmp_path).get() == Credentials("me", "hunter2")
    assert log.read_text() == "get reg.lan\n"


async def test_the_user_token_marks_an_identity_token(helper, tmp_path):
    helper("""echo '{"Username":"<token>","Secret":"tok"}'""")
    assert await source(tmp_path).get() == Credentials("<token>", "", "tok")


@pytest.mark.parametrize(
    "body",
    [
        "echo 'credentials not found in native keychain'; exit 1",
        """echo '{"Username":"","Secret":""}'""",
    ],
)
async def test_a_helper_that_knows_nothing_means_anonymous(helper, tmp_path, body):
    helper(body)
    assert await source(tmp_path).get() is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo hunter2; exit 3", r"docker-credential-x failed \(status 3\)"),
        ("echo hunter2", "docker-credential-x gave an unusable answer"),
        ("""echo '{"Secret":"hunter2"}'""", "docker-credential-x gave an unusable answer"),
        ("""echo '["hunter2"]'""", "docker-credential-x gave an unusable answer"),
    ],
)
async def test_a_failing_helper_is_told_without_what_it_printed(helper, tmp_path, body, said):
    helper(body)
    with pytest.raises(UpstreamUnavailable, match=said) as caught:
        await source(tmp_path).get()
    assert "hunter2" not in str(caught.value)


async def test_a_helper_that_is_not_there_or_can_not_run_is_told(tmp_path):
    with pytest.raises(UpstreamUnavailable, match="docker-credential-x is not installed"):
        await source(tmp_path).get()
    program = tmp_path / "docker-credential-x"
    program.write_text("#!/nonexistent/interpreter\n")
    program.chmod(0o755)
    with pytest.raises(UpstreamUnavailable, match="docker-credential-x can't be run"):
        await source(tmp_path).get()
    with pytest.raises(UpstreamUnavailable, match="impossible credential helper"):
        await HelperSource(HelperCall("../x", "s"), search_path=str(tmp_path)).get()


def ended(pid: int) -> bool:
    """Whether a process, not necessarily our child, ends within 5 s."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 5)[0])
    finally:
        os.close(handle)


async def test_a_hanging_helper_is_killed_with_what_it_started(helper, tmp_path):
    helper(f"sleep 60 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/self; wait")
    with pytest.raises(UpstreamUnavailable, match="did not answer in 1 s"):
        await source(tmp_path, timeout_s=1).get()
    helper_pid, child_pid = (
        int((tmp_path / name).read_text().strip()) for name in ("self", "child")
    )
    with pytest.raises(ProcessLookupError):
        os.kill(helper_pid, 0)  # killed, and reaped by us
    assert ended(child_pid)


async def test_an_answer_is_kept_for_five_minutes_and_a_refresh_asks_again(helper, tmp_path):
    log = helper(GIVES)
    now = [0.0]
    asked = source(tmp_path, clock=lambda: now[0])
    for moment, runs in ((0, 1), (299, 1), (300, 2), (301, 2)):
        now[0] = moment
        assert await asked.get() == Credentials("me", "hunter2")
        assert len(log.read_text().splitlines()) == runs
    await asked.get(refresh=True)
    assert len(log.read_text().splitlines()) == 3


async def test_all_who_ask_at_once_share_one_run_be_they_refreshing_or_not(helper, tmp_path):
    log = helper(GIVES)
    asked = source(tmp_path)
    answers = await asyncio.gather(*(asked.get(refresh=bool(n % 2)) for n in range(10)))
    assert set(answers) == {Credentials("me", "hunter2")}
    assert len(log.read_text().splitlines()) == 1


async def test_all_who_ask_at_once_share_a_failure_and_the_next_one_tries_again(helper, tmp_path):
    log = helper("exit 1")
    asked = source(tmp_path)
    answers = await asyncio.gather(*(asked.get() for _ in range(10)), return_exceptions=True)
    assert all(isinstance(answer, UpstreamUnavailable) for answer in answers)
    assert len(log.read_text().splitlines()) == 1
    helper(GIVES)
    assert await asked.get() == Credentials("me", "hunter2")


async def test_credentials_outlive_a_failing_helper_until_they_are_refused(
    helper, tmp_path, caplog
):
    helper(GIVES)
    now = [0.0]
    asked = source(tmp_path, clock=lambda: now[0])
    await asked.get()
    log = helper("exit 1")
    now[0] = 300
    assert await asked.get() == Credentials("me", "hunter2")
    now[0] = 329
    assert await asked.get() == Credentials("me", "hunter2")
    assert len(log.read_text().splitlines()) == 2  # one good, one failed: not tried each time
    assert "still using the credentials of before" in caplog.text
    assert "hunter2" not in caplog.text
    with pytest.raises(UpstreamUnavailable, match="failed"):
        await asked.get(refresh=True)


async def test_who_asks_next_is_not_hurt_by_a_cancelled_asker(helper, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    helper(f"echo started > {fifo}; sleep 60")
    asked = source(tmp_path)
    first = asyncio.create_task(asked.get())
    assert await asyncio.to_thread(fifo.read_text) == "started\n"
    helper(GIVES)
    second = asyncio.create_task(asked.get())
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == Credentials("me", "hunter2")
