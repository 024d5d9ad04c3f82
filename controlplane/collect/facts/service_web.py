"""What a web service shows without a log-in: how it answers, how its TLS stands, what it gives away.

It refuses to keep a page, a cookie or a name: the transport reduces every reply to figures before it is kept.
"""

from __future__ import annotations

import re

from controlplane.collect.facts.service_text import Answer, one_of, step_ms, tens_of_days
from controlplane.domain.model import Fact, Value

MODERN = ("TLSv1.2", "TLSv1.3")
_VERSIONS = ("SSLv3", "TLSv1", "TLSv1.1", *MODERN)
_WEAK_CIPHER = re.compile(r"RC4|3DES|DES-CBC|NULL|EXP|ADH|AECDH|MD5|_anon_", re.IGNORECASE)
_FORWARD = re.compile(r"^(?:TLS_|ECDHE|DHE)")
_OLD = ("ssl3", "tls1_0", "tls1_1", "weak_ciphers")
_HTTP = "HTTP: RFC 9110"


def _status(answer: Answer) -> int:
    status = answer.integer("status")
    if not 100 <= status <= 999:
        raise ValueError(f"{status} is no HTTP status")
    return status


def _http(raw: str) -> Value:
    """Whether it answers, over TLS, with which guards. 401 and 403 are answers: a log-in page is at home."""
    answer = Answer(raw)
    status, headers = _status(answer), answer.part("headers")
    frames = headers.maybe_text("x-frame-options") or ""
    policy = headers.maybe_text("content-security-policy") or ""
    redirect = answer.maybe_text("redirect")
    answer.integer("time_ms")
    return {
        "status": status,
        "answers": status < 400 or status in (401, 403),
        "encrypted": answer.flag("encrypted"),
        "redirect": None if redirect is None else one_of(redirect, ("https", "http", "elsewhere")),
        "hides_version": not answer.flag("server_names_version"),
        "hsts_days": _hsts_days(headers.maybe_text("strict-transport-security") or ""),
        "no_sniffing": (headers.maybe_text("x-content-type-options") or "").strip().lower() == "nosniff",
        "frames_guarded": frames.strip().lower() in ("deny", "sameorigin") or "frame-ancestors" in policy,
        "content_policy": bool(re.search(r"(default|script)-src", policy)),
    }


def _hsts_days(header: str) -> int:
    found = re.search(r'(?i)max-age\s*=\s*"?([0-9]{1,11})', header, re.ASCII)
    return int(found[1]) // 86_400 if found else 0


