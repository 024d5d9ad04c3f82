"""Verbs about the law and what people say of it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from controlplane.bootstrap import Paper, Rules
from controlplane.cli.base import (
    FAILED,
    USAGE,
    Json,
    app,
    day_of,
    fail,
    leave,
    plane,
    refuse_criterion,
    refuse_existing,
    rules,
    screen,
    write_whole,
)
from controlplane.domain.declared import Word, WordError
from controlplane.domain.duties import DutyError, due_dates, incident_clocks
from controlplane.domain.leveling import AnswerError, determine
from controlplane.domain.model import Declared
from controlplane.intake import IntakeError


@app.command()
def declare(
    criteria: Annotated[list[str], typer.Argument(help="The criteria it is about.")],
    by: Annotated[str, typer.Option(help="Who answers for it: an office, not a person's name.")],
    statement: Annotated[str, typer.Option(help="What is declared, in one sentence.")],
    kind: Annotated[Declared, typer.Option(help="What kind of word it is.")] = Declared.ATTESTATION,
    until: Annotated[str | None, typer.Option(metavar="DAY", help="Its last day, for example 2027-06-30.")] = None,
    issued_on: Annotated[str | None, typer.Option(metavar="DAY", help="When the document was signed.")] = None,
    effective_on: Annotated[str | None, typer.Option(metavar="DAY", help="From when it stands.")] = None,
    number: Annotated[str, typer.Option(help="The document's number, for example 12/QĐ-BVNT.")] = "",
    signer: Annotated[str, typer.Option(help="The signer's office.")] = "",
    count: Annotated[int | None, typer.Option(help="How many assets are declared.")] = None,
    document: Annotated[list[Path] | None, typer.Option(help="A document or photograph; repeatable.")] = None,
    json: Json = False,
) -> None:
    """Keep somebody's word about criteria, with its documents, in the chain. It counts where a word can count."""
    p = plane()
    who = (by.strip(), statement.strip(), number.strip(), signer.strip())
    word = Word(tuple(criteria), kind, *who, day_of(issued_on), day_of(effective_on), day_of(until), count)
    try:
        link = p.declare(word, [paper_of(path) for path in document or ()])
    except WordError as error:
        if error.reason.code == "unknown_criterion":
            refuse_criterion(p, error.reason.figures["criterion"])
        fail(f"declare.{error.reason.code}", USAGE, **error.reason.figures)
    if json:
        screen().json(link)
    else:
        screen().tell("cli.declared", criteria=", ".join(word.criteria), link=link.seq)
        screen().tell("cli.head", seal=link.seal)


def paper_of(path: Path) -> Paper:
    """A document from a file, examined. The size is looked at before the file is read."""
    p = plane()
    if not path.is_file() or path.stat().st_size > p.settings.document_most_mb * 1_000_000:
        fail("cli.declare_document", USAGE, path=path, most=p.settings.document_most_mb)
    try:
        return p.examine(path.name, path.read_bytes())
    except IntakeError as error:
        screen().complain(f"{path.name}: {error.words.vi}\n{path.name}: {error.words.en}")
        raise typer.Exit(USAGE) from None


@app.command("level")
def determine_level(
    answers: Annotated[list[str] | None, typer.Argument(metavar="QUESTION=ANSWER", help="yes, no or a number.")] = None,
    json: Json = False,
) -> None:
    """The security level of a system by decree 331/2026, with the rules behind it. No answer: the questions."""
    with rules() as r:
        questionnaire, s = r.questionnaire, screen()
    given = dict(map(answer_of, answers or ()))
    try:
        found = determine(questionnaire, given)
    except AnswerError as error:
        fail("cli.bad_answer", USAGE, text=" ".join(answers or ()), why=str(error))
    if json:
        s.json({"questions": questionnaire.questions, "answers": given, "determination": found})
        return
    if not given:
        for q in questionnaire.questions:
            s.tell("cli.level_question", id=q.id, kind=q.kind, title=q.title)
    nothing = s.say("cli.no_level")
    s.tell("cli.level_is", level=found.level or nothing, possible=found.possible or nothing)
    for match in found.matched:
        rule = match.rule
        s.tell("cli.level_rule", level=rule.level, title=rule.title, clause=rule.clause, confidence=rule.confidence)
    for q in found.open:
        s.tell("cli.level_open", question=q.title, id=q.id)
    for note in found.notes:
        s.tell("cli.level_note", text=note.text, clause=note.clause)


def answer_of(text: str) -> tuple[str, bool | int]:
    """QUESTION=yes|no|number."""
    name, _, value = text.partition("=")
    if value.casefold() in YES_NO:
        return name, YES_NO[value.casefold()]
    if not value.isdecimal():
        fail("cli.bad_answer", USAGE, text=text, why=name)
    return name, int(value)


YES_NO = {"yes": True, "no": False, "có": True, "không": False}


@app.command("duties")
def list_duties(
    level: Annotated[str | None, typer.Option(help="Only what binds this security level: 1, 2 or 3.")] = None,
    dossiers: Annotated[bool, typer.Option("--dossiers", help="The parts of every dossier instead.")] = False,
    json: Json = False,
) -> None:
    """What the law asks at its time: duties by date with the days left, or the parts of dossiers."""
    p, s = plane(), screen()
    try:
        rows = due_dates(p.duties, p.today, level=level, done=p.filed("duty"))
    except DutyError as error:
        fail("cli.bad_duty", USAGE, why=str(error))
    parts = p.filed("part")
    if json:
        s.json({"duties": rows, "dossiers": p.duties.dossiers, "parts_there": parts, "penalties": p.duties.penalties})
    elif dossiers:
        for entry in p.duties.dossiers:
            there = sum(1 for part in entry.parts if f"{entry.id}.{part.id}" in parts)
            s.tell("cli.dossier", id=entry.id, title=entry.title, there=there, count=len(entry.parts))
            for number, part in enumerate(entry.parts, start=1):
                mark = "✓" if f"{entry.id}.{part.id}" in parts else " "
                clause = part.clause or entry.basis.clause
                s.tell("cli.part", mark=mark, id=part.id, number=number, title=part.title, clause=clause)
    else:
        s.out.print(s.duties(rows))


