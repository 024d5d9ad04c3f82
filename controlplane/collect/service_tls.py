"""What a TLS end point offers and refuses: version, cipher, certificate, and old hellos written by hand.

The old hellos are bytes of our own because a sound library no longer speaks SSL 3.0 or TLS 1.0. Not one byte of
application data is ever sent over them.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import struct
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from controlplane.collect.service_wire import ProbeError, Url, Wire, lenient_context, secure
from controlplane.domain.model import Outcome

_OLD_SUITES = (0xC013, 0xC014, 0xC009, 0xC00A, 0x0033, 0x0039, 0x002F, 0x0035, 0xC012, 0x000A, 0x0005, 0x0004)
_WEAK_SUITES = (
    *(0x0004, 0x0005, 0xC011, 0xC007),  # RC4
    *(0x000A, 0x0016, 0xC012, 0xC008, 0x0009, 0x0015),  # 3DES, DES
    *(0x0001, 0x0002, 0x003B, 0xC010, 0xC006),  # no encryption
    *(0x0003, 0x0006, 0x0008, 0x0014),  # export grade
    *(0x0018, 0x001B, 0x0034, 0x003A, 0xC018, 0xC019),  # nobody authenticated
)
HELLOS: dict[str, tuple[int, tuple[int, ...]]] = {
    "ssl3": (0x0300, _OLD_SUITES),
    "tls1_0": (0x0301, _OLD_SUITES),
    "tls1_1": (0x0302, _OLD_SUITES),
    "weak_ciphers": (0x0303, _WEAK_SUITES),
}
"""What must be refused: name -> (version on the wire, cipher suites offered)."""

_NAME_DIFFERS = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_CHAIN_FAULTS = {10: "expired", 9: "not_yet_valid", 18: "self_signed", 19: "unknown_issuer", 20: "unknown_issuer"}


def handshake(wire: Wire, url: Url, ca_file: Path | None, now: datetime) -> dict[str, Any]:
    """One handshake that judges nothing and one that judges the certificate. Raises ``ProbeError``."""
    try:
        with wire.open(url.port) as conn:
            secured = secure(conn, lenient_context(), url)
            version, cipher = secured.version(), (secured.cipher() or ("", "", 0))
            certificate = secured.getpeercert(binary_form=True)
    except ProbeError as refused:
        if refused.outcome not in (Outcome.REFUSED, Outcome.GARBLED):
            raise
        return {"version": _newest_old(wire, url, refused), "cipher": None}
    seen = {"version": version, "cipher": cipher[0], "cipher_bits": cipher[2]}
    return seen | _certificate(certificate, now) | _judged(wire, url, ca_file)


def _newest_old(wire: Wire, url: Url, refused: ProbeError) -> str:
    """The version of a server that knows only old ones. Raises ``refused`` when it takes none of them either."""
    for name, shown in (("tls1_1", "TLSv1.1"), ("tls1_0", "TLSv1"), ("ssl3", "SSLv3")):
        if offer(wire, url, name) == "accepted":
            return shown
    raise refused


def _certificate(der: bytes | None, now: datetime) -> dict[str, Any]:
    """Figures of the certificate; names in it are not kept."""
    try:
        certificate = x509.load_der_x509_certificate(der or b"")
        key = certificate.public_key()
        hash_ = certificate.signature_hash_algorithm
    except (ValueError, TypeError, x509.UnsupportedGeneralNameType) as error:
        raise ProbeError(Outcome.GARBLED, f"the certificate cannot be read: {type(error).__name__}") from None
    kind = "rsa" if isinstance(key, rsa.RSAPublicKey) else "ec" if isinstance(key, ec.EllipticCurvePublicKey) else "-"
    return {
        "days_left": (certificate.not_valid_after_utc - now).days,
        "key_kind": kind,
        "key_bits": getattr(key, "key_size", None),
        "signature_hash": hash_.name if hash_ is not None else None,
    }


def _judged(wire: Wire, url: Url, ca_file: Path | None) -> dict[str, Any]:
    """Whether the chain leads to the hospital's own authority (or the system's), and whether the name fits."""
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError):
        return {"chain": None, "name_matches": None}  # no authority to judge by: nothing is claimed
    with wire.open(url.port) as conn:
        try:
            conn.start_tls(context, url.host)
        except ssl.SSLCertVerificationError as error:
            if error.verify_code in _NAME_DIFFERS:
                return {"chain": "valid", "name_matches": False}
            return {"chain": _CHAIN_FAULTS.get(error.verify_code, f"fault_{error.verify_code}"), "name_matches": None}
        except OSError:
            raise ProbeError(Outcome.GARBLED, "the second handshake broke") from None
    return {"chain": "valid", "name_matches": True}


def offer(wire: Wire, url: Url, name: str) -> str | None:
    """``accepted`` or ``refused``: what becomes of an old hello; None when the server neither takes nor refuses it."""
    version, suites = HELLOS[name]
    with wire.open(url.port, remember=False) as conn:
        try:
            conn.send(client_hello(version, suites, url.host))
            answer = conn.read(lambda got: len(got) >= 11, 2048)
        except ProbeError as failure:
            # A server that drops or ignores an old hello refuses it; silence alone proves nothing.
            return "refused" if failure.outcome is not Outcome.TIMEOUT else None
    if not answer or answer[0] == 21:
        return "refused"
    if len(answer) >= 11 and answer[0] == 22 and answer[5] == 2:
        return "accepted" if answer[9:11] == version.to_bytes(2, "big") else "refused"
    return None


def client_hello(version: int, suites: tuple[int, ...], host: str) -> bytes:
    """One ClientHello record (RFC 5246, 7.4.1.2; RFC 6066 for the name)."""
    wire_version = version.to_bytes(2, "big")
    offered = b"".join(suite.to_bytes(2, "big") for suite in suites)
    body = wire_version + os.urandom(32) + b"\0" + struct.pack("!H", len(offered)) + offered + b"\x01\0"
    if version > 0x0300:
        extensions = _extensions(host)
        body += struct.pack("!H", len(extensions)) + extensions
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16" + min(version, 0x0301).to_bytes(2, "big") + struct.pack("!H", len(message)) + message


def _extensions(host: str) -> bytes:
    def extension(kind: int, data: bytes) -> bytes:
        return struct.pack("!HH", kind, len(data)) + data

    signatures = bytes.fromhex("0401050106010403050306030201020302020101")
    found = extension(10, b"\0\6\0\x1d\0\x17\0\x18") + extension(11, b"\1\0")
    found += extension(13, struct.pack("!H", len(signatures)) + signatures)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("idna" if not host.isascii() else "ascii")
        found += extension(0, struct.pack("!HBH", len(name) + 3, 0, len(name)) + name)
    return found
