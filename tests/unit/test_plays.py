"""Plays without a host: the list of plays, whom a limit means, what events say, and what is hidden in them."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.collect.inventory import load_inventory
from controlplane.domain.model import Asset, Words
from controlplane.plays import (
    DIFF_CHARS,
    HIDDEN,
    HostRecap,
    Listener,
    Play,
    PlayError,
    PlayRun,
    digest_of,
    load_plays,
    preview,
    scrub,
)
from controlplane.plays.catalogue import APPROVALS

ROOT = Path(__file__).resolve().parent.parent.parent
PLAYBOOKS = ROOT / "playbooks"
TWO = Words("hai", "two")

# What a real run over three hosts gave (Debian 12, ansible-core 2.19.14, ansible-runner 2.4.3): pc-03 was not there.
RECORDED = [json.loads(line) for line in (Path(__file__).parent / "plays-events.jsonl").read_text().splitlines()]


# ----------------------------------------------------------------------------------------------- plays.yaml


def an_entry(**changes: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": "time-ssh",
        "playbook": "time-ssh.yml",
        "title": {"vi": "một", "en": "one"},
        "summary": {"vi": "hai", "en": "two"},
        "hosts": "linux_hosts",
        "disruptive": False,
        "approval": "none",
    }
    return {**entry, **changes}


def test_the_shipped_list_of_plays_holds_together() -> None:
    plays = load_plays(yaml.safe_load((PLAYBOOKS / "plays.yaml").read_text()), PLAYBOOKS)
    written = "time-ssh hardening storage backup-storage backup antivirus workstations monitoring".split()
    written += "printers probes network controlplane site".split()
    assert list(plays) == written
    assert plays["time-ssh"].playbook.is_file()
    assert plays["time-ssh"].hosts == "linux_hosts"
    assert not plays["time-ssh"].disruptive


def the_plays() -> tuple[Play, list[Play]]:
    """``site``, and all others in the order of plays.yaml."""
    plays = dict(load_plays(yaml.safe_load((PLAYBOOKS / "plays.yaml").read_text()), PLAYBOOKS))
    return plays.pop("site"), list(plays.values())


def test_site_carries_out_every_other_play_in_the_order_of_the_list() -> None:
    site, others = the_plays()
    imported = [step["ansible.builtin.import_playbook"] for step in yaml.safe_load(site.playbook.read_text())]
    assert imported == [play.playbook.name for play in others]


def test_site_is_as_strict_as_the_strictest_play_and_looks_where_each_of_them_looks() -> None:
    site, others = the_plays()
    assert site.disruptive >= max(play.disruptive for play in others)
    assert APPROVALS.index(site.approval) >= max(APPROVALS.index(play.approval) for play in others)
    assert {play.witnesses for play in others} - {""} <= {site.witnesses}


def test_a_host_of_any_play_is_a_host_of_site(tmp_path: Path) -> None:
    """Tried with a host in each group, since the shipped inventory has no probe yet."""
    site, others = the_plays()
    overlay = tmp_path / "overlay.yaml"
    fresh = {f"one-of-{play.hosts.replace('_', '-')}": play.hosts for play in others}
    host = {"emr_kind": "server", "emr_title_vi": "Máy", "emr_title_en": "Host", "emr_vlan": 99}
    groups = {group: {"hosts": {name: host}} for name, group in fresh.items()}
    overlay.write_text(json.dumps({"all": {"children": groups}}), encoding="utf-8")
    found = load_inventory([ROOT / "inventory" / "hosts.yaml", overlay], tmp_path).groups
    for play in others:
        assert set(found[play.hosts]) <= set(found[site.hosts]), play.id
    assert set(fresh) <= set(found[site.hosts])
    assert set(found[site.hosts]) == {name for play in others for name in found[play.hosts]}, "and of nobody else's"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"surprise": 1}, "unknown key surprise"),
        ({"id": "Harden SSH"}, "lower-case"),
        ({"playbook": "gone.yml"}, "there is no playbook gone.yml"),
        ({"playbook": "../time-ssh.yml"}, "beside plays.yaml"),
        ({"title": {"vi": "một"}}, "title must be given in vi and in en"),
        ({"summary": {"vi": "", "en": "two"}}, "summary must be given"),
        ({"title": "one"}, "title must be given"),
        ({"disruptive": "sometimes"}, "disruptive must be true or false"),
        ({"hosts": "all:!sv-01"}, "hosts must be one"),
        ({"witnesses": "all:!sv-01"}, "witnesses must be one"),
        ({"approval": None}, "approval must be one"),
        ({"approval": "director"}, "approval must be one of none, second_role"),
    ],
)
def test_a_bad_entry_is_refused_by_name(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(PlayError, match=re.escape(problem)) as caught:
        load_plays({"plays": [an_entry(**changes)]}, PLAYBOOKS)
    assert caught.value.words.vi.startswith("plays.yaml, mục ")


def test_a_missing_key_and_a_double_id_are_refused() -> None:
    entry = an_entry()
    del entry["approval"]
    with pytest.raises(PlayError, match="missing key approval"):
        load_plays({"plays": [entry]}, PLAYBOOKS)
    with pytest.raises(PlayError, match="stands twice"):
        load_plays({"plays": [an_entry(), an_entry()]}, PLAYBOOKS)


@pytest.mark.parametrize("document", [None, [], {}, {"plays": []}, {"plays": {}}, {"plays": [], "more": 1}, "plays"])
def test_a_document_of_another_shape_is_refused(document: Any) -> None:
    with pytest.raises(PlayError, match=r"plays\.yaml must hold"):
        load_plays(document, PLAYBOOKS)
    with pytest.raises(PlayError, match="not a mapping"):
        load_plays({"plays": ["time-ssh"]}, PLAYBOOKS)


# ------------------------------------------------------------------------------------- the shipped playbooks


def tasks_of(node: Any) -> list[dict[str, Any]]:
    """Every task of a parsed task file, those of blocks too, each with the tags it inherits from its blocks."""
    found = []
    for task in node:
        found.append(task)
        for part in ("block", "rescue", "always"):
            inner = tasks_of(task.get(part, []))
            found += [{**one, "tags": [*one.get("tags", []), *task.get("tags", [])]} for one in inner]
    return found


# These are only imported by other roles, and their tasks take over the tags of the task that imports them.
HELPERS = ("apt_packages", "owed_handlers", "timed_rollback")
TASK_FILES = [
    path
    for kind in ("tasks", "handlers")
    for path in sorted((PLAYBOOKS / "roles").glob(f"*/{kind}/main.yml"))
    if path.parts[-3] not in HELPERS
]


@pytest.mark.parametrize("path", TASK_FILES, ids=lambda path: "-".join(path.parts[-3:-1]))
def test_every_task_is_tagged_with_criteria_that_exist(path: Path) -> None:
    known = {
        row["id"]
        for file in (ROOT / "checks" / "criteria").glob("*.yaml")
        for row in yaml.load(file.read_text(), yaml.CSafeLoader)["criteria"]
    }
    for task in tasks_of(yaml.safe_load(path.read_text())):
        assert task.get("tags"), task["name"]
        assert set(task["tags"]) <= known, task["name"]


def test_a_play_whose_roles_have_handlers_does_what_an_earlier_run_owes_in_the_end() -> None:
    with_handlers = {path.parts[-3] for path in (PLAYBOOKS / "roles").glob("*/handlers/main.yml")}
    for path in PLAYBOOKS.glob("*.yml"):
        for play in yaml.safe_load(path.read_text()):
            roles = [role["role"] for role in play.get("roles", [])]
            assert ("owed_handlers" in roles) == bool(with_handlers & set(roles)), (path.name, roles)
            assert "owed_handlers" not in roles[:-1], "handlers look at what the tasks of their own roles have found"


def test_whatever_is_notified_is_a_handler_of_the_same_role_by_its_name() -> None:
    """What a run owes is known by that name; a handler that only listens to a topic could never be told as done."""
    for role in {path.parts[-3] for path in (PLAYBOOKS / "roles").glob("*/handlers/main.yml")}:
        handlers = yaml.safe_load((PLAYBOOKS / "roles" / role / "handlers" / "main.yml").read_text())
        names = {handler["name"] for handler in handlers}
        for path in (PLAYBOOKS / "roles" / role / "tasks").glob("*.yml"):
            for task in tasks_of(yaml.safe_load(path.read_text())):
                notified = task.get("notify", [])
                assert set([notified] if isinstance(notified, str) else notified) <= names, (role, task["name"])


# Steps of a change that stands in a preview as a whole, by a task of its own or by the file that makes it necessary.
TOLD_OTHERWISE = {
    "accounts_policy": {"Build the rules for logging in"},
    "control_plane": {
        *("Point to a release", "Make what is missing in the record", "Wait until it answers"),
        *("Copy the record", "Put the record back as it was before"),
    },
    "ssh_hardening": {"Reload the SSH server by its own process number"},
}
# What is read while a change is carried out; a preview does not come there, or goes by nothing of it.
READ_WITHIN_A_CHANGE = {
    ("accounts_policy", "accounts_policy_after"),
    *(("control_plane", f"control_plane_{name}") for name in ("readable", "words", "python")),
    ("ssh_hardening", "ssh_hardening_after"),
}
PROGRAMS = ("ansible.builtin.command", "ansible.builtin.shell", "ansible.builtin.uri")


def test_no_change_by_a_program_is_left_out_of_a_preview() -> None:
    """Ansible skips a program in check mode, unless it names a file that it makes or takes away."""
    found: dict[str, set[str]] = {}
    for path in (PLAYBOOKS / "roles").glob("*/tasks/*.yml"):
        for task in tasks_of(yaml.safe_load(path.read_text()) or []):
            program = next((task[name] for name in PROGRAMS if name in task), None)
            if program is None or task.get("changed_when") is False or task.get("check_mode") is False:
                continue
            if not {"creates", "removes"} & set(program) and "not ansible_check_mode" not in str(task.get("when")):
                found.setdefault(path.parts[-3], set()).add(task["name"])
    assert found == TOLD_OTHERWISE


def test_what_a_play_reads_by_a_program_and_goes_by_is_read_in_a_preview_too() -> None:
    skipped = {
        (path.parts[-3], task["register"])
        for path in (PLAYBOOKS / "roles").glob("*/tasks/*.yml")
        for task in tasks_of(yaml.safe_load(path.read_text()) or [])
        if any(name in task for name in PROGRAMS) and task.get("changed_when") is False and "register" in task
        if task.get("check_mode") is not False and "not ansible_check_mode" not in str(task.get("when"))
    }
    assert skipped == READ_WITHIN_A_CHANGE


def test_modules_are_named_in_full() -> None:
    words = "name when tags register block rescue notify loop vars become changed_when failed_when check_mode".split()
    words += "environment no_log loop_control listen until retries delay diff delegate_to".split()
    for path in (PLAYBOOKS / "roles").glob("*/*/*.yml"):
        if path.parent.name in {"tasks", "handlers"}:
            for task in tasks_of(yaml.safe_load(path.read_text())):
                modules = set(task) - set(words)
                own = {one.stem for one in path.parents[1].glob("library/*.py")}
                named = all(name.startswith("ansible.builtin.") or name in own for name in modules)
                assert modules == set() or named, task["name"]


# ------------------------------------------------------------------------------------------------ whom it means


def a_host(name: str, address: str | None = "192.0.2.1", **access: Any) -> Asset:
    return Asset(name, "workstation", ("linux_hosts", "workstations"), TWO, address=address, access=access)


HOSTS = [
    a_host("pc-01", None),
    Asset("prn-01", "printer", ("printers",), TWO, address="192.0.2.9"),
    a_host("pc-02", ansible_connection="paramiko"),
    a_host("pc-03", ansible_connection="ansible.builtin.local", address=None),
]


def refusal(tmp_path: Path, limit: Any, hosts: list[Asset] = HOSTS) -> PlayError:
    play = Play("p", PLAYBOOKS / "time-ssh.yml", TWO, TWO, "linux_hosts")
    with pytest.raises(PlayError) as caught:
        preview(play, [tmp_path / "gone.yaml"], limit, tmp_path / "runs", hosts=hosts, known_hosts=tmp_path / "none")
    assert not (tmp_path / "runs").exists(), "a refusal leaves nothing behind"
    return caught.value


@pytest.mark.parametrize("limit", [[], [""], "", " , "])
def test_an_empty_limit_is_refused(tmp_path: Path, limit: Any) -> None:
    assert "empty limit" in str(refusal(tmp_path, limit))


@pytest.mark.parametrize("limit", ["pc-*", "!pc-01", "~pc", "pc-99", "linux_hosts:&servers", "@/etc/passwd"])
def test_a_pattern_is_not_a_name(tmp_path: Path, limit: str) -> None:
    assert "is called" in str(refusal(tmp_path, [limit]))


def test_hosts_that_cannot_be_visited_are_named_with_the_reason(tmp_path: Path) -> None:
    words = refusal(tmp_path, ["pc-01", "prn-01", "pc-02"]).words
    assert words.en == (
        "No host is left to run on: pc-01: skipped: no address yet; pc-02: skipped: connection paramiko is not "
        "supported; prn-01: skipped: not in the group linux_hosts."
    )
    assert "pc-01: bỏ qua: chưa có địa chỉ" in words.vi


def test_missing_files_are_named(tmp_path: Path) -> None:
    assert "gone.yaml" in str(refusal(tmp_path, ["pc-03"]))
    (tmp_path / "gone.yaml").write_text("all: {}\n")
    assert "The file none" in str(refusal(tmp_path, ["pc-04"], [a_host("pc-04")]))


# --------------------------------------------------------------------------------------------------- events


def heard(mode: str = "apply", **callbacks: Callable[..., Any]) -> Listener:
    listener = Listener(mode, Path("/run/emrctl/plays/recorded"), **callbacks)
    for event in RECORDED:
        assert listener.hear(json.loads(json.dumps(event))) is False, "no event goes to the disk unscrubbed"
    return listener


def test_the_figures_of_each_host_are_kept_apart() -> None:
    assert heard().recap() == {
        "pc-01": HostRecap(ok=7, changed=4, failed=1, skipped=1, rescued=1),
        "pc-03": HostRecap(unreachable=1),
        "sv-01": HostRecap(ok=8, changed=4, skipped=1, rescued=1),
    }


def test_figures_are_counted_when_the_run_was_cut_before_it_summed_up() -> None:
    listener = Listener("apply", Path("/run"))
    for event in RECORDED:
        if event["event"] != "playbook_on_stats":
            listener.hear(event)
    assert listener.recap()["pc-03"] == HostRecap(unreachable=1)
    assert listener.recap()["sv-01"] == HostRecap(ok=8, changed=2, failed=1, skipped=1)


def test_every_way_a_task_can_end_is_told() -> None:
    mine = {task.task: task for task in heard().tasks if task.host == "pc-01"}
    assert {name: task.status for name, task in mine.items()} == {
        "Look at the system": "ok",
        "Write a file": "changed",
        "Write two files": "changed",
        "Handle a secret": "ok",
        "Show a variable by its name": "ok",
        "Never on this machine": "skipped",
        "Fail without consequence": "failed",
        "Try": "failed",
        "Find a way back": "ok",
        "Refuse on one machine": "failed",
    }
    assert mine["Fail without consequence"].ignored
    assert not mine["Refuse on one machine"].ignored
    assert mine["Refuse on one machine"].message == "this machine is not meant"
    gone = next(task for task in heard().tasks if task.host == "pc-03")
    assert gone.status == "unreachable"
    assert "Connection timed out" in gone.message


def test_a_preview_says_would_change() -> None:
    assert {task.status for task in heard("preview").tasks if task.task.startswith("Write")} == {"would_change"}


def test_notes_of_the_callback_add_tags_and_changes_under_no_log() -> None:
    listener = heard()
    secret = next(e["event_data"]["task_uuid"] for e in RECORDED if e["event_data"].get("task") == "Handle a secret")
    listener.add_notes(
        [
            {"task_uuid": secret, "tags": ["tcvn14423.log.ntp"]},
            {"task_uuid": secret, "host": "pc-01", "changed": True},
        ]
    )
    tasks = {task.host: task for task in listener.tasks if task.task == "Handle a secret"}
    assert (tasks["pc-01"].status, tasks["sv-01"].status) == ("changed", "ok")
    assert tasks["sv-01"].tags == ("tcvn14423.log.ntp",)


def test_a_result_that_changed_something_says_which_handlers_it_notifies() -> None:
    told = [{"task_uuid": "t1", "tags": [], "notify": ["r : Restart"]}, {"task_uuid": "t2", "tags": []}]
    listener = Listener("apply", Path("/nowhere/run"), notes=lambda: told)
    for task, found in (("t1", {"changed": True}), ("t1", {"changed": False}), ("t1", {"censored": "hidden"})):
        listener.hear({"event": "runner_on_ok", "event_data": {"host": "a", "task_uuid": task, "res": found}})
    for task in ("t2", "t3"):
        listener.hear(
            {"event": "runner_on_ok", "event_data": {"host": "a", "task_uuid": task, "res": {"changed": True}}}
        )
    heard = [json.loads(line)["event_data"].get("emr_notified") for line in bytes(listener.raw).splitlines()]
    assert heard == [["r : Restart"], None, ["r : Restart"], None, None]


def test_a_difference_names_the_file_and_both_sides() -> None:
    (diff,) = next(task.diff for task in heard().tasks if task.task == "Write a file")
    assert (diff.name, diff.before) == ("/etc/emrctl-recorded.conf", "")
    assert diff.after == f"level = 3\npassword = {HIDDEN}\n"
    loop = next(task.diff for task in heard().tasks if task.task == "Write two files")
    assert [one.name for one in loop] == ["/etc/emrctl-one.conf", "/etc/emrctl-two.conf"]


def test_a_long_difference_is_cut_and_says_so() -> None:
    listener = Listener("apply", Path("/run"))
    diff = {"before": "", "after": "x" * (DIFF_CHARS + 7)}
    data = {"host": "a", "task": "t", "task_uuid": "u", "res": {"changed": True, "diff": diff}}
    listener.hear({"event": "runner_on_ok", "uuid": "1", "event_data": data})
    assert listener.tasks[0].diff[0].after.endswith("\n[7 characters more were left out]")


def test_events_are_kept_as_canonical_lines_without_canaries() -> None:
    raw = bytes(heard().raw)
    assert b"canary" in "\n".join(map(json.dumps, RECORDED)).encode(), "the recording does hold canaries"
    assert b"canary" not in raw
    assert b"/run/emrctl/plays/recorded" not in raw
    lines = raw.splitlines()
    assert len(lines) > 50
    for line in lines:
        again = json.dumps(json.loads(line), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        assert again.encode() == line
    assert b"facts left out" in raw
    assert b'"ansible_system":' not in raw


def test_a_listener_that_fails_and_a_garbled_event_do_not_end_the_run(caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    def fails(event: Any) -> None:
        calls.append(event)
        raise RuntimeError("canary of a listener")

    listener = heard(on_event=fails)
    assert len(calls) > 50
    assert [record.message for record in caplog.records].count(caplog.records[0].message) == 1, "said once"
    before = len(listener.tasks)
    for garbled in ({}, {"event": None}, {"event": "runner_on_ok"}, {"event": "runner_on_ok", "event_data": 7}):
        assert listener.hear(garbled) is False
    assert len(listener.tasks) - before <= 1


def test_what_the_listener_is_given_is_already_scrubbed() -> None:
    given: list[Any] = []
    heard(on_event=given.append)
    assert "canary" not in json.dumps(given)


def test_asking_whether_to_stop_never_raises() -> None:
    def broken() -> bool:
        raise OSError("canary")

    assert Listener("apply", Path("/run"), cancelled=broken).wants_to_stop() is False
    assert Listener("apply", Path("/run"), cancelled=lambda: True).wants_to_stop() is True
    assert Listener("apply", Path("/run")).wants_to_stop() is False


def test_a_failed_run_tells_why_it_failed_though_another_host_went_off_later() -> None:
    listener = Listener("apply", Path("/run"))
    for kind, name in (("failed", "pc-05"), ("unreachable", "pc-03")):
        data = {"host": name, "task": "Write", "task_uuid": name, "res": {"msg": f"{kind} there"}}
        listener.hear({"event": f"runner_on_{kind}", "event_data": data})
    assert listener.detail("failed") == "pc-05: Write: failed there"
    assert listener.detail("unreachable") == "pc-03: Write: unreachable there"


def test_a_cut_run_names_the_tasks_under_way() -> None:
    listener = Listener("apply", Path("/run"))
    for event in RECORDED:
        listener.hear(event)
        if event["event"] == "runner_on_start" and event["event_data"]["task"] == "Write a file":
            break
    assert listener.detail("cancelled").endswith(": Write a file")


# -------------------------------------------------------------------------------------------------- redaction

PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\ncanary\ncanary==\n-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize(
    "name",
    "password passwd passphrase ansible_become_password ansible_ssh_pass db_password_hash community snmp_community "
    "auth_key priv_key privateKey api_key apikey access_key token csrf_token secret client_secret credentials "
    "RESTIC_PASSWORD AWS_SECRET_ACCESS_KEY".split(),
)
def test_a_value_under_a_telling_name_is_hidden(name: str) -> None:
    assert scrub({"a": [{name: "canary"}]}) == {"a": [{name: HIDDEN}]}
    assert scrub({name: {"deep": ["canary"]}}) == {name: HIDDEN}
    for text in (f"{name}: canary", f"{name}=canary", f'"{name}": "canary with spaces"', f"+{name} = 'canary'"):
        assert "canary" not in scrub(text), text


@pytest.mark.parametrize(
    "text",
    [
        PEM,
        f"before\n{PEM}\nafter",
        PEM.split("-----END", maxsplit=1)[0],
        "$ANSIBLE_VAULT;1.1;AES256\n6361666665" + "0" * 60 + "\n  3132333435363738",
        "rocommunity canary 10.0.0.0/8",
        "+rwcommunity6 canary",
        "createUser reader SHA canary1 AES canary2",
        "passphrase: canary one canary two",
        "https://user:canary@example.org/",
        "Authorization: Bearer canary.canary-canary",
        "root:$6$canary$canary.canary:19000:0:99999:7:::",
        "user:$y$j9T$canary/canary$canary:1",
    ],
)
def test_secrets_in_texts_are_hidden(text: str) -> None:
    out = scrub({"diff": {"after": text}})["diff"]["after"]
    assert "canary" not in out
    assert "6361666665" not in out
    assert "hidden" in out


def test_what_an_auditor_needs_stays() -> None:
    kept = {
        "diff": "+PasswordAuthentication no\n+PermitRootLogin no\n+MaxAuthTries 4\n",
        "PasswordAuthentication": "no",
        "ssh_hardening_password_authentication": "no",
        "secret_file": "lab-v3",
        "update_password": "on_create",
        "password": None,
        "no_secret": False,
        "public": "ssh-ed25519 AAAA emrplay",
        "n": 3,
        "list": ["passing", "10.0.0.1:22"],
    }
    assert scrub(kept) == kept


@pytest.mark.parametrize(
    "text", ["x", "password", 'password="', "a.", "\n", " ", "$6$", "http://", "-----BEGIN A PRIVATE KEY"]
)
def test_a_megabyte_of_anything_is_scrubbed_in_a_moment(text: str) -> None:
    """A pattern that walks back over its own steps would need minutes here."""
    began = time.monotonic()
    scrub(text * (1_000_000 // len(text)))
    assert time.monotonic() - began < 5


def test_scrubbing_does_not_touch_what_it_was_given() -> None:
    given = {"a": {"password": "x"}}
    scrub(given)
    assert given == {"a": {"password": "x"}}


# ------------------------------------------------------------------------------------------------- provenance


def test_the_digest_is_that_of_sha256sum_lines_and_moves_with_a_byte_or_a_name(tmp_path: Path) -> None:
    (tmp_path / "roles").mkdir()
    (tmp_path / "roles" / "b.yml").write_text("b")
    (tmp_path / "a.yml").write_text("a")
    lines = "".join(
        f"{hashlib.sha256(text.encode()).hexdigest()}  0/{name}\n"
        for name, text in (("a.yml", "a"), ("roles/b.yml", "b"))
    )
    first = digest_of([tmp_path])
    assert first == hashlib.sha256(lines.encode()).hexdigest()
    (tmp_path / "roles" / "b.yml").rename(tmp_path / "roles" / "c.yml")
    assert digest_of([tmp_path]) != first


def test_the_document_of_a_run_is_json_and_names_its_events_by_digest() -> None:
    at = datetime(2026, 11, 23, tzinfo=UTC)
    run = PlayRun(
        "id", "p", "apply", "successful", at, at, {"a": HostRecap(ok=1)}, {"b": TWO}, tuple(heard().tasks), "d", "e",
        None, {}, events_raw=b"x",
    )  # fmt: skip
    document = json.loads(json.dumps(run.document()))
    assert document["events_digest"] == hashlib.sha256(b"x").hexdigest()
    assert document["started_at"] == "2026-11-23T00:00:00+00:00"
    assert document["left_out"] == {"b": {"vi": "hai", "en": "two"}}
    assert "canary" not in json.dumps(document)
