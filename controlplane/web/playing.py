"""What pages and API show of plays and runs: what a play would mend now, how far a run is, what may be done with it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.bootstrap import Judgement, Plane
from controlplane.bootstrap.acting import UNFINISHED
from controlplane.domain.model import Check, Verdict, Words
from controlplane.plays import Play, by_handler
from controlplane.store.bundle import SigningKeyError
from controlplane.store.vault import VaultError
from controlplane.web.errors import RequestError

WORDS = ("ok", "changed", "failed", "unreachable", "skipped")


@dataclass(frozen=True)
class LastRun:
    """The newest run of a play in one mode."""

    id: str
    mode: str
    state: str
    at: datetime
    hosts: list[str]


@dataclass(frozen=True)
class DriftState:
    """What the newest check of drift said of one play."""

    at: str
    state: str
    run: str | None
    differences: int  # with those of hosts that an earlier check saw, and this one did not come through to


@dataclass(frozen=True)
class PlayRow:
    """A play with what it would mend now."""

    id: str
    title: Words
    summary: Words
    hosts: str  # the inventory group it is meant for
    members: tuple[str, ...]  # hosts of that group
    disruptive: bool
    approval: str
    strict_hosts: tuple[str, ...]  # on these the inventory asks for a second role, whatever the play
    waits_for_the_evening: bool
    checks: tuple[str, ...]  # those that name it as their remedy
    measured: int  # of these, how many say met or not met of something today
    not_met: Mapping[str, tuple[str, ...]]  # of these, check -> assets on which it is not met now
    criteria: tuple[str, ...]  # what its checks stand for
    mends: tuple[str, ...]  # of these, criteria that are not met now, by a check of this play
    previewed: LastRun | None
    applied: LastRun | None
    under_way: LastRun | None
    drift: DriftState | None


def play_rows(plane: Plane, judgement: Judgement) -> list[PlayRow]:
    """Every play in the order of plays.yaml."""
    inventory, _ = plane.inventory()
    groups: dict[str, list[str]] = {}
    for asset in inventory.assets.values():
        for role in asset.roles:
            groups.setdefault(role, []).append(asset.name)
    failing: dict[str, list[str]] = {}
    measured = {f.check for f in judgement.findings if f.verdict in (Verdict.MET, Verdict.NOT_MET)}
    for finding in judgement.findings:
        if finding.verdict is Verdict.NOT_MET:
            failing.setdefault(finding.check, []).append(finding.asset)
    low = {score.id for score in judgement.card.criteria if score.verdict is Verdict.NOT_MET}
    runs, drift = plane.archive.newest_runs(), plane.last_drift()
    return [_row(plane, play, judgement, groups, failing, measured, low, runs, drift) for play in plane.plays.values()]


def _row(
    plane: Plane,
    play: Play,
    judgement: Judgement,
    groups: Mapping[str, Sequence[str]],
    failing: Mapping[str, Sequence[str]],
    measured: set[str],
    low: set[str],
    runs: Sequence[Mapping[str, Any]],
    drift: Mapping[str, Any] | None,
) -> PlayRow:
    checks = sorted((c for c in judgement.catalog.checks.values() if c.remedy == play.id), key=lambda c: c.id)
    not_met = {c.id: tuple(failing[c.id]) for c in checks if c.id in failing}
    mine = [run for run in runs if run["play"] == play.id]
    return PlayRow(
        play.id,
        play.title,
        play.summary,
        play.hosts,
        tuple(sorted(groups.get(play.hosts, ()))),
        play.disruptive,
        play.approval,
        plane.strict_hosts(groups.get(play.hosts, ())),
        plane.waits_for_the_evening(play),
        tuple(c.id for c in checks),
        sum(1 for c in checks if c.id in measured),
        not_met,
        _criteria(checks),
        tuple(id_ for id_ in _criteria([c for c in checks if c.id in not_met]) if id_ in low),
        _newest(mine, "preview"),
        _newest(mine, "apply"),
        next((_last(run) for run in mine if run["state"] == "running"), None),
        _drift_of(play.id, drift),
    )


def _criteria(checks: Sequence[Check]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(id_ for check in checks for id_ in (*check.serves, *check.partly)))


def _newest(runs: Sequence[Mapping[str, Any]], mode: str) -> LastRun | None:
    return next((_last(run) for run in runs if run["mode"] == mode and run["state"] != "running"), None)


def _last(run: Mapping[str, Any]) -> LastRun:
    return LastRun(run["id"], run["mode"], run["state"], run["started_at"], run["hosts"])


def _drift_of(play_id: str, drift: Mapping[str, Any] | None) -> DriftState | None:
    if drift is None:
        return None
    earlier = [d for d in drift["earlier"] if d["play"] == play_id]
    for part in drift["plays"]:
        if part["play"] == play_id:
            return DriftState(drift["at"], part["state"], part["run"], len(part["differences"]) + len(earlier))
    if not earlier:
        return None
    newest = max(earlier, key=lambda d: str(d["seen_at"]))
    return DriftState(newest["seen_at"], "successful", newest["run"], len(earlier))


# -------------------------------------------------------------------------------------------- one run


@dataclass(frozen=True)
class HostProgress:
    """How far a run is on one host; in a preview, ``changed`` counts what an apply would change."""

    host: str
    task: str  # the newest one
    ok: int
    changed: int
    failed: int
    unreachable: int
    skipped: int
    ended: int
    expected: int  # how many the preview of this run counted; 0 where nobody knows


@dataclass(frozen=True)
class RunProgress:
    """How far a run is."""

    run: str
    play: str
    mode: str
    state: str
    cancelled_by: str | None
    step: str  # round_before, preview, apply, round_after, drift; empty before the first
    steps: tuple[str, ...]
    task: str
    looks: int
    looks_of: int
    hosts: tuple[HostProgress, ...]
    events: int  # how many it had so far


def progress_of(plane: Plane, line: Mapping[str, Any]) -> RunProgress:
    """How far a run is, host by host; a host that nothing was heard of yet stands there with zeros."""
    found = plane.progress(line["id"])
    hosts = []
    for host in sorted({*line["hosts"], *found.hosts}):
        tally: Mapping[str, int] = found.hosts.get(host, {})
        counts = {word: tally.get(word, 0) for word in WORDS}
        newest, expected = found.last.get(host, ""), found.expected.get(host, 0)
        hosts.append(HostProgress(host, newest, **counts, ended=sum(counts.values()), expected=expected))
    return RunProgress(
        line["id"],
        line["play"],
        line["mode"],
        line["state"],
        line["cancelled_by"],
        found.step,
        tuple(found.steps),
        found.task,
        found.looks,
        found.looks_of,
        tuple(hosts),
        found.events,
    )


STAGES = {"apply": ("round_before", "preview", "apply", "round_after"), "preview": ("preview",), "drift": ("drift",)}


def stages_of(progress: RunProgress) -> list[tuple[str, str]]:
    """(step, done | now | ahead) of everything a run of this mode comes to."""
    steps = STAGES.get(progress.mode, ())
    here = steps.index(progress.step) if progress.step in steps else -1
    return [(step, "now" if i == here else "done" if i < here else "ahead") for i, step in enumerate(steps)]


@dataclass(frozen=True)
class HostTasks:
    """What a run did, or would do, on one host."""

    host: str
    outcome: str  # ok, changed, failed, unreachable, cancelled
    moved: Sequence[Mapping[str, Any]]  # tasks that changed something, would change it, or failed
    quiet: int


def by_host(done: Mapping[str, Any], moved: Sequence[Mapping[str, Any]]) -> list[HostTasks]:
    """The tasks of a run, host by host; those with something to see come first."""
    outcomes: Mapping[str, str] = done.get("outcomes") if isinstance(done.get("outcomes"), Mapping) else {}  # type: ignore[assignment]
    tasks = [task for task in done.get("tasks") or () if isinstance(task, Mapping)]
    hosts = dict.fromkeys([*outcomes, *(str(task.get("host", "")) for task in tasks)])
    found = []
    for host in hosts:
        mine = [task for task in moved if task["host"] == host]
        all_ = sum(1 for task in tasks if task.get("host") == host)
        found.append(HostTasks(host, outcomes.get(host, ""), mine, all_ - len(mine)))
    return sorted(found, key=lambda h: (not h.moved, h.host))


MOST_DIFF_LINES = 400


def diff_lines(before: str, after: str) -> list[tuple[str, str]]:
    """(sign, line) of what differs, as one column that a phone can show; the sign is "+", "-", " " or "@"."""
    sides = (before.splitlines(), after.splitlines())
    lines = list(difflib.unified_diff(*sides, lineterm="", n=2))[2:]
    shown = [(line[:1] or " ", "" if line.startswith("@@") else line[1:]) for line in lines[:MOST_DIFF_LINES]]
    left = len(lines) - len(shown)
    return [*shown[1:], *([("@", f"… +{left}")] if left > 0 else [])] if shown else []


@dataclass(frozen=True)
class Standing:
    """What stands beside a run: its signature, what was asked and answered, and what may be done next."""

    signature: bool | None  # of the dossier: holds, is broken, or there is none
    fingerprint: str
    decisions: tuple[Mapping[str, Any], ...]
    applied_by: str | None  # the run that carried this preview out
    resumed_by: str | None  # the run that went on with this one
    resumable: bool
    may_be_applied: bool
    waits_for_the_evening: bool
    owed: Mapping[str, Sequence[str]]  # handler -> hosts on which an apply notified it and did not come to it
    needs_second: bool  # somebody with another role has to say yes, by the play or by one of its hosts


def standing_of(plane: Plane, run: Mapping[str, Any]) -> Standing:
    """Raises ``RequestError`` when what was kept is damaged."""
    try:
        owed = plane.owed_after(run["id"])
        signature = plane.signature_of(run["id"])
    except SigningKeyError:
        signature = {"holds": None, "key": ""}
    except VaultError as error:
        raise RequestError(500, "damaged", why=str(error)) from None
    used = next((r["id"] for r in plane.archive.runs(1, preview=run["id"])), None)
    resumed = plane.archive.resumed_by(run["id"])
    play, pinned = plane.plays.get(run["play"]), "pin" in (run.get("opened") or {})
    previewed = run["mode"] == "preview" and run["state"] in ("successful", "unreachable") and pinned
    needs_second = play is not None and plane.needs_second_role(play, run["hosts"])
    decisions = plane.archive.decisions(run["id"])
    approved = run["approval"] == "approved" and plane.lapsed(run["id"], decisions) is None
    allowed = play is not None and (not needs_second or approved)
    return Standing(
        signature["holds"],
        signature["key"],
        tuple(decisions),
        used,
        resumed,
        run["mode"] == "apply" and run["state"] in UNFINISHED and pinned and resumed is None and play is not None,
        previewed and allowed and used is None,
        play is not None and plane.waits_for_the_evening(play),
        by_handler(owed),
        needs_second,
    )
