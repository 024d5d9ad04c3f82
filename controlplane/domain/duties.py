"""What the law asks at its time: duties and their days, dossiers, clocks after an incident, retention.

The document is ``checks/law/duties.yaml``; nothing in it decides a level.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from controlplane.domain import forms
from controlplane.domain.forms import CatalogError
from controlplane.domain.model import Words
from controlplane.domain.score import in_force

CONFIDENCES = ("quoted", "secondary", "recalled", "derived")
APPLIES = ("any", "serious", "grave", "personal_data")
COUNTED = ("year_end", "day")
KEEPS = ("years", "months", "days")
MONTH_DAY = re.compile(r"^(\d\d)-(\d\d)$")
LEVELS = ("1", "2", "3")

DOCUMENT_KEYS = "document title sources duties clocks terms dossiers retention penalties".split()
COMMON = "id title clause source confidence".split()  # what every entry says of itself; in_force and note may be added
Period = tuple[date | None, date | None]


class DutyError(ValueError):
    """A question about a duty, a dossier or a record that the document does not hold. The message names it."""


@dataclass(frozen=True)
class Basis:
    """Where an entry comes from and how far it can be relied on."""

    clause: str
    source: tuple[str, ...]
    confidence: str
    in_force: Period
    note: str


@dataclass(frozen=True)
class Yearly:
    """Every year until the last day; ``before`` makes the named day itself too late."""

    month: int
    day: int
    before: bool
    opens: tuple[int, int] | None  # month and day from which it can be done


@dataclass(frozen=True)
class Once:
    """One day in history."""

    last_day: date


@dataclass(frozen=True)
class Interval:
    """Again so many days after it was last done, by security level."""

    days: Mapping[str, int]


@dataclass(frozen=True)
class Event:
    """When something happens; no day can be counted."""

    words: Words


When = Yearly | Once | Interval | Event


@dataclass(frozen=True)
class Duty:
    """Something that somebody has to do by a day."""

    id: str
    title: Words
    who: Words
    when: When
    levels: tuple[str, ...]  # empty: not tied to a security level
    ours: bool  # False: it binds somebody else, and is told because the hospital depends on it
    basis: Basis


@dataclass(frozen=True)
class Clock:
    """So many hours from the moment an incident was noticed."""

    id: str
    title: Words
    to: Words
    hours: int
    applies_to: str  # any serious grave personal_data
    basis: Basis


@dataclass(frozen=True)
class Term:
    """Working days that an authority or the owner has."""

    id: str
    title: Words
    working_days: int
    levels: tuple[str, ...]
    basis: Basis


@dataclass(frozen=True)
class Part:
    """One paper of a dossier."""

    id: str
    title: Words
    clause: str


@dataclass(frozen=True)
class Dossier:
    """Papers that belong together."""

    id: str
    title: Words
    parts: tuple[Part, ...]
    basis: Basis


@dataclass(frozen=True)
class Retention:
    """How long something is kept: ``amount`` of ``unit``, or for good when there is no unit."""

    id: str
    title: Words
    unit: str | None  # years months days
    amount: int
    counted_from: str  # year_end: from the end of the year the work ended; day: from the day itself
    basis: Basis


@dataclass(frozen=True)
class Penalty:
    """A fine, for information only."""

    id: str
    title: Words
    million_vnd: tuple[int, int]
    of: str  # organisation individual
    basis: Basis


@dataclass(frozen=True)
class Duties:
    """The whole document."""

    id: str
    title: Words
    duties: tuple[Duty, ...]
    clocks: tuple[Clock, ...]
    terms: tuple[Term, ...]
    dossiers: tuple[Dossier, ...]
    retention: tuple[Retention, ...]
    penalties: tuple[Penalty, ...]


@dataclass(frozen=True)
class Due:
    """A duty seen from a day. Without a day it was never recorded as done."""

    duty: Duty
    due_on: date | None  # the last day on which it is in time
    days_left: int | None  # negative: late by so many days
    opens_on: date | None  # the first day on which it can be done, where the law names one


@dataclass(frozen=True)
class Deadline:
    """A clock that runs."""

    clock: Clock
    due_at: datetime  # UTC


@dataclass(frozen=True)
class DossierState:
    """What of a dossier is there."""

    dossier: Dossier
    present: tuple[Part, ...]
    missing: tuple[Part, ...]


# ------------------------------------------------------------------------------------------------ answers


def due_dates(
    law: Duties,
    day: date,
    *,
    level: str | None = None,
    done: Mapping[str, date] | None = None,
    others: bool = False,
) -> tuple[Due, ...]:
    """Duties in force on ``day`` with their last day, soonest first; intervals never recorded as done stand last.

    ``level`` leaves out what binds other security levels only; without it the strictest interval counts.
    ``done`` is the day each was last done: what is not in it counts as not done, so a day that has passed is told as
    late, beside the next one. ``others`` adds what binds somebody else. Raises ``DutyError`` for an unknown name.
    """
    done = done or {}
    known = [duty.id for duty in law.duties]
    for name in done:
        if name not in known:
            raise DutyError(f"{name}: no such duty{forms.near(name, known)}")
    if level is not None and level not in LEVELS:
        raise DutyError(f"{level}: no such level; there are {', '.join(LEVELS)}")
    rows: list[Due] = []
    for duty in law.duties:
        binds = not duty.levels or level is None or level in duty.levels
        if binds and (duty.ours or others) and in_force(duty.basis.in_force, day):
            rows += _due(duty, day, level, done.get(duty.id))
    rows.sort(key=lambda due: (due.due_on is None, due.due_on or day, due.duty.id))
    return tuple(rows)


def incident_clocks(
    law: Duties, noticed_at: datetime, serious: bool, *, grave: bool = False, personal_data: bool = False
) -> tuple[Deadline, ...]:
    """Every clock that runs from ``noticed_at``, the soonest first, in UTC.

    ``grave``: signs against national security, or a severe outage; it is serious, too. ``personal_data``: personal data
    were breached. Raises ``DutyError`` for a time without its zone.
    """
    if noticed_at.tzinfo is None:
        raise DutyError(f"{noticed_at.isoformat()}: a time needs its zone")
    runs = {"any": True, "serious": serious or grave, "grave": grave, "personal_data": personal_data}
    start = noticed_at.astimezone(UTC)
    running = [
        Deadline(clock, start + timedelta(hours=clock.hours))
        for clock in law.clocks
        if runs[clock.applies_to] and in_force(clock.basis.in_force, noticed_at.date())
    ]
    return tuple(sorted(running, key=lambda deadline: (deadline.due_at, deadline.clock.id)))


def dossier(law: Duties, id_: str, declared: Iterable[str]) -> DossierState:
    """Which parts of a dossier are there and which are missing. Raises ``DutyError`` naming what it does not know."""
    known = {entry.id: entry for entry in law.dossiers}
    if id_ not in known:
        raise DutyError(f"{id_}: no such dossier{forms.near(id_, known)}")
    parts, have = known[id_].parts, set(declared)
    names = [part.id for part in parts]
    for name in sorted(have):
        if name not in names:
            raise DutyError(f"{id_}: no such part {name!r}{forms.near(name, names)}")
    return DossierState(
        known[id_], tuple(p for p in parts if p.id in have), tuple(p for p in parts if p.id not in have)
    )


def what_is(law: Duties, name: str) -> str:
    """``duty``, or ``part`` for DOSSIER.PART. Raises ``DutyError`` naming the nearest."""
    parts = [f"{entry.id}.{part.id}" for entry in law.dossiers for part in entry.parts]
    duties = [duty.id for duty in law.duties]
    if name in duties:
        return "duty"
    if name in parts:
        return "part"
    raise DutyError(f"{name}: no such duty and no such part of a dossier{forms.near(name, [*duties, *parts])}")


def keep_until(law: Duties, id_: str, closed_on: date) -> date | None:
    """The last day something must be kept that was closed on a day; None: for good. Raises ``DutyError``."""
    known = {entry.id: entry for entry in law.retention}
    if id_ not in known:
        raise DutyError(f"{id_}: no such record{forms.near(id_, known)}")
    entry = known[id_]
    if entry.unit is None:
        return None
    start = date(closed_on.year, 12, 31) if entry.counted_from == "year_end" else closed_on
    if entry.unit == "days":
        return start + timedelta(days=entry.amount)
    months = entry.amount * (12 if entry.unit == "years" else 1)
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    return _day_of(year, month + 1, start.day)


def _due(duty: Duty, day: date, level: str | None, done: date | None) -> list[Due]:
    """The duty's last days that count on ``day``: none when nothing is left to do, or no day can be counted."""
    when = duty.when
    if isinstance(when, Event):
        return []
    if isinstance(when, Once):
        return [] if done is not None and done <= day else [Due(duty, when.last_day, (when.last_day - day).days, None)]
    if isinstance(when, Interval):
        days = [n for name, n in when.days.items() if level in (None, name)]
        due_on = done + timedelta(days=min(days)) if done is not None and days else None
        return [Due(duty, due_on, (due_on - day).days if due_on else None, None)] if days else []
    return _yearly(duty, when, day, done)


