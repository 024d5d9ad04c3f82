"""The intended network: ports and legs that hold together, and what switches and routers are told of them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import ansible.module_utils
import jinja2
import pytest
import yaml
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from controlplane.collect.inventory import InventoryError, load_inventory
from controlplane.collect.ports import vet_legs, vet_ports, vet_switch

ROOT = Path(__file__).parents[2]
PLAYBOOKS = ROOT / "playbooks"


# Where Ansible itself finds them: beside the playbooks.
ansible.module_utils.__path__.append(str(PLAYBOOKS / "module_utils"))


def module(path: str) -> ModuleType:
    """A filter or module of the playbooks, loaded from its file."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, PLAYBOOKS / path)
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


MODEL = module("filter_plugins/emr_network.py")
SWITCH = module("roles/switch_vlans/library/switch_ports.py")

WORDS = {"vi": "Một", "en": "One"}
NETWORK: dict[str, Any] = {
    "vlans": [
        {"id": 10, "name": "servers", "zone": "server", "subnet": "10.0.10.0/24"},
        {"id": 20, "name": "clinical", "zone": "internal", "subnet": None},
        {"id": 95, "name": "perimeter", "zone": "perimeter", "subnet": None},
        {"id": 99, "name": "management", "zone": "management", "subnet": "10.0.99.0/24"},
    ],
    "matrix": {
        "default": "deny",
        "allow": [
            {"from": "clinical", "to": "servers", "services": ["tcp/443", "tcp/80", "udp/53"]},
            {"from": "servers", "to": "internet", "services": ["tcp/443"]},
        ],
    },
}
LEGS = {"vlan10": 10, "vlan20": 20, "wan0": 95}


# --------------------------------------------------------------------------------------- what a person writes

GOOD_PORTS = [
    {"port1": {"access": 20}},
    {"GigabitEthernet1/0/1": {"access": 1}, "uplink": {"trunk": [10, 20]}},
    {"sfp-sfpplus1": {"trunk": [10], "native": 99}},
]
BAD_PORTS = [
    ({}, "must map the name of a port"),
    ([], "must map the name of a port"),
    ({"port1": {"access": 20}, "PORT1": {"access": 10}}, "names the port “PORT1” twice (port1)"),
    ({"port1": {}}, "port1 without a clear VLAN"),
    ({"port1": {"access": None}}, "the access port port1 without a VLAN"),
    ({"port1": {"access": 4095}}, "from 1 to 4094"),
    ({"port1": {"access": True}}, "from 1 to 4094"),
    ({"port1": {"access": "20"}}, "from 1 to 4094"),
    ({"port1": {"access": 20, "trunk": [10]}}, "without a clear VLAN"),
    ({"port1": {"trunk": []}}, "carries no VLAN"),
    ({"port1": {"trunk": [10, 10]}}, "names a VLAN twice"),
    ({"port1": {"trunk": [10], "native": 10}}, "both with and without a tag"),
    ({"port1": {"trunk": [10], "native": 0}}, "from 1 to 4094"),
    ({"a b": {"access": 20}}, "cannot be used"),
    ({"x; reboot": {"access": 20}}, "cannot be used"),
]


@pytest.mark.parametrize("ports", GOOD_PORTS)
def test_ports_that_hold_together_are_taken(ports: Any) -> None:
    assert vet_ports(ports) is None


@pytest.mark.parametrize(("ports", "words"), BAD_PORTS)
def test_ports_that_do_not_are_refused_with_a_sentence_in_both_tongues(ports: Any, words: str) -> None:
    said = vet_ports(ports)
    assert said is not None
    assert words in said.en
    assert said.vi.endswith(".")
    assert said.vi != said.en


@pytest.mark.parametrize(
    ("legs", "words"),
    [
        ({}, "must map"),
        ({"eth1": 10, "eth2": 10}, "gives VLAN 10 two interfaces, eth1 and eth2"),
        ({"eth1": "perimeter"}, "from 1 to 4094"),
        ({"far-too-long-a-name": 10}, "cannot be used"),
        ({'a" accept': 10}, "cannot be used"),
    ],
)
def test_legs_that_do_not_hold_together_are_refused(legs: Any, words: str) -> None:
    said = vet_legs(legs)
    assert said is not None
    assert words in said.en
    assert vet_legs({"eth1": 10, "wan0": "internet", "wan1": "internet"}) is None


