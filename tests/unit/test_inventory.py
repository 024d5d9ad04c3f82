"""The inventory: read as Ansible reads it, refused with file, line and a sentence when it is broken."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import textwrap
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.collect.campaign import load_campaign
from controlplane.collect.inventory import (
    LAST_GOOD,
    Inventory,
    InventoryError,
    InventoryKeeper,
    intended_network,
    load_inventory,
)
from controlplane.collect.yaml_file import MAX_BYTES
from controlplane.domain.model import DEVICES, Words

ROOT = Path(__file__).parents[2]
HOSTS = ROOT / "inventory" / "hosts.yaml"
CAMPAIGN = ROOT / "inventory" / "campaign.yaml"
ANSIBLE_INVENTORY = Path(sys.executable).parent / "ansible-inventory"

GOOD = """\
all:
  children:
    servers:
      vars: {emr_kind: server}
      hosts:
        sv-01: {ansible_host: "192.0.2.1"}
        sv-02: {}
    printers:
      hosts:
        prn-01: {emr_kind: printer}
    devices:
      children:
        servers:
        printers:
"""


def load(tmp_path: Path, *texts: str | bytes) -> Inventory:
    paths = []
    for number, text in enumerate(texts, start=1):
        path = tmp_path / f"hosts{number}.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        paths.append(path)
    return load_inventory(paths, tmp_path)


def refused(tmp_path: Path, *texts: str | bytes) -> InventoryError:
    with pytest.raises(InventoryError) as caught:
        load(tmp_path, *texts)
    error = caught.value
    for sentence in (error.words.vi, error.words.en):
        assert sentence.endswith("."), sentence
        assert "\n" not in sentence
    assert error.file.startswith("hosts")
    assert "Traceback" not in str(error)
    return error


# ------------------------------------------------------------------------------------- the hospital's own


def ansible_list(*paths: Path, cwd: Path) -> dict[str, Any]:
    """What ``ansible-inventory --list`` says, which must be without a warning."""
    sources = [part for path in paths for part in ("-i", str(path))]
    env = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    done = subprocess.run(
        [str(ANSIBLE_INVENTORY), *sources, "--list"],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        env={**env, "LC_ALL": "C.UTF-8"},
    )
    assert done.stderr == ""
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def ansible_roles(told: dict[str, Any]) -> dict[str, set[str]]:
    """host -> every group above it, from the tree that ansible-inventory prints."""
    roles: dict[str, set[str]] = {}

    def walk(group: str, above: frozenset[str]) -> None:
        body = told.get(group, {})
        here = above | {group}
        for host in body.get("hosts", []):
            roles.setdefault(host, set()).update(here - {"all", "ungrouped"})
        for child in body.get("children", []):
            walk(child, here)

    walk("all", frozenset())
    return roles


def assert_same_as_ansible(inventory: Inventory, told: dict[str, Any]) -> None:
    ours = {name: dict(asset.access) for name, asset in inventory.assets.items() if name != "site"}
    hostvars = told["_meta"]["hostvars"]
    roles = ansible_roles(told)
    assert ours == {name: hostvars.get(name, {}) for name in roles}
    assert {name: set(inventory.assets[name].roles) for name in roles} == roles


def test_the_shipped_inventory_is_read_as_ansible_reads_it_and_ansible_has_nothing_to_warn_of(tmp_path: Path) -> None:
    assert_same_as_ansible(load_inventory([HOSTS], ROOT), ansible_list(HOSTS, cwd=tmp_path))


def test_an_overlay_wins_as_it_does_in_ansible(tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(
        """\
all:
  vars: {ansible_user: reader, ansible_port: 22}
  children:
    workstations:
      vars: {ansible_port: 2222, emr_transports: [ssh, snmp]}
    ban_giam_doc:
      vars: {ansible_port: 2200}
    access_switches:
      vars: {ansible_group_priority: 5, emr_vlan: 20}
  hosts:
    sv-01:
      ansible_host: "192.0.2.10"
      ansible_ssh_private_key_file: keys/reader
      emr_known_hosts: keys/known_hosts
      emr_play_user: player
      emr_play_key_file: keys/play
    pc-33: {ansible_host: pc33.example, ansible_port: 22022}
    sw-acc-01: {ansible_host: "2001:db8::1", emr_snmp: {version: "2c", secret_file: lab-sw}}
""",
        encoding="utf-8",
    )
    inventory = load_inventory([HOSTS, overlay], ROOT)
    assert_same_as_ansible(inventory, ansible_list(HOSTS, overlay, cwd=tmp_path))
    assert inventory.assets["pc-33"].access["ansible_port"] == 22022
    assert inventory.assets["pc-34"].access["ansible_port"] == 2200
    assert inventory.assets["pc-01"].access["ansible_port"] == 2222
    assert inventory.assets["sw-acc-01"].access["emr_snmp"] == {"version": "2c", "secret_file": "lab-sw"}


def test_precedence_priority_depth_and_vars_folders_are_those_of_ansible(tmp_path: Path) -> None:
    first, second = tmp_path / "one" / "hosts.yaml", tmp_path / "two" / "more.yaml"
    for path in (first, second):
        for folder in ("group_vars", "host_vars"):
            (path.parent / folder).mkdir(parents=True)
    first.write_text(
        """\
