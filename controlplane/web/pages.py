"""The pages: server-rendered HTML in Vietnamese or English, whole without a script. They decide nothing."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import jinja2
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from starlette.background import BackgroundTask

from controlplane import __version__
from controlplane.bootstrap import Plane
from controlplane.domain.model import Catalog
from controlplane.reports.weekly import IsoWeek, WeekError
from controlplane.store.accounts import ROLES, SHORTEST_PASSWORD, AccountError, Session
from controlplane.store.archive import BusyError
from controlplane.store.bundle import BundleError, SigningKeyError
from controlplane.web import access, figures, queries
from controlplane.web.access import Fields, form_fields, may
from controlplane.web.errors import RequestError
from controlplane.web.words import Tongue

HERE = Path(__file__).parent
STATIC = {path.name: path.read_bytes() for path in sorted((HERE / "static").glob("*")) if path.is_file()}
STATIC_DIGEST = hashlib.sha256(b"".join(STATIC.values())).hexdigest()[:12]
STATIC_TYPES = {".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
NAVIGATION = (
    ("/", "overview"),
    ("/criteria", "criteria"),
    ("/assets", "assets"),
    ("/rounds", "rounds"),
    ("/runs", "runs"),
    ("/evidence", "evidence"),
    ("/reports", "reports"),
    ("/accounts", "accounts"),
)
LANGUAGE_COOKIE = "emr_lang"
SHOWN_BYTES = 256 * 1024  # of a raw reply on its page; the whole of it is the download
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
AT_THE_DOOR = threading.BoundedSemaphore(2)  # argon2 takes 64 MiB each: more at once would starve the machine
DOOR_SECONDS = 10.0

ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def language_of(request: Request, plane: Plane) -> str:
    """The tongue of ``?lang=``, of the cookie, or of the settings."""
    for given in (request.query_params.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        if given in ("vi", "en"):
            return given
    return plane.settings.language


@dataclass(frozen=True)
class Face:
    """What every page knows: whom it speaks to, in which tongue, and of which day."""

    request: Request
    plane: Plane
    tongue: Tongue
    session: Session | None
    as_of: date | None

    @property
    def role(self) -> str:
        """The role of the person, or anonymous."""
        return self.session.account.role if self.session else access.ANONYMOUS

    def may(self, path: str, method: str = "GET") -> bool:
        """Whether this person may follow a link; a link that would be refused is not shown."""
        return may(self.role, path, method)

    @cached_property
    def navigation(self) -> list[tuple[str, str, bool]]:
        """(path, text key, whether this is where we are) of every room that is open to this person."""
        if self.session is None or self.session.account.must_change:
            return []
        here = self.request.url.path
        rooms = [(path, key) for path, key in NAVIGATION if self.may(path)]
        return [(p, key, here == p or (p != "/" and here.startswith(p))) for p, key in rooms]

    def url(self, path: str, **query: Any) -> str:
        """A link that stays on the day that is looked at."""
        given = {"as_of": self.as_of.isoformat() if self.as_of else None} | query
        kept = {name: str(value) for name, value in given.items() if value not in (None, "")}
        return f"{path}?{urlencode(kept)}" if kept else path

    def same_page(self, **changed: Any) -> str:
        """This page with another tongue, another part of a list or another day."""
        path = self.request.url.path
        if self.request.method != "GET":
            path = "/accounts" if path.startswith("/accounts/") else "/"
            return f"{path}?{urlencode(changed)}"
        query = {k: v for k, v in self.request.query_params.items() if v and len(v) <= 200}
        query |= {k: str(v) for k, v in changed.items()}
        return f"{path}?{urlencode({k: v for k, v in query.items() if v})}"


def face_of(request: Request, as_of: date | None = None) -> Face:
    """The face of a request; before the guard has run there is no session."""
    plane: Plane = request.app.state.plane
    tongue = Tongue(language_of(request, plane), plane.settings.timezone, plane.clock())
    return Face(request, plane, tongue, getattr(request.state, "session", None), as_of)


def show(face: Face, template: str, status: int = 200, **content: Any) -> HTMLResponse:
    """A page as HTML; keeps the tongue in a cookie when it was just chosen."""
    t = face.tongue
    html = ENVIRONMENT.get_template(template).render(
        face=face, t=t, w=t.w, say=t.say, version=__version__, static=STATIC_DIGEST, **content
    )
    response = HTMLResponse(html, status)
    if face.request.query_params.get("lang") in ("vi", "en"):
        response.set_cookie(
            LANGUAGE_COOKIE, t.lang, max_age=31_536_000, secure=face.plane.settings.cookie_secure, samesite="lax"
        )
    return response


def error_page(request: Request, error: RequestError) -> HTMLResponse:
    """The page of a request that was turned down."""
    face = face_of(request)
    return show(face, "error.html", error.status, error=error, sentence=face.tongue.error(error.code, error.figures))


def _face(request: Request, as_of: str | None = None) -> Face:
    plane: Plane = request.app.state.plane
    return face_of(request, queries.day_asked(as_of, queries.today_of(plane)))


Dated = Annotated[Face, Depends(_face)]


def _undated(request: Request) -> Face:
    return face_of(request)


Plain = Annotated[Face, Depends(_undated)]
Form = Annotated[Fields, Depends(form_fields)]


# ------------------------------------------------------------------------------------------------- seeing


def overview(face: Dated) -> Response:
    """The director's screen."""
    screen = face.plane.overview(face.as_of)
    judgement = face.plane.judgement(face.as_of)
    aimed = [view for view in screen.groups if view.target]
    return show(
        face,
        "overview.html",
        screen=screen,
        judgement=judgement,
        aimed=aimed,
        others=[view for view in screen.groups if not view.target],
        reached=sum(1 for view in aimed if view.gap == 0),
        open_=sum(1 for view in aimed if view.gap is None),
        coming=[m for m in screen.milestones if m.days_left >= 0],
        passed=[m for m in screen.milestones if m.days_left < 0],
        segments=figures.bar(screen.counts),
        trend=figures.trend(screen.trend),
        ladder=figures.ladder,
        today=queries.today_of(face.plane),
    )


