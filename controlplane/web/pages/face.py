"""What every page shares: whom it speaks to, in which tongue, of which day and law; templates, links, downloads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import jinja2
from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse

from controlplane import __version__
from controlplane.bootstrap import Plane
from controlplane.store.accounts import Session
from controlplane.web import access, queries
from controlplane.web.access import Fields, form_fields, may
from controlplane.web.errors import RequestError
from controlplane.web.words import Tongue

HERE = Path(__file__).parent.parent
STATIC = {path.name: path.read_bytes() for path in sorted((HERE / "static").glob("*")) if path.is_file()}
STATIC_DIGEST = hashlib.sha256(b"".join(STATIC.values())).hexdigest()[:12]
STATIC_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
NAVIGATION = (
    ("/", "overview"),
    ("/criteria", "criteria"),
    ("/difference", "difference"),
    ("/plan", "plan"),
    ("/law", "law"),
    ("/assets", "assets"),
    ("/rounds", "rounds"),
    ("/plays", "plays"),
    ("/runs", "runs"),
    ("/evidence", "evidence"),
    ("/reports", "reports"),
    ("/accounts", "accounts"),
)
LANGUAGE_COOKIE = "emr_lang"

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
    """What every page knows: whom it speaks to, in which tongue, of which day and under which law."""

    request: Request
    plane: Plane
    tongue: Tongue
    session: Session | None
    as_of: date | None
    law: date | None = None  # the day whose frameworks are asked for; None: those of the day that is looked at

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
        """A link that stays on the day and the law that are looked at."""
        given = {"as_of": self.as_of, "law": self.law} | query
        kept = {name: str(value) for name, value in given.items() if value not in (None, "")}
        return f"{path}?{urlencode(kept)}" if kept else path

    def same_page(self, **changed: Any) -> str:
        """This page with another tongue, another part of a list or another day."""
        path = self.request.url.path
        if self.request.method != "GET":
            path = next(
                (p for p in ("/accounts", "/declare", "/law", "/plays", "/drift", "/runs") if path.startswith(p)), "/"
            )
            return f"{path}?{urlencode(changed)}"
        query = {k: v for k, v in self.request.query_params.items() if v and len(v) <= 200}
        query |= {k: str(v) for k, v in changed.items()}
        return f"{path}?{urlencode({k: v for k, v in query.items() if v})}"


def face_of(request: Request, as_of: date | None = None, law: date | None = None) -> Face:
    """The face of a request; before the guard has run there is no session."""
    plane: Plane = request.app.state.plane
    tongue = Tongue(language_of(request, plane), plane.settings.timezone, plane.clock())
    return Face(request, plane, tongue, getattr(request.state, "session", None), as_of, law)


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


def _face(request: Request, as_of: str | None = None, law: str | None = None) -> Face:
    plane: Plane = request.app.state.plane
    return face_of(request, queries.day_asked(as_of, queries.today_of(plane)), queries.law_asked(law))


Dated = Annotated[Face, Depends(_face)]


def _undated(request: Request) -> Face:
    return face_of(request)


Plain = Annotated[Face, Depends(_undated)]
Form = Annotated[Fields, Depends(form_fields)]


def link_download(face: Face, what: str, **figures_: Any) -> None:
    """Say in the chain who took what away."""
    archive, now = face.plane.archive, face.plane.clock()
    with archive.lock("download", wait=True):  # two downloads at once are two links, one after the other
        archive.append("download", {"what": what, "at": now, **access.who(face.request), **figures_}, now)


def attachment(name: str) -> dict[str, str]:
    """Headers that make a browser keep a file; ``name`` is plain ASCII made by us."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def static(request: Request, name: str) -> Response:
    """The stylesheet, the icon and the script of the live page; their address changes with their content."""
    if name not in STATIC:
        raise RequestError(404, "not_found")
    fresh = request.query_params.get("v") == STATIC_DIGEST
    headers = {"Cache-Control": "public, max-age=31536000, immutable" if fresh else "public, max-age=300"}
    return Response(STATIC[name], media_type=STATIC_TYPES[Path(name).suffix], headers=headers)