def test_a_switch_says_what_it_runs() -> None:
    assert vet_switch({"system": "openvswitch", "bridge": "sw0"}) is None
    assert vet_switch({"system": "ios"}) is None
    for wrong in ({}, {"system": "openvswitch"}, {"system": "ios", "bridge": "x"}, {"system": "nexus", "bridge": "a"}):
        assert vet_switch(wrong) is not None


INVENTORY = """\
all:
  hosts:
    sw-1:
      emr_kind: switch
      emr_switch: {system: openvswitch, bridge: sw0}
      emr_ports:
        port1: {access: 20}
    fw-1: {emr_kind: firewall, emr_legs: {eth1: 20}}
"""
VLANS = """\
vlans:
- {id: 20, name: clinical, zone: internal, title: {vi: "K", en: "W"}, purpose: {vi: "K", en: "W"}, subnet: null}
matrix: {default: deny, allow: []}
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        (
            "port1: {access: 20}",
            "port1: {access: 30}",
            6,
            "sw-1: port1 belongs to VLAN 30, which is not in vlans.yaml.",
        ),
        ("eth1: 20", "eth1: 30", 8, "fw-1: eth1 belongs to VLAN 30, which is not in vlans.yaml."),
        ("emr_switch: {system: openvswitch, bridge: sw0}", "emr_vlan: 20", 6, "sw-1: emr_ports needs emr_switch."),
        ("port1: {access: 20}", "port1: {access: 20}\n        port1: {access: 20}", 8, "The key “port1” stands twice"),
        ("port1: {access: 20}", "port1: {access: }", 6, "sw-1: emr_ports has the access port port1 without a VLAN."),
        ("system: openvswitch", "system: openswitch", 5, "the system is one of"),
    ],
)
def test_the_inventory_refuses_ports_and_legs_by_line(
    tmp_path: Path, old: str, new: str, line: int, words: str
) -> None:
    (tmp_path / "vlans.yaml").write_text(VLANS)
    path = tmp_path / "hosts.yaml"
    path.write_text(INVENTORY)
    assert load_inventory([path], tmp_path).assets["sw-1"].access["emr_ports"] == {"port1": {"access": 20}}
    path.write_text(INVENTORY.replace(old, new))
    with pytest.raises(InventoryError) as caught:
        load_inventory([path], tmp_path)
    assert words in caught.value.words.en
    assert caught.value.line == line


# --------------------------------------------------------------------------------------------------- the router


def test_a_router_lets_pass_what_the_matrix_names_and_nothing_else() -> None:
    plan = MODEL.router_plan(NETWORK, LEGS)
    assert plan["rules"] == [
        'iifname "vlan20" oifname "vlan10" ip daddr 10.0.10.0/24 '
        'tcp dport { 80, 443 } accept comment "clinical > servers"',
        'iifname "vlan20" oifname "vlan10" ip daddr 10.0.10.0/24 udp dport { 53 } accept comment "clinical > servers"',
        'iifname "vlan10" oifname "wan0" ip saddr 10.0.10.0/24 ip daddr != { 10.0.10.0/24, 10.0.99.0/24 } '
        'tcp dport { 443 } accept comment "servers > internet"',
    ]
    assert plan["elsewhere"] == []
    assert [leg["interface"] for leg in plan["legs"] if leg["outside"]] == ["wan0"]


def test_a_passage_whose_end_is_not_here_is_named_and_opens_nothing() -> None:
    plan = MODEL.router_plan(NETWORK, {"vlan10": 10})
    assert plan["rules"] == []
    assert plan["elsewhere"] == ["clinical > servers", "servers > internet"]


def test_a_leg_called_internet_is_the_way_out_and_the_perimeter_is_then_a_network_like_others() -> None:
    plan = MODEL.router_plan(NETWORK, {**LEGS, "ppp0": "internet"})
    assert 'oifname "ppp0"' in plan["rules"][-1]
    assert not [rule for rule in plan["rules"] if "wan0" in rule]


def test_the_perimeter_without_a_subnet_cannot_be_told_from_the_internet() -> None:
    wider = {**NETWORK, "matrix": {"allow": [{"from": "clinical", "to": "perimeter", "services": ["tcp/1"]}]}}
    with pytest.raises(AnsibleFilterError, match="give perimeter its subnet first"):
        MODEL.router_plan(wider, LEGS)


def test_two_families_never_meet_in_one_rule() -> None:
    nets = ["10.1.0.0/24", "fd00:1::/64"]
    vlans = [{"id": n, "name": f"v{n}", "zone": "internal", "subnet": net} for n, net in enumerate(nets, start=1)]
    network = {"vlans": vlans, "matrix": {"allow": [{"from": "v1", "to": "v2", "services": ["tcp/1"]}]}}
    assert MODEL.router_plan(network, {"a": 1, "b": 2})["rules"] == []
    network["matrix"]["allow"][0]["to"] = "internet"
    rules = MODEL.router_plan(network, {"a": 1, "w": "internet"})["rules"]
    assert rules == [
        'iifname "a" oifname "w" ip saddr 10.1.0.0/24 ip daddr != { 10.1.0.0/24 } '
        'tcp dport { 1 } accept comment "v1 > internet"'
    ]


def test_management_may_log_in_at_the_router_and_others_only_what_is_named() -> None:
    rules = MODEL.own_services(NETWORK, {**LEGS, "m0": 99}, [{"from": "clinical", "services": ["udp/53"]}], ["tcp/22"])
    assert rules == [
        'iifname "vlan20" udp dport { 53 } accept comment "clinical > this router"',
        'iifname "m0" ip saddr 10.0.99.0/24 tcp dport { 22 } accept comment "management > this router"',
    ]


def ruleset(network: Any, legs: Any, **settings: Any) -> str:
    """The router's template as the role renders it."""
    role = PLAYBOOKS / "roles" / "vlan_router"
    values = yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8"))
    values |= {
        "vlan_router_table": "emrctl_router",
        "vlan_router_plan": MODEL.router_plan(network, legs),
        "vlan_router_seen_from": [{"address": "10.0.99.5", "interface": "m0"}],
        "vlan_router_watched": ["tcp dport 22", "tcp dport 9100", "udp dport 161"],
        "vlan_router_own_rules": MODEL.own_services(network, legs, [], ["tcp/22"]),
        **settings,
    }
    # As Ansible sets up its templates: a line with nothing but a tag leaves nothing behind.
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined)  # noqa: S701
    return environment.from_string((role / "templates" / "router.nft.j2").read_text(encoding="utf-8")).render(values)


