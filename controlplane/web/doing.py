"""What people start, ask, answer and stop, for the pages and the API alike: who acts is always the one logged in.

It decides nothing: the plane refuses, and its sentences become the one shape of every error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import Request

from controlplane.bootstrap import Plane
from controlplane.bootstrap.acting import ClinicHoursError
from controlplane.collect.yaml_file import InventoryError
from controlplane.plays import PlayError
from controlplane.store.archive import BusyError
from controlplane.store.bundle import SigningKeyError
from controlplane.web import queries
from controlplane.web.access import Fields
from controlplane.web.errors import RequestError

LONGEST = {"limit": 2000, "note": 1000, "reason": 1000, "break_glass": 500, "preview_id": 64, "plays": 2000}


def start_preview(request: Request, play_id: str, form: Fields) -> str:
    """Begin a preview on the hosts and groups of ``limit`` (all of the play's, where it is empty); return its id."""
    plane, by = _known_play(request, play_id), name_of(request)
    with refusals():
        return plane.start_play(play_id, "preview", _names(form, "limit"), by=by)


def start_apply(request: Request, play_id: str, form: Fields) -> str:
    """Begin an apply, of exactly ``preview_id`` where it is given; return its id."""
    plane = _known_play(request, play_id)
    options = {"preview_id": _text(form, "preview_id"), "break_glass": _text(form, "break_glass")}
    if options["preview_id"]:
        queries.run_line_of(plane, options["preview_id"])
    with refusals():
        return plane.start_play(play_id, "apply", _names(form, "limit"), by=name_of(request), **options)


def start_resume(request: Request, run_id: str, form: Fields) -> str:
    """Begin what is left of a run; return the new run's id."""
    plane = _known_run(request, run_id)
    with refusals():
        return plane.start_resume(run_id, by=name_of(request), break_glass=_text(form, "break_glass"))


def start_drift(request: Request, form: Fields) -> str:
    """Begin a check of drift, of ``plays`` or of every one that was applied; return its id."""
    plane = _plane(request)
    with refusals():
        return plane.start_drift(_names(form, "plays"), by=name_of(request))


def cancel(request: Request, run_id: str) -> dict[str, Any]:
    """Ask a run to stop, whichever process carries it out; return the link that keeps the wish."""
    plane = _known_run(request, run_id)
    with refusals():
        link = plane.cancel_run(run_id, name_of(request))
    return {"run": run_id, "link": link.seq, "seal": link.seal}


def decide(request: Request, run_id: str, what: str, form: Fields) -> dict[str, Any]:
    """Ask for the approval of a preview (``request``), or answer: ``approve``, ``refuse``; return what was kept."""
    plane, by = _known_run(request, run_id), name_of(request)
    with refusals():
        if what == "request":
            return plane.request_approval(run_id, by, _text(form, "note"))
        if what == "approve":
            return plane.approve_run(run_id, by, _text(form, "note"))
        return plane.refuse_run(run_id, by, _text(form, "reason"))


def name_of(request: Request) -> str:
    """The account that acts."""
    name: str = request.state.session.account.name  # the table lets in nobody without a session
    return name


@contextmanager
def refusals() -> Iterator[None]:
    """What the plane refuses, as the one shape of an error. The sentences are the plane's, in either tongue."""
    try:
        yield
    except ClinicHoursError as error:
        raise RequestError(409, "clinic_hours", why=error.words) from None
    except (PlayError, InventoryError) as error:
        raise RequestError(409, "refused", why=error.words) from None
    except SigningKeyError as error:
        raise RequestError(409, "no_key", why=str(error)) from None
    except BusyError as error:
        what, _, host = str(error).partition(" ")
        if what == "host":
            raise RequestError(409, "busy_host", host=host) from None
        if what == "drift":
            raise RequestError(409, "busy_drift") from None
        raise RequestError(409, "busy_ending" if what == "ending" else "busy_runs") from None


def _plane(request: Request) -> Plane:
    plane: Plane = request.app.state.plane
    return plane


def _known_play(request: Request, play_id: str) -> Plane:
    plane = _plane(request)
    if play_id not in plane.plays:
        raise RequestError(404, "no_play", play=play_id[:80])
    return plane


def _known_run(request: Request, run_id: str) -> Plane:
    plane = _plane(request)
    queries.run_line_of(plane, run_id)
    return plane


def _text(form: Fields, name: str) -> str:
    text = " ".join(form.get(name, "").split())
    if len(text) > LONGEST[name]:
        raise RequestError(400, "long_field", field=name, most=LONGEST[name])
    return text


def _names(form: Fields, name: str) -> list[str]:
    return _text(form, name).replace(",", " ").split()
