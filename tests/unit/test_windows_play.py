"""The play for Windows workstations: its script parses, and what real machines said is read (``tests/windows``).

No Windows and no PowerShell is here: the parser is a grammar of PowerShell, not PowerShell itself.
"""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import Any

import pytest
import tree_sitter
import tree_sitter_powershell
import yaml

from tests.unit.test_network_model import PLAYBOOKS, ROOT, module

WINDOWS = module("filter_plugins/emr_windows.py")
SCRIPT = PLAYBOOKS / "windows" / "files" / "workstation.ps1"
CASES = sorted((ROOT / "tests" / "windows").glob("*.json"))
GOOD = {
    "defender_mode": "Normal", "realtime_protection": True, "signature_age_days": 1, "system_disk": "FullyEncrypted",
    "disk_protection": True, "time_synchronised": True, "time_source": "10.0.10.5",
}  # fmt: skip


def case(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def parsed(script: bytes) -> tree_sitter.Node:
    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language())).parse(script).root_node


def test_the_script_is_powershell_and_a_broken_one_is_not() -> None:
    script = SCRIPT.read_bytes()
    assert not parsed(script).has_error
    assert parsed(script.replace(b"if ($BlockUsb -eq 1) {", b"if ($BlockUsb -eq 1 {", 1)).has_error
    (task,) = [
        task
        for task in yaml.safe_load((PLAYBOOKS / "windows" / "workstation.yml").read_text())[0]["tasks"]
        if "ansible.builtin.script" in task
    ]
    asked = re.findall(r"-([A-Z]\w+) ", task["ansible.builtin.script"]["cmd"])
    assert set(asked) <= set(re.findall(r"\] ?(?:\[\w+\] )?\$(\w+)", script.decode())), (
        "the script knows each parameter"
    )


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_what_a_real_machine_said_is_read(path: Path) -> None:
    told = case(path)
    assert told["kind"] in ("recorded", "documented")
    assert len(told["origin"]) > 10
    assert f"'STATUS {told['section']}'" in SCRIPT.read_text()
    found = WINDOWS.read_windows(f"DIFFERS time servers\nSTATUS {told['section']}\n{told['reply']}")
    nothing = WINDOWS.read_windows("")
    assert found == nothing | told["value"]
    for word in re.findall(r"source IP: +([\d.]+)", told["reply"]):
        assert not ipaddress.ip_address(word).is_global


def test_what_was_not_said_or_in_another_language_is_neither_good_nor_bad() -> None:
    told = "STATUS defender\nSTATUS disk\nSTATUS time\nSprungindikator: 0(keine Warnung)\nQuelle: ntp1.example.org\n"
    figures = WINDOWS.read_windows(told)
    assert set(figures.values()) == {None}
    assert len(WINDOWS.windows_lacks(figures)) == 3


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, []),
        ({"realtime_protection": False}, ["real-time protection is off"]),
        ({"defender_mode": "Passive Mode"}, ["Microsoft Defender does not stand guard itself (Passive Mode)"]),
        ({"signature_age_days": 867}, ["signatures are 867 days old"]),
        (
            {"system_disk": "EncryptionInProgress"},
            ["the system disk is not protected by encryption (EncryptionInProgress)"],
        ),
        ({"disk_protection": False}, ["the system disk is not protected by encryption (FullyEncrypted)"]),
        ({"time_source": "Local CMOS Clock"}, ["the clock is not synchronised"]),
    ],
)  # fmt: skip
def test_what_does_not_hold_is_said(changed: dict[str, Any], words: list[str]) -> None:
    assert WINDOWS.windows_lacks(GOOD | changed) == words
