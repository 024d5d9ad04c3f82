"""Canonical bytes, digests and the hash chain of the record. It keeps nothing and names the first break it meets.

A link is ``(seq, at, kind, digest, prev, seal)``; ``seal = SHA-256(prev + canonical(seq, at, kind, digest))``.
The chain shows an edited, removed or re-dated link. A cut tail it cannot show: compare the head with one that
was printed in a weekly report or signed in an evidence bundle.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from functools import lru_cache
from typing import Any

GENESIS = "0" * 64


def plain(value: Any) -> Any:
    """Nouns as plain JSON values: dataclasses become objects, times ISO 8601 in UTC, text NFC."""
    kind = type(value)
    if kind is str and value.isascii():  # most of what is kept; ASCII is NFC already
        return value
    if isinstance(value, str):
        return unicodedata.normalize("NFC", str(value.value if isinstance(value, Enum) else value))
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, datetime):
        return stamp(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return int(value.total_seconds())
    if names := _names(kind):  # type: ignore[arg-type]  # a class is hashable
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {plain(str(k)): plain(v) for k, v in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, bytes | type):
        return [plain(v) for v in value]
    raise TypeError(f"no plain form for {type(value).__name__}")


@lru_cache(maxsize=256)
def _names(kind: type) -> tuple[str, ...]:
    """The fields of a dataclass; none for another type. Asked once a type: it is most of the cost of a body."""
    return tuple(f.name for f in fields(kind)) if is_dataclass(kind) else ()


def canonical(value: Any) -> bytes:
    """The one byte form of a value: NFC, sorted keys, no spaces, UTF-8. "đạt" typed on two keyboards has one hash."""
    text = json.dumps(plain(value), ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def digest(data: bytes) -> str:
    """SHA-256, lower-case hex: the name of the bytes everywhere in the house."""
    return hashlib.sha256(data).hexdigest()


def stamp(at: datetime) -> str:
    """A UTC time as text that sorts: 2026-11-23T02:15:00.000000Z."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def unstamp(text: str) -> datetime:
    """The time that ``stamp`` wrote."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


@dataclass(frozen=True)
class Link:
    """One entry of the record; its body lies in the vault under ``digest``."""

    seq: int
    at: str
    kind: str
    digest: str
    prev: str
    seal: str


def make_link(prev: Link | None, at: str, kind: str, body_digest: str) -> Link:
    """The next link after ``prev``."""
    seq = prev.seq + 1 if prev else 1
    before = prev.seal if prev else GENESIS
    return Link(seq, at, kind, body_digest, before, seal_of(before, seq, at, kind, body_digest))


def seal_of(prev: str, seq: int, at: str, kind: str, body_digest: str) -> str:
    """The seal over a link's own columns and the seal before it."""
    return digest(prev.encode() + canonical([seq, at, kind, body_digest]))


@dataclass(frozen=True)
class Break:
    """The first place where the chain does not hold, and why (texts: ``chain.<code>``)."""

    seq: int
    code: str  # missing | seal | prev | time


def first_break(links: Iterable[Link]) -> Break | None:
    """Walk the chain from its first link; None when every link holds."""
    before, last_at, expected = GENESIS, "", 1
    for link in links:
        if link.seq != expected:
            return Break(expected, "missing")
        if link.prev != before:
            return Break(link.seq, "prev")
        if link.seal != seal_of(link.prev, link.seq, link.at, link.kind, link.digest):
            return Break(link.seq, "seal")
        if link.at < last_at:
            return Break(link.seq, "time")
        before, last_at, expected = link.seal, link.at, expected + 1
    return None
