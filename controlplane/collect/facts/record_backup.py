"""Whether the plan of backups that the hospital adopted is carried out where the data lie."""

from __future__ import annotations

from typing import Any

from controlplane.collect.facts.record_text import Document, mapping, named, objects, reviewed_days, text, texts
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
)
