"""Runs without a host: what a preview is pinned to, clinic hours, live events, and the record under any fate."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import tempfile
import threading
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from alembic import command
from alembic.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from controlplane.bootstrap import Plane
from controlplane.domain.chain import stamp
from controlplane.domain.model import Words
from controlplane.plays import (
    HostRecap,
    LiveFile,
    Owed,
    Pin,
    Play,
    PlayError,
    Tail,
    by_handler,
    clinic_hours,
    lines_of,
    load_plays,
    pin_from,
    pin_of,
    progress_of,
)
from controlplane.plays.digests import commit_of, playbook_digest, playbook_files
from controlplane.plays.pins import pin_now
from controlplane.plays.results import outcomes_of
from controlplane.settings import Settings
from controlplane.store.archive import Archive, BusyError, migrate, open_engine
from controlplane.store.bundle import SigningKey, signs
from controlplane.store.vault import Vault
from tests.conftest import NOON, ROOT, Clock, an_asset
from tests.unit.test_archive import dump

WORDS = Words("thử", "try")

# --------------------------------------------------------------------------------------------------- pins


def a_pin(**changes: object) -> Pin:
    return Pin(**{"play": "p", "hosts": ("a", "b"), "playbook_digest": "1", "inventory_digest": "2"} | changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"play": "q"}, "the play is q"),
        ({"playbook_digest": "9"}, "the playbook has changed"),
        ({"inventory_digest": "9"}, "the inventory has changed"),
        ({"shipped": (("/srv/a.tar", "9"),)}, "the file /srv/a.tar has changed"),
        ({"hosts": ("a",)}, "the hosts have changed (were: a, b; are: a)"),
    ],
)
def test_whatever_is_another_change_is_named_in_both_tongues(change: dict[str, object], words: str) -> None:
    told = a_pin().difference(a_pin(**change))
    assert told is not None
    assert told.en == words
    assert told.vi


def test_the_same_change_under_another_commit_is_the_same_change() -> None:
    assert a_pin(commit="x").difference(a_pin(commit="y")) is None
    assert pin_from(json.loads(json.dumps(a_pin().document()))) == a_pin()


def test_the_digest_before_a_run_is_that_of_what_would_be_copied(tmp_path: Path) -> None:
    (tmp_path / "roles" / "a" / "tasks").mkdir(parents=True)
    (tmp_path / "roles" / "a" / "tasks" / "main.yml").write_text("[]\n")
    (tmp_path / "roles" / "a.b").mkdir()
    (tmp_path / "roles" / "a.b" / "x").write_text("x")  # "a.b/x" sorts before "a/tasks" as a text, not as a path
    (tmp_path / "play.yml").write_text("[]\n")
    (tmp_path / "notes.txt").write_text("not taken along\n")
    (tmp_path / "inventory.yaml").write_text("all: {}\n")
    assert [name for name, _ in playbook_files(tmp_path)] == ["play.yml", "roles/a/tasks/main.yml", "roles/a.b/x"]
    before = pin_now("p", tmp_path / "play.yml", [tmp_path / "inventory.yaml"], ["b", "a"])
    assert before.hosts == ("a", "b")
    (tmp_path / "notes.txt").write_text("another text\n")
    assert playbook_digest(tmp_path) == before.playbook_digest
    (tmp_path / "roles" / "a.b" / "x").write_text("y")
    assert playbook_digest(tmp_path) != before.playbook_digest


def test_another_intended_network_is_another_change(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text("[]\n")
    (tmp_path / "inventory.yaml").write_text("all: {}\n")
    pins = [
        pin_now("p", tmp_path / "play.yml", [tmp_path / "inventory.yaml"], ["a"], {"emr_network": network})
        for network in (None, {"vlans": []}, {"vlans": [{"id": 10}]}, {"vlans": [{"id": 10}]})
    ]
    assert len({pin.inventory_digest for pin in pins}) == 3
    assert pins[2].difference(pins[3]) is None
    assert "the inventory has changed" in str(pins[1].difference(pins[2]))


def test_a_file_that_a_play_brings_along_belongs_to_what_is_approved(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text("[]\n")
    (tmp_path / "inventory.yaml").write_text("all: {}\n")
    release, secret = tmp_path / "release.tar", tmp_path / "secret"
    release.write_bytes(b"approved")
    secret.write_text("guess me\n")
    told = {"control_plane_release": str(release), "snmp_agent_secret_file": str(secret), "backup_restic_source": "r"}
    hosts = [replace(an_asset("a"), access=told), an_asset("b")]
    play = Play(
        "p", tmp_path / "play.yml", WORDS, WORDS, "all", ships=("control_plane_release", "backup_restic_source")
    )

    def pin(*names: str) -> Pin:
        return pin_of(play, [tmp_path / "inventory.yaml"], names, hosts)

    seen = pin("a", "b")
    assert seen.shipped == ((str(release), hashlib.sha256(b"approved").hexdigest()),)
    assert pin_from(json.loads(json.dumps(seen.document()))) == seen
    rest = replace(seen, hosts=("b",))
    assert rest.difference(pin("b")) is None, "what is resumed may bring less along"
    for change in (lambda: release.write_bytes(b"replaced"), release.unlink):
        change()
        assert "release.tar has changed" in str(seen.difference(pin("a", "b")))
    before = {name: value for name, value in seen.document().items() if name != "shipped"}
    assert pin_from(before).difference(pin("a", "b")), "one from before files were looked at says nothing about them"
    told["control_plane_release"] = "{{ folder }}/release.tar"
    with pytest.raises(PlayError, match="not by a template"):
        pin("a")


def test_every_file_of_this_machine_that_a_role_brings_to_hosts_is_declared_by_the_plays() -> None:
    folder = ROOT / "playbooks"
    plays = load_plays(yaml.safe_load((folder / "plays.yaml").read_text(encoding="utf-8")), folder)
    brought = set()
    for path in folder.glob("roles/*/tasks/*.yml"):
        for task in re.split(r"(?m)^ *- name: ", path.read_text(encoding="utf-8")):
            if "remote_src" not in task:
                brought.update(re.findall(r'\bsrc: "\{\{ ([a-z]+(?:_[a-z]+)*_(?:source|release)) \}\}"', task))
    declared = {name for play in plays.values() for name in play.ships}
    assert brought == declared == set(plays["site"].ships)


# --------------------------------------------------------------------------------------------------- hours


@pytest.mark.parametrize(
    ("hours", "now", "holds"),
    [
        ("06:30-17:00", "06:29", False),
        ("06:30-17:00", "06:30", True),
        ("06:30-17:00", "16:59", True),
        ("06:30-17:00", "17:00", False),
        ("22:00-05:00", "23:00", True),
        ("22:00-05:00", "04:59", True),
        ("22:00-05:00", "12:00", False),
    ],
)
def test_clinic_hours_hold_from_the_first_minute_to_before_the_last(hours: str, now: str, holds: bool) -> None:
    found = clinic_hours(hours)
    assert found is not None
    assert (
        found.holds(datetime.fromisoformat(f"2026-11-23T{now}:30" if now.endswith("9") else f"2026-11-23T{now}:00"))
        is holds
    )


def test_no_hours_are_no_guard_and_nonsense_is_refused_by_the_settings() -> None:
    assert clinic_hours("") is None
    for text in ("6:30-17:00", "06:30", "25:00-26:00", "always"):
        with pytest.raises(ValidationError):
            Settings(clinic_hours=text)
    with pytest.raises(ValidationError):
        Settings(drift_at="2")


# ---------------------------------------------------------------------------------------------- outcomes, events


def test_each_host_has_one_outcome_and_a_cut_off_run_claims_nothing() -> None:
    recap = {
        "a": HostRecap(ok=3),
        "b": HostRecap(ok=2, changed=1),
        "c": HostRecap(ok=1, failed=1, changed=1),
        "d": HostRecap(unreachable=1),
    }
    hosts = "abcde"
    assert outcomes_of(hosts, recap, cut_off=False) == {
        "a": "ok",
        "b": "changed",
        "c": "failed",
        "d": "unreachable",
        "e": "ok",
    }
    assert outcomes_of(hosts, recap, cut_off=True) == {
        "a": "cancelled",
        "b": "cancelled",
        "c": "failed",
        "d": "unreachable",
        "e": "cancelled",
    }


def test_events_are_followed_while_they_are_written_and_to_the_last_one(tmp_path: Path) -> None:
    live = LiveFile(tmp_path / "live" / "r.jsonl")
    assert live.path.stat().st_mode & 0o077 == 0
    over = threading.Event()
    found: list[dict[str, object]] = []
    tail = Tail(live.path)

    def read() -> None:
        ended = all_read = False
        while not (ended and all_read):
            ended = over.is_set()
            events, all_read = tail.more(most_bytes=1000)
            found.extend(events)

    reader = threading.Thread(target=read)
    reader.start()
    assert live.write({"event": "first", "number": -1}) == 1
    while not found:
        over.wait(0.01)
    for number in range(200):
        live.write({"event": "x", "number": number, "text": "ộ" * number})
    live.path.unlink()  # the run was kept: who reads, reads on
    live.write({"event": "last"})
    live.close()
    over.set()
    reader.join(10)
    tail.close()
    assert [event.get("number") for event in found] == [*range(-1, 200), None]
    assert live.written == 202


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    assert list(lines_of(b'{"a":1}\n{"b":')) == [{"a": 1}]


def test_progress_begins_anew_with_each_step() -> None:
    step = [{"event": "emr_step", "step": "preview"}, {"event": "emr_step", "step": "apply"}]
    ok = {"event": "runner_on_ok", "event_data": {"host": "a"}}
    task = {"event": "playbook_on_task_start", "event_data": {"task": "Write"}}
    progress = progress_of([step[0], ok, ok, step[1], task, {"event": "runner_on_start"}, ok])
    assert (progress.step, progress.task, progress.ended) == ("apply", "Write", 1)
    assert progress.hosts == {"a": {"ok": 1}}
    assert (progress.steps, progress.expected) == (["preview", "apply"], {"a": 2})
    looked = progress_of([step[0], {"event": "emr_look", "asset": "a", "done": 1, "of": 2}])
    assert (looked.looks, looked.looks_of) == (1, 2)


def test_the_words_of_a_host_stay_apart_while_a_run_lasts() -> None:
    def ended(kind: str, **data: Any) -> dict[str, Any]:
        return {"event": f"runner_on_{kind}", "event_data": {"host": "a", **data}}

    changed, ignored = ended("ok", res={"changed": True}), ended("failed", ignore_errors=True)
    others = [ended(kind) for kind in ("ok", "failed", "unreachable", "skipped", "start", "retry", "async_poll")]
    assert progress_of([changed, ignored, *others]).hosts["a"] == {
        "ok": 2,
        "changed": 1,
        "failed": 1,
        "unreachable": 1,
        "skipped": 1,
    }


# ------------------------------------------------------------- what a host is owed by a run that was cut off


def result(kind: str, task: str, role: str = "r", host: str = "a", **data: Any) -> dict[str, Any]:
    return {"event": kind, "event_data": {"host": host, "role": role, "task": task} | data}


APPLY = {"event": "emr_step", "step": "apply"}
SET = result("runner_on_ok", "Set", emr_notified=["r : Restart", "r : Reload"])
RESTART = [result("runner_on_start", "Restart"), result("runner_on_ok", "Restart")]


@pytest.mark.parametrize(
    ("events", "left"),
    [
        ([APPLY, SET], {"a": ["r : Restart", "r : Reload"]}),
        ([{"event": "emr_step", "step": "preview"}, SET], {}),
        ([APPLY, SET, *RESTART], {"a": ["r : Reload"]}),
        ([APPLY, SET, RESTART[0]], {"a": ["r : Reload"]}),
        ([APPLY, SET, RESTART[0], result("runner_on_failed", "Restart")], {"a": ["r : Reload", "r : Restart"]}),
        ([APPLY, SET, RESTART[0], result("runner_on_unreachable", "Restart")], {"a": ["r : Reload", "r : Restart"]}),
        ([APPLY, SET, result("runner_on_start", "Restart", role="other")], {"a": ["r : Restart", "r : Reload"]}),
        ([APPLY, SET, result("runner_on_start", "Restart", host="b")], {"a": ["r : Restart", "r : Reload"]}),
        ([APPLY, SET, *RESTART, SET], {"a": ["r : Reload", "r : Restart"]}),
        ([APPLY, SET, {"event": "emr_step", "step": "round_after"}, *RESTART], {"a": ["r : Restart", "r : Reload"]}),
        ([APPLY, result("runner_on_failed", "Install")], {}),
    ],
)
def test_a_host_is_owed_what_was_notified_and_never_begun_in_the_apply(events: list[Any], left: Any) -> None:
    owed = Owed()
    for event in events:
        owed.take(event)
    assert owed.left() == left


def test_a_host_that_came_through_is_owed_only_what_this_run_had_no_handler_for() -> None:
    owed = Owed({"a": ["other : Restart"]})
    for event in (APPLY, SET, result("runner_on_ok", "Set", host="b", emr_notified=["r : Restart"])):
        owed.take(event)
    owed.came_through(["a", "c"])
    assert owed.left() == {"a": ["other : Restart"], "b": ["r : Restart"]}


def test_what_was_owed_before_is_owed_until_it_is_begun() -> None:
    owed = Owed({"a": ["r : Restart"], "b": ["r : Restart"]})
    for event in (APPLY, *RESTART):
        owed.take(event)
    assert owed.left() == {"b": ["r : Restart"]}
    assert by_handler({"b": ["x", "y"], "c": ["y"]}) == {"x": ["b"], "y": ["b", "c"]}


# -------------------------------------------------------------------------------------------------- the record


def test_hosts_are_locked_together_or_not_at_all(archive: Archive) -> None:
    with archive.host_locks(["b", "a"]):
        with archive.host_locks(["c", "d/e"]):
            pass
        with pytest.raises(BusyError, match=r"^host b$"), archive.host_locks(["c", "b"]):
            pass
        with archive.host_locks(["c"]):
            pass


def test_a_run_that_somebody_carries_out_is_not_taken_for_dead_and_a_dead_one_keeps_its_events(
    archive: Archive,
) -> None:
    clock = Clock()
    for name in ("lives", "dead"):
        archive.open_run(name, clock(), "p", "apply", ["a"], by="an", pin=a_pin().document())
    asked: list[str] = []

    def clear(id_: str) -> bytes:
        asked.append(id_)
        return b'{"event":"x"}\n'

    with archive.run_lock("lives"):
        assert archive.close_abandoned(clock(), clear) == ["dead"]
        archive.close_run("lives", clock(), "successful", {"id": "lives"})
    assert asked == ["dead"]
    assert archive.close_abandoned(clock(), clear) == []
    (link,) = archive.chain("run_interrupted")
    assert archive.vault.get(archive.body(link)["events"]) == b'{"event":"x"}\n'
    assert {run["id"]: run["state"] for run in archive.runs()} == {"lives": "successful", "dead": "interrupted"}
    assert not list(archive.lock_folder.glob("run-*"))


def test_runs_of_a_store_of_the_form_before_are_read_and_replayed_alike(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'emrctl.db'}")
    config = Config()
    config.set_main_option("script_location", str(ROOT / "controlplane" / "store" / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    migrate(engine)
    archive, clock = Archive(engine, Vault(tmp_path / "vault"), tmp_path / "locks"), Clock()
    archive.open_run("old", clock(), "p", "apply", ["a"])
    archive.close_run("old", clock(), "failed", {"id": "old"})
    found = archive.run("old")
    assert found is not None
    assert (found["by"], found["envelope"], found["applied_at"]) == (None, None, None)
    before = dump(archive)
    archive.reindex()
    assert dump(archive) == before
    engine.dispose()


def test_a_signature_names_one_dossier_and_holds_for_one_key(tmp_path: Path) -> None:
    key, other = (SigningKey.load_or_make(tmp_path / name) for name in ("a", "b"))
    envelope = key.envelope({"subject": [{"digest": {"sha256": "1" * 64}}]})
    assert signs(envelope, key.public_pem, "1" * 64)
    assert not signs(envelope, key.public_pem, "2" * 64)
    assert not signs(envelope, other.public_pem, "1" * 64)
    payload = json.loads(envelope)
    payload["payload"] = json.loads(other.envelope({"subject": [{"digest": {"sha256": "2" * 64}}]}))["payload"]
    assert not signs(json.dumps(payload).encode(), key.public_pem, "2" * 64)


FATES = st.lists(
    st.tuples(
        st.sampled_from(["kept", "failed", "dies", "asked to stop", "approved"]),
        st.booleans(),  # the store is opened by somebody else afterwards
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(FATES)
def test_whatever_befalls_runs_each_is_opened_and_closed_or_interrupted_and_replayed_alike(
    fates: list[tuple[str, bool]],
) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as at_work:
        engine = open_engine(f"sqlite:///{folder}/emrctl.db")
        migrate(engine)
        archive, clock = Archive(engine, Vault(Path(folder) / "vault"), Path(folder) / "locks"), Clock(NOON)
        expected = {}
        for number, (fate, opened) in enumerate(fates):
            clock.at += timedelta(seconds=1)
            expected[f"r{number}"] = befall(archive, clock, f"r{number}", fate)
            if opened:
                archive.close_abandoned(clock())
        archive.open_run("under way", clock(), "p", "apply", ["a"])
        at_work.enter_context(archive.run_lock("under way"))
        archive.close_abandoned(clock())
        assert {run["id"]: run["state"] for run in archive.runs()} == expected | {"under way": "running"}
        kinds = [(link.kind, archive.body(link)["id"]) for link in archive.chain() if link.kind in ENDS]
        assert sorted(id_ for _, id_ in kinds) == sorted(expected), "each is ended once"
        before = dump(archive)
        archive.reindex()
        assert dump(archive) == before
        assert archive.first_break(bodies=True) is None
        engine.dispose()


ENDS = ("run", "run_interrupted")


def befall(archive: Archive, clock: Clock, id_: str, fate: str) -> str:
    """One run and what became of it; the state in which it has to end."""
    with archive.run_lock(id_):
        archive.open_run(id_, clock(), "p", "preview", ["a"], by="an", preview=None, resumes="r0")
        if fate == "asked to stop":
            archive.ask_to_cancel(id_, clock(), "an")
        if fate == "dies":
            return "interrupted"
        state = {"failed": "failed", "asked to stop": "cancelled"}.get(fate, "successful")
        archive.close_run(
            id_, clock(), state, {"id": id_}, applied_at=stamp(clock()), sign=lambda digest: digest.encode()
        )
    if fate == "approved":
        archive.decide_run(id_, clock(), "requested", "an")
        archive.decide_run(id_, clock(), "approved", "chi")
    return state


def test_the_lock_of_a_dead_process_is_free(archive: Archive) -> None:
    child = os.fork()
    if child == 0:
        lock = archive.lock("host-a")
        lock.__enter__()
        os._exit(0)
    os.waitpid(child, 0)
    with archive.host_locks(["a"]):
        pass


def test_an_installed_release_tells_its_commit_where_no_checkout_lies(tmp_path):
    (tmp_path / "playbooks").mkdir()
    assert commit_of(tmp_path / "playbooks") is None
    (tmp_path / "RELEASE").write_text("version=0.1.0\ncommit=0123abcd\nmade_for=debian-12\n", encoding="utf-8")
    assert commit_of(tmp_path / "playbooks") == "0123abcd"


def test_the_unit_leaves_the_server_the_time_to_end_its_runs_and_its_clocks_in_order():
    unit = (ROOT / "playbooks" / "roles" / "control_plane" / "templates" / "emrctl.service.j2").read_text("utf-8")
    (given,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    carried = inspect.signature(Plane.end_carried).parameters["wait_seconds"].default
    clocks = 20 + 20 + Settings().look_deadline_seconds + 10  # nightly check, weekly drill, a round's last looks
    assert int(given) > carried + clocks
