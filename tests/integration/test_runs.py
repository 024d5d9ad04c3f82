"""Runs kept by a real plane: harmless plays on this machine under two names, and all that may be asked of them."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.bootstrap import Plane, init_store, open_plane
from controlplane.bootstrap.clockwork import keep_asking
from controlplane.collect.facts import SHELL_FACTS
from controlplane.collect.local import LocalTransport
from controlplane.plays import PlayError
from controlplane.settings import Settings
from controlplane.store.archive import BusyError
from controlplane.store.bundle import SigningKey, export
from controlplane.store.verify import verify
from tests.conftest import ROOT, Clock
from tests.integration.test_plays import commands
from tests.unit.test_archive import dump

EVENING = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)  # 20:00 in the hospital
MORNING = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)  # 09:00
HERE = ("here-1", "here-2")
WORDS = {"vi": "thử", "en": "try"}
BOOK = """---
- name: Try
  hosts: here
  gather_facts: false
  tasks:
    - name: Reach a host that is off where nobody listens
      ansible.builtin.ping:
      vars: {ansible_connection: ssh, ansible_port: 1}
      when: (place ~ '/' ~ inventory_hostname ~ '.off') is exists
    - name: Wait
      ansible.builtin.command: sleep 41
      check_mode: false
      changed_when: false
      when: (place ~ '/' ~ inventory_hostname ~ '.slow') is exists
    - name: Refuse
      ansible.builtin.fail:
        msg: not this one
      when: (place ~ '/' ~ inventory_hostname ~ '.fail') is exists and not ansible_check_mode
    - name: Write
      ansible.builtin.copy:
        dest: "{{ place }}/{{ inventory_hostname }}.conf"
        content: "level = 3\\n"
        mode: "0600"
      tags: [tcvn14423.log.ntp]
"""
SERVICE = """---
- name: Serve
  hosts: here
  gather_facts: false
  force_handlers: true
  roles:
    - role: served
    - role: owed_handlers
"""
SERVED = """---
- name: Look
  ansible.builtin.stat:
    path: "{{ place }}"
  register: served_place
- name: Set
  ansible.builtin.copy:
    dest: "{{ place }}/{{ inventory_hostname }}.conf"
    content: "level = 3\\n"
    mode: "0600"
  notify: Take it over
- name: Keep a secret
  ansible.builtin.copy:
    dest: "{{ place }}/{{ inventory_hostname }}.secret"
    content: "1234"
    mode: "0600"
  no_log: true
  notify: Take it over
- name: Lose the host
  ansible.builtin.ping:
  vars: {ansible_connection: ssh, ansible_port: 1}
  when: (place ~ '/' ~ inventory_hostname ~ '.off') is exists and not ansible_check_mode
- name: Wait
  ansible.builtin.command: sleep 42
  changed_when: false
  when: (place ~ '/' ~ inventory_hostname ~ '.slow') is exists
"""
TAKEN_OVER = """---
- name: Take it over
  ansible.builtin.shell: cat {{ inventory_hostname }}.conf >> {{ inventory_hostname }}.taken
  args:
    chdir: "{{ place }}"
  when: served_place.stat.exists and not ansible_check_mode
