"""The API of plays: what there is, previews, approvals, applies, cancel and resume, live events, drift.

Every write is done by the account that is logged in, needs the token of its session and is kept in the chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response

from controlplane.web import access, doing, events, playing, queries
from controlplane.web.api import Answer, Failure, Many
from controlplane.web.errors import RequestError
from controlplane.web.pages.face import Form


@dataclass(frozen=True)
class Started:
    """What was begun; the header Location says where it is seen."""

    id: str


@dataclass(frozen=True)
class Decision:
    """What was asked or answered about a preview, with the seal of its link."""

    run: str
    play: str
    state: str  # requested, approved, refused
    by: str
    role: str
    note: str
    seal: str


@dataclass(frozen=True)
class Wish:
    """That a run should stop, kept in the chain."""

    run: str
    link: int
    seal: str


def plays(request: Request, page: Annotated[str | None, Query()] = None) -> Many[playing.PlayRow]:
    """Every play: what it does, the checks that name it, the criteria it would mend now, its newest runs, drift."""
    plane = request.app.state.plane
    part = queries.Part.of(playing.play_rows(plane, plane.judgement()), page)
    return Many(list(part.items), part.page, part.pages, part.total)


def start_preview(request: Request, response: Response, play: str, form: Form) -> Answer[Started]:
    """Begin a preview on hosts or groups; nothing is changed."""
    return _started(response, "runs", doing.start_preview(request, play, form))


def start_apply(request: Request, response: Response, play: str, form: Form) -> Answer[Started]:
    """Begin an apply: of a preview, where one is named; approved by a second role, where the play says so."""
    return _started(response, "runs", doing.start_apply(request, play, form))


def request_approval(request: Request, run_id: str, form: Form) -> Answer[Decision]:
    """Ask for the approval of exactly this preview."""
    return _decided(doing.decide(request, run_id, "request", form))


def approve(request: Request, run_id: str, form: Form) -> Answer[Decision]:
    """Approve exactly this preview: somebody else than who asked, with another role."""
    return _decided(doing.decide(request, run_id, "approve", form))


def refuse(request: Request, run_id: str, form: Form) -> Answer[Decision]:
    """Refuse a preview, with a reason. It is final."""
    return _decided(doing.decide(request, run_id, "refuse", form))


def cancel(request: Request, run_id: str, form: Form) -> Answer[Wish]:
    """Ask a run to stop, whichever process carries it out. Its dossier is kept."""
    return Answer(Wish(**doing.cancel(request, run_id)))


def resume(request: Request, response: Response, run_id: str, form: Form) -> Answer[Started]:
    """Begin an apply on the hosts that failed, were unreachable or were cancelled; all of one that was interrupted."""
    return _started(response, "runs", doing.start_resume(request, run_id, form))


def standing(request: Request, run_id: str) -> Answer[playing.Standing]:
    """Whether the signature of a run holds, what was asked and answered about it, and what may be done next."""
    plane = request.app.state.plane
    return Answer(playing.standing_of(plane, queries.run_of(plane, run_id)))


def progress(request: Request, run_id: str) -> Answer[playing.RunProgress]:
    """How far a run is, host by host; the four words of a host stay apart."""
    plane = request.app.state.plane
    return Answer(playing.progress_of(plane, queries.run_line_of(plane, run_id)))


def drift(request: Request) -> Answer[Mapping[str, Any]]:
    """What the newest check of drift found: each difference with the criteria it stands for."""
    found = request.app.state.plane.last_drift()
    if found is None:
        raise RequestError(404, "no_drift")
    return Answer(found)


def start_drift(request: Request, response: Response, form: Form) -> Answer[Started]:
    """Begin a check of drift over every play that was applied, or over some of them."""
    return _started(response, "drift", doing.start_drift(request, form))


def _started(response: Response, what: str, id_: str) -> Answer[Started]:
    response.headers["Location"] = f"{access.API}/{what}/{id_}" if what == "runs" else f"{access.API}/{what}"
    return Answer(Started(id_))


def _decided(kept: Mapping[str, Any]) -> Answer[Decision]:
    names = ("run", "play", "state", "by", "role", "note", "seal")
    return Answer(Decision(**{name: kept[name] for name in names}))


TEXT = {"type": "string"}
LIMIT = {"limit": TEXT | {"description": "Hosts or groups, with commas between; nothing: all of the play's group."}}
NOTE = {"note": TEXT | {"description": "Kept with the decision."}}
GLASS = {"break_glass": TEXT | {"description": "Why a disruptive play cannot wait until clinic hours are over."}}
PREVIEW = {"preview_id": TEXT | {"description": "Carry out exactly this preview, on its hosts."}}
REASON = {"reason": TEXT | {"description": "Why not."}}

READ = (
    ("/plays", plays, "Plays and what each would mend now"),
    ("/runs/{run_id}/standing", standing, "Signature, approvals and next steps of a run"),
    ("/runs/{run_id}/progress", progress, "How far a run is"),
    ("/drift", drift, "The newest check of drift"),
)
WRITE: tuple[tuple[str, Any, int, str, Mapping[str, Any]], ...] = (
    ("/plays/{play}/preview", start_preview, 202, "Begin a preview", LIMIT),
    ("/plays/{play}/apply", start_apply, 202, "Begin an apply", PREVIEW | LIMIT | GLASS),
    ("/runs/{run_id}/request", request_approval, 201, "Ask for an approval", NOTE),
    ("/runs/{run_id}/approve", approve, 201, "Approve a preview", NOTE),
    ("/runs/{run_id}/refuse", refuse, 201, "Refuse a preview", REASON),
    ("/runs/{run_id}/cancel", cancel, 202, "Ask a run to stop", {}),
    ("/runs/{run_id}/resume", resume, 202, "Go on with a run", GLASS),
    ("/drift", start_drift, 202, "Begin a check of drift", {"plays": TEXT}),
)


def mount(app: FastAPI) -> None:
    """Hang the API of plays into the app."""
    app.state.listeners = events.Listeners()
    statuses = {400: "A bad request", 401: "Not logged in", 403: "Not allowed", 404: "Not there"}
    failures: dict[int | str, dict[str, Any]] = {
        status: {"model": Failure, "description": words} for status, words in statuses.items()
    }
    busy: dict[int | str, dict[str, Any]] = {
        409: {"model": Failure, "description": "Refused: busy, clinic hours, no approval, something has changed"}
    }
    for path, endpoint, summary in READ:
        options: dict[str, Any] = {"summary": summary, "tags": ["plays"], "responses": failures}
        app.add_api_route(
            f"{access.API}{path}", endpoint, methods=["GET"], operation_id=f"get_{endpoint.__name__}", **options
        )
    for path, endpoint, status, summary, fields in WRITE:
        schema = {"type": "object", "properties": dict(fields)}
        body = {"content": {"application/x-www-form-urlencoded": {"schema": schema}}}
        options = {"summary": summary, "tags": ["plays"], "responses": failures | busy, "status_code": status}
        options |= {"operation_id": endpoint.__name__, "openapi_extra": {"requestBody": body}}
        app.add_api_route(f"{access.API}{path}", endpoint, methods=["POST"], **options)
    stream: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/event-stream": {}}, "description": "Events"},
        429: {"model": Failure, "description": "Too many listeners"},
    }
    app.add_api_route(
        f"{access.API}/runs/{{run_id}}/events",
        events.events,
        methods=["GET"],
        summary="Events of a run as they come (server-sent events)",
        tags=["plays"],
        responses=failures | stream,
        status_code=200,
        response_class=events.EventStream,
        response_model=None,
        operation_id="events",
    )
