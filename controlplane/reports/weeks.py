"""The week that a report is about, and the lines of what was sealed in it: nothing here knows the paper.

It refuses what is no week of ISO 8601 and years that no campaign can mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime

from controlplane.domain.model import Words

FIRST_YEAR, LAST_YEAR = 2000, 2100


class WeekError(ValueError):
    """What was typed is no week; ``words`` says so in both tongues."""

    def __init__(self, words: Words) -> None:
        super().__init__(words.en)
        self.words = words


@dataclass(frozen=True, order=True)
class IsoWeek:
    """A week of ISO 8601: Monday to Sunday, week 1 holds the year's first Thursday."""

    year: int
    number: int

    def __post_init__(self) -> None:
        if not FIRST_YEAR <= self.year <= LAST_YEAR:
            raise WeekError(
                Words(
                    f"Năm {self.year} nằm ngoài khoảng {FIRST_YEAR}-{LAST_YEAR}.",
                    f"Year {self.year} is outside {FIRST_YEAR}-{LAST_YEAR}.",
                )
            )
        last = date(self.year, 12, 28).isocalendar().week  # 28 December always lies in the last week
        if not 1 <= self.number <= last:
            raise WeekError(
                Words(
                    f"Năm {self.year} có các tuần từ 01 đến {last}, không có tuần {self.number:02d}.",
                    f"Year {self.year} has weeks 01 to {last}; there is no week {self.number:02d}.",
                )
            )

    @classmethod
    def parse(cls, text: str) -> IsoWeek:
        """``2025-W33``; raises :class:`WeekError` for anything else, also for a week the year does not have."""
        found = re.fullmatch(r"([0-9]{4})-W([0-9]{2})", text)
        if found is None:
            shown = text if len(text) <= 40 else f"{text[:40]}..."
            raise WeekError(
                Words(
                    f"«{shown}» không phải là tuần. Ghi năm và số tuần theo ISO 8601, ví dụ 2025-W33.",
                    f'"{shown}" is not a week. Write the ISO 8601 year and week, for example 2025-W33.',
                )
            )
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of(cls, day: date) -> IsoWeek:
        """The week a day lies in."""
        year, number, _ = day.isocalendar()
        return cls(year, number)

    @property
    def monday(self) -> date:
        """Its first day."""
        return date.fromisocalendar(self.year, self.number, 1)

    @property
    def thursday(self) -> date:
        """The day of the campaign's meeting."""
        return date.fromisocalendar(self.year, self.number, 4)

    @property
    def sunday(self) -> date:
        """Its last day."""
        return date.fromisocalendar(self.year, self.number, 7)

    def holds(self, day: date) -> bool:
        """Whether a day lies in this week."""
        return self.monday <= day <= self.sunday

    def __str__(self) -> str:
        return f"{self.year}-W{self.number:02d}"


@dataclass(frozen=True)
class EvidenceLine:
    """One line of the evidence index: what it is, the SHA-256 of its bytes, and when it was sealed."""

    label: str
    sha256: str
    at: datetime


@dataclass(frozen=True)
class LookLine:
    """How the look at one asset ended in the last round: its name as people know it, and an ``Outcome`` word."""

    title: str
    outcome: str
