"""Looks at a service over the network as a client would: HTTP, TLS, DICOM, HL7, SMTP, PostgreSQL. It never raises.

It refuses to send anything to an address other than the asset's, to follow redirects, to log in, and to create,
change or read a record. Every reply is boiled down to figures before it is kept: no body, no cookie value, no name.
What an asset is asked comes from its ``emr_service``; a protocol that stands not there is ``not_supported``.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from controlplane.collect import service_dicom, service_talk, service_tls
from controlplane.collect.service_wire import HttpReply, ProbeError, Url, Wire, http_get, read_url
from controlplane.domain.model import Asset, Fact, Look, Outcome, Reply

_KEPT_HEADERS = (
    "content-security-policy",
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
)
_TRACE = {
    "java": re.compile(rb"\bat [\w.$]{3,200}\([\w$]{1,100}\.java:[0-9]{1,6}\)|java\.lang\.\w{1,60}(?:Exception|Error)"),
    "python": re.compile(rb"Traceback \(most recent call last\)"),
    "dotnet": re.compile(rb"System\.\w{1,60}Exception|Server Error in '[^']{0,200}' Application"),
    "php": re.compile(rb"(?:Fatal error|Warning|Parse error)(?:</b>)?: .{1,300} on line ", re.DOTALL),
    "sql": re.compile(rb"ORA-[0-9]{5}|SQLSTATE\[|You have an error in your SQL syntax|SqlException", re.IGNORECASE),
    "node": re.compile(rb"\bat [^\n]{1,200} \(?(?:file://)?/[^\n]{1,200}\.js:[0-9]{1,6}:[0-9]{1,6}"),
}
_VERSION = re.compile(r"/[0-9]+\.|\b[0-9]+\.[0-9]+")
_EXPOSED = {
    "/.git/HEAD": re.compile(rb"ref: refs/|[0-9a-f]{40}\s*$"),
    "/.env": re.compile(rb"^\s*(?:#[^\n]*\n\s*)*[A-Z][A-Z0-9_]{2,60}\s*=", re.MULTILINE),
    "/.svn/wc.db": re.compile(rb"SQLite format 3"),
    "/web.config": re.compile(rb"<configuration"),
}
NO_SUCH_PATH = "/emrctl-no-such-page-7f3a"
NO_SUCH_STUDY = "2.25.303985204610245673158093250347120"
"""A study that nobody has: a QIDO query for it proves the service and can bring no patient."""

_FROM_APP = "application/dicom+json"
_SAMPLES = 5


class Visit:
    """One look: the configuration, the wire, and what several questions share."""

    def __init__(self, asset: Asset, wire: Wire, ca_dir: Path, at: datetime) -> None:
        self.config: Mapping[str, Any] = asset.access.get("emr_service") or {}
        self.wire, self.at, self._ca_dir, self._asset = wire, at, ca_dir, asset

    @cached_property
    def url(self) -> Url:
        """The web service. Raises ``ProbeError`` when ``emr_service`` names none."""
        return read_url(str(self.part("url")))

    @property
    def host(self) -> str:
        """The name that certificates are compared with."""
        return self.url.host if "url" in self.config else str(self._asset.address)

    def part(self, name: str) -> Any:
        """One key of ``emr_service``. Raises ``ProbeError`` when it is missing."""
        if name not in self.config:
            raise ProbeError(Outcome.NOT_SUPPORTED, f"emr_service names no {name}: nothing was sent")
        return self.config[name]

    @property
    def ca_file(self) -> Path | None:
        """The authority that the certificate must lead to; None: the system's own."""
        name = self.config.get("ca_file")
        return self._ca_dir / str(name) if name else None

    def get(self, path: str, accept: str = "*/*", limit: int = 65536) -> HttpReply:
        """GET below the service's base path."""
        return http_get(self.wire, self.url, f"{self.url.base}{path}", accept, limit)

    @cached_property
    def health(self) -> HttpReply:
        """The health page, fetched once a look."""
        return self.get(str(self.config.get("health", "/")))

    @cached_property
    def association(self) -> dict[str, Any]:
        """One DICOM association, asked once a look. Raises ``ProbeError``."""
        return service_dicom.converse(self.wire, self.part("dicom"), self.host)

    @cached_property
    def tls(self) -> Url:
        """The web service, which must be https. Raises ``ProbeError``."""
        if not self.url.secure:
            raise ProbeError(Outcome.NOT_SUPPORTED, "the service is declared as plain http: there is no TLS to ask")
        return self.url