all:
  vars: {a: all, b: all, c: all, d: all, e: all}
  hosts:
    lone: {emr_kind: nas}
  children:
    ungrouped: {vars: {u: ungrouped}}
    zeta:
      vars: {a: zeta, b: zeta, p: zeta}
      children:
        alpha:
          vars: {b: alpha, p: alpha}
          hosts:
            h1: &same {emr_kind: server, d: host, nested: {x: 1, when: 2026-08-19}}
            h2:
              <<: *same
              z: own
    beta:
      vars: {ansible_group_priority: 10, p: beta, b: beta}
      children:
        gamma: {hosts: {h1: }, vars: {p: gamma}}
"""
    )
    second.write_text(
        "alpha: {hosts: {h1: {d: second}, h3: {emr_kind: ups}}, vars: {b: second}}\ngamma: {children: {deep: }}\n"
        "deep: {hosts: {h2: }, vars: {p: deep}}\n"
    )
    (first.parent / "group_vars" / "all.yaml").write_text("c: folder\ne: folder\n")
    (first.parent / "group_vars" / "alpha.yml").write_text("c: alpha folder\n")
    (first.parent / "group_vars" / "zeta").mkdir()
    (first.parent / "group_vars" / "zeta" / "1.yaml").write_text("s: 1\nr: 1\n")
    (first.parent / "group_vars" / "zeta" / "2.yaml").write_text("r: 2\n")
    (first.parent / "group_vars" / "zeta" / ".hidden.yaml").write_text("r: 3\n")
    (first.parent / "group_vars" / "zeta" / "notes.txt").write_text("r: 4\n")
    (second.parent / "group_vars" / "all").write_text("e: second folder\n")
    (second.parent / "host_vars" / "h1.json").write_text('{"e": "host folder"}')
    (second.parent / "host_vars" / "h3.yaml").write_text("")
    inventory = load_inventory([first, second], tmp_path)
    told = ansible_list(first, second, cwd=tmp_path)
    assert_same_as_ansible(inventory, told)
    assert inventory.assets["lone"].access["u"] == "ungrouped"
    assert inventory.assets["lone"].roles == ()


def test_the_hospital_of_the_plan() -> None:
    inventory = load_inventory([HOSTS], ROOT)
    sizes = {group: len(members) for group, members in inventory.groups.items()}
    assert sizes["servers"] == 1
    assert sizes["workstations"] == 35
    assert sizes["printers"] == 30
    assert sizes["linux_servers"] == 2
    assert sizes["linux_hosts"] == 37
    assert sizes["log_senders"] == 36  # all but the log server, which is assumed to be the control plane
    assert sizes["network_devices"] == sizes["switches"] + sizes["firewalls"] == 6
    departments = [group for group in sizes if group.startswith("dept_")] + ["ban_giam_doc"]
    assert len(departments) == 6
    assert sum(sizes[group] for group in departments) == 35
    endpoints = ("ep-emr", "ep-his", "ep-lis", "ep-mail", "ep-pacs", "ep-portal", "ep-sign")
    assert inventory.groups["service_endpoints"] == endpoints
    assert inventory.groups["record_systems"] == ("ep-emr", "ep-his", "ep-lis", "ep-pacs")
    assert inventory.groups["modalities"] == inventory.groups["cameras"] == ()
    assert inventory.groups["site"] == ("site",)
    assert len(inventory.assets) == 83


def test_a_service_says_what_it_may_be_asked(tmp_path: Path) -> None:
    told = {
        "url": "https://emr.hospital.invalid:8443/emr",
        "health": "/health",
        "viewer": "/viewer?kiosk=1",
        "fhir": "/fhir",
        "dicomweb": "/dicom-web",
        "plain_port": 8080,
        "ca_file": "hospital.pem",
        "dicom": {"port": 11112, "called_aet": "PACS 01", "calling_aet": "EMRCTL", "tls": True},
        "hl7": {"port": 2575, "application": "LIS", "facility": "BV", "tls": False},
        "smtp": {"port": 25},
        "sql": {"port": 5432, "engine": "postgresql"},
        "tcp": {"port": 554},
    }
    host = {"emr_kind": "service", "emr_transports": ["service"], "emr_service": told}
    inventory = load(tmp_path, json.dumps({"all": {"hosts": {"ep-01": host}}}))
    assert inventory.assets["ep-01"].access["emr_service"] == told
    assert inventory.assets["ep-01"].transports == ("service",)
    for only in ("smtp", "sql", "tcp", "hl7", "dicom", "url"):
        load(tmp_path, json.dumps({"all": {"hosts": {"ep-01": host | {"emr_service": {only: told[only]}}}}}))


def test_the_example_of_the_how_to_can_be_laid_over_the_shipped_inventory(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "connect-a-service.md").read_text(encoding="utf-8")
    block = page.split("```yaml\n")[1].split("```")[0]
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(textwrap.dedent(block), encoding="utf-8")
    inventory = load_inventory([HOSTS, overlay], ROOT)
    assert inventory.groups["modalities"] == ("ct-01",)
    assert inventory.groups["cameras"] == ("cam-01",)
    camera = inventory.assets["cam-01"]
    assert (camera.kind, camera.transports, camera.address) == ("service", ("service",), "192.0.2.90")
    assert inventory.assets["ep-pacs"].access["emr_service"]["dicom"]["called_aet"] == "PACS"


def test_as_shipped_only_this_machine_has_an_address() -> None:
    inventory = load_inventory([HOSTS], ROOT)
    addressed = [asset for asset in inventory.assets.values() if asset.address is not None]
    assert [(asset.name, asset.address, asset.transports) for asset in addressed] == [
        ("controlplane-01", "127.0.0.1", ("local",))
    ]
    assert all(vlan.subnet is None for vlan in inventory.vlans.vlans)


def test_an_asset_carries_what_the_route_needs() -> None:
    pc = load_inventory([HOSTS], ROOT).assets["pc-09"]
    assert pc.kind == "workstation"
    assert pc.roles == ("dept_kham_benh_cap_cuu", "linux_hosts", "log_senders", "managed_hosts", "workstations")
    assert pc.title.vi == "Máy tính 09"
    assert pc.title.en == "Workstation 09"
    assert pc.department == "Khoa Khám bệnh - Cấp cứu"
    assert pc.transports == ("ssh",)


def test_the_site_is_an_asset_without_being_a_host() -> None:
    site = load_inventory([HOSTS], ROOT).assets["site"]
    assert (site.kind, site.roles, site.transports, site.address) == ("site", ("site",), (), None)


def test_plays_are_told_the_network_in_the_form_of_the_file() -> None:
    told = intended_network(load_inventory([HOSTS], ROOT).vlans)
    written = yaml.safe_load((ROOT / "inventory" / "vlans.yaml").read_text(encoding="utf-8"))
    for vlan in written["vlans"]:
        vlan.setdefault("guests", False)
    assert told == written


def test_the_vlan_plan_has_the_zones_of_level_2_and_denies_what_it_does_not_list() -> None:
    plan = load_inventory([HOSTS], ROOT).vlans
    assert {"server", "dmz", "wireless", "internal", "perimeter"} <= {vlan.zone for vlan in plan.vlans}
    assert [p.target for p in plan.allow if p.source == "wireless-guest"] == ["internet"]
    assert not [p for p in plan.allow if p.source in {"cameras", "printers"}]


# --------------------------------------------------------------------------------- selecting, digest, merge


def test_select_takes_hosts_groups_and_all_each_asset_once(tmp_path: Path) -> None:
    inventory = load(tmp_path, GOOD)
    assert [asset.name for asset in inventory.select(["devices", "sv-01", "printers"])] == ["prn-01", "sv-01", "sv-02"]
    assert len(inventory.select(["all"])) == 3
    assert inventory.select([]) == ()


def test_select_of_an_unknown_name_says_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InventoryError) as caught:
        load(tmp_path, GOOD).select(["pritners"])
    assert "printers" in caught.value.words.vi
    assert "printers" in caught.value.words.en
    assert str(caught.value).startswith("The inventory has no host and no group named “pritners”.")


def test_the_digest_follows_the_content_not_its_spelling(tmp_path: Path) -> None:
    plain = load(tmp_path, GOOD)
    respelt = load(tmp_path, GOOD.replace('"192.0.2.1"', "192.0.2.1").replace("sv-02: {}", "sv-02:") + "# end\n")
    changed = load(tmp_path, GOOD.replace("192.0.2.1", "192.0.2.2"))
    assert plain.digest == respelt.digest
    assert plain.digest != changed.digest


def test_one_text_typed_on_two_keyboards_has_one_digest(tmp_path: Path) -> None:
    composed = GOOD.replace("sv-02: {}", 'sv-02: {emr_department: "đạt"}')
    decomposed = composed.replace("đạt", "đa\u0323t")
    assert composed != decomposed
    assert load(tmp_path, composed).digest == load(tmp_path, decomposed).digest


def test_a_service_may_stand_on_the_address_of_its_server(tmp_path: Path) -> None:
    inventory = load(tmp_path, GOOD + 'ep: {hosts: {ep-his: {emr_kind: service, ansible_host: "192.0.2.1"}}}\n')
    assert inventory.assets["ep-his"].address == "192.0.2.1"


def test_two_ports_of_one_address_are_two_hosts(tmp_path: Path) -> None:
    inventory = load(tmp_path, GOOD.replace("sv-02: {}", 'sv-02: {ansible_host: "192.0.2.1", ansible_port: 2222}'))
    assert inventory.assets["sv-02"].address == "192.0.2.1"


# --------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        pytest.param("all:\n  hosts: {a: {\n", 3, "Not valid YAML", id="syntax"),
        pytest.param("all:\n\thosts:\n", 2, "Not valid YAML", id="tab"),
        pytest.param("all: {}\n---\nall: {}\n", 2, "Not valid YAML", id="two documents"),
        pytest.param("all:\n  hosts:\n    a\x07b: {}\n", 3, "control character", id="control character"),
        pytest.param("", 1, "empty", id="empty"),
        pytest.param("# nothing\n", 1, "empty", id="only a comment"),
        pytest.param("- a\n- b\n", 1, "must be a mapping", id="a list"),
        pytest.param("hello\n", 1, "must be a mapping", id="a word"),
        pytest.param("all:\n  hosts:\n  - a\n", 3, "hosts of “all” must be a mapping", id="hosts as a list"),
        pytest.param("all:\n  hosts: a\n", 2, "must be a mapping", id="hosts as a word"),
        pytest.param("all:\n  vars: [1]\n", 2, "must be a mapping", id="vars as a list"),
        pytest.param("all:\n  hosts:\n    a: 5\n", 3, "Host “a” must be a mapping", id="host as a number"),
        pytest.param("all:\n  hots: {}\n", 2, "Nearest: hosts", id="unknown key of a group"),
        pytest.param("all:\n  hosts:\n    a: {}\n    a: {}\n", 4, "first on line 3", id="double host"),
        pytest.param("all:\n  hosts: {a: {x: 1, x: 2}}\n", 2, "“x” stands twice", id="double variable"),
        pytest.param("a: {}\nb: {}\na: {}\n", 3, "first on line 1", id="double group"),
        pytest.param("all:\n  hosts:\n    a:\n      on: 1\n", 4, "“on” is not text", id="boolean key"),
        pytest.param("all:\n  hosts:\n    12: {}\n", 3, "put it in quotes", id="number as host name"),
        pytest.param("all:\n  hosts:\n    ? [a]\n    : {}\n", 3, "is not text", id="list as key"),
        pytest.param("my-group: {}\n", 1, "may only hold letters", id="group name"),
        pytest.param("all:\n  hosts:\n    pc-[01:35]: {}\n", 3, "no ranges", id="range"),
        pytest.param("all:\n  hosts:\n    pc:22: {}\n", 3, "cannot be used", id="host with a port"),
        pytest.param(GOOD.replace("        printers:\n", "        pritners:\n"), 14,
                     "“pritners”, a child of “devices”, is defined nowhere. Nearest: printers", id="unknown child"),
        pytest.param("a: {children: {b: }}\nb: {children: {c: }}\nc:\n  children:\n    a:\n", 1,
                     "contain one another: a > b > c > a", id="ring"),
        pytest.param("a:\n  children:\n    a:\n", 3, "contain one another: a > a", id="own child"),
        pytest.param("a:\n  children:\n    all:\n", 3, "cannot be a child", id="all as a child"),
        pytest.param("all:\n  hosts:\n    a: &a {b: *a}\n", 3, "contains itself", id="alias of itself"),
        pytest.param("all:\n  hosts:\n    a: {x: *b}\n", 3, "Not valid YAML", id="undefined alias"),
        pytest.param("all:\n  hosts:\n    a: {x: !vault abc}\n", 3, "tag !vault", id="vault tag"),
        pytest.param("all:\n  hosts:\n    a: {x: !!python/name:os.system }\n", 3, "is not read", id="python tag"),
        pytest.param("all:\n  hosts:\n    a: {x: !!binary aGk=}\n", 3, "is not read", id="binary"),
        pytest.param("all:\n  hosts:\n    a: {x: 2026-02-30}\n", 3, "not a real date", id="no such day"),
        pytest.param("all:\n  hosts:\n    a: {x: .nan}\n", 3, "cannot be used", id="not a number"),
        pytest.param("all:\n  hosts:\n    a: {x: !!timestamp x}\n", 3, "cannot be used", id="no timestamp"),
        pytest.param("all:\n  hosts:\n    a: {x: !!bool x}\n", 3, "cannot be used", id="no truth value"),
        pytest.param("all:\n  hosts:\n    a: {x: 0x" + "f" * 5000 + "}\n", 3, "cannot be used", id="endless number"),
        pytest.param("all:\n  hosts:\n    a: {x: !!int ''}\n", 3, "cannot be used", id="no number"),
        pytest.param("all:\n  hosts:\n    a: {<<: 5}\n", 3, "Not valid YAML", id="bad merge key"),
        pytest.param("all:\n  vars:\n    ansible_group_priority: high\n", 3, "whole number", id="group priority"),
        pytest.param("all:\n  hosts:\n    sv-1: {}\n    sv-01: {emr_kind: server}\n", 3, "no emr_kind; the name may be "
                     "misspelt. Nearest: sv-01", id="no kind"),
        pytest.param("site:\n  vars:\n    ansible_host: 192.0.2.9\n", 3, "no address", id="address of the site"),
        pytest.param("site:\n  vars:\n    emr_kind: nas\n", 3, "emr_kind: site", id="kind of the site"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_with_its_line(tmp_path: Path, text: str, line: int, word: str) -> None:
    error = refused(tmp_path, text)
    assert (error.file, error.line) == ("hosts1.yaml", line)
    assert word in error.words.en
    assert str(error) == f"hosts1.yaml:{line}: {error.words.en}"


@pytest.mark.parametrize(
    ("variable", "word"),
    [
        ("emr_kind: sever", "Nearest: server"),
        ("emr_kind: [server]", "must be one of"),
        ("emr_transports: ssh", "must be a list"),
        ("emr_transports: [ssh, telnet]", "must be a list"),
        ("emr_transports: [ssh, ssh]", "each once"),
        ("emr_transports: [{a: b}]", "must be a list"),
        ("emr_trasports: [ssh]", "Nearest: emr_transports"),
        ("emr_title_vi: Máy chủ", "emr_title_en is missing"),
        ("emr_title_en: Server", "emr_title_vi is missing"),
        ("emr_title_vi: 5", "must be a text"),
        ("emr_department: [a]", "must be a text"),
        ("emr_vlan: 4095", "from 1 to 4094"),
        ("emr_vlan: true", "whole number"),
        ('emr_vlan: "10"', "whole number"),
        ("emr_snmp: v3", "must be {version"),
        ("emr_snmp: {version: 3, secret_file: x}", "must be {version"),
        ('emr_snmp: {version: "3"}', "must be {version"),
        ('emr_snmp: {version: "3", secret_file: x, prot: 1}', "must be {version"),
        ('emr_snmp: {version: "3", secret_file: x, port: 0}', "must be {version"),
        ("emr_service: https://a/", "must be a mapping with at least one protocol"),
        ("emr_service: {}", "must be a mapping with at least one protocol"),
        ("emr_service: {helth: /x}", "Nearest: health"),
        ("emr_service: {health: /x}", "needs url when it has health"),
        ("emr_service: {url: ftp://a/}", "url must be https://HOST"),
        ('emr_service: {url: "https://who:canary@a/"}', "url must be https://HOST"),
        ('emr_service: {url: "https://a/?x=1"}', "url must be https://HOST"),
        ('emr_service: {url: "https://a:0/"}', "url must be https://HOST"),
        ('emr_service: {url: "https://a:99999/"}', "url must be https://HOST"),
        ('emr_service: {url: "https://a b/"}', "url must be https://HOST"),
        ('emr_service: {url: "https://bệnh-viện/"}', "url must be https://HOST"),
        ('emr_service: {url: "https://a/\\r\\nX: y"}', "url must be https://HOST"),
        ("emr_service: {url: https://a/, health: x}", "health must be a path"),
        ('emr_service: {url: https://a/, health: "/x y"}', "health must be a path"),
        ("emr_service: {url: https://a/, plain_port: 0}", "plain_port must be a port"),
        ("emr_service: {url: https://a/, ca_file: ../../etc/x}", "ca_file must be the name"),
        ("emr_service: {dicom: {port: 104}}", "dicom must be {port, called_aet"),
        ("emr_service: {dicom: {port: 104, called_aet: A, calling_aet: SEVENTEEN_LETTERS}}", "at most 16 characters"),
        ('emr_service: {dicom: {port: 104, called_aet: A, calling_aet: "  "}}', "at most 16 characters"),
        ("emr_service: {hl7: {port: no}}", "hl7 must be {port}"),
        ('emr_service: {hl7: {port: 2575, application: "A|B"}}', "hl7 must be {port}"),
        ("emr_service: {smtp: 25}", "smtp must be {port"),
        ("emr_service: {tcp: {port: true}}", "tcp must be {port"),
        ("emr_service: {sql: {port: 3306, engine: mysql}}", "engine: postgresql"),
        ('ansible_port: "22"', "whole number"),
        ("ansible_port: 0", "from 1 to 65535"),
        ("ansible_port: 65536", "from 1 to 65535"),
        ("ansible_port: 22.5", "whole number"),
        ("ansible_port: true", "whole number"),
        ("ansible_host: 10", "IP address or a host name"),
        ("ansible_host: 10.0.0.300", "IP address or a host name"),
        ("ansible_host: 10.0.0", "IP address or a host name"),
        ("ansible_host: 10.0.0.0/24", "IP address or a host name"),
        ("ansible_host: 0.0.0.0", "IP address or a host name"),
        ("ansible_host: 224.0.0.1", "IP address or a host name"),
        ('ansible_host: "fe80:::1"', "IP address or a host name"),
        ('ansible_host: ""', "IP address or a host name"),
        ('ansible_host: "máy chủ"', "IP address or a host name"),
        ('ansible_host: "-oProxyCommand=id"', "IP address or a host name"),
        ('ansible_host: "sv-01; reboot"', "IP address or a host name"),
        ("ansible_user: 5", "must be a text"),
        ("ansible_ssh_private_key_file: [a]", "must be a text"),
    ],
)
def test_a_wrong_variable_is_refused_with_host_name_and_line(tmp_path: Path, variable: str, word: str) -> None:
    error = refused(tmp_path, f"all:\n  vars: {{emr_kind: server}}\n  hosts:\n    sv-09:\n      {variable}\n")
    assert error.line == 5
    assert word in error.words.en
    if "Unknown" not in error.words.en:
        assert error.words.en.startswith("sv-09: ")
        assert error.words.vi.startswith("sv-09: ")


@pytest.mark.parametrize(
    "variable",
    [
        "ansible_password: canary-9f3a",
        "ansible_ssh_pass: canary-9f3a",
        "ansible_become_pass: canary-9f3a",
        "ansible_become_password: canary-9f3a",
        "ansible_become_password: 93939",
        "community: canary-9f3a",
        "snmp_community: canary-9f3a",
        'emr_snmp: {version: "3", secret_file: x, auth_key: canary-9f3a}',
        "anything: {deeper: [{api_token: canary-9f3a}]}",
        "emr_service: {hl7: {port: 2575, password: canary-9f3a}}",
        "ansible_ssh_private_key: canary-9f3a",
        'note: "-----BEGIN OPENSSH PRIVATE KEY-----canary-9f3a"',
        'note: "$ANSIBLE_VAULT;1.1;AES256 canary-9f3a"',
    ],
)
@pytest.mark.parametrize("place", ["hosts: {a: {VAR}}", "vars: {VAR}"])
def test_a_secret_is_refused_and_never_repeated(tmp_path: Path, variable: str, place: str) -> None:
    error = refused(tmp_path, "all:\n  " + place.replace("VAR", variable) + "\n")
    assert error.line == 2
    assert "is a secret" in error.words.en
    assert "bí mật" in error.words.vi
    assert "canary" not in error.words.vi + error.words.en + str(error) + repr(error)


def test_a_secret_is_refused_even_where_a_later_file_overrides_it(tmp_path: Path) -> None:
    error = refused(tmp_path, "all: {vars: {ansible_password: x1}}\n", "all: {vars: {ansible_password: ''}}\n")
    assert error.file == "hosts1.yaml"


def test_two_hosts_on_one_address_are_refused_with_both_lines(tmp_path: Path) -> None:
    error = refused(tmp_path, GOOD.replace("sv-02: {}", 'sv-02: {ansible_host: "192.0.2.1"}'))
    assert error.line == 7
    assert "sv-02 and sv-01 share the address 192.0.2.1" in error.words.en
    assert "hosts1.yaml:6" in error.words.en
    assert "hosts1.yaml:6" in error.words.vi


def test_one_address_in_two_spellings_or_two_files_is_still_one(tmp_path: Path) -> None:
    error = refused(
        tmp_path,
        "all: {hosts: {a: {emr_kind: nas, ansible_host: '2001:db8::1'}}}\n",
        "all:\n  hosts:\n    b: {emr_kind: nas, ansible_host: '2001:DB8:0::1'}\n",
    )
    assert (error.file, error.line) == ("hosts2.yaml", 3)
    assert "hosts1.yaml:1" in error.words.en
    error = refused(
        tmp_path, "all: {vars: {emr_kind: nas}, hosts: {a: {ansible_host: Nas.lan}, b: {ansible_host: nas.LAN}}}"
    )
    assert "share the address" in error.words.en


def test_a_file_that_is_missing_a_folder_or_no_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InventoryError) as missing:
        load_inventory([Path("nowhere.yaml")], tmp_path)
    assert (missing.value.file, missing.value.line) == ("nowhere.yaml", None)
    assert missing.value.words.en == "There is no such file."
    with pytest.raises(InventoryError) as folder:
        load_inventory([tmp_path], tmp_path.parent)
    assert folder.value.words.en == "This is not a regular file."
    with pytest.raises(InventoryError) as none:
        load_inventory([], tmp_path)
    assert none.value.words.en == "No inventory file was named."
    error = refused(tmp_path, b"all:\n  hosts:\n    a: {emr_title_vi: \xff\xfe}\n")
    assert error.line == 3
    assert "not UTF-8" in error.words.en


def test_a_file_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    error = refused(tmp_path, b"#" * (MAX_BYTES + 1))
    assert "the limit is 5 MB" in error.words.en


def test_an_alias_bomb_is_refused_quickly(tmp_path: Path) -> None:
    lines = ["x0: &x0 {hosts: {a: {v: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]}}}"]
    lines += [f"x{n}: &x{n} {{vars: {{v: [{', '.join([f'*x{n - 1}'] * 10)}]}}}}" for n in range(1, 12)]
    error = refused(tmp_path, "\n".join(lines) + "\n")
    assert "blow the content up" in error.words.en
    assert error.line is not None


def test_deep_nesting_is_refused_written_out_or_by_alias(tmp_path: Path) -> None:
    assert "Nested more than 40" in refused(tmp_path, "all: " + "[" * 100_000).words.en
    chain = ["v0: &v0 [1]"] + [f"v{n}: &v{n} [*v{n - 1}]" for n in range(1, 2000)]
    assert "too far" in refused(tmp_path, "\n".join(chain) + "\n").words.en


def test_vars_folders_for_names_the_inventory_lacks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "pritners.yaml").write_text("emr_vlan: 4\n")
    with pytest.raises(InventoryError) as caught:
        load(tmp_path, GOOD)
    assert caught.value.place == "group_vars/pritners.yaml:1"
    assert "Nearest: printers" in caught.value.words.en


def test_a_secret_in_a_vars_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars" / "sv-01.yaml").write_text("x: 1\nansible_password: canary-9f3a\n")
    with pytest.raises(InventoryError) as caught:
        load(tmp_path, GOOD)
    assert caught.value.place == "host_vars/sv-01.yaml:2"
    assert "canary" not in str(caught.value)


VLANS = """\
vlans:
- {id: 10, name: a, zone: server, title: {vi: A, en: A}, purpose: {vi: A, en: A}, subnet: null}
- {id: 20, name: b, zone: dmz, title: {vi: B, en: B}, purpose: {vi: B, en: B}, subnet: 192.0.2.0/25}
matrix:
  default: deny
  allow:
  - {from: a, to: b, services: [tcp/443], why: {vi: A, en: A}}
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "word"),
    [
        ("id: 20", "id: 10", 3, "repeats an id or a name"),
        ("name: b", "name: internet", 3, "repeats an id or a name"),
        ("id: 20", "id: 5000", 3, "from 1 to 4094"),
        ("id: 20", "id: x", 3, "whole number"),
        ("zone: dmz", "zone: dnz", 3, "Nearest: dmz"),
        ("subnet: null", "subnet: 192.0.2.64/26", 3, "overlaps"),
        ("192.0.2.0/25", "192.0.2.1/25", 3, "written like"),
        ("to: b", "to: c", 7, "Unknown “c”"),
        ("tcp/443", "https", 7, "written like tcp/443"),
        ("tcp/443", "tcp/70000", 7, "written like tcp/443"),
        ("tcp/443", "tcp/" + "9" * 5000, 7, "written like tcp/443"),
        ("[tcp/443]", "tcp/443", 7, "A list is needed"),
        ("default: deny", "default: allow", 5, "Unknown “allow”"),
        ("why: {vi: A, en: A}", "why: {vi: A}", 7, "“en” is missing"),
        (", subnet: null", "", 2, "“subnet” is missing"),
        ("matrix:", "matrx:", 4, "Nearest: matrix"),
    ],
)
def test_a_broken_vlan_plan_is_refused_with_its_line(tmp_path: Path, old: str, new: str, line: int, word: str) -> None:
    (tmp_path / "vlans.yaml").write_text(VLANS)
    assert len(load(tmp_path, GOOD).vlans.vlans) == 2
    (tmp_path / "vlans.yaml").write_text(VLANS.replace(old, new))
    with pytest.raises(InventoryError) as caught:
        load(tmp_path, GOOD)
    assert caught.value.place == f"vlans.yaml:{line}"
    assert word in caught.value.words.en


