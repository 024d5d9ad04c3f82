"""The play of the printers on a printer of the lab: what it says is kept, and a shipped account fails it by name."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ROOT, Lab
from tests.integration.test_network_play import RUN

pytestmark = [pytest.mark.lab, pytest.mark.slow]

LEAVE_OPEN = "echo 'rocommunity public' >> /etc/snmp/snmpd.conf && service snmpd restart"
CLOSE = "sed -i '/^rocommunity public$/d' /etc/snmp/snmpd.conf && service snmpd restart"


def play(lab: Lab, folder: Path, mode: str) -> dict[str, Any]:
    files = [ROOT / "inventory" / "hosts.yaml", lab.inventory]
    command = [sys.executable, "-c", RUN, "printers", "prn-01", mode, lab.known_hosts, folder, *files]
    done = lab.exec(command, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_a_printer_is_looked_at_and_a_shipped_account_is_refused(lab: Lab, tmp_path: Path) -> None:
    run = play(lab, tmp_path, "preview")
    assert run["state"] == "successful", run["detail"]
    assert run["recap"]["prn-01"]["changed"] == 0
    kept = json.loads(run["files"]["prn-01-printer.json"])
    assert (kept["account"], kept["answered"]) == ("answered", [])
    assert kept["facts"]["printer.model"] == "Lab Laser 2320"
    assert kept["facts"]["printer.supplies"]["lowest_percent"] == 62
    community = lab.secret("2c").read_text(encoding="ascii").partition("=")[2].strip()
    assert community not in json.dumps(run)
    lab.inside("prn-01", ["sh", "-c", LEAVE_OPEN], check=True)
    try:
        run = play(lab, tmp_path, "apply")
        assert run["state"] == "failed"
        assert "prn-01 answers the shipped community name public" in run["detail"]
        assert json.loads(run["files"]["prn-01-printer.json"])["answered"] == ["public"]
    finally:
        lab.inside("prn-01", ["sh", "-c", CLOSE], check=True)
