"""The network play on a bridge of a real kernel that tells VLANs apart: the lab's guest is the switch."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.e2e.guest_hospital import Storage, fresh_guest

# Ansible in an emulated guest takes minutes: too long for the tier of every test run.
pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(1800)]

# port1 carries what a new port carries; port2 and port3 are wrong each in its own way; uplink is no port of it yet.
_BRIDGE = """
set -e
modprobe -a bridge dummy
ip link add br7 type bridge vlan_filtering 1
for port in port1 port2 port3 uplink; do ip link add $port type dummy; ip link set $port up; done
for port in port1 port2 port3; do ip link set $port master br7; done
"""
_WRONG = """
set -e
bridge vlan add dev port2 vid 30 pvid untagged
bridge vlan add dev port2 vid 40
bridge vlan del dev port3 vid 1
bridge vlan add dev port3 vid 10-20
ip link set br7 up
"""
_PORTS = {
    "port1": {"access": 20},
    "port2": {"access": 20},
    "port3": {"trunk": [10, 15, 40], "native": 30},
    "uplink": {"trunk": [10, 15, 20, 30, 40]},
}
_INTENDED = {
    "port1": {20: "untagged"},
    "port2": {20: "untagged"},
    "port3": {10: "tagged", 15: "tagged", 30: "untagged", 40: "tagged"},
    "uplink": dict.fromkeys((10, 15, 20, 30, 40), "tagged"),
}


@pytest.fixture(scope="module")
def switch(lab, tmp_path_factory):
    """The guest as a switch of the hospital, with a bridge whose ports are not as they should be."""
    with fresh_guest(lab):
        place = Storage(lab, tmp_path_factory.mktemp("switch"))
        values = {"emr_kind": "switch", "emr_switch": {"system": "linux_bridge", "bridge": "br7"}, "emr_ports": _PORTS}
        # An emulated machine takes its time to let anybody in, and the guard must not take that for a lost way back.
        values |= {"timed_rollback_reconnect_seconds": 120, "timed_rollback_seconds": 300}
        groups = {"network_devices": {"hosts": {"nas-02": {}}}}
        overlay = {"all": {"hosts": {"nas-02": values}, "children": groups}}
        (place.folder / "overlay.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
        place.emrctl("init")
        place.people()
        place.guest(_BRIDGE + _WRONG)
        yield place


def carried(switch):
    """Port -> VLAN -> how it leaves the port, as the kernel tells it; a tag that goes by no port's own VLAN is seen."""
    found = {}
    for row in json.loads(switch.guest("bridge -j -compressvlans vlan show")):
        if row["ifname"] in _PORTS:
            vlans = found.setdefault(row["ifname"], {})
            for one in row.get("vlans", []):
                assert "vlanEnd" not in one
                flags = set(one.get("flags", []))
                assert flags in (set(), {"PVID", "Egress Untagged"}), row
                vlans[one["vlan"]] = "untagged" if flags else "tagged"
    return found


def changes(run):
    """The names of the tasks that changed something."""
    return [task["task"] for task in run["run"]["tasks"] if task["status"] == "changed"]


def test_the_play_brings_the_ports_of_a_bridge_to_the_inventory_and_then_has_no_work(switch):
    before = json.loads(switch.guest("bridge -j vlan show"))
    assert {row["ifname"] for row in before} >= {"port1", "port2", "port3"}
    _, applied = switch.play(name="network")
    assert applied["run"]["state"] == "successful", applied["run"]["detail"]
    assert "Change the ports that differ" in changes(applied)
    assert carried(switch) == _INTENDED
    _, again = switch.play(name="network")
    assert again["run"]["state"] == "successful", again["run"]["detail"]
    assert changes(again) == []


def test_the_script_of_the_start_makes_the_same_of_a_bridge_that_has_just_begun(switch):
    switch.guest("ip link del br7; for port in port1 port2 port3 uplink; do ip link del $port; done")
    switch.guest(_BRIDGE)
    switch.guest("systemctl restart emrctl-switch")
    assert carried(switch) == _INTENDED


def test_it_also_holds_where_the_bridge_gives_a_new_port_no_vlan(switch):
    switch.guest("ip link set uplink nomaster; ip link set br7 type bridge vlan_default_pvid 0")
    _, applied = switch.play(name="network")
    assert applied["run"]["state"] == "successful", applied["run"]["detail"]
    assert carried(switch) == _INTENDED