def test_a_host_in_a_vlan_that_is_not_planned_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vlans.yaml").write_text(VLANS)
    error = refused(tmp_path, GOOD.replace("sv-02: {}", "sv-02: {emr_vlan: 30}"))
    assert (error.line, error.words.en) == (7, "sv-02: VLAN 30 is not in vlans.yaml.")


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ("emr_vlan: 20, emr_vlan_address: 192.0.2.200", "192.0.2.200 is not in 192.0.2.0/25, the subnet of VLAN 20"),
        ("emr_vlan: 20, emr_vlan_address: somewhere", "must be an IP address"),
        ("emr_outside: true", "emr_outside is for a probe outside the firewall"),
        ("emr_kind: probe, emr_outside: true, emr_vlan: 10", "that one is in no VLAN"),
        ("emr_kind: probe, emr_outside: maybe", "must be true or false"),
    ],
)
def test_a_place_that_cannot_be_is_refused(tmp_path: Path, variables: str, word: str) -> None:
    (tmp_path / "vlans.yaml").write_text(VLANS)
    error = refused(tmp_path, GOOD.replace("sv-02: {}", f"sv-02: {{{variables}}}"))
    assert error.line == 7
    assert word in error.words.en


def test_a_probe_stands_in_a_vlan_or_outside_and_counts_as_no_computer(tmp_path: Path) -> None:
    (tmp_path / "vlans.yaml").write_text(VLANS)
    inside = load(
        tmp_path, GOOD.replace("sv-02: {}", "sv-02: {emr_kind: probe, emr_vlan: 20, emr_vlan_address: 192.0.2.9}")
    )
    assert inside.assets["sv-02"].kind == "probe"
    assert inside.assets["sv-02"].fields == {"vlan": "20", "vlan_address": "192.0.2.9"}
    outside = load(tmp_path, GOOD.replace("sv-02: {}", "sv-02: {emr_kind: probe, emr_outside: true}"))
    assert outside.assets["sv-02"].fields == {"outside": "true"}
    assert "probe" not in DEVICES


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.integers(0, len(GOOD)), length=st.integers(0, 40), put=st.one_of(st.binary(max_size=12), st.text(max_size=8))
)
def test_whatever_is_typed_into_a_file_nothing_but_an_inventory_error_comes_out(
    tmp_path: Path, cut: int, length: int, put: bytes | str
) -> None:
    raw = GOOD.encode()
    middle = put if isinstance(put, bytes) else put.encode("utf-8", "surrogatepass")
    said = Words("Được.", "Fine.")
    try:
        load(tmp_path, raw[:cut] + middle + raw[cut + length :])
    except InventoryError as error:
        said = error.words
    assert said.vi.endswith(".")
    assert said.en.endswith(".")