def test_the_rules_close_both_chains_and_bound_what_they_log() -> None:
    text = ruleset(NETWORK, LEGS)
    assert text.count("policy drop;") == 2
    assert text.count("limit rate 5/second log prefix") == text.count("log prefix") == 2
    own = 'iifname "m0" ip saddr 10.0.99.5 tcp dport 22 accept comment "the control plane"'
    assert text.index(own) < text.index("echo-request"), "the way of the play itself comes first"


# --------------------------------------------------------------------------------------------------- the switch

OVS = json.dumps(
    {
        "headings": ["name", "tag", "trunks", "vlan_mode"],
        "data": [
            ["sw0", ["set", []], ["set", []], ["set", []]],
            ["port1", 10, ["set", []], ["set", []]],
            ["port2", 20, ["set", []], "access"],
            ["port5", ["set", []], ["set", [10, 20]], ["set", []]],
            ["port6", 99, ["set", [10, 99]], "native-untagged"],
            ["port7", ["set", []], 10, "trunk"],
        ],
    }
)


def test_open_vswitch_is_read_as_it_behaves() -> None:
    found = SWITCH.read_ovs(OVS)
    assert found["sw0"] == (None, "all"), "a port without a word carries everything"
    assert found["port1"] == (10, frozenset())
    assert found["port2"] == (20, frozenset())
    assert found["port5"] == (None, frozenset({10, 20}))
    assert found["port6"] == (99, frozenset({10}))
    assert found["port7"] == (None, frozenset({10}))


def test_only_what_differs_is_changed_in_one_transaction_and_can_be_undone() -> None:
    now = SWITCH.read_ovs(OVS)
    wanted = {
        "port1": SWITCH.carried(access=10),
        "port2": SWITCH.carried(access=30),
        "port5": SWITCH.carried(trunk=[10, 20]),
        "port6": SWITCH.carried(native=99, trunk=[10, 20]),
        "port9": SWITCH.carried(access=10),
    }
    words = SWITCH.ovs_change("sw0", wanted, now, ["port1", "port2", "port5", "port6"])
    assert " ".join(words) == (
        "-- set port port2 tag=30 trunks=[] vlan_mode=access"
        " -- set port port6 tag=99 trunks=[10,20,99] vlan_mode=native-untagged"
        " -- add-port sw0 port9 -- set port port9 tag=10 trunks=[] vlan_mode=access"
    )
    assert SWITCH.ovs_undo("sw0", wanted, now, ["port1", "port2", "port5", "port6"]) == [
        "ovs-vsctl --timeout=20 set port port2 tag=20 'trunks=[]' vlan_mode=access",
        "ovs-vsctl --timeout=20 set port port6 tag=99 'trunks=[10,99]' vlan_mode=native-untagged",
        "ovs-vsctl --timeout=20 --if-exists del-port sw0 port9",
    ]


