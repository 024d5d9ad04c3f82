"""The door to SNMP agents, v2c and v3 authPriv: it asks for the facts' objects and nothing else.

It refuses to set anything, to guess a community, to try a weaker security level, to read a secret file that
others may read, and to send a packet to an asset without an address. A look never raises.

The route: secrets -> session (v2c: the message is nothing but a frame, written here; v3: pysnmp makes, signs,
encrypts and checks the message) -> exchange (one connected UDP socket, retries, deadline) -> walk (one
GETBULK walk per column, facts' overlapping OIDs merged) -> canonical text, one reply per fact.

Why no event loop: pysnmp 7 is asyncio only in its transport. Used for what it is best at, the message and the
User-based Security Model, it needs none, and a blocking connected socket gives threads, exact deadlines and
ICMP refusals for nothing. Why an own reader for value lists: pyasn1 spends 40 times as long on them;
tests compare the two on random and on damaged bytes.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import stat
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pysnmp.carrier.base import AbstractTransportDispatcher
from pysnmp.entity import config
from pysnmp.entity.engine import SnmpEngine
from pysnmp.proto import errind
from pysnmp.proto.api import v2c
from pysnmp.proto.error import StatusInformation
from pysnmp.proto.secmod.rfc3826.priv.aes import Aes

from controlplane.collect.facts.snmp_text import Oid, Scalar, format_line, oid_text, parse_oid
from controlplane.domain.model import Asset, Fact, Look, Outcome, Reply

GET, GETBULK, RESPONSE = 0xA0, 0xA5, 0xA2
_NO_SUCH_OBJECT, _NO_SUCH_INSTANCE, _END_OF_VIEW = 0x80, 0x81, 0x82
_MAX_SECRET_BYTES = 4096


class _Ended(Exception):  # noqa: N818 - an end of the conversation, not a fault of ours
    """The conversation is over: with which outcome, and why in one sentence."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


# ------------------------------------------------------------------------------------------------ secrets


@dataclass(frozen=True)
class Credentials:
    """What an agent asks of us. Never shown: its ``repr`` is empty, so no log or traceback can hold it."""

    version: str  # "2c" or "3"
    community: bytes = field(default=b"", repr=False)
    user: str = field(default="", repr=False)
    auth_protocol: str = field(default="", repr=False)
    auth_key: str = field(default="", repr=False)
    priv_protocol: str = field(default="", repr=False)
    priv_key: str = field(default="", repr=False)

    def digest(self) -> str:
        """Names these credentials in a table of engines without being them."""
        parts = (self.user, self.auth_protocol, self.auth_key, self.priv_protocol, self.priv_key)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


_KEYS = {
    "2c": frozenset({"community"}),
    "3": frozenset({"user", "auth_protocol", "auth_key", "priv_protocol", "priv_key"}),
}
_AUTH = {
    "SHA": config.USM_AUTH_HMAC96_SHA,
    "SHA256": config.USM_AUTH_HMAC192_SHA256,
    "SHA512": config.USM_AUTH_HMAC384_SHA512,
}
_PRIV = {"AES": config.USM_PRIV_CFB128_AES, "AES128": config.USM_PRIV_CFB128_AES}


