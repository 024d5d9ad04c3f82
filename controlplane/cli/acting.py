"""Verbs that act on hosts: preview and apply a play."""

from __future__ import annotations

import difflib
import signal
from typing import Any

from controlplane.bootstrap import Plane
from controlplane.cli.base import FAILED, Json, Limit, app, leave, plane, progress_bar, screen, tasks_bar


@app.command("preview")
def preview_play(playbook: str, limit: Limit = None, json: Json = False) -> None:
    """What a play would change, task by task; nothing is changed."""
    run_play(playbook, "preview", limit, json)


@app.command("apply")
def apply_play(playbook: str, limit: Limit = None, json: Json = False) -> None:
    """Carry a play out, look again at its hosts, and keep the change dossier."""
    run_play(playbook, "apply", limit, json)


def run_play(playbook: str, mode: str, limit: list[str] | None, json: bool) -> None:
    """The one way a play is run from the command line."""
    stopping = False

    def stop(_signal: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGINT, stop)  # Ctrl-C ends the play in order, and its dossier is kept
    p = plane()
    with tasks_bar(quiet=json) as show, progress_bar(quiet=json) as looked:
        dossier = p.run_play(playbook, mode, limit or (), show, lambda: stopping, looked)
    if json:
        screen().json(dossier)
    else:
        show_dossier(p, dossier)
    leave(0 if dossier["run"]["state"] == "successful" else FAILED)


def show_dossier(p: Plane, dossier: dict[str, Any]) -> None:
    """A run on the terminal: what changed, per host, and what moved in the score."""
    run, s = dossier["run"], screen()
    for task in run["tasks"]:
        if task["status"] in ("changed", "would_change", "failed", "unreachable"):
            s.line(f"{task['host']}: {task['task']}: {task['status']} {task['message'][:300]}".rstrip())
            for diff in task["diff"]:
                for line in difflib.unified_diff(
                    diff["before"].splitlines(), diff["after"].splitlines(), "before", "after", lineterm="", n=1
                ):
                    s.line(f"    {line}", {"+": "green", "-": "red"}.get(line[:1], "dim"))
    for host, words in run["left_out"].items():
        s.line(f"{host}: {words[s.lang]}", "dim")
    recap = run["recap"].values()
    s.tell(
        "cli.run_done",
        play=dossier["play"],
        mode=dossier["mode"],
        state=run["state"],
        ok=sum(1 for h in recap if not h["failed"] and not h["unreachable"]),
        changed=sum(1 for h in recap if h["changed"]),
        change_word=s.say("cli.changed" if dossier["mode"] == "apply" else "cli.would_change"),
        failed=sum(1 for h in recap if h["failed"]),
        unreachable=sum(1 for h in recap if h["unreachable"]),
    )
    if run["detail"]:
        s.line(run["detail"], "yellow")
    if dossier.get("rounds"):
        s.difference(p.difference(*dossier["rounds"]))
    s.tell("cli.head", seal=dossier["seal"])