NUMBERS = st.integers(min_value=1, max_value=30)
CARRIED = st.one_of(
    NUMBERS.map(lambda n: (n, frozenset())),
    st.sets(NUMBERS, min_size=1).map(lambda s: (None, frozenset(s))),
    st.tuples(NUMBERS, st.sets(NUMBERS, min_size=1)).map(lambda p: (p[0], frozenset(p[1] - {p[0]}) or frozenset({31}))),
)


@given(CARRIED)
def test_what_is_written_into_open_vswitch_reads_back_as_it_was_meant(port: Any) -> None:
    columns = dict(word.split("=", 1) for word in SWITCH.ovs_columns(port))
    trunks = [int(n) for n in columns["trunks"].strip("[]").split(",") if n]
    tag = ["set", []] if columns["tag"] == "[]" else int(columns["tag"])
    listing = json.dumps({"data": [["p", tag, ["set", trunks], columns["vlan_mode"]]]})
    assert SWITCH.read_ovs(listing)["p"] == port


BRIDGE = json.dumps(
    [
        {"ifname": "port1", "vlans": [{"vlan": 1, "flags": ["PVID", "Egress Untagged"]}]},
        {
            "ifname": "uplink",
            "vlans": [{"vlan": 10, "vlanEnd": 12}, {"vlan": 99, "flags": ["PVID", "Egress Untagged"]}],
        },
    ]
)


def carry_out(lines: list[str], now: dict[str, Any]) -> dict[str, Any]:
    """What a kernel's bridge carries after these lines, by the rules of bridge(8)."""
    held = {name: [plain, set(tagged)] for name, (plain, tagged) in now.items()}
    for line in lines:
        words = line.split()
        if words[:2] != ["bridge", "vlan"]:
            continue
        port, number = held.setdefault(words[words.index("dev") + 1], [None, set()]), int(words[words.index("vid") + 1])
        if words[2] == "del":
            port[1].discard(number)
            port[0] = None if port[0] == number else port[0]
        elif "pvid" in words:
            port[1].discard(number)
            if port[0] and port[0] != number:
                port[1].add(("untagged", port[0]))  # it stays a member, only no longer the port's own
            port[0] = number
        else:
            port[1].add(number)
            port[0] = None if port[0] == number else port[0]
    return {name: (plain, frozenset(n for n in tagged if isinstance(n, int))) for name, (plain, tagged) in held.items()}


@given(CARRIED, CARRIED)
def test_a_linux_bridge_is_taken_from_any_state_to_any_other_and_back(first: Any, second: Any) -> None:
    there = carry_out(SWITCH.bridge_lines("p", first, second), {"p": first})
    assert there["p"] == second
    back = carry_out(SWITCH.bridge_lines("p", second, first), there)
    assert back["p"] == first
    assert SWITCH.bridge_lines("p", second, second) == []


def test_a_linux_bridge_is_read_and_its_script_says_the_whole() -> None:
    found = SWITCH.read_bridge(BRIDGE)
    assert found == {"port1": (1, frozenset()), "uplink": (99, frozenset({10, 11, 12}))}
    assert SWITCH.bridge_script("br0", {"port1": (20, frozenset())}).splitlines()[3:] == [
        "ip link set dev br0 type bridge vlan_filtering 1",
        "ip link set dev port1 master br0",
        "bridge vlan del dev port1 vid 1-4094",
        "bridge vlan add dev port1 vid 20 pvid untagged",
    ]


def test_a_port_in_a_vlan_that_is_not_planned_never_reaches_a_switch() -> None:
    assert MODEL.switch_plan(NETWORK, {"p": {"trunk": [99, 10]}})["vlans"] == [
        {"id": 10, "name": "servers"},
        {"id": 99, "name": "management"},
    ]
    with pytest.raises(AnsibleFilterError, match="VLAN 30, which is not in"):
        MODEL.switch_plan(NETWORK, {"p": {"access": 30}})
