"""The canonical text of a service's reply: one JSON object of figures, made by the transport, read back strictly.

It refuses to guess: a key that is missing or of another type than asked for is a ``ValueError``.
"""

from __future__ import annotations

import json
from typing import Any

from controlplane.domain.model import Value

STEPS_MS = (100, 250, 500, 1000, 2000, 3000, 5000, 10_000, 30_000)
"""Times are reported in these steps, so that a reply changes only when a decision could."""


class Answer:
    """The figures of one reply."""

    def __init__(self, raw: str) -> None:
        """Raises ``ValueError`` for a text that is not one JSON object."""
        try:
            told = json.loads(raw, parse_constant=_no_constant)
        except RecursionError:
            raise ValueError("nested too deep") from None
        if not isinstance(told, dict):
            raise ValueError("not one JSON object")
        self._told: dict[str, Any] = told

    def flag(self, key: str) -> bool:
        """A boolean. Raises ``ValueError``."""
        value = self._get(key)
        if not isinstance(value, bool):
            raise ValueError(f"{key} is no boolean")
        return value

    def maybe_flag(self, key: str) -> bool | None:
        """A boolean, or None where the reply says null or nothing."""
        return None if self._told.get(key) is None else self.flag(key)

    def integer(self, key: str) -> int:
        """A whole number. Raises ``ValueError``."""
        return whole(self._get(key), key)

    def maybe_integer(self, key: str) -> int | None:
        """A whole number, or None where the reply says null or nothing."""
        return None if self._told.get(key) is None else self.integer(key)

    def text(self, key: str) -> str:
        """A text. Raises ``ValueError``."""
        value = self._get(key)
        if not isinstance(value, str):
            raise ValueError(f"{key} is no text")
        return value

    def maybe_text(self, key: str) -> str | None:
        """A text, or None where the reply says null or nothing."""
        return None if self._told.get(key) is None else self.text(key)

    def words(self, key: str) -> list[str]:
        """A list of texts, sorted. Raises ``ValueError``."""
        value = self._get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{key} is no list of texts")
        return sorted(value)

    def integers(self, key: str) -> list[int]:
        """A list of whole numbers. Raises ``ValueError``."""
        value = self._get(key)
        if not isinstance(value, list):
            raise ValueError(f"{key} is no list")
        return [whole(item, key) for item in value]

    def rows(self, key: str) -> list[Answer]:
        """A list of objects. Raises ``ValueError``."""
        value = self._get(key)
        if not isinstance(value, list):
            raise ValueError(f"{key} is no list")
        return [_answer_of(item) for item in value]

    def part(self, key: str) -> Answer:
        """An object within the object. Raises ``ValueError``."""
        return _answer_of(self._get(key))

    def _get(self, key: str) -> Any:
        if key not in self._told:
            raise ValueError(f"{key} is missing")
        return self._told[key]


def _no_constant(name: str) -> Value:
    raise ValueError(f"{name} is no figure")


def _answer_of(value: Any) -> Answer:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    made = Answer.__new__(Answer)
    made._told = value
    return made


def whole(value: Any, name: str) -> int:
    """A whole number of a size that a figure may have. Raises ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 10**12:
        raise ValueError(f"{name} is no whole number")
    return value


def step_ms(milliseconds: int) -> int:
    """The smallest step that holds a time; the largest for whatever is longer. Raises ``ValueError`` below zero."""
    if milliseconds < 0:
        raise ValueError("a negative time")
    return next((step for step in STEPS_MS if milliseconds <= step), STEPS_MS[-1])


def tens_of_days(days: int) -> int:
    """Days rounded down to tens, so that a certificate gives a new answer every ten days and not every day."""
    return days // 10 * 10


def one_of(value: str, known: tuple[str, ...]) -> str:
    """One of the known words. Raises ``ValueError``."""
    if value not in known:
        raise ValueError(f"unknown word {value[:40]!r}")
    return value