"""


class Ticking(Clock):
    """A clock that goes on by a second each time it is read."""

    def __call__(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at


class Hospital:
    """A small hospital: the shipped rules, this machine as two hosts, and plays that write one file each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, folder / "place"
        self.place.mkdir()
        home = folder / "home"
        for name in ("checks", "playbooks", "inventory"):
            shutil.copytree(ROOT / name, home / name)
        self._write_inventory(home / "inventory" / "hosts.yaml")
        self._write_plays(home / "playbooks")
        self.home, self.clock = home, Ticking(EVENING)
        self.settings = Settings(home=home, data_dir=folder / "data", round_every_minutes=0)
        self.plane = init_store(self.settings, self.clock)
        few = LocalTransport(script_facts=[fact for fact in SHELL_FACTS if fact.name.startswith("os.")])
        self.plane.__dict__["_transports"] = {"local": few}  # the rounds are not what is tried here

    def _write_inventory(self, path: Path) -> None:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))

        def prune(group: dict[str, Any]) -> None:
            if "hosts" in group:
                group["hosts"] = {}
            for child in (group.get("children") or {}).values():
                prune(child or {})

        prune(document["all"])
        common = {"emr_kind": "workstation", "emr_transports": ["local"], "emr_department": "P", "emr_vlan": 99}
        common |= {"ansible_connection": "local", "place": str(self.place), "brought": str(self.place / "brought")}
        hosts = {
            name: common
            | {"ansible_host": f"127.0.0.{number}", "emr_title_vi": f"Máy {name}", "emr_title_en": f"Host {name}"}
            for number, name in enumerate(HERE, start=1)
        }
        document["all"]["children"]["here"] = {"hosts": hosts}
        path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")

    def _write_plays(self, folder: Path) -> None:
        document = yaml.safe_load((folder / "plays.yaml").read_text(encoding="utf-8"))
        for name, more in (
            ("write", {}),
            ("careful", {"approval": "second_role", "ships": ["brought"]}),
            ("loud", {"disruptive": True}),
            ("seen", {"witnesses": "here"}),
            ("service", {}),
        ):
            (folder / f"{name}.yml").write_text(SERVICE if name == "service" else BOOK)
            entry = {"id": name, "playbook": f"{name}.yml", "title": WORDS, "summary": WORDS, "hosts": "here"}
            document["plays"].append(entry | {"disruptive": False, "approval": "none"} | more)
        for name, text in (("tasks", SERVED), ("handlers", TAKEN_OVER)):
            (folder / "roles" / "served" / name).mkdir(parents=True)
            (folder / "roles" / "served" / name / "main.yml").write_text(text)
        (folder / "plays.yaml").write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")

    def people(self) -> None:
        for name, role in (("an", "engineer"), ("binh", "engineer"), ("chi", "director"), ("dung", "auditor")):
            self.plane.accounts.add(name, role, f"a password of {name}", self.clock())

    def mark(self, host: str, word: str) -> None:
        (self.place / f"{host}.{word}").touch()

    def unmark(self, host: str, word: str) -> None:
        (self.place / f"{host}.{word}").unlink()

    @contextmanager
    def off(self, host: str) -> Iterator[None]:
        """The host does not answer while this lasts."""
        self.mark(host, "off")
        yield
        self.unmark(host, "off")

    def written(self) -> list[str]:
        return sorted(path.stem for path in self.place.glob("*.conf"))

    def taken_over(self) -> list[str]:
        """Hosts whose service has read its settings, as often as it did."""
        return sorted(path.stem for path in self.place.glob("*.taken") for _ in path.read_text().splitlines())

    def kinds(self) -> list[str]:
        return [link.kind for link in self.plane.archive.chain()]


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    place = Hospital(tmp_path)
    yield place
    assert_every_run_is_whole(place.plane)
    place.plane.archive.engine.dispose()


def assert_every_run_is_whole(plane: Plane) -> None:
    """Each run in the chain is opened once and then closed or interrupted once; the index says the same twice."""
    opened: dict[str, str] = {}
    for link in plane.archive.chain():
        if link.kind == "run_opened":
            id_ = plane.archive.body(link)["id"]
            assert id_ not in opened
            opened[id_] = "open"
        elif link.kind in ("run", "run_interrupted"):
            id_ = plane.archive.body(link)["id"]
            assert opened[id_] == "open"
            opened[id_] = link.kind
    assert "open" not in opened.values()
    before = dump(plane.archive)
    plane.archive.reindex()
    assert dump(plane.archive) == before
    assert plane.archive.first_break(bodies=True) is None
    assert not list((plane.settings.live_dir).glob("*"))
    assert not list(plane.settings.run_dir.iterdir())
    assert not list(plane.archive.lock_folder.glob("run-*"))


def refused(words: str) -> Any:
    return pytest.raises(PlayError, match=words)


# --------------------------------------------------------------------------------------- the dossier and its signature


def test_an_apply_is_one_signed_dossier_with_rounds_before_and_after_and_its_events_are_followed(hospital):
    plane, heard = hospital.plane, []
    dossier = plane.run_play("write", "apply", on_event=heard.append)
    assert dossier["state"] == "successful"
    assert hospital.written() == list(HERE)
    assert dossier["run"]["outcomes"] == dict.fromkeys(HERE, "changed")
    assert [d["status"] for d in dossier["preview"]["tasks"] if d["task"] == "Write"] == ["would_change"] * 2
    assert len(dossier["rounds"]) == 2
    assert dossier["pin"]["hosts"] == list(HERE)
    assert set(dossier["findings"]) == {"before", "after"}
    snapshot = json.loads(plane.archive.vault.get(dossier["inventory"]))
    assert {asset["name"] for asset in snapshot} == {*HERE, "site"}
    steps = [event["step"] for event in heard if event["event"] == "emr_step"]
    assert steps == ["round_before", "preview", "apply", "round_after"]
    kept = [event for _, event in plane.follow(dossier["id"])]
    assert [e for e in kept if e["event"] == "runner_on_ok"] == [e for e in heard if e["event"] == "runner_on_ok"]
    places = {step["step"]: step["event"] for step in dossier["steps"]}
    assert list(places) == steps
    numbered = dict(plane.follow(dossier["id"], after=places["preview"] - 1))
    assert next(iter(numbered)) == places["preview"]
    assert {step: numbered[places[step]]["step"] for step in steps[1:]} == {step: step for step in steps[1:]}
    assert plane.progress(dossier["id"]).steps == steps
    signature = plane.signature_of(dossier["id"])
    assert signature["holds"] is True
    again = plane.run_play("write", "apply")
    assert again["run"]["outcomes"] == dict.fromkeys(HERE, "ok")
    assert (again["difference"]["criteria"], again["difference"]["findings"]) == ([], [])
    out = hospital.folder / "bundle.zip"
    export(plane.archive, SigningKey.load(plane.settings.keys_dir), out, hospital.clock(), ("b", "h"))
    assert verify(out)["links"] == len(hospital.kinds()) - 1
    tampered = replace_dossier(plane, dossier["id"])
    assert tampered["holds"] is False


