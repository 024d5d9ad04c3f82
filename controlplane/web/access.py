"""Who may ask for what: one table of routes and roles, the session cookie, the token of every form.

It refuses every route that does not stand in the table, and every form without its token.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Request, Response
from starlette.exceptions import HTTPException

from controlplane.bootstrap import Plane
from controlplane.settings import Settings
from controlplane.store.accounts import ROLES, Session
from controlplane.web.errors import GoTo, RequestError

ANONYMOUS = "anonymous"  # not logged in
LOOPBACK = "loopback"  # not logged in, on this very machine and through no proxy

API = "/api/v1"
EVERYBODY = frozenset({ANONYMOUS, LOOPBACK, *ROLES})
LOGGED_IN = frozenset(ROLES)
OFFICE = frozenset({"director", "engineer", "admin"})
TECHNICAL = frozenset({"director", "engineer", "auditor", "admin"})  # may see addresses and runs
EVIDENCE = frozenset({"auditor", "engineer", "admin"})  # may see raw bytes and take them away
ANSWERABLE = frozenset({"director", "engineer", "admin"})  # may declare; who examines the evidence never does
ADMIN = frozenset({"admin"})
ACTING = frozenset({"engineer", "admin"})  # may preview, apply, resume; who approves is a matter of the two roles
STOPPING = frozenset({"director", "engineer", "admin"})  # may stop a run, and answer a request for an approval

TABLE: Mapping[tuple[str, str], frozenset[str]] = {
    ("GET", "/"): LOGGED_IN,
    ("GET", "/criteria"): LOGGED_IN,
    ("GET", "/criteria/{criterion}"): LOGGED_IN,
    ("GET", "/declare"): ANSWERABLE,
    ("POST", "/declare"): ANSWERABLE,
    ("GET", "/difference"): TECHNICAL,
    ("GET", "/plan"): TECHNICAL,
    ("GET", "/law"): LOGGED_IN,
    ("POST", "/law/filed"): ANSWERABLE,
    ("GET", "/assets"): TECHNICAL,
    ("GET", "/assets/{name}"): TECHNICAL,
    ("GET", "/network"): TECHNICAL,
    ("GET", "/rounds"): TECHNICAL,
    ("GET", "/rounds/{round_id}"): TECHNICAL,
    ("GET", "/runs"): TECHNICAL,
    ("GET", "/runs/{run_id}"): TECHNICAL,
    ("GET", "/plays"): TECHNICAL,
    ("POST", "/plays/{play}/preview"): ACTING,
    ("GET", "/runs/{run_id}/apply"): ACTING,
    ("POST", "/runs/{run_id}/apply"): ACTING,
    ("POST", "/runs/{run_id}/request"): ACTING,
    ("POST", "/runs/{run_id}/approve"): STOPPING,
    ("POST", "/runs/{run_id}/refuse"): STOPPING,
    ("POST", "/runs/{run_id}/cancel"): STOPPING,
    ("POST", "/runs/{run_id}/resume"): ACTING,
    ("GET", "/drift"): TECHNICAL,
    ("POST", "/drift"): ACTING,
    ("GET", "/evidence"): EVIDENCE,
    ("POST", "/evidence/bundle"): EVIDENCE,
    ("GET", "/evidence/minutes/{link}"): EVIDENCE,
    ("GET", "/raw/{sha256}"): EVIDENCE,
    ("GET", "/raw/{sha256}/bytes"): EVIDENCE,
    ("GET", "/reports"): OFFICE,
    ("GET", "/reports/weekly.docx"): OFFICE,
    ("GET", "/accounts"): ADMIN,
    ("POST", "/accounts/add"): ADMIN,
    ("POST", "/accounts/reset"): ADMIN,
    ("POST", "/accounts/revoke"): ADMIN,
    ("GET", "/login"): EVERYBODY,
    ("POST", "/login"): EVERYBODY,
    ("GET", "/password"): LOGGED_IN,
    ("POST", "/password"): LOGGED_IN,
    ("POST", "/logout"): LOGGED_IN,
    ("GET", "/static/{name}"): EVERYBODY,
    ("GET", "/healthz"): EVERYBODY,
    ("GET", "/metrics"): frozenset({LOOPBACK, "engineer", "admin"}),
    ("GET", f"{API}/openapi.json"): LOGGED_IN,
    ("GET", f"{API}/overview"): LOGGED_IN,
    ("GET", f"{API}/criteria"): LOGGED_IN,
    ("GET", f"{API}/criteria/{{criterion}}"): LOGGED_IN,
    ("GET", f"{API}/session"): LOGGED_IN,
    ("GET", f"{API}/score"): LOGGED_IN,
    ("GET", f"{API}/difference"): TECHNICAL,
    ("GET", f"{API}/duties"): LOGGED_IN,
    ("GET", f"{API}/level"): LOGGED_IN,
    ("GET", f"{API}/plan"): TECHNICAL,
    ("POST", f"{API}/declarations"): ANSWERABLE,
    ("GET", f"{API}/checks"): LOGGED_IN,
    ("GET", f"{API}/assets"): TECHNICAL,
    ("GET", f"{API}/assets/{{name}}"): TECHNICAL,
    ("GET", f"{API}/rounds"): TECHNICAL,
    ("GET", f"{API}/rounds/{{round_id}}"): TECHNICAL,
    ("GET", f"{API}/runs"): TECHNICAL,
    ("GET", f"{API}/runs/{{run_id}}"): TECHNICAL,
    ("GET", f"{API}/plays"): TECHNICAL,
    ("POST", f"{API}/plays/{{play}}/preview"): ACTING,
    ("POST", f"{API}/plays/{{play}}/apply"): ACTING,
    ("GET", f"{API}/runs/{{run_id}}/standing"): TECHNICAL,
    ("GET", f"{API}/runs/{{run_id}}/progress"): TECHNICAL,
    ("GET", f"{API}/runs/{{run_id}}/events"): TECHNICAL,
    ("POST", f"{API}/runs/{{run_id}}/request"): ACTING,
    ("POST", f"{API}/runs/{{run_id}}/approve"): STOPPING,
    ("POST", f"{API}/runs/{{run_id}}/refuse"): STOPPING,
    ("POST", f"{API}/runs/{{run_id}}/cancel"): STOPPING,
    ("POST", f"{API}/runs/{{run_id}}/resume"): ACTING,
    ("GET", f"{API}/drift"): TECHNICAL,
    ("POST", f"{API}/drift"): ACTING,
    ("GET", f"{API}/backups"): TECHNICAL,
    ("GET", f"{API}/chain"): TECHNICAL,
    ("GET", f"{API}/raw/{{sha256}}"): EVIDENCE,
}

BEFORE_A_NEW_PASSWORD = frozenset({"/password", "/logout", "/login", "/static/{name}", "/healthz"})
LOOPBACK_CLIENTS = frozenset({"127.0.0.1", "::1"})
LOOPBACK_NAMES = frozenset({"127.0.0.1", "::1", "localhost"})
PROXY_HEADERS = ("x-forwarded-for", "x-real-ip", "forwarded", "via")
MOST_FIELDS = 12
CSRF_HEADER = "x-csrf-token"  # for programs; a form sends the field csrf
Fields = Mapping[str, str]

WITH_FILES = frozenset({"/declare", "/law/filed", f"{API}/declarations"})
"""The only forms that may bring files; their bodies may be as large as the settings say."""
MOST_FILES = 10
MOST_FILE_FIELDS = 16
LARGEST_FIELD_BYTES = 16 * 1024


def may(role: str, path: str, method: str = "GET") -> bool:
    """Whether a role may ask for a route of the table; templates use it to leave out links that would be refused."""
    return role in TABLE.get((method, path), frozenset())


# ----------------------------------------------------------------------------------------------- cookies


def cookie_name(settings: Settings, name: str = "emr_session") -> str:
    """The cookie's name; ``__Host-`` binds it to this host and HTTPS where that is set."""
    return f"__Host-{name}" if settings.cookie_secure else name