def criteria(face: Dated) -> Response:
    """Every criterion, with filters."""
    query = face.request.query_params
    judgement = face.plane.judgement(face.as_of)
    rows = queries.criterion_rows(judgement)
    asked = {name: query.get(name, "").strip() for name in queries.FILTERS}
    found = queries.filter_rows(rows, asked)
    part = queries.Part.of(found, query.get("page"))
    counts = Counter(str(row.score.verdict) for row in found)
    return show(
        face,
        "criteria.html",
        part=part,
        asked=asked,
        choices=queries.choices(rows),
        segments=figures.bar(counts),
        judgement=judgement,
    )


def criterion(face: Dated, criterion: str) -> Response:
    """One criterion down to the bytes."""
    try:
        story = face.plane.explain(criterion, face.as_of)
    except KeyError:
        raise RequestError(404, "no_criterion", criterion=criterion[:80]) from None
    group = next(g for g in story.framework.groups if g.id == story.criterion.group)
    judgement = face.plane.judgement(face.as_of)
    return show(face, "criterion.html", story=story, group=group, judgement=judgement, gathered=queries.gathered)


def assets(face: Plain) -> Response:
    """Every asset with its last look."""
    query = face.request.query_params
    rows = queries.asset_rows(face.plane, face.plane.judgement())
    kinds = list(dict.fromkeys(row.kind for row in rows))
    kind = query.get("kind", "")
    if kind and kind not in kinds:
        raise RequestError(400, "bad_filter", name="kind", value=kind[:40])
    chosen = [row for row in rows if kind in ("", row.kind)]
    part = queries.Part.of(chosen, query.get("page"), 100)
    everything = Counter(row.kind for row in rows)
    addressed = sum(1 for row in rows if row.address)
    return show(
        face, "assets.html", part=part, kinds=kinds, kind=kind, counts=everything, all=len(rows), addressed=addressed
    )