def replace_dossier(plane: Plane, id_: str) -> dict[str, Any]:
    """What is said of the signature when the index names another dossier; put right again afterwards."""
    import sqlalchemy as sa  # noqa: PLC0415

    right = plane.run_line(id_)["dossier"]
    other = plane.archive.vault.put(b"{}")
    for name in (other, right):
        with plane.archive.engine.begin() as connection:
            connection.execute(sa.text("UPDATE runs SET dossier = :name WHERE id = :id"), {"name": name, "id": id_})
        if name == other:
            found = plane.signature_of(id_)
    return found


def test_one_host_that_fails_is_kept_apart_the_score_is_untouched_and_only_it_is_resumed(hospital):
    plane = hospital.plane
    hospital.mark("here-2", "fail")
    dossier = plane.run_play("write", "apply")
    assert dossier["state"] == "failed"
    assert dossier["run"]["outcomes"] == {"here-1": "changed", "here-2": "failed"}
    assert dossier["difference"] is None
    assert len(dossier["rounds"]) == 1, "nobody looked after it"
    assert hospital.written() == ["here-1"]
    hospital.unmark("here-2", "fail")
    (hospital.place / "here-1.conf").unlink()
    resumed = plane.resume_run(dossier["id"])
    assert resumed["state"] == "successful"
    assert resumed["resumes"] == dossier["id"]
    assert resumed["run"]["outcomes"] == {"here-2": "changed"}
    assert hospital.written() == ["here-2"], "a host that was through is not touched again"
    first, after = resumed["rounds"]
    assert first == dossier["rounds"][0], "what the first run did is measured now, from where it began"
    assert set(plane.archive.round(after).only) == set(HERE)
    assert [run.id for run in plane._earlier_runs(dossier["id"]).runs] == [dossier["id"]]
    assert plane._earlier_runs(dossier["id"]).hosts == {"here-1"}
    assert plane._earlier_runs(resumed["id"]).runs == (), "measured already"
    with refused("was gone on with by"):
        plane.resume_run(dossier["id"])
    with refused("nothing to go on with"):
        plane.resume_run(resumed["id"])


def test_with_a_host_that_is_off_the_others_are_measured_and_it_is_when_it_is_resumed(hospital):
    plane = hospital.plane
    with hospital.off("here-2"):
        dossier = plane.run_play("write", "apply")
    assert dossier["state"] == "unreachable"
    assert dossier["run"]["outcomes"] == {"here-1": "changed", "here-2": "unreachable"}
    before, after = dossier["rounds"]
    assert dossier["difference"] is not None
    assert set(plane.archive.round(before).only) == set(HERE)
    assert set(plane.archive.round(after).only) == {"here-1"}
    with hospital.off("here-2"):
        again = plane.resume_run(dossier["id"])
    assert (again["state"], again["difference"]) == ("unreachable", None)
    assert len(again["rounds"]) == 1, "no host was reached, so there is nothing to measure"
    resumed = plane.resume_run(again["id"])
    assert resumed["state"] == "successful"
    assert set(plane.archive.round(resumed["rounds"][1]).only) == {"here-2"}


def test_a_resume_after_the_playbook_changed_is_refused(hospital):
    hospital.mark("here-1", "fail")
    dossier = hospital.plane.run_play("write", "apply")
    (hospital.home / "playbooks" / "write.yml").write_text(BOOK.replace("level = 3", "level = 4"))
    before = hospital.kinds()
    with refused("Not resumed, and nothing more was changed: the playbook has changed"):
        hospital.plane.resume_run(dossier["id"])
    assert hospital.kinds() == before


def test_a_play_with_witnesses_is_measured_on_them_too_and_changes_its_own_hosts_alone(hospital):
    plane = hospital.plane
    dossier = plane.run_play("seen", "apply", ["here-1"])
    assert hospital.written() == ["here-1"]
    assert set(dossier["run"]["outcomes"]) == {"here-1"}
    for round_id in dossier["rounds"]:
        assert set(plane.archive.round(round_id).only) == set(HERE)


