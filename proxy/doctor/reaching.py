"""Asking a server from a node, with the standard library, as any client would."""

from __future__ import annotations

import http.client
import re
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 15.0
_BYTES_MAX = 8 * 1024 * 1024
_REQUESTS = re.compile(r"^entrepot_requests_total\{([^}]*)\} ([0-9.e+]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer, or why there was none (`status` 0). `untrusted`: because of its certificate."""

    status: int
    body: str
    digest: str = ""
    untrusted: bool = False


class Reach:
    """`ca`: a file of authorities to trust besides the system's."""

    def __init__(self, ca: Path | None, *, agent: str) -> None:
        context = ssl.create_default_context()
        if ca is not None:
            context.load_verify_locations(ca)
        # Not through the proxy that the environment may name: clients' mirrors aren't.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        self._agent = agent

    def get(self, url: str, *, accept: str = "*/*") -> Heard:
        """Never raises for what a server or the network does."""
        headers = {"User-Agent": self._agent, "Accept": accept}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http(s), see `Server`
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                body = answer.read(_BYTES_MAX).decode(errors="replace")
                return Heard(answer.status, body, answer.headers.get("Docker-Content-Digest", ""))
        except urllib.error.HTTPError as error:
            with error:
                return Heard(error.code, error.read(_BYTES_MAX).decode(errors="replace"))
        except urllib.error.URLError as error:
            untrusted = isinstance(error.reason, ssl.SSLCertVerificationError)
            return Heard(0, str(error.reason), untrusted=untrusted)
        except (OSError, ValueError, http.client.HTTPException) as error:
            return Heard(0, str(error) or type(error).__name__)

    def manifests_asked(self, admin: str) -> float | None:
        """How many manifests the server was asked for so far; None if it won't say."""
        heard = self.get(f"{admin.rstrip('/')}/metrics")
        if heard.status != 200:
            return None
        return sum(
            float(value)
            for labels, value in _REQUESTS.findall(heard.body)
            if 'kind="manifest"' in labels
        )