def asset(face: Plain, name: str) -> Response:
    """One asset: what was seen, what is said of it, how one figure moved."""
    judgement = face.plane.judgement()
    story = queries.asset_story(face.plane, judgement, name)
    fact = face.request.query_params.get("fact", "")
    history = face.plane.archive.history(name, fact) if fact and len(fact) <= 96 else []
    if fact and not history:
        raise RequestError(404, "no_history", fact=fact[:80], name=name[:80])
    return show(face, "asset.html", story=story, fact=fact, history=history, checks=judgement.catalog.checks)


def rounds(face: Plain) -> Response:
    """Rounds, the newest first."""
    part = queries.Part.of(face.plane.archive.rounds(1000), face.request.query_params.get("page"))
    return show(face, "rounds.html", part=part)


def round_(face: Plain, round_id: str) -> Response:
    """One round and what moved since the one before."""
    story = queries.round_story(face.plane, round_id)
    judgement = face.plane.judgement()
    return show(face, "round.html", story=story, **_names(judgement.catalog))


def _names(catalog: Catalog) -> dict[str, Any]:
    """What a list of moves needs to name criteria, checks and levels."""
    frameworks = catalog.frameworks.values()
    return {
        "titles": {c.id: c.title for f in frameworks for c in f.criteria},
        "ladders": {(f.id, g.id): g for f in frameworks for g in f.groups},
        "checks": catalog.checks,
    }


def runs(face: Plain) -> Response:
    """Plays that were previewed or applied."""
    part = queries.Part.of(face.plane.archive.runs(1000), face.request.query_params.get("page"))
    return show(face, "runs.html", part=part, plays=face.plane.plays)


def run(face: Plain, run_id: str) -> Response:
    """The change dossier of one run."""
    found = queries.run_of(face.plane, run_id)
    judgement = face.plane.judgement()
    return show(
        face,
        "run.html",
        run=found,
        dossier=queries.dossier_of(found.get("body")),
        **_names(judgement.catalog),
        play=face.plane.plays.get(found["play"]),
    )


def raw(face: Plain, sha256: str) -> Response:
    """The bytes of a digest, readable, with who rests on them."""
    data = queries.raw_of(face.plane, sha256)
    named = [
        o for s in face.plane.archive.state().values() for o in (s.answer, s.failure) if o and o.raw_digest == sha256
    ]
    text = data[:SHOWN_BYTES].decode("utf-8", "replace")
    readable = "\x00" not in text
    if readable and text[:1] in ("{", "[") and len(data) <= SHOWN_BYTES:
        text = _indented(text)
    return show(
        face, "raw.html", sha256=sha256, size=len(data), text=text if readable else "", cut=SHOWN_BYTES, named=named
    )


def _indented(text: str) -> str:
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except ValueError:
        return text


# -------------------------------------------------------------------------------------------- taking away


def link_download(face: Face, what: str, **figures_: Any) -> None:
    """Say in the chain who took what away."""
    archive, now = face.plane.archive, face.plane.clock()
    with archive.lock("download", wait=True):  # two downloads at once are two links, one after the other
        archive.append("download", {"what": what, "at": now, **access.who(face.request), **figures_}, now)


def raw_bytes(face: Plain, sha256: str) -> Response:
    """The bytes themselves, as a file that no browser will run."""
    data = queries.raw_of(face.plane, sha256)
    link_download(face, "raw", sha256=sha256)
    return Response(data, media_type="text/plain; charset=utf-8", headers=attachment(f"{sha256[:16]}.txt"))


def evidence(face: Plain) -> Response:
    """How evidence leaves the house and how it is verified."""
    try:
        fingerprint, why = face.plane.key_fingerprint(), ""
    except SigningKeyError as error:
        fingerprint, why = "", str(error)
    return show(
        face,
        "evidence.html",
        fingerprint=fingerprint,
        why=why,
        head=face.plane.archive.head(),
        broken=face.plane.chain_state(),
    )


