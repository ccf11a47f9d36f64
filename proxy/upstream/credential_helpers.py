"""Runs `docker-credential-<name> get`, the way Docker keeps secrets out of files.

A helper is somebody else's program: it may hang, fail or talk to a cloud. So it
gets a deadline, is killed with all it started, and its answer is kept for five
minutes. All who ask at once share one run *and its outcome*, or a hanging
helper would cost each of them the deadline in turn. What it prints is never
put into a message: it may hold the secret.

Protocol: docker/docker-credential-helpers `credentials/credentials.go` (server
on standard input; `{"ServerURL","Username","Secret"}` on standard output;
failures as text on standard output with a status other than 0).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from proxy.errors import UpstreamUnavailable
from proxy.upstream.credentials import Credentials

_log = logging.getLogger(__name__)

HELPER_TIMEOUT_S = 10.0
HELPER_FRESH_S = 300.0
HELPER_RETRY_S = 30.0
"""After a failure, how long the last good answer is used before another try."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_NOT_FOUND = b"credentials not found"
_TOKEN_USER = "<token>"  # noqa: S105 - the protocol's mark for "the secret is an identity token"


@dataclass(frozen=True, slots=True)
class HelperCall:
    """`docker-credential-<helper> get` with `server` on its standard input."""

    helper: str
    server: str


class HelperSource:
    """The credentials that one helper has for one server.

    `search_path` is where the program is looked for (None: `PATH`).
    """

    def __init__(
        self,
        call: HelperCall,
        *,
        search_path: str | None = None,
        timeout_s: float = HELPER_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._call = call
        self._search_path = search_path
        self._timeout_s = timeout_s
        self._clock = clock
        self._turn = asyncio.Lock()
        self._runs = 0
        self._outcome: Credentials | UpstreamUnavailable | None = None
        self._good: Credentials | None = None
        self._fresh_until = float("-inf")

    async def get(self, *, refresh: bool = False) -> Credentials | None:
        """From the cache or a run of the helper. None: it knows no such server.

        Raises `UpstreamUnavailable` if it is missing, fails or takes too long.
        """
        runs_before = self._runs
        async with self._turn:
            # A run that ended while we waited answers us too, be it a refresh.
            if self._runs == runs_before and (refresh or self._clock() >= self._fresh_until):
                await self._run(refresh=refresh)
        if isinstance(self._outcome, UpstreamUnavailable):
            raise UpstreamUnavailable(str(self._outcome)) from self._outcome
        return self._outcome

    async def _run(self, *, refresh: bool) -> None:
        """Leaves `_outcome`; nothing is changed if we are cancelled meanwhile."""
        try:
            self._outcome = self._good = await self._ask()
            self._fresh_until = self._clock() + HELPER_FRESH_S
        except UpstreamUnavailable as error:
            # Five minutes are our guess; until the upstream refuses them, the
            # credentials of before are worth more than an error.
            if refresh or self._good is None:
                self._outcome, self._fresh_until = error, float("-inf")
            else:
                _log.warning("still using the credentials of before: %s", error)
                self._outcome, self._fresh_until = self._good, self._clock() + HELPER_RETRY_S
        self._runs += 1

    async def _ask(self) -> Credentials | None:
        program = f"docker-credential-{self._call.helper}"
        if _NAME.fullmatch(self._call.helper) is None:
            raise UpstreamUnavailable("the Docker config names an impossible credential helper")
        path = await asyncio.to_thread(shutil.which, program, path=self._search_path)
        if path is None:
            raise UpstreamUnavailable(f"the credential helper {program} is not installed")
        try:
            status, output = await self._talk(path)
        except TimeoutError as error:
            raise UpstreamUnavailable(
                f"the credential helper {program} did not answer in {self._timeout_s:g} s"
            ) from error
        except OSError as error:
            raise UpstreamUnavailable(
                f"the credential helper {program} can't be run: {error.strerror}"
            ) from error
        if status != 0:
            if _NOT_FOUND in output.lower():
                return None
            raise UpstreamUnavailable(f"the credential helper {program} failed (status {status})")
        return _parse(output, program)

    async def _talk(self, path: str) -> tuple[int, bytes]:
        # A session of its own, so that what the helper starts dies with it.
        process = await asyncio.create_subprocess_exec(
            path,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                output, _ = await process.communicate(self._call.server.encode())
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return await process.wait(), output


def _parse(output: bytes, program: str) -> Credentials | None:
    try:
        reply = json.loads(output)
        username, secret = reply["Username"], reply["Secret"]
    except (ValueError, KeyError, TypeError):
        username = secret = None
    if not isinstance(username, str) or not isinstance(secret, str):
        # No cause attached: a JSON error carries the text it choked on.
        raise UpstreamUnavailable(f"the credential helper {program} gave an unusable answer")
    if not secret:
        return None
    if username == _TOKEN_USER:
        return Credentials(username, "", secret)
    return Credentials(username, secret)
