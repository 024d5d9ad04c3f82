"""The whole lab: every host of the hospital answers, and a real router lets through what the matrix allows, no more."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.plan import HOSTS, host
from lab.processes import Process
from tests.integration.backup_peers import until
from tests.integration.conftest import LAB, ROOT, Lab

pytestmark = pytest.mark.lab

OUTSIDE = "10.78.255.2"
PVID, VLAN_NAME = "1.3.6.1.2.1.17.7.1.4.5.1.1", "1.3.6.1.2.1.17.7.1.4.3.1.1"
EGRESS = "1.3.6.1.2.1.17.7.1.4.2.1.4.0"

# Several log in at a time; each prints its own name, as the host tells it.
_LOG_IN = 'printf "%s\\n" $HOSTS | xargs -P 8 -I{} ssh -F none -i $KEY $STRICT emrplay@{} hostname'
_ASK_ALL = """
import asyncio, sys
from pysnmp.hlapi.v3arch.asyncio import *
from pysnmp.hlapi.v3arch.asyncio import USM_AUTH_HMAC96_SHA, USM_PRIV_CFB128_AES

async def main(path, *addresses):
    secret = {k.strip(): v.strip() for k, _, v in (line.partition("=") for line in open(path))}
    who = UsmUserData(secret["user"], secret["auth_key"], secret["priv_key"],
                      authProtocol=USM_AUTH_HMAC96_SHA, privProtocol=USM_PRIV_CFB128_AES)
    engine = SnmpEngine()
    for address in addresses:
        target = await UdpTransportTarget.create((address, 161), timeout=3, retries=2)
        name = ObjectType(ObjectIdentity("1.3.6.1.2.1.1.5.0"))
        wrong, status, _, found = await get_cmd(engine, who, target, ContextData(), name)
        print(address, wrong or status or found[0][1].prettyPrint())

asyncio.run(main(*sys.argv[1:]))
"""
_LISTEN = """
import socket, sys
for at in sys.argv[1:]:
    address, _, port = at.partition(":")
    server = socket.create_server((address, int(port)), backlog=16)
    globals()["kept" + port] = server
print("ready", flush=True)
sys.stdin.read()
"""
_TRY = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor
def tried(at):
    address, _, port = at.partition(":")
    try:
        socket.create_connection((address, int(port)), timeout=1.5).close()
        return "open"
    except TimeoutError:
        return "silent"
    except ConnectionRefusedError:
        return "refused"
    except OSError:  # nobody of that address answers in this network
        return "nobody"
print(*ThreadPoolExecutor().map(tried, sys.argv[1:]))
"""


def reaches(lab: Lab, name: str, *places: str) -> list[str]:
    """A connection from inside a host to each place: open, refused, nobody there, or silent as a filter leaves it."""
    done = lab.inside(name, ["python3", "-c", _TRY, *places])
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def listeners(whole_lab: Lab) -> Iterator[None]:
    """Somebody who takes a connection on sv-01 (443, 8443), a printer (9100); outside the probe does."""
    places = {
        "sv-01": ["10.78.10.10:443", "10.78.10.10:8443"],
        "prn-02": [f"{host('prn-02').data_address}:9100"],
    }
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    running = [
        subprocess.Popen([LAB, "in", name, "python3", "-c", _LISTEN, *at], text=True, **pipes)  # type: ignore[call-overload]
        for name, at in places.items()
    ]
    assert [one.stdout.readline() for one in running] == ["ready\n"] * len(running)
    yield
    for one in running:
        one.communicate("", timeout=10)


def test_every_host_with_ssh_lets_the_plays_in(whole_lab: Lab) -> None:
    wanted = {one.address: one.name for one in HOSTS if "ssh" in one.services}
    strict = f"-o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile={whole_lab.known_hosts}"
    told = {"HOSTS": " ".join(wanted), "KEY": str(whole_lab.key("play")), "STRICT": strict}
    done = whole_lab.exec(["sh", "-c", _LOG_IN], env={**os.environ, **told})
    assert (done.returncode, sorted(done.stdout.split())) == (0, sorted(wanted.values())), done.stderr