def bundle(face: Plain) -> Response:
    """Make the evidence bundle and send it; the file is removed once it was sent, the chain remembers it."""
    plane = face.plane
    folder = plane.settings.data_dir / "exports"
    folder.mkdir(mode=0o700, exist_ok=True)
    name = f"minh-chung-{plane.clock().astimezone(plane.settings.timezone):%Y%m%d-%H%M%S}.zip"
    path = folder / f"{secrets.token_hex(8)}.zip"
    try:
        with plane.archive.lock("export"):
            plane.export_evidence(path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        link_download(face, "bundle", sha256=sha256, bytes=path.stat().st_size)
    except BusyError:
        raise RequestError(409, "export_busy") from None
    except (BundleError, SigningKeyError, OSError) as error:
        path.unlink(missing_ok=True)
        raise RequestError(500, "no_bundle", why=str(error)) from None
    headers = attachment(name) | {"X-Content-SHA256": sha256}
    return FileResponse(path, media_type="application/zip", headers=headers, background=BackgroundTask(path.unlink))


def reports(face: Plain) -> Response:
    """The form that asks for a week."""
    week = IsoWeek.of(queries.today_of(face.plane))
    return show(face, "reports.html", week=str(week), weeks=_weeks(week), problem="")


def _weeks(newest: IsoWeek, most: int = 8) -> list[IsoWeek]:
    return [IsoWeek.of(newest.monday - timedelta(weeks=back)) for back in range(most)]


def weekly(face: Plain, week: str = "") -> Response:
    """The Word document of one week; a week that is none gets its sentence beside the form."""
    try:
        asked = IsoWeek.parse(week)
        document = face.plane.weekly_report(asked)
    except WeekError as error:
        this = IsoWeek.of(queries.today_of(face.plane))
        problem = face.tongue.words(error.words)
        return show(face, "reports.html", 400, week=str(this), weeks=_weeks(this), problem=problem)
    link_download(face, "report", week=str(asked), sha256=hashlib.sha256(document).hexdigest())
    return Response(document, media_type=DOCX, headers=attachment(f"bao-cao-tuan-{asked}.docx"))


def attachment(name: str) -> dict[str, str]:
    """Headers that make a browser keep a file; ``name`` is plain ASCII made by us."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}


# ------------------------------------------------------------------------------------------------- people


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


# -------------------------------------------------------------------------------------------------- files


def static(request: Request, name: str) -> Response:
    """The stylesheet and the icon; their address changes with their content."""
    if name not in STATIC:
        raise RequestError(404, "not_found")
    fresh = request.query_params.get("v") == STATIC_DIGEST
    headers = {"Cache-Control": "public, max-age=31536000, immutable" if fresh else "public, max-age=300"}
    return Response(STATIC[name], media_type=STATIC_TYPES[Path(name).suffix], headers=headers)


PAGES = (
    ("GET", "/", overview),
    ("GET", "/criteria", criteria),
    ("GET", "/criteria/{criterion}", criterion),
    ("GET", "/assets", assets),
    ("GET", "/assets/{name}", asset),
    ("GET", "/rounds", rounds),
    ("GET", "/rounds/{round_id}", round_),
    ("GET", "/runs", runs),
    ("GET", "/runs/{run_id}", run),
    ("GET", "/evidence", evidence),
    ("POST", "/evidence/bundle", bundle),
    ("GET", "/raw/{sha256}", raw),
    ("GET", "/raw/{sha256}/bytes", raw_bytes),
    ("GET", "/reports", reports),
    ("GET", "/reports/weekly.docx", weekly),
    ("GET", "/accounts", accounts),
    ("POST", "/accounts/add", add_account),
    ("POST", "/accounts/reset", reset_account),
    ("POST", "/accounts/revoke", revoke_account),
    ("GET", "/login", login),
    ("POST", "/login", log_in),
    ("GET", "/password", password),
    ("POST", "/password", set_password),
    ("POST", "/logout", log_out),
    ("GET", "/static/{name}", static),
)


def mount(app: FastAPI) -> None:
    """Hang every page into the app."""
    for method, path, endpoint in PAGES:
        app.add_api_route(path, endpoint, methods=[method], include_in_schema=False, response_model=None)