def _yearly(duty: Duty, when: Yearly, day: date, done: date | None) -> list[Due]:
    """The coming last day, and before it the one that passed when nothing was done for it since the law began."""
    begins, ends = duty.basis.in_force
    from_day = max(day, begins) if begins else day
    year = next(y for y in range(from_day.year - 1, from_day.year + 3) if _last_day(when, y) >= from_day)
    for_year = None  # the year that the last doing counts for: the one whose last day is nearest
    if done is not None and done <= day:
        reach = range(done.year - 1, done.year + 3)
        for_year = min(reach, key=lambda y: abs((_last_day(when, y) - (done or day)).days))
    passed = _last_day(when, year - 1)
    years = [year - 1] if (begins is None or passed >= begins) and (for_year is None or for_year < year - 1) else []
    years.append(year + 1 if for_year is not None and for_year >= year else year)
    dues = []
    for last in (_last_day(when, y) for y in years):
        if ends is None or last < ends:
            opens = _day_of(last.year, *when.opens) if when.opens else None
            dues.append(Due(duty, last, (last - day).days, opens))
    return dues


def _last_day(when: Yearly, year: int) -> date:
    named = _day_of(year, when.month, when.day)
    return named - timedelta(days=1) if when.before else named


def _day_of(year: int, month: int, day: int) -> date:
    """A day of a year; the 29th of February, or the 31st of a shorter month, is its last day."""
    return date(year, month, min(day, calendar.monthrange(year, month)[1]))


