"""A Linux host over SSH: one connection, one channel, one batched script. It never raises.

It refuses a host whose key does not stand in known_hosts, an agent, a password, and a key file that others can read.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import hmac
import logging
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import paramiko

from controlplane.collect.facts import SHELL_FACTS
from controlplane.collect.facts.shell import build_script, is_whole, split_output
from controlplane.domain.model import Asset, Fact, Look, Outcome, Reply

_CIPHERS = ("aes128-gcm@openssh.com", "aes128-ctr", "aes256-gcm@openssh.com", "aes256-ctr")
_MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-512")
_QUIET = "controlplane.collect.ssh.quiet"
_GATE_REFUSED = 126
_GLANCE_SECONDS = 0.25
_PAUSE_SECONDS = 0.05

# The library tells its own story, with tracebacks, for things that are ordinary here. A look says it in one sentence.
logging.getLogger(_QUIET).disabled = True


class _Packets(paramiko.packet.Packetizer):
    """The library's packets without its handshake timer: the look's own deadline covers that and ends with the look."""

    def start_handshake(self, timeout: float) -> None:
        """No second timer."""

    def complete_handshake(self) -> None:
        """Nothing to stop; the library calls this for every packet."""

    def handshake_timed_out(self) -> bool:
        """Never on its own."""
        return False


class _ReadAhead(socket.socket):
    """A socket that takes what the kernel has at once; the library asks for each packet in two small pieces."""

    _ahead = b""
    pause_seconds = 0.0

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """At most ``size`` bytes; a look at them (``MSG_PEEK``) reads nothing ahead."""
        if flags:
            return super().recv(size, flags)
        if not self._ahead:
            if self.pause_seconds:
                time.sleep(self.pause_seconds)
            self._ahead = super().recv(65536)
        found, self._ahead = self._ahead[:size], self._ahead[size:]
        return found


class _LookFailed(Exception):  # noqa: N818  # it ends a look, it is no error of ours
    """How a look failed, on its way to becoming the look's outcome."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome, self.detail = outcome, detail


@dataclass
class _Visit:
    """One connection under a deadline that really interrupts: at its end the socket is shut, whatever waits on it."""

    deadline_at: float  # time.monotonic()
    sock: _ReadAhead | None = None
    transport: paramiko.Transport | None = None
    late: bool = False
    _timer: threading.Timer | None = field(default=None, repr=False)

    def left(self) -> float:
        """Seconds until the deadline; never quite zero, which would mean something else to a socket."""
        return max(self.deadline_at - time.monotonic(), 0.001)

    def watch(self) -> None:
        self._timer = threading.Timer(self.left(), self._interrupt)
        self._timer.daemon = True
        self._timer.start()

    def _interrupt(self) -> None:
        self.late = True
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends timer, connection and thread, and waits for both threads to be gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
        if self.transport is not None:
            self.transport.close()
            if self.transport.ident is not None:
                self.transport.join(2.0)
        if self.sock is not None:
            self.sock.close()


