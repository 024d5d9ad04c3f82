"""What the verbs share: the program, its options, the screen, exit codes, refusals, progress bars."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from controlplane import texts
from controlplane.bootstrap import Plane, Rules, open_plane, open_rules
from controlplane.collect.yaml_file import InventoryError
from controlplane.console import Screen
from controlplane.domain.model import Look, Words
from controlplane.settings import Settings, read_settings

HELP = """`emrctl`: thin verbs over the plane. It decides nothing; every verb has --json, and refusals are sentences.

Exit codes: 0 done, 1 failed, 2 usage, 3 some looks failed, 4 the chain or a bundle is broken; any other: failed.
"""

FAILED, USAGE, SOME_LOOKS_FAILED, BROKEN = 1, 2, 3, 4

app = typer.Typer(name="emrctl", no_args_is_help=True, add_completion=False, help=HELP, rich_markup_mode=None)
report_verbs = typer.Typer(no_args_is_help=True, help="Reports in the form of Decree 30/2020.")
evidence_verbs = typer.Typer(no_args_is_help=True, help="Evidence bundles: export, and verify offline.")
account_verbs = typer.Typer(no_args_is_help=True, help="Accounts of the web pages.")
app.add_typer(report_verbs, name="report")
app.add_typer(evidence_verbs, name="evidence")
app.add_typer(account_verbs, name="accounts")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of words.")]
AsOf = Annotated[str | None, typer.Option("--as-of", metavar="DAY", help="Judge a past day, for example 2026-11-20.")]
Law = Annotated[
    str | None,
    typer.Option("--law", metavar="DAY", help="By the laws in force on another day, for example 2025-08-15."),
]
Limit = Annotated[list[str] | None, typer.Option("--limit", "-l", metavar="HOST|GROUP", help="Only these; repeatable.")]


@dataclass
class Options:
    """The options before the verb."""

    given: dict[str, Any] = field(default_factory=dict)
    screen: Screen | None = None

    @property
    def settings(self) -> Settings:
        return read_settings(**self.given)


OPTIONS = Options()


def screen() -> Screen:
    """The terminal, made once the settings are known; before that in Vietnamese."""
    if OPTIONS.screen is None:
        settings = OPTIONS.settings
        OPTIONS.screen = Screen(settings.language, settings.timezone)
    return OPTIONS.screen


@app.callback()
def options(
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the store (default: var beside the program).")
    ] = None,
    inventory: Annotated[list[Path] | None, typer.Option(help="A further inventory file; later ones win.")] = None,
    known_hosts: Annotated[Path | None, typer.Option(help="OpenSSH known_hosts to trust.")] = None,
    lang: Annotated[str | None, typer.Option(help="vi or en.")] = None,
) -> None:
    """Options of every verb."""
    files = [path.absolute() for path in inventory] if inventory else None
    OPTIONS.given = {"data_dir": data_dir, "inventory": files, "known_hosts": known_hosts, "language": lang}
    OPTIONS.screen = None


def plane() -> Plane:
    """The opened store."""
    return open_plane(OPTIONS.settings)


def rules() -> AbstractContextManager[Rules]:
    """The law and the checks, for verbs that ask nothing else: they work before there is a store."""
    return open_rules(OPTIONS.settings)


def day_of(text: str | None) -> date | None:
    """The day of --as-of."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        fail("cli.bad_date", USAGE, text=text)


def refuse_criterion(p: Plane, criterion: str) -> NoReturn:
    """There is no such criterion; name the nearest."""
    known = [c.id for f in p.catalog.frameworks.values() for c in f.criteria]
    close = difflib.get_close_matches(criterion, known, 1, 0.4)
    near = Words(*(texts.say(lang, "cli.near", name=close[0]) for lang in texts.LANGUAGES)) if close else ""
    fail("cli.no_criterion", USAGE, criterion=criterion, near=near)


def fail(key: str, code: int, **figures: Any) -> NoReturn:
    """Say why in both tongues and leave."""
    screen().complain_both(key, **figures)
    raise typer.Exit(code)


def leave(code: int) -> None:
    """End with an exit code; 0 goes on."""
    if code:
        raise typer.Exit(code)


def refuse_existing(out: Path, force: bool) -> None:
    """Nothing is overwritten unasked, and a file that cannot be written is refused before the work."""
    if out.exists() and not force:
        fail("cli.out_exists", USAGE, path=out)
    folder = out.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        fail("cli.cannot_write", FAILED, path=out, why="no such folder, or no right to write there")


def write_whole(out: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = out.with_name(f".{out.name}.new")
    try:
        temporary.write_bytes(data)
        temporary.replace(out)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        fail("cli.cannot_write", FAILED, path=out, why=error.strerror)


def complain_of_inventory(error: InventoryError) -> None:
    """Where and what, in both tongues; the last good inventory goes on."""
    screen().complain(f"{error.place}: {error.words.vi}")
    screen().complain(f"{error.place}: {error.words.en}")


@contextmanager
def bar(quiet: bool) -> Iterator[Progress]:
    """A progress bar on standard error; none where nobody watches."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    err = screen().err
    with Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal) as progress:
        yield progress


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[Look, int, int], None]]:
    """Looks as they end."""
    with bar(quiet) as progress:
        task = progress.add_task("", total=None, visible=False)

        def show(look: Look, done: int, of: int) -> None:
            progress.update(task, description=look.asset, completed=done, total=of, visible=True)

        yield show


@contextmanager
def counting_bar(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Something counted."""
    with bar(quiet) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


@contextmanager
def tasks_bar(quiet: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A play's tasks as they begin."""
    err = screen().err

    def show(event: dict[str, Any]) -> None:
        if not quiet and err.is_terminal and event.get("event") == "playbook_on_task_start":
            err.print(str(event.get("event_data", {}).get("task", "")), style="dim", markup=False)

    yield show
