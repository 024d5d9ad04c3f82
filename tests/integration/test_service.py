"""The service collector against real programs on loopback, and against listeners that misbehave on purpose."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import logging
import socket
import ssl
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from controlplane.bootstrap import init_store
from controlplane.collect.facts import SERVICE_FACTS
from controlplane.collect.gather import gather, observe, questions
from controlplane.collect.service import PROBES, ServiceTransport
from controlplane.domain.model import Asset, Look, Observation, Outcome, Words
from controlplane.settings import Settings
from tests.conftest import ROOT
from tests.integration import service_peers as peers
from tests.integration.service_peers import HOST, ME

FACTS = {fact.name: fact for fact in SERVICE_FACTS}


def now() -> datetime:
    return datetime.now(UTC)


def an_endpoint(service: dict[str, Any] | None, address: str | None = ME) -> Asset:
    access = {} if service is None else {"emr_service": service}
    return Asset("ep-01", "service", ("his",), Words("a", "a"), transports=("service",), address=address, access=access)


def everything_on(port: int) -> dict[str, Any]:
    """One port is asked every protocol there is."""
    return {
        "url": f"https://{HOST}:{port}",
        "plain_port": port,
        "fhir": "/fhir",
        "viewer": "/viewer",
        "dicomweb": "/dicom-web",
        "dicom": {"port": port, "called_aet": "PACS", "calling_aet": "EMRCTL"},
        "hl7": {"port": port},
        "smtp": {"port": port},
        "sql": {"port": port, "engine": "postgresql"},
        "tcp": {"port": port},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def ca(folder: Path) -> peers.Authority:
    return peers.Authority(folder / "ca")


@pytest.fixture(scope="module")
def pair(ca: peers.Authority) -> peers.Pair:
    return ca.issue("good")


@pytest.fixture(scope="module")
def look(folder: Path):
    def looks(service: dict[str, Any] | None, deadline: float = 60, step: float = 5, address: str | None = ME) -> Look:
        transport = ServiceTransport(ca_dir=folder / "ca", step_seconds=step)
        return transport.look(an_endpoint(service, address), SERVICE_FACTS, deadline, now)

    return looks


def seen(look: Look) -> dict[str, Observation]:
    assert [reply.fact for reply in look.replies] == [fact.name for fact in SERVICE_FACTS]
    return {o.fact: o for o in observe(look, SERVICE_FACTS)}


def values(look: Look) -> dict[str, Any]:
    return {name: o.value for name, o in seen(look).items() if o.outcome is Outcome.ANSWERED}


# ---------------------------------------------------------------------------------------------- the web


@pytest.fixture(scope="module")
def good(folder: Path, pair: peers.Pair) -> Iterator[peers.Web]:
    with peers.nginx(folder / "good", peers.GOOD, pair) as web:
        yield web


def good_service(web: peers.Web, **more: Any) -> dict[str, Any]:
    return {
        "url": f"https://{HOST}:{web.port}",
        "health": "/health",
        "plain_port": web.plain,
        "ca_file": "ca.pem",
    } | more


def test_a_sound_web_service_is_read_in_every_figure(good, look):
    found = values(look(good_service(good, fhir="/fhir", viewer="/viewer")))
    assert found["service.http"] == {
        "status": 200,
        "answers": True,
        "encrypted": True,
        "redirect": None,
        "hides_version": True,
        "hsts_days": 365,
        "no_sniffing": True,
        "frames_guarded": True,
        "content_policy": True,
    }
    assert found["service.session"] == {
        "cookies": 1,
        "insecure": 0,
        "script_readable": 0,
        "cross_site": 0,
        "longest_minutes": 10,
    }
    tls = found["service.tls"]
    assert (tls["version"], tls["chain"], tls["name_matches"], tls["days_left"]) == ("TLSv1.3", "valid", True, 360)
    assert tls["strong_cipher"]
    assert tls["forward_secrecy"]
    assert found["service.tls_old"] == {"accepted": [], "accepted_count": 0}
    assert found["service.plain_ports"] == {"plain": "redirects", "protected": True}
    assert found["service.error_page"] == {"status": 404, "traces": 0, "kinds": [], "hides_version": True}
    assert found["service.exposed"] == {"asked": 4, "exposed": 0, "paths": []}
    assert found["service.security_txt"]["valid"] is True
    assert found["service.fhir"] == {"capability": True, "version": "4.0.1", "resources": 3, "documents": True}
    assert found["service.viewer"] == {"status": 200, "page": True}
    assert found["service.response"]["asked"] == 5


def test_a_protocol_that_is_not_configured_is_not_asked(good, look):
    outcomes = {name: o.outcome for name, o in seen(look(good_service(good))).items()}
    for name in ("service.dicom", "service.hl7", "service.smtp", "service.sql", "service.fhir", "service.reach"):
        assert outcomes[name] is Outcome.NOT_SUPPORTED, name
    assert outcomes["service.http"] is Outcome.ANSWERED


@pytest.fixture(scope="module")
def sloppy(folder: Path, pair: peers.Pair) -> Iterator[tuple[peers.Web, list[bytes]]]:
    def hang_up(peer: socket.socket) -> None:
        peer.recv(100)

    with (
        peers.listener(hang_up, "127.0.0.2") as (port, heard),
        peers.nginx(folder / "sloppy", peers.SLOPPY, pair, elsewhere=port) as web,
    ):
        yield web, heard


def test_every_weakness_of_a_sloppy_service_is_seen(sloppy, look):
    web, _ = sloppy
    found = values(look(good_service(web)))
    assert found["service.http"]["hides_version"] is False
    assert found["service.http"]["hsts_days"] == 0
    assert found["service.session"]["insecure"] == found["service.session"]["script_readable"] == 1
    assert found["service.session"]["longest_minutes"] == 1440
    assert found["service.error_page"]["kinds"] == ["java"]
    assert found["service.exposed"]["paths"] == ["/.env", "/.git/HEAD"]
    assert found["service.plain_ports"] == {"plain": "serves", "protected": False}
    assert found["service.tls_old"]["accepted"] == ["tls1_0", "tls1_1", "weak_ciphers"]
    assert found["service.security_txt"] == {"present": False, "valid": False}


def test_no_cookie_value_no_secret_and_no_page_is_kept(sloppy, look):
    web, _ = sloppy
    kept = b"".join(reply.raw for reply in look(good_service(web)).replies)
    assert kept
    for secret in (b"SECRETCOOKIEVALUE", b"SECRETINENV", b"NullPointer", b"refs/heads"):
        assert secret not in kept


def test_a_redirect_to_another_host_is_reported_and_not_followed(sloppy, look):
    web, heard = sloppy
    found = values(look(good_service(web, health="/away")))
    assert found["service.http"]["redirect"] == "elsewhere"
    time.sleep(0.3)
    assert heard == [], "something was sent to the other host"


def test_a_server_of_tls_1_0_only_is_named_as_such_and_gets_no_request(folder, pair, look):
    with peers.nginx(folder / "ancient", peers.ANCIENT, pair) as web:
        observed = seen(look(good_service(web)))
        assert observed["service.tls"].value == {"version": "TLSv1", "modern": False}
        assert observed["service.http"].outcome is Outcome.REFUSED
        assert (folder / "ancient" / "access.log").read_text() == ""


@pytest.mark.parametrize(
    ("options", "chain", "name_matches"),
    [
        ({"days": -3}, "expired", None),
        ({"own": True}, "self_signed", None),
        ({"host": "other.invalid"}, "valid", False),
    ],
    ids=["expired", "self-signed", "another name"],
)
def test_a_bad_certificate_is_judged_and_the_service_is_still_read(folder, ca, look, options, chain, name_matches):
    bad = ca.issue("bad-" + "-".join(options), **options)
    with peers.nginx(folder / f"bad-{chain}-{name_matches}", peers.GOOD, bad) as web:
        found = values(look(good_service(web)))
        assert found["service.tls"]["chain"] == chain
        assert found["service.tls"]["chain_valid"] is (chain == "valid")
        assert found["service.tls"]["name_matches"] is name_matches
        assert found["service.http"]["answers"] is True
        if chain == "expired":
            assert found["service.tls"]["days_left"] < 0


def test_a_short_key_is_seen(folder, ca, look):
    weak = ca.issue("weak", bits=1024)
    template = peers.GOOD.replace("ECDHE+AESGCM", "ECDHE+AESGCM:@SECLEVEL=0")
    with peers.nginx(folder / "weak", template, weak) as web:
        observed = seen(look(good_service(web)))["service.tls"]
        # Debian's own OpenSSL refuses keys below its security level: then that refusal is the answer.
        assert observed.outcome is Outcome.REFUSED or observed.value["strong_key"] is False


def test_without_the_hospitals_authority_the_chain_is_not_trusted(good, look):
    service = {"url": f"https://{HOST}:{good.port}", "plain_port": good.plain}
    assert values(look(service))["service.tls"]["chain_valid"] is False
    missing = values(look(service | {"ca_file": "no-such.pem"}))["service.tls"]
    assert missing["chain_valid"] is None, "without an authority nothing may be claimed"


def test_a_server_that_ignores_old_hellos_is_undecided_and_costs_the_other_questions_nothing(pair, look):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)

    def modern_only(peer: socket.socket) -> None:
        hello = peer.recv(4096, socket.MSG_PEEK)
        if b"\x00\x2b" not in hello:  # the extension supported_versions, which only TLS 1.3 clients send
            time.sleep(5)
            return
        with context.wrap_socket(peer, server_side=True) as secured:
            secured.recv(4096)
            secured.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            secured.recv(1)  # it keeps the connection open although it was asked to close it

    with peers.listener(modern_only) as (port, _):
        service = {
            "url": f"https://{HOST}:{port}",
            "plain_port": peers.free_port(),
            "dicomweb": "/dw",
            "ca_file": "ca.pem",
        }
        found = values(look(service, deadline=30, step=1))
        assert found["service.tls_old"] == {"accepted": [], "accepted_count": None}
        assert found["service.tls"]["version"] == "TLSv1.3"
        assert found["service.dicomweb"]["answers"] is True
        assert found["service.plain_ports"] == {"plain": "closed", "protected": True}


# ------------------------------------------------------------------------------------------------ DICOM


@pytest.fixture(scope="module")
def archive(folder: Path) -> Iterator[peers.Archive]:
    with peers.orthanc(folder / "orthanc") as archive:
        yield archive


def dicom_of(archive: peers.Archive, **changes: Any) -> dict[str, Any]:
    return {"dicom": {"port": archive.dicom, "called_aet": "PACS", "calling_aet": "EMRCTL"} | changes}


def test_an_archive_answers_echo_and_says_what_it_would_take(archive, look):
    found = values(look(dicom_of(archive) | {"url": f"http://{ME}:{archive.http}", "dicomweb": "/dicom-web"}))
    assert found["service.dicom"]["echo"] == "success"
    assert found["service.dicom"]["encrypted"] is False
    assert found["service.dicom_contexts"]["missing_count"] == 0
    assert found["service.dicom_contexts"]["worklist"] is True
    assert found["service.dicom_contexts"]["performed_step"] is False
    assert found["service.dicom_stranger"] == {"association": "rejected", "turned_away": True}
    assert found["service.dicomweb"] == {"answers": True, "encrypted": False}


def test_nothing_was_left_in_the_archive(archive, look):
    look(dicom_of(archive) | {"url": f"http://{ME}:{archive.http}", "dicomweb": "/dicom-web"})
    connection = http.client.HTTPConnection(ME, archive.http, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/statistics")
        counts = json.loads(connection.getresponse().read())
    assert {counts[name] for name in ("CountPatients", "CountStudies", "CountSeries", "CountInstances")} == {0}


@pytest.mark.parametrize("changes", [{"calling_aet": "NOBODY"}, {"called_aet": "WRONG"}], ids=["calling", "called"])
def test_an_unknown_title_is_auth_failed_and_proves_nothing_about_strangers(archive, look, changes):
    observed = seen(look(dicom_of(archive, **changes)))
    for name in ("service.dicom", "service.dicom_contexts", "service.dicom_stranger"):
        assert observed[name].outcome is Outcome.AUTH_FAILED, name


def test_an_open_archive_over_tls_is_encrypted_and_lets_strangers_in(folder, ca, pair, look):
    with peers.orthanc(folder / "orthanc-tls", tls=pair, ca=ca.file, open_=True) as archive:
        found = values(look(dicom_of(archive, tls=True)))
        assert found["service.dicom"]["encrypted"] is True
        assert found["service.dicom_stranger"]["turned_away"] is False
        plain = seen(look(dicom_of(archive), deadline=10, step=2))
        assert plain["service.dicom"].outcome in (Outcome.GARBLED, Outcome.TIMEOUT, Outcome.REFUSED)


def test_without_the_extra_library_dicom_is_not_supported_with_a_sentence(archive):
    program = """
