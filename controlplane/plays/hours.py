"""The hours in which the clinic works, and whether a moment lies in them. It reads no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time


@dataclass(frozen=True)
class ClinicHours:
    """From the first minute to the last, every day; a pair over midnight is meant as it is written."""

    begin: time
    end: time

    def holds(self, local: datetime) -> bool:
        """Whether the clinic works at this moment of the hospital's own clock."""
        now = local.time()
        if self.begin <= self.end:
            return self.begin <= now < self.end
        return now >= self.begin or now < self.end


def clinic_hours(text: str) -> ClinicHours | None:
    """Hours written as ``06:30-17:00``; None for the empty text. Raises ``ValueError`` for anything else."""
    if not text:
        return None
    begin, _, end = text.partition("-")
    return ClinicHours(time.fromisoformat(begin), time.fromisoformat(end))
