"""The hospital's own lists: what is shipped reads, what cannot be vouched for is refused by file and line."""

import shutil

import pytest
import yaml

from controlplane.bootstrap.rules import left_out
from controlplane.collect.inventory import load_inventory
from controlplane.collect.registers import FORMS, load_registers
from controlplane.collect.yaml_file import InventoryError
from tests.conftest import ROOT

SHIPPED = ROOT / "inventory" / "registers"
INVENTORY = load_inventory([ROOT / "inventory" / "hosts.yaml"], ROOT)
KNOWN = {*INVENTORY.assets, *INVENTORY.groups}


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(SHIPPED, tmp_path / "registers")
    return tmp_path / "registers"


def test_every_shipped_register_reads_and_proves_nothing_yet():
    found = load_registers(SHIPPED, ROOT, KNOWN)
    assert set(found) == set(FORMS)
    assert not [name for name, value in found.items() if isinstance(value, InventoryError)]
    for name in ("software", "accounts", "remote_tools", "leavers", "databases"):
        assert found[name]["reviewed_on"] is None, name
    assert found["resolvers"] == {"resolvers": []}
    assert found["leavers"]["leavers"] == []


def test_a_row_is_read_with_its_days_and_both_tongues(folder):
    text = (folder / "leavers.yaml").read_text().replace("reviewed_on: null", 'reviewed_on: "2026-11-20"')
    text = text.replace("leavers: []", 'leavers:\n- {account: "khoa-duoc-07", left_on: 2026-11-15}')
    (folder / "leavers.yaml").write_text(text)
    found = load_registers(folder, folder.parent, KNOWN)["leavers"]
    assert found == {"reviewed_on": "2026-11-20", "leavers": [{"account": "khoa-duoc-07", "left_on": "2026-11-15"}]}


BROKEN = {
    "an unknown key": ("ports", "ports: []\nprots: []\n", "Unknown key “prots”", 2),
    "a missing key": ("remote_tools", "tools: []\n", "“reviewed_on” is missing", 1),
    "an unknown group": (
        "ports",
        "ports:\n- {role: severs, port: tcp/22, why: {vi: a, en: b}}\n",
        "no host and no group named “severs”. Nearest: servers",
        2,
    ),
    "a port without its protocol": ("ports", "ports:\n- {role: servers, port: '22', why: {vi: a, en: b}}\n", "“22”", 2),
    "a port that is too large": (
        "ports",
        "ports:\n- {role: servers, port: tcp/70000, why: {vi: a, en: b}}\n",
        "70000",
        2,
    ),
    "one tongue only": ("ports", "ports:\n- {role: servers, port: tcp/22, why: {vi: a}}\n", "“en” is missing", 2),
    "a name server by name": (
        "resolvers",
        "resolvers:\n- {address: dns.test, provider: a, filters: b}\n",
        "dns.test",
        2,
    ),
    "a person's full name": (
        "leavers",
        "reviewed_on: null\nleavers:\n- {account: 'A B C', left_on: '2026-11-15'}\n",
        "A B C",
        3,
    ),
    "everything approved at once": (
        "leavers",
        "reviewed_on: null\nleavers:\n- {account: '*', left_on: '2026-11-15'}\n",
        "“*”",
        3,
    ),
    "a day that is none": ("leavers", "reviewed_on: '2026-02-30'\nleavers: []\n", "2025-08-15", 1),
    "a class that is none": (
        "assets",
        "absent:\n- {class: tablet, reason: a, confirmed_on: '2026-11-15'}\n",
        "“tablet”",
        2,
    ),
    "no YAML": ("assets", "absent: [\n", "Not valid YAML", None),
    "nothing at all": ("assets", "", "empty", None),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_vouched_for_is_refused_and_the_others_go_on(folder, case):
    name, text, words, line = BROKEN[case]
    (folder / f"{name}.yaml").write_text(text)
    found = load_registers(folder, folder.parent, KNOWN)
    error = found[name]
    assert isinstance(error, InventoryError)
    assert words in error.words.en
    assert error.words.vi != error.words.en
    assert error.file == f"registers/{name}.yaml"
    assert line is None or error.line == line
    assert [other for other, value in found.items() if isinstance(value, InventoryError)] == [name]


def test_plays_are_given_the_excludes_of_an_adopted_register_and_told_of_a_broken_one(folder):
    path = folder / "backups.yaml"
    text = path.read_text(encoding="utf-8").replace("excludes: []", "excludes: ['*.tmp']", 1)
    path.write_text(text, encoding="utf-8")
    assert left_out(load_registers(folder, folder.parent, KNOWN)["backups"]) == {"excludes": {}}
    path.write_text(text.replace("reviewed_on: null", "reviewed_on: 2026-11-20"), encoding="utf-8")
    given = left_out(load_registers(folder, folder.parent, KNOWN)["backups"])["excludes"]
    assert (given["sv-01"]["his-database"], given["sv-01"]["pacs-images"]) == (["*.tmp"], [])
    path.write_text("reviewed_on: [", encoding="utf-8")
    assert "backups.yaml" in left_out(load_registers(folder, folder.parent, KNOWN)["backups"])["error"]


def test_a_missing_register_and_a_strange_file_are_said(folder):
    (folder / "ports.yaml").unlink()
    (folder / "softwares.yaml").write_text("a: b\n")
    found = load_registers(folder, folder.parent, KNOWN)
    assert found["ports"].words.en == "There is no such file."
    assert "Nearest: software" in found["softwares"].words.en


def test_a_version_rule_is_one_of_three(folder):
    text = (folder / "software.yaml").read_text()
    for rule in ("any", '">= 1.2-1+deb12u1"', '"= 2:3.4~rc1"'):
        (folder / "software.yaml").write_text(text.replace("version: any", f"version: {rule}"))
        assert not isinstance(load_registers(folder, folder.parent, KNOWN)["software"], InventoryError), rule
    for rule in ('"< 2"', "newest", '">=1.2"'):
        (folder / "software.yaml").write_text(text.replace("version: any", f"version: {rule}"))
        assert isinstance(load_registers(folder, folder.parent, KNOWN)["software"], InventoryError), rule


def test_no_register_names_a_key_that_yaml_reads_as_a_boolean():
    for path in SHIPPED.glob("*.yaml"):
        assert all(isinstance(key, str) for key in yaml.safe_load(path.read_text(encoding="utf-8"))), path.name
