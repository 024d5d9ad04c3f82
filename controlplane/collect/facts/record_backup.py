"""Whether the adopted plan of backups is carried out, its keys are sealed, and what the rehearsals proved."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from controlplane.collect.facts.record_text import (
    Document,
    mapping,
    maybe_day,
    moment,
    named,
    objects,
    reviewed_days,
    text,
    texts,
    whole,
)
from controlplane.domain.model import Fact

CYCLE_DAYS = {"database": 30, "files": 90}
"""How often a data set is rehearsed at least; the cycles that backup.state holds the hosts' own drills to."""

NOT_TRIED = frozenset(
    {"no_program", "no_password", "open_password", "bad_keys", "no_postgres", "no_mariadb", "no_room", "no_place"}
    | {"scratch_database", "interrupted", "locked", "stale_lock"}
)
"""Ends of a rehearsal that say something of the control plane and nothing of the backup: it was not tried."""


def read_plan(raw: str) -> dict[str, Any]:
    """Data sets of the register, and those that their host's own record does not know.

    A register that nobody adopted, or one without a data set, gives no figure; a host that did not answer keeps none.
    """
    document = Document(raw)
    register = document.register("backups")
    rows = objects(register.get("datasets"))
    held = {a.asset: set(texts(mapping(a.value).get("names") or [])) for a in document.answers("backup.state", 26)}
    adopted = reviewed_days(register, document.today()) is not None and bool(rows)
    wanted = [(text(row.get("host")), text(row.get("name"))) for row in rows]
    found = named("not_saved", (f"{host}: {name}" for host, name in wanted if name not in held.get(host, set())))
    found |= named("without_rpo", (text(row.get("name")) for row in rows if row.get("rpo_minutes") is None))
    if not adopted:
        found |= dict.fromkeys(key for key in found if key.endswith("_count"))
    return {"declared": len(rows), "adopted": adopted, "hosts_answered": len(held)} | found


SEALED_DAYS = 400
"""An envelope is opened for trial and sealed again once a year; a month late is still on time."""


def read_keys(raw: str) -> dict[str, Any]:
    """Repositories whose key no sealed envelope holds on record: no day, no keeper, or not tried for over a year.

    Without the key nobody opens a backup. A register that nobody adopted, or one without a repository, gives no figure.
    """
    document = Document(raw)
    register, today = document.register("backups"), document.today()
    rows = objects(register.get("repositories"))
    found = named("not_escrowed", (text(row.get("name")) for row in rows if not _sealed(row, today)))
    if reviewed_days(register, today) is None or not rows:
        found = dict.fromkeys(found)
    return {"repositories": len(rows)} | found


def _sealed(row: Mapping[str, Any], today: date) -> bool:
    day = maybe_day(row.get("escrowed_on"))
    return day is not None and bool(row.get("keeper")) and 0 <= (today - day).days <= SEALED_DAYS


def read_drills(raw: str) -> dict[str, Any]:
    """Data sets within reach of the control plane whose newest rehearsal failed, or whose last good one is too old.

    Within reach is what the register gives a repository. While none of those was ever rehearsed there is no figure;
    where an adopted register gives none a repository, nothing is late: the hosts' own rehearsals stand alone. They
    compare hashes and query nothing, so while a database is given no repository nobody can say that all are in time.
    """
    document = Document(raw)
    register = document.register("backups")
    out_of_reach = any(queried(r) and not texts(r.get("repositories")) for r in objects(register.get("datasets")))
    sets = {text(r.get("name")): r for r in objects(register.get("datasets")) if texts(r.get("repositories"))}
    tried = [
        row
        for row in objects(document.whole_part("drills"))
        if text(row.get("dataset")) in sets and text(row.get("error") or "") not in NOT_TRIED
    ]
    newest = {text(row.get("dataset")): row for row in sorted(tried, key=lambda row: whole(row.get("link")))}
    good = {text(row.get("dataset")) for row in tried if _in_time(row, sets, document.at())}
    found = named("failed", (name for name, row in newest.items() if row.get("ok") is not True))
    found |= named("overdue", sets.keys() - good)
    adopted = reviewed_days(register, document.at().date()) is not None
    if out_of_reach:
        found["overdue_count"] = None
    if not newest and (sets or not adopted or out_of_reach):
        found |= dict.fromkeys(key for key in found if key.endswith("_count"))
    slowest = max((whole(row.get("rto_seconds")) for row in newest.values() if row.get("ok") is True), default=None)
    return {"in_reach": len(sets), "rehearsed": len(newest), "slowest_restore_seconds": slowest} | found


def queried(dataset: Mapping[str, Any]) -> bool:
    """Whether a rehearsal asks a database server: what a hospital's own command dumped only its hashes prove."""
    return dataset.get("class") == "database" and not str(dataset.get("source") or "").startswith("command:")


def _in_time(row: Mapping[str, Any], sets: Mapping[str, Mapping[str, Any]], at: datetime) -> bool:
    """Whether a rehearsal was good, within the cycle of its data set, and of a database queried it."""
    wanted = sets[text(row.get("dataset"))]
    asked = not queried(wanted) or (row.get("database") is True and whole(row.get("tables")) > 0)
    days = (at - moment(row.get("at"))).days
    cycle = CYCLE_DAYS.get(text(wanted.get("class")), CYCLE_DAYS["database"])
    return row.get("ok") is True and asked and days < cycle


FACTS: tuple[Fact, ...] = (
    Fact(
        "backup.drills",
        "record",
        "drills register:backups",
        read_drills,
        "data sets",
        "the control plane's own rehearsals (emrctl backup drill)",
        kinds=("site",),
    ),
    Fact(
        "backup.plan",
        "record",
        "backup.state register:backups today",
        read_plan,
        "data sets",
        "inventory/registers/backups.yaml",
        kinds=("site",),
    ),
    Fact(
        "backup.keys",
        "record",
        "register:backups today",
        read_keys,
        "repositories",
        "inventory/registers/backups.yaml",
        kinds=("site",),
    ),
)
