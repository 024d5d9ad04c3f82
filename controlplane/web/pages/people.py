"""Who may come in: the door, passwords, accounts."""

from __future__ import annotations

import secrets
import threading
from datetime import timedelta
from typing import Any

from fastapi import Response
from fastapi.responses import RedirectResponse

from controlplane.store.accounts import ROLES, SHORTEST_PASSWORD, AccountError
from controlplane.web import access
from controlplane.web.access import Fields
from controlplane.web.errors import RequestError
from controlplane.web.pages.face import Face, Form, Plain, show

AT_THE_DOOR = threading.BoundedSemaphore(2)  # argon2 takes 64 MiB each: more at once would starve the machine
DOOR_SECONDS = 10.0


def login(face: Plain, next: str = "/", done: str = "") -> Response:
    """The form at the door."""
    return _login_form(face, access.safe_next(next), done=done == "1")


def _login_form(
    face: Face, next_: str, status: int = 200, problem: str = "", name: str = "", done: bool = False
) -> Response:
    token = access.login_token(face.request, face.plane.settings)
    response = show(face, "login.html", status, token=token, next=next_, problem=problem, name=name, done=done)
    access.set_cookie(response, face.plane.settings, token, "emr_form")
    return response


def log_in(face: Plain, form: Form) -> Response:
    """Open a session, or say why not."""
    plane, name = face.plane, form.get("name", "").strip().lower()[:64]
    next_ = access.safe_next(form.get("next", "/"))
    if not AT_THE_DOOR.acquire(timeout=DOOR_SECONDS):
        raise RequestError(503, "busy")
    try:
        lasts = timedelta(hours=plane.settings.session_hours)
        cookie, session = plane.accounts.log_in(name, form.get("password", ""), plane.clock(), lasts)
    except AccountError as error:
        problem = face.tongue.say(f"account.{error.code}", **error.figures)
        return _login_form(face, next_, 429 if error.code == "locked" else 401, problem, name)
    finally:
        AT_THE_DOOR.release()
    response = RedirectResponse("/password" if session.account.must_change else next_, 303)
    access.set_cookie(response, plane.settings, cookie)
    access.drop_cookie(response, plane.settings, "emr_form")
    return response


def log_out(face: Plain) -> Response:
    """End the session."""
    settings = face.plane.settings
    face.plane.accounts.log_out(face.request.cookies.get(access.cookie_name(settings), ""))
    response = RedirectResponse("/login?done=1", 303)
    access.drop_cookie(response, settings)
    return response


def password(face: Plain) -> Response:
    """The form for a new password."""
    return show(face, "password.html", problem="", least=SHORTEST_PASSWORD)


def set_password(face: Plain, form: Form) -> Response:
    """Set a new password; every other session of the account ends."""
    plane, session = face.plane, face.session
    assert session is not None  # noqa: S101  # the table lets nobody else in
    name, new = session.account.name, form.get("new", "")
    lasts = timedelta(hours=plane.settings.session_hours)
    if not AT_THE_DOOR.acquire(timeout=DOOR_SECONDS):
        raise RequestError(503, "busy")
    try:
        if not session.account.must_change:
            cookie, _ = plane.accounts.log_in(name, form.get("old", ""), plane.clock(), lasts)
            plane.accounts.log_out(cookie)
        problem = _bad_password(face, form)
        if problem:
            return show(face, "password.html", 400, problem=problem, least=SHORTEST_PASSWORD)
        plane.accounts.set_password(name, new)
        cookie, _ = plane.accounts.log_in(name, new, plane.clock(), lasts)
    except AccountError as error:
        code = "old_wrong" if error.code == "wrong" else ""
        problem = (
            face.tongue.w("password.old_wrong") if code else face.tongue.say(f"account.{error.code}", **error.figures)
        )
        return show(face, "password.html", 400, problem=problem, least=SHORTEST_PASSWORD)
    finally:
        AT_THE_DOOR.release()
    response = RedirectResponse("/", 303)
    access.set_cookie(response, plane.settings, cookie)
    return response


def _bad_password(face: Face, form: Fields) -> str:
    new = form.get("new", "")
    if new != form.get("again", ""):
        return face.tongue.w("password.not_same")
    if face.session and face.session.account.name in new.lower() and len(new) < 2 * SHORTEST_PASSWORD:
        return face.tongue.w("password.holds_name")
    return ""


def accounts(face: Plain) -> Response:
    """Who may log in."""
    return _accounts(face)


def _accounts(face: Face, status: int = 200, **content: Any) -> Response:
    given = {"problem": "", "secret": "", "secret_of": "", "done": ""} | content
    return show(face, "accounts.html", status, people=face.plane.accounts.all(), roles=ROLES, **given)


def add_account(face: Plain, form: Form) -> Response:
    """Add an account and show its one-time password, once."""
    plane, name = face.plane, form.get("name", "").strip()
    try:
        plane.accounts.add(name, form.get("role", ""), secrets.token_urlsafe(24), plane.clock(), must_change=True)
        secret = plane.accounts.one_time_password(name)
    except AccountError as error:
        return _accounts(face, 400, problem=face.tongue.say(f"account.{error.code}", **error.figures))
    return _accounts(face, secret=secret, secret_of=name)


def reset_account(face: Plain, form: Form) -> Response:
    """Give an account a new one-time password; its sessions end."""
    name = form.get("name", "")
    try:
        secret = face.plane.accounts.one_time_password(name)
    except AccountError as error:
        return _accounts(face, 400, problem=face.tongue.say(f"account.{error.code}", **error.figures))
    return _accounts(face, secret=secret, secret_of=name)


def revoke_account(face: Plain, form: Form) -> Response:
    """Shut an account: its sessions end and its password becomes one that nobody knows."""
    name = form.get("name", "")
    if face.session and name == face.session.account.name:
        return _accounts(face, 400, problem=face.tongue.w("accounts.not_yourself"))
    try:
        face.plane.accounts.one_time_password(name)
    except AccountError as error:
        return _accounts(face, 400, problem=face.tongue.say(f"account.{error.code}", **error.figures))
    return _accounts(face, done=face.tongue.w("accounts.revoked", name=name))
