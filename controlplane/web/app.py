"""The app: routes, one shape for every error, headers and limits for every answer. It shows no traceback to anybody."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controlplane import __version__
from controlplane.bootstrap import Plane
from controlplane.web import access, api, api_plays, metrics, pages
from controlplane.web.errors import GoTo, RequestError
from controlplane.web.words import Tongue

log = logging.getLogger(__name__)

LARGEST_BODY_BYTES = 64 * 1024  # beside the files of the two forms that may bring some
LONGEST_QUERY_BYTES = 4096
CODES = {404: "not_found", 405: "wrong_method", 400: "bad_request", 413: "too_large"}

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def make_app(plane: Plane) -> FastAPI:
    """Every route over one plane. Documentation pages that would load from elsewhere are left out."""
    app = FastAPI(
        title="EMR readiness control plane",
        version=__version__,
        description="What was measured, what it means, and the proof of it. Log in on the page first.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(access.guard)],
        lifespan=_lifespan,
    )
    app.state.plane = plane
    app.state.metrics = metrics.registry_for(plane)
    app.add_exception_handler(RequestError, _on_request_error)
    app.add_exception_handler(GoTo, _on_go_to)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    pages.mount(app)
    api.mount(app)
    api_plays.mount(app)
    app.add_api_route("/healthz", _healthz, methods=["GET"], include_in_schema=False)
    app.add_api_route("/metrics", metrics.scrape, methods=["GET"], include_in_schema=False)
    app.add_middleware(Shell)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """While the server lasts; when it is told to end, the runs that it carries end in order first."""
    yield
    plane: Plane = app.state.plane
    if not await run_in_threadpool(plane.end_carried):
        log.warning("a run did not end in time; the next start will mark it as interrupted")


def _healthz() -> dict[str, Any]:
    return {"ok": True, "version": __version__}


# ------------------------------------------------------------------------------------------------- errors


def answer(request: Request, error: RequestError) -> Response:
    """The one shape of an error: JSON for programs, a page for people."""
    if not request.url.path.startswith(("/api/", "/metrics", "/healthz")):
        return pages.error_page(request, error)
    plane: Plane = request.app.state.plane
    tongue = Tongue(pages.language_of(request, plane), plane.settings.timezone, plane.clock())
    message = tongue.error(error.code, error.figures)
    return JSONResponse({"ok": False, "error": {"code": error.code, "message": message}}, error.status)


def _on_request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # noqa: S101  # that is what it is registered for
    return answer(request, error)


def _on_go_to(_request: Request, elsewhere: Exception) -> Response:
    assert isinstance(elsewhere, GoTo)  # noqa: S101  # that is what it is registered for
    return RedirectResponse(elsewhere.url, 303)


def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # that is what it is registered for
    response = answer(request, RequestError(error.status_code, CODES.get(error.status_code, "other")))
    response.headers.update(error.headers or {})
    return response


def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # that is what it is registered for
    first = error.errors()[0]
    return answer(request, RequestError(400, "bad_field", field=str(first["loc"][-1])[:40]))


# ------------------------------------------------------------------------------------------------- shell


class Shell:
    """Around everything: limits before a request is read, headers on every answer, one page for what went wrong."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                _dress(MutableHeaders(scope=message))
            await send(message)

        try:
            most = _most_bytes(request)
            _limit(request, most)
            await self.app(scope, _counted(receive, most), send_with_headers)
        except RequestError as error:
            await answer(request, error)(scope, receive, send_with_headers)
        except Exception:
            log.exception("%s %r failed", request.method, request.url.path)
            if begun:
                raise
            await answer(request, RequestError(500, "broken"))(scope, receive, send_with_headers)


def _dress(headers: MutableHeaders) -> None:
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("Cache-Control", "no-store")


def _most_bytes(request: Request) -> int:
    """How large a body may be: only a form with files, of somebody who has a cookie at all, may be larger."""
    files = request.method == "POST" and request.url.path in access.WITH_FILES
    plane: Plane = request.scope["app"].state.plane
    with_cookie = access.cookie_name(plane.settings) in request.cookies
    return LARGEST_BODY_BYTES + (plane.settings.largest_upload_mb << 20 if files and with_cookie else 0)


def _limit(request: Request, most: int) -> None:
    if len(request.scope.get("query_string", b"")) > LONGEST_QUERY_BYTES:
        raise RequestError(414, "long_query")
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > most:
        raise _too_large(most)


def _too_large(most: int) -> RequestError:
    if most > LARGEST_BODY_BYTES:
        return RequestError(413, "upload_too_large", most=most >> 20)
    return RequestError(413, "too_large")


def _counted(receive: Receive, most: int) -> Receive:
    """A body without a length is counted as it comes."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise _too_large(most)
        return message

    return counted
