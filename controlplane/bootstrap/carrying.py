"""Runs that the pages and the API start: carried by a thread of this process, told of once they stand in the chain.

Why a thread and no child process: docs/decisions/0018-runs-of-the-web.md.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from controlplane.bootstrap.acting import Watch
from controlplane.bootstrap.drifting import Drifting
from controlplane.store.archive import BusyError

log = logging.getLogger(__name__)

MOST_CARRIED = 4
"""Runs of one process at the same time; Ansible starts up to ten workers for each."""

LONGEST_START_SECONDS = 120.0


class Carried:
    """The runs that this process carries, and the wish that they end."""

    def __init__(self) -> None:
        self.ending = threading.Event()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def begin(self, thread: threading.Thread) -> None:
        """Take one more. Raises ``BusyError`` for one too many, or when this process is about to end."""
        with self._lock:
            if self.ending.is_set():
                raise BusyError("ending")
            if len(self._threads) >= MOST_CARRIED:
                raise BusyError("carried")
            self._threads.add(thread)
        thread.start()

    def end(self, thread: threading.Thread) -> None:
        """One is through."""
        with self._lock:
            self._threads.discard(thread)

    def all(self) -> list[threading.Thread]:
        """Those under way."""
        with self._lock:
            return list(self._threads)


class Carrying(Drifting):
    """Runs started by somebody who does not wait for their end."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._carried = Carried()

    def start_play(
        self,
        play_id: str,
        mode: str,
        limit: Sequence[str] = (),
        *,
        by: str,
        preview_id: str = "",
        break_glass: str = "",
    ) -> str:
        """Begin a preview or an apply and return its id. Raises what ``run_play`` raises before the run is opened."""
        order = self.order(play_id, mode, limit, by=by, preview_id=preview_id, break_glass=break_glass)
        return self._start(lambda watch: self.carry_out(order, watch))

    def start_resume(self, run_id: str, *, by: str, break_glass: str = "") -> str:
        """Begin what is left of a run and return the new run's id. Raises as ``resume_run``."""
        order = self.order_to_resume(run_id, by=by, break_glass=break_glass)
        return self._start(lambda watch: self.carry_out(order, watch))

    def start_drift(self, plays: Sequence[str] = (), *, by: str) -> str:
        """Begin a check of drift and return its id; ``last_drift`` has it once it is through. Raises as ``drift``."""
        for play_id in plays:
            self.play(play_id)
        return self._start(lambda watch: self.drift(plays, cancelled=watch.cancelled, by=by, opened=watch.opened))

    def _start(self, work: Callable[[Watch], Any]) -> str:
        """Begin it on a thread; return once it stands in the chain, or raise what kept it from that."""
        said: queue.SimpleQueue[str | Exception] = queue.SimpleQueue()
        watch = Watch(cancelled=self._carried.ending.is_set, opened=said.put)

        def carry() -> None:
            try:
                work(watch)
            except Exception as error:
                log.info("a run of the web ended with %s: %s", type(error).__name__, error)
                said.put(error)  # read by nobody when the run was opened; then its dossier holds the words
            finally:
                self._carried.end(thread)

        thread = threading.Thread(target=carry, name="run", daemon=True)
        self._carried.begin(thread)
        try:
            first = said.get(timeout=LONGEST_START_SECONDS)
        except queue.Empty:
            raise BusyError("start") from None
        if isinstance(first, Exception):
            raise first
        return first

    def end_carried(self, wait_seconds: float = 60) -> bool:
        """End the runs of this process in order, as by a cancel, and take no more; whether all ended in time."""
        self._carried.ending.set()
        until = time.monotonic() + wait_seconds
        for thread in self._carried.all():
            thread.join(max(0.0, until - time.monotonic()))
        return not self._carried.all()
