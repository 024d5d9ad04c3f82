"""A play over several hosts, one of which is switched off half-way: the others finish, and a resume completes it.

The short way takes one play on two workstations; the long ones the whole site, on a host or two of every kind and on
every host of the lab, with what a hospital declares for each, and a second run that must change nothing anywhere.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.bootstrap import Plane, open_plane
from controlplane.settings import Settings
from lab.plan import HOSTS, host
from tests.conftest import ROOT
from tests.integration.backup_peers import restic_program
from tests.integration.conftest import LAB, Lab, break_glass

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.soak]

VICTIM = "pc-03"
SHORT = ("pc-02", VICTIM)
EVERY_KIND = ("fw-01", "nas-01", "pc-02", VICTIM, "prn-01", "prn-02", "probe-20", "probe-internet")
EVERY_KIND += ("sv-01", "sw-acc-01", "sw-core-01")
EVERY_HOST = tuple(sorted(one.name for one in HOSTS if one.kind not in ("clock", "ups")))  # all that some play visits
BEGUN = {  # what stands on a host when the play has done part of its work there
    "time-ssh": "test -e /etc/chrony/sources.d/emrctl.sources",
    "site": "test -e /etc/security/pwquality.conf",
}
STORAGE = host("nas-01").data_address
LOCATION = "/etc/emrctl/secrets/restic-nas.location"
# Nobody declared disks for these, nor a release of the product for the server that is the control plane here.
NOT_DECLARED = {
    ("sv-01", "Say that no array and no watch are declared for this host"),
    ("nas-01", "Say that no array and no watch are declared for this host"),
    ("sv-01", "Say that no release is declared for this host"),
}


class Hospital:
    """emrctl on the hosts of the whole lab, on a store of its own, with what a hospital declares for its plays."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder, self.home = lab, folder, folder / "home"
        for name in ("checks", "playbooks", "inventory"):
            shutil.copytree(ROOT / name, self.home / name)
        shutil.copy(lab.vlans, self.home / "inventory" / "vlans.yaml")
        self._declare()
        self.inventory = (lab.hospital, folder / "overlay.yaml")  # after the one in the home

    def _declare(self) -> None:
        """Backups of the server on the storage, an account of SNMP, and the server as control plane and monitor."""
        token = secrets.token_urlsafe(18)
        made = "import crypt, sys; print(crypt.crypt(sys.argv[1], crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=64)))"
        hashed = self.lab.inside("sv-01", ["python3", "-W", "ignore", "-c", made, token], check=True).stdout.strip()
        records = {"name": "emr-files", "class": "files", "source": "path:/srv/emr", "paths": ["/srv/emr"]}
        copy = {"name": "nas", "medium": "nas-disk", "location_file": LOCATION}
        source = {
            "backup_datasets": [records | {"rpo_minutes": 60}],
            "backup_repositories": [copy | {"offsite": False, "offline": False, "same_host": False}],
            "backup_restic_source": restic_program(),
            "log_store_enabled": True,
            "prometheus_interval_seconds": 2,
        }
        storage = {"backup_repository_address": STORAGE, "backup_repository_accounts": [f"sv-01:{hashed}"]}
        overlay = {
            "vars": {"snmp_agent_secret_file": str(self.lab.secret("3"))},
            "hosts": {"sv-01": source, "nas-01": storage},
            "children": {"controlplane": {"hosts": {"sv-01": {}}}},
        }
        (self.folder / "overlay.yaml").write_text(yaml.safe_dump({"all": overlay}), encoding="utf-8")
        # A log-in is written by hand, as the role of backups says.
        write = f"umask 077; mkdir -p /etc/emrctl/secrets /srv/emr; echo 'hồ sơ' >/srv/emr/index; cat >{LOCATION}"
        location = f"rest:http://sv-01:{token}@{STORAGE}:8000/sv-01/\n"
        self.lab.inside("sv-01", ["sh", "-c", write], input=location, check=True)

    def command(self, *argv: str) -> list[str]:
        """emrctl with long hours: a machine that tests share is slow."""
        given: list[str | Path] = ["env", f"EMRCTL_HOME={self.home}", "EMRCTL_PLAY_TIMEOUT_MINUTES=240"]
        given += [sys.executable, "-m", "controlplane", "--data-dir", self.folder / "data"]
        given += ["--known-hosts", self.lab.known_hosts]
        for path in self.inventory:
            given += ["--inventory", path]
        return [*map(str, given), *argv]

    def emrctl(self, *argv: str, code: int = 0) -> Any:
        done = self.lab.exec(self.command(*argv), cwd=ROOT, timeout=15000)
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return json.loads(done.stdout) if "--json" in argv else done.stdout

    def plane(self) -> Plane:
        """The same store, opened here: for what needs no host."""
        return open_plane(Settings(home=self.home, data_dir=self.folder / "data", inventory=self.inventory))

    def people(self) -> None:
        plane = self.plane()
        for name, role in (("an", "engineer"), ("chi", "director")):
            plane.accounts.add(name, role, f"a password of {name}", plane.clock())

    def approved(self, play: str, hosts: tuple[str, ...]) -> tuple[str, ...]:
        """How an apply on these hosts is asked for; where the play wants it, its preview has the yes of another."""
        limits = tuple(word for name in hosts for word in ("--limit", name))
        if self.plane().play(play).approval == "none":
            return limits
        dossier = self.emrctl("preview", play, *limits, "--json")
        assert dossier["state"] == "successful", dossier["run"]["detail"]
        plane = self.plane()
        plane.request_approval(dossier["id"], "an")
        plane.approve_run(dossier["id"], "chi")
        return ("--preview", dossier["id"], *break_glass(self.folder))

    def apply_while_one_goes_off(self, play: str, how: tuple[str, ...]) -> Any:
        """Apply, and switch the victim off as soon as part of the work is done on it; the dossier."""
        argv = [str(LAB), "exec", *self.command("apply", play, *how, "--json")]
        out, err = self.folder / f"{play}.json", self.folder / f"{play}.err"  # more than a pipe holds
        with (
            out.open("wb") as said,
            err.open("wb") as wrong,
            subprocess.Popen(argv, cwd=ROOT, stdout=said, stderr=wrong) as running,
        ):
            limit = time.monotonic() + 9000
            while self.lab.inside(VICTIM, ["sh", "-c", BEGUN[play]]).returncode != 0:
                assert running.poll() is None, err.read_text(encoding="utf-8")[-3000:]
                assert time.monotonic() < limit
                time.sleep(0.2)
            self.lab.run_lab("stop", VICTIM, check=True)
            running.wait(timeout=15000)
        assert running.returncode == 1, err.read_text(encoding="utf-8")[-3000:]
        return json.loads(out.read_bytes())

    def seen_to_stand(self) -> None:
        """What the first run of the site has made, asked of the hosts themselves."""
        inside = self.lab.inside
        assert "emrctl_router" in inside("fw-01", ["nft", "list", "tables"]).stdout
        assert inside("nas-01", ["systemctl", "is-active", "emr-repository"]).stdout.strip() == "active"
        assert inside("nas-01", ["test", "-e", "/srv/backup/sv-01/config"]).returncode == 0, "sv-01 came to it"
        assert inside("sv-01", ["systemctl", "is-active", "prometheus"]).stdout.strip() == "active"
        assert inside("sv-01", ["test", "-s", "/var/log/central/sv-01.jsonl"]).returncode == 0, (
            "its own log is gathered"
        )


