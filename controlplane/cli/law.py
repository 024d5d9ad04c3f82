"""Verbs about the law and what people say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controlplane.bootstrap import Paper
from controlplane.cli.base import LARGEST_DOCUMENT, USAGE, Json, app, day_of, fail, plane, refuse_criterion, screen
from controlplane.domain.declared import Word, WordError
from controlplane.domain.model import Declared


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
    """A document from a file, with what is known of it."""
    if not path.is_file() or not 0 < path.stat().st_size <= LARGEST_DOCUMENT:
        fail("cli.declare_document", USAGE, path=path, most=LARGEST_DOCUMENT // 1_000_000)
    data = path.read_bytes()
    return {"name": path.name, "bytes": len(data)}, data