def test_every_host_with_snmp_tells_its_name(whole_lab: Lab) -> None:
    wanted = {one.address: one.name for one in HOSTS if "snmpd" in one.services}
    argv = [sys.executable, "-W", "ignore", "-c", _ASK_ALL, whole_lab.secret("3"), *wanted]
    done = whole_lab.exec(argv)
    assert dict(line.split(" ", 1) for line in done.stdout.splitlines()) == wanted, done.stderr


def test_server_storage_and_firewall_are_run_by_systemd_and_linux_hosts_have_an_exporter(whole_lab: Lab) -> None:
    rows = whole_lab.status()
    assert len(rows) == len(HOSTS)
    assert {name for name, row in rows.items() if row["how"] == "systemd"} == {"sv-01", "nas-01", "fw-01"}
    assert (
        whole_lab.inside("fw-01", ["systemctl", "is-active", "nftables", "ssh", "snmpd"]).stdout.split()
        == ["active"] * 3
    )
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9100/metrics').read(60).decode())"
    for name in ("sv-01", "nas-01", "fw-01", "pc-35"):
        assert whole_lab.inside(name, ["python3", "-c", ask]).stdout.startswith("# HELP"), name


@pytest.mark.parametrize("source", ["pc-04", "pc-28", "probe-20", "probe-30", "probe-70"])
def test_workstations_reach_the_servers_https_and_nothing_else_there(
    whole_lab: Lab, listeners: None, source: str
) -> None:
    places = ("10.78.10.10:443", "10.78.10.10:8443", "10.78.10.10:22")
    assert reaches(whole_lab, source, *places) == ["open", "silent", "silent"]


def test_inside_its_own_vlan_a_server_is_not_behind_the_router(whole_lab: Lab, listeners: None) -> None:
    assert reaches(whole_lab, "probe-10", "10.78.10.10:22", "10.78.10.10:8443") == ["open", "open"]


@pytest.mark.parametrize("source", ["prn-02", "probe-40", "probe-60", "pc-04"])
def test_printers_cameras_and_clinical_workstations_do_not_reach_the_internet(
    whole_lab: Lab, listeners: None, source: str
) -> None:
    assert reaches(whole_lab, source, f"{OUTSIDE}:443") == ["silent"]


def test_guests_reach_the_internet_alone_and_it_reaches_nobody(whole_lab: Lab, listeners: None) -> None:
    inside = ["10.78.10.10:443", f"{host('prn-02').data_address}:9100"]
    assert reaches(whole_lab, "probe-80", f"{OUTSIDE}:443", *inside) == ["open", "silent", "silent"]
    assert reaches(whole_lab, "probe-internet", *inside, f"{host('pc-04').data_address}:22") == ["silent"] * 3


def test_a_workstation_prints_and_a_printer_calls_nobody(whole_lab: Lab, listeners: None) -> None:
    assert reaches(whole_lab, "pc-04", f"{host('prn-02').data_address}:9100") == ["open"]
    assert reaches(whole_lab, "prn-02", f"{host('pc-04').data_address}:22", "10.78.10.10:443") == ["silent"] * 2


def test_the_firewall_itself_takes_no_log_in_from_a_vlan(whole_lab: Lab) -> None:
    assert reaches(whole_lab, "pc-04", "10.78.20.1:22", "10.78.99.1:22") == ["silent"] * 2
    assert reaches(whole_lab, "probe-internet", "10.78.255.1:22") == ["silent"]


