"""A play over several hosts, one of which is switched off half-way: the others finish, and a resume completes it.

The short way takes one play on two workstations; the long one the whole site, on the server as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.integration.conftest import LAB, Lab

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.soak]

VICTIM = "pc-03"
BEGUN = {  # what stands on a host when the play has done part of its work there
    "time-ssh": "test -e /etc/chrony/sources.d/emrctl.sources",
    "site": "test -e /etc/security/pwquality.conf",
}


class Hospital:
    """emrctl on the lab's hosts, on a store of its own."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder

    def command(self, *argv: str) -> list[str]:
        given = ["--data-dir", self.folder / "data", "--known-hosts", self.lab.known_hosts]
        return [*map(str, [sys.executable, "-m", "controlplane", *given, "--inventory", self.lab.inventory]), *argv]

    def emrctl(self, *argv: str, code: int = 0) -> Any:
        done = self.lab.exec(self.command(*argv), cwd=ROOT, timeout=1500)
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return json.loads(done.stdout) if "--json" in argv else done.stdout

    def apply_while_one_goes_off(self, play: str, hosts: tuple[str, ...]) -> Any:
        """Apply, and switch the victim off as soon as part of the work is done on it; the dossier."""
        limits = [word for host in hosts for word in ("--limit", host)]
        argv = [str(LAB), "exec", *self.command("apply", play, *limits, "--json")]
        out, err = self.folder / f"{play}.json", self.folder / f"{play}.err"  # more than a pipe holds
        with (
            out.open("wb") as said,
            err.open("wb") as wrong,
            subprocess.Popen(argv, cwd=ROOT, stdout=said, stderr=wrong) as running,
        ):
            limit = time.monotonic() + 600
            while self.lab.inside(VICTIM, ["sh", "-c", BEGUN[play]]).returncode != 0:
                assert running.poll() is None, "the play ended before it had begun on the victim"
                assert time.monotonic() < limit
                time.sleep(0.2)
            self.lab.run_lab("stop", VICTIM, check=True)
            running.wait(timeout=1500)
        assert running.returncode == 1, err.read_text(encoding="utf-8")[-3000:]
        return json.loads(out.read_bytes())


@pytest.fixture(scope="module")
def hospital(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    assert lab.run_lab("up", "--fresh").returncode == 0
    place = Hospital(lab, tmp_path_factory.mktemp("site"))
    place.emrctl("init")
    yield place
    lab.run_lab("start", VICTIM)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("play", "hosts"),
    [
        ("time-ssh", ("pc-02", "pc-03")),
        ("site", ("sv-01", "pc-02", "pc-03")),
    ],
)
def test_a_host_off_half_way_is_unreachable_a_resume_completes_it_and_a_second_run_changes_nothing(
    hospital: Hospital, play: str, hosts: tuple[str, ...]
) -> None:
    dossier = hospital.apply_while_one_goes_off(play, hosts)
    run = dossier["run"]
    try:
        assert run["state"] == "unreachable"
        others = [host for host in hosts if host != VICTIM]
        assert {host: run["outcomes"][host] for host in others} == dict.fromkeys(others, "changed")
        assert run["outcomes"][VICTIM] == "unreachable"
        assert run["recap"][VICTIM]["changed"] > 0, "it went off half-way, not before"
    finally:
        hospital.lab.run_lab("start", VICTIM, check=True)
    resumed = hospital.emrctl("resume", dossier["id"], "--json")
    assert (resumed["run"]["state"], list(resumed["run"]["recap"])) == ("successful", [VICTIM])
    if play == "time-ssh":
        return  # that its second run changes nothing stands in tests/integration/test_plays.py
    limits = [word for host in hosts for word in ("--limit", host)]
    again = hospital.emrctl("apply", play, *limits, "--json")["run"]
    assert again["state"] == "successful"
    assert [(task["host"], task["task"]) for task in again["tasks"] if task["status"] == "changed"] == []
    assert sorted(again["recap"]) == sorted(hosts)
