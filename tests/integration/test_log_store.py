"""Logs gathered in one place: what the two roles write, tried with rsyslog on this machine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from controlplane.collect.facts.linux_monitoring import read_central
from tests.conftest import ROOT

ROLES = ROOT / "playbooks" / "roles"
pytestmark = pytest.mark.skipif(shutil.which("rsyslogd", path="/usr/sbin:/sbin") is None, reason="rsyslog is not here")
SAID = (
    ("sshd", "Accepted publickey for root from 10.99.0.2 port 34796 ssh2: ED25519 SHA256:abc"),
    ("sshd", "Failed password for invalid user khach from 10.99.0.3 port 34797 ssh2"),
    ("sshd", "Invalid user thu from fe80::7 port 34798"),
    ("sshd", "Server listening on 0.0.0.0 port 22."),
    ("his", 'đăng nhập "bác sĩ"\\x từ from 10.1.1.1'),
)


def rendered(role: str, name: str, **values: Any) -> str:
    """A template of a role as Ansible would write it."""
    known = yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text(encoding="utf-8")) | values
    env = jinja2.Environment(  # noqa: S701  # a configuration file, no page
        loader=jinja2.FileSystemLoader(ROLES / role / "templates"), trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    env.filters["basename"] = os.path.basename
    return env.get_template(name).render(known)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def certificates(folder: Path) -> None:
    """An authority, and a certificate for the name kho.log, by openssl."""
    name = ["-subj", "/CN=kho.log", "-addext", "subjectAltName=DNS:kho.log"]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *name]
    subprocess.run([*new, "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)


class Daemons:
    """Receiver and sender, each with its own rsyslogd."""

    def __init__(self, folder: Path, tls: bool) -> None:
        self.folder, self.port, self.udp = folder, free_port(), free_port()
        self.running: list[subprocess.Popen[bytes]] = []
        (folder / "central").mkdir()
        table = [{"index": "127.0.0.1", "value": "sv-01"}, {"index": "127.0.0.8", "value": "sw-01"}]
        devices = {"version": 1, "nomatch": "", "type": "string", "table": table}
        (folder / "devices.json").write_text(json.dumps(devices))
        files: dict[str, str] = {}
        if tls:
            certificates(folder)
            paths = {"ca": "cert.pem", "certificate": "cert.pem", "key": "key.pem"}
            files = {f"log_store_tls_{key}": str(folder / name) for key, name in paths.items()}
        receiver = rendered(
            "log_store",
            "receiver.conf.j2",
            log_store_port=self.port,
            log_store_udp_port=self.udp,
            log_store_folder=str(folder / "central"),
            log_store_table=str(folder / "devices.json"),
            **files,
        )
        way = {"log_keeping_tls_ca": str(folder / "cert.pem"), "log_keeping_tls_name": "kho.log"} if tls else {}
        sender = rendered(
            "log_keeping",
            "forward.conf.j2",
            log_keeping_server="127.0.0.1",
            log_keeping_port=self.port,
            log_keeping_found={"files": []},
            **way,
        )
        # This machine's own /var/log is not for the test.
        sender = "\n".join(line for line in sender.splitlines() if "imfile" not in line)
        own = f'module(load="imuxsock" SysSock.Use="off")\ninput(type="imuxsock" Socket="{folder}/log")\n'
        self._start("receiver", receiver)
        self._await_receiver()  # a sender that meets nobody tries again half a minute later
        self._start("sender", own + sender)

    def _start(self, name: str, words: str) -> None:
        work = self.folder / name
        work.mkdir()
        path = self.folder / f"{name}.conf"
        path.write_text(f'global(workDirectory="{work}")\n{words}\n', encoding="utf-8")
        argv = ["/usr/sbin/rsyslogd", "-n", "-f", path, "-i", self.folder / f"{name}.pid"]
        checked = subprocess.run(["/usr/sbin/rsyslogd", "-N1", "-f", path], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        self.running.append(subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def _await_receiver(self) -> None:
        until = time.monotonic() + 60
        while True:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert time.monotonic() < until, "the receiver does not listen"
            time.sleep(0.05)

    def log(self, program: str, words: str) -> None:
        subprocess.run(["logger", "-u", self.folder / "log", "-t", program, "--", words], check=True)

    def datagram(self, source: str, words: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.bind((source, 0))
            one.sendto(words.encode(), ("127.0.0.1", self.udp))

    def gathered(self, device: str, enough: Callable[[list[Any]], bool]) -> list[Any]:
        """The records of a device once there are enough of them."""
        path, until = self.folder / "central" / f"{device}.jsonl", time.monotonic() + 120
        while True:
            found = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
            if enough(found) or time.monotonic() > until:
                return found
            time.sleep(0.1)

    def stop(self) -> None:
        for one in self.running:
            one.terminate()
        for one in self.running:
            one.wait(timeout=20)


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def daemons(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemons]:
    place = Daemons(tmp_path, request.param)
    yield place
    place.stop()


def test_every_device_has_a_file_and_an_access_holds_what_the_law_asks(daemons: Daemons) -> None:
    until = time.monotonic() + 60
    while not (daemons.folder / "log").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    for program, words in SAID:
        daemons.log(program, words)
    records = daemons.gathered("sv-01", lambda found: len([r for r in found if r["program"] in ("sshd", "his")]) >= 5)
    for source in ("127.0.0.8", "127.0.0.9"):
        daemons.datagram(source, "<189>Nov 27 15:00:00 anything %LINK-3-UPDOWN: port 3 is down")
    mine = [record for record in records if record["program"] in ("sshd", "his")]
    assert [(r["event"], r["action"], r["account"], r["source"]) for r in mine] == [
        ("access", "login", "root", "10.99.0.2"),
        ("access", "login-refused", "khach", "10.99.0.3"),
        ("access", "login-refused", "thu", "fe80::7"),
        ("other", "", "", ""),
        ("other", "", "", ""),
    ]
    assert mine[4]["message"].strip() == SAID[4][1], "whatever stands in it"
    assert daemons.gathered("sw-01", bool)[0]["device"] == "sw-01", "by its address, not by the name it gives itself"
    assert daemons.gathered("unknown-127.0.0.9", bool)[0]["device"] == "unknown-127.0.0.9"
    told = "\n".join(json.dumps(record) for record in mine if record["event"] == "access")
    parts = {
        "now": int(time.time()),
        "running": "rsyslogd",
        "scope": "sv-01\nsw-01\npc-01",
        "senders": "sv-01.jsonl\nsw-01.jsonl",
    }
    text = "".join(f"-- {key}\n{value}\n" for key, value in parts.items()) + f"-- access\n{told}\n-- dhcp\n-- malware\n"
    found = read_central(text)
    assert (found["silent"], found["access_events"], found["fields_missing_percent"]) == (["pc-01"], 3, 0.0)
