"""The events of a run under way, in a file that other processes may follow; it is gone when the run is kept.

What is followed is what is kept: the lines are those of the events in the vault, with the steps of the run between.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controlplane.plays.listener import canonical_line
from controlplane.plays.results import Event

STEP = "emr_step"
"""A step of the run that is none of the play's: its ``step`` is round_before, preview, apply or round_after."""

LOOK = "emr_look"
"""A look of one of the two rounds has ended."""


class LiveFile:
    """Where one run writes its events while it lasts. Only the store's owner may read it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = 0  # events
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lock = threading.Lock()

    def write(self, event: Event) -> int:
        """Add one event, whole; return its number, counted from 1."""
        with self._lock:
            os.write(self._handle, canonical_line(event))
            self.written += 1
            return self.written

    def close(self) -> None:
        """Nothing more is written. The file stays until the run is kept, for those who follow."""
        os.close(self._handle)


def lines_of(data: bytes) -> Iterator[dict[str, Any]]:
    """Whole events; a last line that a kill cut off is left out."""
    for line in data.splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield json.loads(line)


class Tail:
    """A live file read bit by bit, also after it was removed. Raises ``FileNotFoundError`` when it is not there."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._rest = b""

    def more(self, most_bytes: int = 1 << 18) -> tuple[list[dict[str, Any]], bool]:
        """(whole events that came since the last call, whether that was all there is by now)."""
        data = self._file.read(most_bytes)
        whole, _, self._rest = (self._rest + data).rpartition(b"\n")
        return list(lines_of(whole + b"\n" if whole else b"")), len(data) < most_bytes

    def close(self) -> None:
        """Read no more."""
        self._file.close()


def outcome_of(event: Mapping[str, Any]) -> str:
    """How a task ended on its host, by one event: ok, changed, failed, unreachable, skipped; empty when none did.

    What an apply would change is ``changed`` in a preview; a failure that the play says to go over is ``ok``.
    """
    kind, data = str(event.get("event")), event.get("event_data") or {}
    word = kind.removeprefix("runner_on_") if kind.startswith("runner_on_") else ""
    if word not in {"ok", "failed", "unreachable", "skipped"}:
        return ""
    result = data.get("res")
    if word == "ok" and isinstance(result, Mapping) and result.get("changed") is True:
        return "changed"
    return "ok" if word == "failed" and data.get("ignore_errors") else word


@dataclass
class Progress:
    """How far a run is, folded from its events. The words of a host stay apart; ``changed`` is not counted as ok."""

    step: str = ""
    events: int = 0  # of the whole run, so far
    task: str = ""
    ended: int = 0  # tasks that ended on a host, in this step
    hosts: dict[str, Counter[str]] = field(default_factory=dict)  # host -> how its tasks of this step ended
    looks: int = 0  # of this step's round, and of how many
    looks_of: int = 0
    steps: list[str] = field(default_factory=list)  # in order, this one last
    last: dict[str, str] = field(default_factory=dict)  # host -> its newest task
    expected: dict[str, int] = field(default_factory=dict)  # host -> tasks that the step before counted

    def take(self, event: Mapping[str, Any]) -> None:
        """Go on by one event."""
        self.events += 1
        kind, data = event.get("event"), event.get("event_data") or {}
        if kind == STEP:
            counted = {host: tally.total() for host, tally in self.hosts.items()}
            steps = [*self.steps, event["step"]]
            fresh = Progress(step=event["step"], events=self.events, steps=steps, expected=counted)
            self.__dict__.update(fresh.__dict__)
        elif kind == LOOK:
            self.looks, self.looks_of = event["done"], event["of"]
        elif kind == "playbook_on_task_start":
            self.task = str(data.get("task", ""))
        elif kind == "runner_on_start":
            self.last[str(data.get("host", ""))] = str(data.get("task", ""))
        elif word := outcome_of(event):
            self.ended += 1
            self.hosts.setdefault(str(data.get("host", "")), Counter())[word] += 1


def progress_of(events: Iterable[Mapping[str, Any]]) -> Progress:
    """How far a run is after these events."""
    progress = Progress()
    for event in events:
        progress.take(event)
    return progress
