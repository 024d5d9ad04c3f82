"""Whether the plan of backups that the hospital adopted is carried out where the data lie, and its keys are sealed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from controlplane.collect.facts.record_text import (
    Document,
    mapping,
    maybe_day,
    named,
    objects,
    reviewed_days,
    text,
    texts,
)
from controlplane.domain.model import Fact


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


FACTS: tuple[Fact, ...] = (
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
