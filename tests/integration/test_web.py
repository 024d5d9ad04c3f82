"""Whole requests against a real store with real rounds: who may do what, one error shape, what leaks and breaks."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml
from argon2 import PasswordHasher
from fastapi import FastAPI
from fastapi.routing import APIRoute

from controlplane import texts
from controlplane.bootstrap import Plane, init_store
from controlplane.domain.declared import Word
from controlplane.domain.judge import Seen
from controlplane.domain.model import SITE, Declared, Observation, Outcome, Verdict
from controlplane.settings import Settings
from controlplane.store.accounts import ROLES, Accounts
from controlplane.web.access import ANONYMOUS, API, LOOPBACK, TABLE
from controlplane.web.app import LARGEST_BODY_BYTES, SECURITY_HEADERS, make_app
from controlplane.web.pages.saying import DAYS
from tests.unit.test_intake import a_pdf

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # starlette announces a successor of httpx; ours is the one that is locked
    from fastapi.testclient import TestClient

HOME = Path(__file__).resolve().parents[2]
CANARY = "<script>alert('canary')</script>\"'&"
SECRET = "canary-secret-3f9a-khong-duoc-lo"
PASSWORD = "mot cau dai de nho"
PROGRAMS = ("/api/", "/metrics", "/healthz")
HOST = "http://emr.example"


class Clock:
    """The house's clock, which a test may move."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        from controlplane.bootstrap import utc_now  # noqa: PLC0415  # the real clock stays the source

        return utc_now() + self.ahead


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Plane:
    """A store with two real local rounds and an inventory whose titles try to break out of a page."""
    data = tmp_path_factory.mktemp("web")
    extra = data / "extra.yaml"
    host = {"emr_kind": "workstation", "emr_title_vi": f"Máy {CANARY}", "emr_title_en": f"PC {CANARY}"}
    more = {"emr_department": CANARY, "emr_transports": ["ssh"], "ward_note": SECRET}
    extra.write_text(yaml.safe_dump({"all": {"children": {"workstations": {"hosts": {"pc-canary": host | more}}}}}))
    plane = init_store(Settings(home=_home(data / "home"), data_dir=data, inventory=[extra]), clock)
    (data / "secrets" / "canary").write_text(f"community = {SECRET}\n")
    plane.accounts = Accounts(plane.archive.engine, PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    for role in ROLES:
        plane.accounts.add(f"t-{role}", role, PASSWORD, plane.clock())
    plane.make_round()
    plane.make_round(["controlplane-01"])
    plane.archive.open_run("20261101T000000Z-aaaaaa", plane.clock(), "time-ssh", "apply", ["controlplane-01"])
    plane.archive.close_run("20261101T000000Z-aaaaaa", plane.clock(), "successful", _dossier())
    plane.drift()
    plane.prove_refusals()
    plane.rehearse_backup("emr-database", "nas")  # there is no password, so both fail; what failed is kept, too
    return plane


def _home(home: Path) -> Path:
    """The rules of the house, and one check of this very machine that stands whatever the others become."""
    shutil.copytree(HOME / "checks", home / "checks")
    (home / "playbooks").symlink_to(HOME / "playbooks")
    shutil.copytree(HOME / "inventory", home / "inventory")
    register = home / "inventory" / "registers" / "backups.yaml"
    backups = yaml.safe_load(register.read_text(encoding="utf-8"))
    flags = dict.fromkeys(("offsite", "offline", "same_host"), False)
    backups["repositories"] = [{"name": "nas", "location": "/srv/nas", "medium": "nas-disk", **flags}]
    register.write_text(yaml.safe_dump(backups, allow_unicode=True), encoding="utf-8")
    title = {"vi": "Máy này có tên hệ điều hành", "en": "This machine has a named system"}
    check = {"id": "web-test.system-named", "title": title, "fact": "os.release", "role": "controlplane", "of": "id"}
    check |= {"expect": {"matches": "^[a-z]+$"}, "fresh_within": "26h", "severity": "low", "fix": title}
    check |= {"serves": ["tcvn14423.sw.inventory"], "examples": {"met": [{"id": "debian"}], "not_met": [{"id": "?"}]}}
    (home / "checks" / "web-test.yaml").write_text(yaml.safe_dump({"checks": [check]}, allow_unicode=True))
    return home


def _dossier() -> dict[str, Any]:
    diff = {"name": "/etc/ssh/sshd_config.d/10-emrctl.conf", "before": f"a {CANARY}", "after": "PermitRootLogin no"}
    task = {"host": "controlplane-01", "task": "SSH", "action": "template", "status": "changed", "diff": [diff]}
    quiet = {"host": "controlplane-01", "task": "other", "action": "file", "status": "ok", "diff": []}
    move = {"criterion": "tcvn14423.none", "before": "not_met", "after": "met"}
    difference = {"catalog_changed": False, "levels": [], "criteria": [move], "findings": []}
    difference |= {"met_before": 1, "met_after": 2}
    run = {"state": "successful", "tasks": [task, quiet], "recap": {"controlplane-01": {"ok": 1, "changed": 1}}}
    return {"mode": "apply", "run": run, "preview": run, "difference": difference, "rounds": [], "later": {"a": [1]}}


@pytest.fixture(scope="module")
def app(plane: Plane) -> FastAPI:
    return make_app(plane)


def client_of(app: FastAPI, role: str = ANONYMOUS, password: str = PASSWORD, name: str = "") -> TestClient:
    """A browser, logged in as ``role`` through the form."""
    here = ("127.0.0.1", 50000) if role == LOOPBACK else ("192.0.2.7", 50000)
    base = "http://127.0.0.1:8080" if role == LOOPBACK else HOST
    client = TestClient(app, base_url=base, follow_redirects=False, client=here)
    if role not in (ANONYMOUS, LOOPBACK):
        answer = log_in(client, name or f"t-{role}", password)
        assert answer.status_code == 303, answer.text
    return client


def log_in(client: TestClient, name: str, password: str) -> Any:
    token = token_of(client.get("/login").text)
    return client.post("/login", data={"csrf": token, "name": name, "password": password, "next": "/criteria"})


def token_of(html: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', html)
    assert found, html[:500]
    return found[1]


@pytest.fixture(scope="module")
def clients(app: FastAPI) -> Mapping[str, TestClient]:
    return {role: client_of(app, role) for role in (*ROLES, ANONYMOUS, LOOPBACK)}


@pytest.fixture(scope="module")
def examples(plane: Plane) -> Mapping[str, str]:
    """A real value for every part of a path."""
    observation = next(s.answer for s in plane.archive.state().values() if s.answer and s.answer.raw_digest)
    criterion = next(f for f in plane.catalog.frameworks.values()).criteria[0].id
    return {
        "criterion": next((c for check in plane.catalog.checks.values() for c in check.serves), criterion),
        "name": "controlplane-01",
        "play": "time-ssh",
        "round_id": plane.archive.rounds(1)[0].id,
        "run_id": "20261101T000000Z-aaaaaa",
        "sha256": str(observation.raw_digest),
        "link": str(plane.archive.newest("drill")),
    }


def address(path: str, examples: Mapping[str, str]) -> str:
    if path == "/static/{name}":
        return "/static/emr.css"
    filled = re.sub(r"\{(\w+)\}", lambda m: examples[m[1]], path)
    return filled + "?week=2026-W47" if path.endswith("weekly.docx") else filled


# --------------------------------------------------------------------------------------------- who may what


def test_every_route_stands_in_the_table(app: FastAPI) -> None:
    routes = set()
    for route in app.routes:
        assert isinstance(route, APIRoute), f"{route} is no route of ours"
        routes |= {(method, route.path) for method in route.methods}
    assert routes == set(TABLE)


@pytest.mark.parametrize("role", [*ROLES, ANONYMOUS, LOOPBACK])
@pytest.mark.parametrize(("method", "path"), sorted(TABLE))
def test_every_route_for_every_role(
    clients: Mapping[str, TestClient], examples: Mapping[str, str], method: str, path: str, role: str
) -> None:
    client, url = clients[role], address(path, examples)
    if method == "POST":  # an empty form: who may is stopped by the missing token, everybody else before it
        answer = client.post(url)
        code = error_code(answer)
        assert answer.status_code in (401, 403)
        assert (code == "bad_token") == (role in TABLE[method, path]), (role, code)
        return
    answer = client.get(url)
    if role in TABLE[method, path]:
        assert answer.status_code == 200, answer.text[:600]
    elif role in (ANONYMOUS, LOOPBACK) and not path.startswith(PROGRAMS):
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login?next=%2F")
    else:
        assert answer.status_code == (401 if role in (ANONYMOUS, LOOPBACK) else 403)


def error_code(answer: Any) -> str:
    """The code of an error, of JSON or of a page."""
    if "json" in answer.headers["content-type"]:
        return str(answer.json()["error"]["code"])
    known = {texts.words("vi")[key]: key.rsplit(".", 1)[1] for key in texts.words("vi") if key.startswith("web.error.")}
    found = re.search(r"<h1>([^<]+)</h1>", answer.text)
    return known.get(found[1], "forbidden") if found else ""


def test_metrics_are_for_this_machine_only(app: FastAPI) -> None:
    near = client_of(app, LOOPBACK)
    assert near.get("/metrics").status_code == 200
    for header in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "Via"):
        assert near.get("/metrics", headers={header: "127.0.0.1"}).status_code == 401
    assert near.get("/metrics", headers={"Host": "rebound.example"}).status_code == 401
    far = client_of(app)
    assert far.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 401


# ------------------------------------------------------------------------------------------- log-in and out


def test_a_wrong_password_and_an_unknown_name_are_told_apart_by_nobody(app: FastAPI) -> None:
    client = client_of(app)
    wrong = log_in(client, "t-director", "sai mat khau roi")
    unknown = log_in(client, "nobody-here", "sai mat khau roi")
    assert wrong.status_code == unknown.status_code == 401
    assert texts.say("vi", "account.wrong") in wrong.text
    assert texts.say("vi", "account.wrong") in unknown.text
    assert "emr_session" not in str(client.cookies)


def test_five_wrong_passwords_lock_the_account_and_time_opens_it(app: FastAPI, plane: Plane, clock: Clock) -> None:
    plane.accounts.add("locked-one", "auditor", PASSWORD, plane.clock())
    client = client_of(app)
    assert [log_in(client, "locked-one", "sai mat khau").status_code for _ in range(5)] == [401] * 5
    answer = log_in(client, "locked-one", PASSWORD)
    assert answer.status_code == 429
    assert texts.say("vi", "account.locked", minutes=15) in answer.text
    clock.ahead = timedelta(minutes=16)
    try:
        assert log_in(client, "locked-one", PASSWORD).status_code == 303
    finally:
        clock.ahead = timedelta()


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(app: FastAPI) -> None:
    client = client_of(app)
    answer = log_in(client, "t-director", PASSWORD)
    cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith("emr_session="))
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie
    assert answer.headers["location"] == "/criteria"


