"""The network play on the lab's firewall and switch: what was changed by hand goes, a second apply has no work.

A change that cuts the control plane's own sight is undone by the device itself.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.collect.facts.linux_firewall import read_policy
from tests.integration.conftest import ROOT, Lab

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(600)]

BY_HAND = [
    "nft",
    "insert",
    "rule",
    "inet",
    "emrctl_router",
    "forward",
    "iifname",
    "vlan80",
    "tcp",
    "dport",
    "22",
    "accept",
]
LISTED = ["nft", "-s", "list", "table", "inet", "emrctl_router"]
PORT3 = ["ovs-vsctl", "--format=json", "--columns=tag", "list", "port", "port3"]


# A process enters the lab's network only as a whole, so the product's own runner is called by a program of its own.
RUN = """
import json, sys
from pathlib import Path
from controlplane.collect.inventory import intended_network, load_inventory
from controlplane.plays import apply, load_plays, preview
from controlplane.collect.yaml_file import YamlFile
play, limit, mode, known_hosts, folder, *files = sys.argv[1:]
playbooks, paths = Path("playbooks"), [Path(one) for one in files]
plays = YamlFile(playbooks / "plays.yaml", playbooks)
inventory = load_inventory(paths, Path("/"))
run = (preview if mode == "preview" else apply)(
    load_plays(plays.value(plays.root), playbooks)[play], paths, limit.split(","), Path(folder),
    hosts=inventory.assets.values(), known_hosts=Path(known_hosts),
    given={"emr_network": intended_network(inventory.vlans)})
print(json.dumps({**run.document(), "files": {name: raw.decode() for name, raw in run.files.items()}}))
"""


class Network:
    """The play on the lab's firewall and access switch, by the product's own runner."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        (folder / "inventory").mkdir()
        shutil.copy(ROOT / "inventory" / "hosts.yaml", folder / "inventory")
        shutil.copy(lab.vlans, folder / "inventory" / "vlans.yaml")

    def play(self, mode: str = "apply", **variables: Any) -> dict[str, Any]:
        """The run as the product keeps it, with the files that it fetched; ``variables`` stand in the inventory."""
        overlay = self.folder / "overlay.yaml"
        overlay.write_text(json.dumps({"all": {"hosts": {"fw-01": variables}}}), encoding="utf-8")
        files = [self.folder / "inventory" / "hosts.yaml", self.lab.hospital, overlay]
        command = [sys.executable, "-c", RUN, "network", "fw-01,sw-acc-01", mode, self.lab.known_hosts]
        command += [self.folder / "runs", *files]
        done = self.lab.exec(command, cwd=ROOT, timeout=400)
        assert done.returncode == 0, done.stderr[-3000:]
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told

    def state(self) -> tuple[str, str]:
        """The firewall's own table and the tag of a switch port, as the devices tell them."""
        return self.lab.inside("fw-01", LISTED).stdout, self.lab.inside("sw-acc-01", PORT3).stdout


def changed(run: dict[str, Any]) -> dict[str, int]:
    return {host: tally["changed"] for host, tally in run["recap"].items()}


@pytest.fixture(scope="module")
def network(whole_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    place = Network(whole_lab, tmp_path_factory.mktemp("network"))
    first = place.play()
    assert first["state"] == "successful", first["detail"]
    yield place
    # The lab's own rules alone, as its other tests expect them.
    whole_lab.inside("fw-01", ["nft", "delete", "table", "inet", "emrctl_router"])
    whole_lab.inside("fw-01", ["sh", "-c", "systemctl disable emrctl-router; rm -f /etc/systemd/system/emrctl-router*"])


@pytest.mark.soak
def test_what_was_opened_by_hand_is_closed_and_a_second_apply_has_no_work(network: Network) -> None:
    intended = network.state()
    assert "table inet emrctl_router" in intended[0]
    assert network.lab.inside("fw-01", BY_HAND).returncode == 0
    assert network.lab.inside("sw-acc-01", ["ovs-vsctl", "set", "port", "port3", "tag=40"]).returncode == 0
    opened = network.state()
    assert opened[0] != intended[0]
    assert opened[1] != intended[1]
    run = network.play()
    assert changed(run) == {"fw-01": 1, "sw-acc-01": 1}, run["detail"]
    assert network.state() == intended
    assert 'iifname "vlan80" tcp dport 22 accept' in run["files"]["fw-01/router-before.txt"]
    assert '["port3",40,' in run["files"]["sw-acc-01/switch-before.txt"]
    assert network.lab.inside("fw-01", ["ls", "/run/emrctl"]).stdout == "", "the guard is gone"
    assert changed(network.play()) == {"fw-01": 0, "sw-acc-01": 0}


def test_a_device_that_lost_sight_of_the_control_plane_comes_back_by_itself(network: Network) -> None:
    before = network.state()
    short = {"timed_rollback_reconnect_seconds": 6, "timed_rollback_seconds": 12}
    wrong = {"vlan_router_control_plane": {"address": "10.77.0.99", "interface": "eth0"}}
    run = network.play(**short, **wrong)
    assert run["state"] == "failed"
    assert run["outcomes"] == {"fw-01": "failed", "sw-acc-01": "ok"}
    assert run["recap"]["fw-01"]["rescued"] == 1
    assert "the previous ones stand" in run["detail"]
    assert network.state() == before


@pytest.mark.soak
def test_a_preview_shows_the_difference_and_changes_nothing(network: Network) -> None:
    assert network.lab.inside("fw-01", BY_HAND).returncode == 0
    opened = network.state()
    run = network.play("preview")
    assert changed(run) == {"fw-01": 1, "sw-acc-01": 0}
    (task,) = [task for task in run["tasks"] if task["status"] == "would_change"]
    (diff,) = task["diff"]
    assert 'iifname "vlan80" tcp dport 22 accept' in diff["before"]
    assert 'iifname "vlan80" tcp dport 22 accept' not in diff["after"]
    assert network.state() == opened
    assert changed(network.play())["fw-01"] == 1


def test_the_rules_of_the_play_satisfy_the_checks_that_name_it(network: Network) -> None:
    """The very reader of the collectors reads the table that the play loaded, with the legs of the lab."""
    ask = "printf -- '-- links\\n'; ip -j link show; printf -- '-- routes\\n'; ip -j route show default;"
    ask += "printf -- '-- rules\\n'; nft -j list table inet emrctl_router"
    told = network.lab.inside("fw-01", ["sh", "-c", ask])
    value = read_policy(told.stdout)
    wanted = {"input_drop": True, "forward_drop": True, "open_passages": 0, "inbound_open": 0, "outbound_open": 0}
    wanted |= {"remote_control_exposed": 0, "admin_from_anywhere": 0, "users_reach_database": 0, "user_open": 0}
    wanted |= {"users_reach_management": 0, "inbound_unlimited": 0}
    assert {key: value[key] for key in wanted} == wanted
    assert value["connection_limits"] >= 1
