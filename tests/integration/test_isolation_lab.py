"""The whole lab's VLANs tried from a probe in each: as the matrix wants them, with a path opened by hand, mended."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.bootstrap import Plane, open_plane
from controlplane.settings import Settings
from tests.integration.conftest import ROOT, Lab, break_glass

pytestmark = pytest.mark.lab

CRITERION = "tcvn14423.net.internal_policy"
FORBIDDEN = "network.forbidden-paths-closed"
BY_HAND = ("iifname", "vlan60", "oifname", "vlan10", "tcp", "dport", "445", "accept")
OPENED = "cameras -> servers tcp/445"


class Hospital:
    """emrctl on the lab's probes and its firewall, with the VLAN file of the lab."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder, self.home = lab, folder, folder / "home"
        for name in ("checks", "playbooks", "inventory"):
            shutil.copytree(ROOT / name, self.home / name)
        shutil.copy(lab.vlans, self.home / "inventory" / "vlans.yaml")
        self.inventory = (self.home / "inventory" / "hosts.yaml", lab.hospital)

    def emrctl(self, *argv: str, code: int = 0) -> Any:
        given: list[str | Path] = ["--data-dir", self.folder / "data", "--known-hosts", self.lab.known_hosts]
        for path in self.inventory:
            given += ["--inventory", path]
        command = ["env", f"EMRCTL_HOME={self.home}", sys.executable, "-m", "controlplane", *given, *argv]
        done = self.lab.exec(command, cwd=ROOT, timeout=600)
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return json.loads(done.stdout) if "--json" in argv else done.stdout

    def plane(self) -> Plane:
        """The same store, opened here: for what needs no host."""
        return open_plane(Settings(home=self.home, data_dir=self.folder / "data", inventory=self.inventory))

    def look(self, *hosts: str) -> dict[str, Any]:
        """A round over these, and what it makes of the paths between VLANs."""
        self.emrctl("round", *(word for host in hosts for word in ("--limit", host)))
        seen = self.plane().archive.state()["site", "network.isolation"].answer
        assert seen is not None
        value: dict[str, Any] = seen.value
        return value

    def criterion(self) -> str:
        verdict: str = self.emrctl("explain", CRITERION, "--json")["score"]["verdict"]
        return verdict