def read_credentials(path: Path, version: str) -> Credentials:
    """The credentials of a ``key = value`` file that only its owner may read.

    Raises ``_Ended`` (auth_failed) with a sentence that names the file and never its content.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _Ended(
            Outcome.AUTH_FAILED, f"secret file {path.name} cannot be opened: {error.strerror}; nothing sent"
        ) from None
    try:
        found = os.fstat(descriptor)
        mode = stat.S_IMODE(found.st_mode)
        if not stat.S_ISREG(found.st_mode):
            raise _Ended(Outcome.AUTH_FAILED, f"secret file {path.name} is not a plain file; nothing sent")
        if mode & 0o077:
            raise _Ended(
                Outcome.AUTH_FAILED,
                f"secret file {path.name} has mode {mode:04o}, others may read it; "
                "make it 0600 and change the secret; nothing sent",
            )
        content = os.read(descriptor, _MAX_SECRET_BYTES + 1)
    finally:
        os.close(descriptor)
    return _parse_credentials(content, path.name, version)


def _parse_credentials(content: bytes, name: str, version: str) -> Credentials:
    def refuse(why: str) -> _Ended:
        return _Ended(Outcome.AUTH_FAILED, f"secret file {name}: {why}; nothing sent")

    wanted = _KEYS[version]
    values: dict[str, str] = {}
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise refuse("not UTF-8 text") from None
    if len(content) > _MAX_SECRET_BYTES:
        raise refuse(f"longer than {_MAX_SECRET_BYTES} bytes")
    for number, line in enumerate(lines, 1):
        key, equals, value = (part.strip() for part in line.partition("="))
        if not line.strip() or key.startswith("#"):
            continue
        if not equals or key not in _KEYS["2c"] | _KEYS["3"] or not value or key in values:
            raise refuse(f"line {number} is not one of {', '.join(sorted(wanted))} = value, each once")
        values[key] = value
    missing = sorted(wanted - values.keys())
    if missing:
        raise refuse(f"{', '.join(missing)} missing for SNMP version {version}")
    if version == "2c":
        return Credentials("2c", community=values["community"].encode())
    auth, priv = (values[key].upper().replace("-", "") for key in ("auth_protocol", "priv_protocol"))
    if auth not in _AUTH or priv not in _PRIV:
        raise refuse(f"auth_protocol must be one of {', '.join(_AUTH)} and priv_protocol AES")
    if min(len(values["auth_key"]), len(values["priv_key"])) < 8:
        raise refuse("auth_key and priv_key need at least 8 characters (RFC 3414)")
    if len(values["user"].encode()) > 32:
        raise refuse("user is longer than 32 octets (RFC 3414)")
    return Credentials(
        "3",
        user=values["user"],
        auth_protocol=auth,
        auth_key=values["auth_key"],
        priv_protocol=priv,
        priv_key=values["priv_key"],
    )


# --------------------------------------------------------------------------------------------------- bytes


class RawVarBind(NamedTuple):
    """One varbind as it stood in the message: encoded OID, BER tag of the value, octets of the value."""

    name: bytes
    tag: int
    content: bytes


class Response(NamedTuple):
    """What stands in a response besides its envelope."""

    request_id: int
    error_status: int
    error_index: int
    varbinds: list[RawVarBind]


def _length(size: int) -> bytes:
    if size < 0x80:
        return bytes((size,))
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(octets),)) + octets


def _tlv(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + _length(len(content)) + content


def _integer(value: int) -> bytes:
    return _tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def encode_oid(oid: Oid) -> bytes:
    """The content octets of an object identifier."""
    out = bytearray()
    for arc in (oid[0] * 40 + oid[1], *oid[2:]):
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(arc & 0x7F | 0x80)
        out += bytes(reversed(septets))
    return bytes(out)


def decode_oid(content: bytes) -> Oid:
    """The arcs of an object identifier; ``ValueError`` when the octets are none."""
    if not content or content[-1] & 0x80:
        raise ValueError("an object identifier that is empty or cut")
    if content.isascii():  # every arc below 128: the octets are the arcs
        arcs = tuple(content)
    else:
        found, arc = [], 0
        for octet in content:
            if octet == 0x80 and not arc:
                raise ValueError("a padded arc in an object identifier")
            arc = arc << 7 | octet & 0x7F
            if not octet & 0x80:
                found.append(arc)
                arc = 0
        arcs = tuple(found)
        if max(arcs) > 0xFFFFFFFF:
            raise ValueError("an arc above 2^32-1")
    top = min(arcs[0] // 40, 2)
    return (top, arcs[0] - 40 * top, *arcs[1:])


def _header(data: bytes, at: int, end: int, tag: int | None = None) -> tuple[int, int, int]:
    """Tag, start and end of the content of the value at ``at``, which must lie within ``end``."""
    if at + 2 > end:
        raise ValueError("cut BER value")
    found, size = data[at], data[at + 1]
    at += 2
    if size & 0x80:
        octets = size & 0x7F
        if not 1 <= octets <= 4 or at + octets > end:
            raise ValueError("BER length that is indefinite, too long or cut")
        size = int.from_bytes(data[at : at + octets], "big")
        at += octets
    if at + size > end:
        raise ValueError("BER value longer than what holds it")
    if tag is not None and found != tag:
        raise ValueError(f"BER tag {found:#04x} instead of {tag:#04x}")
    return found, at, at + size


def _read_integer(data: bytes, at: int, end: int) -> tuple[int, int]:
    _, start, stop = _header(data, at, end, 0x02)
    if not 1 <= stop - start <= 8:
        raise ValueError("BER integer of an impossible size")
    return int.from_bytes(data[start:stop], "big", signed=True), stop


def decode_pdu(data: bytes, at: int, end: int) -> Response:
    """A response PDU between two offsets; ``ValueError`` for anything else."""
    _, at, stop = _header(data, at, end, RESPONSE)
    request_id, at = _read_integer(data, at, stop)
    status, at = _read_integer(data, at, stop)
    index, at = _read_integer(data, at, stop)
    _, at, stop = _header(data, at, stop, 0x30)
    return Response(request_id, status, index, list(_read_varbinds(data, at, stop)))


def _read_varbinds(data: bytes, at: int, end: int) -> Iterator[RawVarBind]:
    while at < end:
        _, start, at = _header(data, at, end, 0x30)
        _, name, name_end = _header(data, start, at, 0x06)
        tag, value, value_end = _header(data, name_end, at)
        if value_end != at:
            raise ValueError("octets behind a value")
        yield RawVarBind(data[name:name_end], tag, data[value:value_end])


def decode_v2c(data: bytes, community: bytes) -> Response:
    """A v2c response message of this community; ``ValueError`` for anything else."""
    _, at, end = _header(data, 0, len(data), 0x30)
    version, at = _read_integer(data, at, end)
    _, start, stop = _header(data, at, end, 0x04)
    if version != 1 or data[start:stop] != community:
        raise ValueError("another SNMP version or community than asked with")
    return decode_pdu(data, stop, end)


_UNSIGNED = {0x41: ("Counter32", 32), 0x42: ("Gauge32", 32), 0x43: ("Timeticks", 32), 0x46: ("Counter64", 64)}


def decode_value(tag: int, content: bytes) -> tuple[str, Scalar]:
    """Type and value in the words of the canonical text; ``ValueError`` for octets that are no SMI value."""
    if tag == 0x04:
        return "STRING", content
    if tag == 0x02:
        if not 1 <= len(content) <= 8:
            raise ValueError("INTEGER of an impossible size")
        number = int.from_bytes(content, "big", signed=True)
        if not -(2**31) <= number < 2**31:
            raise ValueError("INTEGER beyond 32 bits")
        return "INTEGER", number
    if tag in _UNSIGNED:
        kind, bits = _UNSIGNED[tag]
        # Some agents forget the leading zero octet; as net-snmp does, the octets are taken as unsigned.
        number = int.from_bytes(content, "big")
        if not content or number >= 1 << bits:
            raise ValueError(f"{kind} beyond {bits} bits")
        return kind, number
    if tag == 0x06:
        return "OID", oid_text(decode_oid(content))
    if tag == 0x40 and len(content) == 4:
        return "IpAddress", ".".join(map(str, content))
    if tag == 0x44:
        return "Opaque", content
    raise ValueError(f"value of BER tag {tag:#04x} and {len(content)} octets")


# ------------------------------------------------------------------------------------------------ sessions


class _Session(Protocol):
    """One version of SNMP: how a question is written and an answer read. Used by one thread at a time."""

    silence: str  # what silence may mean, in words

    def question(self, kind: int, names: Sequence[bytes], repetitions: int) -> bytes: ...

    def answer(self, data: bytes) -> Response | None:
        """The response in these bytes; None for a stray one. ``_Again`` to ask anew, ``ValueError`` for garbage."""


class _Again(Exception):  # noqa: N818
    """The agent told us what we needed to ask properly (its engine id, its clock): ask again now."""


class _V2cSession:
    silence = "no answer; a v2c agent is just as silent when the community is wrong or our address not allowed"

    def __init__(self, credentials: Credentials) -> None:
        self._community = credentials.community
        self._id = secrets.randbits(30)

    def question(self, kind: int, names: Sequence[bytes], repetitions: int) -> bytes:
        self._id = (self._id + 1) & 0x7FFFFFFF
        varbinds = b"".join(_tlv(0x30, _tlv(0x06, name) + b"\x05\x00") for name in names)
        numbers = _integer(self._id) + _integer(0) + _integer(repetitions)
        pdu = _tlv(kind, numbers + _tlv(0x30, varbinds))
        return _tlv(0x30, _integer(1) + _tlv(0x04, self._community) + pdu)

    def answer(self, data: bytes) -> Response | None:
        response = decode_v2c(data, self._community)
        return response if response.request_id == self._id else None


class _LeanAes(Aes):  # type: ignore[misc]
    """pysnmp's AES, which keeps the value list for our own reader and hands pysnmp the rest of the PDU.

    One instance per engine: the salt counter must not be shared between threads (a salt is used once).
    """

    def __init__(self) -> None:
        super().__init__()
        self.local_int = secrets.randbits(64)
        self._kept: Response | None = None

    def taken(self) -> Response | None:
        """The response decrypted last, once."""
        kept, self._kept = self._kept, None
        return kept

    def decrypt_data(self, decryptKey: Any, privParameters: Any, encryptedData: Any) -> bytes:  # noqa: N803
        plain: bytes = super().decrypt_data(decryptKey, privParameters, encryptedData)
        self._kept = None
        try:
            _, start, end = _header(plain, 0, len(plain), 0x30)
            _, _, engine_end = _header(plain, start, end, 0x04)
            _, _, name_end = _header(plain, engine_end, end, 0x04)
            response = decode_pdu(plain, name_end, end)
        except ValueError:
            return plain  # a report, or octets that pysnmp shall judge
        self._kept = response
        numbers = b"".join(map(_integer, response[:3]))
        return _tlv(0x30, plain[start:name_end] + _tlv(RESPONSE, numbers + _tlv(0x30, b"")))


class _Engine:
    """A pysnmp engine with one user, its own AES and no transport."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials.digest()
        self.aes = _LeanAes()
        self.snmp = SnmpEngine()
        self.snmp.register_transport_dispatcher(AbstractTransportDispatcher())  # asked for its clock's grain only
        usm = self.snmp.security_models[3]
        usm.PRIV_SERVICES = {**usm.PRIV_SERVICES, Aes.SERVICE_ID: self.aes}
        config.add_v3_user(
            self.snmp,
            v2c.OctetString(credentials.user.encode()),
            _AUTH[credentials.auth_protocol],
            credentials.auth_key.encode(),
            _PRIV[credentials.priv_protocol],
            credentials.priv_key.encode(),
        )


