"""Plays and their runs: what a play would mend, previews, approvals, applies, the live page, the dossier, drift.

They decide nothing: what may not be is refused by the plane, with its sentence beside the form.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from fastapi import Response
from fastapi.responses import HTMLResponse, RedirectResponse

from controlplane.domain.model import Verdict
from controlplane.web import doing, playing, queries
from controlplane.web.errors import RequestError
from controlplane.web.pages.face import ENVIRONMENT, Face, Form, Plain, show
from controlplane.web.pages.seeing import names

LIVE_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self' data:; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""The policy of the one page with a script: scripts of this house only, and they may ask this house only."""

SHOWN = 6  # criteria or hosts in one line of a list


def plays(face: Plain) -> Response:
    """Every play, with what it would mend now."""
    return _plays(face)


def _plays(face: Face, status: int = 200, problem: str = "", of: str = "") -> Response:
    judgement = face.plane.judgement()
    rows = playing.play_rows(face.plane, judgement)
    rows.sort(key=lambda row: -len(row.mends))
    return show(
        face,
        "plays.html",
        status,
        rows=rows,
        problem=problem,
        of=of,
        most=SHOWN,
        hours=face.plane.settings.clinic_hours,
        **names(judgement.catalog),
    )


def preview(face: Plain, play: str, form: Form) -> Response:
    """Begin a preview and go to its page."""
    try:
        run_id = doing.start_preview(face.request, play, form)
    except RequestError as error:
        if error.status == 404:
            raise
        return _plays(face, error.status, face.tongue.error(error.code, error.figures), play)
    return RedirectResponse(f"/runs/{run_id}", 303)


def runs(face: Plain) -> Response:
    """Plays that were previewed or applied."""
    part = queries.Part.of(face.plane.archive.runs(1000), face.request.query_params.get("page"))
    return show(face, "runs.html", part=part, plays=face.plane.plays)


def run(face: Plain, run_id: str) -> Response:
    """One run: live while it lasts, its dossier afterwards."""
    if face.request.query_params.get("piece") == "live":
        return _piece(face, run_id)
    return _run(face, run_id)


def _piece(face: Face, run_id: str) -> Response:
    """The part of the live page that the script asks for again."""
    line = queries.run_line_of(face.plane, run_id)
    t, progress = face.tongue, playing.progress_of(face.plane, line)
    template = ENVIRONMENT.get_template("live.html")
    content = {"progress": progress, "stages": playing.stages_of(progress), "run": line}
    return HTMLResponse(template.render(face=face, t=t, w=t.w, say=t.say, **content))


def _told(face: Face, found: dict[str, Any]) -> dict[str, Any]:
    """What the page of a run and the page before its apply both tell of it."""
    dossier = queries.dossier_of(found.get("body"))
    return {
        "run": found,
        "dossier": dossier,
        "standing": playing.standing_of(face.plane, found),
        "play": face.plane.plays.get(found["play"]),
        "hosts": playing.by_host(dossier.about, dossier.moved),
    }


def _run(face: Face, run_id: str, status: int = 200, problem: str = "") -> Response:
    found = queries.run_of(face.plane, run_id)
    running = found["state"] == "running"
    progress = playing.progress_of(face.plane, found) if running else None
    response = show(
        face,
        "run.html",
        status,
        **_told(face, found),
        progress=progress,
        stages=playing.stages_of(progress) if progress else [],
        diff_lines=playing.diff_lines,
        problem=problem,
        longest=doing.LONGEST,
        hours=face.plane.settings.clinic_hours,
        **names(face.plane.judgement().catalog),
    )
    if running:
        response.headers["Content-Security-Policy"] = LIVE_POLICY
    return response


def confirm(face: Plain, run_id: str) -> Response:
    """What is about to be carried out, on which hosts, allowed by whom; the button stands below."""
    return _confirm(face, run_id)


def _confirm(face: Face, run_id: str, status: int = 200, problem: str = "", glass: str = "") -> Response:
    found = queries.run_of(face.plane, run_id)
    return show(
        face,
        "apply.html",
        status,
        **_told(face, found),
        problem=problem,
        glass=glass,
        longest=doing.LONGEST,
        hours=face.plane.settings.clinic_hours,
    )


def apply(face: Plain, run_id: str, form: Form) -> Response:
    """Carry out exactly this preview."""
    line = queries.run_line_of(face.plane, run_id)
    fields = {"preview_id": run_id, "break_glass": form.get("break_glass", "")}
    try:
        begun = doing.start_apply(face.request, line["play"], fields)
    except RequestError as error:
        if error.status == 404:
            raise
        sentence = face.tongue.error(error.code, error.figures)
        return _confirm(face, run_id, error.status, sentence, fields["break_glass"])
    return RedirectResponse(f"/runs/{begun}", 303)


def request_approval(face: Plain, run_id: str, form: Form) -> Response:
    """Ask for the approval of a preview."""
    return _then(face, run_id, lambda: doing.decide(face.request, run_id, "request", form))


def approve(face: Plain, run_id: str, form: Form) -> Response:
    """Approve a preview."""
    return _then(face, run_id, lambda: doing.decide(face.request, run_id, "approve", form))


def refuse(face: Plain, run_id: str, form: Form) -> Response:
    """Refuse a preview."""
    return _then(face, run_id, lambda: doing.decide(face.request, run_id, "refuse", form))


def cancel(face: Plain, run_id: str, form: Form) -> Response:
    """Ask a run to stop."""
    return _then(face, run_id, lambda: doing.cancel(face.request, run_id))


def resume(face: Plain, run_id: str, form: Form) -> Response:
    """Begin what is left of a run and go to the new one."""
    return _then(face, run_id, lambda: doing.start_resume(face.request, run_id, form))


def _then(face: Face, run_id: str, act: Callable[[], Any]) -> Response:
    """Do it and show the run; what was refused stands on the run's page."""
    try:
        done = act()
    except RequestError as error:
        if error.status == 404:
            raise
        return _run(face, run_id, error.status, face.tongue.error(error.code, error.figures))
    return RedirectResponse(f"/runs/{done if isinstance(done, str) else run_id}", 303)


def drift(face: Plain) -> Response:
    """What has moved away from what was applied."""
    return _drift(face)


def _drift(face: Face, status: int = 200, problem: str = "") -> Response:
    judgement, found = face.plane.judgement(), face.plane.last_drift()
    verdicts: dict[str, Verdict] = {score.id: score.verdict for score in judgement.card.criteria}
    under_way = face.plane.archive.runs(mode="drift", state="running")
    return show(
        face,
        "drift.html",
        status,
        found=found,
        moment=datetime.fromisoformat,
        under_way=under_way,
        applied=face.plane.applied_hosts(),
        plays=face.plane.plays,
        verdicts=verdicts,
        diff_lines=playing.diff_lines,
        problem=problem,
        drift_at=face.plane.settings.drift_at,
        **names(judgement.catalog),
    )


def check_drift(face: Plain, form: Form) -> Response:
    """Begin a check of drift."""
    try:
        doing.start_drift(face.request, form)
    except RequestError as error:
        return _drift(face, error.status, face.tongue.error(error.code, error.figures))
    return RedirectResponse("/drift", 303)