# ------------------------------------------------------------------------------------------ the keeper


def test_the_last_good_inventory_stays_in_force_while_the_file_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(GOOD)
    (tmp_path / "vlans.yaml").write_text(VLANS)
    keeper = InventoryKeeper([path], tmp_path / "keep")
    good, error = keeper.current()
    assert error is None
    copy = tmp_path / "keep" / LAST_GOOD
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    path.write_text(GOOD + "broken: [\n")
    kept, error = keeper.current()
    assert error is not None
    assert error.line == 16
    assert kept == good
    path.write_text(GOOD)
    assert keeper.current() == (good, None)
    assert [entry.name for entry in copy.parent.iterdir()] == [LAST_GOOD]


def test_a_better_inventory_replaces_the_kept_one(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    keeper = InventoryKeeper([Path("hosts.yaml")], tmp_path, base=tmp_path)
    path.write_text(GOOD)
    keeper.current()
    path.write_text(GOOD.replace("192.0.2.1", "192.0.2.7"))
    newer, _ = keeper.current()
    path.unlink()
    kept, error = keeper.current()
    assert kept == newer
    assert error is not None
    assert error.words.vi == "Không tìm thấy tệp này."


def test_with_no_good_copy_a_broken_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "hosts.yaml").write_text("[")
    with pytest.raises(InventoryError, match="Not valid YAML"):
        InventoryKeeper([tmp_path / "hosts.yaml"], tmp_path / "keep").current()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"digest": "0", "files": [], "content": {}}', "TAMPER"])
