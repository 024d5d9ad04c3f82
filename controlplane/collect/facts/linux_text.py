"""Small pure helpers of the Linux readers. They refuse bytes they cannot read with ``ValueError`` and nothing else."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, date, datetime
from typing import Any

NEVER = 999_999
"""Stands for a limit that is not set, in the unit of its figure, so that ``at_most`` fails as it should."""

_PARTS = re.compile(r"^-- (\w+)$", re.MULTILINE)


def parts(text: str) -> dict[str, str]:
    """The sections of a reply whose command printed ``-- name`` before each of them."""
    found = _PARTS.split(text)
    if len(found) < 3:
        raise ValueError("the reply has no sections")
    return {name: body.strip("\n") for name, body in zip(found[1::2], found[2::2], strict=True)}


def part(text: str, *names: str) -> tuple[str, ...]:
    """The named sections, each of which must be there (it may be empty)."""
    found = parts(text)
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"the reply lacks the section {missing[0]}")
    return tuple(found[name] for name in names)


def lines(text: str) -> list[str]:
    """The lines that hold something, trimmed."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def whole(text: str) -> int:
    """A whole number as the device prints it."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()):
        raise ValueError(f"{text[:40]!r} is not a whole number")
    return int(text)


def number(text: str) -> float:
    """A decimal number as the device prints it; neither nan nor infinity."""
    value = float(text)
    if not math.isfinite(value) or abs(value) > 1e18:
        raise ValueError(f"{text[:40]!r} is not a number")
    return value


def step(value: float, size: int) -> int:
    """The value in steps, so that a figure that trembles stays still."""
    return round(value / size) * size


def table(text: str) -> Any:
    """JSON that a tool printed."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None


def rows(text: str) -> list[dict[str, Any]]:
    """A JSON list of objects."""
    found = table(text)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ValueError("not a list of objects")
    return found


def settings(text: str, separator: str = "=") -> dict[str, str]:
    """``key = value`` lines, the last one wins; remarks and quotes are taken off."""
    found = {}
    for line in lines(text):
        key, sign, value = line.partition(separator)
        if sign and not line.startswith(("#", ";")):
            found[key.strip()] = value.strip().strip("\"'")
    return found


def words_of(text: str) -> dict[str, str]:
    """``key value`` lines in lower case keys, the first one wins as in OpenSSH."""
    found: dict[str, str] = {}
    for line in lines(text):
        key, _, value = line.partition(" ")
        if not line.startswith("#"):
            found.setdefault(key.lower(), value.strip())
    return found


def day(text: str) -> date:
    """A day in ISO form, or month/day/year as older tools print it."""
    text = text.strip()
    american = re.fullmatch(r"(\d{2})/(\d{2})/(\d{4})", text, re.ASCII)
    return date.fromisoformat(f"{american[3]}-{american[1]}-{american[2]}" if american else text)


def moment(text: str) -> datetime:
    """Seconds since 1970 as a time in UTC."""
    seconds = whole(text)
    if not 0 <= seconds < 253_402_300_800:  # the year 10000
        raise ValueError(f"{seconds} is not a time")
    return datetime.fromtimestamp(seconds, UTC)
