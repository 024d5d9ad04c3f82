"""Verbs that prove backups: rehearse a restore, check, try to delete, compare with the source; and what was proven."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from controlplane.bootstrap.proofs import Proof, proof_of
from controlplane.cli.base import FAILED, Json, app, leave, plane, refuse_existing, screen, write_whole

verbs = typer.Typer(no_args_is_help=True, help="Prove that backups can be had back; every result is kept in the chain.")
app.add_typer(verbs, name="backup")

Store = Annotated[str, typer.Option("--repository", help="A repository of the register; none: the first, or all.")]


@verbs.command()
def drill(
    dataset: Annotated[str, typer.Argument(help="A data set of inventory/registers/backups.yaml.")],
    repository: Store = "",
    out: Annotated[Path | None, typer.Option(help="Write the minutes (.docx) here as well.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    json: Json = False,
) -> None:
    """Restore the newest snapshot into a scratch folder and prove it right. Exit 1 when it is not."""
    if out is not None:
        refuse_existing(out, force)
    kept, paper = plane().rehearse_backup(dataset, repository)
    if out is not None:
        write_whole(out, paper)
    tell([kept], json)


@verbs.command()
def check(
    repository: Store = "",
    parts: Annotated[int, typer.Option(min=1, max=255, help="How many checks read everything.")] = 14,
    json: Json = False,
) -> None:
    """Check repositories and read the next part of their data. Exit 1 when one is not whole."""
    tell(plane().check_backups(repository, parts), json)


@verbs.command()
def refusal(repository: Store = "", json: Json = False) -> None:
    """Try to delete a canary with this machine's credentials. Exit 1 when a repository lets it go."""
    tell(plane().prove_refusals(repository), json)


@verbs.command()
def spot(
    dataset: Annotated[str, typer.Argument(help="A data set whose source lies on this machine.")],
    repository: Store = "",
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many files are drawn.")] = 50,
    seed: Annotated[int | None, typer.Option(help="Draw by this seed again; none: a new one, which is kept.")] = None,
    json: Json = False,
) -> None:
    """Compare files of the source with the newest snapshot by hash. Exit 1 when something is wrong."""
    chosen = secrets.randbits(32) if seed is None else seed
    tell([plane().compare_backup(dataset, chosen, repository, count)], json)


@verbs.command("list")
def list_proofs(
    most: Annotated[int, typer.Option(min=1, max=10_000, help="How many, the newest first.")] = 50, json: Json = False
) -> None:
    """Every proof that was kept: restores, checks, tries to delete, comparisons; with their links in the chain."""
    found = plane().proofs(most)
    s = screen()
    if json:
        s.json(found)
        return
    for proof in found:
        mark, kind = mark_of(proof), s.say(f"backup_proof.kind.{proof.what}")
        minutes = s.say("cli.with_minutes") if proof.minutes else ""
        at, dataset = s.time(proof.at), proof.dataset or proof.repository
        s.tell("cli.proof", mark=mark, at=at, kind=kind, dataset=dataset, link=proof.link, minutes=minutes)
        s.line(f"    {proof.said.in_(s.lang)}")
    if not found:
        s.tell("cli.no_proofs")


@verbs.command()
def minutes(
    link: Annotated[int, typer.Argument(min=1, help="The number of the link, as emrctl backup list shows it.")],
    out: Annotated[Path, typer.Option(help="Write the minutes (.docx) here.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write the minutes of a restore that was kept."""
    refuse_existing(out, force)
    write_whole(out, plane().minutes_of(link))
    screen().tell("cli.minutes_written", path=out)


@verbs.command()
def snapshots(repository: Store = "", json: Json = False) -> None:
    """The snapshots of repositories: when, of which host and data set. Exit 1 when one cannot be asked."""
    rows = plane().snapshots_of(repository)
    s = screen()
    for row in show(rows, json):
        s.tell("cli.snapshots", repository=row["repository"], count=len(row["snapshots"]))
        for one in row["snapshots"]:
            s.line(f"    {one.id[:8]}  {s.time(one.at)}  {one.host}  {', '.join(one.tags)}")
    leave(0 if all(row["ok"] for row in rows) else FAILED)


@verbs.command()
def stats(repository: Store = "", json: Json = False) -> None:
    """What repositories hold: bytes stored and snapshots. Exit 1 when one cannot be asked."""
    rows = plane().stats_of(repository)
    for row in show(rows, json):
        stored = f"{row['stored_bytes'] / 1e6:.1f}"
        screen().tell("cli.stats", repository=row["repository"], stored=stored, count=row["snapshots"])
    leave(0 if all(row["ok"] for row in rows) else FAILED)


def show(rows: list[dict[str, Any]], json: bool) -> list[dict[str, Any]]:
    """The rows that are left to be shown on the terminal: those that failed have been told, of JSON all."""
    if json:
        screen().json(rows)
        return []
    for row in rows:
        if not row["ok"]:
            screen().line(f"✗ {row['said'].in_(screen().lang)}")
    return [row for row in rows if row["ok"]]


def mark_of(proof: Proof) -> str:
    """Good, not good, or not tried."""
    return "✓" if proof.ok else "✗" if proof.tried else "?"


def tell(kept: list[dict[str, Any]], json: bool) -> None:
    """Results on the terminal; exit 1 when one is not good."""
    s = screen()
    if json:
        s.json(kept)
    for body in [] if json else kept:
        proof = proof_of(body)
        s.line(f"{mark_of(proof)} {proof.said.in_(s.lang)}")
        s.tell("cli.head", seal=proof.seal)
    leave(0 if all(body["result"]["ok"] for body in kept) else FAILED)