def test_over_https_the_cookie_is_bound_to_the_host(plane: Plane) -> None:
    settings = plane.settings.model_copy(update={"cookie_secure": True})
    app = make_app(Plane(settings, plane.archive, plane.accounts, plane.clock))
    with TestClient(app, base_url="https://emr.example", follow_redirects=False) as client:
        answer = log_in(client, "t-director", PASSWORD)
        cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith("__Host-emr_session="))
        assert "Secure" in cookie
        assert "Domain" not in cookie
        assert client.get("/").status_code == 200


def test_a_one_time_password_opens_nothing_but_the_change_of_it(app: FastAPI, plane: Plane) -> None:
    plane.accounts.add("newcomer", "engineer", PASSWORD, plane.clock())
    once = plane.accounts.one_time_password("newcomer")
    client = client_of(app, "engineer", once, "newcomer")
    assert client.get("/").headers["location"] == "/password"
    assert client.get(f"{API}/overview").json()["error"]["code"] == "must_change"
    page = client.get("/password")
    token = token_of(page.text)
    assert 'name="old"' not in page.text
    for new, again in (("short", "short"), ("mot cau rat dai", "mot cau khac han"), ("newcomer-1234", "newcomer-1234")):
        assert client.post("/password", data={"csrf": token, "new": new, "again": again}).status_code == 400
    assert client.get("/assets").headers["location"] == "/password"
    done = client.post("/password", data={"csrf": token, "new": "mot cau moi rat dai", "again": "mot cau moi rat dai"})
    assert done.status_code == 303
    assert client.get("/").status_code == 200
    assert log_in(client_of(app), "newcomer", once).status_code == 401


def test_changing_a_password_needs_the_old_one_and_ends_other_sessions(app: FastAPI, plane: Plane) -> None:
    plane.accounts.add("changer", "director", PASSWORD, plane.clock())
    first, second = (client_of(app, "director", name="changer") for _ in range(2))
    token = token_of(first.get("/password").text)
    form = {"csrf": token, "old": "khong phai mat khau", "new": "cau moi de nho hon", "again": "cau moi de nho hon"}
    refused = first.post("/password", data=form)
    assert refused.status_code == 400
    assert texts.say("vi", "web.password.old_wrong") in refused.text
    assert first.post("/password", data=form | {"old": PASSWORD}).status_code == 303
    assert first.get("/").status_code == 200
    assert second.get("/").status_code == 303


def test_logging_out_ends_the_session_for_good(app: FastAPI) -> None:
    client = client_of(app, "director")
    cookie = client.cookies["emr_session"]
    token = token_of(client.get("/").text)
    assert client.post("/logout", data={"csrf": token}).headers["location"] == "/login?done=1"
    client.cookies.set("emr_session", cookie)
    assert client.get("/").status_code == 303


def test_a_session_ends_with_its_hours(app: FastAPI, clock: Clock) -> None:
    client = client_of(app, "director")
    clock.ahead = timedelta(hours=13)
    try:
        assert client.get("/").status_code == 303
    finally:
        clock.ahead = timedelta()


@pytest.mark.parametrize("token", [None, "", "wrong", "é" * 32])
def test_a_form_without_its_token_does_nothing(app: FastAPI, plane: Plane, token: str | None) -> None:
    client = client_of(app, "admin")
    form = {"name": "forged", "role": "admin"} | ({} if token is None else {"csrf": token})
    answer = client.post("/accounts/add", data=form)
    assert answer.status_code == 403
    assert texts.say("vi", "web.error.bad_token") in answer.text
    assert plane.accounts.find("forged") is None


def test_a_token_of_another_session_is_worth_nothing(app: FastAPI) -> None:
    mine, theirs = client_of(app, "admin"), client_of(app, "director")
    token = token_of(theirs.get("/").text)
    assert mine.post("/logout", data={"csrf": token}).status_code == 403
    assert mine.get("/").status_code == 200


def test_a_log_in_form_needs_the_cookie_that_came_with_it(app: FastAPI) -> None:
    token = token_of(client_of(app).get("/login").text)
    form = {"csrf": token, "name": "t-director", "password": PASSWORD}
    assert client_of(app).post("/login", data=form).status_code == 403


# ----------------------------------------------------------------------------------------------- accounts


def test_the_administrator_adds_resets_and_revokes(app: FastAPI, plane: Plane) -> None:
    client = client_of(app, "admin")
    token = token_of(client.get("/accounts").text)
    added = client.post("/accounts/add", data={"csrf": token, "name": "khoa-duoc", "role": "department"})
    once = re.search(r'<code class="password">([^<]+)</code>', added.text)
    assert once
    assert once[1] not in client.get("/accounts").text
    theirs = client_of(app, "department", once[1], "khoa-duoc")
    assert theirs.get("/password").status_code == 200
    reset = client.post("/accounts/reset", data={"csrf": token, "name": "khoa-duoc"})
    assert 'class="password"' in reset.text
    assert theirs.get("/password").status_code == 303
    again = re.search(r'<code class="password">([^<]+)</code>', reset.text)
    assert again
    revoked = client.post("/accounts/revoke", data={"csrf": token, "name": "khoa-duoc"})
    assert 'class="password"' not in revoked.text
    assert log_in(client_of(app), "khoa-duoc", again[1]).status_code == 401


@pytest.mark.parametrize(
    ("action", "form"),
    [
        ("add", {"name": "Tên Sai", "role": "admin"}),
        ("add", {"name": "fine", "role": "emperor"}),
        ("add", {"name": "t-admin", "role": "admin"}),
        ("add", {}),
        ("reset", {"name": "not-there"}),
        ("reset", {"name": CANARY}),
        ("revoke", {"name": "not-there"}),
        ("revoke", {"name": "t-admin"}),
    ],
)
def test_a_bad_request_about_an_account_gets_a_sentence(app: FastAPI, action: str, form: dict[str, str]) -> None:
    client = client_of(app, "admin")
    token = token_of(client.get("/accounts").text)
    answer = client.post(f"/accounts/{action}", data=form | {"csrf": token})
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text
    assert "<script" not in answer.text


# ------------------------------------------------------------------------------------------- one error shape


BAD = (
    ("/nothing-here", 404),
    ("/criteria/not.a.criterion", 404),
    ("/criteria?verdict=maybe", 400),
    ("/criteria?framework=<script>", 400),
    ("/criteria?page=0", 400),
    ("/criteria?page=999999", 400),
    ("/criteria?page=two", 400),
    ("/criteria?q=" + "a" * 201, 400),
    ("/criteria?q=" + "a" * 5000, 414),
    ("/?as_of=yesterday", 400),
    ("/?as_of=2026-02-30", 400),
    ("/?as_of=2999-01-01", 400),
    ("/?as_of=0001-01-01", 400),
    ("/?as_of=20261122", 400),
    ("/?law=yesterday", 400),
    ("/?law=2100-01-01", 400),
    ("/?law=1999-12-31", 400),
    ("/criteria?law=<script>", 400),
    ("/declare?criterion=not.there", 404),
    ("/declare?criterion=<script>", 404),
    ("/difference?from=not-there", 404),
    ("/difference?from=2026-01-01&to=not-there", 400),
    ("/difference?to=2026-01-01", 400),
    ("/difference?from=2026-02-30", 400),
    ("/difference?from=2999-01-01", 400),
    ("/difference?from=2026-02-02&to=2026-02-01", 400),
    ("/difference?from=..%2f..%2fx&to=%00", 404),
    ("/difference?page=0", 400),
    ("/law?internal=maybe", 400),
    ("/law?sensitive_subjects=-1", 400),
    ("/law?sensitive_subjects=999999999", 400),
    ("/law?sensitive_subjects=many", 400),
    ("/law?risk_level=9", 400),
    ("/law?level=9", 400),
    ("/law?noticed=now", 400),
    ("/law?noticed=2026-02-30T00:00", 400),
    ("/law?noticed=2026-01-01T25:00", 400),
    ("/law?noticed=2999-01-01T00:00", 400),
    ("/assets?kind=toaster", 400),
    ("/assets/not-there", 404),
    ("/assets/..%2f..%2fetc%2fpasswd", 404),
    ("/assets/controlplane-01?fact=no.fact", 404),
    ("/rounds/not-there", 404),
    ("/rounds/%00", 404),
    ("/runs/not-there", 404),
    ("/raw/" + "0" * 64, 404),
    ("/raw/" + "g" * 64, 400),
    ("/raw/abc", 400),
    ("/raw/..%2f..%2fetc%2fpasswd", 404),
    ("/raw/" + "A" * 64, 400),
    ("/reports/weekly.docx?week=2026-W54", 400),
    ("/reports/weekly.docx?week=nonsense", 400),
    ("/reports/weekly.docx", 400),
    ("/static/../app.py", 404),
    ("/static/..%2fapp.py", 404),
    ("/static/pages.py", 404),
)


