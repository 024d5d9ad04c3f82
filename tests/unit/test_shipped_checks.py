"""The shipped catalogue holds together: every example judges as promised, every check serves and is served."""

import unicodedata

import pytest
import yaml

from controlplane.collect.facts import FACTS
from controlplane.collect.inventory import load_inventory
from controlplane.domain.catalog import make_catalog
from controlplane.domain.judge import test_value
from controlplane.domain.model import Verdict
from controlplane.plays import load_plays
from tests.conftest import ROOT


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


PLAYS = load_plays(read(ROOT / "playbooks" / "plays.yaml"), ROOT / "playbooks")
CATALOG = make_catalog(
    {p.name: read(p) for p in sorted((ROOT / "checks").glob("*.yaml"))},
    {p.name: read(p) for p in sorted((ROOT / "checks" / "criteria").glob("*.yaml"))},
    facts=frozenset(FACTS),
    plays=frozenset(PLAYS),
)
CHECKS = sorted(CATALOG.checks.values(), key=lambda c: c.id)


def test_there_are_enough_real_checks_and_facts():
    assert len(CHECKS) >= 30
    assert sum(1 for f in FACTS.values() if f.family == "shell") >= 45
    assert sum(1 for f in FACTS.values() if f.family == "snmp") >= 20
    assert sum(1 for f in FACTS.values() if f.family == "service") >= 15


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.id)
def test_every_example_judges_as_promised(check):
    for word, values in check.examples.items():
        for value in values:
            verdict, reason = test_value(check, value)
            assert verdict is Verdict(word), f"{value!r}: {reason}"


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.id)
def test_a_check_names_an_inventory_group_a_remedy_and_sentences(check):
    inventory = load_inventory([ROOT / "inventory" / "hosts.yaml"], ROOT)
    assert check.role in inventory.groups or check.role == "site"
    assert check.remedy or check.fix
    for words in filter(None, (check.title, check.fix)):
        assert unicodedata.is_normalized("NFC", words.vi)
        assert words.vi != words.en
    assert not check.title.vi.endswith(".")


def test_a_fact_of_another_family_is_not_asked_of_a_role_that_cannot_answer():
    inventory = load_inventory([ROOT / "inventory" / "hosts.yaml"], ROOT)
    shell = {"linux_servers", "linux_hosts", "workstations", "servers", "controlplane", "monitor_hosts"}
    shell |= {"linux_appliances", "linux_firewalls", "linux_storage", "access_points"}
    for check in CHECKS:
        fact = FACTS[check.fact]
        if fact.family == "shell":
            assert check.role in shell, check.id
        elif fact.family == "service":
            assert set(inventory.groups[check.role]) <= set(inventory.groups["service_endpoints"]), check.id
            assert check.if_absent is None, f"{check.id}: a service that is missing is unknown, never out of scope"
        elif fact.family == "record":
            assert {inventory.assets[name].kind for name in inventory.groups[check.role]} <= set(fact.kinds), check.id
        else:
            assert check.role not in shell - {"servers"}, check.id


def test_a_play_is_for_every_host_whose_check_names_it_as_the_remedy():
    inventory = load_inventory([ROOT / "inventory" / "hosts.yaml"], ROOT)
    for check in CHECKS:
        if check.remedy and (group := PLAYS[check.remedy].hosts) != "all":
            assert set(inventory.groups[check.role]) <= set(inventory.groups[group]), f"{check.id}: {check.remedy}"


def test_the_play_mends_checks_that_exist():
    for play in PLAYS.values():
        if play.id == "site":  # the others in order; a check names the one that mends it
            continue
        assert [c.id for c in CHECKS if c.remedy == play.id], f"no check names {play.id} as its remedy"
