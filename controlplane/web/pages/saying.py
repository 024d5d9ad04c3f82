"""The form in which somebody answerable says a word about criteria, with documents. What is wrong leaves it filled."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from controlplane.bootstrap import Paper, Plane
from controlplane.domain.chain import Link
from controlplane.domain.declared import Word, WordError, accepts
from controlplane.domain.model import Criterion, Declared
from controlplane.intake import IntakeError
from controlplane.web.access import Fields
from controlplane.web.errors import RequestError
from controlplane.web.pages.face import Face, Form, Plain, show
from controlplane.web.words import Tongue

DAYS = ("issued_on", "effective_on", "expires_on")
LONGEST = {"by": 200, "statement": 1000, "number": 80, "signer": 120, "also": 8000, "criterion": 96}
MOST_CRITERIA = 100
MOST_COUNT = 1_000_000


class FormError(ValueError):
    """A field that cannot be read; ``sentence`` says so in the reader's tongue."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


@dataclass(frozen=True)
class Choice:
    """A kind of word, and why it may not be given about the criterion (empty: it may)."""

    kind: Declared
    refused: str


def declare(face: Plain) -> Response:
    """The empty form about one criterion, or the note that the last word was kept."""
    query = face.request.query_params
    criterion = _criterion(face.plane, query.get("criterion", ""))
    kept = query.get("kept", "")
    fields = {"criterion": criterion.id} if criterion else {}
    return _form(face, fields, kept=int(kept) if re.fullmatch(r"[1-9][0-9]{0,8}", kept) else None)


def keep(face: Plain, form: Form) -> Response:
    """Keep the word, or show the form again with what is wrong."""
    try:
        word, link = say(face.request, face.tongue, form)
    except FormError as error:
        return _form(face, form, 400, problem=error.sentence)
    return RedirectResponse(f"/declare?{urlencode({'criterion': word.criteria[0], 'kept': link.seq})}", 303)


def say(request: Request, tongue: Tongue, form: Fields) -> tuple[Word, Link]:
    """The one way a word comes in from outside, for the page and the API. Raises ``FormError``."""
    plane: Plane = request.app.state.plane
    word = _word(form, tongue, request.state.session.account.name)
    try:
        return word, plane.declare(word, papers_of(plane, request.state.files, tongue))
    except WordError as error:
        raise FormError(tongue.declare(error.reason)) from None


def _form(face: Face, fields: Mapping[str, str], status: int = 200, **content: Any) -> Response:
    criterion = _criterion(face.plane, fields.get("criterion", ""), strict=status == 200)
    choices = [Choice(kind, _refused(criterion, kind)) for kind in Declared]
    if criterion is not None and not face.plane.archive.words_about(criterion.id):
        choices = [choice for choice in choices if choice.kind is not Declared.WITHDRAWN]
    open_ = [choice.kind for choice in choices if not choice.refused]
    given = fields.get("kind", "")
    return show(
        face,
        "declare.html",
        status,
        criterion=criterion,
        framework=face.plane.catalog.frameworks[criterion.framework] if criterion else None,
        choices=choices,
        chosen=given if given in open_ else next(iter(open_), ""),
        filled={name: fields.get(name, "") for name in (*LONGEST, *DAYS, "count")},
        longest=LONGEST,
        today=face.plane.today,
        most_mb=face.plane.settings.largest_upload_mb,
        **{"problem": "", "kept": None} | content,
    )


def _criterion(plane: Plane, id_: str, *, strict: bool = True) -> Criterion | None:
    found = plane.catalog.criteria.get(id_.strip())
    if id_ and found is None and strict:
        raise RequestError(404, "no_criterion", criterion=id_[:80])
    return found


def _refused(criterion: Criterion | None, kind: Declared) -> str:
    return (accepts(criterion, kind) or "") if criterion else ""


def _word(form: Fields, tongue: Tongue, account: str) -> Word:
    for name, most in LONGEST.items():
        if len(form.get(name, "")) > most:
            raise FormError(tongue.w("declare.too_long", field=tongue.w(f"declare.{name}"), most=most))
    criteria = dict.fromkeys(re.split(r"[\s,;]+", f"{form.get('criterion', '')} {form.get('also', '')}".strip()))
    if len(criteria) > MOST_CRITERIA:
        raise FormError(tongue.w("declare.too_many", most=MOST_CRITERIA))
    if form.get("kind") not in set(Declared):
        raise FormError(tongue.w("declare.no_kind"))
    by, statement, number, signer = (" ".join(form.get(n, "").split()) for n in ("by", "statement", "number", "signer"))
    issued_on, effective_on, expires_on = (day_of(form, name, tongue) for name in DAYS)
    return Word(
        tuple(name for name in criteria if name),
        Declared(form["kind"]),
        by,
        statement,
        number,
        signer,
        issued_on,
        effective_on,
        expires_on,
        _count(form, tongue),
        account,
    )


def day_of(form: Fields, name: str, tongue: Tongue, label: str = "") -> date | None:
    """The day in a field; None where it is empty. ``label`` names its text. Raises ``FormError``."""
    text = form.get(name, "").strip()
    if not text:
        return None
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise FormError(tongue.w("declare.bad_day", field=tongue.w(label or f"declare.{name}"), text=text[:40]))


def _count(form: Fields, tongue: Tongue) -> int | None:
    text = form.get("count", "").strip()
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,7}", text) or int(text) > MOST_COUNT:
        raise FormError(tongue.say("declare.bad_count", count=text[:40]))
    return int(text)


def papers_of(plane: Plane, files: Sequence[tuple[str, bytes]], tongue: Tongue) -> list[Paper]:
    """The files of a form as documents that may be kept. Raises ``FormError`` naming the file."""
    papers = []
    for name, data in files:
        try:
            papers.append(plane.examine(name, data))
        except IntakeError as error:
            raise FormError(tongue.w("declare.file", name=name[:80], why=tongue.words(error.words))) from None
    return papers