@pytest.mark.parametrize(("url", "status"), BAD)
def test_a_bad_request_gets_a_page_with_a_sentence(clients: Mapping[str, TestClient], url: str, status: int) -> None:
    answer = clients["admin"].get(url)
    assert answer.status_code == status, answer.text[:400]
    assert answer.headers["content-type"].startswith("text/html")
    assert "<script" not in answer.text
    assert "Traceback" not in answer.text
    assert '<html lang="vi">' in answer.text


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        (f"{API}/nothing", 404, "not_found"),
        (f"{API}/criteria/nothing", 404, "no_criterion"),
        (f"{API}/criteria?verdict=maybe", 400, "bad_filter"),
        (f"{API}/criteria?page=0", 400, "bad_page"),
        (f"{API}/overview?as_of=never", 400, "bad_date"),
        (f"{API}/overview?blockers=many", 400, "bad_field"),
        (f"{API}/overview?blockers=-1", 400, "bad_field"),
        (f"{API}/score?law=never", 400, "bad_date"),
        (f"{API}/score?as_of=2999-01-01", 400, "day_out_of_range"),
        (f"{API}/difference?from=nothing", 404, "no_round"),
        (f"{API}/difference?from=2026-01-01&to=nothing", 400, "bad_ends"),
        (f"{API}/difference?from=2026-01-02&to=2026-01-01", 400, "ends_turned"),
        (f"{API}/duties?level=9", 400, "bad_filter"),
        (f"{API}/level?internal=perhaps", 400, "bad_field"),
        (f"{API}/level?risk_level=7", 400, "bad_field"),
        (f"{API}/assets/nothing", 404, "no_asset"),
        (f"{API}/rounds/nothing", 404, "no_round"),
        (f"{API}/runs/nothing", 404, "no_run"),
        (f"{API}/raw/" + "0" * 64, 404, "no_raw"),
        (f"{API}/raw/xyz", 400, "bad_digest"),
        (f"{API}/overview?a=" + "a" * 5000, 414, "long_query"),
    ],
)
def test_a_bad_request_to_the_api_gets_the_one_shape(
    clients: Mapping[str, TestClient], url: str, status: int, code: str
) -> None:
    answer = clients["admin"].get(url)
    assert answer.status_code == status
    body = answer.json()
    assert set(body) == {"ok", "error"}
    assert body["ok"] is False
    assert set(body["error"]) == {"code", "message"}
    assert body["error"]["code"] == code
    assert body["error"]["message"] != texts.say("vi", "web.error.other")


def test_the_api_speaks_english_when_asked(clients: Mapping[str, TestClient]) -> None:
    answer = clients["admin"].get(f"{API}/rounds/x?lang=en")
    assert answer.json()["error"]["message"] == texts.say("en", "web.error.no_round", round="x")


def test_a_wrong_method_gets_the_one_shape(clients: Mapping[str, TestClient]) -> None:
    answer = clients["admin"].post(f"{API}/overview")
    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "wrong_method"
    assert answer.headers["allow"] == "GET"
    assert clients["admin"].delete("/criteria").status_code == 405


def test_a_large_body_is_refused_before_it_is_read(clients: Mapping[str, TestClient]) -> None:
    client = clients["admin"]
    large = b"a=" + b"a" * LARGEST_BODY_BYTES
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/logout", content=large, headers=form).status_code == 413

    def pieces() -> Iterator[bytes]:
        for _ in range(70):
            yield b"a" * 1024

    assert client.post("/logout", content=pieces(), headers=form).status_code == 413
    assert client.get("/", headers={"content-length": "a lot"}).status_code == 413
    assert client.get("/").status_code == 200


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", b"&".join(b"f%d=1" % n for n in range(40))),
        ("multipart/form-data; boundary=x", b"--x\r\nbroken"),
        ("multipart/form-data", b"no boundary"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="csrf"; filename="a"\r\n\r\nfile\r\n--x--\r\n',
        ),
        ("application/json", b'{"csrf": "x"}'),
        ("text/plain", b"\xff\xfe"),
    ],
)
def test_a_form_that_is_none_gets_a_sentence(clients: Mapping[str, TestClient], kind: str, body: bytes) -> None:
    answer = clients["admin"].post("/logout", content=body, headers={"content-type": kind})
    assert answer.status_code in (400, 403)
    assert "<h1>" in answer.text