@pytest.mark.parametrize("name", ["sw-acc-01", "sw-core-01"])
def test_each_switch_tells_its_vlans_and_ports_over_snmp(whole_lab: Lab, name: str) -> None:
    address = host(name).address
    cards = {card.port: card.vlan for one in HOSTS for card in one.cards if card.switch == name}
    some, vlans = sorted(cards)[::7], sorted(set(cards.values()))
    names = [*(f"{PVID}.{port}" for port in some), *(f"{VLAN_NAME}.{vlan}" for vlan in vlans), f"{EGRESS}.40"]
    *told, egress = whole_lab.snmp(address, *names)
    assert told == [*(str(cards[port]) for port in some), *(f"VLAN{vlan}" for vlan in vlans)]
    bits = bytes.fromhex(egress.removeprefix("0x"))
    members = {8 * at + bit + 1 for at, octet in enumerate(bits) for bit in range(8) if octet & (0x80 >> bit)}
    trunk = 5 if name == "sw-acc-01" else 1
    assert members == {port for port, vlan in cards.items() if vlan == 40} | {trunk}


def test_a_host_moved_to_another_vlan_loses_its_own(whole_lab: Lab, listeners: None) -> None:
    port = f"port{host('pc-05').port}"
    try:
        whole_lab.inside("sw-acc-01", ["ovs-vsctl", "set", "port", port, "tag=40"], check=True)
        assert reaches(whole_lab, "pc-05", f"{host('pc-04').data_address}:22") != ["open"]
    finally:
        whole_lab.inside("sw-acc-01", ["ovs-vsctl", "set", "port", port, "tag=20"], check=True)
    # For some seconds the host still holds that nobody of that address is there.
    until(lambda: reaches(whole_lab, "pc-05", f"{host('pc-04').data_address}:22") == ["open"])


def test_up_again_starts_nothing_and_a_crash_is_mended(whole_lab: Lab) -> None:
    before = {name: row["pid"] for name, row in whole_lab.status().items()}
    assert "started: nothing" in whole_lab.run_lab("up", "--whole", check=True).stdout
    state = json.loads((whole_lab.dir / "state.json").read_text())["hosts"]
    for name in ("fw-01", "pc-20", "prn-30", "probe-60"):
        os.kill(state[name]["pid"], signal.SIGKILL)
    limit = time.monotonic() + 10
    while time.monotonic() < limit and any(Process.of(state[name]["pid"]) for name in ("fw-01", "pc-20", "prn-30")):
        time.sleep(0.02)
    said = whole_lab.run_lab("up", "--small", check=True).stdout  # the whole lab stays whole
    assert "started: fw-01 pc-20 prn-30 probe-60" in said
    after = whole_lab.status()
    assert all(row["up"] for row in after.values())
    assert after["pc-21"]["pid"] == before["pc-21"]
    assert reaches(whole_lab, "pc-20", "10.78.10.10:8443") == ["silent"]


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_product_makes_a_round_over_the_whole_hospital(
    whole_lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("checks", "playbooks", "inventory"):
        shutil.copytree(ROOT / name, tmp_path / "home" / name)
    shutil.copy(whole_lab.vlans, tmp_path / "home" / "inventory" / "vlans.yaml")
    given: list[str | Path] = [
        "--data-dir",
        tmp_path / "data",
        "--known-hosts",
        whole_lab.known_hosts,
        "--inventory",
        whole_lab.hospital,
    ]
    emrctl: list[str | Path] = ["env", f"EMRCTL_HOME={tmp_path / 'home'}", sys.executable, "-m", "controlplane", *given]
    assert whole_lab.exec([*emrctl, "init"], cwd=ROOT).returncode == 0
    began = time.monotonic()
    done = whole_lab.exec([*emrctl, "round", "--json"], cwd=ROOT, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    looks = json.loads(done.stdout)["looks"]
    with capsys.disabled():
        print(f"\na round over the whole hospital: {looks} in {time.monotonic() - began:.0f} s")
    assert looks["answered"] == len(HOSTS) - 1 + 1  # not the time source, and this machine
    assert set(looks) == {"answered", "no_address"}