def set_cookie(response: Response, settings: Settings, value: str, name: str = "emr_session") -> None:
    """A cookie that scripts cannot read and other sites cannot send. It ends with the browser or with the session."""
    response.set_cookie(
        cookie_name(settings, name),
        value,
        max_age=settings.session_hours * 3600,
        path="/",
        secure=settings.cookie_secure,
        httponly=True,
        samesite="lax",
    )


def drop_cookie(response: Response, settings: Settings, name: str = "emr_session") -> None:
    """Forget a cookie."""
    response.delete_cookie(
        cookie_name(settings, name), path="/", secure=settings.cookie_secure, httponly=True, samesite="lax"
    )


def login_token(request: Request, settings: Settings) -> str:
    """The token of the log-in form, before there is a session: the same value in a cookie and in the form."""
    given = request.cookies.get(cookie_name(settings, "emr_form"), "")
    return given if 20 <= len(given) <= 64 else secrets.token_urlsafe(24)


# ------------------------------------------------------------------------------------------------- guard


def admit(request: Request) -> None:
    """Who asks, and whether they may: known before a single byte of a form is read."""
    plane: Plane = request.app.state.plane
    path = request.scope["route"].path
    session = session_of(request, plane)
    request.state.session = session
    allowed = TABLE.get((request.method, path), frozenset())
    role = session.account.role if session else (LOOPBACK if from_loopback(request) else ANONYMOUS)
    if role not in allowed:
        refuse(request, session)
    if session and session.account.must_change and path not in BEFORE_A_NEW_PASSWORD:
        if path.startswith(API) or request.method != "GET":
            raise RequestError(403, "must_change")
        raise GoTo("/password")


