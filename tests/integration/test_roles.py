"""Every shipped role on real hosts: a preview changes nothing, an apply mends, a second one has no work.

One host is run by systemd (sv-01), one is not (pc-01). The packages come from the apt cache of the lab's base tree.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.bootstrap import Plane, open_plane
from controlplane.collect.inventory import load_inventory
from controlplane.settings import Settings
from controlplane.store.vault import Vault
from tests.integration.conftest import LAB, ROOT, Lab, break_glass

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.soak]

HOSTS = ("sv-01", "pc-01")
GATEWAY = "10.77.0.1"

# A log server that takes whatever comes, for as long as its parent lives.
_SINK = f"""
import socket, sys, threading
def eat(peer):
    while peer.recv(65536):
        pass
server = socket.create_server(("{GATEWAY}", 6514))
def take():
    while True:
        threading.Thread(target=eat, args=(server.accept()[0],), daemon=True).start()
threading.Thread(target=take, daemon=True).start()
sys.stdin.read()
"""

_STATE = (
    "find /etc /usr/share/pam-configs /run/emrctl -xdev -type f -exec sha256sum {} + 2>/dev/null | sort;"
    "find /etc -xdev -printf '%m %p %l\\n' | sort; dpkg-query -W; sysctl -a 2>/dev/null | grep ^net.ipv4.conf.all"
)

NOT_IN_A_CONTAINER = {
    "audit.records-processes": "no container may speak to the kernel's audit; the rules are written",
    "audit.names-machine": "auditd does not run without the kernel's audit",
    "audit.records-accounts": "as above",
    "audit.records-logins": "as above",
    "audit.rules-loaded": "as above",
    "audit.running": "as above",
    "log.told-before-full": "as above",
    "host.kernel-hardened": "some switches belong to the machine below",
    "malware.running": "clamd starts only with the maker's signatures, and the lab has no way out",
    "malware.realtime": "as above",
    "malware.signatures-fresh": "as above",
    "updates.from-hospital": "the lab names no package server of the hospital",
}
SITE = frozenset("time-ssh hardening antivirus workstations monitoring".split())
"""Those plays of `site` that need no declaration; what it does where something is declared: tests/e2e/test_site.py."""
NOT_WITHOUT_SYSTEMD = {
    "intrusion.guarded": "fail2ban reads the journal, and the lab's PCs have none",
    "malware.updates-itself": "nothing starts freshclam there",
    "log.arrives": "nothing restarts rsyslog there",
}


class Hospital:
    """emrctl on the lab's hosts alone, with what a hospital would set in its inventory."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder, self.home = lab, folder, folder / "home"
        for name in ("checks", "playbooks", "inventory"):
            shutil.copytree(ROOT / name, self.home / name)
        overlay = {
            "all": {
                "vars": {
                    "time_sync_servers": ["10.77.0.2"],
                    "log_keeping_server": GATEWAY,
                    "log_store_enabled": True,
                    "prometheus_interval_seconds": 2,
                    "prometheus_mail_relay": f"{GATEWAY}:2525",
                    "prometheus_mail_from": "canh-bao@benhvien.example",
                    "prometheus_mail_to": ["cntt@benhvien.example"],
                    "snmp_agent_secret_file": str(lab.secret("3")),
                },
                "children": {"monitor_hosts": {"hosts": {"sv-01": {}}}},
            }
        }
        (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")

    def emrctl(self, *argv: str, code: int = 0) -> Any:
        given = ["--data-dir", self.folder / "data", "--known-hosts", self.lab.known_hosts]
        given += ["--inventory", self.lab.inventory, "--inventory", self.folder / "overlay.yaml"]
        command = ["env", f"EMRCTL_HOME={self.home}", sys.executable, "-m", "controlplane", *given, *argv]
        done = self.lab.exec(command, cwd=ROOT, timeout=900)
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return json.loads(done.stdout) if "--json" in argv else done.stdout

    def run(self, mode: str, play: str, *hosts: str, code: int = 0) -> Any:
        limits = [word for host in hosts for word in ("--limit", host)]
        return self.emrctl(mode, play, *limits, "--json", code=code)

    def plane(self) -> Plane:
        """The same store, opened here: for what needs no host."""
        inventory = [self.lab.inventory, self.folder / "overlay.yaml"]
        return open_plane(Settings(home=self.home, data_dir=self.folder / "data", inventory=inventory))

    def apply_approved(self, preview: str) -> Any:
        """The apply of a preview that the second person says yes to, whatever the hour."""
        plane = self.plane()
        plane.request_approval(preview, "an")
        plane.approve_run(preview, "chi")
        return self.emrctl("apply", "site", "--preview", preview, *break_glass(self.folder), "--json")

    def findings(self) -> dict[tuple[str, str], str]:
        """Check and asset -> verdict, as the last round found it."""
        with sqlite3.connect(self.folder / "data" / "emrctl.db") as database:
            query = "select findings from rounds where findings is not null order by opened_seq desc limit 1"
            (digest,) = database.execute(query).fetchone()
        kept = json.loads(Vault(self.folder / "data" / "vault").get(digest))
        return {(one["check"], one["asset"]): one["verdict"] for one in kept}

    def state(self, host: str) -> str:
        return self.lab.inside(host, ["sh", "-c", _STATE]).stdout


@pytest.fixture(scope="module")
def hospital(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    assert lab.run_lab("up", "--fresh").returncode == 0
    # What makes a workstation one with a desktop, to the collectors and to the play.
    lab.inside("pc-01", ["mkdir", "-p", "/usr/share/xsessions"], check=True)
    lab.inside("sv-01", ["apt-get", "install", "-y", "-q", "--no-install-recommends", "postgresql"], check=True)
    place = Hospital(lab, tmp_path_factory.mktemp("roles"))
    place.emrctl("init")
    plane = place.plane()
    for name, role in (("an", "engineer"), ("chi", "director")):
        plane.accounts.add(name, role, f"a password of {name}", plane.clock())
    with subprocess.Popen([LAB, "exec", sys.executable, "-c", _SINK], stdin=subprocess.PIPE) as sink:
        yield place
        sink.communicate(b"", timeout=10)


@pytest.fixture(scope="module")
def applied(hospital: Hospital) -> Any:
    """The whole site applied after a preview that must have changed nothing."""
    before = {host: hospital.state(host) for host in HOSTS}
    preview = hospital.run("preview", "site", *HOSTS)
    assert preview["run"]["state"] == "successful", preview["run"]["detail"]
    for host in HOSTS:
        moved = set(before[host].splitlines()) ^ set(hospital.state(host).splitlines())
        assert not moved, f"a preview changed {host}"
    would = {task["task"] for task in preview["run"]["tasks"] if task["status"] == "would_change"}
    assert {"Write the hardened settings", "Set what new accounts get", "Install what is missing"} <= would
    return hospital.apply_approved(preview["id"])


@pytest.mark.timeout(3600)
def test_after_the_plays_every_check_that_names_one_is_met(hospital: Hospital, applied: Any) -> None:
    assert applied["run"]["state"] == "successful", applied["run"]["detail"]
    checks = [c for c in hospital.emrctl("checks", "--json") if c["remedy"] in SITE]
    assert len(checks) > 60
    groups = load_inventory(
        [ROOT / "inventory" / "hosts.yaml", hospital.lab.inventory, hospital.folder / "overlay.yaml"], hospital.folder
    ).groups
    found = hospital.findings()
    left = {
        (check["id"], host): found[check["id"], host]
        for check in checks
        for host in HOSTS
        if host in groups[check["role"]]
        if found[check["id"], host] != "met"
    }
    allowed = {(check, host) for check in NOT_IN_A_CONTAINER for host in HOSTS}
    allowed |= {(check, "pc-01") for check in NOT_WITHOUT_SYSTEMD}
    assert set(left) <= allowed, {key: word for key, word in left.items() if key not in allowed}
    stale = {check for check, _ in allowed} - {check for check, _ in left}
    assert not stale, f"met after all: {stale}"


def test_what_the_database_says_reaches_prometheus(hospital: Hospital, applied: Any) -> None:
    """By the database's own socket and without a password, by an account that reads figures and no table."""
    ask = "curl -sfG http://127.0.0.1:9090/api/v1/query --data-urlencode"
    told = hospital.lab.inside("sv-01", ["sh", "-c", f"{ask} 'query=pg_up{{job=\"databases\"}}'"], check=True).stdout
    assert [(one["metric"]["asset"], one["value"][1]) for one in json.loads(told)["data"]["result"]] == [("sv-01", "1")]
    may = "SELECT rolsuper OR rolcreaterole OR rolcreatedb, rolpassword FROM pg_authid WHERE rolname = 'prometheus'"
    seen = hospital.lab.inside("sv-01", ["su", "postgres", "-c", f'psql -XAtc "{may}"'], check=True).stdout
    assert seen.strip() == "f|"
    heard = hospital.lab.inside("sv-01", ["ss", "-Hlnt", "sport = :9187"], check=True).stdout
    assert [line.split()[3] for line in heard.splitlines()] == ["10.77.0.10:9187"], "another monitor asks, too"


@pytest.mark.timeout(1800)
def test_a_second_apply_changes_nothing(hospital: Hospital, applied: Any) -> None:
    again = hospital.apply_approved(hospital.run("preview", "site", *HOSTS)["id"])
    assert again["run"]["state"] == "successful", again["run"]["detail"]
    changed = [(task["host"], task["task"]) for task in again["run"]["tasks"] if task["status"] == "changed"]
    assert changed == []
    assert {host["changed"] for host in again["run"]["recap"].values()} == {0}


def test_no_key_of_snmp_stands_in_what_is_kept_of_the_run(hospital: Hospital, applied: Any) -> None:
    words = dict(line.split(" = ", 1) for line in hospital.lab.secret("3").read_text().splitlines())
    keys = [words["auth_key"].strip(), words["priv_key"].strip()]
    assert not [key for key in keys if key in json.dumps(applied)]
    vault = Vault(hospital.folder / "data" / "vault")
    assert not [name for name in vault.names() for key in keys if key.encode() in vault.get(name)]
    said = hospital.lab.inside("sv-01", ["sh", "-c", "journalctl --no-pager | cat; cat /var/log/syslog"]).stdout
    assert not [key for key in keys if key in said]


def test_login_rules_that_were_built_by_hand_are_left_as_they_are(hospital: Hospital) -> None:
    """Without the marks of Debian's tool the files are somebody's own work; the play says so and takes nothing over."""
    alone = yaml.safe_load((hospital.home / "playbooks" / "hardening.yml").read_text(encoding="utf-8"))
    alone[0]["roles"] = [{"role": "accounts_policy"}]
    (hospital.home / "playbooks" / "hardening.yml").write_text(yaml.safe_dump(alone), encoding="utf-8")
    # So that nothing but the play touches these files: the package that brings a rule of its own comes first.
    install = "apt-get install -y -q --no-install-recommends libpam-pwquality && sed -i '/^# /d' /etc/pam.d/common-auth"
    hospital.lab.inside("pc-02", ["sh", "-c", install], check=True)
    read = ["sh", "-c", "cat /etc/pam.d/common-*"]
    before = hospital.lab.inside("pc-02", read).stdout
    done = hospital.run("apply", "hardening", "pc-02", code=1)
    assert done["run"]["state"] == "failed"
    assert "settle it by hand" in done["run"]["detail"]
    assert hospital.lab.inside("pc-02", read).stdout == before
    assert hospital.lab.ssh("10.77.0.12", "sudo -n true", key="play").returncode == 0
    assert hospital.lab.inside("pc-02", ["ls", "/run/emrctl"]).stdout == "", "the guard is gone"


RELAY = f"""
import pathlib, ssl, sys, time
from aiosmtpd.controller import Controller

class Keep:
    async def handle_DATA(self, server, session, envelope):
        with pathlib.Path(sys.argv[3]).open("ab") as kept:
            kept.write(repr((session.ssl is not None, envelope.mail_from, envelope.rcpt_tos)).encode() + b"\\n")
            kept.write(envelope.content)
        return "250 OK"

tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(sys.argv[1], sys.argv[2])
Controller(Keep(), hostname="{GATEWAY}", port=2525, tls_context=tls, require_starttls=True).start()
sys.stdin.read()
"""


@pytest.mark.timeout(300)
def test_an_alarm_comes_as_mail_through_a_relay_with_tls(hospital: Hospital, applied: Any, tmp_path: Path) -> None:
    key, certificate, mail = tmp_path / "relay.key", tmp_path / "relay.crt", tmp_path / "mail"
    make = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=relay -addext subjectAltName=IP:{GATEWAY}"
    subprocess.run([*make.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    trust = "cat >/usr/local/share/ca-certificates/relay.crt && update-ca-certificates"
    hospital.lab.inside("sv-01", ["sh", "-c", trust], input=certificate.read_text(), check=True)
    argv = [LAB, "exec", sys.executable, "-W", "ignore", "-c", RELAY, certificate, key, mail]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as relay:
        # Go reads the authorities once.
        hospital.lab.inside("sv-01", ["systemctl", "restart", "prometheus-alertmanager"], check=True)
        alarm = "amtool --alertmanager.url=http://127.0.0.1:9093 alert add alertname=Trial asset=sv-01"
        hospital.lab.inside("sv-01", ["sh", "-c", f"for i in 1 2 3 4 5; do {alarm} && exit; sleep 1; done"], check=True)
        limit = time.monotonic() + 120
        while b"Trial" not in (seen := mail.read_bytes() if mail.exists() else b""):
            assert time.monotonic() < limit, seen.decode()
            time.sleep(1)
        relay.communicate(b"", timeout=10)
    assert seen.startswith(b"(True, 'canh-bao@benhvien.example', ['cntt@benhvien.example'])")


PAPER = f"""
import socket
server = socket.create_server(("{GATEWAY}", 9100))
server.settimeout(120)
peer, _ = server.accept()
with peer:
    peer.settimeout(120)
    print(b"".join(iter(lambda: peer.recv(65536), b""))[:2], flush=True)
"""


@pytest.mark.timeout(900)
def test_print_queues_print_and_a_printer_that_does_not_answer_is_said(hospital: Hospital) -> None:
    """A real CUPS: a driver toward a socket, and IPP without a driver toward that queue, as toward a modern printer."""
    play = hospital.home / "playbooks" / "workstations.yml"
    alone = yaml.safe_load(play.read_text(encoding="utf-8"))
    alone[0]["roles"] = [{"role": "printing"}]
    play.write_text(yaml.safe_dump(alone), encoding="utf-8")
    laser = {"name": "laser", "uri": f"socket://{GATEWAY}:9100", "model": "drv:///sample.drv/generpcl.ppd"}
    modern = {"name": "cap-cuu", "uri": "ipp://127.0.0.1/printers/laser", "description": "Khoa Cấp cứu"}
    switched_off = {"name": "khoa-noi", "uri": f"ipp://{GATEWAY}:8631/ipp/print"}
    _declare(hospital, [laser, modern])
    # The lab's PCs have no systemd that would start the print server.
    install = "apt-get install -y -q --no-install-recommends cups cups-client && cupsd"
    hospital.lab.inside("pc-03", ["sh", "-c", install], check=True)
    would = hospital.run("preview", "workstations", "pc-03")["run"]
    assert [task["status"] for task in would["tasks"] if task["task"] == "Add what is missing"] == ["would_change"]
    assert hospital.run("apply", "workstations", "pc-03")["run"]["state"] == "successful"
    with subprocess.Popen([LAB, "exec", sys.executable, "-c", PAPER], stdout=subprocess.PIPE, text=True) as paper:
        hospital.lab.inside("pc-03", ["sh", "-c", "echo 'Xin chào' | lp -d cap-cuu"], check=True)
        assert paper.communicate(timeout=150)[0].strip() == r"b'\x1bE'", "a printer's reset, in PCL"
    again = hospital.run("apply", "workstations", "pc-03")["run"]
    assert [task["task"] for task in again["tasks"] if task["status"] == "changed"] == []
    _declare(hospital, [laser, modern, switched_off])
    for _ in range(2):  # a queue without a driver is no queue that is there
        failed = hospital.run("apply", "workstations", "pc-03", code=1)["run"]
        assert failed["state"] == "failed"
        assert "khoa-noi: the printer did not say over IPP" in failed["detail"]


def _declare(hospital: Hospital, queues: list[dict[str, str]]) -> None:
    path = hospital.folder / "overlay.yaml"
    overlay = yaml.safe_load(path.read_text(encoding="utf-8"))
    overlay["all"]["hosts"] = {"pc-03": {"printing_queues": queues, "printing_driver_seconds": 5}}
    path.write_text(yaml.safe_dump(overlay), encoding="utf-8")