# ------------------------------------------------------------------------------------- what is asked


def _http(visit: Visit) -> dict[str, Any]:
    reply = visit.health
    return {
        "encrypted": visit.url.secure,
        "status": reply.status,
        "time_ms": reply.took_ms,
        "server_names_version": _names_version(reply),
        "redirect": _redirect(visit.url, reply),
        "headers": {name: reply.header(name)[:400] for name in _KEPT_HEADERS if reply.header(name)},
    }


def _names_version(reply: HttpReply) -> bool:
    told = " ".join(reply.header(name) for name in ("server", "x-powered-by", "x-aspnet-version"))
    return _VERSION.search(told) is not None


def _redirect(url: Url, reply: HttpReply) -> str | None:
    """``https``, ``http`` or ``elsewhere``: where the reply points; None when it points nowhere."""
    target = reply.header("location")
    if not 300 <= reply.status < 400 or not target:
        return None
    own = f"{'https' if url.secure else 'http'}://{url.named}/"
    try:
        to = read_url(urljoin(own, target.split("#")[0].split("?")[0]))
    except ValueError:
        return "elsewhere"
    if to.host != url.host:
        return "elsewhere"
    return "https" if to.secure else "http"


def _response(visit: Visit) -> dict[str, Any]:
    times = [visit.get(str(visit.config.get("health", "/"))).took_ms for _ in range(_SAMPLES)]
    return {"times_ms": times}


def _session(visit: Visit) -> dict[str, Any]:
    cookies = [_cookie(value, visit.at) for name, value in visit.health.headers if name == "set-cookie"]
    return {"encrypted": visit.url.secure, "cookies": cookies}


def _cookie(line: str, at: datetime) -> dict[str, Any]:
    """The attributes of one Set-Cookie (RFC 6265); its name and its value are not kept."""
    attributes = {}
    for part in line.split(";")[1:]:
        key, _, value = part.strip().partition("=")
        attributes[key.lower()] = value.strip()
    return {
        "secure": "secure" in attributes,
        "http_only": "httponly" in attributes,
        "same_site": attributes.get("samesite", "").lower() or None,
        "lifetime_seconds": _lifetime(attributes, at),
    }


def _lifetime(attributes: Mapping[str, str], at: datetime) -> int | None:
    """Seconds that the browser keeps a cookie; None for a cookie that ends with the browser. Max-Age goes first."""
    age = attributes.get("max-age", "")
    if re.fullmatch(r"-?[0-9]{1,12}", age, re.ASCII):
        return max(0, int(age))
    try:
        ends = parsedate_to_datetime(attributes["expires"])
        return max(0, round((ends - at).total_seconds()))
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def _error_page(visit: Visit) -> dict[str, Any]:
    reply = visit.get(NO_SUCH_PATH)
    traces = [name for name, pattern in _TRACE.items() if pattern.search(reply.body)]
    return {"status": reply.status, "traces": traces, "server_names_version": _names_version(reply)}


def _exposed(visit: Visit) -> dict[str, Any]:
    found = []
    for path, pattern in _EXPOSED.items():
        reply = http_get(visit.wire, visit.url, path, limit=4096)
        if reply.status == 200 and pattern.search(reply.body):
            found.append(path)
    return {"asked": len(_EXPOSED), "exposed": found}


def _plain_ports(visit: Visit) -> dict[str, Any]:
    """What the plain port does. Nothing is said of it unless the service itself answers: a dead host proves nothing."""
    _ = visit.health
    if not visit.url.secure:
        return {"plain": "serves"}
    plain = Url(False, visit.url.host, int(visit.config.get("plain_port", 80)), "")
    try:
        reply = http_get(visit.wire, plain, "/")
    except ProbeError as failure:
        words = {Outcome.REFUSED: "closed", Outcome.TIMEOUT: "silent", Outcome.UNREACHABLE: "silent"}
        return {"plain": words.get(failure.outcome, "other")}
    return {"plain": "redirects" if _redirect(plain, reply) == "https" else "serves"}


