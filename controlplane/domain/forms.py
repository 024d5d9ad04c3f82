"""How the parts of a plain document are read: each whole, or refused with a sentence that names the entry."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from controlplane.domain.model import Words


class CatalogError(ValueError):
    """The catalogue does not hold together. The message names the entry and says what is wrong with it."""


def keys(where: str, entry: Any, allowed: Iterable[str], needed: Sequence[str]) -> None:
    """Refuse an entry that is no mapping, holds an unknown key or lacks a needed one. Raises ``CatalogError``."""
    if not isinstance(entry, Mapping):
        raise CatalogError(f"{where}: must be a mapping")
    allowed = frozenset(allowed)
    for key in entry:
        if key not in allowed:
            raise CatalogError(f"{where}: unknown key {key!r}{near(str(key), allowed)}")
    for key in needed:
        if key not in entry:
            raise CatalogError(f"{where}: lacks {key!r}")


def words(where: str, document: Any) -> Words:
    """A sentence in both tongues, the Vietnamese one NFC. Raises ``CatalogError``."""
    if not isinstance(document, Mapping) or set(document) != {"vi", "en"}:
        raise CatalogError(f"{where}: a sentence needs both tongues, vi and en")
    vi, en = document["vi"], document["en"]
    if not (isinstance(vi, str) and isinstance(en, str) and vi.strip() and en.strip()):
        raise CatalogError(f"{where}: both tongues must be text")
    return Words(unicodedata.normalize("NFC", vi), en)


def text(where: str, entry: Mapping[str, Any], key: str) -> str:
    """The text under a key, not empty. Raises ``CatalogError``."""
    value = entry[key]
    if not isinstance(value, str) or not value.strip():
        raise CatalogError(f"{where}: {key} must be text")
    return value


def strings(where: str, value: Any, key: str) -> tuple[str, ...]:
    """A list of text. Raises ``CatalogError``."""
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise CatalogError(f"{where}: {key} must be a list of text")
    return tuple(value)


def mappings(where: str, value: Any, key: str) -> Sequence[Mapping[str, Any]]:
    """A list of mappings. Raises ``CatalogError``."""
    if not isinstance(value, list) or not all(isinstance(v, Mapping) for v in value):
        raise CatalogError(f"{where}: {key} must be a list of mappings")
    return value


def whole(where: str, value: Any, key: str, least: int = 0) -> int:
    """A whole number of at least ``least``; true and false are none. Raises ``CatalogError``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise CatalogError(f"{where}: {key} must be a whole number of at least {least}, not {value!r}")
    return value


def one_of(where: str, value: Any, key: str, allowed: Sequence[str]) -> str:
    """A word of a vocabulary. Raises ``CatalogError`` naming the nearest."""
    if not isinstance(value, str) or value not in allowed:
        raise CatalogError(f"{where}: {key} must be one of {', '.join(allowed)}{near(str(value), allowed)}")
    return value


def period(where: str, value: Any) -> tuple[date | None, date | None]:
    """[from, until]; either may be empty, the end is the first day that no longer counts. Raises ``CatalogError``."""
    if not isinstance(value, list) or len(value) != 2:
        raise CatalogError(f"{where}: in_force must be [from, until]")
    return (day(where, value[0]) if value[0] else None, day(where, value[1]) if value[1] else None)


def day(where: str, value: Any) -> date:
    """A day such as 2025-08-15. Raises ``CatalogError``."""
    try:
        return value if isinstance(value, date) else date.fromisoformat(str(value))
    except ValueError:
        raise CatalogError(f"{where}: {value!r} is not a day such as 2025-08-15") from None


def near(name: str, known: Iterable[str]) -> str:
    """The sentence's end that names what was probably meant, or nothing."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""
