"""A token server for registries, as the distribution specification describes it.

It hands out ES256 tokens that docker-registry verifies by the certificate in
their header. The accounts are fixed: anybody may pull what lies below `open/`,
the one robot may pull and push everything. A wrong password is a 401, not an
anonymous token, as at Docker Hub.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

ISSUER = "test-issuer"
SERVICE = "test-registry"
USER = "robot"
PASSWORD = "correct horse"
OPEN_PREFIX = "open/"
TOKEN_S = 300


class TokenServer:
    """Serves `GET /token` on an ephemeral loopback port while the context is open.

    `auth` is the section to put into docker-registry's configuration.
    `granted` lists (account, scopes asked, access given) of every token.
    """

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        certificate = _self_signed(self._key)
        self._chain = [_plain64(certificate.public_bytes(serialization.Encoding.DER))]
        bundle = folder / "token-root.pem"
        bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.granted: list[tuple[str, tuple[str, ...], list[dict[str, Any]]]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        port = self._server.server_address[1]
        self.auth: dict[str, Any] = {
            "token": {
                "realm": f"http://127.0.0.1:{port}/token",
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(bundle),
            }
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, query: dict[str, list[str]], authorization: str) -> tuple[int, dict[str, Any]]:
        """Status and body for one token request."""
        account = ""
        if authorization:
            kind, _, encoded = authorization.partition(" ")
            if kind != "Basic" or base64.b64decode(encoded).decode() != f"{USER}:{PASSWORD}":
                return 401, {"details": "incorrect username or password"}
            account = USER
        scopes = tuple(scope for value in query.get("scope", []) for scope in value.split())
        access = [one for scope in scopes if (one := _grant(account, scope))]
        self.granted.append((account, scopes, access))
        token = self._sign(account, access)
        now = dt.datetime.now(dt.UTC).isoformat()
        return 200, {"token": token, "expires_in": TOKEN_S, "issued_at": now}

    def _sign(self, account: str, access: list[dict[str, Any]]) -> str:
        now = int(time.time())
        header = {"typ": "JWT", "alg": "ES256", "x5c": self._chain}
        claims = {
            "iss": ISSUER,
            "aud": SERVICE,
            "sub": account,
            "iat": now,
            "nbf": now - 10,
            "exp": now + TOKEN_S,
            "jti": secrets.token_hex(8),
            "access": access,
        }
        text = ".".join(_url64(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_url64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _grant(account: str, scope: str) -> dict[str, Any] | None:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    asked = actions.split(",")
    allowed = {"pull", "push"} if account else {"pull"} if name.startswith(OPEN_PREFIX) else set()
    given = [action for action in asked if action in allowed]
    return {"type": kind, "name": name, "actions": given} if given else None


def _handler_of(tokens: TokenServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if url.path != "/token":
                status, body = 404, {"details": "no such page"}
            else:
                status, body = tokens.answer(
                    parse_qs(url.query), self.headers.get("Authorization", "")
                )
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            """Tokens don't belong on the test run's output."""

    return Handler


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def _plain64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
