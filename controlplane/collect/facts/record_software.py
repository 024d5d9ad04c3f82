"""Installed software against the hospital's register of approved software. It approves nothing by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from controlplane.collect.facts.linux_software import BROWSERS_AND_MAIL
from controlplane.collect.facts.record_text import (
    AssetRow,
    Document,
    mapping,
    matches,
    maybe_day,
    named,
    objects,
    reviewed_days,
    text,
    texts,
    version_fits,
)
from controlplane.domain.model import Fact

RUNTIMES = (
    "python3",
    "python3.*",
    "python2*",
    "openjdk-*-jre*",
    "openjdk-*-jdk*",
    "default-jre*",
    "dotnet-runtime-*",
    "aspnetcore-runtime-*",
    "mono-runtime*",
    "nodejs",
    "php*-cli",
    "php*-fpm",
    "ruby",
    "ruby[0-9]*",
    "perl",
    "wine*",
)
"""Packages in which programs of others run; an allow-list must name them."""

_HOSTS = ("server", "controlplane", "virtual_machine", "workstation")
_BASE = ("required", "important", "standard")
_FIELDS = ("purpose", "owner", "licence", "support_until", "component", "version", "scope")


def read_exceptions(raw: str) -> dict[str, Any]:
    """What is installed on one host and not approved for it, each figure None until the register was reviewed.

    Approved is what a row of the register names (with its version rule, within its support), Debian's base set and
    dependencies as far as the register says so. An exception with a day to remove by counts until that day.
    """
    document = Document(raw)
    register, own, today = document.register("software"), document.own(), document.today()
    rows = [row for row in objects(register.get("software")) if own.within(texts(row.get("scope")))]
    installed = mapping(document.value("packages.list"))
    names = [_split(entry) for kind in (*_BASE, "chosen", "dependencies") for entry in texts(installed.get(kind))]
    open_ = [name for name, version in _asked(installed, register) if not _approved(name, version, rows, today)]
    open_ += [path for path in texts(installed.get("loose")) if not _approved(path, "0", rows, today)]
    planned, overdue = _exceptions(register, own, open_, today)
    runtimes = [name for name, _ in names if matches(name, RUNTIMES)]
    web = [name for name, _ in names if name in BROWSERS_AND_MAIL]
    allowed = texts(register.get("browsers")) + texts(register.get("mail_clients"))
    found = (
        named("unapproved", set(open_) - planned)
        | named("overdue", overdue)
        | named(
            "runtimes_unapproved", (name for name in runtimes if not matches(name, texts(register.get("runtimes"))))
        )
        | named("web_unapproved", (name for name in web if not matches(name, allowed)))
    )
    compared = bool(rows) and reviewed_days(register, today) is not None
    if not compared:
        found |= dict.fromkeys(key for key in found if key.endswith("_count"))
    if not allowed:
        found["web_unapproved_count"] = None
    return {"compared": compared, "installed": len(names), "runtimes": sorted(runtimes), "web": sorted(web)} | found


def _split(entry: str) -> tuple[str, str]:
    name, _, version = entry.partition(" ")
    return name, version


def _asked(installed: Mapping[str, Any], register: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The packages that a row of the register must name: all but the base set and dependencies that it lets pass."""
    base = mapping(register.get("base"))
    passing = {*texts(base.get("priorities")), *(("dependencies",) if base.get("dependencies") is True else ())}
    kinds = [kind for kind in (*_BASE, "chosen", "dependencies") if kind not in passing]
    return [_split(entry) for kind in kinds for entry in texts(installed.get(kind))]


def _approved(name: str, version: str, rows: Sequence[Mapping[str, Any]], today: date) -> bool:
    for row in rows:
        until = maybe_day(row.get("support_until"))
        in_support = until is None or today <= until
        if matches(name, [text(row.get("name"))]) and in_support and version_fits(text(row.get("version")), version):
            return True
    return False


def _exceptions(
    register: Mapping[str, Any], own: AssetRow, open_: Sequence[str], today: date
) -> tuple[set[str], set[str]]:
    """Names that may stay until a day that has not come, and those whose day has passed."""
    planned: set[str] = set()
    overdue: set[str] = set()
    for row in objects(register.get("exceptions")):
        if own.within(texts(row.get("scope"))):
            late = today > date.fromisoformat(text(row.get("remove_by")))
            (overdue if late else planned).update(name for name in open_ if matches(name, [text(row.get("name"))]))
    return planned, overdue - planned


def read_register(raw: str) -> dict[str, Any]:
    """Whether the register of approved software is filled in, in support and reviewed within the year."""
    document = Document(raw)
    register, today = document.register("software"), document.today()
    rows = objects(register.get("software"))
    incomplete = [text(row.get("name")) for row in rows if not all(row.get(field) for field in _FIELDS)]
    ends = {text(row.get("name")): maybe_day(row.get("support_until")) for row in rows}
    days = reviewed_days(register, today)
    return {
        "rows": len(rows),
        "runtimes": len(texts(register.get("runtimes"))),
        "browsers": len(texts(register.get("browsers"))),
        "reviewed_this_year": days is not None and days <= 365,
        **named("incomplete", incomplete),
        **named("expired", (name for name, until in ends.items() if until is not None and until < today)),
    }


FACTS: tuple[Fact, ...] = (
    Fact(
        "software.exceptions",
        "record",
        "packages.list register:software inventory today",
        read_exceptions,
        "packages and paths",
        "inventory/registers/software.yaml",
        kinds=_HOSTS,
    ),
    Fact(
        "software.register",
        "record",
        "register:software today",
        read_register,
        "rows",
        "inventory/registers/software.yaml",
        kinds=("site",),
    ),
)