# ------------------------------------------------------------------------------------------------ reading

Entry = TypeVar("Entry")


def make_duties(file: str, document: Any) -> Duties:
    """Read the document. Raises ``CatalogError`` naming file, part and entry."""
    forms.keys(file, document, DOCUMENT_KEYS, DOCUMENT_KEYS)
    sources = document["sources"]
    if not isinstance(sources, Mapping):
        raise CatalogError(f"{file}: sources must be a mapping")
    return Duties(
        forms.text(file, document, "document"),
        forms.words(file, document["title"]),
        _part(file, document, "duties", sources, "who when levels", _duty, "ours"),
        _part(file, document, "clocks", sources, "to hours applies_to", _clock),
        _part(file, document, "terms", sources, "working_days levels", _term),
        _part(file, document, "dossiers", sources, "parts", _dossier),
        _part(file, document, "retention", sources, "keep", _retention, "counted_from"),
        _part(file, document, "penalties", sources, "million_vnd of", _penalty),
    )


def _part(
    file: str,
    document: Mapping[str, Any],
    part: str,
    sources: Mapping[str, Any],
    own: str,
    read: Callable[[str, Mapping[str, Any], Basis], Entry],
    optional: str = "",
) -> tuple[Entry, ...]:
    """Every entry of one part: its common keys, its own, and an id that stands once."""
    seen: set[str] = set()
    made = []
    for entry in forms.mappings(file, document[part], part):
        where = f"{file}: {part}: {entry.get('id', '(no id)')}"
        needed = [*COMMON, *own.split()]
        forms.keys(where, entry, [*needed, *optional.split(), "in_force", "note"], needed)
        id_ = forms.text(where, entry, "id")
        if id_ in seen:
            raise CatalogError(f"{where}: this id stands twice")
        seen.add(id_)
        made.append(read(where, entry, _basis(where, entry, sources)))
    return tuple(made)


def _basis(where: str, entry: Mapping[str, Any], sources: Mapping[str, Any]) -> Basis:
    source = forms.strings(where, entry["source"], "source")
    for name in source:
        if name not in sources:
            raise CatalogError(f"{where}: no source {name!r}{forms.near(name, sources)}")
    if not source:
        raise CatalogError(f"{where}: source may not be empty")
    return Basis(
        forms.text(where, entry, "clause"),
        source,
        forms.one_of(where, entry["confidence"], "confidence", CONFIDENCES),
        forms.period(where, entry.get("in_force") or [None, None]),
        str(entry.get("note", "")),
    )


def _levels(where: str, value: Any) -> tuple[str, ...]:
    levels = forms.strings(where, value, "levels")
    for level in levels:
        forms.one_of(where, level, "levels", LEVELS)
    return levels


def _duty(where: str, entry: Mapping[str, Any], basis: Basis) -> Duty:
    levels, ours = _levels(where, entry["levels"]), entry.get("ours", True)
    if not isinstance(ours, bool):
        raise CatalogError(f"{where}: ours must be true or false")
    return Duty(
        entry["id"],
        forms.words(where, entry["title"]),
        forms.words(where, entry["who"]),
        _when(where, entry["when"], levels),
        levels,
        ours,
        basis,
    )


