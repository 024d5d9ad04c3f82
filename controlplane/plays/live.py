"""The events of a run under way, in a file that other processes may follow; it is gone when the run is kept.

What is followed is what is kept: the lines are those of the events in the vault, with the steps of the run between.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
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
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lock = threading.Lock()

    def write(self, event: Event) -> None:
        """Add one event, whole."""
        with self._lock:
            os.write(self._handle, canonical_line(event))

    def close(self) -> None:
        """Nothing more is written. The file stays until the run is kept, for those who follow."""
        os.close(self._handle)


def lines_of(data: bytes) -> Iterator[dict[str, Any]]:
    """Whole events; a last line that a kill cut off is left out."""
    for line in data.splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield json.loads(line)


def follow(path: Path, ended: Callable[[], bool], wait_seconds: float = 0.3) -> Iterator[dict[str, Any]]:
    """Events as they are written until the run has ended and its last event was given. Raises FileNotFoundError."""
    with path.open("rb") as file:
        rest = b""
        while True:
            over = ended()  # asked before reading: what is written until then is still given
            rest += file.read()
            whole, _, rest = rest.rpartition(b"\n")
            yield from lines_of(whole + b"\n" if whole else b"")
            if over:
                return
            time.sleep(wait_seconds)


@dataclass
class Progress:
    """How far a run is, folded from its events."""

    step: str = ""
    task: str = ""
    ended: int = 0  # tasks that ended on a host, in this step
    hosts: dict[str, Counter[str]] = field(default_factory=dict)  # host -> how its tasks of this step ended
    looks: int = 0  # of this step's round, and of how many
    looks_of: int = 0

    def take(self, event: Mapping[str, Any]) -> None:
        """Go on by one event."""
        kind, data = event.get("event"), event.get("event_data") or {}
        if kind == STEP:
            self.__dict__.update(Progress(step=event["step"]).__dict__)
        elif kind == LOOK:
            self.looks, self.looks_of = event["done"], event["of"]
        elif kind == "playbook_on_task_start":
            self.task = str(data.get("task", ""))
        elif str(kind).startswith("runner_on_") and kind not in {"runner_on_start", "runner_on_async_poll"}:
            self.ended += 1
            self.hosts.setdefault(str(data.get("host", "")), Counter())[str(kind).removeprefix("runner_on_")] += 1


def progress_of(events: Iterable[Mapping[str, Any]]) -> Progress:
    """How far a run is after these events."""
    progress = Progress()
    for event in events:
        progress.take(event)
    return progress
