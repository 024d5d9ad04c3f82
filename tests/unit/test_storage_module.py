"""What the storage play knows of a disk before it touches it: the module that reads lsblk and wipefs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT

_SPEC = importlib.util.spec_from_file_location("emr_disks", ROOT / "playbooks/roles/storage/library/emr_disks.py")
assert _SPEC is not None
assert _SPEC.loader is not None
emr_disks = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(emr_disks)


class Ended(Exception):  # noqa: N818  # not an error: a module ends by leaving
    """How the module ended: what it returned, or why it failed."""


class Module:
    """As much of Ansible's module as the code uses: it runs no program but tells what one would have printed."""

    def __init__(self, devices: list[dict[str, Any]], marks: dict[str, Any], serials: list[str]) -> None:
        self.params = {"serials": serials}
        self._devices, self._marks = devices, marks

    def run_command(self, argv: list[str], check_rc: bool = False) -> tuple[int, str, str]:
        if argv[0] == "lsblk":
            return 0, json.dumps({"blockdevices": self._devices}), ""
        assert argv[:3] == ["wipefs", "--no-act", "--json"], "it only ever reads"
        found = self._marks.get(argv[3], [])
        if found is None:
            return 1, "", "wipefs: error: Input/output error\n"
        marks = [one if isinstance(one, dict) else {"type": one} for one in found]
        return 0, json.dumps({"signatures": marks}) if marks else "", ""

    def fail_json(self, msg: str) -> None:
        raise Ended(msg)

    def exit_json(self, **result: Any) -> None:
        raise Ended(result)


def look(
    monkeypatch: pytest.MonkeyPatch, devices: list[dict[str, Any]], marks: dict[str, Any], *serials: str
) -> dict[str, Any]:
    monkeypatch.setattr(emr_disks, "AnsibleModule", lambda **_: Module(devices, marks, list(serials)))
    with pytest.raises(Ended) as ended:
        emr_disks.main()
    (told,) = ended.value.args
    if isinstance(told, str):
        raise AssertionError(told)
    assert told["changed"] is False
    disks: dict[str, Any] = told["disks"]
    return disks


def disk(serial: str, *children: dict[str, Any], name: str = "sda", **more: Any) -> dict[str, Any]:
    one = {"name": name, "path": f"/dev/{name}", "type": "disk", "serial": serial, "size": 1000, "mountpoints": [None]}
    return {**one, **({"children": list(children)} if children else {}), **more}


PART = {"name": "sda1", "type": "part", "mountpoints": [None]}
ARRAY = {"name": "md0", "type": "raid1", "mountpoints": [None]}


def test_an_empty_disk_holds_nothing_and_nothing_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(monkeypatch, [disk("A"), disk("B", name="sdb")], {}, "A") == {
        "A": {"path": "/dev/sda", "size": 1000, "array": "", "holds": [], "used_by": [], "keeps": ""}
    }


@pytest.mark.parametrize(
    ("device", "marks", "holds", "used_by"),
    [
        (disk("A"), ["ext4"], ["ext4"], []),
        (disk("A"), None, ["something that cannot be read (wipefs: error: Input/output error)"], []),
        (disk("A", PART), ["gpt", "PMBR", "gpt"], ["PMBR", "gpt", "partitions"], []),
        (disk("A", PART), [], ["partitions"], []),
        (disk("A", mountpoints=["/srv"]), ["ext4"], ["ext4"], ["mounted at /srv"]),
        (disk("A", PART | {"mountpoints": ["[SWAP]"]}), ["dos"], ["dos", "partitions"], ["mounted at [SWAP]"]),
        (
            disk("A", {"name": "vg-lv", "type": "lvm", "mountpoints": ["/data"]}),
            ["LVM2_member"],
            ["LVM2_member"],
            ["lvm vg-lv", "mounted at /data"],
        ),
        (
            disk("A", PART | {"children": [{"name": "c", "type": "crypt", "mountpoints": [None]}]}),
            ["gpt"],
            ["gpt", "partitions"],
            ["crypt c"],
        ),
    ],
)
def test_data_and_use_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, device: dict[str, Any], marks: Any, holds: list[str], used_by: list[str]
) -> None:
    found = look(monkeypatch, [device], {"/dev/sda": marks}, "A")["A"]
    assert (found["holds"], found["used_by"], found["array"]) == (holds, used_by, "")


def test_a_member_of_an_array_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(monkeypatch, [disk("A", ARRAY)], {"/dev/sda": ["linux_raid_member"]}, "A")["A"]
    assert (found["array"], found["used_by"]) == ("md0", ["raid1 md0"])


@pytest.mark.parametrize(
    ("running", "uuid", "keeps"),
    [
        ([], "12345678-9ABC-def0-1234-56789abcdef0", "/dev/md0"),
        (["md0"], "12345678-9ABC-def0-1234-56789abcdef0", ""),  # a member that it has lost and does without
        ([], "00000000-0000-0000-0000-000000000000", ""),  # of another machine
    ],
)
def test_a_member_of_an_array_that_did_not_start_says_which(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, running: list[str], uuid: str, keeps: str
) -> None:
    conf = tmp_path / "mdadm.conf"
    conf.write_text("HOMEHOST <system>\nARRAY /dev/md0 metadata=1.2 UUID=12345678:9abcdef0:12345678:9abcdef0\n")
    (tmp_path / "dev").mkdir()
    for name in running:
        (tmp_path / "dev" / name).touch()
    monkeypatch.setattr(emr_disks, "WRITTEN_DOWN", conf)
    monkeypatch.setattr(emr_disks, "DEVICES", tmp_path / "dev")
    found = look(monkeypatch, [disk("A")], {"/dev/sda": [{"type": "linux_raid_member", "uuid": uuid}]}, "A")["A"]
    assert (found["holds"], found["used_by"], found["keeps"]) == (["linux_raid_member"], [], keeps)


def test_two_disks_with_one_serial_number_are_refused_only_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    devices = [disk("A"), disk("A", name="sdb"), disk("B", name="sdc")]
    assert look(monkeypatch, devices, {}, "B").keys() == {"B"}
    with pytest.raises(AssertionError, match="Two disks have the serial number A, so it names neither"):
        look(monkeypatch, devices, {}, "A", "B")


@pytest.mark.parametrize("kind", ["part", "rom", "loop", "raid1"])
def test_what_is_no_whole_disk_is_not_named_by_a_serial_number(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    assert look(monkeypatch, [disk("A", type=kind)], {}, "A") == {}


_LEAF = st.builds(
    lambda kind, places: {"name": "x", "type": kind, "mountpoints": places},
    st.sampled_from(["part", "crypt", "lvm", "raid1", "mpath"]),
    st.lists(st.none() | st.just("/srv"), max_size=2),
)
_TREE = st.recursive(
    _LEAF, lambda below: st.builds(lambda one, more: {**one, "children": more}, _LEAF, st.lists(below, max_size=3))
)


@given(tree=_TREE)
def test_a_disk_is_free_only_when_nothing_but_partitions_stands_on_it_at_any_depth(tree: dict[str, Any]) -> None:
    def busy(one: dict[str, Any]) -> bool:
        mounted = any(place is not None for place in one["mountpoints"])
        return one["type"] != "part" or mounted or any(busy(below) for below in one.get("children", []))

    assert bool(emr_disks.users({"children": [tree]})) == busy(tree)
