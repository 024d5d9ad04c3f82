"""The lab's plan is the hospital's: the same hosts in the same VLANs, and the matrix as the firewall's first rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from controlplane.collect.inventory import load_inventory
from controlplane.domain.model import DEVICES
from lab import policy
from lab.folder import LabError
from lab.plan import HOSTS, SWITCHES, TRUNK_VLANS, VLANS, host
from tests.conftest import ROOT

INVENTORY = load_inventory([ROOT / "inventory" / "hosts.yaml"], ROOT)
NOT_IN_THE_LAB = {"sw-acc-02", "sw-acc-03", "sw-acc-04"}  # their ports are all on sw-acc-01
ONLY_IN_THE_LAB = {"time", "probe-internet", *(f"probe-{vlan}" for vlan in VLANS)}


def test_every_device_of_the_inventory_has_a_host_in_the_lab() -> None:
    devices = {name for name, asset in INVENTORY.assets.items() if asset.kind in DEVICES}
    assert devices - {one.name for one in HOSTS} == NOT_IN_THE_LAB
    assert {one.name for one in HOSTS} - devices == ONLY_IN_THE_LAB


def test_each_host_is_in_the_vlan_of_the_inventory() -> None:
    there = [one for one in HOSTS if one.name in INVENTORY.assets]
    assert {one.name: str(one.vlan) for one in there} == {
        one.name: INVENTORY.assets[one.name].fields["vlan"] for one in there
    }
    assert tuple(vlan.id for vlan in INVENTORY.vlans.vlans) == VLANS


def test_no_two_hosts_share_an_address_or_a_port() -> None:
    cards = [card for one in HOSTS for card in one.cards]
    for taken in (
        [one.number for one in HOSTS],
        [card.address for card in cards],
        [card.mac for card in cards] + [one.mac for one in HOSTS],
        [(card.switch, card.port) for card in cards if card.port],
    ):
        assert len(set(taken)) == len(taken)
    assert all(len(one.name) <= 15 for one in HOSTS), "the name is that of a network card"


def test_the_trunk_carries_what_the_access_switch_has_hosts_in() -> None:
    access = next(one.name for one in SWITCHES if "acc" in one.name)
    assert {card.vlan for one in HOSTS for card in one.cards if card.switch == access} == set(TRUNK_VLANS)


def test_the_firewall_starts_with_each_line_of_the_matrix_and_refuses_the_rest() -> None:
    rules = policy.rules(policy.document())
    assert "hook forward priority filter; policy drop;" in rules
    ids = {vlan.name: f"vlan{vlan.id}" for vlan in INVENTORY.vlans.vlans} | {"internet": "wan"}
    wanted = {
        (ids[passage.source], ids[passage.target], service)
        for passage in INVENTORY.vlans.allow
        for service in passage.services
    }
    written = {
        (source, target, f"{protocol}/{port}")
        for source, target, protocol, ports in re.findall(
            r'iifname "(\S+)" oifname "(\S+)" (tcp|udp) dport \{ (.+?) \} accept', rules
        )
        for port in ports.split(", ")
    }
    assert written == wanted


def test_the_overlay_of_the_vlans_gives_each_its_subnet(tmp_path: Path) -> None:
    (tmp_path / "vlans.yaml").write_text(policy.overlay(policy.document()), encoding="utf-8")
    (tmp_path / "hosts.yaml").write_text("all: {hosts: {x: {emr_kind: server}}}\n", encoding="utf-8")
    plan = load_inventory([tmp_path / "hosts.yaml"], tmp_path).vlans
    assert {vlan.id: vlan.subnet for vlan in plan.vlans} == {vlan: f"10.78.{vlan}.0/24" for vlan in VLANS}
    assert plan.allow == INVENTORY.vlans.allow
    assert host("pc-28").data_address == "10.78.30.128"


def test_a_plan_with_other_vlans_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "VLANS", VLANS[:-1])
    with pytest.raises(LabError, match="other VLANs"):
        policy.document()