@pytest.fixture(scope="module")
def hospital(whole_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    whole_lab.inside("fw-01", ["nft", "-f", "/etc/nftables.conf"], check=True)
    place = Hospital(whole_lab, tmp_path_factory.mktemp("isolation"))
    place.emrctl("init")
    yield place
    # As it was: without the table of the play, and with the rules that the lab began with.
    whole_lab.inside("fw-01", ["nft", "-f", "/etc/nftables.conf"], check=True)


@pytest.mark.timeout(300)
def test_every_forbidden_path_is_tried_and_closed_and_every_allowed_one_used(hospital: Hospital) -> None:
    value = hospital.look("probes", "fw-01")
    assert value["open_forbidden"] == value["blocked_allowed"] == value["untried"] == value["probes_missing"] == []
    assert (value["probes"], len(value["places"])) == (13, 13)
    assert value["closed"] == value["forbidden"] > 3000
    assert value["used"] == value["allowed"] > 25
    assert (value["open_forbidden_count"], value["blocked_allowed_count"]) == (0, 0)
    assert hospital.criterion() == "met"


@pytest.mark.timeout(300)
def test_a_path_opened_by_hand_is_caught_by_the_next_round_with_its_name(hospital: Hospital) -> None:
    """The rule names its service and its zones, so whoever reads the rules alone finds nothing wrong with it."""
    hospital.lab.inside("fw-01", ["nft", "insert", "rule", "inet", "hospital", "forward", *BY_HAND], check=True)
    value = hospital.look("probes", "fw-01")
    assert value["open_forbidden"] == [OPENED]
    assert hospital.criterion() == "not_met"
    findings = {c["check"]["id"]: c["findings"] for c in hospital.emrctl("explain", CRITERION, "--json")["checks"]}
    bad = {check for check, rows in findings.items() for row in rows if row["finding"]["verdict"] != "met"}
    assert bad == {FORBIDDEN}
    assert OPENED in hospital.emrctl("--lang", "en", "explain", CRITERION)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_network_play_closes_it_and_the_dossier_shows_exactly_the_criteria_that_moved(hospital: Hospital) -> None:
    """Demonstration 3: the play holds the firewall to the matrix, a path is opened by hand, the play closes it."""
    plane = hospital.plane()
    for name, role in (("an", "engineer"), ("chi", "director")):
        plane.accounts.add(name, role, f"a password of {name}", plane.clock())
    assert apply_approved(hospital)["state"] == "successful"
    inside = hospital.lab.inside
    inside("fw-01", ["nft", "delete", "table", "inet", "hospital"], check=True)  # the play's rules stand alone now
    value = hospital.look("probes", "fw-01")
    assert (value["open_forbidden_count"], value["blocked_allowed_count"]) == (0, 0)
    assert hospital.criterion() == "met"

    inside("fw-01", ["nft", "insert", "rule", "inet", "emrctl_router", "forward", *BY_HAND], check=True)
    assert hospital.look("probes", "fw-01")["open_forbidden"] == [OPENED]
    dossier = apply_approved(hospital)
    assert dossier["state"] == "successful"
    moved = {move["criterion"]: (move["before"], move["after"]) for move in dossier["difference"]["criteria"]}
    assert moved[CRITERION] == ("not_met", "met")
    serving = {c.id for c in plane.catalog.criteria.values() if FORBIDDEN in c.checks}
    assert set(moved) <= serving
    causes = {(c["kind"], c["check"], c["asset"]) for m in dossier["difference"]["criteria"] for c in m["causes"]}
    assert ("run", FORBIDDEN, "site") in causes
    assert {check for _, check, _ in causes} == {FORBIDDEN}
    assert hospital.criterion() == "met"
    last = plane.archive.state()["site", "network.isolation"].answer
    assert last is not None
    assert (last.value["open_forbidden_count"], last.value["untried_count"]) == (0, 0)


def apply_approved(hospital: Hospital) -> Any:
    """Preview, the yes of a second person, apply; it is clinic hours, so with a reason."""
    asked = hospital.emrctl("preview", "network", "--limit", "fw-01", "--json")["id"]
    plane = hospital.plane()
    plane.request_approval(asked, "an")
    plane.approve_run(asked, "chi")
    return hospital.emrctl("apply", "network", "--preview", asked, *break_glass(hospital.folder), "--json")


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_play_of_the_probes_finds_nothing_to_change_on_probes_that_the_lab_set_up(hospital: Hospital) -> None:
    """The lab writes what the play would; a probe that lost its responder and its plan gets both back, once."""
    assert hospital.lab.inside("probe-60", ["/etc/init.d/emrctl-probe", "stop"]).returncode == 0
    hospital.lab.inside("probe-60", ["rm", "/etc/emrctl/probe-plan.json", "/usr/local/lib/emrctl/emrctl-probe"])
    first = hospital.emrctl("apply", "probes", "--limit", "probe-60", "--limit", "probe-internet", "--json")
    changed = {(t["host"], t["task"]) for t in first["run"]["tasks"] if t["status"] == "changed"}
    assert first["state"] == "successful"
    assert {host for host, _ in changed} == {"probe-60"}
    assert {"Install the responder", "Write the plan"} <= {task for _, task in changed}
    again = hospital.emrctl("apply", "probes", "--limit", "probe-60", "--json")
    assert not [task for task in again["run"]["tasks"] if task["status"] == "changed"]
    listening = hospital.plane().archive.state()["probe-60", "probe.attempts"].answer
    assert listening is not None
    assert listening.value["deaf_count"] == 0
