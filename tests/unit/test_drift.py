"""Checks of drift without a host: one that was stopped, a busy play, and what stays known meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from controlplane.bootstrap import Plane, init_store
from controlplane.bootstrap.acting import Order, Watch
from controlplane.cli.acting import show_drift
from controlplane.cli.base import OPTIONS
from controlplane.console import Screen
from controlplane.domain.chain import stamp
from controlplane.plays import PlayError
from controlplane.settings import Settings
from controlplane.store.archive import BusyError
from controlplane.store.tables import runs
from controlplane.web import playing
from tests.conftest import ROOT, Clock

EVENING = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)
NIGHT = datetime(2026, 11, 23, 19, 5, tzinfo=UTC)  # 02:05 in the hospital
HERE = "controlplane-01"
CRITERION = "tcvn14423.log.ntp"
PLAYS = ("time-ssh", "hardening", "monitoring")


def ended(plane: Plane, id_: str, mode: str, state: str = "successful", **more: Any) -> None:
    plane.archive.open_run(id_, plane.clock(), "time-ssh", mode, [HERE], **more)
    plane.archive.close_run(id_, plane.clock(), state, {"id": id_})


class Hosts:
    """What runs would find, in the place of Ansible: play -> (state, outcome of the host, tasks that differ)."""

    def __init__(self, plane: Plane) -> None:
        self.plane, self.stopped, self.opened = plane, False, []
        self.found: dict[str, tuple[str, str, list[str]]] = dict.fromkeys(PLAYS, ("successful", "ok", []))
        plane.__dict__["carry_out"] = self.carry_out
        for play in PLAYS:
            plane.archive.open_run(play, plane.clock(), play, "apply", [HERE])
            plane.archive.close_run(play, plane.clock(), "successful", {"id": play})

    def carry_out(self, order: Order, _watch: Watch) -> dict[str, Any]:
        state, outcome, tasks = self.found[order.play.id]
        if state == "busy":
            raise BusyError(f"host {HERE}")
        self.opened.append(order.play.id)
        if state == "cancelled":
            self.stopped = True
        task = {"host": HERE, "status": "would_change", "diff": [], "tags": [CRITERION]}
        run = {"outcomes": {HERE: outcome}, "tasks": [task | {"task": name} for name in tasks]}
        return {"id": f"run of {order.play.id}", "state": state, "run": run}

    def known(self) -> list[tuple[str, str]]:
        return [(d["play"], d["task"]) for d in self.plane.drift_by_criterion().get(CRITERION, [])]

    def check(self, *plays: str) -> dict[str, Any]:
        self.plane.clock.at += timedelta(minutes=1)  # type: ignore[attr-defined]
        self.opened = []
        return self.plane.drift(plays, cancelled=lambda: self.stopped, by="clock")


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    plane = init_store(Settings(home=ROOT, data_dir=tmp_path, round_every_minutes=0), Clock(EVENING))
    yield Hosts(plane)
    plane.archive.engine.dispose()


def test_a_night_that_was_stopped_is_not_done_opens_nothing_more_and_hides_nothing(hosts: Hosts) -> None:
    plane = hosts.plane
    hosts.found["time-ssh"] = ("successful", "changed", ["Clock"])
    hosts.found["monitoring"] = ("successful", "changed", ["Exporter"])
    first = hosts.check()
    assert (first["complete"], first["earlier"]) == (True, [])
    plane.clock.at = NIGHT  # type: ignore[attr-defined]
    assert plane.drift_is_due()
    order = [part["play"] for part in first["plays"]]
    hosts.found[order[0]] = ("cancelled", "cancelled", [])
    stopped = hosts.check()
    assert hosts.opened == order[:1], "the plays that were left are not begun"
    assert [part["state"] for part in stopped["plays"]] == ["cancelled"] * 3
    assert [part["run"] is None for part in stopped["plays"]] == [False, True, True]
    assert stopped["complete"] is False
    assert plane.drift_is_due(), "it is made up"
    assert sorted(hosts.known()) == [("monitoring", "Exporter"), ("time-ssh", "Clock")]
    assert {d["seen_at"] for d in stopped["earlier"]} == {first["at"]}
    again = hosts.check()
    assert again["earlier"] == stopped["earlier"], "however often it is stopped"
    hosts.stopped = False
    hosts.found = dict.fromkeys(PLAYS, ("successful", "ok", []))
    assert hosts.check()["complete"] is True
    assert (plane.drift_is_due(), hosts.known()) == (False, [])


def test_a_busy_play_and_a_host_that_is_off_keep_what_was_known_of_them(hosts: Hosts) -> None:
    hosts.found["time-ssh"] = ("successful", "changed", ["Clock", "SSH"])
    hosts.check()
    hosts.found["time-ssh"] = ("busy", "", [])
    busy = hosts.check()
    assert (busy["complete"], hosts.known()) == (True, [("time-ssh", "Clock"), ("time-ssh", "SSH")])
    rows = {row.id: row.drift for row in playing.play_rows(hosts.plane, hosts.plane.judgement())}
    assert rows["time-ssh"] is not None
    assert (rows["time-ssh"].state, rows["time-ssh"].differences) == ("refused", 2)
    hosts.found["time-ssh"] = ("unreachable", "unreachable", [])
    hosts.check()
    assert hosts.known() == [("time-ssh", "Clock"), ("time-ssh", "SSH")]
    hosts.found["time-ssh"] = ("failed", "failed", ["SSH"])
    assert [d["task"] for d in hosts.check()["earlier"]] == ["Clock"], "what was seen again is told once"
    hosts.found["time-ssh"] = ("successful", "ok", [])
    hosts.check()
    assert hosts.known() == []


def test_a_check_of_one_play_is_no_night_and_hides_no_other_play(
    hosts: Hosts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.found["time-ssh"] = ("successful", "changed", ["Clock"])
    hosts.check()
    hosts.plane.clock.at = NIGHT  # type: ignore[attr-defined]
    one = hosts.check("hardening")
    assert ([part["play"] for part in one["plays"]], one["complete"]) == (["hardening"], False)
    assert hosts.plane.drift_is_due()
    assert hosts.known() == [("time-ssh", "Clock")]
    rows = {row.id: row.drift for row in playing.play_rows(hosts.plane, hosts.plane.judgement())}
    assert rows["time-ssh"] is not None
    assert (rows["time-ssh"].at, rows["time-ssh"].differences) == (one["earlier"][0]["seen_at"], 1)
    monkeypatch.setattr(OPTIONS, "screen", Screen("en", ZoneInfo("Asia/Ho_Chi_Minh")))
    show_drift(one)
    told = "(time-ssh): Clock — differed at the check of 23/11/2026 20:01; this time the host was not seen again."
    assert f"{HERE} {told}" in capsys.readouterr().out


def test_however_many_nights_have_passed_the_last_apply_and_the_use_of_a_preview_are_known(hosts: Hosts) -> None:
    plane = hosts.plane
    ended(plane, "old preview", "preview", pin={"play": "time-ssh"})
    ended(plane, "old apply", "apply", preview="old preview")
    at, night = stamp(plane.clock()), {"play": "time-ssh", "mode": "drift", "state": "successful", "hosts": "[]"}
    # Rows alone, and more of them than any window that was ever looked through.
    nights = [
        night | {"id": f"night {number}", "opened_seq": 1000 + number, "started_at": at, "ended_at": at}
        for number in range(10_001)
    ]
    with plane.archive.engine.begin() as connection:
        connection.execute(runs.insert(), nights)
    rows = {row.id: row for row in playing.play_rows(plane, plane.judgement())}
    row = rows["time-ssh"]
    assert row.applied is not None
    assert row.previewed is not None
    assert (row.applied.id, row.previewed.id, row.under_way) == ("old apply", "old preview", None)
    standing = playing.standing_of(plane, plane.archive.run("old preview") or {})
    assert (standing.applied_by, standing.may_be_applied) == ("old apply", False)
    assert plane.applied_hosts()["time-ssh"] == [HERE]
    with pytest.raises(PlayError, match="was carried out by the run old apply"):
        plane._refuse_unanswered(plane.plays["time-ssh"], {"id": "old preview", "approval": None}, needed=False)
