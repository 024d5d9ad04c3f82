"""Real peers for the service collector, each on a free loopback port: nginx, Orthanc, PostgreSQL, MLLP, SMTP, bad ones.

Nothing here is started twice, and nothing outlives its context manager.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

HOST = "emr.hospital.invalid"
ME = "127.0.0.1"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody had a moment ago."""
    with socket.socket() as sock:
        sock.bind((ME, 0))
        return int(sock.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    """Until the port takes connections; fails with what the program said."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection((ME, port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port}; exit code {process.poll()}")


@contextlib.contextmanager
def running(argv: Sequence[object], port: int, log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program of ours, in a session of its own, ended with everything it started."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(a) for a in argv], stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True, **options
        )
    try:
        try:
            wait_for(port, process)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{log.read_text(errors='replace')[-2000:]}") from None
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


# ------------------------------------------------------------------------------------------ certificates


@dataclass(frozen=True)
class Pair:
    """A certificate and its key as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority of one test run."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Hospital test authority")])
        own = self._build(self._name, self._name, self._key.public_key(), 3650, ca=True).sign(
            self._key, hashes.SHA256()
        )
        self.file = folder / "ca.pem"
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    @staticmethod
    def _build(subject: x509.Name, issuer: x509.Name, key: Any, days: int, ca: bool = False) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        built = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
        built = built.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=400))
        built = built.not_valid_after(now + datetime.timedelta(days=days, hours=1))
        return built.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)

    def issue(self, name: str, *, days: int = 365, host: str = HOST, own: bool = False, bits: int = 2048) -> Pair:
        """A server certificate for ``host`` and 127.0.0.1; ``own``: signed by itself."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        built = self._build(subject, subject if own else self._name, key.public_key(), days)
        names = [x509.DNSName(host)] + ([x509.IPAddress(ipaddress.ip_address(ME))] if host == HOST else [])
        built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = built.sign(key if own else self._key, hashes.SHA256())
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        pair.key.chmod(0o600)
        return pair


# ------------------------------------------------------------------------------------------------- nginx

CAPABILITIES = {
    "resourceType": "CapabilityStatement",
    "status": "active",
    "kind": "instance",
    "fhirVersion": "4.0.1",
    "format": ["json"],
    "rest": [
        {"mode": "server", "resource": [{"type": "Patient"}, {"type": "Composition"}, {"type": "DocumentReference"}]}
    ],
}
"""Written by hand in the form of FHIR R4: no FHIR server is packaged for Debian."""

JAVA_TRACE = "java.lang.NullPointerException\n\tat vn.hospital.his.Page.render(Page.java:42)\n"

_NGINX = """
daemon off;
master_process off;
error_log {dir}/error.log;
pid {dir}/pid;
events {{}}
http {{
    access_log {dir}/access.log;
    default_type text/plain;
    client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
    uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
    {servers}
}}
"""

GOOD = """
server {{
    listen 127.0.0.1:{port} ssl;
    server_name {host};
    server_tokens off;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ciphers ECDHE+AESGCM;
    add_header Strict-Transport-Security "max-age=31536000" always;
    add_header X-Content-Type-Options nosniff always;
    add_header Content-Security-Policy "default-src 'self'; frame-ancestors 'none'" always;
    location = /health {{
        add_header Strict-Transport-Security "max-age=31536000";
        add_header X-Content-Type-Options nosniff;
        add_header Content-Security-Policy "default-src 'self'; frame-ancestors 'none'";
        add_header Set-Cookie "sid=SECRETCOOKIEVALUE; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=600";
        return 200 "ok\\n";
    }}
    location = /.well-known/security.txt {{
        default_type text/plain;
        return 200 "Contact: mailto:security@hospital.invalid\\nExpires: 2099-01-01T00:00:00Z\\n";
    }}
    location = /fhir/metadata {{ default_type application/fhir+json; alias {dir}/metadata.json; }}
    location = /viewer {{ default_type text/html; return 200 "<!doctype html><title>viewer</title>"; }}
    location / {{ return 404 "nothing here\\n"; }}
}}
server {{
    listen 127.0.0.1:{plain};
    server_name {host};
    return 301 https://{host}$request_uri;
}}
"""

SLOPPY = """
server {{
    listen 127.0.0.1:{port} ssl;
    server_name {host};
    ssl_certificate {certificate}; ssl_certificate_key {key};
    ssl_protocols TLSv1 TLSv1.1 TLSv1.2;
    ssl_ciphers "ALL:eNULL:@SECLEVEL=0";
    location = /health {{
        add_header Set-Cookie "sid=SECRETCOOKIEVALUE; Path=/; Max-Age=86400";
        return 200 "ok\\n";
    }}
    location = /away {{ return 302 http://127.0.0.2:{elsewhere}/stolen; }}
    location = /.git/HEAD {{ return 200 "ref: refs/heads/main\\n"; }}
    location = /.env {{ return 200 "DB_PASSWORD=SECRETINENV\\n"; }}
    location / {{ error_page 404 /trace; return 404; }}
    location = /trace {{ internal; alias {dir}/trace.txt; }}
}}
server {{ listen 127.0.0.1:{plain}; location / {{ return 200 "plain\\n"; }} }}
"""

ANCIENT = """
server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    ssl_protocols TLSv1;
    ssl_ciphers "ALL:@SECLEVEL=0";
    location / {{ return 200 "old\\n"; }}
}}
"""


@dataclass(frozen=True)
class Web:
    """One nginx server: its TLS port and its plain port."""

    port: int
    plain: int
    folder: Path


@contextlib.contextmanager
def nginx(folder: Path, template: str, pair: Pair, elsewhere: int = 9) -> Iterator[Web]:
    """Debian's nginx with one of the configurations above."""
    folder.mkdir(parents=True, exist_ok=True)
    web = Web(free_port(), free_port(), folder)
    (folder / "metadata.json").write_text(json.dumps(CAPABILITIES))
    (folder / "trace.txt").write_text(JAVA_TRACE)
    servers = template.format(
        port=web.port,
        plain=web.plain,
        host=HOST,
        dir=folder,
        certificate=pair.certificate,
        key=pair.key,
        elsewhere=elsewhere,
    )
    (folder / "nginx.conf").write_text(_NGINX.format(dir=folder, servers=servers))
    argv = [shutil.which("nginx", path="/usr/sbin:/usr/bin") or "nginx", "-p", folder, "-c", folder / "nginx.conf"]
    with running(argv, web.port, folder / "out.log"):
        yield web


