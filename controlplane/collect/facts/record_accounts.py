"""Accounts against the hospital's register of accounts and its list of leavers. It opens and closes no account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from controlplane.collect.facts.record_text import (
    Document,
    mapping,
    matches,
    maybe_day,
    moment,
    named,
    objects,
    reviewed_days,
    text,
    texts,
)
from controlplane.domain.model import Fact

LEAVERS_DAYS = 31
REGISTER_DAYS = 183
SEAT_CHANGE_SECONDS = 300

_HOSTS = ("server", "controlplane", "virtual_machine", "workstation")
_NO_ACCOUNTS = frozenset({"ups", "external_storage"})


def read_exceptions(raw: str) -> dict[str, Any]:
    """What one host's accounts and the registers disagree about, each figure None until the register was reviewed.

    A system account that cannot log in is covered by a pattern; every other account needs a row of its own.
    """
    document = Document(raw)
    register, leavers = document.register("accounts"), document.register("leavers")
    own, today = document.own(), document.today()
    rows = [row for row in objects(register.get("accounts")) if own.within(texts(row.get("scope")))]
    system = [text(row.get("account")) for row in objects(register.get("system"))]
    accounts = objects(mapping(document.value("accounts.list")).get("accounts"))
    login = {text(a.get("account")) for a in accounts if a.get("login") is not False}
    admins = {text(a.get("account")) for a in accounts if a.get("admin") is True}
    names = [text(a.get("account")) for a in accounts]
    listed = {name: row for name in names if (row := _row(name, rows)) is not None}
    unlisted = [n for n in names if n not in listed and (n in login or not matches(n, system))]
    gone = _gone(leavers, today)
    found = (
        named("unlisted", unlisted)
        | named("mistyped", (n for n, row in listed.items() if n in admins and row.get("type") != "admin"))
        | named("incomplete", (n for n, row in listed.items() if not _is_whole(row)))
        | named(
            "closed_but_open", (n for n, r in listed.items() if n in login and _passed(r.get("disabled_on"), today))
        )
        | named("leavers_open", (n for n in login if n in gone))
    )
    compared = bool(rows) and reviewed_days(register, today) is not None
    if not compared:
        found |= dict.fromkeys(key for key in found if key.endswith("_count") and key != "leavers_open_count")
    if reviewed_days(leavers, today) is None:
        found["leavers_open_count"] = None
    return {"compared": compared, "accounts": len(names), "shared": sum(bool(r.get("shared")) for r in rows)} | found


def _row(name: str, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return next((row for row in rows if matches(name, [text(row.get("account"))])), None)


def _passed(day: Any, today: date) -> bool:
    on = maybe_day(day)
    return on is not None and on <= today


def _gone(leavers: Mapping[str, Any], today: date) -> set[str]:
    return {text(row.get("account")) for row in objects(leavers.get("leavers")) if _passed(row.get("left_on"), today)}


def _is_whole(row: Mapping[str, Any]) -> bool:
    return all(row.get(field) for field in ("type", "owner", "department", "enabled_on"))


def read_register(raw: str) -> dict[str, Any]:
    """Whether the register reaches every asset in use, holds every field, and whether both lists are kept up.

    An asset is reached by an account in whose scope it is, or by a row that says why it has none. A leaver's account
    is unclosed while any row of it, on a host or in an application, has no day of closing that has come.
    """
    document = Document(raw)
    register, leavers, today = document.register("accounts"), document.register("leavers"), document.today()
    rows = objects(register.get("accounts"))
    scopes = [texts(row.get("scope")) for row in (*rows, *objects(register.get("without")))]
    assets = [asset for asset in document.assets() if asset.in_use and asset.kind not in _NO_ACCOUNTS]
    days, left = reviewed_days(register, today), reviewed_days(leavers, today)
    gone = _gone(leavers, today)
    open_rows = {text(row.get("account")) for row in rows if not _passed(row.get("disabled_on"), today)}
    return {
        "rows": len(rows),
        "assets": len(assets),
        "reviewed_this_half_year": days is not None and days <= REGISTER_DAYS,
        "leavers": len(objects(leavers.get("leavers"))),
        "leavers_reviewed_this_month": left is not None and left <= LEAVERS_DAYS,
        **named("unreached", (a.name for a in assets if not any(a.within(scope) for scope in scopes))),
        **named("incomplete", (text(row.get("account")) for row in rows if not _is_whole(row))),
        **named("leavers_unclosed", gone & open_rows),
    }


def read_shared(raw: str) -> dict[str, Any]:
    """Accounts that were logged in on two assets at once within a week, those apart that are approved for sharing.

    Overlaps of less than five minutes are somebody changing seats. While a workstation or server in use is silent,
    that nobody was found is no figure.
    """
    document = Document(raw)
    rows = objects(document.register("accounts").get("accounts"))
    excused = {text(r.get("account")) for r in rows if r.get("shared") or r.get("type") == "service"}
    logins: dict[str, list[tuple[str, datetime, datetime]]] = {}
    answers = document.answers("accounts.sessions")
    for answer in answers:
        for row in objects(mapping(answer.value).get("logins")):
            until = document.at() if row.get("to") is None else moment(row.get("to"))
            entry = (answer.asset, moment(row.get("from")), until)
            logins.setdefault(text(row.get("account")), []).append(entry)
    twice = [name for name, times in logins.items() if _overlaps(times)]
    in_use = {a.name for a in document.assets() if a.in_use}
    silent = [name for name in document.silent("accounts.sessions") if name in in_use]
    found = named("concurrent", set(twice) - excused)
    if not found["concurrent"] and (silent or not answers):
        found["concurrent_count"] = None
    return {"hosts": len(answers), "silent": len(silent), "excused": len(excused & set(twice))} | found


def _overlaps(times: Sequence[tuple[str, datetime, datetime]]) -> bool:
    for index, (host, begun, ended) in enumerate(times):
        for other, start, end in times[index + 1 :]:
            if other != host and (min(ended, end) - max(begun, start)).total_seconds() >= SEAT_CHANGE_SECONDS:
                return True
    return False


FACTS: tuple[Fact, ...] = (
    Fact(
        "accounts.exceptions",
        "record",
        "accounts.list register:accounts register:leavers inventory today",
        read_exceptions,
        "accounts",
        "inventory/registers/accounts.yaml, leavers.yaml",
        kinds=_HOSTS,
    ),
    Fact(
        "accounts.register",
        "record",
        "register:accounts register:leavers inventory today",
        read_register,
        "rows, assets",
        "inventory/registers/accounts.yaml, leavers.yaml",
        kinds=("site",),
    ),
    Fact(
        "accounts.shared",
        "record",
        "inventory accounts.sessions register:accounts",
        read_shared,
        "accounts within 7 days",
        "accounts.sessions of every host against inventory/registers/accounts.yaml",
        kinds=("site",),
    ),
)
