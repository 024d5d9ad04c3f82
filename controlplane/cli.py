"""`emrctl`: thin verbs over the plane. It decides nothing; every verb has --json, and refusals are sentences.

Exit codes: 0 done, 1 failed, 2 usage, 3 some looks failed, 4 the chain or a bundle is broken; any other: failed.
"""

from __future__ import annotations

import difflib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Any, NoReturn
from zoneinfo import ZoneInfo

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from controlplane import __version__
from controlplane.bootstrap import ADMIN, NoStoreError, Plane, init_store, open_plane
from controlplane.collect.yaml_file import InventoryError
from controlplane.console import Screen
from controlplane.doctor import Surroundings, examine
from controlplane.domain.catalog import CatalogError
from controlplane.domain.chain import plain
from controlplane.domain.model import Look, Outcome
from controlplane.plays import PlayError
from controlplane.reports.weekly import IsoWeek, WeekError
from controlplane.settings import Settings, SettingsError, read_settings
from controlplane.store import verify as verifier
from controlplane.store.accounts import AccountError
from controlplane.store.archive import ArchiveError, BusyError
from controlplane.store.bundle import BundleError, SigningKeyError
from controlplane.store.vault import VaultError

FAILED, USAGE, SOME_LOOKS_FAILED, BROKEN = 1, 2, 3, 4
LARGEST_DOCUMENT = 20_000_000

app = typer.Typer(name="emrctl", no_args_is_help=True, add_completion=False, help=__doc__, rich_markup_mode=None)
report_verbs = typer.Typer(no_args_is_help=True, help="Reports in the form of Decree 30/2020.")
evidence_verbs = typer.Typer(no_args_is_help=True, help="Evidence bundles: export, and verify offline.")
account_verbs = typer.Typer(no_args_is_help=True, help="Accounts of the web pages.")
app.add_typer(report_verbs, name="report")
app.add_typer(evidence_verbs, name="evidence")
app.add_typer(account_verbs, name="accounts")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of words.")]
AsOf = Annotated[str | None, typer.Option("--as-of", metavar="DAY", help="Judge a past day, for example 2026-11-20.")]
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


# --------------------------------------------------------------------------------------------- looking


@app.command("inventory")
def show_inventory(
    names: Annotated[list[str] | None, typer.Argument(help="Hosts or groups; none: all.")] = None, json: Json = False
) -> None:
    """List the assets of the inventory."""
    inventory, error = plane().inventory()
    if error is not None:
        complain_of_inventory(error)
    assets = inventory.select(names) if names else tuple(inventory.assets.values())
    if json:
        fields = ("name", "kind", "title", "department", "address", "transports", "roles", "fields")
        screen().json([{name: getattr(asset, name) for name in fields} for asset in assets])
    else:
        screen().out.print(screen().assets(assets))
    leave(FAILED if error else 0)


@app.command("round")
def walk(limit: Limit = None, json: Json = False) -> None:
    """Look at the hospital once: collect, judge, score, keep. Exit 3 when some assets did not answer."""
    p, begun = plane(), time.monotonic()
    _, error = p.inventory()
    if error is not None:
        complain_of_inventory(error)
    with progress_bar(quiet=json) as show:
        kept = p.make_round(limit or (), show)
    answered = kept.looks.get(Outcome.ANSWERED, 0)
    no_address = kept.looks.get(Outcome.NO_ADDRESS, 0)
    of = sum(kept.looks.values()) - no_address
    failed = [look for look in p.archive.looks_of(kept.id) if look["outcome"] != Outcome.ANSWERED]
    if json:
        screen().json(kept)
    else:
        figures = {"seconds": f"{time.monotonic() - begun:.1f}", "answered": answered, "of": of}
        screen().tell("cli.round_done", round=kept.id, no_address=no_address, **figures)
        for look in failed:
            outcome = screen().say(f"outcome.{look['outcome']}")
            screen().tell("cli.look", asset=look["asset"], transport=look["transport"], outcome=outcome)
            screen().line(f"  {look['detail']}", "dim")
        screen().tell("cli.head", seal=kept.seal)
    leave(SOME_LOOKS_FAILED if failed else 0)


@app.command()
def status(as_of: AsOf = None, json: Json = False) -> None:
    """The director's screen: levels, gaps, blockers, days left. Exit 4 when the chain is broken."""
    overview = plane().overview(day_of(as_of))
    if json:
        screen().json(overview)
    else:
        screen().overview(overview)
    leave(0 if overview.chain_holds else BROKEN)


@app.command("score")
def show_score(as_of: AsOf = None, json: Json = False) -> None:
    """Levels of every group, and how many criteria say what."""
    p, day = plane(), day_of(as_of)
    if json:
        screen().json(p.judgement(day).card)
    else:
        screen().out.print(screen().groups(p.overview(day).groups))