# ----------------------------------------------------------------------------------------------- Orthanc


@dataclass(frozen=True)
class Archive:
    """One Orthanc: its DICOM port and its HTTP port (DICOMweb below /dicom-web)."""

    dicom: int
    http: int


@contextlib.contextmanager
def orthanc(folder: Path, *, tls: Pair | None = None, ca: Path | None = None, open_: bool = False) -> Iterator[Archive]:
    """Debian's Orthanc with its DICOMweb and worklist plug-ins; it knows EMRCTL only, unless ``open_``."""
    (folder / "db").mkdir(parents=True, exist_ok=True)
    (folder / "worklists").mkdir(exist_ok=True)
    archive = Archive(free_port(), free_port())
    plugins = Path("/usr/share/orthanc/plugins")
    config: dict[str, Any] = {
        "Name": "TEST",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "Plugins": [str(plugins / "libOrthancDicomWeb.so"), str(plugins / "libModalityWorklists.so")],
        "Worklists": {"Enable": True, "Database": str(folder / "worklists")},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "HttpPort": archive.http,
        "HttpDescribeErrors": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": "PACS",
        "DicomCheckCalledAet": True,
        "DicomPort": archive.dicom,
        "DicomModalities": {"control": ["EMRCTL", ME, 4242]},
        "DicomAlwaysAllowEcho": open_,
        "DicomAlwaysAllowStore": open_,
        "DicomAlwaysAllowFind": open_,
    }
    if tls is not None:
        config |= {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": str(tls.certificate),
            "DicomTlsPrivateKey": str(tls.key),
            "DicomTlsTrustedCertificates": str(ca),
            "DicomTlsRemoteCertificateRequired": False,
        }
    (folder / "orthanc.json").write_text(json.dumps(config))
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin") or "Orthanc"
    with running([program, folder / "orthanc.json"], archive.dicom, folder / "out.log") as process:
        wait_for(archive.http, process)
        yield archive


# -------------------------------------------------------------------------------------------- PostgreSQL


def _postgres_program(name: str) -> Path:
    return sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))[-1]


