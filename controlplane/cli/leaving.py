"""Verbs for what goes out: reports and evidence bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controlplane.cli.base import (
    BROKEN,
    Json,
    counting_bar,
    evidence_verbs,
    leave,
    plane,
    refuse_existing,
    report_verbs,
    screen,
    write_whole,
)
from controlplane.reports.weeks import IsoWeek
from controlplane.store import verify as verifier


@report_verbs.command()
def weekly(
    week: Annotated[str, typer.Option(metavar="YEAR-Wnn", help="ISO week, for example 2025-W33.")] = "",
    out: Annotated[Path, typer.Option(help="The .docx to write.")] = Path("bao-cao-tuan.docx"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    json: Json = False,
) -> None:
    """The Thursday report to the Department of Health, as a Word document."""
    p = plane()
    today = p.clock().astimezone(p.settings.timezone).date()
    chosen = IsoWeek.parse(week) if week else IsoWeek.of(today)
    refuse_existing(out, force)
    write_whole(out, p.weekly_report(chosen))
    if json:
        screen().json({"path": str(out), "week": str(chosen), "bytes": out.stat().st_size})
    else:
        screen().tell("cli.report_written", path=out)


@evidence_verbs.command("export")
def export_evidence(
    out: Annotated[Path, typer.Option(help="The .zip to write.")] = Path("minh-chung.zip"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    json: Json = False,
) -> None:
    """Write the chain, its bodies and the raw bytes into one signed ZIP."""
    refuse_existing(out, force)
    with counting_bar(quiet=json) as count:
        made = plane().export_evidence(out.absolute(), count)
    if json:
        screen().json(made)
    else:
        figures = {name: made[name] for name in ("links", "objects", "bytes")}
        screen().tell("cli.exported", path=out, fingerprint=made["key_fingerprint"], **figures)


@evidence_verbs.command("verify")
def verify_evidence(
    bundle: Path,
    fingerprint: Annotated[str | None, typer.Option(help="The signing key's SHA-256, as a report prints it.")] = None,
    head: Annotated[str | None, typer.Option(help="A seal of the chain, as a report prints it.")] = None,
    json: Json = False,
) -> None:
    """Verify a bundle; the same program lies inside every bundle. Exit 4 when it does not hold."""
    try:
        proven = verifier.verify(bundle, fingerprint, head)
    except verifier.BrokenError as broken:
        if json:
            screen().json({"ok": False, "vi": broken.vi, "en": broken.en})
        else:
            screen().complain(f"HỎNG: {broken.vi}\nBROKEN: {broken.en}")
        leave(BROKEN)
    if json:
        screen().json({"ok": True, **proven})
    else:
        screen().tell("cli.chain_holds", links=proven["links"])
        screen().tell("cli.head", seal=proven["head"])
        screen().line(f"SHA-256: {proven['key_fingerprint']}")