import sys
sys.modules["pynetdicom"] = None
from tests.integration.test_service import *
service = {"dicom": {"port": int(sys.argv[1]), "called_aet": "PACS", "calling_aet": "EMRCTL"}}
done = ServiceTransport(ca_dir=Path("/nonexistent")).look(an_endpoint(service), SERVICE_FACTS, 10, now)
print({r.fact: (r.outcome.value, r.detail) for r in done.replies}["service.dicom"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(archive.dicom)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "not_supported" in done.stdout
    assert "interop" in done.stdout


# ------------------------------------------------------------------------------- HL7, mail, databases


@pytest.mark.parametrize("code", ["AA", "AE", "AR"])
def test_any_acknowledgement_proves_an_hl7_listener(folder, look, code):
    with peers.mllp(folder / f"mllp-{code}", code) as port:
        found = values(look({"hl7": {"port": port, "application": "LIS", "facility": "BV"}}))
        assert found["service.hl7"] == {
            "listens": True,
            "acknowledgement": code,
            "version": "2.5",
            "encrypted": False,
        }
        told = (folder / f"mllp-{code}" / f"mllp-{port}.log").read_text().split()
        assert told == ["NMQ^N01^NMQ_N01"], "one harmless query, nothing else"


def test_hl7_over_tls_is_seen_as_encrypted(folder, pair, look):
    with peers.mllp(folder / "mllp-tls", pair=pair) as port:
        assert values(look({"hl7": {"port": port, "tls": True}}))["service.hl7"]["encrypted"] is True


def test_a_mail_server_with_and_without_starttls(folder, pair, look):
    with peers.smtp(folder / "smtp", pair) as port:
        with_tls = values(look({"smtp": {"port": port}}))["service.smtp"]
        assert with_tls == {"answers": True, "starttls": True, "encrypted": True, "log_in_before_tls": False}
    with peers.smtp(folder / "smtp", None) as port:
        assert values(look({"smtp": {"port": port}}))["service.smtp"]["encrypted"] is False


@pytest.mark.parametrize(
    ("rules", "tls", "plain"),
    [
        ("hostssl all all 127.0.0.1/32 scram-sha-256\n", True, "refused"),
        ("host all all 127.0.0.1/32 scram-sha-256\n", True, "log_in"),
        ("host all all 127.0.0.1/32 trust\n", False, "open"),
    ],
    ids=["TLS only", "TLS or not", "anybody"],
)
def test_a_database_shows_whether_it_lets_a_log_in_go_without_tls(pair, look, rules, tls, plain):
    with peers.postgresql(rules, pair if tls else None) as port:
        found = values(look({"sql": {"port": port, "engine": "postgresql"}, "tcp": {"port": port}}))
        assert found["service.sql"]["encrypted"] is tls
        assert found["service.sql"]["plain"] == plain
        assert found["service.reach"] == {"open": True}


# --------------------------------------------------------------------------------------- bad listeners


def test_a_closed_port_is_refused_in_every_protocol(look):
    done = look(everything_on(peers.free_port()))
    assert done.outcome is Outcome.REFUSED
    assert {o.outcome for o in seen(done).values()} == {Outcome.REFUSED}


def test_a_port_that_says_nothing_is_a_timeout_and_waited_for_once(look):
    def silent(peer: socket.socket) -> None:
        while peer.recv(4096):
            pass

    with peers.listener(silent) as (port, _):
        began = time.monotonic()
        done = look(everything_on(port), deadline=20, step=1)
        assert time.monotonic() - began < 8
        outcomes = {name: o.outcome for name, o in seen(done).items()}
        outcomes.pop("service.reach")  # the port is open: that much is so
        assert set(outcomes.values()) <= {Outcome.TIMEOUT}


@pytest.mark.parametrize(
    "service",
    [
        {"url": "http://{}"},
        {"url": "https://{}"},
        {"dicom": {"called_aet": "PACS", "calling_aet": "EMRCTL"}},
        {"hl7": {}},
        {"smtp": {}},
        {"sql": {"engine": "postgresql"}},
    ],
    ids=["http", "https", "dicom", "hl7", "smtp", "sql"],
)
def test_a_slow_drip_does_not_outlast_the_deadline(look, service):
    def drip(peer: socket.socket) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 600:
            peer.sendall(bytes([byte]))
            time.sleep(0.05)

    with peers.listener(drip) as (port, _):
        asked = {
            key: f"{part.format(ME)}:{port}" if isinstance(part, str) else part | {"port": port}
            for key, part in service.items()
        }
        began = time.monotonic()
        done = look(asked, deadline=3, step=2)
        assert time.monotonic() - began < 6
        assert done.outcome is not Outcome.ANSWERED


@pytest.mark.parametrize(("piece", "pause"), [(b"x", 0.05), (b"x" * 65536, 0)], ids=["drip", "flood"])
def test_a_dicom_peer_that_announces_four_gigabytes_costs_neither_time_nor_memory(look, piece, pause):
    sent = []

    def announce(peer: socket.socket) -> None:
        peer.sendall(b"\x02\x00\xff\xff\xff\xff")
        while True:
            peer.sendall(piece)
            sent.append(len(piece))
            time.sleep(pause)

    def drip_within_bounds(peer: socket.socket) -> None:
        peer.sendall(b"\x02\x00\x00\x0f\x00\x00")
        while True:
            peer.sendall(piece)
            time.sleep(pause)

    for serve in (announce, drip_within_bounds):
        with peers.listener(serve) as (port, _):
            began = time.monotonic()
            done = look({"dicom": {"port": port, "called_aet": "PACS", "calling_aet": "EMRCTL"}}, deadline=6, step=2)
            assert time.monotonic() - began < 8
            assert done.outcome is not Outcome.ANSWERED
    assert sum(sent) < 50_000_000


GARBAGE = [
    b"\x00" * 2000,
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.1 banana\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nq",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nshort",
    b"\x0bMSH\x1c\r",
    b"\x0bMSH|^~\\&|A|B|C|D|1||ACK|1|P|9.9\rMSA|ZZ|1\r\x1c\r",
    b"\x02\x00\x00\x00\xff\xff\xff\xff",
    b"220 \xff\xfe\r\n599 no\r\n",
    b"S" + b"\x15\x03\x01\x00\x02\x02\x28",
    bytes(range(256)) * 8,
    b"",
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_gets_a_word_and_never_raises(look, garbage):
    def talk(peer: socket.socket) -> None:
        peer.settimeout(1)
        with contextlib.suppress(OSError):
            peer.recv(4096)
        peer.sendall(garbage)

    with peers.listener(talk) as (port, _):
        for scheme in ("http", "https"):
            service = everything_on(port) | {"url": f"{scheme}://{HOST}:{port}"}
            observed = seen(look(service, deadline=30, step=2))
            for name, found in observed.items():
                assert isinstance(found.outcome, Outcome)
                assert found.value is None or found.outcome is Outcome.ANSWERED, name
            clinical = ("service.dicom", "service.sql", "service.fhir", "service.smtp", "service.tls")
            assert all(observed[name].outcome is not Outcome.ANSWERED for name in clinical)
            assert observed["service.hl7"].outcome is not Outcome.ANSWERED


def test_a_huge_answer_is_cut_and_costs_no_memory(look):
    piece = b"A" * 65536
    sent = []

    def flood(peer: socket.socket) -> None:
        peer.recv(4096)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
        for _ in range(20_000):  # 1.3 GB if it were read
            peer.sendall(piece)
            sent.append(len(piece))

    with peers.listener(flood) as (port, _):
        found = values(look({"url": f"http://{ME}:{port}", "viewer": "/v"}, deadline=20, step=3))
        assert found["service.http"]["status"] == 200
        assert sum(sent) < 400_000_000


def test_the_collector_connects_to_no_address_but_the_assets(sloppy, archive):
    web, _ = sloppy
    program = """
import sys
met = set()
def hook(event, arguments):
    if event == "socket.connect":
        met.add(str(arguments[1][0]))
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        met.add("lookup " + str(arguments[0]))
    if event in ("subprocess.Popen", "os.system", "os.posix_spawn"):
        met.add(event)
from tests.integration.test_service import *
import pynetdicom
sys.addaudithook(hook)
tls, plain, dicom, http_ = map(int, sys.argv[1:])
service = {
    "url": f"https://{HOST}:{tls}", "health": "/away", "plain_port": plain, "fhir": "/away", "viewer": "/away",
    "dicomweb": "/away", "dicom": {"port": dicom, "called_aet": "PACS", "calling_aet": "EMRCTL"},
    "hl7": {"port": plain}, "smtp": {"port": http_}, "sql": {"port": plain, "engine": "postgresql"},
    "tcp": {"port": plain},
}
done = ServiceTransport(ca_dir=Path("/nonexistent"), step_seconds=2).look(an_endpoint(service), SERVICE_FACTS, 30, now)
answered = sum(reply.outcome is Outcome.ANSWERED for reply in done.replies)
print(answered, sorted(met))
"""
    argv = [sys.executable, "-c", program, *map(str, (web.port, web.plain, archive.dicom, archive.http))]
    env = {"PATH": "/usr/bin:/bin", "https_proxy": "http://127.0.0.3:9", "http_proxy": "http://127.0.0.3:9"}
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True, env=env)
    answered, _, met = done.stdout.strip().partition(" ")
    assert int(answered) >= 10
    told = set(json.loads(met.replace("'", '"')))
    assert told - {f"lookup {ME}", "lookup None"} == {ME}, told  # None: a socket of this machine itself


# ----------------------------------------------------------------------------------------- the protocol


def test_an_asset_without_address_or_without_a_protocol_is_not_looked_at(look):
    assert look(everything_on(9), address=None).outcome is Outcome.NO_ADDRESS
    silent = look(None)
    assert silent.outcome is Outcome.NOT_SUPPORTED
    assert "nothing was sent" in silent.detail


def test_a_name_without_an_address_is_unreachable(look):
    done = look(everything_on(9), address="no-such-host.invalid")
    assert done.outcome is Outcome.UNREACHABLE
    assert "DNS" in done.detail


def test_every_service_fact_has_a_probe_and_is_asked_of_services_only():
    assert set(PROBES) == set(FACTS)
    assert questions(an_endpoint({}), "service", FACTS) == tuple(FACTS[name] for name in sorted(FACTS))


def test_the_route_reads_a_service_next_to_one_that_is_down(good, folder):
    up = an_endpoint(good_service(good))
    down = Asset(
        "ep-02", "service", ("lis",), Words("b", "b"), "", ("service",), ME, {"emr_service": {"hl7": {"port": 1}}}
    )
    transport = ServiceTransport(ca_dir=folder / "ca")
    looks = {found.asset: (found, obs) for found, obs in gather([up, down], {"service": transport}, FACTS, now)}
    assert looks["ep-01"][0].outcome is Outcome.ANSWERED
    assert looks["ep-02"][0].outcome is Outcome.REFUSED
    assert {o.outcome for o in looks["ep-02"][1]} == {Outcome.REFUSED, Outcome.NOT_SUPPORTED}


PATIENT = "NGUOI^BENH^C4N4RY"


def a_study_of_the_canary() -> bytes:
    """One DICOM file of a patient who does not exist."""
    data = Dataset()
    data.PatientName, data.PatientID = PATIENT, "C4N4RY-079099123456"
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = generate_uid(), generate_uid(), "OT"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta = meta
    raw = io.BytesIO()
    dcmwrite(raw, data, enforce_file_format=True)
    return raw.getvalue()


def test_a_whole_round_judges_services_and_brings_no_patient_and_no_secret(folder, pair, tmp_path, caplog):
    """Real nginx and Orthanc with a canary patient; settings, inventory, round, record, findings as in production."""
    caplog.set_level(logging.DEBUG)
    page = peers.GOOD.replace('"ok\\n"', f'"{PATIENT}\\n"').replace('"nothing here\\n"', f'"{PATIENT}\\n"')
    with (
        peers.nginx(folder / "canary", page, pair) as web,
        peers.orthanc(folder / "orthanc-canary") as archive,
        peers.mllp(folder / "mllp-canary") as hl7,
    ):
        connection = http.client.HTTPConnection(ME, archive.http, timeout=10)
        with contextlib.closing(connection):
            connection.request("POST", "/instances", a_study_of_the_canary())
            assert connection.getresponse().status == 200
        pacs = dicom_of(archive) | {
            "url": f"http://{ME}:{archive.http}",
            "dicomweb": "/dicom-web",
            "viewer": "/app/explorer.html",
            "hl7": {"port": hl7},
        }
        overlay = tmp_path / "overlay.yaml"
        hosts = {
            "ep-emr": {"ansible_host": ME, "emr_service": good_service(web)},
            "ep-pacs": {"ansible_host": ME, "emr_service": pacs},
        }
        overlay.write_text(json.dumps({"all": {"hosts": hosts}}))
        plane = init_store(Settings(home=ROOT, data_dir=tmp_path / "data", inventory=[overlay], round_every_minutes=0))
        (tmp_path / "data" / "ca").mkdir()
        (tmp_path / "data" / "ca" / "ca.pem").write_bytes((folder / "ca" / "ca.pem").read_bytes())
        made = plane.make_round(["service_endpoints"])
    assert made.looks == {"answered": 2, "no_address": 5}
    found = {(f.check, f.asset): f.verdict.value for f in plane.judgement().findings}
    assert found["tls.chain-valid", "ep-emr"] == found["web.encrypted", "ep-emr"] == "met"
    assert (
        found["pacs.echo", "ep-pacs"] == found["pacs.hl7", "ep-pacs"] == found["pacs.viewer-page", "ep-pacs"] == "met"
    )
    assert found["web.encrypted", "ep-pacs"] == found["dicom.encrypted", "ep-pacs"] == "not_met"
    assert found["records.answer", "ep-his"] == "unknown"
    assert found["cameras.answer", ""] == found["modalities.echo", ""] == "unknown"
    scores = {c.id: c.verdict.value for c in plane.judgement().card.criteria}
    assert scores["tt54.rispacs.basic.9"] == "met"
    assert scores["tt54.rispacs.basic.3"] == "unknown", "checks that are only needed prove nothing"
    assert scores["tcvn14423.data.protect_transit"] == "not_met"
    plane.export_evidence(tmp_path / "bundle.zip")
    kept = [plane.archive.vault.get(name) for name in plane.archive.vault.names()]
    kept += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    with zipfile.ZipFile(tmp_path / "bundle.zip") as bundle:
        kept += [bundle.read(name) for name in bundle.namelist()]
    kept.append(caplog.text.encode())
    assert len(kept) > 20
    for data in kept:
        assert b"C4N4RY" not in data
        assert b"SECRETCOOKIEVALUE" not in data