@contextlib.contextmanager
def postgresql(rules: str, pair: Pair | None) -> Iterator[int]:
    """Debian's PostgreSQL with these lines as pg_hba.conf; TLS with a pair. It does not run as root."""
    with tempfile.TemporaryDirectory(prefix="emr-pg-") as name:
        folder = Path(name)
        data, port = folder / "data", free_port()
        drop = [
            "setpriv",
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
        ]  # no fork: the program itself is ours
        as_postgres: list[object] = [*drop] if os.geteuid() == 0 else []
        if as_postgres:
            shutil.chown(folder, "postgres")
        made = [*as_postgres, _postgres_program("initdb"), "-D", data, "-A", "trust", "--no-sync"]
        subprocess.run([str(a) for a in made], check=True, capture_output=True, cwd="/")
        lines = [f"port = {port}", "listen_addresses = '127.0.0.1'", f"unix_socket_directories = '{folder}'"]
        if pair is not None:
            for source, target in ((pair.certificate, "server.crt"), (pair.key, "server.key")):
                (data / target).write_bytes(source.read_bytes())
                (data / target).chmod(0o600)
                if as_postgres:
                    shutil.chown(data / target, "postgres")
            lines += ["ssl = on", "fsync = off"]
        with (data / "postgresql.conf").open("a") as conf:
            conf.write("\n".join(lines) + "\n")
        (data / "pg_hba.conf").write_text(rules)
        (folder / "out.log").touch()
        with running([*as_postgres, _postgres_program("postgres"), "-D", data], port, folder / "out.log", cwd="/"):
            _until_ready(port)
            yield port


def _until_ready(port: int) -> None:
    for _ in range(200):
        done = subprocess.run(
            [str(_postgres_program("pg_isready")), "-q", "-h", ME, "-p", str(port)], check=False, capture_output=True
        )
        if done.returncode == 0:
            return
        time.sleep(0.05)
    raise AssertionError("PostgreSQL does not come up")


# ------------------------------------------------------------------------------------------- MLLP, SMTP

_MLLP = """
import asyncio, ssl, sys
import hl7.mllp

async def peer(reader, writer):
    while not writer.is_closing():
        try:
            message = await reader.readmessage()
        except asyncio.IncompleteReadError:
            break
        print(str(message.segment("MSH")[9]), flush=True)
        writer.writemessage(message.create_ack(sys.argv[2]))
        await writer.drain()
    writer.close()

async def main():
    tls = None
    if len(sys.argv) > 3:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(sys.argv[3], sys.argv[4])
    server = await hl7.mllp.start_hl7_server(peer, "127.0.0.1", int(sys.argv[1]), ssl=tls)
    async with server:
        await server.serve_forever()

asyncio.run(main())
"""


@contextlib.contextmanager
def mllp(folder: Path, code: str = "AA", pair: Pair | None = None) -> Iterator[int]:
    """An HL7 listener of the library ``hl7`` that acknowledges whatever comes with ``code``."""
    port = free_port()
    tls = [pair.certificate, pair.key] if pair else []
    folder.mkdir(parents=True, exist_ok=True)
    with running([sys.executable, "-c", _MLLP, port, code, *tls], port, folder / f"mllp-{port}.log"):
        yield port


_SMTP = """
import ssl, sys, time
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink

tls = None
if len(sys.argv) > 2:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(sys.argv[2], sys.argv[3])
Controller(Sink(), hostname="127.0.0.1", port=int(sys.argv[1]), tls_context=tls).start()
time.sleep(3600)
"""


@contextlib.contextmanager
def smtp(folder: Path, pair: Pair | None) -> Iterator[int]:
    """aiosmtpd, with STARTTLS when there is a pair."""
    port = free_port()
    tls = [pair.certificate, pair.key] if pair else []
    folder.mkdir(parents=True, exist_ok=True)
    with running([sys.executable, "-W", "ignore", "-c", _SMTP, port, *tls], port, folder / f"smtp-{port}.log"):
        yield port


# ------------------------------------------------------------------------------------------- bad listeners


@contextlib.contextmanager
def listener(serve: Callable[[socket.socket], None], address: str = ME) -> Iterator[tuple[int, list[bytes]]]:
    """A listener of our own that does something no sound service does; with what it was sent first."""
    heard: list[bytes] = []
    server = socket.create_server((address, 0))
    server.settimeout(0.1)
    stop = threading.Event()

    def one(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            serve(peer)

    def loop() -> None:
        while not stop.is_set():
            try:
                peer, _ = server.accept()
            except OSError:
                continue
            heard.append(b"")
            threading.Thread(target=one, args=(peer,), daemon=True).start()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield int(server.getsockname()[1]), heard
    finally:
        stop.set()
        thread.join(5)
        server.close()