@pytest.fixture
def hospital(lab: Lab, tmp_path: Path) -> Iterator[Hospital]:
    up = lab.run_lab("up", "--whole", "--fresh")
    assert up.returncode == 0, up.stderr
    place = Hospital(lab, tmp_path)
    place.emrctl("init")
    place.people()
    yield place
    lab.run_lab("start", VICTIM)


def changed_by(run: Any) -> list[tuple[str, str]]:
    return [(task["host"], task["task"]) for task in run["tasks"] if task["status"] == "changed"]


def off_and_resumed(hospital: Hospital, play: str, hosts: tuple[str, ...]) -> Any:
    """The run that lost a host, which the resume then completed."""
    dossier = hospital.apply_while_one_goes_off(play, hospital.approved(play, hosts))
    run = dossier["run"]
    try:
        assert run["state"] == "unreachable", run["detail"]
        assert run["outcomes"][VICTIM] == "unreachable"
        assert run["recap"][VICTIM]["changed"] > 0, "it went off half-way, not before"
    finally:
        hospital.lab.run_lab("start", VICTIM, check=True)
    resumed = hospital.emrctl("resume", dossier["id"], *break_glass(hospital.folder), "--json")
    assert (resumed["run"]["state"], list(resumed["run"]["recap"])) == ("successful", [VICTIM])
    assert resumed["run"]["outcomes"] == {VICTIM: "changed"}
    return run


@pytest.mark.timeout(1800)
def test_a_host_off_half_way_is_unreachable_the_other_finishes_and_a_resume_completes_it(hospital: Hospital) -> None:
    """That a second run of this play changes nothing stands in tests/integration/test_plays.py."""
    assert off_and_resumed(hospital, "time-ssh", SHORT)["outcomes"] == {"pc-02": "changed", VICTIM: "unreachable"}


def site_twice(hospital: Hospital, hosts: tuple[str, ...]) -> None:
    """Demonstration 4. What the lab set up as the plays would (probes, ports of switches) needs no change at first."""
    run = off_and_resumed(hospital, "site", hosts)
    again = hospital.emrctl("apply", "site", *hospital.approved("site", hosts), "--json")["run"]
    (hospital.folder / "again.json").write_text(json.dumps(again), encoding="utf-8")  # hours of work: to be read
    new = {name for name in hosts if name.startswith("pc-")} | {"fw-01", "nas-01", "sv-01"}
    outcomes = {name: "changed" if name in new else "ok" for name in hosts}
    assert run["outcomes"] == outcomes | {VICTIM: "unreachable"}
    said = {(task["host"], task["task"]) for task in run["tasks"] if task["message"].startswith("Nothing declared")}
    assert said == NOT_DECLARED
    hospital.seen_to_stand()
    assert again["state"] == "successful", again["detail"]
    assert changed_by(again) == []
    assert again["outcomes"] == dict.fromkeys(hosts, "ok")
    assert {name for name, tally in again["recap"].items() if tally["ok"]} == set(hosts)


@pytest.mark.timeout(10000)
def test_the_whole_site_on_every_kind_of_host_twice_the_second_time_without_a_change(hospital: Hospital) -> None:
    site_twice(hospital, EVERY_KIND)


@pytest.mark.timeout(30000)
def test_the_whole_site_on_every_host_of_the_lab_twice_the_second_time_without_a_change(hospital: Hospital) -> None:
    """Two hours and a half on two cores: what it took stands in docs/reference/lab.md."""
    site_twice(hospital, EVERY_HOST)
