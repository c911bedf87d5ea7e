"""How the server listens: TLS, headers of every answer, and an end that loses no request."""

import signal
import socket
import ssl
import time
from types import FrameType
from typing import Any

import structlog
import uvicorn

from serving.guard import HEADERS, STRICT_TRANSPORT, Application, Guard
from serving.wire import BoundedProtocol
from state.settings import Settings, SettingsError

log = structlog.get_logger(__name__)
GRACEFUL_S = 10


class DrainingServer(uvicorn.Server):
    """Told to stop, it is first not ready for a while, so that nobody sends it requests when it closes.

    Parameters
    ----------
    config
        Of uvicorn.
    guard
        Where readiness is told.
    drain_s
        How long it goes on.
    """

    def __init__(self, config: uvicorn.Config, guard: Guard, drain_s: float) -> None:
        super().__init__(config)
        self._guard, self._drain_s = guard, drain_s
        self._stops: tuple[float, int] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain on SIGTERM; stop at once on a second signal, and on Ctrl-C."""
        goes_on = sig == signal.SIGTERM and self.started and not self._guard.is_draining and self._drain_s > 0
        self._guard.is_draining = True
        if not goes_on:
            super().handle_exit(sig, frame)
            return
        self._stops = time.monotonic() + self._drain_s, sig
        self.config.encoded_headers.append((b"connection", b"close"))
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]

    async def on_tick(self, counter: int) -> bool:
        """Look, ten times a second, whether the time is up."""
        if self._stops is not None and time.monotonic() >= self._stops[0]:
            super().handle_exit(self._stops[1], None)
        return await super().on_tick(counter)


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return what the server speaks TLS with; None for plain HTTP.

    Raises
    ------
    SettingsError
        If the files are incomplete or cannot be used.
    """
    if not (settings.tls_certificate or settings.tls_key or settings.tls_client_ca):
        return None
    if not (settings.tls_certificate and settings.tls_key):
        raise SettingsError(
            "settings HEADWATER_TLS_CERTIFICATE and HEADWATER_TLS_KEY have values "
            f"{settings.tls_certificate!r} and {settings.tls_key!r}; wished: both, or no setting of TLS"
        )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
        if settings.tls_client_ca:
            context.load_verify_locations(settings.tls_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"settings HEADWATER_TLS_* name files that cannot be used: {error}") from None
    return context


def listen(app: Application, settings: Settings, guard: Guard) -> None:
    """Serve an application until told to stop."""
    tls = tls_context(settings)
    given: dict[str, Any] = {}
    if tls is not None:
        given = {
            "ssl_certfile": settings.tls_certificate,
            "ssl_keyfile": settings.tls_key,
            "ssl_context_factory": lambda *_: tls,
        }
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=[*HEADERS, *([STRICT_TRANSPORT] if tls is not None else [])],
        timeout_graceful_shutdown=GRACEFUL_S,
        **given,
    )
    server = DrainingServer(config, guard, settings.drain_s)
    server.run(shared_sockets(settings) if settings.shared_port else None)


def shared_sockets(settings: Settings) -> list[socket.socket]:
    """Return the socket of a port that several processes share, and where wished one that is this one's own.

    They take connections only when uvicorn listens, which is when the process has loaded its state.

    Raises
    ------
    SettingsError
        If the address cannot be used.
    """
    ports = [settings.port, *([settings.metrics_port] if settings.metrics_port else [])]
    try:
        return [_bound(settings.host, port) for port in ports]
    except OSError as error:
        raise SettingsError(
            f"settings HEADWATER_HOST, _PORT and _METRICS_PORT have values {settings.host!r} and {ports}; "
            f"wished: an address that is free ({error})"
        ) from None


def _bound(host: str, port: int) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
