"""Asking the admin listener of a running proxy, with the standard library only."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

HEALTH_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 30.0
_NO_URL = "must be an http:// or https:// URL"
_SCHEMES = ("http://", "https://")
# In whatever a pull port answers.
_REGISTRY = "Docker-Distribution-Api-Version"


class Refused(Exception):
    """It did not do what it was asked; the message says why."""


def trouble_at(url: str) -> str | None:
    """None if `url` answers 200, else what is wrong."""
    if not url.startswith(_SCHEMES):
        return _NO_URL
    try:
        with _opener().open(url, timeout=HEALTH_TIMEOUT_S) as answer:
            status: int = answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return f"answered {error.code}"
    except urllib.error.URLError as error:
        return str(error.reason)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    return None if status == 200 else f"answered {status}"


def get(url: str) -> dict[str, Any]:
    """The JSON that `url` answers, soon. Raises `Refused`."""
    return _ask(url, None, ANSWER_TIMEOUT_S)


def post(url: str, document: object = None) -> dict[str, Any]:
    """The JSON that `url` answers; takes as long as the work takes. Raises `Refused`."""
    return _ask(url, _body(document), None)


def lines(url: str, document: object = None) -> Iterator[dict[str, Any]]:
    """The JSON objects that `url` answers, each as soon as it comes.

    The last one has `done`. Raises `Refused`, also for an answer that ends without it.
    """
    with _open(url, _body(document), None) as answer:
        ended = False
        try:
            for line in answer:
                one = dict(json.loads(line))
                if "error" in one:
                    raise Refused(str(one["error"]))
                ended = bool(one.get("done"))
                yield one
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Refused(_no_json(url, error)) from error
        if not ended:
            raise Refused("the answer was cut off")


def _body(document: object) -> bytes:
    return b"" if document is None else json.dumps(document).encode()


def _ask(url: str, data: bytes | None, timeout_s: float | None) -> dict[str, Any]:
    with _open(url, data, timeout_s) as answer:
        try:
            return dict(json.load(answer))
        except (OSError, TypeError, ValueError, http.client.HTTPException) as error:
            raise Refused(_no_json(url, error)) from error


def _open(url: str, data: bytes | None, timeout_s: float | None) -> http.client.HTTPResponse:
    if not url.startswith(_SCHEMES):
        raise Refused(_NO_URL)
    request = urllib.request.Request(url, data=data)  # noqa: S310 - checked above
    if data is not None:
        # With an empty body, too: a form is what would be said else, and forms are refused.
        request.add_header("Content-Type", "application/json")
    try:
        answer: http.client.HTTPResponse = _opener().open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            said = error.read().decode(errors="replace").strip()
        if _REGISTRY in error.headers or said.startswith(("{", "<")):
            raise Refused(_other(url)) from error
        raise Refused(said or f"{_place(url)} answered {error.code}") from error
    except urllib.error.URLError as error:
        raise Refused(_nobody(url, error.reason)) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Refused(_nobody(url, error)) from error
    return answer


def _nobody(url: str, reason: object) -> str:
    """Why there is no answer, and what to do."""
    why = (reason.strerror if isinstance(reason, OSError) else None) or str(reason)
    return (
        f"no proxy answers at {_place(url)} ({why or type(reason).__name__}); "
        'is "entrepot serve" running? --admin names another'
    )


def _no_json(url: str, error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | TypeError):
        return _other(url)
    return f"the answer was cut off: {str(error) or type(error).__name__}"


def _other(url: str) -> str:
    return (
        f"{_place(url)} is not an admin listener; --admin is to name what `admin_listen` does, "
        "not where pulls go"
    )


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _opener() -> urllib.request.OpenerDirector:
    # Never through the proxy that the environment may name: this is our own port.
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))