class _Engines:
    """Idle engines, kept because making one costs 50 ms and knowing an agent's engine id saves a question."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._idle: list[_Engine] = []
        self._lock = threading.Lock()

    def borrow(self, credentials: Credentials, fresh: bool) -> _Engine:
        wanted = credentials.digest()
        with self._lock:
            for place in range(len(self._idle) - 1, -1, -1):
                if self._idle[place].credentials == wanted and not fresh:
                    return self._idle.pop(place)
            return _Engine(credentials)  # within the lock: pysnmp loads its MIB modules by exec

    def give_back(self, engine: _Engine) -> None:
        with self._lock:
            self._idle.append(engine)
            del self._idle[: -self._keep]


_AUTH_WORDS = (
    (errind.UnknownUserName, "the agent knows no user of this name"),
    (errind.WrongDigest, "the agent refuses our signature: auth_key or auth_protocol is wrong"),
    (errind.UnsupportedSecurityLevel, "the agent does not give this user authPriv"),
    (errind.DecryptionError, "the agent cannot decrypt: priv_key or priv_protocol is wrong"),
)
_DOMAIN = (1, 3, 6, 1, 6, 1, 1)


class _V3Session:
    silence = "no answer"

    def __init__(self, engine: _Engine, credentials: Credentials, peer: tuple[str, int]) -> None:
        self._engine = engine
        self._peer = peer
        self._user = v2c.OctetString(credentials.user.encode())  # pysnmp looks it up by its own type
        self._messages = engine.snmp.message_processing_subsystems[3]
        self._handle = secrets.randbits(30)
        self._met_before = self._messages.get_peer_engine_info(_DOMAIN, peer)[0] is not None

    def release(self) -> None:
        """Let pysnmp forget the question that was not answered."""
        self._messages.release_state_information(self._handle)

    def question(self, kind: int, names: Sequence[bytes], repetitions: int) -> bytes:
        self.release()
        self._handle += 1
        if kind == GETBULK:
            pdu, api = v2c.GetBulkRequestPDU(), v2c.apiBulkPDU
            api.set_defaults(pdu)
            api.set_non_repeaters(pdu, 0)
            api.set_max_repetitions(pdu, repetitions)
        else:
            pdu, api = v2c.GetRequestPDU(), v2c.apiPDU
            api.set_defaults(pdu)
        api.set_request_id(pdu, self._handle & 0x7FFFFFFF)
        api.set_varbinds(pdu, [(v2c.ObjectIdentifier(decode_oid(name)), v2c.Null("")) for name in names])
        message: bytes = self._messages.prepare_outgoing_message(
            self._engine.snmp, _DOMAIN, self._peer, 3, 3, self._user, 3, None, b"", 1, pdu, True, self._handle
        )[2]
        return message

    def answer(self, data: bytes) -> Response | None:
        self._engine.aes.taken()
        try:
            found = self._messages.prepare_data_elements(self._engine.snmp, _DOMAIN, self._peer, data)
        except StatusInformation as error:
            self._status(error.get("errorIndication"))
            return None
        except Exception as error:  # pysnmp meets foreign bytes with nearly any exception
            raise ValueError(f"not an SNMP message ({type(error).__name__})") from error
        response = self._engine.aes.taken()
        if response is None or int(found[7][0]) != response.request_id:
            raise ValueError("a response that is not one to GET or GETBULK")
        return response if response.request_id == self._handle & 0x7FFFFFFF else None

    def _status(self, said: Any) -> None:
        """Tell what pysnmp's word for a message without an answer means for us."""
        if isinstance(said, errind.DataMismatch):
            return  # the second answer to a question that was sent twice
        if self._met_before and isinstance(said, errind.UnknownEngineID | errind.UnknownSecurityName):
            raise _Stale
        if isinstance(said, errind.UnknownEngineID):
            self.silence = "the agent gave its engine id and then fell silent: priv_key is probably wrong"
            raise _Again
        if isinstance(said, errind.NotInTimeWindow):
            self.silence = "the agent took our signature and then fell silent: priv_key is probably wrong"
            raise _Again
        for kind, words in _AUTH_WORDS:
            if isinstance(said, kind):
                raise _Ended(Outcome.AUTH_FAILED, words)
        if isinstance(said, errind.AuthenticationFailure):
            raise ValueError("an answer whose signature is wrong")
        raise ValueError(f"not a response ({type(said).__name__})")


