"""What can go wrong, in Entrepot's own words.

No HTTP in here: `web/problems.py` holds the one table from these types to
status and OCI error code. Each adapter translates its library's exceptions
into these at its edge, so nobody further in ever sees an aiohttp or OS error
that a caller is expected to handle.
"""

from __future__ import annotations


class EntrepotError(Exception):
    """Base of all expected failures. `str(error)` is fit to show to a client."""


# --- the request itself is wrong; decided before anything is looked up ---------


class InvalidRequest(EntrepotError):
    """The request can't mean anything; never reaches cache or upstream."""


class InvalidName(InvalidRequest):
    """A repository name outside the grammar of the distribution specification."""


class InvalidTag(InvalidRequest):
    """A tag outside `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`."""


class InvalidDigest(InvalidRequest):
    """A malformed digest, or one of an algorithm that can't be verified here."""


class InvalidPage(InvalidRequest):
    """`n` or `last` of a listing is not usable."""


class InvalidHeader(InvalidRequest):
    """A request head that breaks a limit or contradicts itself."""


class UnsupportedOperation(EntrepotError):
    """A method or endpoint that a pull-only registry does not have."""


class UnknownRoute(EntrepotError):
    """A path that is no registry endpoint."""


class UnsatisfiableRange(EntrepotError):
    """Every asked range starts beyond the end; `size` in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"no part of the asked range lies within {size} bytes")
        self.size = size


# --- the answer is no ----------------------------------------------------------


class UnknownUpstream(EntrepotError):
    """The name is not in the closed list of upstreams; it is never dialled."""


class UnknownManifest(EntrepotError):
    """The upstream says that it has no such manifest."""


class UnknownBlob(EntrepotError):
    """The upstream says that this repository has no such blob."""


class AccessDenied(EntrepotError):
    """The upstream refuses, or this content may not be shown to this caller.

    `authenticated`: we presented credentials of our own and were refused all
    the same (an operator should hear of it).
    """

    def __init__(self, message: str, *, authenticated: bool = False) -> None:
        super().__init__(message)
        self.authenticated = authenticated


class NotExposed(AccessDenied):
    """Our credentials could fetch it, but `expose` does not let anyone see it."""


# --- trouble: another try, another source or a stale copy may help --------------


class UpstreamUnavailable(EntrepotError):
    """The upstream can't be reached, fails (5xx) or makes no sense."""


class UpstreamLimited(UpstreamUnavailable):
    """The upstream answers 429. `retry_after_s` is its wish, None if unsaid."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaKept(UpstreamLimited):
    """Too few of the upstream's pulls are left to spend one on this; it was not asked."""


class UpstreamOffline(UpstreamUnavailable):
    """It is not here, and its upstream is not to be dialled (`offline`, a rehearsal).

    `final`: the message says all there is to say; else it is only what is missing, and
    whoever answers a client says how to bring it in.
    """

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class BadUpstreamAnswer(UpstreamUnavailable):
    """The upstream answered, but with something it may not send (HTML, lies)."""


class DigestMismatch(BadUpstreamAnswer):
    """Bytes that are not what their digest names. Never kept, never completed."""


class TransferBroken(UpstreamUnavailable):
    """A body ended early, stalled or was reset; what came so far is good."""


class PeerGone(TransferBroken):
    """Nobody answers any more where another replica was."""


class PeerUnreachable(TransferBroken):
    """Another replica can't be reached now; it may well be alive."""


class StorageUnavailable(EntrepotError):
    """Durable storage can't be read or written now."""


class NoSpace(StorageUnavailable):
    """There is no room to keep this; it can still be passed through."""


class Overloaded(EntrepotError):
    """A limit is reached; nothing is wrong with the request."""


class StartupError(EntrepotError):
    """The process can't start: a port is taken, `data_dir` is locked or unwritable."""


class BadBundle(EntrepotError):
    """A bundle or archive that can't be believed, or that this side can't take."""