# ------------------------------------------------------------------------------------------------ two people


def test_a_careful_play_needs_two_people_with_two_roles_and_the_approval_is_good_for_one_apply(hospital):
    plane = hospital.plane
    hospital.people()
    with refused("on these hosts needs the approval of a second role"):
        plane.run_play("careful", "apply")
    asked = plane.run_play("careful", "preview", by="an")["id"]
    with refused("the preview .*: -"):
        plane.run_play("careful", "apply", preview_id=asked)
    with refused("waits for nobody"):
        plane.approve_run(asked, "chi")
    with refused("may not do this"):
        plane.request_approval(asked, "dung")
    plane.request_approval(asked, "an", "tối nay")
    for name, words in (("an", "somebody else"), ("binh", "another role"), ("dung", "may not"), ("gone", "may not")):
        with refused(words):
            plane.approve_run(asked, name)
    with refused("the preview .*: requested"):
        plane.run_play("careful", "apply", preview_id=asked)
    answer = plane.approve_run(asked, "chi", "đồng ý")
    assert (answer["state"], answer["by"], answer["role"]) == ("approved", "chi", "director")
    dossier = plane.run_play("careful", "apply", by="an")
    assert dossier["state"] == "successful"
    assert dossier["carries_out"] == asked
    assert [(d["state"], d["by"]) for d in dossier["approval"]] == [("requested", "an"), ("approved", "chi")]
    assert {d["pin"]["playbook_digest"] for d in dossier["approval"]} == {dossier["run"]["playbook_digest"]}
    with refused("was carried out by the run"):
        plane.run_play("careful", "apply", preview_id=asked)
    with refused("on these hosts needs the approval of a second role"):
        plane.run_play("careful", "apply")


def test_a_refusal_is_final_and_has_a_reason(hospital):
    plane = hospital.plane
    hospital.people()
    asked = plane.run_play("careful", "preview")["id"]
    plane.request_approval(asked, "an")
    with refused("needs a reason"):
        plane.refuse_run(asked, "chi", "  ")
    plane.refuse_run(asked, "chi", "đang có hội chẩn")
    with refused("refused"):
        plane.run_play("careful", "apply", preview_id=asked)
    with refused("waits for nobody"):
        plane.approve_run(asked, "chi")
    with refused("Preview it again"):
        plane.request_approval(asked, "an")


@pytest.mark.parametrize("what", ["playbook", "inventory", "hosts", "file", "host"])
def test_an_approved_apply_is_refused_when_anything_changed_since_the_preview(hospital, what):
    plane = hospital.plane
    hospital.people()
    brought = hospital.place / "brought"
    brought.write_bytes(b"approved")
    preview = plane.run_play("careful", "preview")
    asked, shown = preview["id"], {str(brought): hashlib.sha256(b"approved").hexdigest()}
    assert preview["pin"]["shipped"] == shown
    plane.request_approval(asked, "an")
    plane.approve_run(asked, "chi")
    limit, words = [], f"the {what} (has|have) changed"
    if what == "playbook":
        (hospital.home / "playbooks" / "careful.yml").write_text(BOOK + "    - ansible.builtin.ping:\n")
    elif what == "inventory":
        with (hospital.home / "inventory" / "hosts.yaml").open("a", encoding="utf-8") as file:
            file.write("# another line\n")
    elif what == "file":
        assert shown[str(brought)] in emrctl(hospital, "run", asked)
        brought.write_bytes(b"replaced")
        words = "the file .*brought has changed"
    elif what == "hosts":
        limit = ["here-1"]
    else:
        (hospital.place / "here-1.conf").write_text("level = 1\n")
        words = "on here-1, the task 'Write' would now change something else"
    with refused(words):
        plane.run_play("careful", "apply", limit, preview_id=asked)
    assert not (hospital.place / "here-2.conf").exists()


# What the second task does can be known only when the first has done its work, as with a package and its settings.
IN_TWO_STEPS = """---
- name: Try
  hosts: here
  gather_facts: false
  tasks:
    - name: Install
      ansible.builtin.copy: {dest: "{{ place }}/{{ inventory_hostname }}.there", content: "1", mode: "0600"}
      when: (place ~ '/' ~ inventory_hostname ~ '.early') is not exists or ansible_check_mode
    - name: Refuse
      ansible.builtin.fail:
        msg: not this one
      when: (place ~ '/' ~ inventory_hostname ~ '.fail') is exists and not ansible_check_mode
    - name: Set
      ansible.builtin.copy: {dest: "{{ place }}/{{ inventory_hostname }}.conf", content: "2", mode: "0600"}
      when: (place ~ '/' ~ inventory_hostname ~ '.there') is exists
"""


