"""The law at its time: which level a system falls under, duties with their days, dossiers, clocks, penalties.

Answers about the level and an incident are not kept: they stand in the address, which can be sent to somebody.
Only that a duty was done, or that a paper is there, is kept in the chain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from fastapi import Response
from fastapi.responses import RedirectResponse

from controlplane.bootstrap import Plane
from controlplane.domain import duties as duty
from controlplane.domain.chain import Link
from controlplane.domain.duties import Deadline, DossierState, Due, DutyError, Part
from controlplane.domain.leveling import Answer, Determination, Questionnaire, determine
from controlplane.domain.model import Verdict
from controlplane.web import queries
from controlplane.web.access import Fields
from controlplane.web.errors import RequestError
from controlplane.web.pages.face import Face, Form, Plain, show
from controlplane.web.pages.saying import LONGEST, FormError, day_of, papers_of

MOST_PEOPLE = 100_000_000
MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}")
INCIDENT = ("serious", "grave", "personal_data")


@dataclass(frozen=True)
class Incident:
    """What is known of an incident, and the clocks that run because of it."""

    noticed: str
    flags: Mapping[str, bool]
    clocks: tuple[Deadline, ...]


def law(face: Plain) -> Response:
    """One page with everything that the law asks at its time."""
    kept = face.request.query_params.get("kept", "")
    return _page(face, kept=int(kept) if re.fullmatch(r"[1-9][0-9]{0,8}", kept) else None)


def keep(face: Plain, form: Form) -> Response:
    """Keep that a duty was done or that a part of a dossier is there, or show the page again with what is wrong."""
    try:
        link = _file(face, form)
    except FormError as error:
        return _page(face, 400, problem=error.sentence, filled=form)
    return RedirectResponse(f"/law?kept={link.seq}#file", 303)


def _file(face: Face, form: Fields) -> Link:
    plane, t = face.plane, face.tongue
    by, on = " ".join(form.get("by", "").split()), day_of(form, "on", t, "law.done_on")
    if not by or len(by) > LONGEST["by"]:
        raise FormError(t.w("law.no_office", most=LONGEST["by"]))
    if on is None or on > plane.today:
        raise FormError(t.w("law.no_day"))
    papers = papers_of(plane, face.request.state.files, t)
    if len(papers) > 1:
        raise FormError(t.w("law.one_paper"))
    try:
        account = face.request.state.session.account.name
        return plane.file(form.get("name", ""), by, on, papers[0] if papers else None, account)
    except DutyError:
        raise FormError(t.w("law.no_such")) from None


def _page(face: Face, status: int = 200, **content: Any) -> Response:
    query, plane = face.request.query_params, face.plane
    questionnaire = plane.questionnaire
    answers = answers_of(questionnaire, query)
    found = determine(questionnaire, answers)
    level = query.get("level", "")
    return show(
        face,
        "law.html",
        status,
        questionnaire=questionnaire,
        answers=answers,
        found=found if answers else None,
        level=level,
        levels=duty.LEVELS,
        dues=dues_of(plane, level),
        dossiers=dossiers_of(plane),
        events=[d for d in plane.duties.duties if isinstance(d.when, duty.Event) and d.ours],
        incident=incident_of(plane, query),
        flags=INCIDENT,
        penalties=plane.duties.penalties,
        every=[d for d in plane.duties.duties if d.ours],
        longest=LONGEST,
        today=plane.today,
        **{"problem": "", "kept": None, "filled": {}} | content,
    )


def answers_of(questionnaire: Questionnaire, query: Mapping[str, str]) -> dict[str, Answer]:
    """The answers in an address; what is left open is left out. Raises ``RequestError`` naming the question."""
    answers: dict[str, Answer] = {}
    for question in questionnaire.questions:
        text = query.get(question.id, "").strip()
        if not text:
            continue
        answer = _answer(question.kind, text, questionnaire.levels)
        if answer is None:
            raise RequestError(400, "bad_field", field=question.id)
        answers[question.id] = answer
    return answers


def _answer(kind: str, text: str, levels: Sequence[str]) -> Answer | None:
    if kind == "yes_no":
        return {"yes": True, "no": False}.get(text)
    if kind == "level":
        return levels.index(text) + 1 if text in levels else None
    number = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None
    return number if number is not None and number <= MOST_PEOPLE else None


def determination_of(plane: Plane, query: Mapping[str, str]) -> Determination:
    """What the answers in an address lead to."""
    return determine(plane.questionnaire, answers_of(plane.questionnaire, query))


def dues_of(plane: Plane, level: str) -> tuple[Due, ...]:
    """Duties with their days, for one security level or all of them."""
    if level and level not in duty.LEVELS:
        raise RequestError(400, "bad_filter", name="level", value=level[:40])
    return duty.due_dates(plane.duties, plane.today, level=level or None, done=plane.filed("duty"))


def incident_of(plane: Plane, query: Mapping[str, str]) -> Incident | None:
    """The clocks of the incident in an address; nothing is kept of it. Raises ``RequestError``."""
    text = query.get("noticed", "").strip()
    flags = {name: query.get(name) == "1" for name in INCIDENT}
    if not text:
        return None
    if not MOMENT.fullmatch(text):
        raise RequestError(400, "bad_moment", text=text[:40])
    try:
        noticed = datetime.fromisoformat(text).replace(tzinfo=plane.settings.timezone)
    except ValueError:
        raise RequestError(400, "bad_moment", text=text) from None
    queries.day_asked(noticed.date().isoformat(), plane.today)
    return Incident(text, flags, duty.incident_clocks(plane.duties, noticed, **flags))


@dataclass(frozen=True)
class PartState:
    """A paper of a dossier: there by its criteria, filed on a day, or missing."""

    part: Part
    state: str  # there | filed | missing
    filed_on: date | None


@dataclass(frozen=True)
class DossierView:
    """A dossier with what the criteria say of its papers."""

    state: DossierState
    parts: tuple[PartState, ...]


def dossiers_of(plane: Plane) -> list[DossierView]:
    """Every dossier; a paper is there when it was filed, or when all criteria that speak of it are met today."""
    filed = plane.filed("part")
    scores = {score.id: score.verdict for score in plane.judgement().card.criteria}
    views = []
    for entry in plane.duties.dossiers:
        proven = {p.id for p in entry.parts if p.criteria and all(scores.get(c) is Verdict.MET for c in p.criteria)}
        days = {p.id: filed.get(f"{entry.id}.{p.id}") for p in entry.parts}
        state = duty.dossier(plane.duties, entry.id, proven | {id_ for id_, day in days.items() if day})
        parts = (
            PartState(p, "there" if p.id in proven else "filed" if days[p.id] else "missing", days[p.id])
            for p in entry.parts
        )
        views.append(DossierView(state, tuple(parts)))
    return views
