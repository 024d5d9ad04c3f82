"""Verbs that keep the house: set-up, serving, the record, accounts."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated, Any

import typer

from controlplane import __version__
from controlplane.bootstrap import ADMIN, Plane, init_store
from controlplane.cli.base import BROKEN, FAILED, OPTIONS, Json, account_verbs, app, fail, leave, plane, screen
from controlplane.doctor import Surroundings, examine


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
        uvicorn.run(
            make_app(p),
            host=s.host,
            port=s.port,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=5,  # who listens to a run comes back; the run itself is ended in order after that
        )


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
def save(
    folder: Annotated[Path, typer.Argument(help="Where the copy stands, on another disk if there is one.")],
    json: Json = False,
) -> None:
    """Copy the whole store, keys included, while it is in use, and walk the copy's chain. Exit 4 when it does not hold.

    Called again it writes what is new. To go back, stop the service and put the folder in the place of the store.
    """
    made = plane().save_copy(folder)
    if json:
        screen().json(made | {"path": str(folder.absolute())})
    else:
        screen().tell("cli.saved", path=folder, **made)


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
