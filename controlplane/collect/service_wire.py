"""Connections to one address under one deadline, and a bounded HTTP GET over them.

It refuses to talk to any address but the one it was made for, to follow a redirect, to use a proxy, to wait longer
than its deadline however slowly the other side drips, and to read more than a bounded number of bytes.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from controlplane.domain.model import Outcome

READ_BYTES = 64 * 1024
"""How much of one answer is read; what comes after it is not waited for."""

AGENT = "emrctl-readiness"


class ProbeError(Exception):
    """A question got no value: ``outcome`` is the word for it, ``detail`` one sentence without a secret."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome, self.detail = outcome, detail


@dataclass(frozen=True)
class Url:
    """Where a web service stands as its users know it: only the port is used to connect, the host is only named."""

    secure: bool
    host: str
    port: int
    base: str  # path without a closing slash

    @property
    def named(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def read_url(text: str) -> Url:
    """The parts of an http or https address. Raises ``ValueError`` for anything else."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http or https address")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("an account, a query or a fragment in the address")
    secure = parts.scheme == "https"
    return Url(secure, parts.hostname, parts.port or (443 if secure else 80), parts.path.rstrip("/"))


class Wire:
    """Everything that is sent to one asset in one look goes through here."""

    def __init__(self, address: str, deadline_seconds: float, step_seconds: float = 5.0) -> None:
        """``step_seconds`` bounds one exchange. Raises ``ProbeError`` for a name without an address."""
        self._ends = time.monotonic() + deadline_seconds
        self._step = step_seconds
        self._spoilt: dict[int, ProbeError] = {}
        self.address = _resolve(address)

    def step_ends(self) -> float:
        """When the next exchange must be over, on the monotonic clock. Raises ``ProbeError`` after the deadline."""
        now = time.monotonic()
        if now >= self._ends:
            raise ProbeError(Outcome.TIMEOUT, "the look's deadline ended before this question")
        return min(self._ends, now + self._step)

    def open(self, port: int, remember: bool = True) -> Conn:
        """A connection to ``port`` of the asset. A port that failed once in this look is not tried again.

        ``remember``: silence on this connection counts for the port; False where silence is a possible answer.
        """
        if port in self._spoilt:
            raise self._spoilt[port]
        ends = self.step_ends()
        try:
            sock = socket.create_connection((self.address, port), timeout=max(ends - time.monotonic(), 0.01))
        except OSError as error:
            failure = _connect_failure(error, port)
            self._spoilt[port] = failure
            raise failure from None
        return Conn(sock, ends, port, self if remember else None)

    def spoil(self, port: int, failure: ProbeError) -> None:
        """Remember that a port accepts connections and says nothing: waiting for it once is enough."""
        self._spoilt.setdefault(port, failure)


def _resolve(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ProbeError(Outcome.UNREACHABLE, f"the name {address[:60]} has no address (DNS)") from None
    return str(found[0][4][0])


def _connect_failure(error: OSError, port: int) -> ProbeError:
    if isinstance(error, ConnectionRefusedError):
        return ProbeError(Outcome.REFUSED, f"port {port} refuses the connection: nothing listens there")
    if isinstance(error, TimeoutError):
        return ProbeError(Outcome.TIMEOUT, f"port {port} did not answer in time")
    return ProbeError(Outcome.UNREACHABLE, f"port {port} cannot be reached: {error.strerror or type(error).__name__}")


class Conn:
    """One connection; every wait ends with the exchange it belongs to."""

    def __init__(self, sock: socket.socket, ends: float, port: int, wire: Wire | None) -> None:
        self._sock, self._ends, self._port, self._wire = sock, ends, port, wire

    def __enter__(self) -> Conn:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._sock.close()

    def _arm(self) -> None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)

    def start_tls(self, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
        """Hands this connection over to TLS. Raises ``ssl.SSLError``, ``OSError``."""
        self._arm()
        secured = context.wrap_socket(self._sock, server_hostname=host)
        self._sock = secured
        return secured

    def send(self, data: bytes) -> None:
        """Sends all of ``data``. Raises ``ProbeError``."""
        try:
            self._arm()
            self._sock.sendall(data)
        except OSError as error:
            raise self._failure(error) from None

    def read(self, whole: Callable[[bytes], bool], limit: int = READ_BYTES) -> bytes:
        """Bytes until ``whole`` says so, the other side closes, or ``limit`` came. Raises ``ProbeError``."""
        got = b""
        while len(got) < limit and not whole(got):
            try:
                self._arm()
                piece = self._sock.recv(min(16384, limit - len(got)))
            except OSError as error:
                raise self._failure(error, len(got)) from None
            if not piece:
                break
            got += piece
        return got

    def spoil(self, failure: ProbeError) -> None:
        """Remember for the rest of the look that this port says nothing."""
        if self._wire is not None:
            self._wire.spoil(self._port, failure)

    def _failure(self, error: OSError, came: int = 0) -> ProbeError:
        if isinstance(error, TimeoutError):
            if came:
                return ProbeError(Outcome.TIMEOUT, f"port {self._port} did not finish its answer in time")
            silent = ProbeError(Outcome.TIMEOUT, f"port {self._port} accepts the connection and says nothing")
            self.spoil(silent)
            return silent
        if came:
            return ProbeError(Outcome.GARBLED, f"port {self._port} broke the connection in its answer")
        return ProbeError(Outcome.REFUSED, f"port {self._port} drops the connection")


# ------------------------------------------------------------------------------------------------ HTTP


@dataclass(frozen=True)
class HttpReply:
    """An answer to GET. ``body`` is at most ``READ_BYTES`` and is never kept."""

    status: int
    headers: tuple[tuple[str, str], ...]  # names in lower case
    body: bytes
    took_ms: int  # connecting, TLS and the whole answer

    def header(self, name: str) -> str:
        """The first value of a header, or an empty text."""
        return next((value for key, value in self.headers if key == name), "")


def lenient_context() -> ssl.SSLContext:
    """TLS 1.2 or newer without judging the certificate: the certificate is a question of its own, asked apart.

    Nothing secret is ever sent over a connection of this kind.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def http_get(wire: Wire, url: Url, path: str, accept: str = "*/*", limit: int = READ_BYTES) -> HttpReply:
    """GET ``path`` (under no base) from the asset; redirects are reported, not followed. Raises ``ProbeError``."""
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {url.named}\r\nUser-Agent: {AGENT}\r\nAccept: {accept}\r\n"
        "Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
    )
    began = time.monotonic()
    with wire.open(url.port) as conn:
        if url.secure:
            secure(conn, lenient_context(), url)
        conn.send(request.encode("ascii", "replace"))
        raw = conn.read(_is_whole, limit)
    return _parse(raw, round((time.monotonic() - began) * 1000))