def _tls(visit: Visit) -> dict[str, Any]:
    return service_tls.handshake(visit.wire, visit.tls, visit.ca_file, visit.at)


def _tls_old(visit: Visit) -> dict[str, Any]:
    return {name: service_tls.offer(visit.wire, visit.tls, name) for name in service_tls.HELLOS}


def _security_txt(visit: Visit) -> dict[str, Any]:
    """The machine-readable contact of RFC 9116; the contacts themselves are not kept, only their kinds."""
    reply = http_get(visit.wire, visit.url, "/.well-known/security.txt")
    kind = reply.header("content-type").split(";")[0].strip().lower()
    if reply.status != 200 or kind != "text/plain":
        return {"present": False}
    fields = re.findall(r"(?m)^(Contact|Expires): *(\S.*?) *\r?$", reply.body.decode("utf-8", "replace"))
    contacts = [value.partition(":")[0].lower() for name, value in fields if name == "Contact"]
    expires = next((value for name, value in fields if name == "Expires"), "")
    return {
        "present": True,
        "contacts": sorted(c for c in contacts if c in ("mailto", "https", "tel")),
        "days_left": _days_until(expires, visit.at),
    }


def _days_until(text: str, at: datetime) -> int | None:
    try:
        ends = datetime.fromisoformat(text)
        return (ends - at).days
    except (ValueError, TypeError, OverflowError):  # no time zone, or no day at all
        return None


def _json_of(reply: HttpReply) -> Any:
    if reply.status in (401, 403):
        raise ProbeError(Outcome.AUTH_FAILED, f"the service wants a log-in first (HTTP {reply.status})")
    if reply.status == 204:
        return []
    if reply.status != 200:
        raise ProbeError(Outcome.NOT_SUPPORTED, f"the service does not know this question (HTTP {reply.status})")
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        raise ProbeError(Outcome.GARBLED, "the answer is no JSON, or is cut") from None


def _fhir(visit: Visit) -> dict[str, Any]:
    told = _json_of(visit.get(f"{visit.part('fhir')}/metadata", "application/fhir+json", limit=2_000_000))
    if not isinstance(told, dict):
        raise ProbeError(Outcome.GARBLED, "the answer is no FHIR resource")
    rest = told.get("rest")
    first = rest[0] if isinstance(rest, list) and rest and isinstance(rest[0], dict) else {}
    resources = first.get("resource")
    kinds = {r.get("type") for r in resources if isinstance(r, dict)} if isinstance(resources, list) else set()
    version = told.get("fhirVersion")
    return {
        "resource_type": str(told.get("resourceType", ""))[:60],
        "fhir_version": version if isinstance(version, str) and re.fullmatch(r"[0-9]\.[0-9.]{1,12}", version) else None,
        "resources": sorted(k for k in kinds if isinstance(k, str) and re.fullmatch(r"[A-Z][A-Za-z]{1,60}", k)),
    }


def _dicomweb(visit: Visit) -> dict[str, Any]:
    path = f"{visit.part('dicomweb')}/studies?StudyInstanceUID={NO_SUCH_STUDY}&limit=1"
    told = _json_of(visit.get(path, _FROM_APP))
    if not isinstance(told, list):
        raise ProbeError(Outcome.GARBLED, "the answer is no QIDO-RS list")
    return {"answers": True, "studies": len(told), "encrypted": visit.url.secure}


def _viewer(visit: Visit) -> dict[str, Any]:
    reply = visit.get(str(visit.part("viewer")), "text/html")
    html = reply.header("content-type").split(";")[0].strip().lower() in ("text/html", "application/xhtml+xml")
    return {"status": reply.status, "html": html, "redirect": _redirect(visit.url, reply)}


def _dicom(visit: Visit) -> dict[str, Any]:
    return visit.association


def _stranger(visit: Visit) -> dict[str, Any]:
    """How a title that nobody knows fares; asked only where our own title is let in, or its refusal proves nothing."""
    _ = visit.association
    return service_dicom.as_stranger(visit.wire, visit.part("dicom"), visit.host)


def _reach(visit: Visit) -> dict[str, Any]:
    port = int(visit.part("tcp")["port"])
    began = time.monotonic()
    with visit.wire.open(port):
        return {"open": True, "time_ms": round((time.monotonic() - began) * 1000)}