def test_an_approved_apply_that_broke_off_is_resumed_and_only_where_it_had_begun_more_may_change(hospital):
    plane = hospital.plane
    hospital.people()
    (hospital.home / "playbooks" / "careful.yml").write_text(IN_TWO_STEPS)
    asked = plane.run_play("careful", "preview")["id"]
    plane.request_approval(asked, "an")
    plane.approve_run(asked, "chi")
    marks = [("here-1", "early"), ("here-1", "fail"), ("here-2", "fail")]
    for mark in marks:
        hospital.mark(*mark)
    dossier = plane.run_play("careful", "apply", preview_id=asked)
    assert set(dossier["run"]["outcomes"].values()) == {"failed"}
    assert {host: tally["changed"] for host, tally in dossier["run"]["recap"].items()} == {"here-1": 0, "here-2": 1}
    for mark in marks:
        hospital.unmark(*mark)
    hospital.mark("here-1", "there")  # somebody else's doing: nobody said yes to what follows from it
    with refused("on here-1, the task '(Install|Set)' would now change something else"):
        plane.resume_run(dossier["id"])
    with refused("on here-1, the task '(Install|Set)' would now change something else"):
        plane.resume_run(plane.archive.runs()[0]["id"])  # that one was refused, and had begun nothing
    assert hospital.written() == []
    hospital.unmark("here-1", "there")
    resumed = plane.resume_run(plane.archive.runs()[0]["id"])
    assert (resumed["state"], resumed["carries_out"]) == ("successful", asked)
    assert hospital.written() == ["here-1", "here-2"]


def test_a_host_of_which_the_inventory_asks_it_needs_the_second_role_for_every_play(hospital):
    plane = hospital.plane
    hospital.people()
    (hospital.home / "inventory" / "host_vars").mkdir(exist_ok=True)
    (hospital.home / "inventory" / "host_vars" / "here-2.yaml").write_text("emr_approval: second_role\n")
    assert plane.strict_hosts(HERE) == ("here-2",)
    assert plane.run_play("write", "apply", ["here-1"])["state"] == "successful"
    for hosts in (["here-2"], list(HERE)):
        with refused("write on these hosts needs the approval of a second role"):
            plane.run_play("write", "apply", hosts)
    asked = plane.run_play("write", "preview", ["here-2"])["id"]
    with refused("on these hosts needs the approval of a second role"):
        plane.run_play("write", "apply", preview_id=asked)
    plane.request_approval(asked, "an")
    with refused("somebody else with another role"):
        plane.approve_run(asked, "binh")
    plane.approve_run(asked, "chi")
    dossier = plane.run_play("write", "apply", preview_id=asked)
    assert (dossier["state"], dossier["carries_out"]) == ("successful", asked)
    assert hospital.written() == list(HERE)


# ----------------------------------------------------------------------------------------------- clinic hours


def test_a_disruptive_play_waits_for_the_evening_or_breaks_the_glass(hospital):
    plane = hospital.plane
    hospital.clock.at = MORNING
    assert plane.run_play("loud", "preview", ["here-1"])["break_glass"] is None
    before = hospital.kinds()
    with refused(r"it is 09:00, within clinic hours \(06:30-17:00\)"):
        plane.run_play("loud", "apply", ["here-1"], break_glass="  ")
    assert hospital.kinds() == before
    hospital.people()
    glass = ("--break-glass", "máy chủ sắp đầy đĩa")
    assert "--by NAME" in emrctl(hospital, "apply", "loud", "--limit", "here-1", *glass, code=1)
    assert hospital.kinds() == before, "a reason that nobody answers for is none, at no hour"
    dossier = plane.run_play("loud", "apply", ["here-1"], by="an", break_glass="máy chủ sắp đầy đĩa")
    assert dossier["break_glass"]["reason"] == "máy chủ sắp đầy đĩa"
    assert plane.archive.run(dossier["id"])["opened"]["break_glass"]["by"] == "an"
    assert plane.run_play("write", "apply", ["here-2"], break_glass="không cần")["break_glass"] is None
    hospital.clock.at = EVENING
    assert plane.run_play("loud", "apply", ["here-1"], by="an", break_glass="x")["break_glass"] is None


