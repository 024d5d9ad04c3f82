"""Verbs about checks: list them, try new ones against what stands, count what they cover."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from controlplane.cli.base import FAILED, USAGE, Json, app, fail, leave, plane, rules, screen
from controlplane.domain.catalog import CatalogError
from controlplane.domain.coverage import coverage

check_verbs = typer.Typer(help="Checks: every rule, trying a new one, and what they cover.")
app.add_typer(check_verbs, name="checks")
LARGEST_FILE = 1_000_000


@check_verbs.callback(invoke_without_command=True)
def list_checks(context: typer.Context, json: Json = False) -> None:
    """Every check: its rule, whom it asks and which criteria it serves."""
    if context.invoked_subcommand is not None:
        return
    with rules() as r:
        catalog = r.catalog
    if json:
        screen().json([catalog.checks[name] for name in sorted(catalog.checks)])
    else:
        screen().out.print(screen().checks(catalog))


@check_verbs.command("test")
def try_checks(
    file: Annotated[Path, typer.Argument(help="A file of checks in the form of checks/*.yaml.")], json: Json = False
) -> None:
    """Try checks against the latest facts: no round, nothing kept. Exit 1 when an example judges otherwise."""
    p = plane()
    if not file.is_file() or file.stat().st_size > LARGEST_FILE:
        fail("cli.checks_file", USAGE, path=file)
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CatalogError(f"{file.name}: {error}") from None
    trials = p.try_checks(file.name, document)
    if json:
        screen().json(trials)
    else:
        for trial in trials:
            screen().trial(trial)
    leave(FAILED if any(not trial.holds for trial in trials) else 0)


@check_verbs.command("coverage")
def show_coverage(json: Json = False) -> None:
    """Per framework: rows, how sure they are, and how many of them checks can prove or judge."""
    with rules() as r:
        rows = coverage(r.catalog)
    if json:
        screen().json({"frameworks": rows})
    else:
        screen().out.print(screen().coverage(rows))
