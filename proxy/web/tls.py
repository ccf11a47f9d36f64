"""TLS on the pull listener: certificates that change while we run."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import structlog

from proxy.errors import StartupError

_LOOK_S = 5.0

log = structlog.get_logger("entrepot")


class Certificates:
    """An SSL context that follows its files.

    New handshakes use the new files; a pair that does not load (half written, key
    and certificate of different ages) is left alone until it does. The listener
    keeps `context` for ever, and each handshake is handed over to a context made
    from the files as they are now: loaded into the old one, an authority that was
    taken out of its file would go on being trusted.
    """

    def __init__(self, cert_file: Path, key_file: Path, client_ca_file: Path | None) -> None:
        self._cert_file = cert_file
        self._key_file = key_file
        self._client_ca_file = client_ca_file
        self._seen: tuple[object, ...] = ()
        self.context = self._new_context()
        self.context.sni_callback = self._hand_over
        self._current = self.context

    def load(self) -> None:
        """Read the files for the first time. Blocks. Raises `StartupError`."""
        try:
            self._seen = self._stamps()
            self._load_into(self.context)
        except (OSError, ssl.SSLError) as error:
            raise StartupError(f"the TLS certificate or key can't be used: {error}") from error

    async def follow(self) -> None:
        """Look for changes until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> bool:
        """Take over changed files; whether there were any. Blocks."""
        try:
            stamps = self._stamps()
            if stamps == self._seen:
                return False
            # A failed load may leave half a pair, in a context that nobody uses.
            fresh = self._new_context()
            self._load_into(fresh)
        except (OSError, ssl.SSLError) as error:
            log.warning("the changed TLS files can't be used yet", reason=str(error))
            return False
        self._seen, self._current = stamps, fresh
        log.info("TLS certificate re-read", file=str(self._cert_file))
        return True

    def _new_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # The client knows what its hardware is good at. Those in Go (containerd, docker,
        # podman) prefer AES-128, for which a byte costs a third less than for AES-256.
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        return context

    def _hand_over(
        self, handshake: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        """Called in every handshake, whether the client named a server or not."""
        handshake.context = self._current

    def _load_into(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self._cert_file, self._key_file)
        if self._client_ca_file is not None:
            context.load_verify_locations(self._client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
            # A resumed session would be one whose certificate was not looked at again.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0

    def _stamps(self) -> tuple[object, ...]:
        files = [self._cert_file, self._key_file]
        if self._client_ca_file is not None:
            files.append(self._client_ca_file)
        stats = [file.stat() for file in files]
        return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)