def test_the_clinic_that_opens_meanwhile_is_not_disturbed_and_a_run_that_breaks_off_keeps_what_it_found(hospital):
    plane, early = hospital.plane, MORNING - timedelta(hours=3)

    def clinic_opens(event: dict[str, Any]) -> None:
        if event.get("step") == "preview":
            hospital.clock.at = MORNING

    def gone(*_args: Any) -> Any:
        raise RuntimeError("the disk is gone")

    hospital.clock.at = early
    with refused(r"it is 09:00, within clinic hours"):
        plane.run_play("loud", "apply", ["here-1"], clinic_opens, by="an")
    assert hospital.written() == []
    id_ = plane.archive.runs(1)[0]["id"]
    body = kept_of_broken(plane, id_, "refused")
    assert "within clinic hours" in body["error"]["en"]
    assert (body["begun"], "run" in body, len(body["rounds"])) == (False, False, 1)
    assert [task["status"] for task in body["preview"]["tasks"] if task["task"] == "Write"] == ["would_change"]
    assert "Refused" in emrctl(hospital, "run", id_)

    hospital.clock.at = early
    plane.__dict__["difference"] = gone  # after everything went well on the host
    with pytest.raises(RuntimeError):
        plane.resume_run(id_, clinic_opens, by="an", break_glass="máy chủ sắp đầy đĩa")
    assert hospital.written() == ["here-1"]
    body = kept_of_broken(plane, plane.archive.runs(1)[0]["id"], "failed")
    assert body["run"]["outcomes"] == {"here-1": "changed"}
    assert body["break_glass"]["at"] > "2026-11-23T02", "recorded when it was broken, not when the run began"
    assert body["break_glass"]["by"] == "an"
    assert plane.applied_hosts() == {"loud": ["here-1"]}, "drift looks at what was really done"


def kept_of_broken(plane: Plane, id_: str, state: str) -> dict[str, Any]:
    """The dossier of a run that an error ended; its events are followed as those of any run."""
    found = plane.archive.run(id_)
    assert (found["state"], found["body"]["state"]) == (state, state)
    events = [event for _, event in plane.follow(id_)]
    assert [event["step"] for event in events if event["event"] == "emr_step"][:2] == ["round_before", "preview"]
    assert "runner_on_ok" in {event["event"] for event in events}
    assert dict(plane.follow(id_))[found["body"]["steps"][1]["event"]]["step"] == "preview"
    return found["body"]


# --------------------------------------------------------------------------------------- other processes

PROGRAM = """
import sys
from pathlib import Path
from controlplane.bootstrap import open_plane
from controlplane.settings import Settings
plane = open_plane(Settings(home=Path(sys.argv[1]), data_dir=Path(sys.argv[2]), round_every_minutes=0))
dossier = plane.run_play(sys.argv[4], "apply", [sys.argv[3]])
print(dossier["state"])
"""


def elsewhere(hospital: Hospital, host: str, play: str = "write") -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", PROGRAM, str(hospital.home), str(hospital.settings.data_dir), host, play]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def wait_for(question: Any, seconds: float = 60) -> Any:
    until = time.monotonic() + seconds
    while not (found := question()) and time.monotonic() < until:
        time.sleep(0.2)
    assert found
    return found


def running(plane: Plane, step: str) -> str | None:
    """The run that is under way in this step."""
    for run in plane.archive.runs(3):
        if run["state"] == "running" and plane.progress(run["id"]).step == step:
            return str(run["id"])
    return None


def test_a_run_of_another_process_is_followed_keeps_its_host_and_is_cancelled_from_here(hospital):
    plane = hospital.plane
    hospital.clock.at = datetime.now(UTC)  # the other process lives by the real clock
    hospital.mark("here-1", "slow")
    other = elsewhere(hospital, "here-1")
    try:
        id_ = wait_for(lambda: running(plane, "preview"))
        events: list[dict[str, Any]] = []
        follower = threading.Thread(target=lambda: events.extend(event for _, event in plane.follow(id_)))
        follower.start()
        with pytest.raises(BusyError, match="host here-1"):
            plane.run_play("write", "preview")
        assert plane.run_play("write", "apply", ["here-2"])["state"] == "successful", "another host is free"
        plane.cancel_run(id_, "an")
        assert other.communicate(timeout=60)[0].strip() == "cancelled"
    finally:
        other.kill()
        other.wait()
    follower.join(10)
    assert not follower.is_alive()
    assert "runner_on_start" in {event["event"] for event in events}
    line = plane.run_line(id_)
    assert (line["state"], line["cancelled_by"]) == ("cancelled", "an")
    with refused("is not under way"):
        plane.cancel_run(id_)
    hospital.unmark("here-1", "slow")
    resumed = plane.resume_run(id_)
    assert (resumed["state"], resumed["pin"]["hosts"]) == ("successful", ["here-1"])


