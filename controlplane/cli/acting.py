"""Verbs that act on hosts: preview, approve, apply, cancel and resume a play; what was run; what has drifted."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from controlplane.bootstrap import Plane
from controlplane.bootstrap.following import NOBODY
from controlplane.cli.base import (
    BROKEN,
    FAILED,
    USAGE,
    Json,
    Limit,
    app,
    fail,
    leave,
    plane,
    progress_bar,
    rules,
    screen,
    tasks_bar,
)
from controlplane.plays import by_handler

By = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="The account that acts; its password is asked for.")
]
Me = Annotated[str, typer.Option("--by", metavar="NAME", help="The account that acts; its password is asked for.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option("--password-file", help="A file of mode 0600 with the password, instead of the question."),
]
BreakGlass = Annotated[
    str | None,
    typer.Option(
        "--break-glass", metavar="REASON", help="Why a disruptive play cannot wait for the evening; needs --by."
    ),
]


@app.command("preview")
def preview_play(
    playbook: str, limit: Limit = None, by: By = None, password_file: PasswordFile = None, json: Json = False
) -> None:
    """What a play would change, task by task; nothing is changed."""
    p = plane()
    who = person(p, by, password_file)
    run_play(p, lambda *watch: p.run_play(playbook, "preview", limit or (), *watch, by=who), json)


@app.command("apply")
def apply_play(
    playbook: str,
    limit: Limit = None,
    preview: Annotated[
        str | None, typer.Option("--preview", metavar="RUN", help="Carry out exactly this preview, on its hosts.")
    ] = None,
    break_glass: BreakGlass = None,
    by: By = None,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Carry a play out, look again at its hosts, and keep the signed change dossier."""
    p = plane()
    options: dict[str, Any] = {
        "by": person(p, by, password_file),
        "preview_id": preview or "",
        "break_glass": break_glass or "",
    }
    run_play(p, lambda *watch: p.run_play(playbook, "apply", limit or (), *watch, **options), json)


@app.command("resume")
def resume_run(
    run: str, break_glass: BreakGlass = None, by: By = None, password_file: PasswordFile = None, json: Json = False
) -> None:
    """Apply again, only on the hosts that failed, were unreachable or were cancelled."""
    p = plane()
    options: dict[str, Any] = {"by": person(p, by, password_file), "break_glass": break_glass or ""}
    run_play(p, lambda *watch: p.resume_run(run, *watch, **options), json)