def test_what_breaks_inside_shows_no_traceback(
    plane: Plane, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(SECRET)

    app = make_app(plane)
    client = client_of(app, "admin")
    monkeypatch.setattr(plane, "overview", broken)
    page, data = client.get("/"), client.get(f"{API}/overview")
    assert page.status_code == data.status_code == 500
    assert SECRET not in page.text + data.text
    assert texts.say("vi", "web.error.broken") in page.text
    assert data.json()["error"]["code"] == "broken"
    assert page.headers["content-security-policy"] == SECURITY_HEADERS["Content-Security-Policy"]
    assert "failed" in caplog.text


# ------------------------------------------------------------------------------------ what is sent, and what not


@pytest.mark.parametrize(
    "url", ["/", "/login", "/nothing", f"{API}/overview", "/healthz", "/metrics", "/static/emr.css"]
)
def test_every_answer_bears_the_headers(clients: Mapping[str, TestClient], url: str) -> None:
    headers = clients["admin"].get(url).headers
    for name, value in SECURITY_HEADERS.items():
        assert headers[name] == value
    assert headers["cache-control"] == ("public, max-age=300" if "static" in url else "no-store")


def test_no_page_needs_a_script_or_a_style_of_its_own(
    clients: Mapping[str, TestClient], examples: Mapping[str, str]
) -> None:
    for method, path in TABLE:
        if method == "GET" and not path.startswith(PROGRAMS):
            answer = clients["admin"].get(address(path, examples))
            if "html" in answer.headers["content-type"]:
                assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:", answer.text), path
                assert not re.search(r'(?:src|href)="(?:https?:)?//', answer.text), path


def test_proofs_of_backups_are_listed_and_their_minutes_are_had_back(clients: Mapping[str, TestClient]) -> None:
    client = clients["auditor"]
    told = client.get(f"{API}/backups").json()
    assert [(row["what"], row["dataset"], row["ok"]) for row in told["data"]] == [
        ("restore", "emr-database", False),
        ("refusal", "", False),
    ]
    restore, refusal = told["data"]
    assert "restic-nas" in refusal["said"]["vi"]
    assert not refusal["minutes"]
    page = client.get("/evidence").text
    assert page.count('href="/evidence/minutes/') == 1
    assert restore["said"]["vi"] in unescape(page)
    assert texts.say("vi", "web.evidence.untried") in page, "what was not tried is not called bad"
    minutes = client.get(f"/evidence/minutes/{restore['link']}")
    assert hashlib.sha256(minutes.content).hexdigest() == restore["minutes"]
    for link in (refusal["link"], 1, 0, "x"):
        assert client.get(f"/evidence/minutes/{link}").status_code == 404


def test_what_an_inventory_says_is_never_markup(clients: Mapping[str, TestClient]) -> None:
    client = clients["admin"]
    found = 0
    for url in ("/assets?kind=workstation", "/assets/pc-canary", "/runs/20261101T000000Z-aaaaaa", "/"):
        html = client.get(url).text
        assert "<script" not in html
        found += html.count("&lt;script&gt;alert")
    assert found >= 3


def test_no_answer_holds_a_secret(clients: Mapping[str, TestClient], examples: Mapping[str, str], plane: Plane) -> None:
    hashes = plane.settings.data_dir / "emrctl.db"
    with closing(sqlite3.connect(hashes)) as connection:
        kept = [row[0] for row in connection.execute("SELECT password_hash FROM accounts")]
    key = (plane.settings.keys_dir / "signing.pem").read_text().splitlines()[1]
    secrets = (SECRET, key, *kept, PASSWORD, str(plane.settings.data_dir))
    for method, path in TABLE:
        if method == "GET":
            answer = clients["admin"].get(address(path, examples))
            for secret in secrets:
                assert secret.encode() not in answer.content, path


def test_every_page_is_whole_html_in_both_tongues(
    clients: Mapping[str, TestClient], examples: Mapping[str, str]
) -> None:
    client = clients["admin"]
    for method, path in TABLE:
        if (
            method == "POST"
            or path.startswith(PROGRAMS)
            or path.endswith(("bytes", ".docx", "{link}"))
            or "static" in path
        ):
            continue
        for lang in ("vi", "en"):
            html = client.get(address(path, examples), params={"lang": lang}).text
            assert f'<html lang="{lang}">' in html
            assert html.count("<h1") == 1, path
            assert html.count('id="main"') == 1
            ids = re.findall(r'\sid="([^"]+)"', html)
            assert len(ids) == len(set(ids)), path
            for tag in ("table", "form", "ul", "ol", "dl", "section", "details", "svg"):
                assert html.count(f"<{tag}") == html.count(f"</{tag}>"), (path, tag)
    client.get("/?lang=vi")


def test_the_tongue_is_kept_in_a_cookie(app: FastAPI) -> None:
    client = client_of(app, "director")
    assert '<html lang="vi">' in client.get("/").text
    assert '<html lang="en">' in client.get("/?lang=en").text
    page = client.get("/criteria").text
    assert '<html lang="en">' in page
    assert "Criteria" in page
    assert '<html lang="en">' in client.get("/criteria?lang=xx").text


def test_every_word_of_the_web_is_used_and_every_used_word_is_there() -> None:
    folder = HOME / "controlplane" / "web"
    sources = [*folder.rglob("*.py"), *folder.glob("templates/*.html")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    named = re.findall(r"""\b(?:w|count|say)\(\s*[\"']((?:web\.)?[a-z_]+(?:\.[a-z_0-9]+)?)[\"'][,)]""", text)
    named += re.findall(r'"((?:days|web\.password)\.[a-z_]+)"', text)
    named += [f"error.{code}" for code in re.findall(r'RequestError\([^,]+, "([a-z_]+)"', text)]
    here = {key.removeprefix("web.") for key in texts.words("vi") if key.startswith("web.")}
    used = {name.removeprefix("web.") for name in named if not texts.has(name) or name.startswith("web.")}
    assert used - here == set()
    # These are put together from a code: a weekday, a verdict, an outcome of a task, the name of a page.
    made = ("weekday.", "standing.", "rung.", "state.", "mode.", "rule.", "ago.", "nav.", "rounds.sealed_", "error.")
    made += ("kind.", "confidence.", "fined.", "declare.kind_", "declare.help_", "difference.kind_", "law.part_")
    made += ("law.flag_", "law.answer_", "difference.round_", *(f"declare.{name}" for name in DAYS))
    made += ("plan.state_", "plan.gained", "plan.lost", "plan.late", "plan.early")
    made += ("plan.play_hours", "plan.document_hours", "plan.hour_price", "live.step_", "live.how_")
    made += ("network.word.", "network.means.", "network.open_paths", "network.blocked_paths", "network.missing")
    dead = {key for key in here - used if not key.startswith(made) and not key.endswith(("_one", "_digest"))}
    assert dead == set()


# ------------------------------------------------------------------------------------------------- the pages


def test_the_overview_says_level_target_gap_blockers_and_days(clients: Mapping[str, TestClient], plane: Plane) -> None:
    html = clients["director"].get("/").text
    screen = plane.overview()
    assert plane.campaign.hospital.name.vi in html
    for view in screen.groups:
        assert view.title.vi in html
        if view.target:
            assert view.owner in html
    for blocker in screen.blockers:
        assert blocker.title.vi in html
    for view in screen.milestones:
        assert view.milestone.title.vi in html
        if view.days_left < 0:
            assert f"đã qua hạn {abs(view.days_left)} ngày" in html
    for verdict, count in screen.counts.items():
        assert f"<b>{count}</b> <span>{texts.say('vi', f'verdict.{verdict}')}</span>" in html
    assert screen.chain_head[:16] in html
    assert texts.say("vi", "web.overview.chain_holds") in html
    assert "<polyline" in html


def test_a_past_day_is_shown_as_one(clients: Mapping[str, TestClient], plane: Plane) -> None:
    day = date(2025, 8, 14)
    html = clients["director"].get(f"/?as_of={day}").text
    assert "14/08/2025" in html
    assert texts.say("vi", "web.as_of.back") in html
    assert "còn 1 ngày" in html
    assert texts.say("vi", "reason.no_round") in html
    listed = clients["director"].get(f"/criteria?as_of={day}&framework=tcvn14423-2026").text
    assert texts.say("vi", "reason.framework_out_of_force")[1:] in listed
    assert f"as_of={day}" in listed
    data = clients["director"].get(f"{API}/overview?as_of={day}").json()["data"]
    assert data["as_of"] == "2025-08-14"
    today = clients["director"].get(f"{API}/overview").json()["data"]
    assert today["as_of"] == plane.overview().as_of.isoformat()


def test_a_criterion_is_explained_down_to_bytes_that_hash_to_their_name(
    clients: Mapping[str, TestClient], plane: Plane
) -> None:
    seen = next(f for f in plane.judgement().findings if f.check == "web-test.system-named")
    assert seen.verdict is Verdict.MET
    criterion = plane.catalog.checks[seen.check].serves[0]
    client = clients["auditor"]
    html = client.get(f"/criteria/{criterion}").text
    observation = plane.archive.observations([seen.observation or 0])[seen.observation or 0]
    for part in (seen.check, observation.fact, observation.collector, f"/raw/{seen.raw_digest}"):
        assert part in html
    assert f"/raw/{seen.raw_digest}" in client.get("/assets/controlplane-01").text
    page = client.get(f"/raw/{seen.raw_digest}")
    assert str(seen.raw_digest) in page.text
    assert observation.fact in page.text
    before = plane.archive.head()
    answer = client.get(f"/raw/{seen.raw_digest}/bytes")
    assert hashlib.sha256(answer.content).hexdigest() == seen.raw_digest
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"].startswith("attachment")
    same = client.get(f"{API}/raw/{seen.raw_digest}")
    assert same.content == answer.content
    links = [link for link in plane.archive.chain() if before is None or link.seq > before.seq]
    assert [link.kind for link in links] == ["download", "download"]
    body = plane.archive.body(links[0])
    assert (body["account"], body["role"], body["sha256"]) == ("t-auditor", "auditor", seen.raw_digest)


def test_a_director_reads_the_digest_and_is_not_led_to_a_closed_door(
    clients: Mapping[str, TestClient], examples: Mapping[str, str]
) -> None:
    html = clients["director"].get(f"/criteria/{examples['criterion']}").text
    assert "/raw/" not in html
    assert 'href="/evidence"' not in html
    html = clients["department"].get("/").text
    assert 'href="/assets"' not in html
    assert 'href="/rounds' not in html


def test_every_criterion_has_a_page_that_says_its_standing(clients: Mapping[str, TestClient], plane: Plane) -> None:
    standings = set()
    for framework in plane.catalog.frameworks.values():
        for criterion in framework.criteria[:: max(1, len(framework.criteria) // 12)]:
            answer = clients["director"].get(f"/criteria/{criterion.id}")
            assert answer.status_code == 200, criterion.id
            assert texts.say("vi", f"standing.{criterion.standing}") in answer.text
            standings.add(str(criterion.standing))
    assert {"second_hand", "draft"} <= standings


def test_the_list_of_criteria_is_filtered_searched_and_paged(clients: Mapping[str, TestClient], plane: Plane) -> None:
    client = clients["director"]
    every = {c.id: c for f in plane.catalog.frameworks.values() for c in f.criteria}
    first = client.get(f"{API}/criteria").json()
    seen = [
        row["id"]
        for page in range(1, first["pages"] + 1)
        for row in client.get(f"{API}/criteria?page={page}").json()["data"]
    ]
    assert sorted(seen) == sorted(every)
    assert first["total"] == len(every)
    drafts = client.get(f"{API}/criteria?standing=draft").json()
    assert drafts["total"] == sum(1 for c in every.values() if c.standing == "draft")
    some = next(iter(every.values()))
    found = client.get("/criteria", params={"q": some.title.vi.upper()}).text
    assert some.id in found
    assert texts.say("vi", "web.criteria.none") in client.get("/criteria", params={"q": "khongcotunaynhuthe"}).text
    assert client.get("/criteria", params={"q": CANARY}).text.count("&lt;script&gt;") == 1
    assert 'rel="next"' in client.get("/criteria").text
    for word in Verdict:
        assert client.get(f"/criteria?verdict={word}").status_code == 200


def test_assets_without_an_address_are_said_to_have_none(clients: Mapping[str, TestClient]) -> None:
    html = clients["engineer"].get("/assets").text
    assert texts.say("vi", "outcome.no_address") in html
    assert "127.0.0.1" in html
    data = clients["engineer"].get(f"{API}/assets").json()
    assert all("access" not in row for row in data["data"])
    story = clients["engineer"].get(f"{API}/assets/controlplane-01").json()["data"]
    assert story["asset"]["looks"][0]["outcome"] == "answered"
    assert story["observations"]


def test_the_matrix_of_vlans_says_a_word_for_every_pair_and_names_what_is_open(
    clients: Mapping[str, TestClient], plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    html = clients["auditor"].get("/network").text
    assert texts.say("vi", "web.network.nothing") in html, "no probe and no subnet as shipped"
    recorded = json.loads((HOME / "tests/facts/network.isolation/opened.json").read_text())["value"]
    at = plane.clock()
    seen = Observation(
        SITE, "network.isolation", Outcome.ANSWERED, recorded, "-", None, "inventory", "record/1", at, at, 1
    )
    monkeypatch.setattr(plane.archive, "state", lambda: {(SITE, "network.isolation"): Seen(seen)})
    for lang in ("en", "vi"):  # the tongue of the last page stays the reader's
        html = clients["auditor"].get(f"/network?lang={lang}").text
        assert "cameras -&gt; servers tcp/445" in html
        for word in ("closed", "used", "open", "untried"):
            assert f"{texts.say(lang, f'web.network.word.{word}')}</span>" in html, word
        assert html.count("<td data-label=") == 16
    assert "/network" in clients["auditor"].get("/assets").text


def test_the_history_of_a_figure(clients: Mapping[str, TestClient], plane: Plane) -> None:
    fact = next(key[1] for key, s in plane.archive.state().items() if s.answer)
    html = clients["engineer"].get(f"/assets/controlplane-01?fact={fact}").text
    assert texts.say("vi", "web.assets.history", fact=fact) in html


def test_a_round_shows_its_looks_its_seal_and_what_moved(clients: Mapping[str, TestClient], plane: Plane) -> None:
    newest, first = plane.archive.rounds(2)
    html = clients["auditor"].get(f"/rounds/{newest.id}").text
    assert newest.seal in html
    assert f"/rounds/{first.id}" in html
    for name in plane.archive.sealed_names(newest.id).values():
        assert f"/raw/{name}" in html
    assert texts.say("vi", "web.rounds.first") in clients["auditor"].get(f"/rounds/{first.id}").text
    story = clients["auditor"].get(f"{API}/rounds/{newest.id}").json()["data"]
    assert story["round"]["id"] == newest.id
    assert story["looks"]
    assert story["difference"]["met_before"] >= 0


def test_a_change_dossier_shows_before_and_after(clients: Mapping[str, TestClient]) -> None:
    html = clients["engineer"].get("/runs/20261101T000000Z-aaaaaa").text
    for part in ("PermitRootLogin no", "tcvn14423.none", texts.say("vi", "web.state.changed"), "later"):
        assert part in html
    assert "20261101T000000Z-aaaaaa" in clients["engineer"].get("/runs").text
    body = clients["engineer"].get(f"{API}/runs/20261101T000000Z-aaaaaa").json()["data"]["body"]
    assert body["difference"]["met_after"] == 2


def test_a_run_says_which_service_has_not_read_its_settings_yet(
    clients: Mapping[str, TestClient], plane: Plane
) -> None:
    run_id, owed = "20261101T000000Z-bbbbbb", {"nas-01": ["r : Restart <it>"], "sv-01": ["r : Restart <it>"]}
    plane.archive.open_run(run_id, plane.clock(), "time-ssh", "apply", [])
    plane.archive.close_run(run_id, plane.clock(), "unreachable", {"owed": owed})
    html = clients["engineer"].get(f"/runs/{run_id}").text
    assert texts.say("vi", "web.runs.owed") in html
    assert "r : Restart &lt;it&gt;</b>: nas-01, sv-01" in html
    standing = clients["engineer"].get(f"{API}/runs/{run_id}/standing").json()["data"]
    assert standing["owed"] == {"r : Restart <it>": ["nas-01", "sv-01"]}


@pytest.mark.parametrize(
    "dossier",
    [{}, {"run": None}, {"run": [], "difference": "odd"}, {"error": {"vi": "hỏng", "en": "bad"}}, [], {"owed": "odd"}],
)
def test_a_dossier_of_another_form_is_shown_as_far_as_it_is_understood(
    clients: Mapping[str, TestClient], plane: Plane, dossier: Any
) -> None:
    run_id = f"odd-{abs(hash(json.dumps(dossier)))}"
    plane.archive.open_run(run_id, plane.clock(), "no-such-play", "apply", [])
    plane.archive.close_run(run_id, plane.clock(), "failed", dossier)
    assert clients["engineer"].get(f"/runs/{run_id}").status_code == 200


def test_the_bundle_is_downloaded_verified_linked_and_not_left_lying_about(
    app: FastAPI, plane: Plane, tmp_path: Path
) -> None:
    client = client_of(app, "auditor")
    page = client.get("/evidence").text
    assert plane.key_fingerprint() in page
    answer = client.post("/evidence/bundle", data={"csrf": token_of(page)})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["x-content-sha256"] == hashlib.sha256(answer.content).hexdigest()
    assert list((plane.settings.data_dir / "exports").iterdir()) == []
    bundle = tmp_path / "bundle.zip"
    bundle.write_bytes(answer.content)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        (tmp_path / "verify.py").write_bytes(archive.read("verify.py"))
    command = [sys.executable, str(tmp_path / "verify.py"), str(bundle), "--fingerprint", plane.key_fingerprint()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    kinds = [link.kind for link in plane.archive.chain()][-2:]
    assert kinds == ["export", "download"]


def test_two_exports_at_once_are_one_too_many(app: FastAPI, plane: Plane) -> None:
    client = client_of(app, "auditor")
    token = token_of(client.get("/evidence").text)
    with plane.archive.lock("export"):
        answer = client.post("/evidence/bundle", data={"csrf": token})
    assert answer.status_code == 409
    assert texts.say("vi", "web.error.export_busy") in answer.text


def test_a_key_that_others_may_read_gives_a_sentence(app: FastAPI, plane: Plane) -> None:
    client = client_of(app, "auditor")
    token = token_of(client.get("/evidence").text)
    key = plane.settings.keys_dir / "signing.pem"
    key.chmod(0o644)
    try:
        assert texts.say("vi", "web.evidence.no_key") in client.get("/evidence").text
        assert client.post("/evidence/bundle", data={"csrf": token}).status_code == 500
    finally:
        key.chmod(0o600)
    assert list((plane.settings.data_dir / "exports").iterdir()) == []


def test_the_weekly_report_is_a_word_document(clients: Mapping[str, TestClient], plane: Plane) -> None:
    answer = clients["director"].get("/reports/weekly.docx?week=2026-W47")
    assert answer.status_code == 200
    assert answer.content[:2] == b"PK"
    assert 'filename="bao-cao-tuan-2026-W47.docx"' in answer.headers["content-disposition"]
    assert [link.kind for link in plane.archive.chain()][-2:] == ["report", "download"]
    refused = clients["director"].get("/reports/weekly.docx?week=2025-W54").text
    assert 'role="alert"' in refused


def test_a_broken_chain_is_said_loudly(tmp_path: Path) -> None:
    plane = init_store(Settings(home=HOME, data_dir=tmp_path))
    plane.archive.append("report", {"a": 1}, plane.clock())
    plane.archive.append("report", {"a": 2}, plane.clock())
    plane.accounts.add("t-auditor", "auditor", PASSWORD, plane.clock())
    with closing(sqlite3.connect(tmp_path / "emrctl.db")) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')  # the forger owns the machine
        connection.execute("UPDATE links SET kind = 'round' WHERE seq = 1")
        connection.commit()
    client = client_of(make_app(plane), "auditor")
    sentence = texts.say("vi", "reason.chain_broken", seq=1)
    for url in ("/", "/evidence"):
        html = client.get(url).text
        assert sentence in html
        assert 'role="alert"' in html
    assert client.get(f"{API}/chain").json()["data"]["holds"] is False
    assert "emr_evidence_chain_valid 0.0" in client_of(make_app(plane), LOOPBACK).get("/metrics").text


def test_bytes_that_were_changed_are_not_handed_out(app: FastAPI, plane: Plane) -> None:
    name = plane.archive.vault.put(b"bytes that will be changed")
    client = client_of(app, "auditor")
    path = plane.settings.vault_dir / name[:2] / name[2:]
    good = path.read_bytes()
    for bad in (b"", good[:-1], plane.archive.vault.folder.name.encode()):
        path.write_bytes(bad)
        answer = client.get(f"/raw/{name}")
        assert answer.status_code == 500
        assert name in answer.text


# --------------------------------------------------------------------------------------------- the programs


def test_every_answer_of_the_api_has_one_form(clients: Mapping[str, TestClient], examples: Mapping[str, str]) -> None:
    for method, path in TABLE:
        if method == "GET" and path.startswith(API) and not path.endswith(("raw/{sha256}", "openapi.json", "/events")):
            body = clients["admin"].get(address(path, examples)).json()
            assert body["ok"] is True
            assert set(body) in ({"ok", "data"}, {"ok", "data", "page", "pages", "total"})


def test_openapi_describes_every_route_of_the_api(clients: Mapping[str, TestClient]) -> None:
    document = clients["auditor"].get(f"{API}/openapi.json").json()
    described = set(document["paths"])
    assert described == {path for _, path in TABLE if path.startswith(API)} - {f"{API}/openapi.json"}
    for operations in document["paths"].values():
        for method, operation in operations.items():
            assert operation["summary"]
            assert set(operation["responses"]) & ({"200"} if method == "get" else {"201", "202"})
            assert "400" in operation["responses"]
    assert "Overview" in document["components"]["schemas"]
    ids = [operation["operationId"] for operations in document["paths"].values() for operation in operations.values()]
    assert len(ids) == len(set(ids))


def test_healthz_says_nothing_but_that_it_is_there(clients: Mapping[str, TestClient]) -> None:
    assert set(clients[ANONYMOUS].get("/healthz").json()) == {"ok", "version"}


def test_metrics_in_both_forms(clients: Mapping[str, TestClient]) -> None:
    client = clients[LOOPBACK]
    plain = client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    assert 'emr_run_total{mode="apply",playbook="time-ssh",status="successful"} 1.0' in plain.text
    assert 'emr_probe_success{asset="controlplane-01",probe="local"} 1.0' in plain.text
    modern = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert modern.text.endswith("# EOF\n")
    for odd in ("application/openmetrics-text; version=abc", "*/*", ";;;,=", "text/plain; version=x.y"):
        assert client.get("/metrics", headers={"Accept": odd}).status_code == 200
    assert CANARY not in plain.text
    assert "Máy" not in plain.text


def test_many_requests_at_once_do_not_stumble_over_each_other(app: FastAPI) -> None:
    client = client_of(app, "admin")
    urls = ["/", "/criteria", "/assets", "/rounds", f"{API}/chain", "/metrics"] * 5
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda url: client.get(url).status_code, urls))
    assert set(statuses) <= {200}


def test_downloads_at_once_are_all_linked(app: FastAPI, plane: Plane, examples: Mapping[str, str]) -> None:
    client = client_of(app, "auditor")
    before = sum(1 for link in plane.archive.chain() if link.kind == "download")
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: client.get(f"/raw/{examples['sha256']}/bytes").status_code, range(24)))
    assert answers == [200] * 24
    assert sum(1 for link in plane.archive.chain() if link.kind == "download") == before + 24
    assert plane.chain_state() is None


def test_a_title_of_an_asset_that_is_gone_is_no_problem(
    app: FastAPI, plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = plane.judgement()
    fewer = {name: asset for name, asset in judged.assets.items() if name != "controlplane-01"}
    monkeypatch.setattr(plane, "judgement", lambda as_of=None, law=None: replace(judged, assets=fewer))
    client = client_of(app, "admin")
    started = time.monotonic()
    for path in ("/", "/rounds", "/criteria"):
        assert client.get(path).status_code == 200
    assert client.get("/assets/controlplane-01").status_code == 404
    assert time.monotonic() - started < 30


def test_a_persons_word_stands_on_the_criterions_page_as_text(
    plane: Plane, clients: Mapping[str, TestClient], clock: Clock
) -> None:
    said = "Đã ban hành <script>alert(1)</script>"
    name = "tcvn14423.risk.communicate"
    word = Word((name,), Declared.ATTESTATION, "Phòng HC-TH", said, expires_on=date(2099, 1, 1))
    plane.declare(word, [plane.examine("qd.pdf", a_pdf())])
    page = clients["auditor"].get(f"/criteria/{name}").text
    assert "Phòng HC-TH" in page
    assert "qd.pdf" in page
    assert "<script>" not in page


# ------------------------------------------------------------------------------------------- what people say


PDF = a_pdf()
SIGNED = {"kind": "document", "by": "Phòng HC-TH", "statement": "Đã ban hành"}
SIGNED |= {"issued_on": "2026-09-01", "signer": "Giám đốc"}
WORD = {"kind": "attestation", "by": "Tổ CNTT", "statement": "Đã làm", "expires_on": "2099-01-01"}
DOCUMENT_ONLY, SOFTWARE = "nd331.approval", "tt13.1.1"


def say(client: TestClient, form: Mapping[str, str], files: Any = None, **more: Any) -> Any:
    """Send the form of a declaration with the token of its page."""
    token = token_of(client.get("/declare").text)
    sent = [("document", file) for file in files or [("", b"", "application/octet-stream")]]
    return client.post("/declare", data={"csrf": token} | dict(form), files=sent, **more)


def test_a_document_is_declared_shown_and_downloaded_as_a_file(app: FastAPI, plane: Plane) -> None:
    client = client_of(app, "engineer")
    also = "nd331.plan_7parts\nnd331.approval"
    answer = say(client, SIGNED | {"criterion": DOCUMENT_ONLY, "also": also}, [("quyết định.pdf", PDF, "text/html")])
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"].startswith(f"/declare?criterion={DOCUMENT_ONLY}&kept=")
    assert texts.say("vi", "web.declare.see") in client.get(answer.headers["location"]).text
    word = plane.archive.words_about("nd331.plan_7parts")[0]
    assert (word.value["account"], word.value["by"]) == ("t-engineer", SIGNED["by"])
    assert word.value["documents"][0]["name"] == "quyết định.pdf"
    page = client_of(app, "auditor").get(f"/criteria/{DOCUMENT_ONLY}").text
    for part in (SIGNED["statement"], "quyết định.pdf", "01/09/2026", "t-engineer", texts.say("vi", "verdict.met")):
        assert part in page
    told = client.get(f"{API}/criteria/{DOCUMENT_ONLY}").json()["data"]
    assert told["score"]["proof"] == "declared"
    assert told["words"][0]["value"]["statement"] == SIGNED["statement"]
    sha = hashlib.sha256(PDF).hexdigest()
    taken = client.get(f"/raw/{sha}/bytes")
    assert taken.content == PDF
    assert taken.headers["content-type"] == "application/octet-stream"
    assert taken.headers["content-disposition"].endswith('.pdf"')
    assert taken.headers["x-content-type-options"] == "nosniff"
    assert texts.say("vi", "web.raw.binary") in client.get(f"/raw/{sha}").text
    assert client_of(app, "director").get(f"/raw/{sha}/bytes").status_code == 403
    withdrawn = {"criterion": DOCUMENT_ONLY, "kind": "withdrawn", "by": "Phòng HC-TH", "statement": "Ký lại"}
    assert say(client, withdrawn).status_code == 303
    assert plane.explain(DOCUMENT_ONLY).score.verdict is Verdict.UNKNOWN


REFUSED = (
    ({"criterion": ""}, "no_criterion"),
    ({"criterion": "not.there"}, "unknown_criterion"),
    ({"by": " "}, "empty"),
    ({"statement": ""}, "empty"),
    ({"criterion": DOCUMENT_ONLY}, "document_needed"),
    ({"kind": "document"}, "document_incomplete"),
    ({"kind": "other_value"}, "only_suggested"),
    ({"kind": "not_applicable"}, "only_conditional"),
    ({"expires_on": ""}, "no_end"),
    ({"expires_on": "2020-01-01"}, "past"),
    ({"issued_on": "2098-01-01"}, "issued_later"),
    ({"effective_on": "2099-02-01"}, "ends_before_it_begins"),
    ({"count": "-4"}, "bad_count"),
    ({"count": "99999999"}, "bad_count"),
    ({"kind": "gossip"}, "web.no_kind"),
    ({"kind": ""}, "web.no_kind"),
    ({"issued_on": "2026-02-30"}, "web.bad_day"),
    ({"expires_on": "mai"}, "web.bad_day"),
    ({"statement": "a" * 1001}, "web.too_long"),
    ({"by": "a" * 201}, "web.too_long"),
    ({"also": "\n".join(f"c{n}" for n in range(200))}, "web.too_many"),
)


@pytest.mark.parametrize(("change", "code"), REFUSED)
def test_a_word_that_cannot_be_kept_gets_its_sentence_and_the_form_stays_filled(
    clients: Mapping[str, TestClient], plane: Plane, change: dict[str, str], code: str
) -> None:
    before = plane.archive.head()
    form = WORD | {"criterion": SOFTWARE, "number": "số riêng 77"} | change
    answer = say(clients["director"], form)
    assert answer.status_code == 400, answer.text
    alert = re.search(r'role="alert" id="problem">.*?<span>([^<]+)</span>', answer.text)
    assert alert
    key = f"declare.{code}" if not code.startswith("web.") else f"web.declare.{code.removeprefix('web.')}"
    fixed = re.split(r"\{\w+\}", texts.words("vi")[key])
    assert all(html_of(part) in alert[1] for part in fixed), (alert[1], fixed)
    assert "số riêng 77" in answer.text
    assert plane.archive.head() == before


def html_of(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("'", "&#39;").replace('"', "&#34;")


def test_what_people_write_is_never_markup(app: FastAPI, plane: Plane) -> None:
    client = client_of(app, "admin")
    form = WORD | {"criterion": "tt13.1.3", "by": f"Tổ {CANARY}", "statement": CANARY, "signer": CANARY}
    assert say(client, form, [(f"{CANARY.replace('/', '')}.pdf", PDF, "application/pdf")]).status_code == 303
    again = say(client, form | {"kind": "gossip"})
    pages = [again.text, client.get("/criteria/tt13.1.3").text, whole_difference(client)]
    for html in pages:
        assert "<script" not in html
        assert "&lt;script&gt;" in html
    assert "<script" not in client.get(f"/declare?criterion={CANARY}").text


def test_whoever_examines_or_only_looks_declares_nothing(clients: Mapping[str, TestClient], plane: Plane) -> None:
    before = plane.archive.head()
    for role in ("auditor", "department", ANONYMOUS):
        client = clients[role]
        token = token_of(client.get("/password" if role != ANONYMOUS else "/login").text)
        files = {"document": ("a.pdf", PDF, "application/pdf")}
        for path in ("/declare", f"{API}/declarations"):
            answer = client.post(path, data={"csrf": token, "criterion": SOFTWARE} | WORD, files=files)
            assert answer.status_code == (401 if role == ANONYMOUS else 403)
            assert error_code(answer) in ("forbidden", "log_in")
        if role != ANONYMOUS:
            assert 'href="/declare' not in client.get(f"/criteria/{SOFTWARE}").text
    assert plane.archive.head() == before


@pytest.mark.parametrize("token", ["", "wrong", None])
def test_a_declaration_without_its_token_is_not_kept(app: FastAPI, plane: Plane, token: str | None) -> None:
    client, before = client_of(app, "engineer"), plane.archive.head()
    form = {"criterion": SOFTWARE} | WORD | ({} if token is None else {"csrf": token})
    for path in ("/declare", f"{API}/declarations"):
        answer = client.post(path, data=form, files={"document": ("a.pdf", PDF, "application/pdf")})
        assert (answer.status_code, error_code(answer)) == (403, "bad_token")
    theirs = client_of(app, "engineer").get(f"{API}/session").json()["data"]["csrf"]
    assert client.post(f"{API}/declarations", data=form, headers={"X-CSRF-Token": theirs}).status_code == 403
    assert plane.archive.head() == before


def test_a_program_declares_with_the_token_of_its_session(app: FastAPI, plane: Plane) -> None:
    client = client_of(app, "engineer")
    me = client.get(f"{API}/session").json()["data"]
    assert (me["account"], me["role"]) == ("t-engineer", "engineer")
    headers = {"X-CSRF-Token": me["csrf"]}
    kept = client.post(f"{API}/declarations", data={"criterion": "tt13.1.2"} | WORD, headers=headers)
    assert kept.status_code == 201
    data = kept.json()["data"]
    head = plane.archive.head()
    assert head is not None
    assert (data["link"], data["seal"], data["criteria"]) == (head.seq, head.seal, ["tt13.1.2"])
    bad = client.post(f"{API}/declarations", data={"criterion": "x.y"} | WORD, headers=headers)
    assert (bad.status_code, error_code(bad)) == (400, "bad_word")
    assert "x.y" in bad.json()["error"]["message"]


def test_files_that_are_too_large_or_too_many_are_refused(plane: Plane) -> None:
    settings = plane.settings.model_copy(update={"largest_upload_mb": 1})
    client = client_of(make_app(Plane(settings, plane.archive, plane.accounts, plane.clock)), "engineer")
    before = plane.archive.head()
    form = SIGNED | {"criterion": DOCUMENT_ONLY}
    large = say(client, form, [("a.pdf", PDF + b"0" * (2 << 20), "application/pdf")])
    assert large.status_code == 413
    assert texts.say("vi", "web.error.upload_too_large", most=1) in large.text
    token = token_of(client.get("/declare").text)
    kind = {"content-type": "multipart/form-data; boundary=x"}
    head = f'--x\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n{token}\r\n--x\r\n'.encode()
    head += b'Content-Disposition: form-data; name="document"; filename="a.pdf"\r\n\r\n'

    def pieces() -> Iterator[bytes]:
        yield head
        for _ in range(64):
            yield b"a" * 65536

    assert client.post("/declare", content=pieces(), headers=kind).status_code == 413
    many = [(f"{n}.pdf", PDF, "application/pdf") for n in range(11)]
    assert say(client, form, many).status_code == 400
    assert say(client, form | {f"f{n}": "1" for n in range(30)}).status_code == 400
    assert say(client, form | {"statement": "a" * 20_000}).status_code == 400
    assert say(client, form, [("rong.pdf", b"", "application/pdf")]).status_code == 400
    nobody = TestClient(client.app, base_url=HOST, follow_redirects=False)
    assert nobody.post("/declare", content=b"a" * (LARGEST_BODY_BYTES + 1), headers=kind).status_code == 413
    assert client.post("/logout", content=b"a" * (LARGEST_BODY_BYTES + 1), headers=kind).status_code == 413
    assert plane.archive.head() == before


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data; boundary=x", b"--x\r\nbroken"),
        ("multipart/form-data", b"no boundary"),
        ("application/json", b"{}"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\xfe'),
    ],
)
def test_a_declaration_that_is_no_form_gets_a_sentence(app: FastAPI, kind: str, body: bytes) -> None:
    client = client_of(app, "engineer")
    for path in ("/declare", "/law/filed", f"{API}/declarations"):
        answer = client.post(path, content=body, headers={"content-type": kind})
        assert answer.status_code in (400, 403)


def test_a_word_against_a_measurement_is_flagged_wherever_it_counts(app: FastAPI, plane: Plane) -> None:
    client, card = client_of(app, "engineer"), plane.judgement().card
    bad = next(
        s.id
        for s in card.criteria
        if s.verdict is Verdict.NOT_MET and plane.catalog.criteria[s.id].automatable != "document"
    )
    assert say(client, WORD | {"criterion": bad, "count": "3"}).status_code == 303
    page = client.get(f"/criteria/{bad}").text
    assert texts.say("vi", "web.explain.contradicted_top") in page
    assert "khai 3" in page
    assert texts.say("vi", "web.levels.contradicted_one") in client.get("/").text
    framework, group = plane.catalog.criteria[bad].framework, plane.catalog.criteria[bad].group
    assert texts.say("vi", "web.criteria.contradicted") in client.get(f"/criteria?group={group}&verdict=not_met").text
    told = f'emr_readiness_criteria_contradicted{{framework="{framework}",group="{group}"}} 1.0'
    assert told in client.get("/metrics").text


# --------------------------------------------------------------------------------------- levels and frames


def test_everything_that_stands_beside_a_level_is_shown_apart_from_it(
    clients: Mapping[str, TestClient], plane: Plane
) -> None:
    html, card = clients["director"].get("/").text, plane.judgement().card
    standings = dict.fromkeys(("confirmed", "second_hand", "draft"), 0)
    shown = {(g.framework, g.group) for g in card.groups if g.reason.code != "group_out_of_force"}
    for criterion in plane.catalog.criteria.values():
        if (criterion.framework, criterion.group) in shown:
            standings[str(criterion.standing)] += 1
    for word, count in standings.items():
        assert f">{texts.say('vi', f'web.standing.{word}')}</span> <b>{count}</b>" in html
    for group in card.groups:
        if group.reason.code == "share":
            met, of = group.reason.figures["count"], group.reason.figures["of"]
            assert texts.say("vi", "web.levels.share", met=met, of=of) in html
        elif group.total:
            figures = {"automated": group.automated, "judged": group.judged, "total": group.total}
            assert texts.say("vi", "web.levels.checks_of", **figures) in html
    previews = sum(1 for group in card.groups if group.preview)
    assert previews
    assert html.count(texts.say("vi", "web.levels.preview_not")) == previews + len(card.overall)
    blind = [g for g in card.groups if g.reason.code == "list_not_complete" and g.drafts and not g.preview]
    assert html.count(texts.say("vi", "web.levels.no_preview")) == len(blind) > 0
    row = html[html.index('group=his"') :]
    assert row.index(texts.say("vi", "web.levels.preview")) < row.index("<details")  # seen without opening anything
    assert html.count(texts.say("vi", "web.levels.cell_open")) == sum(
        1 for cell in plane.catalog.frameworks["tt54-2017"].annex if not cell.seen
    )


def test_a_level_with_waivers_stands_beside_the_level(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = plane.judgement()

    def lift(group: Any) -> Any:
        if group.group != "lis":
            return group
        return replace(group, proven=None, with_waivers="advanced", counts={"met": 9, "waived": 1})

    card = replace(judged.card, groups=tuple(lift(group) for group in judged.card.groups))
    monkeypatch.setattr(plane, "judgement", lambda as_of=None, law=None: replace(judged, card=card))
    html = client_of(make_app(plane), "director").get("/criteria?group=lis").text
    now = re.search(r'class="l-now"><strong>([^<]+)<', html)
    assert now
    assert now[1] == "Dưới mức cơ bản"
    assert re.search(f"{texts.say('vi', 'web.levels.waived')}</dt><dd>Mức nâng cao", html)
    assert texts.say("vi", "web.levels.waived_not") in html


def test_the_frame_of_the_plan_and_todays_both_answer(clients: Mapping[str, TestClient], plane: Plane) -> None:
    client, day = clients["director"], "2025-08-15"
    old, new = client.get(f"/?law={day}").text, client.get("/").text
    assert texts.say("vi", "web.frame.banner", day="15/08/2025") in old
    assert texts.say("vi", "web.frame.back") in old
    assert "khung cũ" in old
    assert "khung cũ" not in new
    assert texts.say("vi", "web.frame.back") not in new
    assert f"law={plane.campaign.starts_on}" in new
    assert "law=2025-08-15" in re.findall(r'href="(/criteria\?[^"]+)"', old)[0]
    assert "đã qua hạn" in old  # today's evidence: the days are counted from today
    frame = client.get(f"{API}/score?law={day}").json()["data"]
    today = client.get(f"{API}/score").json()["data"]
    assert {g["framework"] for g in frame["groups"]} != {g["framework"] for g in today["groups"]}
    assert client.get(f"{API}/overview?law={day}").json()["data"]["as_of"] == plane.today.isoformat()
    page = client.get(f"/criteria/tcvn14423.sw.inventory?law={day}").text
    assert texts.say("vi", "reason.framework_out_of_force")[1:] in page
    both = client.get(f"/criteria?law={day}&as_of={day}").text
    assert texts.say("vi", "web.as_of.back") in both
    assert texts.say("vi", "web.frame.back") in both


# ------------------------------------------------------------------------------------- what moved, and why


def test_a_difference_names_its_causes_down_to_the_bytes(app: FastAPI, plane: Plane) -> None:
    client = client_of(app, "engineer")
    name = "tt54.rispacs.basic.10"
    word = plane.declare(Word((name,), Declared.ATTESTATION, "Tổ CNTT", "x", expires_on=date(2099, 1, 1)))
    html = whole_difference(client)
    assert f"/criteria/{name}" in html
    assert f"mắt xích {word.seq}" in html
    newest, first = plane.archive.rounds(2)
    for query in (f"from={first.id}&to={newest.id}", f"from={first.id}"):
        html = client.get(f"/difference?{query}").text
        assert first.id in html
        assert newest.id in html
        data = client.get(f"{API}/difference?{query}").json()["data"]
        assert set(data) >= {"levels", "criteria", "findings", "met_before", "met_after"}
    told = client.get(f"{API}/difference?from=2026-01-01").json()["data"]["criteria"]
    seen = next(m for m in told if m["criterion"] == name)
    assert seen["causes"][0]["kind"] == "word"
    assert re.search(r'href="/raw/[0-9a-f]{64}"', whole_difference(client, "&from=2026-01-01"))


def whole_difference(client: TestClient, query: str = "") -> str:
    """Every part of the page of a difference."""
    html = last = client.get(f"/difference?page=1{query}").text
    while next_ := re.search(r'rel="next" href="[^"]*page=([0-9]+)', last):
        last = client.get(f"/difference?page={next_[1]}{query}").text
        html += last
    return html


# ------------------------------------------------------------------------------------------------- the law


def test_the_level_is_determined_by_answers_that_stand_in_the_address(clients: Mapping[str, TestClient]) -> None:
    client = clients["department"]
    open_ = client.get("/law?internal=yes&nonpublic=yes&online=yes").text
    assert "Cấp 2" in open_
    assert texts.say("vi", "web.law.open") in open_
    high = client.get("/law?internal=yes&nonpublic=yes&online=yes&sensitive_subjects=10000").text
    assert re.search(r"<strong>Cấp 3</strong>", high)
    assert texts.say("vi", "web.confidence.quoted") in high
    data = client.get(f"{API}/level?internal=yes&online=yes&sensitive_subjects=10000").json()["data"]
    assert data["level"] == "3"
    assert client.get(f"{API}/level").json()["data"]["level"] is None
    assert re.search(r'name="internal" value="" checked', client.get("/law").text)
    assert re.search(r'name="internal" value="no" checked', client.get("/law?internal=no").text)


def test_duties_tell_their_days_and_what_was_recorded_as_done(app: FastAPI, plane: Plane) -> None:
    client = client_of(app, "engineer")
    data = client.get(f"{API}/duties?level=2").json()["data"]
    for due in data:
        if due["due_on"]:
            assert due["days_left"] == (date.fromisoformat(due["due_on"]) - plane.today).days
    late = next(due for due in data if due["days_left"] is not None and due["days_left"] < 0)
    name, title = late["duty"]["id"], late["duty"]["title"]["vi"]
    token = token_of(client.get("/law").text)
    form = {"csrf": token, "name": name, "by": "Phòng HC-TH", "on": plane.today.isoformat()}
    files = {"document": ("bao-cao.pdf", PDF, "application/pdf")}
    answer = client.post("/law/filed", data=form, files=files)
    assert answer.status_code == 303, answer.text
    assert texts.say("vi", "web.law.file") in client.get(answer.headers["location"]).text
    link = plane.archive.head()
    assert link is not None
    body = plane.archive.body(link)
    assert (body["name"], body["account"]) == (name, "t-engineer")
    assert body["document"]["sha256"] == hashlib.sha256(PDF).hexdigest()
    left = client.get(f"{API}/duties?level=2").json()["data"]
    assert all(due["days_left"] >= 0 for due in left if due["duty"]["id"] == name)
    assert title in client.get("/law").text
    for change in ({"name": "no.duty"}, {"name": ""}, {"by": ""}, {"by": "a" * 300}, {"on": "2999-01-01"}, {"on": "x"}):
        bad = client.post("/law/filed", data=form | change, files=files)
        assert bad.status_code == 400, change
        assert 'role="alert"' in bad.text
    assert plane.archive.head() == link
    part = form | {"name": "announcement.plan"}
    assert client.post("/law/filed", data=part).status_code == 303
    assert texts.say("vi", "web.law.part_filed") in client.get("/law").text
    assert client_of(app, "auditor").post("/law/filed", data=part).status_code == 403


def test_every_part_of_a_dossier_names_criteria_that_there_are(plane: Plane) -> None:
    named = {c for dossier in plane.duties.dossiers for part in dossier.parts for c in part.criteria}
    assert named
    assert named <= set(plane.catalog.criteria)


def test_incident_clocks_run_in_the_hospitals_zone_and_nothing_is_kept(
    clients: Mapping[str, TestClient], plane: Plane
) -> None:
    before = plane.archive.head()
    html = clients["department"].get("/law?noticed=2026-11-26T07:30&serious=1").text
    assert "27/11/2026 07:30:00 (UTC+0700)" in html
    assert "29/11/2026 07:30:00 (UTC+0700)" in html
    mild = clients["department"].get("/law?noticed=2026-11-26T07:30").text
    assert "27/11/2026 07:30:00" not in mild
    assert texts.say("vi", "web.law.no_clock") in clients["department"].get("/law?noticed=2020-01-01T00:00").text
    assert plane.archive.head() == before


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("trang.pdf", b"<html><script>alert(1)</script></html>"),
        ("anh.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'),
        ("lenh.pdf", a_pdf(catalog=b"/OpenAction << /S /JavaScript /JS (app.alert(1)) >>")),
        ("khoa.pdf", a_pdf(extra=b"trailer << /Encrypt 5 0 R >>")),
        ("may.exe", b"MZ\x90\x00" + b"0" * 200),
        ("anh.png", a_pdf(extra=b"% only as an image\n")),
        ("../../etc/passwd", b"root:x:0:0"),
        ("rong.pdf", b""),
    ],
)
def test_a_file_that_is_no_document_is_refused_with_its_reason(
    clients: Mapping[str, TestClient], plane: Plane, name: str, data: bytes
) -> None:
    before = plane.archive.head()
    answer = say(clients["engineer"], SIGNED | {"criterion": DOCUMENT_ONLY}, [(name, data, "application/pdf")])
    assert answer.status_code == 400
    alert = re.search(r'role="alert" id="problem">.*?<span>([^<]+)</span>', answer.text)
    assert alert
    assert alert[1].startswith("Tệp “")
    assert SIGNED["statement"] in answer.text
    assert not data or hashlib.sha256(data).hexdigest() not in plane.archive.vault
    assert plane.archive.head() == before


def test_what_the_scanner_said_stands_beside_the_document(app: FastAPI, plane: Plane) -> None:
    client = client_of(app, "engineer")
    form = SIGNED | {"criterion": "nd331.regulation_first"}
    assert say(client, form, [("quy-che.pdf", PDF, "application/pdf")]).status_code == 303
    assert texts.say("vi", "intake.scan.not_scanned") in client.get("/criteria/nd331.regulation_first").text


# ------------------------------------------------------------------------------------------- what lies ahead


def test_what_is_imagined_is_told_with_its_assumptions_and_kept_nowhere(
    clients: Mapping[str, TestClient], plane: Plane
) -> None:
    before = plane.archive.head()
    url = "/plan?item_1=ups&quantity_1=2&price_1=10.000.000&play=time-ssh&confirm=tt54-2017/his&list=1&table=1"
    html = clients["director"].get(f"{url}&goal=tt13-2025/emr&document_hours=8&hour_price=100000").text
    assert texts.say("vi", "web.plan.imagined") in html
    assert plane.items["ups"].assumption.vi in html
    assert texts.say("vi", "whatif.assume_table", framework="tt54-2017") in html
    assert "tiền mua 20.000.000 đồng" in html
    assert texts.say("vi", "web.plan.way", group="Hồ sơ bệnh án điện tử") in html
    assert 'value="10.000.000"' in html
    data = clients["director"].get(f"{API}{url}&goal=tt13-2025/emr").json()["data"]
    assert (data["what_if"]["price_vnd"], data["cheapest"]["goal"]["group"]) == (20_000_000, "emr")
    assert len(data["forecast"]["targets"]) == len(plane.forecast().targets)
    assert clients["director"].get(f"{API}/plan").json()["data"]["what_if"] is None
    assert clients["director"].get(f"{API}/plan?play=no-play").status_code == 400
    plain = clients["director"].get("/plan").text
    assert texts.say("vi", "web.plan.imagined") not in plain
    for outlook in plane.forecast().targets:
        assert texts.say("vi", f"web.plan.state_{outlook.state}") in plain
    for days, count in plane.ageing().stays.items():
        assert f"{days} ngày: <b>{count}</b>" in plain
    assert plane.archive.head() == before


@pytest.mark.parametrize(
    "query",
    [
        "item_1=golden-toilet",
        "item_1=ups&quantity_1=-1",
        "item_1=ups&quantity_1=99999999",
        "item_1=ups&price_1=free",
        "item_1=<script>",
        "play=no-play",
        "play=<script>",
        "lose=no-asset",
        "confirm=tt54-2017",
        "confirm=x/y",
        "confirm=<script>/<script>",
        "goal=x/y",
        "goal=tt13-2025/emr&hour_price=" + "9" * 20,
        "goal=tt13-2025/emr&play_hours=many",
    ],
)
def test_what_cannot_be_imagined_gets_a_sentence(clients: Mapping[str, TestClient], query: str) -> None:
    answer = clients["engineer"].get(f"/plan?{query}")
    assert answer.status_code == 400
    assert "<script" not in answer.text
    assert "<h1>" in answer.text


def test_losing_an_asset_raises_nothing(clients: Mapping[str, TestClient]) -> None:
    html = clients["engineer"].get("/plan?lose=controlplane-01").text
    assert re.search(r"Thêm 0 tiêu chí đứng vững, mất [0-9]+", html)


def test_a_criterion_says_until_when_it_stands(app: FastAPI, plane: Plane) -> None:
    client = client_of(app, "engineer")
    assert say(client, WORD | {"criterion": "tt13.1.2", "expires_on": "2098-07-01"}).status_code == 303
    page = client.get("/criteria/tt13.1.2").text
    assert texts.say("vi", "web.explain.holds_until", at="23:59, 01/07/2098") in page
    assert "23:59, 01/07/2098" not in client.get("/criteria/tt13.1.2?law=2025-08-15").text