class _Stale(Exception):  # noqa: N818
    """The agent at this address is another one than last time: begin anew with a fresh engine."""


# ------------------------------------------------------------------------------------------------ exchange


@dataclass(frozen=True)
class Limits:
    """How long and how much. Times in seconds; a GETBULK asks for at most ``varbinds`` values."""

    timeout: float
    retries: int
    varbinds: int
    total: int  # values of one look


class _Conversation:
    """Question and answer over one connected UDP socket until a deadline on the monotonic clock."""

    def __init__(self, channel: socket.socket, session: _Session, limits: Limits, deadline: float) -> None:
        self.limits = limits
        self.heard = False  # something of this conversation was answered
        self._channel = channel
        self._session = session
        self._deadline = deadline

    def ask(self, kind: int, names: Sequence[bytes], repetitions: int = 0) -> Response:
        """One answered question, or ``_Ended``."""
        message = self._session.question(kind, names, repetitions)
        tries, renewals, rubbish = 0, 0, ""
        while tries <= self.limits.retries and time.monotonic() < self._deadline:
            try:
                response, rubbish = self._once(message, rubbish)
            except _Again:
                renewals += 1
                if renewals > 3:
                    raise _Ended(Outcome.AUTH_FAILED, "the agent never accepts our engine id or clock") from None
                message = self._session.question(kind, names, repetitions)
                continue
            if response is not None:
                self.heard = True
                return response
            tries += 1
        if rubbish:
            raise _Ended(Outcome.GARBLED, f"bytes came that are no answer: {rubbish}")
        late = " before the deadline" if time.monotonic() >= self._deadline else ""
        silent = self._silent()
        outcome = Outcome.AUTH_FAILED if "priv_key" in silent else Outcome.TIMEOUT
        raise _Ended(outcome, f"{silent} ({tries} tries{late})")

    def _silent(self) -> str:
        return "the agent stopped answering" if self.heard else self._session.silence

    def _once(self, message: bytes, rubbish: str) -> tuple[Response | None, str]:
        """Send once and listen for one timeout; what was heard that was no answer comes back in words."""
        try:
            self._channel.send(message)
            until = min(time.monotonic() + self.limits.timeout, self._deadline)
            while (left := until - time.monotonic()) > 0:
                self._channel.settimeout(left)
                try:
                    response = self._session.answer(self._channel.recv(65535))
                except ValueError as error:
                    rubbish = str(error)
                    continue
                if response is not None:
                    return response, rubbish
        except TimeoutError:
            return None, rubbish
        except ConnectionRefusedError:
            raise _Ended(Outcome.REFUSED, "the machine says this UDP port is closed (ICMP)") from None
        except OSError as error:
            raise _Ended(Outcome.UNREACHABLE, f"no way to the address: {error.strerror}") from None
        return None, rubbish


