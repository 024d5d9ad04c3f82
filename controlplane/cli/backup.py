"""Verbs that prove backups: rehearse a restore, check, try to delete, compare with the source."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

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
    tell("restore", [kept], json)


@verbs.command()
def check(
    repository: Store = "",
    parts: Annotated[int, typer.Option(min=1, max=255, help="How many checks read everything.")] = 14,
    json: Json = False,
) -> None:
    """Check repositories and read the next part of their data. Exit 1 when one is not whole."""
    tell("check", plane().check_backups(repository, parts), json)


@verbs.command()
def refusal(repository: Store = "", json: Json = False) -> None:
    """Try to delete a canary with this machine's credentials. Exit 1 when a repository lets it go."""
    tell("refusal", plane().prove_refusals(repository), json)


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
    tell("spot", [plane().compare_backup(dataset, chosen, repository, count)], json)


def tell(what: str, kept: list[dict[str, Any]], json: bool) -> None:
    """Results on the terminal; exit 1 when one is not good."""
    s = screen()
    if json:
        s.json(kept)
    for body in [] if json else kept:
        result = body["result"]
        good = result["ok"]
        said = result.get("said_en" if s.lang == "en" else "said") or result.get("said") or "-"
        words = said if isinstance(said, str) else said.in_(s.lang)
        figures = {key: value for key, value in result.items() if isinstance(value, int | float | str)}
        key = what
        if result.get("error"):
            key = "not_tried" if result.get("tried") is False else "ended"
        s.tell(f"cli.backup_{key}", **figures | {"mark": "✓" if good else "✗", "said": words})
        s.tell("cli.head", seal=body["seal"])
    leave(0 if all(body["result"]["ok"] for body in kept) else FAILED)
