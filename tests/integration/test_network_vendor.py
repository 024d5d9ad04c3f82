"""The play for switches of other makers, run with the real collections against switches that are played back.

The switches speak SSH on the loopback and answer as recorded (``played_switch.py``). No device of these makers is here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from tests.integration.conftest import ROOT
from tests.integration.played_switch import Device, Ios, PlayedSwitch, RouterOs

PLAYBOOKS = ROOT / "playbooks"
NETWORK = {
    "vlans": [
        {"id": number, "name": name, "zone": "internal", "subnet": None}
        for number, name in ((10, "servers"), (20, "clinical"), (99, "management"))
    ]
}
IOS_PORTS = {
    "GigabitEthernet0/1": {"trunk": [10, 20], "native": 99},
    "GigabitEthernet0/2": {"access": 20},
    "GigabitEthernet0/3": {"trunk": [10]},
}
IOS_LINES = """\
vlan 20
 name clinical
vlan 99
 name management
interface GigabitEthernet0/1
 switchport
 switchport trunk allowed vlan 10,20,99
 switchport trunk native vlan 99
 switchport mode trunk
 switchport nonegotiate
interface GigabitEthernet0/2
 switchport
 switchport mode access
 switchport access vlan 20
 switchport nonegotiate
interface GigabitEthernet0/3
 switchport
 switchport trunk encapsulation dot1q
 switchport trunk allowed vlan 10
 switchport trunk native vlan 1
 switchport mode trunk
 switchport nonegotiate
