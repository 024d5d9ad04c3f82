"""Small pure helpers of the readers of derived facts. They refuse with ``ValueError`` and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from fnmatch import fnmatchcase
from typing import Any

FRESH_HOURS = 7 * 24
"""An answer older than this no longer counts in a figure about the hospital."""

MOST_NAMES = 50
"""How many names a value lists; the count beside them is whole."""


def mapping(value: Any) -> Mapping[str, Any]:
    """The value as an object."""
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def listing(value: Any) -> list[Any]:
    """The value as a list."""
    if not isinstance(value, list):
        raise ValueError("not a list")
    return value


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The value as a list of objects."""
    return [mapping(item) for item in listing(value)]


def text(value: Any) -> str:
    """The value as text."""
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value


def texts(value: Any) -> list[str]:
    """The value as a list of texts."""
    return [text(item) for item in listing(value)]


def whole(value: Any) -> int:
    """The value as a whole number."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 10**15:
        raise ValueError("not a whole number")
    return value


def maybe_day(value: Any) -> date | None:
    """The value as a day, or None."""
    return None if value is None or value == "" else date.fromisoformat(text(value))


def moment(value: Any) -> datetime:
    """The value as a time in UTC."""
    found = datetime.fromisoformat(text(value))
    if found.tzinfo is None:
        raise ValueError("a time without a zone")
    return found


@dataclass(frozen=True)
class AssetRow:
    """An asset of the inventory as the record keeps it."""

    name: str
    kind: str
    roles: tuple[str, ...]
    department: str
    address: str
    fields: Mapping[str, str]

    @property
    def in_use(self) -> bool:
        """Whether it stands in service: what the hospital does not declare otherwise does."""
        return self.fields.get("state", "in_use") == "in_use"

    @property
    def macs(self) -> list[str]:
        """The MAC addresses that the hospital declares."""
        return self.fields.get("mac", "").lower().split()

    def within(self, scope: Iterable[str]) -> bool:
        """Whether a scope of hosts and groups reaches it."""
        return any(name == self.name or name in self.roles for name in scope)


@dataclass(frozen=True)
class Answer:
    """One asset's answer among the inputs of a fact about the hospital."""

    asset: str
    age_hours: int
    value: Any
    seen_at: str = ""  # UTC


class Document:
    """The inputs of one derived fact."""

    def __init__(self, raw: str) -> None:
        """Raises ``ValueError`` for bytes that are no such document."""
        try:
            self._all = mapping(json.loads(raw))
        except RecursionError:
            raise ValueError("JSON that is nested too deep") from None
        self.asset = text(self._all.get("asset"))

    def _part(self, part: str, name: str) -> Any:
        found = mapping(self._all.get(part))
        if name not in found:
            raise ValueError(f"{part} lacks {name}")
        return found[name]

    def value(self, fact: str) -> Any:
        """The answer of this one asset to a fact."""
        return mapping(self._part("inputs", fact)).get("value")

    def answers(self, fact: str, fresh_hours: int = FRESH_HOURS) -> list[Answer]:
        """Every asset's answer that is fresh enough to count."""
        rows = objects(self._part("inputs", fact))
        found = [
            Answer(text(r.get("asset")), whole(r.get("age_hours")), r.get("value"), text(r.get("seen_at", "")))
            for r in rows
        ]
        return [answer for answer in found if answer.age_hours <= fresh_hours]

    def silent(self, fact: str, fresh_hours: int = FRESH_HOURS) -> list[str]:
        """Every asset that was never answered for, or too long ago."""
        never = texts(self._part("unanswered", fact))
        rows = objects(self._part("inputs", fact))
        old = [text(r.get("asset")) for r in rows if whole(r.get("age_hours")) > fresh_hours]
        return sorted({*never, *old})

    def register(self, name: str) -> Mapping[str, Any]:
        """One register of the hospital."""
        return mapping(self._part("registers", name))

    def assets(self) -> list[AssetRow]:
        """Every asset of the inventory but the site."""
        return [row for row in map(_asset, objects(self._all.get("inventory"))) if row.kind != "site"]

    def own(self) -> AssetRow:
        """The one asset that this is about."""
        return _asset(mapping(self._all.get("inventory")))

    def today(self) -> date:
        """The day of the round, in UTC."""
        return date.fromisoformat(text(self._all.get("today")))

    def at(self) -> datetime:
        """The time of the round."""
        return moment(self._all.get("at"))

    def seen(self, within_hours: int = FRESH_HOURS) -> set[str]:
        """The assets whose device itself answered something within these hours."""
        rows = mapping(self._all.get("seen"))
        return {name for name, hours in rows.items() if whole(hours) <= within_hours}

    def whole_part(self, name: str) -> Any:
        """One of vlans, hospital, rounds, runs."""
        if name not in self._all:
            raise ValueError(f"the document lacks {name}")
        return self._all[name]

    def changes(self) -> list[Mapping[str, Any]]:
        """Every change of every setting that was asked for."""
        return [row for rows in mapping(self._all.get("changes")).values() for row in objects(rows)]

    def first(self) -> dict[str, datetime]:
        """Asset -> when it first gave one of the answers asked for; the latest of them, so that all had been given."""
        found: dict[str, datetime] = {}
        for rows in mapping(self._all.get("first")).values():
            for asset, at in mapping(rows).items():
                found[asset] = max(found.get(asset, moment(at)), moment(at))
        return found


def _asset(row: Mapping[str, Any]) -> AssetRow:
    fields = {key: text(value) for key, value in mapping(row.get("fields", {})).items()}
    return AssetRow(
        text(row.get("name")),
        text(row.get("kind")),
        tuple(texts(row.get("roles"))),
        text(row.get("department", "")),
        text(row.get("address") or ""),
        fields,
    )


def reviewed_days(register: Mapping[str, Any], today: date) -> int | None:
    """Whole days since the register was last reviewed; None when nobody said so."""
    on = maybe_day(register.get("reviewed_on"))
    return None if on is None else max((today - on).days, 0)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name is one of the patterns (``*`` and ``?`` stand for anything)."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def named(prefix: str, names: Iterable[str]) -> dict[str, Any]:
    """A count and the first of the names behind it."""
    found = sorted(set(names))
    return {f"{prefix}_count": len(found), prefix: found[:MOST_NAMES]}


_PIECE = re.compile(r"([^0-9]*)([0-9]*)", re.ASCII)


def _order(char: str) -> int:
    if char == "~":
        return -1
    return ord(char) if char.isalpha() else ord(char) + 256


def _version_key(version: str) -> tuple[Any, ...]:
    epoch, sign, rest = version.partition(":")
    if not sign:
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "0")
    key: list[Any] = [int(epoch) if epoch.isascii() and epoch.isdigit() else 0]
    for part in (upstream, revision):
        pieces = []
        for letters, digits in _PIECE.findall(part):
            pieces.append(([*map(_order, letters), 0], int(digits[:40] or "0")))
        key.append([*pieces, ([0], 0)])
    return tuple(key)


def version_fits(rule: str, version: str) -> bool:
    """Whether a Debian version fits ``any``, ``= V`` or ``>= V`` (deb-version(7))."""
    sign, _, bound = rule.partition(" ")
    if sign == "any":
        return True
    mine, other = _version_key(version), _version_key(bound)
    return mine == other if sign == "=" else mine >= other
