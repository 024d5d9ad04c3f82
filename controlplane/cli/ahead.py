"""Verbs that look ahead: what if, the cheapest way to a level, the forecast, evidence that ends. Nothing is kept."""

from __future__ import annotations

import re
from typing import Annotated, NoReturn

import typer

from controlplane.bootstrap import Plane
from controlplane.bootstrap.ahead import Costs
from controlplane.cli.base import USAGE, Json, app, fail, plane, screen
from controlplane.domain.model import Reason
from controlplane.domain.whatif import Action, Buy, Confirm, Declare, Lose, Run, WhatIfError

PURCHASE = re.compile(r"([a-z0-9-]+):(\d{1,4}):(\d{1,13})")
PRICE = re.compile(r"([a-z0-9-]+)=(\d{1,13})")


@app.command("whatif")
def imagine(
    buy: Annotated[
        list[str] | None, typer.Option(metavar="ITEM:QUANTITY:VND", help="Buy, at a price for one; repeatable.")
    ] = None,
    run: Annotated[list[str] | None, typer.Option(metavar="PLAY", help="Apply a play; repeatable.")] = None,
    lose: Annotated[list[str] | None, typer.Option(metavar="ASSET", help="Lose an asset; repeatable.")] = None,
    document: Annotated[
        list[str] | None, typer.Option(metavar="CRITERION", help="A signed document; repeatable.")
    ] = None,
    confirm: Annotated[
        list[str] | None, typer.Option(metavar="FRAMEWORK/GROUP", help="Take its drafts for law; repeatable.")
    ] = None,
    list_complete: Annotated[bool, typer.Option("--list-complete", help="And its list for complete.")] = False,
    items: Annotated[bool, typer.Option("--items", help="List what can be bought instead.")] = False,
    json: Json = False,
) -> None:
    """The levels if things were bought, applied, lost, signed or confirmed. It keeps nothing."""
    p, s = plane(), screen()
    if items:
        if json:
            s.json(p.items)
        for item in () if json else p.items.values():
            s.tell("cli.item", id=item.id, title=item.title, unit=item.unit)
        return
    actions: list[Action] = [bought(text) for text in buy or ()]
    actions += [Run(play) for play in run or ()]
    actions += [Lose(asset) for asset in lose or ()]
    actions += [Declare((criterion,)) for criterion in document or ()]
    actions += [Confirm(*grouped(p, text), list_complete=list_complete) for text in confirm or ()]
    try:
        found = p.imagine(actions)
    except WhatIfError as error:
        refuse(error.reason)
    if json:
        s.json(found)
    else:
        s.imagined(found, p.catalog)


@app.command("cheapest")
def find_way(
    group: Annotated[str, typer.Argument(metavar="FRAMEWORK/GROUP", help="For example tcvn14423-2026/system.")],
    price: Annotated[list[str] | None, typer.Option(metavar="ITEM=VND", help="An offer for one; repeatable.")] = None,
    hour: Annotated[int, typer.Option(metavar="VND", help="What an hour of the staff costs.", min=0)] = 0,
    play_hours: Annotated[int, typer.Option(help="Hours to apply a play.", min=0)] = 0,
    document_hours: Annotated[int, typer.Option(help="Hours to prepare a document.", min=0)] = 0,
    json: Json = False,
) -> None:
    """The cheapest set of purchases, plays and documents that proves a group's next level."""
    p, s = plane(), screen()
    prices = {}
    for text in price or ():
        found = PRICE.fullmatch(text)
        if found is None:
            fail("cli.bad_price", USAGE, text=text)
        prices[found[1]] = int(found[2])
    try:
        plan = p.way_to_the_next(*grouped(p, group), Costs(prices, play_hours, document_hours, hour))
    except WhatIfError as error:
        refuse(error.reason)
    if json:
        s.json(plan)
    elif plan is None:
        s.tell("cli.no_next_level", group=group)
    else:
        s.way(plan, p.catalog)


@app.command("forecast")
def show_forecast(json: Json = False) -> None:
    """When each target and milestone is reached (P50, P90) against the plan's dates, and evidence that soon ends."""
    p, s = plane(), screen()
    outlook, ageing = p.forecast(), p.ageing()
    if json:
        s.json({"forecast": outlook, "expiring": ageing.soon, "stay_met": {str(k): v for k, v in ageing.stays.items()}})
    else:
        s.forecast(outlook, ageing.soon, ageing.stays)


def bought(text: str) -> Buy:
    """ITEM:QUANTITY:VND."""
    found = PURCHASE.fullmatch(text)
    if found is None:
        fail("cli.bad_purchase", USAGE, text=text)
    return Buy(found[1], int(found[2]), int(found[3]))


def grouped(p: Plane, text: str) -> tuple[str, str]:
    """FRAMEWORK/GROUP. The rooms below say which of them is not there."""
    framework, _, group = text.partition("/")
    found = p.catalog.frameworks.get(framework)
    if found is None or group not in {g.id for g in found.groups}:
        known = ", ".join(f"{f.id}/{g.id}" for f in p.catalog.frameworks.values() for g in f.groups)
        fail("cli.no_group", USAGE, text=text, known=known)
    return framework, group


def refuse(reason: Reason) -> NoReturn:
    """An action that cannot be imagined, in both tongues."""
    fail(f"whatif.{reason.code}", USAGE, **reason.figures)