PROBES: Mapping[str, Callable[[Visit], dict[str, Any]]] = {
    "service.http": _http,
    "service.response": _response,
    "service.session": _session,
    "service.error_page": _error_page,
    "service.exposed": _exposed,
    "service.plain_ports": _plain_ports,
    "service.tls": _tls,
    "service.security_txt": _security_txt,
    "service.fhir": _fhir,
    "service.dicomweb": _dicomweb,
    "service.viewer": _viewer,
    "service.dicom": _dicom,
    "service.dicom_contexts": _dicom,
    "service.dicom_stranger": _stranger,
    "service.hl7": lambda v: service_talk.hl7_ask(v.wire, v.part("hl7"), v.host, v.at),
    "service.smtp": lambda v: service_talk.smtp_ask(v.wire, v.part("smtp"), v.host),
    "service.sql": lambda v: service_talk.sql_ask(v.wire, v.part("sql"), v.host),
    "service.reach": _reach,
    "service.tls_old": _tls_old,
}
"""Fact -> how it is asked, in this order: last the one that may have to wait for a server that ignores old hellos."""


# ------------------------------------------------------------------------------------- the transport


class ServiceTransport:
    """Asks one service everything that its ``emr_service`` allows, one question after the other."""

    name = "service"
    family = "service"
    collector = "service/1"

    def __init__(self, *, ca_dir: Path, step_seconds: float = 5.0) -> None:
        """``ca_dir`` holds the hospital's authorities (``ca_file``); ``step_seconds`` bounds one exchange."""
        self._ca_dir, self._step = ca_dir, step_seconds

    def look(self, asset: Asset, facts: Sequence[Fact], deadline_seconds: float, clock: Callable[[], datetime]) -> Look:
        """One look; replies to ``facts`` in their order. It never raises."""
        at, began = clock(), time.monotonic()
        if asset.address is None:
            return self._look(asset, Outcome.NO_ADDRESS, at, began, "no address yet: nothing was sent")
        if not asset.access.get("emr_service"):
            words = "the inventory names no emr_service: nothing was sent"
            return self._look(asset, Outcome.NOT_SUPPORTED, at, began, words)
        try:
            visit = Visit(asset, Wire(asset.address, deadline_seconds, self._step), self._ca_dir, at)
        except ProbeError as failure:
            return self._look(asset, failure.outcome, at, began, failure.detail)
        order = list(PROBES)
        asked = {f.name: _ask(visit, f) for f in sorted(facts, key=lambda f: order.index(f.name))}
        replies = tuple(asked[fact.name] for fact in facts)
        outcome, detail = _overall(replies)
        return self._look(asset, outcome, at, began, detail, replies)

    def _look(
        self,
        asset: Asset,
        outcome: Outcome,
        at: datetime,
        began: float,
        detail: str,
        replies: tuple[Reply, ...] = (),
    ) -> Look:
        lasted = round((time.monotonic() - began) * 1000)
        return Look(asset.name, self.name, outcome, at, lasted, self.collector, detail, replies)


def _ask(visit: Visit, fact: Fact) -> Reply:
    try:
        seen = PROBES[fact.name](visit)
        raw = json.dumps(seen, ensure_ascii=False, sort_keys=True).encode()
    except ProbeError as failure:
        return Reply(fact.name, failure.outcome, fact.ask, b"", failure.detail)
    except Exception as error:  # whatever a stranger's bytes did to a parser, the other questions are still asked
        detail = f"the answer could not be taken apart: {type(error).__name__}"
        return Reply(fact.name, Outcome.GARBLED, fact.ask, b"", detail)
    return Reply(fact.name, Outcome.ANSWERED, fact.ask, raw)


def _overall(replies: Sequence[Reply]) -> tuple[Outcome, str]:
    """Answered when anything was; else the word of the first question that was really sent."""
    if any(reply.outcome is Outcome.ANSWERED for reply in replies):
        return Outcome.ANSWERED, ""
    sent = [reply for reply in replies if reply.outcome is not Outcome.NOT_SUPPORTED]
    first = (sent or list(replies) or [Reply("", Outcome.NOT_SUPPORTED, "", b"", "nothing is asked")])[0]
    return first.outcome, first.detail
