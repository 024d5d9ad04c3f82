"""Verbs that look: inventory, round, status, score, explanation, checks."""

from __future__ import annotations

import re
import time
from datetime import date
from typing import Annotated

import typer

from controlplane.bootstrap import Plane
from controlplane.cli.base import (
    BROKEN,
    FAILED,
    SOME_LOOKS_FAILED,
    USAGE,
    AsOf,
    Json,
    Law,
    Limit,
    app,
    complain_of_inventory,
    day_of,
    fail,
    leave,
    plane,
    progress_bar,
    refuse_criterion,
    screen,
)
from controlplane.domain.model import Outcome

DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


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
def status(as_of: AsOf = None, law: Law = None, json: Json = False) -> None:
    """The director's screen: levels, gaps, blockers, days left. Exit 4 when the chain is broken."""
    overview = plane().overview(day_of(as_of), law=day_of(law))
    if json:
        screen().json(overview)
    else:
        screen().overview(overview)
    leave(0 if overview.chain_holds else BROKEN)


@app.command("score")
def show_score(as_of: AsOf = None, law: Law = None, json: Json = False) -> None:
    """Levels of every group, and how many criteria say what."""
    p, day, frame = plane(), day_of(as_of), day_of(law)
    if json:
        screen().json(p.judgement(day, frame).card)
    else:
        screen().out.print(screen().standings(p.overview(day, law=frame).groups, p.judgement(day, frame).card))


@app.command("explain")
def show_explanation(criterion: str, as_of: AsOf = None, json: Json = False) -> None:
    """A criterion down to the raw bytes it rests on."""
    p = plane()
    try:
        explanation = p.explain(criterion, day_of(as_of))
    except KeyError:
        refuse_criterion(p, criterion)
    if json:
        screen().json(explanation)
        return
    seen = [f.observation for c in explanation.checks for f in c.findings if f.observation] + [*explanation.words]
    digests = {o.raw_digest for o in seen if o.raw_digest}
    raw = {name: p.archive.vault.get(name) for name in digests}
    screen().out.print(screen().explanation(explanation, raw))


@app.command("diff")
def show_difference(
    before: Annotated[str, typer.Argument(metavar="DAY|ROUND", help="An earlier day, or a round.")],
    after: Annotated[str | None, typer.Argument(metavar="DAY|ROUND", help="A later one; none: now.")] = None,
    json: Json = False,
) -> None:
    """Which criteria moved between two days or two rounds, and because of what."""
    p = plane()
    if DAY.fullmatch(before):
        difference = p.difference_of_days(must_be_past(p, before), must_be_past(p, after) if after else None)
    else:
        rounds = p.archive.rounds(1)
        try:
            difference = p.difference(before, after or (rounds[0].id if rounds else ""))
        except KeyError as error:
            fail("cli.no_round", USAGE, round=error.args[0])
    if json:
        screen().json(difference)
    else:
        screen().difference(difference)


def must_be_past(p: Plane, text: str) -> date:
    """A day that has begun. A later one has nothing to compare yet."""
    day = day_of(text)
    if day is None or day > p.today:
        fail("cli.day_ahead", USAGE, text=text)
    return day
