"""Switches of other makers: recorded outputs (``tests/switches``) are read, and what differs is rendered.

The shorter texts below follow the recorded ones; their ports and VLANs are our own. No such switch was ever asked.
"""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any

import jinja2
import pytest
from ansible.errors import AnsibleFilterError

from tests.unit.test_network_model import MODEL, PLAYBOOKS, ROOT, module

VENDOR = module("filter_plugins/emr_vendor.py")
RECORDED = {path.stem: path for path in (ROOT / "tests" / "switches").glob("*.json")}


def recorded(name: str, command: str) -> str:
    return str(json.loads(RECORDED[name].read_text(encoding="utf-8"))["replies"][command]["reply"])


VLANS = """
VLAN Name                             Status    Ports
---- -------------------------------- --------- -------------------------------
1    default                          active    Gi1/0/3
20   clinical                         active    Gi1/0/1
1002 fddi-default                     act/unsup
"""


def switchport(name: str, mode: str, access: int, native: int, trunk: str) -> str:
    return f"""Name: {name}
Switchport: Enabled
Administrative Mode: {mode}
Operational Mode: down
Negotiation of Trunking: On
Access Mode VLAN: {access} (default)
Trunking Native Mode VLAN: {native} (default)
Administrative private-vlan trunk native VLAN: none
Trunking VLANs Enabled: {trunk}
Pruning VLANs Enabled: 2-1001

"""


PORTS = (
    switchport("Gi1/0/1", "static access", 20, 1, "ALL")
    + switchport("Gi1/0/2", "dynamic auto", 20, 1, "ALL")
    + switchport("Gi1/0/3", "trunk", 1, 99, "20,40-42,\n     99")
    + switchport("Gi1/0/4", "trunk", 1, 1, "20,40")
)
NETWORK: dict[str, Any] = {
    "vlans": [
        {"id": number, "name": name, "zone": "internal", "subnet": None}
        for number, name in ((20, "clinical"), (40, "printers"), (41, "a"), (42, "b"), (99, "management"))
    ]
}
ASKED = {
    "GigabitEthernet1/0/1": {"access": 20},
    "GigabitEthernet1/0/2": {"access": 20},
    "GigabitEthernet1/0/3": {"trunk": [20, 40, 41, 42], "native": 99},
    "GigabitEthernet1/0/4": {"trunk": [20, 40, 99]},
}


def rendered(name: str, **values: Any) -> str:
    text = (PLAYBOOKS / "network-vendor" / "templates" / name).read_text(encoding="utf-8")
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)  # noqa: S701
    return environment.from_string(text).render(values)


@pytest.mark.parametrize("name", ["ios", "routeros"])
def test_every_played_back_reply_has_its_origin_and_no_address_or_secret(name: str) -> None:
    text = RECORDED[name].read_text(encoding="utf-8")
    for row in json.loads(text)["replies"].values():
        assert row["kind"] in ("recorded", "documented")
        assert len(row["origin"]) > 10
    for word in re.findall(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}", text):
        assert ipaddress.ip_address(word).is_private
    assert not re.search(r"PRIVATE KEY|password|secret |community ", text)


def test_what_a_real_switch_with_ios_said_is_read() -> None:
    ports = VENDOR.read_ios(recorded("ios", "show interfaces switchport"))
    assert ports["gigabitethernet0/1"] == {
        "mode": "trunk", "access": 1, "native": 1, "trunk": "all", "negotiates": False,
    }  # fmt: skip
    assert ports["gigabitethernet0/2"] == {
        "mode": "dynamic auto", "access": 100, "native": 1, "trunk": "all", "negotiates": True,
    }  # fmt: skip
    vlans = VENDOR.read_ios_vlans(recorded("ios", "show vlan brief"))
    assert sorted(vlans) == [1, 10, 50, 60, 1002, 1003, 1004, 1005]
    assert vlans[10] == "Management"


def test_what_a_real_switch_with_routeros_said_is_read() -> None:
    rows = VENDOR.read_routeros(recorded("routeros", "/interface bridge port print terse"))
    assert [row["interface"] for row in rows] == ["ether9", "ether10", "ether1", "ether3"]
    assert {(row["pvid"], row["frame-types"], row["ingress-filtering"]) for row in rows} == {("1", "admit-all", "no")}
    (row,) = VENDOR.read_routeros(recorded("routeros", "/interface bridge vlan print terse"))
    assert (row["vlan-ids"], row["tagged"], row["untagged"]) == ("20", "bridge1,ether1", "ether3")


def test_refusals_are_known_by_their_words() -> None:
    words = [recorded("routeros", name) for name in ("refused", "already", "bad command name")]
    assert VENDOR.routeros_refused(["", *words, "Configuration backup saved"]) == words
    told = "b'switchport nonegotiate\\r\\n     ^\\r\\n% Invalid input detected at '^' marker.\\r\\nSW1(config-if)#'"
    assert VENDOR.ios_refused(told) == "% Invalid input detected at '^' marker."
    assert VENDOR.ios_refused(recorded("ios", "rejected")) == recorded("ios", "rejected")
    assert VENDOR.ios_refused("timed out") == "timed out"


def test_ios_says_its_ports_and_vlans() -> None:
    assert VENDOR.read_ios_vlans(VLANS) == {1: "default", 20: "clinical", 1002: "fddi-default"}
    found = VENDOR.read_ios(PORTS)
    assert found["gigabitethernet1/0/3"] == {
        "mode": "trunk",
        "access": 1,
        "native": 99,
        "trunk": [20, 40, 41, 42, 99],
        "negotiates": False,
    }
    assert found["gigabitethernet1/0/1"]["trunk"] == "all"