# ---------------------------------------------------------------------------------------------------- walk


@dataclass
class _Branch:
    """One scalar or column to fetch: how far it is, what was found, and why it ended early if it did."""

    root: Oid
    prefix: bytes
    last: Oid
    next: bytes
    lines: list[tuple[Oid, str]] = field(default_factory=list)
    done: bool = False
    failure: tuple[Outcome, str] | None = None
    rows: set[Oid] | None = None  # of a time-filtered column: the rows seen, without their time mark

    def fail(self, outcome: Outcome, detail: str) -> None:
        self.failure, self.done = (outcome, detail), True

    def take(self, varbind: RawVarBind) -> None:
        """Accept the next value of a walk, or end the walk."""
        if varbind.tag == _END_OF_VIEW or not varbind.name.startswith(self.prefix):
            self.done = True
            return
        try:
            oid = decode_oid(varbind.name)
            line = format_line(oid, *decode_value(varbind.tag, varbind.content))
        except ValueError as error:
            self.fail(Outcome.GARBLED, f"a value below {oid_text(self.root)} is unreadable: {error}")
            return
        if oid <= self.last:
            circle = f"{oid_text(oid)} came after {oid_text(self.last)}"
            self.fail(Outcome.GARBLED, f"the agent runs in circles: {circle}")
            return
        if self.rows is not None:
            row = oid[len(self.root) + 1 :]
            if row in self.rows:
                self.done = True
                return
            self.rows.add(row)
        self.lines.append((oid, line))
        self.last, self.next = oid, varbind.name


