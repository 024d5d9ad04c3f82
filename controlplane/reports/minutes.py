"""The minutes of a restore drill (biên bản) in the form of Decree 30/2020, from what the drill measured.

Names of people and what they found themselves are left to be filled in by hand: the drill knows neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from controlplane.domain.overview import Hospital
from controlplane.reports import nd30
from controlplane.reports.nd30 import Column, Head, Paper, paragraph, paragraph_of, run
from controlplane.texts import Say

_KEYS = (
    "dataset",
    "purpose",
    "repository",
    "snapshot",
    "snapshot_at",
    "rpo",
    "rto",
    "hashes",
    "wrong",
    "changed",
    "database",
)


def render_minutes(
    drill: Mapping[str, Any],
    purpose: str,
    hospital: Hospital,
    say: Say,
    rpo_minutes: int | None,
    *,
    hashed_only: bool = False,
) -> bytes:
    """A .docx. ``drill`` is the document of a rehearsal, ``rpo_minutes`` what the hospital declared, if it did.

    ``hashed_only``: a database that the hospital's own program dumps, so that no server can be asked about it.
    ``say`` must speak Vietnamese: minutes are an official document. Raises ``KeyError`` for a drill that lacks a part.
    """
    begun, ended = (datetime.fromisoformat(drill[key]) for key in ("started_at", "ended_at"))
    paper = Paper(title=f"{nd30.MINUTES}: {say('minutes.subject')}", author=hospital.name.vi, at=ended)
    symbol = f"{nd30.MINUTES_CODE}-{hospital.short_symbol}"
    paper.head(Head(hospital.parent_body.vi, hospital.name.vi, symbol, hospital.place, nd30.local_day(ended)))
    paper.name(nd30.MINUTES, [say("minutes.subject"), say("minutes.subject_of", purpose=purpose)])
    paper.add(paragraph("NoiDung", say("minutes.time", begun=nd30.local_time(begun), ended=nd30.local_time(ended))))
    paper.add(paragraph("NoiDung", say("minutes.place", place=hospital.name.vi)))
    for number, part in enumerate(("present", "done", "found", "concluded"), 1):
        paper.add(paragraph("Muc", f"{number}. {say(f'minutes.{part}')}"))
        _PARTS[part](paper, {**drill, "hashed_only": hashed_only}, purpose, say, rpo_minutes)
    paper.add(paragraph("NoiDung", say("minutes.closing", ended=nd30.local_time(ended)) + nd30.END_MARK, keep=True))
    paper.two_signatures(
        say("minutes.secretary"), say("minutes.chair"), [say("minutes.took_part")], hospital.archive_line
    )
    return paper.to_bytes()


def _present(paper: Paper, _drill: Mapping[str, Any], _purpose: str, say: Say, _rpo: int | None) -> None:
    for key in ("chair", "secretary", "others"):
        paper.add(paragraph("NoiDung", f"- {say(f'minutes.{key}')}: " + "." * 70))


def _done(paper: Paper, drill: Mapping[str, Any], _purpose: str, say: Say, _rpo: int | None) -> None:
    if not drill["snapshot"]:
        paper.add(paragraph("NoiDung", say("minutes.steps_planned")))
    paper.add(paragraph("NoiDung", say("minutes.steps", repository=drill["repository"])))
    if drill["database"]:
        paper.add(paragraph("NoiDung", say("minutes.steps_database")))


def _found(paper: Paper, drill: Mapping[str, Any], purpose: str, say: Say, rpo: int | None) -> None:
    taken = nd30.local_time(datetime.fromisoformat(drill["snapshot_at"])) if drill["snapshot_at"] else "-"
    values = {
        "dataset": drill["dataset"],
        "purpose": purpose,
        "repository": drill["repository"],
        "snapshot": drill["snapshot"][:16] or "-",
        "snapshot_at": taken,
        "rpo": _age(drill["rpo_seconds"], rpo, say),
        "rto": say("minutes.seconds", count=nd30.number(drill["rto_seconds"])),
        "hashes": nd30.number(drill["hashes_verified"]),
        "wrong": nd30.number(drill["hashes_wrong"]),
        "changed": nd30.number(drill["hashes_changed"]),
        "database": _database(drill, say),
    }
    rows = [[str(number), say(f"minutes.row.{key}"), values[key]] for number, key in enumerate(_KEYS, 1)]
    titles = [say(f"minutes.column.{key}") for key in ("number", "figure", "value")]
    columns = [Column(titles[0], 12, "center"), Column(titles[1], 68), Column(titles[2], 80)]
    paper.table(say("minutes.table"), columns, rows)
    for path in (*drill["wrong"], *drill["tables_wrong"]):
        paper.add(paragraph("NoiDung", say("minutes.wrong_one", path=path)))


def _age(seconds: int | None, rpo: int | None, say: Say) -> str:
    if seconds is None:
        return "-"
    minutes = nd30.number(round(seconds / 60, 1))
    if rpo is None:
        return say("minutes.rpo_undeclared", minutes=minutes)
    return say(
        "minutes.rpo_kept" if seconds <= rpo * 60 else "minutes.rpo_missed", minutes=minutes, most=nd30.number(rpo)
    )


def _database(drill: Mapping[str, Any], say: Say) -> str:
    if not drill["database"]:
        return say("minutes.hashed_only" if drill["hashed_only"] else "minutes.no_database")
    figures = {"tables": nd30.number(drill["tables"]), "rows": nd30.number(drill["rows"])}
    return say("minutes.tables", wrong=nd30.number(len(drill["tables_wrong"])), **figures)


def _concluded(paper: Paper, drill: Mapping[str, Any], _purpose: str, say: Say, _rpo: int | None) -> None:
    verdict = say("minutes.passed" if drill["ok"] else "minutes.failed")
    paper.add(paragraph_of("NoiDung", [run(verdict, bold=True)]))
    if drill["said"]:
        paper.add(paragraph("NoiDung", say("minutes.reason", said=drill["said"])))
    paper.add(paragraph("NoiDung", say("minutes.remarks")), paragraph("NoiDung", "." * 105))


_PARTS = {"present": _present, "done": _done, "found": _found, "concluded": _concluded}