@app.command("file")
def file_done(
    name: Annotated[str, typer.Argument(metavar="DUTY|DOSSIER.PART", help="A duty, or a part of a dossier.")],
    by: Annotated[str, typer.Option(help="Who did it: an office.")],
    done_on: Annotated[str | None, typer.Option("--on", metavar="DAY", help="When; none: today.")] = None,
    document: Annotated[Path | None, typer.Option(help="The document that shows it.")] = None,
    json: Json = False,
) -> None:
    """Keep in the chain that a duty was done, or that a part of a dossier is there."""
    p = plane()
    day = day_of(done_on) or p.today
    if day > p.today:
        fail("cli.day_ahead", USAGE, text=done_on)
    try:
        link = p.file(name, by, day, paper_of(document) if document else None)
    except DutyError as error:
        fail("cli.bad_duty", USAGE, why=str(error))
    if json:
        screen().json(link)
    else:
        screen().tell("cli.filed", name=name, link=link.seq)


@app.command("incident")
def incident_deadlines(
    noticed_at: Annotated[str, typer.Argument(metavar="TIME", help="When it was noticed, the hospital's time.")],
    serious: Annotated[bool, typer.Option("--serious", help="A serious incident.")] = False,
    grave: Annotated[bool, typer.Option("--grave", help="National security, or a severe outage.")] = False,
    personal_data: Annotated[bool, typer.Option("--personal-data", help="Personal data were breached.")] = False,
    json: Json = False,
) -> None:
    """By when an incident must be told to whom. It keeps nothing."""
    with rules() as r:
        duties, zone, s = r.duties, r.settings.timezone, screen()
    try:
        at = datetime.fromisoformat(noticed_at)
    except ValueError:
        fail("cli.bad_time", USAGE, text=noticed_at)
    at = at if at.tzinfo is not None else at.replace(tzinfo=zone)
    rows = incident_clocks(duties, at, serious, grave=grave, personal_data=personal_data)
    if json:
        s.json(rows)
        return
    for row in rows:
        basis = row.clock.basis
        shown = {"title": row.clock.title, "to": row.clock.to, "clause": basis.clause, "confidence": basis.confidence}
        s.tell("cli.clock", due=s.time(row.due_at), **shown)


# ------------------------------------------------------------------------------- confirming the official text

catalog_verbs = typer.Typer(no_args_is_help=True, help="The law as data: confirm it from the hospital's official copy.")
app.add_typer(catalog_verbs, name="catalog")
LARGEST_WORKBOOK = 10 * 1024 * 1024


@catalog_verbs.command("export")
def export_catalog(
    framework: Annotated[str, typer.Argument(help="A framework or the beginning of its name: tt54.")],
    xlsx: Annotated[bool, typer.Option("--xlsx", help="As a workbook (the only form, and the default).")] = True,
    out: Annotated[Path | None, typer.Option(help="The .xlsx to write; none: named after the framework.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    json: Json = False,
) -> None:
    """Write a framework's criteria into a workbook that the hospital fills from its official copy."""
    from controlplane.sheets.write import export_framework  # noqa: PLC0415  # openpyxl is slow to load

    with rules() as r:
        name = framework_named(r, framework)
        path = out or Path(f"{name}.xlsx")
        refuse_existing(path, force)
        write_whole(path, export_framework(r.framework_document(name)))
    if json:
        screen().json({"path": str(path), "framework": name, "bytes": path.stat().st_size})
    else:
        screen().tell("cli.catalog_written", path=path, framework=name)


@catalog_verbs.command("import")
def import_catalog(
    workbook: Annotated[Path, typer.Argument(help="The filled workbook.")],
    framework: Annotated[str, typer.Option(help="The framework it is of: tt54.")],
    by: Annotated[str, typer.Option(help="Who confirms it: an office. None: only look.")] = "",
    document: Annotated[Path | None, typer.Option(help="The official document it was compared with.")] = None,
    json: Json = False,
) -> None:
    """Show what a filled workbook would change; with --by and --document keep it. Exit 1 while rows are bad."""
    p = plane()
    name = framework_named(p, framework)
    if not workbook.is_file() or workbook.stat().st_size > LARGEST_WORKBOOK:
        fail("cli.catalog_file", USAGE, path=workbook)
    if bool(by.strip()) != (document is not None):
        fail("cli.catalog_half", USAGE)
    data = workbook.read_bytes()
    preview = p.preview_pack(name, data)
    link = p.confirm(preview, by.strip(), data, paper_of(document)) if document is not None and preview.ready else None
    if json:
        screen().json({"framework": name, "preview": preview, "ready": preview.ready, "link": link})
    else:
        screen().preview(preview)
        if link is not None:
            screen().tell("cli.catalog_kept", framework=name, link=link.seq)
        elif preview.ready:
            screen().tell("cli.catalog_looked")
    leave(FAILED if preview.bad else 0)


def framework_named(p: Rules, text: str) -> str:
    """A framework by its id or the one that begins so."""
    known = sorted(p.catalog.frameworks)
    found = [name for name in known if name == text or name.startswith(text)]
    if len(found) != 1:
        fail("cli.no_framework", USAGE, framework=text, known=", ".join(known))
    return found[0]