def _when(where: str, document: Any, levels: Sequence[str]) -> When:
    kinds = ("yearly", "once", "every_days", "event")
    if not isinstance(document, Mapping) or len(document) != 1 or next(iter(document)) not in kinds:
        raise CatalogError(f"{where}: when needs exactly one of {', '.join(kinds)}")
    kind, value = next(iter(document.items()))
    if kind == "event":
        return Event(forms.words(where, value))
    if kind == "every_days":
        if not isinstance(value, Mapping) or set(value) != set(levels):
            raise CatalogError(f"{where}: every_days must name the days of each of its levels")
        return Interval({level: forms.whole(where, days, "every_days", 1) for level, days in value.items()})
    forms.keys(f"{where}: {kind}", value, ("before", "by", "from") if kind == "yearly" else ("before", "by"), ())
    if ("before" in value) == ("by" in value):
        raise CatalogError(f"{where}: {kind} needs before (that day is too late) or by (that day is in time)")
    before = "before" in value
    named = value["before"] if before else value["by"]
    if kind == "once":
        last = forms.day(where, named)
        return Once(last - timedelta(days=1) if before else last)
    month, day = _month_day(where, named)
    return Yearly(month, day, before, _month_day(where, value["from"]) if "from" in value else None)


def _month_day(where: str, value: Any) -> tuple[int, int]:
    found = MONTH_DAY.match(value) if isinstance(value, str) else None
    month, day = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (1 <= month <= 12 and 1 <= day <= calendar.monthrange(2024, month)[1]):  # 2024 has a 29th of February
        raise CatalogError(f"{where}: {value!r} is not a day of the year such as 12-20")
    return month, day


def _clock(where: str, entry: Mapping[str, Any], basis: Basis) -> Clock:
    return Clock(
        entry["id"],
        forms.words(where, entry["title"]),
        forms.words(where, entry["to"]),
        forms.whole(where, entry["hours"], "hours"),
        forms.one_of(where, entry["applies_to"], "applies_to", APPLIES),
        basis,
    )


def _term(where: str, entry: Mapping[str, Any], basis: Basis) -> Term:
    days = forms.whole(where, entry["working_days"], "working_days", 1)
    return Term(entry["id"], forms.words(where, entry["title"]), days, _levels(where, entry["levels"]), basis)


def _dossier(where: str, entry: Mapping[str, Any], basis: Basis) -> Dossier:
    parts: dict[str, Part] = {}
    for item in forms.mappings(where, entry["parts"], "parts"):
        forms.keys(f"{where}: parts", item, ("id", "title", "clause"), ("id", "title"))
        id_ = forms.text(where, item, "id")
        if id_ in parts:
            raise CatalogError(f"{where}: {id_}: this part stands twice")
        parts[id_] = Part(id_, forms.words(f"{where}: {id_}", item["title"]), str(item.get("clause", basis.clause)))
    if not parts:
        raise CatalogError(f"{where}: a dossier needs parts")
    return Dossier(entry["id"], forms.words(where, entry["title"]), tuple(parts.values()), basis)


def _retention(where: str, entry: Mapping[str, Any], basis: Basis) -> Retention:
    title, keep = forms.words(where, entry["title"]), entry["keep"]
    if keep == "permanent":
        return Retention(entry["id"], title, None, 0, "day", basis)
    if not isinstance(keep, Mapping) or len(keep) != 1 or next(iter(keep)) not in KEEPS:
        raise CatalogError(f"{where}: keep must be permanent, or exactly one of {', '.join(KEEPS)}")
    unit, amount = next(iter(keep.items()))
    counted = forms.one_of(where, entry.get("counted_from"), "counted_from", COUNTED)
    return Retention(entry["id"], title, unit, forms.whole(where, amount, unit, 1), counted, basis)


def _penalty(where: str, entry: Mapping[str, Any], basis: Basis) -> Penalty:
    bounds = entry["million_vnd"]
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise CatalogError(f"{where}: million_vnd must be [least, most]")
    least, most = (forms.whole(where, bound, "million_vnd", 1) for bound in bounds)
    if least > most:
        raise CatalogError(f"{where}: million_vnd must be [least, most]")
    of = forms.one_of(where, entry["of"], "of", ("organisation", "individual"))
    return Penalty(entry["id"], forms.words(where, entry["title"]), (least, most), of, basis)
