"""The pages: server-rendered HTML in Vietnamese or English, whole without a script. They decide nothing."""

from __future__ import annotations

from fastapi import FastAPI

from controlplane.web.pages import law, moving, network, people, plan, runs, saying, seeing, taking
from controlplane.web.pages.face import attachment, error_page, face_of, language_of, link_download, static

__all__ = ["PAGES", "attachment", "error_page", "face_of", "language_of", "link_download", "mount"]

PAGES = (
    ("GET", "/", seeing.overview),
    ("GET", "/criteria", seeing.criteria),
    ("GET", "/criteria/{criterion}", seeing.criterion),
    ("GET", "/declare", saying.declare),
    ("POST", "/declare", saying.keep),
    ("GET", "/difference", moving.difference),
    ("GET", "/plan", plan.plan),
    ("GET", "/law", law.law),
    ("POST", "/law/filed", law.keep),
    ("GET", "/assets", seeing.assets),
    ("GET", "/assets/{name}", seeing.asset),
    ("GET", "/network", network.network),
    ("GET", "/rounds", seeing.rounds),
    ("GET", "/rounds/{round_id}", seeing.round_),
    ("GET", "/plays", runs.plays),
    ("POST", "/plays/{play}/preview", runs.preview),
    ("GET", "/runs", runs.runs),
    ("GET", "/runs/{run_id}", runs.run),
    ("GET", "/runs/{run_id}/apply", runs.confirm),
    ("POST", "/runs/{run_id}/apply", runs.apply),
    ("POST", "/runs/{run_id}/request", runs.request_approval),
    ("POST", "/runs/{run_id}/approve", runs.approve),
    ("POST", "/runs/{run_id}/refuse", runs.refuse),
    ("POST", "/runs/{run_id}/cancel", runs.cancel),
    ("POST", "/runs/{run_id}/resume", runs.resume),
    ("GET", "/drift", runs.drift),
    ("POST", "/drift", runs.check_drift),
    ("GET", "/evidence", taking.evidence),
    ("POST", "/evidence/bundle", taking.bundle),
    ("GET", "/evidence/minutes/{link}", taking.minutes),
    ("GET", "/raw/{sha256}", seeing.raw),
    ("GET", "/raw/{sha256}/bytes", taking.raw_bytes),
    ("GET", "/reports", taking.reports),
    ("GET", "/reports/weekly.docx", taking.weekly),
    ("GET", "/accounts", people.accounts),
    ("POST", "/accounts/add", people.add_account),
    ("POST", "/accounts/reset", people.reset_account),
    ("POST", "/accounts/revoke", people.revoke_account),
    ("GET", "/login", people.login),
    ("POST", "/login", people.log_in),
    ("GET", "/password", people.password),
    ("POST", "/password", people.set_password),
    ("POST", "/logout", people.log_out),
    ("GET", "/static/{name}", static),
)


def mount(app: FastAPI) -> None:
    """Hang every page into the app."""
    for method, path, endpoint in PAGES:
        app.add_api_route(path, endpoint, methods=[method], include_in_schema=False, response_model=None)