class SshTransport:
    """Asks a Linux host everything in one batched script over one connection.

    ``known_hosts`` is the file of host keys, read anew when it changes. ``key_file`` and ``user`` stand in where the
    asset names none. ``output_bytes`` bounds what one host may send. Safe to use from several threads.
    """

    name = "ssh"
    family = "shell"
    collector = "ssh/1"

    def __init__(
        self,
        *,
        known_hosts: Path,
        connect_timeout_seconds: float = 5.0,
        user: str = "emrread",
        key_file: Path | None = None,
        script_facts: Sequence[Fact] = SHELL_FACTS,
        output_bytes: int = 8 * 1024 * 1024,
    ) -> None:
        self._known_hosts = known_hosts
        self._connect_timeout = connect_timeout_seconds
        self._user = user
        self._key_file = key_file
        self._facts = tuple(script_facts)
        self._script = build_script(self._facts).encode()
        self._output_bytes = output_bytes
        self._lock = threading.Lock()
        self._keys: dict[Path, tuple[tuple[int, int], paramiko.PKey]] = {}
        self._hosts: tuple[tuple[int, int], tuple[_KnownHost, ...]] | None = None

    def look(self, asset: Asset, facts: Sequence[Fact], deadline_seconds: float, clock: Callable[[], datetime]) -> Look:
        """One look at the host; replies to ``facts`` in their order. A look cut in the middle keeps what came."""
        at, started = clock(), time.monotonic()
        visit = _Visit(started + deadline_seconds)
        replies: tuple[Reply, ...] = ()
        try:
            raw, detail = self._visit(asset, visit)
            found = {reply.fact: reply for reply in split_output(raw, self._facts)}
            replies = tuple(found.get(fact.name) or _not_in_script(fact) for fact in facts)
            outcome = Outcome.ANSWERED
        except _LookFailed as failure:
            outcome, detail = failure.outcome, failure.detail
        except Exception as error:  # whatever a device can make the library do is an outcome, never a stop of the round
            outcome, detail = self._outcome_of(error)
        finally:
            visit.close()
        if visit.late and outcome is not Outcome.ANSWERED:
            outcome, detail = Outcome.TIMEOUT, f"no complete answer within {deadline_seconds:g} s"
        lasted = round((time.monotonic() - started) * 1000)
        return Look(asset.name, self.name, outcome, at, lasted, self.collector, detail, replies)

    def _visit(self, asset: Asset, visit: _Visit) -> tuple[bytes, str]:
        """The script's output, and a sentence when it is not whole."""
        if not asset.address:
            raise _LookFailed(Outcome.NO_ADDRESS, "the inventory gives no address yet; nothing was sent")
        address, port = asset.address, _port(asset)
        user = str(asset.access.get("ansible_user") or self._user)
        key = self._key(asset.access.get("ansible_ssh_private_key_file") or self._key_file)
        known = self._known(address, port)
        visit.sock = _connect(address, port, min(self._connect_timeout, visit.left()))
        visit.watch()
        _await_greeting(visit.sock, min(self._connect_timeout, visit.left()), address, port)
        visit.transport = _handshake(visit, known)
        _verify(visit.transport.get_remote_server_key(), known, address, port)
        _log_in(visit, user, key, address)
        return self._ask(visit)

    def _ask(self, visit: _Visit) -> tuple[bytes, str]:
        """Sends the script, reads until the end, the bound or the deadline; refused by a gate is refused."""
        transport = visit.transport
        assert transport is not None  # noqa: S101  # set just before, for the type checker
        try:
            channel = transport.open_session(timeout=visit.left())
            channel.settimeout(visit.left())
            channel.exec_command("sh -s")
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise _LookFailed(
                Outcome.REFUSED, f"the host lets the account in but opens no command: {_words(error)}"
            ) from None
        with contextlib.suppress(OSError, paramiko.SSHException):  # a gate may close before it has read everything
            channel.sendall(self._script)
            channel.shutdown_write()
        assert visit.sock is not None  # noqa: S101  # set long ago, for the type checker
        visit.sock.pause_seconds = _PAUSE_SECONDS
        raw, detail = self._read(visit, channel)
        if not raw:
            raise self._silence(visit, channel, detail)
        return raw, detail

    def _silence(self, visit: _Visit, channel: paramiko.Channel, detail: str) -> _LookFailed:
        """Why a host that let the account in said nothing at all."""
        if visit.late:
            return _LookFailed(Outcome.TIMEOUT, detail)
        channel.status_event.wait(min(visit.left(), 2.0))
        code = channel.exit_status
        said = channel.recv_stderr(400) if code != -1 else b""
        words = "".join(c if c.isprintable() else " " for c in said.decode("utf-8", "replace")).strip()
        if code == _GATE_REFUSED:
            return _LookFailed(Outcome.REFUSED, f"the host's forced command refuses the script: {words}")
        if code == -1:
            return _LookFailed(Outcome.GARBLED, "the connection was cut before any answer came")
        return _LookFailed(Outcome.GARBLED, f"the remote shell ended with exit code {code} and no output: {words}")

    def _read(self, visit: _Visit, channel: paramiko.Channel) -> tuple[bytes, str]:
        """What came, and a sentence when it is not the whole answer.

        It sleeps until the script has ended and looks in between only now and then: a wake-up for each of a hundred
        small packets would cost more than all the rest of the look.
        """
        chunks: list[bytes] = []
        left = self._output_bytes
        while left > 0 and not visit.late:
            if not (channel.status_event.wait(min(visit.left(), _GLANCE_SECONDS)) or channel.recv_ready()):
                continue
            channel.settimeout(visit.left())  # the end was announced, or there is something: this does not wait long
            try:
                chunk = channel.recv(min(left, 1024 * 1024))
            except OSError:  # TimeoutError among them
                break
            if not chunk:
                break
            chunks.append(chunk)
            left -= len(chunk)
        if left <= 0:
            return b"".join(chunks), f"the host sent more than {self._output_bytes} bytes; the rest was not read"
        raw = b"".join(chunks)
        if is_whole(raw, self._facts):
            return raw, ""
        return raw, f"the {'deadline' if visit.late else 'connection'} cut the answer in the middle"

    def _outcome_of(self, error: Exception) -> tuple[Outcome, str]:
        """The library's own errors in the words of the house."""
        if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
            return Outcome.REFUSED, f"no algorithm in common with the host: {_words(error)}"
        if isinstance(error, TimeoutError):
            return Outcome.TIMEOUT, "the host stopped answering"
        if isinstance(error, EOFError | ConnectionError):
            return Outcome.GARBLED, "the host closed the connection in the middle of the greeting"
        return Outcome.GARBLED, f"the conversation broke: {_words(error)}"

    def _key(self, name: Any) -> paramiko.PKey:
        """The private key of the file, read once per change. Refused unless only its owner may read it."""
        if not name:
            raise _LookFailed(Outcome.AUTH_FAILED, "no key file is named for this host")
        path = Path(str(name))
        try:
            status = path.stat()
        except OSError as error:
            raise _LookFailed(Outcome.AUTH_FAILED, f"the key file {path} cannot be read: {error.strerror}") from None
        if stat.S_IMODE(status.st_mode) & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise _LookFailed(Outcome.AUTH_FAILED, f"the key file {path} has mode {mode:04o}; it must be 0600")
        version = (status.st_mtime_ns, status.st_size)
        with self._lock:
            kept = self._keys.get(path)
        if kept and kept[0] == version:
            return kept[1]
        key = _load_key(path)
        with self._lock:
            self._keys[path] = (version, key)
        return key

    def _known(self, address: str, port: int) -> dict[str, set[bytes]]:
        """Key type -> accepted key blobs of the host; a revoked key stands under the type ``revoked``."""
        try:
            status = self._known_hosts.stat()
            version = (status.st_mtime_ns, status.st_size)
            with self._lock:
                kept = self._hosts
            if kept is None or kept[0] != version:
                kept = (version, tuple(_known_hosts(self._known_hosts.read_text("utf-8", "replace"))))
                with self._lock:
                    self._hosts = kept
        except FileNotFoundError:
            return {}  # then no host is known, and the look says so with the key that the host showed
        except OSError as error:
            words = f"the list of host keys {self._known_hosts} cannot be read: {error.strerror}"
            raise _LookFailed(Outcome.HOST_KEY_UNKNOWN, words) from None
        found: dict[str, set[bytes]] = {}
        for entry in kept[1]:
            if entry.names(address if port == 22 else f"[{address}]:{port}"):
                found.setdefault("revoked" if entry.revoked else entry.kind, set()).add(entry.blob)
        return found


