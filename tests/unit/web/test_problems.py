"""Every expected failure has its status and code, and none by accident."""

from __future__ import annotations

import inspect
import json

import pytest

from proxy import errors
from proxy.errors import (
    AccessDenied,
    EntrepotError,
    NotExposed,
    UnsatisfiableRange,
    UpstreamLimited,
    UpstreamOffline,
)
from proxy.web.problems import Problem, problem

# Those that say nothing to a client that their parent does not say.
INHERITED = {
    "UpstreamLimited": "UpstreamUnavailable",
    "QuotaKept": "UpstreamUnavailable",
    "BadUpstreamAnswer": "UpstreamUnavailable",
    "DigestMismatch": "UpstreamUnavailable",
    "TransferBroken": "UpstreamUnavailable",
    "PeerGone": "UpstreamUnavailable",
    "PeerUnreachable": "UpstreamUnavailable",
    "NoSpace": "StorageUnavailable",
}
# Never on a pull's way: the process has not started; bundles are the admin listener's.
NOT_ANSWERED = {"StartupError", "BadBundle"}
EXPECTED = {
    "InvalidRequest": (400, "NAME_INVALID"),
    "InvalidName": (400, "NAME_INVALID"),
    "InvalidTag": (400, "TAG_INVALID"),
    "InvalidDigest": (400, "DIGEST_INVALID"),
    "InvalidPage": (400, "PAGINATION_NUMBER_INVALID"),
    "InvalidHeader": (400, "UNSUPPORTED"),
    "UnsupportedOperation": (405, "UNSUPPORTED"),
    "UnknownRoute": (404, "NAME_UNKNOWN"),
    "UnsatisfiableRange": (416, "UNSUPPORTED"),
    "UnknownUpstream": (404, "NAME_UNKNOWN"),
    "UnknownManifest": (404, "MANIFEST_UNKNOWN"),
    "UnknownBlob": (404, "BLOB_UNKNOWN"),
    "NotExposed": (403, "DENIED"),
    "UpstreamUnavailable": (503, "UNAVAILABLE"),
    "StorageUnavailable": (503, "UNAVAILABLE"),
    "Overloaded": (503, "UNAVAILABLE"),
}
KINDS = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, EntrepotError) and kind is not EntrepotError
}


def made(kind: type[EntrepotError]) -> EntrepotError:
    return UnsatisfiableRange(5) if kind is UnsatisfiableRange else kind("plain words")


def test_every_kind_of_failure_is_decided_on() -> None:
    decided = {*EXPECTED, *INHERITED, *NOT_ANSWERED, "AccessDenied", "UpstreamOffline"}
    assert set(KINDS) - decided == set()


@pytest.mark.parametrize("name", [*EXPECTED, *INHERITED])
@pytest.mark.parametrize("blob", [False, True])
def test_a_failure_has_its_status_and_code(name: str, blob: bool) -> None:
    answer = problem(made(KINDS[name]), blob=blob)
    assert (answer.status, answer.code) == EXPECTED[INHERITED.get(name, name)]


@pytest.mark.parametrize(
    ("authenticated", "blob", "expected"),
    [
        (True, False, (403, "DENIED")),
        (True, True, (403, "DENIED")),
        (False, False, (404, "MANIFEST_UNKNOWN")),
        (False, True, (404, "BLOB_UNKNOWN")),
    ],
)
def test_a_refusal_is_absence_unless_it_was_us_who_were_refused(
    authenticated: bool, blob: bool, expected: tuple[int, str]
) -> None:
    answer = problem(AccessDenied("no", authenticated=authenticated), blob=blob)
    assert (answer.status, answer.code) == expected
    assert problem(NotExposed("no", authenticated=authenticated), blob=blob).status == 403


def test_no_problem_asks_a_client_to_log_in_or_to_wait() -> None:
    for kind in KINDS.values():
        for blob in (False, True):
            answer = problem(made(kind), blob=blob)
            assert answer.status not in {401, 407, 429}
            assert {"WWW-Authenticate", "Retry-After"}.isdisjoint(answer.headers)
    limited = problem(UpstreamLimited("slow down", retry_after_s=60), blob=False)
    assert (limited.status, limited.headers) == (503, {})


def test_headers_that_belong_to_a_status_come_with_it() -> None:
    assert problem(UnsatisfiableRange(5), blob=True).headers == {"Content-Range": "bytes */5"}
    not_allowed = problem(errors.UnsupportedOperation("no"), blob=False)
    assert not_allowed.headers == {"Allow": "GET, HEAD"}


def test_the_envelope_is_that_of_the_specification_whatever_the_words() -> None:
    words = 'a "quoted" word, a\nline and ünïcode'
    envelope = json.loads(Problem(500, "UNKNOWN", words, {}).body())
    assert envelope == {"errors": [{"code": "UNKNOWN", "message": words, "detail": None}]}


@pytest.mark.parametrize(("blob", "code"), [(False, "MANIFEST_UNKNOWN"), (True, "BLOB_UNKNOWN")])
def test_what_is_not_here_of_an_upstream_that_is_offline_does_not_exist(
    blob: bool, code: str
) -> None:
    answer = problem(UpstreamOffline("it is not here"), blob=blob)
    assert (answer.status, answer.code, answer.headers) == (404, code, {})