""".splitlines()
ROS_PORTS = {"ether1": {"trunk": [10, 20]}, "ether3": {"access": 20}}
ROS_LINES = """\
/interface bridge vlan add bridge=bridge1 vlan-ids=10 tagged="ether1" untagged=""
/interface bridge port set [find bridge=bridge1 interface=ether1] pvid=1 frame-types=admit-only-vlan-tagged \
ingress-filtering=yes
/interface bridge port set [find bridge=bridge1 interface=ether3] pvid=20 \
frame-types=admit-only-untagged-and-priority-tagged ingress-filtering=yes
""".splitlines()
BOTH = ("--limit", "sw-ios,sw-ros")
CHANGES = ("/interface bridge port set", "/interface bridge vlan set", "/interface bridge vlan add")


@pytest.fixture(scope="session")
def collections() -> str:
    """The folder with the real collections."""
    done = subprocess.run([ROOT / "script" / "collections"], capture_output=True, text=True, check=False, timeout=180)
    if done.returncode != 0:
        words = f"script/collections: {done.stderr.strip()}"
        pytest.fail(words) if os.environ.get("CI") else pytest.skip(words)
    return done.stdout.strip()


class Desk:
    """Three played-back switches and the machine that runs the play: IOS with an archive, without one, and RouterOS."""

    def __init__(self, folder: Path, collections: str) -> None:
        self.folder = folder
        self.devices: dict[str, Device] = {"sw-ios": Ios(), "sw-old": Ios(archive=False), "sw-ros": RouterOs()}
        self.switches: dict[str, PlayedSwitch] = {}
        hosts = {}
        for name, device in self.devices.items():
            ios = isinstance(device, Ios)
            switch = self.switches[name] = PlayedSwitch(device, user="emr" if ios else "emr+cet1024w")
            hosts[name] = {
                "ansible_host": "127.0.0.1",
                "ansible_port": switch.port,
                "ansible_user": switch.user,
                "ansible_password": switch.password,
                "ansible_connection": "ansible.netcommon.network_cli",
                "ansible_network_os": "cisco.ios.ios" if ios else "community.routeros.routeros",
                "emr_switch": {"system": "ios"} if ios else {"system": "routeros", "bridge": "bridge1"},
                "emr_ports": IOS_PORTS if ios else ROS_PORTS,
            }
        (folder / ".ssh").mkdir(mode=0o700)
        known = "".join(switch.known_host for switch in self.switches.values())
        (folder / ".ssh" / "known_hosts").write_text(known)
        (folder / "inventory.json").write_text(json.dumps({"all": {"children": {"switches": {"hosts": hosts}}}}))
        (folder / "network.json").write_text(json.dumps({"emr_network": NETWORK}))
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "ANSIBLE_CONFIG": str(PLAYBOOKS / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": collections,
            "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
            "ANSIBLE_PERSISTENT_CONTROL_PATH_DIR": str(folder / "pc"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PERSISTENT_COMMAND_TIMEOUT": "90",  # a machine that is busy with other tests
        }

    def run(self, *options: str) -> tuple[int, str]:
        """(exit code, what was printed) of one run; what the switches hear is counted anew."""
        for switch in self.switches.values():
            switch.heard.clear()
        argv = ["ansible-playbook", "-i", self.folder / "inventory.json", "-e", f"@{self.folder / 'network.json'}"]
        argv += ["-e", f"ansible_python_interpreter={sys.executable}", *options]
        argv += [PLAYBOOKS / "network-vendor" / "switches.yml"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=200, env=self.environment)
        return done.returncode, done.stdout + done.stderr

    def kept(self) -> dict[str, Path]:
        """The configurations that were kept, by switch."""
        return {path.name[:6]: path for path in (self.folder / "emrctl-switches").glob("*")}

    def states(self) -> dict[str, str]:
        """What each switch holds now."""
        return {name: device.state() for name, device in self.devices.items()}


@pytest.fixture
def desk(tmp_path: Path, collections: str) -> Iterator[Desk]:
    made = Desk(tmp_path, collections)
    yield made
    for switch in made.switches.values():
        switch.close()


def test_switches_are_read_saved_changed_confirmed_by_a_fresh_connection_and_then_left_alone(desk: Desk) -> None:
    before = desk.states()
    ios, _, ros = desk.switches.values()
    code, said = desk.run("--check", "--diff", *BOTH)
    assert code == 0, said
    assert desk.states() == before
    assert ios.configured() == ros.lines("/system b", "/system s", *CHANGES) == []
    assert "switchport trunk encapsulation dot1q" in said
    assert "frame-types=admit-only-vlan-tagged" in said
    assert desk.kept() == {}

    code, said = desk.run("-vv", *BOTH)
    assert code == 0, said
    assert ios.configured() == [line.strip() for line in IOS_LINES]
    assert ros.lines(*CHANGES) == ROS_LINES
    assert ios.lines("show running-config", "configure ", "reload", "write memory") == [
        "show running-config", "configure terminal revert timer 5", "show running-config", "configure terminal",
        "configure confirm", "write memory",
    ]  # fmt: skip
    assert [" ".join(line.split()[:3]) for line in ros.lines("/export", "/system b", "/system s")] == [
        "/export", "/system backup save", "/system scheduler add", "/system scheduler print",
        "/system scheduler remove", "/system scheduler print",
    ]  # fmt: skip
    confirmed(ios, "configure terminal revert", "configure confirm")
    confirmed(ros, "/system scheduler add", "/system scheduler remove")
    assert desk.devices["sw-ios"].running == desk.devices["sw-ios"].startup
    kept = desk.kept()
    assert "interface GigabitEthernet0/2" in kept["sw-ios"].read_text()
    assert kept["sw-ros"].read_text().startswith("# sep/25/2018")
    assert {path.stat().st_mode & 0o777 for path in kept.values()} == {0o600}
    assert "hostname SW1" not in said, "a configuration holds secrets"

    code, said = desk.run(*BOTH)
    assert code == 0, said
    assert said.count("changed=0") == 2
    assert ios.lines("conf", "write", "reload") == []
    assert ros.lines("/system b", "/system s", "/export", *CHANGES) == []
    assert desk.kept() == kept


def test_a_switch_that_is_out_of_sight_or_refuses_is_not_confirmed_and_returns_to_what_it_was(desk: Desk) -> None:
    before = desk.states()
    desk.devices["sw-ios"].drops, desk.devices["sw-ros"].refuses = "interface GigabitEthernet0/1", "interface=ether3]"
    code, said = desk.run(*BOTH)
    assert code == 2, said
    assert 'Not confirmed, at "Ask again": ' in said
    assert "The switch rolls back by itself within 5 minutes." in said
    words = "failure: interface cannot be in tagged and untagged at the same time"
    assert f'Not confirmed, at "Send what differs": {words} The switch loads what was saved' in said
    assert desk.switches["sw-ios"].lines("configure confirm", "write") == []
    assert desk.switches["sw-ros"].lines("/system scheduler remove") == []
    returned(desk, before, "sw-ios", "sw-ros")


@pytest.mark.soak
def test_a_switch_without_an_archive_restarts_with_what_was_in_force_and_the_rest_the_other_way_round(
    desk: Desk,
) -> None:
    ios, old, ros = desk.devices.values()
    old.running["vlans"][77] = "by-hand"  # in force and not saved: the restart must not lose it
    before = desk.states()
    ios.refuses, old.drops, ros.drops = "switchport nonegotiate", "interface GigabitEthernet0/1", "interface=ether1]"
    code, said = desk.run()
    assert code == 2, said
    assert 'Not confirmed, at "Send what differs": % Invalid input detected at' in said
    assert said.count('Not confirmed, at "Ask again": ') == 2
    assert "The switch restarts with what was saved by itself within 5 minutes." in said
    assert desk.switches["sw-old"].lines("reload", "write") == ["write memory", "reload in 5"]
    returned(desk, before, "sw-ios", "sw-old", "sw-ros")

    old.drops, desk.switches["sw-old"].gone = "", False
    code, said = desk.run("--limit", "sw-old")
    assert code == 0, said
    assert desk.switches["sw-old"].configured() == [line.strip() for line in IOS_LINES]
    confirmed(desk.switches["sw-old"], "reload in", "reload cancel")
    assert old.running == old.startup


def confirmed(switch: PlayedSwitch, armed: str, called_off: str) -> None:
    """The return was called off, by a connection made after the one that armed it."""
    assert switch.session_of(called_off) > switch.session_of(armed)
    assert switch.device.armed is None


def returned(desk: Desk, before: dict[str, str], *names: str) -> None:
    """These switches were changed, none was confirmed, and by its own clock each is what it was."""
    for name in names:
        assert desk.devices[name].armed is not None
        assert desk.states()[name] != before[name]
        desk.devices[name].time_passes()
    assert desk.states() == before


def test_the_played_switch_pages_until_it_is_told_not_to_and_lets_no_stranger_in() -> None:
    switch = PlayedSwitch(Ios())
    try:
        with paramiko.Transport(("127.0.0.1", switch.port)) as transport, pytest.raises(paramiko.SSHException):
            transport.connect(username="emr", password="wrong")
        with paramiko.Transport(("127.0.0.1", switch.port)) as transport:
            transport.connect(username="emr", password="played-back")
            channel = transport.open_session()
            channel.settimeout(10)
            channel.get_pty()
            channel.invoke_shell()

            def until(end: str | tuple[str, ...]) -> str:
                text = ""
                while not text.endswith(end):
                    text += channel.recv(4096).decode()
                return text

            until("SW1#")
            channel.sendall(b"show interfaces switchport\r")
            shown = until(" --More-- ")
            assert "Gi0/1" in shown
            assert "Gi0/3" not in shown
            while not shown.endswith("SW1#"):
                channel.sendall(b" ")
                shown += until((" --More-- ", "SW1#"))
            assert shown.count(" --More-- ") == 3
            assert "Gi0/3" in shown
            channel.sendall(b"terminal length 0\r")
            until("SW1#")
            channel.sendall(b"show interfaces switchport\r")
            assert "--More--" not in until("SW1#")
    finally:
        switch.close()