def _not_in_script(fact: Fact) -> Reply:
    return Reply(fact.name, Outcome.NOT_SUPPORTED, fact.ask, b"", "this question is not part of the script")


def _words(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return "".join(c if c.isprintable() else " " for c in text)[:200]


def _port(asset: Asset) -> int:
    port = str(asset.access.get("ansible_port", 22))
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise _LookFailed(Outcome.UNREACHABLE, f"ansible_port {port[:20]!r} is not a port number")
    return int(port)


def _load_key(path: Path) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(path)
    except paramiko.PasswordRequiredException:
        words = f"the key file {path} is encrypted; the control plane needs a key without a passphrase"
    except Exception as error:  # the library raises many kinds for a file that is no key
        if "encrypted" in str(error).lower() or "password" in str(error).lower():
            words = f"the key file {path} is encrypted; the control plane needs a key without a passphrase"
        else:
            words = f"the key file {path} is not a private key that can be used"
    raise _LookFailed(Outcome.AUTH_FAILED, words) from None


@dataclass(frozen=True)
class _KnownHost:
    """One line of known_hosts."""

    hosts: tuple[str, ...]
    kind: str
    blob: bytes
    revoked: bool = False

    def names(self, host: str) -> bool:
        """Whether the line speaks of the host, plainly or under a salted hash."""
        return any(_hashes(entry, host) if entry.startswith("|1|") else entry == host for entry in self.hosts)


def _hashes(entry: str, host: str) -> bool:
    try:
        _, _, salt, digest = entry.split("|")
        made = hmac.digest(base64.b64decode(salt), host.encode(), "sha1")
        return hmac.compare_digest(made, base64.b64decode(digest))
    except ValueError:
        return False


def _known_hosts(text: str) -> Iterator[_KnownHost]:
    """The usable lines; patterns and certificate authorities are not followed, so such a host stays unknown."""
    for line in text.splitlines():
        cells = line.split()
        revoked = cells[:1] == ["@revoked"]
        cells = cells[1:] if revoked else cells
        if len(cells) < 3 or cells[0].startswith(("#", "@")):
            continue
        with contextlib.suppress(ValueError):
            yield _KnownHost(tuple(cells[0].split(",")), cells[1], base64.b64decode(cells[2], validate=True), revoked)


def _connect(address: str, port: int, timeout: float) -> _ReadAhead:
    """A TCP connection. A name is resolved by the system under its own time limit; an address needs no resolver."""
    where = f"{address} port {port}"
    try:
        sock = socket.create_connection((address, port), timeout=timeout)
    except socket.gaierror:
        raise _LookFailed(Outcome.UNREACHABLE, f"the name {address} has no address (DNS)") from None
    except TimeoutError:
        raise _LookFailed(Outcome.TIMEOUT, f"{where} did not answer within {timeout:g} s") from None
    except ConnectionRefusedError:
        raise _LookFailed(Outcome.REFUSED, f"{where} refuses the connection: no SSH server listens there") from None
    except OSError as error:
        if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN):
            raise _LookFailed(Outcome.UNREACHABLE, f"there is no route to {where}") from None
        raise _LookFailed(Outcome.UNREACHABLE, f"{where} cannot be reached: {_words(error)}") from None
    except UnicodeError:
        raise _LookFailed(Outcome.UNREACHABLE, f"{address[:60]!r} is not an address") from None
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return _ReadAhead(fileno=sock.detach())