@app.command("explain")
def show_explanation(criterion: str, as_of: AsOf = None, json: Json = False) -> None:
    """A criterion down to the raw bytes it rests on."""
    p = plane()
    try:
        explanation = p.explain(criterion, day_of(as_of))
    except KeyError:
        refuse_criterion(p, criterion)
    said = p.attestations(criterion)
    if json:
        screen().json({**plain(explanation), "attestations": said})
        return
    seen = [f.observation for c in explanation.checks for f in c.findings if f.observation]
    digests = {o.raw_digest for o in seen if o.raw_digest}
    raw = {name: p.archive.vault.get(name) for name in digests}
    screen().out.print(screen().explanation(explanation, raw))
    for one in said:
        screen().tell("cli.attestation", **{name: one[name] for name in ("by", "statement", "until", "link")})


@app.command()
def checks(json: Json = False) -> None:
    """Every check: its rule, whom it asks and which criteria it serves."""
    catalog = plane().catalog
    if json:
        screen().json([catalog.checks[name] for name in sorted(catalog.checks)])
    else:
        screen().out.print(screen().checks(catalog))


# ---------------------------------------------------------------------------------------------- acting


@app.command()
def attest(
    criterion: str,
    by: Annotated[str, typer.Option(help="Who answers for it: an office, not a person's name.")],
    statement: Annotated[str, typer.Option(help="What is declared, in one sentence.")],
    until: Annotated[str, typer.Option(metavar="DAY", help="Until when it stands, for example 2027-06-30.")],
    document: Annotated[Path | None, typer.Option(help="A signed document, at most 20 MB.")] = None,
    json: Json = False,
) -> None:
    """Keep somebody's word about a criterion in the chain. It is shown and exported; it moves no verdict yet."""
    p, last_day = plane(), day_of(until)
    if last_day is None or last_day < p.clock().astimezone(p.settings.timezone).date():
        fail("cli.attest_past", USAGE, until=until)
    if not by.strip() or not statement.strip():
        fail("cli.attest_empty", USAGE)
    kept = None
    if document is not None:
        if not document.is_file() or not 0 < document.stat().st_size <= LARGEST_DOCUMENT:
            fail("cli.attest_document", USAGE, path=document, most=LARGEST_DOCUMENT // 1_000_000)
        kept = (document.name, document.read_bytes())
    try:
        link = p.attest(criterion, by.strip(), statement.strip(), last_day, kept)
    except KeyError:
        refuse_criterion(p, criterion)
    if json:
        screen().json(link)
    else:
        screen().tell("cli.attested", criterion=criterion, link=link.seq)
        screen().tell("cli.head", seal=link.seal)


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


# ------------------------------------------------------------------------------------------- going out


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


# --------------------------------------------------------------------------------------------- keeping


@app.command()
def init(
    print_one_time_password: Annotated[
        bool, typer.Option("--print-one-time-password", help="On stdout, while the admin has set none of his own.")
    ] = False,
) -> None:
    """Make what is missing: folders, tables, signing key, admin account. Safe to call again."""
    p = init_store(OPTIONS.settings)
    if not print_one_time_password:
        screen().tell("cli.initialised", path=p.settings.data_dir)
        return
    admin = p.accounts.find(ADMIN)
    if admin is not None and admin.must_change:
        screen().line(p.accounts.one_time_password(ADMIN))


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the store.", hidden=True)] = None,
) -> None:
    """Serve the pages and the API, and make a round every so often."""
    import uvicorn  # noqa: PLC0415  # a tenth of a second that no other verb should pay

    from controlplane.web.app import make_app  # noqa: PLC0415

    for name, value in (("host", host), ("port", port), ("data_dir", data_dir)):
        if value is not None:
            OPTIONS.given[name] = value
    p = plane()
    s = p.settings
    with socket.socket(socket.AF_INET6 if ":" in s.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((s.host, s.port))
        except OSError:
            fail("cli.port_taken", FAILED, port=s.port)
    screen().tell("cli.serving", url=f"http://{s.host}:{s.port}")
    with p.keeping_time():
        uvicorn.run(make_app(p), host=s.host, port=s.port, log_level="warning", server_header=False)


@app.command()
def doctor(json: Json = False) -> None:
    """What this machine lacks, and how to get it. Exit 1 when something needed is missing."""
    s = OPTIONS.settings
    key = s.keys_dir / "signing.pem"
    ailments = examine(Surroundings(s.home, s.data_dir, key, port=s.port, host=s.host, zone=s.zone))
    if json:
        screen().json(ailments)
    else:
        for ailment in ailments:
            mark, style = ("✓", "green") if ailment.ok else ("✗", "yellow" if ailment.optional else "bold red")
            screen().line(f"{mark} {ailment.needed_for.in_(screen().lang)}: {ailment.found}", style)
            if not ailment.ok:
                screen().line(f"    {ailment.remedy.in_(screen().lang)}")
    leave(FAILED if any(not a.ok and not a.optional for a in ailments) else 0)


@app.command()
def reindex(json: Json = False) -> None:
    """Delete every derived table and rebuild it from the record."""
    p = plane()
    with p.archive.lock("round"):
        count = p.archive.reindex()
    if json:
        screen().json({"links": count})
    else:
        screen().tell("cli.reindexed", links=count)


@app.command()
def chain(json: Json = False) -> None:
    """Walk the whole chain and every body it names. Exit 4 when something does not hold."""
    p = plane()
    broken, head = p.archive.first_break(bodies=True), p.archive.head()
    if json:
        screen().json({"holds": broken is None, "break": broken, "head": head})
    elif broken is not None:
        screen().complain_both("cli.chain_broken", seq=broken.seq, why=screen().say(f"chain.{broken.code}"))
    else:
        screen().tell("cli.chain_holds", links=head.seq if head else 0)
        screen().tell("cli.head", seal=head.seal if head else "-")
    leave(BROKEN if broken else 0)


@app.command()
def version(json: Json = False) -> None:
    """The version of this program."""
    if json:
        screen().json({"version": __version__})
    else:
        screen().line(__version__)


@account_verbs.command("list")
def list_accounts(json: Json = False) -> None:
    """Who may log in."""
    accounts = plane().accounts.all()
    if json:
        screen().json(accounts)
    for account in () if json else accounts:
        screen().line(f"{account.name}\t{screen().say(f'role.{account.role}')}")


@account_verbs.command("add")
def add_account(name: str, role: str, json: Json = False) -> None:
    """Add an account with a one-time password."""
    p = plane()
    p.accounts.add(name, role, os.urandom(16).hex(), p.clock(), must_change=True)
    tell_password(p, name, "cli.account_added", json, role=role)


@account_verbs.command("reset")
def reset_account(name: str, json: Json = False) -> None:
    """Give an account a new one-time password and end its sessions."""
    tell_password(plane(), name, "cli.password_reset", json)


def tell_password(p: Plane, name: str, key: str, json: bool, **figures: Any) -> None:
    """Print a one-time password, once."""
    password = p.accounts.one_time_password(name)
    if json:
        screen().json({"name": name, "one_time_password": password})
    else:
        screen().tell(key, name=name, password=password, **figures)


# ---------------------------------------------------------------------------------------- shared by verbs


def plane() -> Plane:
    """The opened store."""
    return open_plane(OPTIONS.settings)


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
    near = screen().say("cli.near", name=close[0]) if close else ""
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


WORDED = (InventoryError, PlayError, WeekError)
NAMED: dict[type[Exception], Callable[[Any], tuple[str, dict[str, Any]]]] = {
    BusyError: lambda e: ("cli.run_busy" if str(e) == "run" else "cli.round_busy", {}),
    NoStoreError: lambda e: ("cli.no_store", {"path": str(e)}),
    SettingsError: lambda e: ("cli.bad_setting", {"why": str(e)}),
    CatalogError: lambda e: ("cli.bad_catalog", {"why": str(e)}),
    AccountError: lambda e: (f"account.{e.code}", e.figures),
}
PLAIN = (ArchiveError, VaultError, BundleError, SigningKeyError)
USAGE_KINDS = (SettingsError, AccountError, WeekError)


def main() -> None:
    """The program. Whatever was foreseen is a sentence and an exit code; anything else is a bug and shows itself."""
    try:
        app()
    except KeyboardInterrupt:
        screen().complain_both("cli.interrupted")
        sys.exit(130)
    except WORDED as error:
        place = getattr(error, "place", "")
        for words in (error.words.vi, error.words.en):
            refusal_screen().complain(f"{place}: {words}" if place else words)
        sys.exit(USAGE if isinstance(error, USAGE_KINDS) else FAILED)
    except tuple(NAMED) as error:
        key, figures = next(make(error) for kind, make in NAMED.items() if isinstance(error, kind))
        refusal_screen().complain_both(key, **figures)
        sys.exit(USAGE if isinstance(error, USAGE_KINDS) else FAILED)
    except PLAIN as error:
        refusal_screen().complain(str(error))
        sys.exit(BROKEN if isinstance(error, VaultError) else FAILED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `emrctl checks | head` is no failure
        sys.exit(0)
    except OSError as error:
        refusal_screen().complain_both("cli.cannot_write", path=error.filename or "-", why=error.strerror or str(error))
        sys.exit(FAILED)


def refusal_screen() -> Screen:
    """A screen even when the settings themselves are what is wrong."""
    try:
        return screen()
    except SettingsError:
        return Screen("vi", ZoneInfo("Asia/Ho_Chi_Minh"))