def secure(conn: Conn, context: ssl.SSLContext, url: Url) -> ssl.SSLSocket:
    """TLS on an open connection, failures as ``ProbeError``."""
    try:
        return conn.start_tls(context, url.host)
    except TimeoutError:
        failure = ProbeError(Outcome.TIMEOUT, f"port {url.port} does not finish the TLS handshake")
        conn.spoil(failure)
        raise failure from None
    except ssl.SSLError as error:
        words = (error.reason or str(error).partition("]")[2].partition("(")[0]).strip().lower().replace("_", " ")
        if re.search("alert|unsupported|no protocols|disallowed", words):
            raise ProbeError(Outcome.REFUSED, f"port {url.port} refuses our TLS: {words}") from None
        raise ProbeError(Outcome.GARBLED, f"port {url.port} does not speak TLS: {words}") from None
    except OSError:
        raise ProbeError(Outcome.REFUSED, f"port {url.port} drops the connection in the TLS handshake") from None


def _is_whole(raw: bytes) -> bool:
    head, found, body = raw.partition(b"\r\n\r\n")
    if not found:
        return False
    if re.match(rb"HTTP/1\.[01] (?:204|304)\b", head):
        return True  # no body by definition
    lower = head.lower()
    if b"\r\ntransfer-encoding: chunked" in lower:
        return body.endswith(b"0\r\n\r\n")
    _, found, rest = lower.partition(b"\r\ncontent-length:")
    length = rest.split(b"\r\n", 1)[0].strip()
    return bool(found) and length.isdigit() and len(length) < 10 and len(body) >= int(length)


class _Heard:
    """Bytes that were read already, in the form that the standard library's HTTP parser takes."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, *_: Any, **__: Any) -> io.BytesIO:
        return io.BytesIO(self._raw)


def _parse(raw: bytes, took_ms: int) -> HttpReply:
    if not raw:
        raise ProbeError(Outcome.GARBLED, "the service closed the connection without an answer")
    response = http.client.HTTPResponse(_Heard(raw), method="GET")  # type: ignore[arg-type]
    try:
        response.begin()
        headers = tuple((name.lower(), value) for name, value in response.getheaders())
        body = _body(response)
    except (http.client.HTTPException, ValueError, OSError) as error:
        raise ProbeError(Outcome.GARBLED, f"the answer is not HTTP: {type(error).__name__}") from None
    return HttpReply(response.status, headers, body, took_ms)


def _body(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read()
    except http.client.IncompleteRead as cut:
        return bytes(cut.partial)