def _response(raw: str) -> Value:
    """The median and the slowest of several answers, in steps."""
    times = sorted(Answer(raw).integers("times_ms"))
    if not times:
        raise ValueError("no time was measured")
    return {"median_ms": step_ms(times[len(times) // 2]), "slowest_ms": step_ms(times[-1]), "asked": len(times)}


def _session(raw: str) -> Value:
    """Cookies by their attributes; every figure but the number is None when no cookie was set: nothing was seen."""
    answer = Answer(raw)
    cookies = answer.rows("cookies")
    answer.flag("encrypted")
    lifetimes = [cookie.maybe_integer("lifetime_seconds") or 0 for cookie in cookies]
    insecure = sum(not cookie.flag("secure") for cookie in cookies)
    readable = sum(not cookie.flag("http_only") for cookie in cookies)
    foreign = sum(cookie.maybe_text("same_site") not in ("lax", "strict") for cookie in cookies)
    return {
        "cookies": len(cookies),
        "insecure": insecure if cookies else None,
        "script_readable": readable if cookies else None,
        "cross_site": foreign if cookies else None,
        "longest_minutes": -(-max(lifetimes) // 60) if cookies else None,
    }


def _error_page(raw: str) -> Value:
    """What a page that does not exist gives away of the program behind it."""
    answer = Answer(raw)
    traces = answer.words("traces")
    return {
        "status": _status(answer),
        "traces": len(traces),
        "kinds": traces,
        "hides_version": not answer.flag("server_names_version"),
    }


def _exposed(raw: str) -> Value:
    """Files of the developer's workshop that anybody may fetch."""
    answer = Answer(raw)
    paths = answer.words("exposed")
    return {"asked": answer.integer("asked"), "exposed": len(paths), "paths": paths}


def _plain_ports(raw: str) -> Value:
    """closed, silent and redirects keep users off the plain port; serves does not."""
    word = one_of(Answer(raw).text("plain"), ("closed", "silent", "redirects", "serves", "other"))
    return {"plain": word, "protected": None if word == "other" else word != "serves"}


def _tls(raw: str) -> Value:
    """The agreed version and cipher and the certificate. A server that knows old versions only has no more figures."""
    answer = Answer(raw)
    version = one_of(answer.text("version"), _VERSIONS)
    cipher = answer.maybe_text("cipher")
    if cipher is None:
        return {"version": version, "modern": version in MODERN}
    chain = answer.maybe_text("chain")
    return {
        "version": version,
        "modern": version in MODERN,
        "cipher": cipher,
        "strong_cipher": answer.integer("cipher_bits") >= 128 and not _WEAK_CIPHER.search(cipher),
        "forward_secrecy": _FORWARD.search(cipher) is not None,
        "days_left": tens_of_days(answer.integer("days_left")),
        "chain": chain,
        "chain_valid": None if chain is None else chain == "valid",
        "name_matches": answer.maybe_flag("name_matches"),
        "strong_key": _strong_key(answer.text("key_kind"), answer.maybe_integer("key_bits")),
        "strong_signature": answer.maybe_text("signature_hash") not in ("md5", "sha1"),
    }


def _strong_key(kind: str, bits: int | None) -> bool:
    """RSA from 2048 bits, elliptic curves from 256; Ed25519 and Ed448 have no size to choose."""
    if kind == "rsa":
        return (bits or 0) >= 2048
    return kind != "ec" or (bits or 0) >= 256


def _tls_old(raw: str) -> Value:
    """Which old versions and weak ciphers are still taken; None when one hello met silence and none was taken."""
    answer = Answer(raw)
    told = {name: answer.maybe_text(name) for name in _OLD}
    words = {name: None if word is None else one_of(word, ("accepted", "refused")) for name, word in told.items()}
    accepted = [name for name, word in words.items() if word == "accepted"]
    certain = bool(accepted) or None not in words.values()
    return {"accepted": accepted, "accepted_count": len(accepted) if certain else None}


def _security_txt(raw: str) -> Value:
    """A published way to report a weakness: present, with a contact, not expired."""
    answer = Answer(raw)
    if not answer.flag("present"):
        return {"present": False, "valid": False}
    contacts, days = answer.words("contacts"), answer.maybe_integer("days_left")
    return {
        "present": True,
        "contacts": len(contacts),
        "days_left": None if days is None else tens_of_days(days),
        "valid": bool(contacts) and days is not None and days >= 0,
    }


def _viewer(raw: str) -> Value:
    """Whether the address of the image viewer gives a web page; what the page can show is not seen from here."""
    answer = Answer(raw)
    status = _status(answer)
    answer.maybe_text("redirect")
    return {"status": status, "page": status == 200 and answer.flag("html")}


def _reach(raw: str) -> Value:
    """Whether the port takes a connection."""
    answer = Answer(raw)
    answer.integer("time_ms")
    return {"open": answer.flag("open")}


FACTS: tuple[Fact, ...] = (
    Fact("service.http", "service", "GET health", _http, "days for HSTS", f"{_HTTP}; HSTS: RFC 6797"),
    Fact("service.response", "service", "GET health, five times", _response, "milliseconds, in steps", _HTTP),
    Fact(
        "service.session",
        "service",
        "GET health: attributes of Set-Cookie",
        _session,
        "cookies; minutes of the longest lifetime, 0 for a cookie that ends with the browser",
        "RFC 6265",
    ),
    Fact("service.error_page", "service", "GET a page that does not exist", _error_page, "kinds of traces", _HTTP),
    Fact(
        "service.exposed",
        "service",
        "GET /.git/HEAD /.env /.svn/wc.db /web.config: whether they are what their name says",
        _exposed,
        "files",
        _HTTP,
    ),
    Fact("service.plain_ports", "service", "GET / on the plain HTTP port", _plain_ports, "-", _HTTP),
    Fact(
        "service.tls",
        "service",
        "TLS handshake, twice: once to look, once to judge the certificate",
        _tls,
        "days left, rounded down to tens",
        "TLS 1.2 and 1.3: RFC 5246, RFC 8446; certificates: RFC 5280",
    ),
    Fact(
        "service.tls_old",
        "service",
        "TLS ClientHello of SSL 3.0, TLS 1.0, TLS 1.1, and of TLS 1.2 with weak cipher suites only",
        _tls_old,
        "hellos accepted",
        "RFC 8996, RFC 7465, RFC 7568",
    ),
    Fact(
        "service.security_txt",
        "service",
        "GET /.well-known/security.txt: kinds of contacts and the day it expires",
        _security_txt,
        "days left, rounded down to tens",
        "RFC 9116",
    ),
    Fact("service.viewer", "service", "GET viewer", _viewer, "-", _HTTP),
    Fact("service.reach", "service", "TCP connect", _reach, "-", "TCP: RFC 9293"),
)
