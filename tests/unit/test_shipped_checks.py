"""The shipped catalogue holds together: every example judges as promised, every check serves and is served."""

import unicodedata

import pytest
import yaml

from controlplane.collect.facts import FACTS
from controlplane.collect.inventory import load_inventory
from controlplane.domain.catalog import make_catalog
from controlplane.domain.coverage import coverage
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
    shell |= {"log_senders", "database_servers", "probes"}
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
        # site: the others in order, and a check names the one that mends it. printers looks and tries accounts, and
        # hardly a printer lets itself be mended. controlplane: who asks the checks is there.
        if play.id in {"site", "printers", "controlplane"}:
            continue
        assert [c.id for c in CHECKS if c.remedy == play.id], f"no check names {play.id} as its remedy"


def figures(check, value):
    rows = value if isinstance(value, list) else [value]
    return [row.get(check.of) if check.of and isinstance(row, dict) else row for row in rows]


@pytest.mark.parametrize("check", [c for c in CHECKS if c.expect.test in ("at_most", "at_least")], ids=lambda c: c.id)
def test_the_examples_of_a_limit_stand_on_both_sides_of_it(check):
    bound = check.expect.bound
    beyond = bound + (1 if check.expect.test == "at_most" else -1)
    assert bound in [figure for value in check.examples["met"] for figure in figures(check, value)]
    assert beyond in [figure for value in check.examples["not_met"] for figure in figures(check, value)]


# What checks reach, framework by framework: criteria that they prove alone and criteria that they judge. A floor:
# whoever takes a check away, or moves a criterion from `serves` to `partly`, lowers the figure here and says why.
FLOORS = {
    "cv365-2025": (2, 9),
    "nd331-2026": (1, 6),
    "tcvn11930-2017": (39, 63),
    "tcvn14423-2026": (103, 117),
    "tt13-2025": (0, 5),
    # HL7 and DICOM that answer say nothing of ICD-10 and CDA, nor that a study of each modality really arrived.
    "tt54-2017": (20, 40),
}
# Proven alone, of the measurable requirements of each level of the standard in force. Level 2 is the least for an
# electronic record and never falls below 65, level 3 never below 85.
LEVEL_FLOORS = {"1": 56, "2": 66, "3": 102}
COVERAGE = {row.framework: row for row in coverage(CATALOG)}


def test_every_framework_has_its_floor():
    assert set(FLOORS) == set(COVERAGE) == set(CATALOG.frameworks)
    assert LEVEL_FLOORS["2"] >= 65
    assert LEVEL_FLOORS["3"] >= 85


@pytest.mark.parametrize("framework", sorted(FLOORS))
def test_what_checks_reach_of_a_framework_does_not_fall(framework):
    row, (automated, judged) = COVERAGE[framework], FLOORS[framework]
    assert row.automated >= automated
    assert row.judged >= judged
    assert row.measurable == 0 or row.judged > 0


@pytest.mark.parametrize("level", sorted(LEVEL_FLOORS))
def test_what_checks_prove_of_a_level_of_the_standard_does_not_fall(level):
    row = COVERAGE["tcvn14423-2026"]
    assert row.automated_by_level[level] >= LEVEL_FLOORS[level]
    assert row.automated_by_level[level] <= row.judged_by_level[level] <= row.measurable_by_level[level]


def test_every_row_of_circular_54_that_machines_can_show_is_judged():
    machines = {"host", "network", "backup", "interop"}
    rows = [c for c in CATALOG.frameworks["tt54-2017"].criteria if c.automatable in machines]
    assert len(rows) >= 40
    assert [c.id for c in rows if not c.checks] == []


def test_a_check_proves_a_criterion_or_is_needed_for_it_but_not_both():
    for check in CHECKS:
        assert not set(check.serves) & set(check.partly), check.id
        assert len(set(check.serves)) == len(check.serves), check.id
        assert len(set(check.partly)) == len(check.partly), check.id


def test_a_longer_span_never_stands_beside_a_shorter_one_of_the_same_figure():
    """Two limits of one figure on one criterion: the looser one would say nothing."""
    seen = {}
    for check in CHECKS:
        if check.expect.test in ("at_most", "at_least"):
            for criterion in (*check.serves, *check.partly):
                key = (criterion, check.fact, check.of, check.role)
                assert key not in seen, f"{criterion}: {seen.get(key)} and {check.id}"
                seen[key] = check.id