def test_a_run_is_stopped_while_it_looks_or_waits_for_another_round(hospital):
    plane, looked = hospital.plane, []

    def stopped() -> bool:
        return bool(looked)

    dossier = plane.run_play("write", "apply", (), None, stopped, lambda *look: looked.append(look))
    assert (dossier["state"], len(looked)) == ("cancelled", 1), "the host that is left is not looked at for it"
    assert "preview" not in dossier
    assert plane.archive.rounds(1)[0].state == "interrupted"
    assert "Cancelled" in emrctl(hospital, "run", dossier["id"])
    with plane.archive.lock("round"):
        again = plane.resume_run(dossier["id"], None, stopped)
    assert (again["state"], len(looked)) == ("cancelled", 1)
    assert hospital.written() == []
    assert plane._earlier_runs(again["id"]).runs == (), "nothing was done, so nothing waits to be measured"
    hosts = plane._resumable(again["id"])["hosts"]
    assert hosts == list(HERE), "all of it is left to be resumed"


def killed(hospital: Hospital, play: str, step: str, waits: str) -> str:
    """A run of another process that is ended without warning while its first host waits in this step; its id."""
    hospital.clock.at = datetime.now(UTC)  # the other process lives by the real clock
    hospital.mark("here-1", "slow")
    other = elsewhere(hospital, "here-1", play)
    try:
        id_: str = wait_for(lambda: running(hospital.plane, step))
        wait_for(lambda: any(words.startswith(waits) for words in commands()))
    finally:
        other.send_signal(signal.SIGKILL)
        other.communicate()
    return id_


def test_a_control_plane_killed_during_an_apply_is_found_swept_and_resumed(hospital):
    id_ = killed(hospital, "write", "preview", "sleep 41")
    assert hospital.plane.run_line(id_)["state"] == "running"
    again = open_plane(hospital.settings, hospital.clock)
    assert again.run_line(id_)["state"] == "interrupted"
    assert not any(str(hospital.settings.run_dir) in words for words in commands()), "nothing of the run goes on"
    assert "runner_on_start" in {event["event"] for _, event in again.follow(id_)}, "what was heard is kept"
    with again.archive.host_locks(HERE):
        pass
    hospital.unmark("here-1", "slow")
    assert again.resume_run(id_)["run"]["outcomes"] == {"here-1": "changed"}
    again.archive.engine.dispose()


# ----------------------------------------------------- a service that has not read its new settings yet (plays/owed.py)

OWED = {"here-1": ["served : Take it over"]}
NOTIFIED = "Notify what an earlier run left undone"


def test_what_a_killed_run_had_notified_is_done_by_its_resume(hospital):
    id_ = killed(hospital, "service", "apply", "sleep 42")
    again = open_plane(hospital.settings, hospital.clock)
    assert again.owed_after(id_) == OWED
    assert (hospital.written(), hospital.taken_over()) == (["here-1"], [])
    assert "served : Take it over: here-1" in emrctl(hospital, "run", id_)
    hospital.unmark("here-1", "slow")
    resumed = again.resume_run(id_)
    assert [task["task"] for task in resumed["run"]["tasks"] if task["status"] == "changed"] == [
        NOTIFIED,
        "Take it over",
    ], "the settings themselves stood already"
    assert (resumed["owed_before"], resumed.get("owed")) == (OWED, None)
    assert hospital.taken_over() == ["here-1"]
    again.archive.engine.dispose()


def test_a_host_that_was_lost_is_owed_until_a_run_that_has_the_handler_comes_through(hospital):
    plane = hospital.plane
    plane.run_play("service", "apply")
    (hospital.place / "here-1.conf").unlink()
    with hospital.off("here-1"):
        dossier = plane.run_play("service", "apply")
    assert dossier["run"]["outcomes"] == {"here-1": "unreachable", "here-2": "ok"}
    assert (dossier["owed"], hospital.taken_over()) == (OWED, list(HERE))
    other = plane.run_play("write", "apply")
    assert (other["state"], other["owed_before"], other["owed"]) == ("successful", OWED, OWED), "that play has none"
    (drift,) = plane.drift(["service"])["plays"]
    assert [(d["host"], d["task"]) for d in drift["differences"]] == [("here-1", NOTIFIED)]
    preview = plane.run_play("service", "preview")
    would = [(t["host"], t["task"]) for t in preview["run"]["tasks"] if t["status"] == "would_change"]
    assert would == [("here-1", NOTIFIED)], "who approves it sees it"
    with hospital.off("here-1"):
        lost = plane.run_play("service", "apply", preview_id=preview["id"])
    assert lost["owed"] == OWED, "it was not come to again"
    through = plane.run_play("service", "apply")
    assert (through["run"]["outcomes"], "owed" in through) == ({"here-1": "changed", "here-2": "ok"}, False)
    assert hospital.taken_over() == ["here-1", "here-1", "here-2"]
    again = plane.run_play("service", "apply")
    assert again["run"]["outcomes"] == dict.fromkeys(HERE, "ok")