@app.command("request")
def request_approval(
    run: str,
    by: Me,
    note: Annotated[str, typer.Option(help="What it is for, for the one who approves.")] = "",
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Ask for the approval of a preview."""
    p = plane()
    tell_decision(p.request_approval(run, person(p, by, password_file), note), json)


@app.command("approve")
def approve_run(
    run: str,
    by: Me,
    note: Annotated[str, typer.Option(help="Kept with the approval.")] = "",
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Approve the apply of exactly this preview: somebody else than who asked, with another role."""
    p = plane()
    tell_decision(p.approve_run(run, person(p, by, password_file), note), json)


@app.command("refuse")
def refuse_run(
    run: str,
    by: Me,
    reason: Annotated[str, typer.Option(help="Why not; kept in the chain.")],
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Refuse the apply of a preview, with a reason."""
    p = plane()
    tell_decision(p.refuse_run(run, person(p, by, password_file), reason), json)


@app.command("cancel")
def cancel_run(run: str, by: By = None, password_file: PasswordFile = None, json: Json = False) -> None:
    """Stop a run, whichever process carries it out. Its dossier is kept."""
    p = plane()
    link = p.cancel_run(run, person(p, by, password_file))
    if json:
        screen().json({"run": run, "link": link.seq, "seal": link.seal})
    else:
        screen().tell("cli.cancel_asked", run=run)


@app.command("plays")
def list_plays(json: Json = False) -> None:
    """The plays there are: what each does, for which hosts, whether it interrupts work and who has to say yes."""
    with rules() as r:
        plays = list(r.plays.values())
    if json:
        screen().json([{**vars(play), "playbook": play.playbook.name} for play in plays])
    else:
        screen().out.print(screen().plays(plays))


@app.command("runs")
def list_runs(json: Json = False) -> None:
    """Every preview, apply and check of drift, the newest first."""
    runs = plane().archive.runs(1000)
    if json:
        screen().json(runs)
    elif not runs:
        screen().tell("cli.no_runs")
    for run in () if json else runs:
        words = [run["id"], run["play"], f"{screen().say('web.mode.' + run['mode'])}", said_state(run["state"])]
        if run["approval"]:
            words.append(screen().say(f"approval.{run['approval']}"))
        screen().line("\t".join(words))


@app.command("run")
def show_run(run: str, json: Json = False) -> None:
    """The dossier of one run, and whether its signature holds. Exit 4 when it does not."""
    p = plane()
    line, signature = p.run_line(run), p.signature_of(run)
    found = p.archive.run(run) or {}
    if json:
        told = {"approvals": p.archive.decisions(run), "signature": signature, "owed": p.owed_after(run)}
        screen().json({**found, **told})
        leave(BROKEN if signature["holds"] is False else 0)
        return
    body = found["body"] or {}
    if body and ("error" not in body or body.get("run") or body.get("preview")):
        show_dossier(p, body)
    else:
        show_owed(p.owed_after(run))
    if not body or "error" in body:
        words = (body.get("error") or {}).get(screen().lang, "")
        screen().line(f"{line['play']}: {said_state(line['state'])} {words}".rstrip())
    for decision in p.archive.decisions(run):
        tell_decision(decision, json=False)
    word = {True: "holds", False: "broken", None: "none"}[signature["holds"]]
    screen().tell(f"cli.signature_{word}", fingerprint=signature["key"], digest=signature["dossier"] or "-")
    leave(BROKEN if signature["holds"] is False else 0)


@app.command("drift")
def check_drift(
    plays: Annotated[list[str] | None, typer.Argument(help="Plays; none: every one that was applied.")] = None,
    json: Json = False,
) -> None:
    """Preview every applied play on its hosts and keep what differs. Exit 1 when something does, or was not seen."""
    p = plane()
    with tasks_bar(quiet=json) as show:
        found = p.drift(plays or (), show)
    if json:
        screen().json(found)
    else:
        show_drift(found)
    ended_well = all(part["state"] in ("successful", "no_hosts") for part in found["plays"])
    leave(0 if ended_well and not any(part["differences"] for part in found["plays"]) else FAILED)


def show_drift(found: dict[str, Any]) -> None:
    """What has moved away from what was applied, and the criteria it stands for."""
    s = screen()
    if not found["plays"]:
        s.tell("cli.drift_nothing")
    for part in found["plays"]:
        for difference in part["differences"]:
            s.line(f"{difference['host']}: {difference['task']} {' '.join(difference['criteria'])}".rstrip(), "yellow")
            show_diffs(difference["diff"])
        if part["error"]:
            s.line(part["error"][s.lang], "yellow")
        figures = {"hosts": len(part["hosts"]), "differences": len(part["differences"])}
        s.tell("cli.drift_of", play=part["play"], state=said_state(part["state"]), **figures)
    for known in found["earlier"]:
        words = {key: known[key] for key in ("host", "play", "task")}
        s.tell("cli.drift_earlier", at=s.time(datetime.fromisoformat(known["seen_at"])), **words)
    s.tell("cli.head", seal=found["seal"])


def person(p: Plane, name: str | None, password_file: Path | None) -> str:
    """Who acts: an account that gave its password, or nobody by name."""
    if name is None:
        return NOBODY
    if password_file is None:
        password = typer.prompt(screen().say("cli.password_of", name=name), hide_input=True, err=True)
    else:
        if password_file.stat().st_mode & 0o077:
            fail("cli.password_file_open", USAGE, path=password_file)
        password = password_file.read_text(encoding="utf-8").rstrip("\n")
    return p.accounts.check(name, password, p.clock()).name


def tell_decision(decision: dict[str, Any], json: bool) -> None:
    """Who asked for or answered what."""
    if json:
        screen().json(decision)
        return
    word, note = screen().say(f"approval.{decision['state']}"), decision["note"]
    figures = {"run": decision["run"], "by": decision["by"], "role": screen().say(f"role.{decision['role']}")}
    screen().tell("cli.decision", word=word, note=f" {note}" if note else "", **figures)


def run_play(p: Plane, carry: Callable[..., dict[str, Any]], json: bool) -> None:
    """The one way a play is run from the command line."""
    stopping = False

    def stop(_signal: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGINT, signal.SIGTERM):  # either ends the play in order, and its dossier is kept
        signal.signal(number, stop)
    with tasks_bar(quiet=json) as show, progress_bar(quiet=json) as looked:
        dossier = carry(show, lambda: stopping, looked)
    if json:
        screen().json(dossier)
    else:
        show_dossier(p, dossier)
        screen().tell("cli.run_id", run=dossier["id"])
        screen().tell("cli.head", seal=dossier["seal"])
    leave(0 if dossier["state"] == "successful" else FAILED)


def said_state(word: str) -> str:
    """How something ended, in words."""
    return screen().say(f"web.state.{word}")


def show_diffs(diffs: list[dict[str, Any]]) -> None:
    """Both sides of what differs, as a unified difference."""
    for diff in diffs:
        sides = (diff["before"].splitlines(), diff["after"].splitlines())
        for line in difflib.unified_diff(*sides, "before", "after", lineterm="", n=1):
            screen().line(f"    {line}", {"+": "green", "-": "red"}.get(line[:1], "dim"))


def show_owed(owed: Mapping[str, Sequence[str]]) -> None:
    """Services that have not read their new settings yet, and where."""
    if owed:
        screen().tell("web.runs.owed")
    for handler, hosts in by_handler(owed).items():
        screen().line(f"  {handler}: {', '.join(hosts)}", "yellow")


NOT_COME_TO: dict[str, Any] = {"tasks": [], "left_out": {}, "detail": ""}
"""Of a run that was stopped before its preview."""


def show_dossier(p: Plane, dossier: dict[str, Any]) -> None:
    """A run on the terminal: what changed, per host, why it was allowed, and what moved in the score."""
    run, s = dossier.get("run") or dossier.get("preview") or NOT_COME_TO, screen()
    state = dossier.get("state") or run["state"]
    for task in run["tasks"]:
        if task["status"] in ("changed", "would_change", "failed", "unreachable"):
            status = said_state(task["status"])
            s.line(f"{task['host']}: {task['task']}: {status} {task['message'][:300]}".rstrip())
            show_diffs(task["diff"])
    for host, words in run["left_out"].items():
        s.line(f"{host}: {words[s.lang]}", "dim")
    for name, digest in ((dossier.get("pin") or {}).get("shipped") or {}).items():
        s.tell("cli.shipped", name=name, digest=digest or "-")
    if glass := dossier.get("break_glass"):
        s.tell("cli.break_glass", reason=glass["reason"], by=glass["by"])
    outcomes = list((run.get("outcomes") or {}).values())
    s.tell(
        "cli.run_done",
        play=dossier["play"],
        mode=s.say(f"web.mode.{dossier['mode']}"),
        state=said_state(state),
        ok=outcomes.count("ok") + outcomes.count("changed"),
        changed=outcomes.count("changed"),
        change_word=s.say("cli.changed" if dossier["mode"] == "apply" else "cli.would_change"),
        failed=outcomes.count("failed"),
        unreachable=outcomes.count("unreachable"),
        cancelled=outcomes.count("cancelled"),
    )
    if run["detail"]:
        s.line(run["detail"], "yellow")
    show_owed(dossier.get("owed") or {})
    if len(dossier.get("rounds") or ()) == 2:
        s.difference(p.difference(*dossier["rounds"]))
        if state != "successful":
            s.tell("cli.run_rest", run=dossier["id"])
    elif dossier["mode"] == "apply":
        s.tell("cli.run_unmeasured" if state == "successful" else "cli.run_untouched", run=dossier["id"])
