"""Short conversations that change nothing: HL7 over MLLP, SMTP up to STARTTLS, PostgreSQL up to the log-in.

Each reply is boiled down to figures at once: no text that an other system wrote about a person is kept.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from controlplane.collect.service_wire import Conn, ProbeError, Url, Wire, lenient_context, secure
from controlplane.domain.model import Outcome

_START, _END = b"\x0b", b"\x1c\r"
_ANSWER_CODES = {"AA", "AE", "AR", "CA", "CE", "CR"}
_EHLO_NAME = "emrctl.invalid"  # RFC 2606: a name that stands for nobody
_SMTP_LAST = re.compile(rb"(?:^|\n)[0-9]{3} [^\n]*\n$")
_SSL_REQUEST = struct.pack("!II", 8, 80877103)
_PROTOCOL_3 = 196608


# ------------------------------------------------------------------------------------------------ HL7


def hl7_question(hl7: Mapping[str, Any], at: datetime) -> bytes:
    """A network-management query (NMQ^N01) marked as training: it orders, admits and reports nothing."""
    fields = [
        "MSH",
        "^~\\&",
        "EMRCTL",
        "READINESS",
        str(hl7.get("application", "")),
        str(hl7.get("facility", "")),
        at.strftime("%Y%m%d%H%M%S"),
        "",
        "NMQ^N01^NMQ_N01",
        f"EMRCTL{at.strftime('%Y%m%d%H%M%S')}",
        "T",
        "2.5",
    ]
    return _START + "|".join(fields).encode("ascii", "replace") + b"\r" + _END


def hl7_ask(wire: Wire, hl7: Mapping[str, Any], host: str, at: datetime) -> dict[str, Any]:
    """What answers the query. Raises ``ProbeError``."""
    began = time.monotonic()
    url = Url(bool(hl7.get("tls", False)), host, int(hl7["port"]), "")
    with wire.open(url.port) as conn:
        if url.secure:
            secure(conn, lenient_context(), url)
        conn.send(hl7_question(hl7, at))
        raw = conn.read(lambda got: got.endswith(_END))
    took = round((time.monotonic() - began) * 1000)
    return _hl7_answer(raw) | {"time_ms": took, "encrypted": url.secure}


def _hl7_answer(raw: bytes) -> dict[str, Any]:
    if not raw:
        raise ProbeError(Outcome.REFUSED, "the listener closed the connection without an acknowledgement")
    if not raw.startswith(_START) or not raw.endswith(_END):
        raise ProbeError(Outcome.GARBLED, "the answer is not framed as MLLP")
    segments = re.split(r"[\r\n]+", raw[1:-2].decode("utf-8", "replace").strip())
    head = segments[0]
    if not head.startswith("MSH") or len(head) < 8:
        raise ProbeError(Outcome.GARBLED, "the answer does not begin with MSH")
    split = head[3]
    fields = head.split(split)
    msa = next((s.split(split) for s in segments[1:] if s.startswith(f"MSA{split}")), None)
    code = msa[1] if msa and len(msa) > 1 else ""
    if code not in _ANSWER_CODES:
        raise ProbeError(Outcome.GARBLED, "the answer holds no acknowledgement (MSA-1)")
    version = fields[11].partition(head[4])[0] if len(fields) > 11 else ""
    return {"acknowledgement": code, "version": version if re.fullmatch(r"2(\.[0-9]){0,2}", version) else None}


# ----------------------------------------------------------------------------------------------- SMTP


def smtp_ask(wire: Wire, smtp: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Greeting, EHLO, STARTTLS, QUIT; no mail, no address. Raises ``ProbeError``."""
    port = int(smtp["port"])
    with wire.open(port) as conn:
        code, _ = _smtp_lines(conn)
        if code != 220:
            raise ProbeError(Outcome.REFUSED, f"the mail server greets with {code}")
        code, words = _smtp_say(conn, f"EHLO {_EHLO_NAME}")
        if code != 250:
            raise ProbeError(Outcome.REFUSED, f"the mail server answers EHLO with {code}")
        keywords = {line.upper().split(" ")[0] for line in words[1:]}
        seen: dict[str, Any] = {
            "starttls": "STARTTLS" in keywords,
            "log_in_before_tls": "AUTH" in keywords,
            "tls_version": None,
        }
        if seen["starttls"]:
            seen["tls_version"] = _smtp_tls(conn, Url(True, host, port, ""))
        else:
            conn.send(b"QUIT\r\n")
    return seen


def _smtp_tls(conn: Conn, url: Url) -> str | None:
    code, _ = _smtp_say(conn, "STARTTLS")
    if code != 220:
        return None
    try:
        version = secure(conn, lenient_context(), url).version()
    except ProbeError:
        return None  # offered and not kept
    conn.send(b"QUIT\r\n")
    return version


def _smtp_say(conn: Conn, line: str) -> tuple[int, list[str]]:
    conn.send(f"{line}\r\n".encode())
    return _smtp_lines(conn)


def _smtp_lines(conn: Conn) -> tuple[int, list[str]]:
    raw = conn.read(lambda got: _SMTP_LAST.search(got) is not None, 16384)
    lines = raw.decode("utf-8", "replace").splitlines()
    if not lines or not all(re.match(r"[0-9]{3}([ -]|$)", line, re.ASCII) for line in lines):
        raise ProbeError(Outcome.GARBLED, "the port does not answer as a mail server does")
    return int(lines[-1][:3]), [line[4:] for line in lines]


# ------------------------------------------------------------------------------------------ PostgreSQL


def sql_ask(wire: Wire, sql: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Whether the database takes TLS, and whether it would let a log-in go on without. Raises ``ProbeError``."""
    port = int(sql["port"])
    with wire.open(port) as conn:
        conn.send(_SSL_REQUEST)
        answer = conn.read(lambda got: len(got) >= 1, 1)
        if answer not in (b"S", b"N"):
            raise ProbeError(Outcome.GARBLED, "the port does not answer as PostgreSQL does")
        version = None
        if answer == b"S":
            version = secure(conn, lenient_context(), Url(True, host, port, "")).version()
    return {"engine": "postgresql", "tls_version": version, "plain": _sql_plain(wire, port)}


def _sql_plain(wire: Wire, port: int) -> str:
    """What a log-in without TLS under a name that does not exist meets: no password is ever sent."""
    names = b"user\0emrctl_probe\0database\0emrctl_probe\0\0"
    with wire.open(port) as conn:
        conn.send(struct.pack("!II", len(names) + 8, _PROTOCOL_3) + names)
        raw = conn.read(lambda got: len(got) >= 9 and (got[:1] != b"E" or got.endswith(b"\0\0")), 4096)
    if raw[:1] == b"R" and len(raw) >= 9:
        return "open" if raw[5:9] == b"\0\0\0\0" else "log_in"  # AuthenticationOk, or a password is asked for
    if raw[:1] == b"E":
        # The error's own routine says where it stopped: at pg_hba.conf, or behind it, at a role that does not exist.
        return "refused" if b"RClientAuthentication\0" in raw else "open"
    raise ProbeError(Outcome.GARBLED, "the port does not answer a log-in as PostgreSQL does")