def test_a_damaged_copy_is_not_used(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(GOOD)
    keeper = InventoryKeeper([path], tmp_path)
    keeper.current()
    copy = tmp_path / LAST_GOOD
    copy.write_text(copy.read_text().replace("192.0.2.1", "192.0.2.66") if damage == "TAMPER" else damage)
    path.write_text("[")
    with pytest.raises(InventoryError, match="Not valid YAML"):
        keeper.current()


def test_an_inventory_that_cannot_be_kept_is_still_used_and_said(tmp_path: Path) -> None:
    (tmp_path / "hosts.yaml").write_text(GOOD)
    (tmp_path / "keep").write_text("a file where the folder should be")
    inventory, error = InventoryKeeper([tmp_path / "hosts.yaml"], tmp_path / "keep").current()
    assert len(inventory.assets) == 3
    assert error is not None
    assert "no copy of it could be kept" in error.words.en


# ------------------------------------------------------------------------------- what the hospital declares


def declared(tmp_path: Path, line: str) -> Any:
    (tmp_path / "hosts.yaml").write_text(f"all:\n  hosts:\n    pc-01:\n      emr_kind: workstation\n      {line}\n")
    return load_inventory([tmp_path / "hosts.yaml"], tmp_path).assets["pc-01"].fields


def test_declared_fields_stand_in_the_asset_as_text(tmp_path: Path) -> None:
    assert declared(tmp_path, "emr_owner: Khoa Dược") == {"owner": "Khoa Dược"}
    macs = 'emr_mac: ["02:00:00:00:00:0B", "02:00:00:00:00:0a"]'
    assert declared(tmp_path, macs) == {"mac": "02:00:00:00:00:0a 02:00:00:00:00:0b"}
    assert declared(tmp_path, "emr_support_until: 2030-12-31") == {"support_until": "2030-12-31"}
    assert declared(tmp_path, "emr_external: true") == {"external": "true"}
    assert declared(tmp_path, "emr_watched: false") == {"watched": "false"}
    assert declared(tmp_path, "emr_vlan: 20") == {"vlan": "20"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("emr_mac: 02-00-00-00-00-01", "must be a MAC address"),
        ("emr_mac: []", "must be a MAC address"),
        ("emr_state: lost", "in_use, spare, broken, retired"),
        ("emr_support_until: next year", "must be a day"),
        ("emr_in_service_on: 2026-02-30", "This value cannot be used"),
        ("emr_external: 1", "must be true or false"),
        ("emr_owner: 7", "must be a text"),
        ("emr_purposes: a", "Nearest: emr_purpose"),
    ],
)
def test_a_declared_field_of_another_form_is_refused_by_line(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(InventoryError, match=words) as refused_:
        declared(tmp_path, line)
    assert refused_.value.line == 5


# ---------------------------------------------------------------------------------------- the campaign


def test_the_campaign_of_the_plan() -> None:
    campaign = load_campaign(CAMPAIGN)
    assert campaign.plan == "62/KH-BVNT ngày 01/8/2025"
    assert (campaign.ends_on - campaign.starts_on).days + 1 == 45
    due = {milestone.id: milestone.due_on for milestone in campaign.milestones}
    assert due["infrastructure"] == date(2025, 8, 15)
    assert due["emr-software"] == date(2025, 8, 25)
    assert due["interoperability"] == date(2025, 8, 31)
    assert due["training"] == date(2025, 9, 15)
    assert due["trial-run"] == date(2025, 9, 25)
    assert due["announcement"] == date(2025, 9, 30)
    assert list(due.values()) == sorted(due.values())
    assert {(target.framework, target.group, target.level) for target in campaign.targets} == {
        ("tt54-2017", "infra", "7"),
        ("tt54-2017", "his", "6"),
        ("tt54-2017", "lis", "advanced"),
        ("tt54-2017", "rispacs", "advanced"),
        ("tt54-2017", "mgmt", "advanced"),
        ("tt13-2025", "emr", "met"),
        ("tcvn14423-2026", "system", "2"),
    }
    assert campaign.hospital.short_symbol == "BVNT"
    assert campaign.hospital.archive_line == "Lưu: VT, HCTH"
    assert (campaign.hospital.staff, "Mục II" in campaign.hospital.staff_source) == (48, True)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('due_on: "2025-08-15"', 'due_on: "15/8/2025"', "A day is written like"),
        ('due_on: "2025-08-15"', 'due_on: "2025-02-30"', "A day is written like"),
        ("milestone: security-review", "milestone: security-reviw", "Nearest: security-review"),
        ("- id: training", "- id: launch", "“launch” stands twice"),
        ("group: lis", "group: his", "The group his has two targets"),
        ("short_symbol: BVNT", "symbol: BVNT", "Unknown key “symbol”"),
        ("  short_symbol: BVNT\n", "", "“short_symbol” is missing"),
        ('ends_on: "2025-09-14"', 'ends_on: "2025-07-14"', "ends before it starts"),
        ('level: "7"', "level: 7", "A text is needed"),
        ("targets:\n", "targets: []\nx:\n", "Unknown key “x”"),
        ("- id: infra-review", "- id: council", "The task “council” stands twice"),
        ("  milestone: emr-software", "  milestone: emr-softwre", "Nearest: emr-software"),
        ("serves: [tt54-2017/his]", "serves: [tt54-2017/hs]", "There is no target “tt54-2017/hs”"),
        ('starts_on: "2025-09-25"', "starts_on: null", "both a start and a due day"),
        ('starts_on: "2025-09-25"', 'starts_on: "2025-10-25"', "due before it starts"),
        ("done_on: null", "done_on: xong", "A day is written like"),
    ],
)
def test_a_broken_campaign_is_refused_with_its_line(tmp_path: Path, old: str, new: str, word: str) -> None:
    text = CAMPAIGN.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "inventory" / "campaign.yaml"
    path.parent.mkdir()
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(InventoryError) as caught:
        load_campaign(path)
    assert caught.value.file == "inventory/campaign.yaml"
    assert caught.value.line is not None
    assert word in caught.value.words.en


def test_a_campaign_may_lack_tasks_and_days_of_completion(tmp_path: Path) -> None:
    text = CAMPAIGN.read_text(encoding="utf-8")
    path = tmp_path / "inventory" / "campaign.yaml"
    path.parent.mkdir()
    bare = text[: text.index("\ntasks:")]
    path.write_text(
        bare.replace('  source: "Mục IV"', '  source: "Mục IV"\n  done_on: "2025-08-02"', 1), encoding="utf-8"
    )
    campaign = load_campaign(path)
    assert campaign.tasks == ()
    assert [m.done_on for m in campaign.milestones[:2]] == [date(2025, 8, 2), None]


def test_an_empty_campaign_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "campaign.yaml"
    path.write_text("")
    with pytest.raises(InventoryError, match="empty"):
        load_campaign(path)