# ----------------------------------------------------------------------------------------------------- drift


def test_drift_is_found_on_applied_hosts_alone_points_at_criteria_and_is_kept(hospital):
    plane = hospital.plane
    assert plane.drift()["plays"] == []
    assert not plane.drift_is_due(), "nothing was applied yet"
    plane.run_play("write", "apply", ["here-1"])
    (nothing,) = plane.drift()["plays"]
    assert (nothing["hosts"], nothing["state"], nothing["differences"]) == (["here-1"], "successful", [])
    (hospital.place / "here-1.conf").write_text("level = 0\n")
    found = plane.drift()
    (difference,) = found["plays"][0]["differences"]
    assert (difference["host"], difference["criteria"]) == ("here-1", ["tcvn14423.log.ntp"])
    assert (difference["diff"][0]["before"], difference["diff"][0]["after"]) == ("level = 0\n", "level = 3\n")
    assert plane.drift_by_criterion()["tcvn14423.log.ntp"][0]["run"] == found["plays"][0]["run"]
    assert (hospital.place / "here-1.conf").read_text() == "level = 0\n", "a check of drift changes nothing"
    assert plane.run_line(found["plays"][0]["run"])["mode"] == "drift"
    assert hospital.kinds().count("drift") == 3
    with refused("There is no play gone"):
        plane.drift(["gone"])


def test_the_check_of_drift_is_due_once_a_night(hospital):
    plane, clock = hospital.plane, hospital.clock
    plane.run_play("write", "apply", ["here-1"])
    assert not plane.drift_is_due()
    clock.at = datetime(2026, 11, 23, 18, 50, tzinfo=UTC)  # 01:50
    assert not plane.drift_is_due()
    clock.at = datetime(2026, 11, 23, 19, 5, tzinfo=UTC)  # 02:05
    assert plane.drift_is_due()
    stop = threading.Event()
    ticks = itertools.count()
    stop.wait = lambda _seconds: next(ticks) > 1  # type: ignore[method-assign]
    keep_asking(stop, "night", plane.drift_if_due)
    assert hospital.kinds().count("drift") == 1, "twice asked, once made"
    assert plane.last_drift()["by"] == "clock"
    clock.at += timedelta(days=2)
    assert plane.drift_is_due(), "a missed night is made up"


# ------------------------------------------------------------------------------------------------- by emrctl


def emrctl(hospital: Hospital, *argv: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "controlplane", "--data-dir", str(hospital.settings.data_dir), "--lang", "en"]
    where = os.environ | {"EMRCTL_HOME": str(hospital.home), "EMRCTL_CLINIC_HOURS": ""}
    done = subprocess.run([*command, *argv], cwd=ROOT, env=where, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_the_whole_way_by_emrctl_with_two_passwords(hospital):
    hospital.people()
    secrets = {}
    for name in ("an", "chi"):
        secrets[name] = hospital.folder / name
        secrets[name].touch(mode=0o600)
        secrets[name].write_text(f"a password of {name}\n")
    me, other = (["--by", name, "--password-file", str(secrets[name])] for name in ("an", "chi"))
    asked = json.loads(emrctl(hospital, "preview", "careful", "--json", *me))["id"]
    assert "approval asked for by an" in emrctl(hospital, "request", asked, *me)
    assert "somebody else with another role" in emrctl(hospital, "approve", asked, *me, code=1)
    secrets["chi"].write_text("a wrong password\n")
    assert "Wrong name or password" in emrctl(hospital, "approve", asked, *other, code=2)
    secrets["chi"].write_text("a password of chi\n")
    assert "approved by chi" in emrctl(hospital, "approve", asked, *other)
    applied = json.loads(emrctl(hospital, "apply", "careful", "--json", *me))
    assert (applied["state"], applied["carries_out"]) == ("successful", asked)
    shown = emrctl(hospital, "run", applied["id"])
    assert "2 hosts done" in shown
    assert "signature holds" in shown
    assert [asked, "careful", "Preview", "Successful", "approved"] in [
        line.split() for line in emrctl(hospital, "runs").splitlines()
    ]
    assert "0 differences" in emrctl(hospital, "drift")
    (hospital.place / "here-2.conf").unlink()
    assert "here-2: Write tcvn14423.log.ntp" in emrctl(hospital, "drift", "careful", code=1)
    assert "not under way" in emrctl(hospital, "cancel", asked, code=1)
    assert "nothing to go on with" in emrctl(hospital, "resume", asked, code=1)
    assert "There is no run" in emrctl(hospital, "run", "gone", code=1)
    secrets["an"].chmod(0o644)
    assert "may be read by others" in emrctl(hospital, "preview", "write", *me, code=2)