async def form_fields(request: Request, _: Annotated[None, Depends(admit)]) -> Fields:
    """The text fields of a form. Files are refused, but for the routes of ``WITH_FILES``, which find them in the state.

    Empty for a request without a body.
    """
    request.state.files = ()
    if request.method != "POST":
        return {}
    files = request.scope["route"].path in WITH_FILES
    try:
        form = await request.form(
            max_files=MOST_FILES if files else 0,
            max_fields=MOST_FILE_FIELDS if files else MOST_FIELDS,
            max_part_size=LARGEST_FIELD_BYTES,
        )
        if files:
            sent = [file for _, file in form.multi_items() if not isinstance(file, str)]
            # A field of files that was left empty is sent as a file without a name and without a byte.
            named = [file for file in sent if file.filename or file.size]
            request.state.files = tuple([(file.filename or "", await file.read()) for file in named])
            await form.close()
    except (HTTPException, ValueError):
        raise RequestError(400, "bad_form") from None
    return {name: value for name, value in form.items() if isinstance(value, str)}


def guard(request: Request, fields: Annotated[Fields, Depends(form_fields)]) -> None:
    """Let a request through, or raise: runs before every route of the app."""
    if request.method == "POST":
        _check_token(request, fields)


def refuse(request: Request, session: Session | None) -> None:
    """Raise what a request without the right gets: the log-in page, or a plain no."""
    if session is not None:
        raise RequestError(403, "forbidden", role=session.account.role)
    page = not request.url.path.startswith(("/api/", "/metrics"))
    if page and request.method == "GET":
        raise GoTo(f"/login?next={quote(_here(request), safe='')}")
    raise RequestError(401, "log_in")


def session_of(request: Request, plane: Plane) -> Session | None:
    """The open session of a request's cookie."""
    cookie = request.cookies.get(cookie_name(plane.settings), "")
    return plane.accounts.session(cookie, plane.clock()) if 20 <= len(cookie) <= 128 else None


def from_loopback(request: Request) -> bool:
    """Whether the client is this machine itself, asked by a loopback name and through no proxy."""
    client = request.client.host if request.client else ""
    name = request.url.hostname or ""
    proxied = any(header in request.headers for header in PROXY_HEADERS)
    return client in LOOPBACK_CLIENTS and name in LOOPBACK_NAMES and not proxied


def safe_next(url: str) -> str:
    """A page of this house to go on to after the log-in; anything else is the overview."""
    local = url.startswith("/") and not url.startswith(("//", "/login", "/logout")) and "\\" not in url
    return url if local and url.isprintable() and len(url) <= 2000 else "/"


def _here(request: Request) -> str:
    query = request.url.query
    return request.url.path + (f"?{query}" if query else "")


def _check_token(request: Request, fields: Fields) -> None:
    plane: Plane = request.app.state.plane
    session: Session | None = request.state.session
    if request.scope["route"].path == "/login":
        expected = request.cookies.get(cookie_name(plane.settings, "emr_form"), "")
    else:
        expected = session.csrf if session else ""
    given = fields.get("csrf", "") or request.headers.get(CSRF_HEADER, "")
    if not expected or not hmac.compare_digest(expected.encode(), given.encode()):
        raise RequestError(403, "bad_token")


def who(request: Request) -> dict[str, Any]:
    """The person of a request, for a link of the chain."""
    session: Session | None = request.state.session
    return {"account": session.account.name, "role": session.account.role} if session else {}
