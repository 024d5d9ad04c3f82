"""The table of routes and roles, cookies, and where a log-in may lead: without a server."""

from __future__ import annotations

import pytest

from controlplane.store.accounts import ROLES
from controlplane.web import access
from controlplane.web.access import ANONYMOUS, EVERYBODY, LOOPBACK, TABLE, may, safe_next


def test_the_table_names_only_roles_that_there_are() -> None:
    for route, roles in TABLE.items():
        assert roles, route
        assert roles <= EVERYBODY, route


def test_only_the_door_is_open_to_anybody() -> None:
    open_to_all = {path for (_, path), roles in TABLE.items() if ANONYMOUS in roles}
    assert open_to_all == {"/login", "/static/{name}", "/healthz"}
    assert {path for (_, path), roles in TABLE.items() if LOOPBACK in roles} == open_to_all | {"/metrics"}


def test_raw_bytes_and_bundles_are_for_those_who_audit_or_mend() -> None:
    for path in ("/raw/{sha256}", "/raw/{sha256}/bytes", "/api/v1/raw/{sha256}", "/evidence"):
        assert TABLE["GET", path] == {"auditor", "engineer", "admin"}
    assert TABLE["POST", "/evidence/bundle"] == {"auditor", "engineer", "admin"}


def test_only_the_administrator_touches_accounts() -> None:
    for (_, path), roles in TABLE.items():
        if path.startswith("/accounts"):
            assert roles == {"admin"}


def test_a_page_and_its_api_are_open_to_the_same_roles() -> None:
    for (method, path), roles in TABLE.items():
        twin = (method, path.removeprefix(access.API))
        if path.startswith(access.API) and twin in TABLE:
            assert TABLE[twin] == roles, (method, path)


def test_a_department_sees_the_state_and_no_addresses() -> None:
    assert may("department", "/")
    assert may("department", "/criteria/{criterion}")
    for path in ("/assets", "/rounds", "/runs", "/evidence", "/reports", "/accounts"):
        assert not may("department", path)


def test_a_route_that_does_not_stand_in_the_table_is_nobodys() -> None:
    assert not any(may(role, "/not-there") for role in ROLES)


@pytest.mark.parametrize(
    ("given", "leads_to"),
    [
        ("/criteria?verdict=unknown&page=2", "/criteria?verdict=unknown&page=2"),
        ("/", "/"),
        ("", "/"),
        ("https://example.org/", "/"),
        ("//example.org/", "/"),
        ("/\\example.org", "/"),
        ("\\\\example.org", "/"),
        ("javascript:alert(1)", "/"),
        ("/criteria\r\nSet-Cookie: a=b", "/"),
        ("/login?next=/login", "/"),
        ("/logout", "/"),
        ("/" + "a" * 3000, "/"),
    ],
)
def test_a_log_in_leads_only_to_a_page_of_this_house(given: str, leads_to: str) -> None:
    assert safe_next(given) == leads_to


def test_who_changes_hosts_is_an_engineer_and_who_looks_changes_nothing() -> None:
    acts = ("preview", "apply", "request", "resume", "drift")
    for (method, path), roles in TABLE.items():
        if method == "POST" and path.removeprefix(access.API).startswith(("/plays", "/runs", "/drift")):
            acting = path.rsplit("/", 1)[1] in acts
            assert roles == ({"engineer", "admin"} if acting else {"director", "engineer", "admin"}), path