# Entries whose first index is a TimeFilter (RFC 4502). A faithful agent shows every row again and again, once for each
# hundredth of a second since it last changed, so such a walk ends where the first row comes back.
_TIME_FILTERED = {parse_oid(".1.3.6.1.2.1.17.7.1.4.2.1"), parse_oid(".1.0.8802.1.1.2.1.4.1.1")}

_REFUSED = {6: "noAccess", 16: "authorizationError"}
_STATUS = {1: "tooBig", 2: "noSuchName", 3: "badValue", 5: "genErr", **_REFUSED}


def _blame(branches: Sequence[_Branch], response: Response) -> bool:
    """Put an error status on the branch it names; False when it names none."""
    if not 1 <= response.error_index <= len(branches):
        return False
    word = _STATUS.get(response.error_status, f"error {response.error_status}")
    branch = branches[response.error_index - 1]
    if response.error_status == 2:
        branch.done = True
    elif response.error_status in _REFUSED:
        branch.fail(Outcome.REFUSED, f"the agent may not show {oid_text(branch.root)}: {word}")
    else:
        branch.fail(Outcome.GARBLED, f"the agent fails at {oid_text(branch.last)}: {word}")
    return True


def _get(talk: _Conversation, branches: Sequence[_Branch]) -> None:
    """Fetch scalars in one GET; halve it when the agent finds it too big or blames nobody."""
    response = talk.ask(GET, [branch.next for branch in branches])
    if response.error_status:
        named = response.error_status != 1 and _blame(branches, response)
        left = [branch for branch in branches if not branch.done]
        if named:
            if left:
                _get(talk, left)
        elif len(left) > 1:
            _get(talk, left[: len(left) // 2])
            _get(talk, left[len(left) // 2 :])
        else:
            _blame(left, response._replace(error_index=1))
        return
    for branch, varbind in zip(branches, response.varbinds, strict=False):
        if varbind.name != branch.next:
            branch.fail(Outcome.GARBLED, f"the agent answered {oid_text(branch.root)} with another object")
        elif varbind.tag not in (_NO_SUCH_OBJECT, _NO_SUCH_INSTANCE):
            branch.last = branch.root[:-1]
            branch.take(varbind)
        branch.done = True
    for branch in branches[len(response.varbinds) :]:
        branch.fail(Outcome.GARBLED, f"the agent left {oid_text(branch.root)} out of its answer")


def _walk(talk: _Conversation, branches: Sequence[_Branch]) -> None:
    """Walk columns side by side by GETBULK until each has left its object."""
    width, rows, room, growth = 12, 8, talk.limits.varbinds, 4
    fetched = 0
    while going := [branch for branch in branches if not branch.done][:width]:
        if fetched >= talk.limits.total:
            for branch in going:
                branch.fail(Outcome.GARBLED, f"more than {talk.limits.total} values; stopped")
            continue
        repetitions = max(1, min(rows, room // len(going)))
        try:
            response = talk.ask(GETBULK, [branch.next for branch in going], repetitions)
        except _Ended as end:
            if end.outcome is not Outcome.TIMEOUT or not talk.heard or room <= 10 or width == 1:
                raise
            width, rows, room, growth = 4, 2, 10, 1  # perhaps its big answers get lost: ask for small ones
            continue
        if response.error_status or not response.varbinds:
            if len(going) == 1 and repetitions == 1:
                _blame(going, response._replace(error_index=1, error_status=response.error_status or 1))
            elif response.error_status in (0, 1) or not _blame(going, response):
                width, rows, growth = max(1, len(going) // 2), max(1, repetitions // 2), 1
            continue
        fetched += len(response.varbinds)
        for place, varbind in enumerate(response.varbinds):
            branch = going[place % len(going)]
            if not branch.done:
                branch.take(varbind)
        rows *= growth


def _branches(facts: Sequence[Fact]) -> list[_Branch]:
    """What to fetch for these facts, each object once: an OID below another asked one comes with it."""
    roots: list[Oid] = []
    for oid in sorted({parse_oid(word) for fact in facts for word in fact.ask.split()}):
        if not roots or oid[: len(roots[-1])] != roots[-1]:
            roots.append(oid)
    branches = [_Branch(root, encode_oid(root), root, encode_oid(root)) for root in roots]
    for branch in branches:
        if branch.root[:-1] in _TIME_FILTERED:
            branch.rows = set()
    return branches


def _fetch(talk: _Conversation, branches: Sequence[_Branch]) -> None:
    """Fetch all. Once something was answered, an end of the talk is the end of what is still missing only."""
    try:
        scalars = [branch for branch in branches if branch.root[-1] == 0]
        for start in range(0, len(scalars), 20):
            _get(talk, scalars[start : start + 20])
        _walk(talk, [branch for branch in branches if branch.root[-1] != 0])
    except _Ended as end:
        if not talk.heard:
            raise
        for branch in branches:
            if not branch.done:
                branch.fail(end.outcome, end.detail)


def _reply(fact: Fact, branches: Sequence[_Branch], starts: Sequence[Oid]) -> Reply:
    """The part of what was fetched that this fact asked for, as canonical text."""
    lines: dict[Oid, str] = {}
    for oid in map(parse_oid, fact.ask.split()):
        place = bisect_left(starts, oid)
        if place == len(starts) or starts[place] != oid:
            place -= 1
        branch = branches[place]
        if branch.failure is not None:
            return Reply(fact.name, branch.failure[0], fact.ask, detail=branch.failure[1])
        lines.update((name, line) for name, line in branch.lines if name[: len(oid)] == oid)
    if not lines:
        return Reply(fact.name, Outcome.NOT_SUPPORTED, fact.ask, detail="the agent has none of these objects")
    raw = "".join(f"{lines[name]}\n" for name in sorted(lines))
    return Reply(fact.name, Outcome.ANSWERED, fact.ask, raw.encode("utf-8"))


# --------------------------------------------------------------------------------------------------- a look


class SnmpTransport:
    """Looks at assets over SNMP. Safe to share between threads; it holds no socket between looks.

    ``asset.access["emr_snmp"]`` is ``{version: "3" | "2c", secret_file: path, port: 161}``; a relative path is
    taken from ``secrets_dir``. ``timeout_seconds`` is for one try, ``retries`` come on top of the first try,
    ``max_values`` bounds one look. A host name in ``asset.address`` is left to the system's resolver,
    whose own time limit then comes on top of the deadline; numeric addresses have no such tail.
    """

    name = "snmp"
    family = "snmp"
    collector = "snmp/1"

    def __init__(
        self,
        *,
        secrets_dir: Path | None = None,
        timeout_seconds: float = 2.0,
        retries: int = 2,
        max_values_per_message: int = 300,
        max_values: int = 20_000,
        keep_engines: int = 16,
    ) -> None:
        self._secrets_dir = secrets_dir
        self._limits = Limits(timeout_seconds, retries, max_values_per_message, max_values)
        self._engines = _Engines(keep_engines)

    def look(self, asset: Asset, facts: Sequence[Fact], deadline_seconds: float, clock: Callable[[], datetime]) -> Look:
        """Ask one asset for these facts within so many seconds. Never raises."""
        at, began = clock(), time.monotonic()
        replies: tuple[Reply, ...] = ()
        outcome, detail = Outcome.ANSWERED, ""
        try:
            replies = self._visit(asset, facts, began + deadline_seconds)
        except _Ended as end:
            outcome, detail = end.outcome, end.detail
        except Exception as error:  # a look never raises; the type says enough, the text could hold a secret
            outcome, detail = Outcome.GARBLED, f"unforeseen {type(error).__name__} while asking"
        took = round((time.monotonic() - began) * 1000)
        return Look(asset.name, self.name, outcome, at, took, self.collector, detail, replies)

    def _visit(self, asset: Asset, facts: Sequence[Fact], deadline: float) -> tuple[Reply, ...]:
        if not asset.address:
            raise _Ended(Outcome.NO_ADDRESS, "the inventory gives no address; nothing sent")
        credentials, port = self._settings(asset)
        branches = _branches(facts)
        if not branches:
            return ()
        with self._open(asset.address, port) as channel:
            try:
                self._talk(channel, credentials, branches, deadline)
            except _Stale:
                branches = _branches(facts)
                self._talk(channel, credentials, branches, deadline, fresh=True)
        starts = [branch.root for branch in branches]
        return tuple(_reply(fact, branches, starts) for fact in facts)

    def _settings(self, asset: Asset) -> tuple[Credentials, int]:
        """Credentials and port from the inventory's variables, or ``_Ended``."""
        settings = asset.access.get("emr_snmp")
        if not isinstance(settings, Mapping) or not settings.get("secret_file"):
            raise _Ended(Outcome.AUTH_FAILED, "the inventory gives no emr_snmp.secret_file; nothing sent")
        version = str(settings.get("version", "3")).removeprefix("v")
        port = settings.get("port", 161)
        if version not in _KEYS:
            raise _Ended(Outcome.AUTH_FAILED, "emr_snmp.version must be 2c or 3; nothing sent")
        if not isinstance(port, int) or not 0 < port < 65536:
            raise _Ended(Outcome.UNREACHABLE, "emr_snmp.port must be a port number; nothing sent")
        path = Path(str(settings["secret_file"]))
        if not path.is_absolute() and self._secrets_dir is not None:
            path = self._secrets_dir / path
        return read_credentials(path, version), port

    @staticmethod
    def _open(address: str, port: int) -> socket.socket:
        """A UDP socket that hears this address only."""
        try:
            family, _, _, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0]
            channel = socket.socket(family, socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            words = getattr(error, "strerror", None) or "not an address"
            raise _Ended(Outcome.UNREACHABLE, f"no way to the address: {words}") from None
        try:
            channel.connect(target)
        except OSError as error:
            channel.close()
            raise _Ended(Outcome.UNREACHABLE, f"no way to the address: {error.strerror}") from None
        return channel

    def _talk(
        self,
        channel: socket.socket,
        credentials: Credentials,
        branches: Sequence[_Branch],
        deadline: float,
        fresh: bool = False,
    ) -> None:
        """Fetch the branches in the asset's SNMP version; a v3 engine is kept unless the talk made it doubtful."""
        if credentials.version == "2c":
            _fetch(_Conversation(channel, _V2cSession(credentials), self._limits, deadline), branches)
            return
        engine = self._engines.borrow(credentials, fresh)
        session = _V3Session(engine, credentials, channel.getpeername()[:2])
        try:
            _fetch(_Conversation(channel, session, self._limits, deadline), branches)
        except _Ended as end:
            if end.outcome in (Outcome.AUTH_FAILED, Outcome.GARBLED):
                raise  # and forget the engine: what it believes of the agent may be wrong
            self._keep(engine, session)
            raise
        self._keep(engine, session)

    def _keep(self, engine: _Engine, session: _V3Session) -> None:
        session.release()
        self._engines.give_back(engine)
