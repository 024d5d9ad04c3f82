"""What moved between two days or two rounds, and because of what: down to the observation, the run, the document."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from fastapi import Response

from controlplane.bootstrap import Plane
from controlplane.domain.compare import Cause, CriterionMove, Difference
from controlplane.domain.model import Observation
from controlplane.store.vault import VaultError
from controlplane.web import queries
from controlplane.web.errors import RequestError
from controlplane.web.pages.face import Plain, show
from controlplane.web.pages.seeing import names

DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
SHOWN_CAUSES = 12  # of one criterion; the rest is on its own page


@dataclass(frozen=True)
class Ends:
    """The two sides of a difference: days, or the names of rounds. ``after`` is empty for now."""

    before: str
    after: str
    of_rounds: bool


def difference(face: Plain) -> Response:
    """The page of a difference; without an end it compares yesterday with now."""
    query = face.request.query_params
    ends = ends_of(face.plane, query.get("from", ""), query.get("to", ""))
    moved = between(face.plane, ends)
    return show(
        face,
        "difference.html",
        ends=ends,
        moved=moved,
        part=queries.Part.of(moved.criteria, query.get("page")),
        seen=observations_of(face.plane, moved.criteria),
        most=SHOWN_CAUSES,
        rounds=[r for r in face.plane.archive.rounds(20) if r.state == "done"],
        today=face.plane.today,
        **names(face.plane.catalog),
        assets=face.plane.judgement().assets,
    )


def ends_of(plane: Plane, before: str, after: str) -> Ends:
    """What is asked for. Raises ``RequestError`` for a day or a round that cannot be."""
    before, after = before.strip(), after.strip()
    if not before and not after:
        return Ends((plane.today - timedelta(days=1)).isoformat(), "", of_rounds=False)
    days = [bool(DAY.fullmatch(text)) for text in (before, after) if text]
    if before and not any(days):
        newest = next((r.id for r in plane.archive.rounds(20) if r.state == "done"), "")
        return Ends(before, after or newest, of_rounds=True)
    if not before or not all(days):
        raise RequestError(400, "bad_ends")
    first = queries.day_asked(before, plane.today)
    last = queries.day_asked(after, plane.today) or plane.today
    if first is None or first > last:
        raise RequestError(400, "ends_turned")
    return Ends(before, after, of_rounds=False)


def between(plane: Plane, ends: Ends) -> Difference:
    """The difference itself. Raises ``RequestError`` for a round that is not there."""
    if not ends.of_rounds:
        after = date.fromisoformat(ends.after) if ends.after else None
        return plane.difference_of_days(date.fromisoformat(ends.before), after)
    for id_ in (ends.before, ends.after):
        queries.done_round(plane, id_)
    try:
        return plane.difference(ends.before, ends.after)
    except VaultError as error:
        raise RequestError(500, "damaged", why=str(error)) from None


def observations_of(plane: Plane, moves: Sequence[CriterionMove]) -> Mapping[int, Observation]:
    """The observations that causes name, by their numbers; a negative one is a person's word."""
    wanted: set[int] = set()
    for move in moves:
        for cause in move.causes[:SHOWN_CAUSES]:
            wanted |= {number for number in _numbers(cause) if number}
    return plane.archive.observations(wanted)


def _numbers(cause: Cause) -> tuple[int | None, int | None]:
    return cause.observation_before, cause.observation_after