def _await_greeting(sock: socket.socket, timeout: float, address: str, port: int) -> None:
    """Waits for the first bytes without taking them: so silence, a closed door and rubbish are told apart."""
    where = f"{address} port {port}"
    sock.settimeout(timeout)
    try:
        first = sock.recv(255, socket.MSG_PEEK)
    except TimeoutError:
        raise _LookFailed(Outcome.TIMEOUT, f"{where} accepts the connection and says nothing") from None
    except OSError:
        raise _LookFailed(Outcome.REFUSED, f"{where} drops the connection at once") from None
    if not first:
        raise _LookFailed(Outcome.REFUSED, f"{where} closes the connection at once; too many at a time, or not for us")
    if not first.startswith(b"SSH-"[: len(first)]) and b"\n" not in first[:254]:
        raise _LookFailed(Outcome.GARBLED, f"{where} does not speak SSH")


def _handshake(visit: _Visit, known: dict[str, set[bytes]]) -> paramiko.Transport:
    """Agrees on keys; asks for a host key of a kind that is known, so that it can be compared."""
    assert visit.sock is not None  # noqa: S101  # set by the caller, for the type checker
    transport = paramiko.Transport(visit.sock, packetizer_class=_Packets)
    visit.transport = transport
    transport.set_log_channel(_QUIET)
    transport.banner_timeout = visit.left()
    transport.auth_timeout = transport.channel_timeout = visit.left()
    options = transport.get_security_options()
    options.ciphers, options.digests = _CIPHERS, _MACS
    options.key_types = sorted(options.key_types, key=lambda kind: _family(kind) not in known)
    try:
        transport.start_client(timeout=visit.left())
    except paramiko.SSHException as error:
        words = str(error).lower()
        if "banner" in words or "protocol version" in words:
            raise _LookFailed(
                Outcome.GARBLED, f"the host does not greet as an SSH server does: {_words(error)}"
            ) from None
        raise
    if not transport.initial_kex_done:
        raise _LookFailed(Outcome.TIMEOUT, "the host does not finish the greeting")
    return transport


def _family(algorithm: str) -> str:
    """The kind of key in known_hosts that a signature algorithm uses."""
    return "ssh-rsa" if algorithm.startswith("rsa-sha2-") else algorithm


def _verify(key: paramiko.PKey, known: dict[str, set[bytes]], address: str, port: int) -> None:
    """Refuses an unknown and a changed key; nothing of ours was sent yet. The sentence holds the fingerprint shown."""
    blob = key.asbytes()
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    shown = f"{address} port {port} shows the {key.get_name()} key SHA256:{digest}"
    if blob in known.get("revoked", ()):
        raise _LookFailed(Outcome.HOST_KEY_CHANGED, f"{shown}, which is marked as revoked")
    accepted = {kind: blobs for kind, blobs in known.items() if kind != "revoked"}
    if not accepted:
        raise _LookFailed(Outcome.HOST_KEY_UNKNOWN, f"{shown}, and known_hosts names no key for it: compare and add it")
    if blob not in accepted.get(key.get_name(), ()):
        raise _LookFailed(
            Outcome.HOST_KEY_CHANGED, f"{shown}, and known_hosts names another: find out why before trusting it"
        )


def _log_in(visit: _Visit, user: str, key: paramiko.PKey, address: str) -> None:
    transport = visit.transport
    assert transport is not None  # noqa: S101  # set by the caller, for the type checker
    try:
        missing = transport.auth_publickey(user, key)
    except paramiko.AuthenticationException:
        raise _LookFailed(Outcome.AUTH_FAILED, f"{address} does not accept the key of account {user}") from None
    if missing:
        raise _LookFailed(
            Outcome.AUTH_FAILED, f"{address} wants more than a key from account {user}: {', '.join(missing)}"
        )