def test_only_ports_that_differ_are_sent_to_ios() -> None:
    plan = MODEL.switch_plan(NETWORK, ASKED)
    differing = VENDOR.ios_differs(plan, PORTS)
    text = rendered(
        "ios.j2", plan={"vlans": plan["vlans"][:2]}, known=VENDOR.read_ios_vlans(VLANS), differing=differing
    )
    assert text.splitlines() == [
        "vlan 40",
        " name printers",
        "interface GigabitEthernet1/0/2",  # dynamic auto would let its neighbour make it a trunk
        " switchport",
        " switchport mode access",
        " switchport access vlan 20",
        " switchport nonegotiate",
        "interface GigabitEthernet1/0/4",
        " switchport",
        " switchport trunk allowed vlan 20,40,99",
        " switchport trunk native vlan 1",
        " switchport mode trunk",
        " switchport nonegotiate",
    ]


@pytest.mark.parametrize(
    "text", ["", "% Invalid input detected at '^' marker.", "Name: Gi1/0/1\nSwitchport: Enabled\n"]
)
def test_what_is_no_listing_of_ports_is_refused(text: str) -> None:
    with pytest.raises(AnsibleFilterError):
        VENDOR.ios_differs(MODEL.switch_plan(NETWORK, ASKED), text)
    with pytest.raises(AnsibleFilterError):
        VENDOR.read_ios_vlans(text)


def test_a_port_that_the_switch_has_not_is_refused_by_name() -> None:
    plan = MODEL.switch_plan(NETWORK, {"GigabitEthernet1/0/9": {"access": 20}})
    with pytest.raises(AnsibleFilterError, match="has no port GigabitEthernet1/0/9"):
        VENDOR.ios_differs(plan, PORTS)


ROS_PORTS = """\
 0   interface=ether1 bridge=bridge1 pvid=20 frame-types=admit-only-untagged-and-priority-tagged
 1   interface=ether2 bridge=bridge1 pvid=1 frame-types=admit-all
 2 H interface=sfp1 bridge=bridge1 pvid=1 frame-types=admit-only-vlan-tagged
 3   interface=ether9 bridge=bridge1 pvid=40
"""
ROS_BRIDGES = " 0 R  name=bridge1 vlan-filtering=yes\n 1    name=plain vlan-filtering=no\n"
ROS_VLANS = """\
 0   bridge=bridge1 vlan-ids=20 tagged=sfp1 untagged=ether1
 1   bridge=bridge1 vlan-ids=40 tagged="" untagged=ether9
 2   bridge=other vlan-ids=99 tagged=x
"""


def test_only_what_differs_is_sent_to_routeros_and_ports_that_nobody_named_stay() -> None:
    asked = {"ether1": {"access": 20}, "ether2": {"access": 40}, "sfp1": {"trunk": [20, 40]}}
    differing = VENDOR.routeros_differs(MODEL.switch_plan(NETWORK, asked), "bridge1", ROS_PORTS, ROS_VLANS, ROS_BRIDGES)
    assert rendered("routeros.j2", bridge="bridge1", differing=differing).splitlines() == [
        '/interface bridge vlan set [find bridge=bridge1 vlan-ids=40] tagged="sfp1" untagged="ether2,ether9"',
        "/interface bridge port set [find bridge=bridge1 interface=ether2] pvid=40 "
        "frame-types=admit-only-untagged-and-priority-tagged ingress-filtering=yes",
    ]
    same = {"ether1": {"access": 20}}
    calm = VENDOR.routeros_differs(MODEL.switch_plan(NETWORK, same), "bridge1", ROS_PORTS, ROS_VLANS, ROS_BRIDGES)
    assert calm == {"ports": [], "vlans": []}


def test_a_port_that_was_put_into_another_vlan_by_hand_is_taken_out_again() -> None:
    opened = ROS_VLANS + " 3   bridge=bridge1 vlan-ids=99 tagged=ether1,ether9\n"
    differing = VENDOR.routeros_differs(
        MODEL.switch_plan(NETWORK, {"ether1": {"access": 20}}), "bridge1", ROS_PORTS, opened, ROS_BRIDGES
    )
    assert differing["vlans"] == [{"id": 99, "tagged": ["ether9"], "untagged": [], "new": False}]
    several = ROS_VLANS.replace("vlan-ids=40", "vlan-ids=40-42")
    with pytest.raises(AnsibleFilterError, match="a row of its own"):
        VENDOR.routeros_differs(
            MODEL.switch_plan(NETWORK, {"ether1": {"access": 20}}), "bridge1", ROS_PORTS, several, ROS_BRIDGES
        )


@pytest.mark.parametrize(
    ("bridge", "words"), [("plain", "does not tell VLANs apart"), ("bridge9", "no bridge bridge9")]
)
def test_a_bridge_on_which_nothing_would_have_an_effect_is_refused(bridge: str, words: str) -> None:
    with pytest.raises(AnsibleFilterError, match=words):
        VENDOR.routeros_differs(MODEL.switch_plan(NETWORK, {}), bridge, ROS_PORTS, ROS_VLANS, ROS_BRIDGES)


def test_a_port_that_admits_frames_of_vlans_it_is_no_member_of_differs() -> None:
    ports = ROS_PORTS.replace("pvid=20", "pvid=20 ingress-filtering=no")
    plan = MODEL.switch_plan(NETWORK, {"ether1": {"access": 20}})
    differing = VENDOR.routeros_differs(plan, "bridge1", ports, ROS_VLANS, ROS_BRIDGES)
    assert [row["name"] for row in differing["ports"]] == ["ether1"]
