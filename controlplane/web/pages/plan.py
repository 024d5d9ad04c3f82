"""What lies ahead: evidence that ends, the dates of the plan, and what imagined actions would do to the levels.

Nothing is kept: what is imagined stands in the address. No figure of this page is a level.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastapi import Response
from starlette.datastructures import QueryParams

from controlplane.bootstrap import Costs, Judgement, Plane
from controlplane.domain.cheapest import Plan
from controlplane.domain.decay import Ending
from controlplane.domain.forecast import Forecast
from controlplane.domain.model import Reason, Standing
from controlplane.domain.whatif import Action, Buy, Confirm, GroupChange, Lose, Run, WhatIf, WhatIfError
from controlplane.web.errors import RequestError
from controlplane.web.pages.face import Plain, show
from controlplane.web.pages.seeing import names

ROWS = (1, 2, 3)  # purchases that the form has room for
MOST_QUANTITY = 10_000
MOST_VND = 10**12
MOST_HOURS = 1_000
SHOWN_ENDINGS = 60


@dataclass(frozen=True)
class Asked:
    """What was imagined in the address."""

    actions: tuple[Action, ...]
    prices: Mapping[str, int]
    goal: tuple[str, str] | None


@dataclass(frozen=True)
class Answered:
    """What the imagined would do, the cheapest way to the goal's next level, the dates, and the evidence that ends."""

    what_if: WhatIf | None  # None: nothing was imagined
    cheapest: Plan | None  # None: no goal, or no level above
    forecast: Forecast
    ending: tuple[Ending, ...]
    stays_met: Mapping[int, int]  # days from now -> criteria of today's that are met then if nobody looks again


def plan(face: Plain) -> Response:
    """The page; with an answer where something was imagined."""
    plane, query = face.plane, face.request.query_params
    asked = asked_of(plane, query)
    judgement = plane.judgement()
    ageing = plane.ageing()
    answered = answer_of(face.tongue.what_if, plane, query)
    return show(
        face,
        "plan.html",
        asked=asked,
        given=query,
        rows=ROWS,
        items=plane.items,
        plays=plane.plays,
        imagined=answered.what_if,
        shown=_worth_showing(answered.what_if) if answered.what_if else (),
        way=answered.cheapest,
        groups=[g for g in judgement.card.groups if g.reason.code not in ("share", "group_out_of_force")],
        drafts=_with_drafts(judgement),
        ageing=ageing,
        endings=answered.ending[:SHOWN_ENDINGS],
        forecast=answered.forecast,
        milestones={m.id: m for m in plane.campaign.milestones},
        tasks={t.id: t for t in plane.campaign.tasks},
        assets=judgement.assets,
        tuple_of=lambda id_: tuple(id_.split("/", 1)),
        **names(judgement.catalog),
    )


def answer_of(say: Callable[[Reason], str], plane: Plane, query: QueryParams) -> Answered:
    """What page and API answer to an address. Raises ``RequestError`` for what cannot be read or imagined."""
    asked, ageing = asked_of(plane, query), plane.ageing()
    imagined = _imagined(say, plane, asked) if asked.actions else None
    way = _way(say, plane, asked, query) if asked.goal else None
    return Answered(imagined, way, plane.forecast(), ageing.soon, ageing.stays)


def asked_of(plane: Plane, query: QueryParams) -> Asked:
    """What an address imagines. Raises ``RequestError`` naming the field that cannot be read."""
    actions: list[Action] = []
    prices: dict[str, int] = {}
    for row in ROWS:
        item = query.get(f"item_{row}", "")
        if item:
            quantity = _number(query, f"quantity_{row}", MOST_QUANTITY, 1)
            prices[item] = _number(query, f"price_{row}", MOST_VND, 0)
            actions += [Buy(item, quantity, prices[item])] if quantity else []
    actions += [Run(play) for play in query.getlist("play") if play]
    actions += [Lose(asset) for asset in query.getlist("lose") if asset]
    for key in query.getlist("confirm"):
        framework, group = _group(plane, key)
        whole, table = query.get("list") == "1", query.get("table") == "1"
        actions.append(Confirm(framework, group, list_complete=whole, table=table))
    goal = query.get("goal", "")
    return Asked(tuple(actions), prices, _group(plane, goal) if goal else None)


def _number(query: QueryParams, name: str, most: int, default: int) -> int:
    text = re.sub(r"[ .,_]", "", query.get(name, ""))
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,13}", text) or int(text) > most:
        raise RequestError(400, "bad_field", field=name)
    return int(text)


def _group(plane: Plane, key: str) -> tuple[str, str]:
    framework, _, group = key.partition("/")
    found = plane.catalog.frameworks.get(framework)
    if found is None or group not in {g.id for g in found.groups}:
        raise RequestError(400, "bad_filter", name="group", value=key[:40])
    return framework, group


def _imagined(say: Callable[[Reason], str], plane: Plane, asked: Asked) -> WhatIf:
    try:
        return plane.imagine(asked.actions)
    except WhatIfError as error:
        raise RequestError(400, "bad_plan", why=say(error.reason)) from None


def _way(say: Callable[[Reason], str], plane: Plane, asked: Asked, query: QueryParams) -> Plan | None:
    """The cheapest set to the next level of the goal's group, beside the losses and confirmations of the address."""
    assert asked.goal is not None  # noqa: S101  # its caller asks only then
    hours = [_number(query, name, MOST_HOURS, 0) for name in ("play_hours", "document_hours")]
    costs = Costs(asked.prices, hours[0], hours[1], _number(query, "hour_price", MOST_VND, 0))
    given = [action for action in asked.actions if isinstance(action, Lose | Confirm)]
    try:
        return plane.way_to_the_next(*asked.goal, costs, given)
    except WhatIfError as error:
        raise RequestError(400, "bad_plan", why=say(error.reason)) from None


def _worth_showing(imagined: WhatIf) -> list[GroupChange]:
    """Ladders that have a target or that moved."""
    return [
        change
        for change in imagined.groups
        if change.before.target
        or (change.before.proven, change.before.possible) != (change.after.proven, change.after.possible)
    ]


def _with_drafts(judgement: Judgement) -> list[tuple[str, str]]:
    """(framework, group) of what has drafts to confirm and is in force."""
    in_force = {(g.framework, g.group) for g in judgement.card.groups if g.reason.code != "group_out_of_force"}
    criteria = judgement.catalog.criteria.values()
    drafts = {(c.framework, c.group) for c in criteria if c.standing is Standing.DRAFT}
    return sorted(drafts & in_force)
