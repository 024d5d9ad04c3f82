"""A clock of the control plane: something that is asked for once a minute, beside other work, while a block lasts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

Work = Callable[[Callable[[], bool]], object]
"""What is due is done, and nothing where nothing is due; it is given the question whether it shall end."""

LONGEST_END_SECONDS = 20.0


@contextmanager
def each_minute(name: str, work: Work, at_end: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Do the work on a thread of this name; ``at_end`` ends what would not ask whether it shall."""
    stop = threading.Event()
    thread = threading.Thread(target=keep_asking, args=(stop, name, work), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        at_end()
        thread.join(timeout=LONGEST_END_SECONDS)


def keep_asking(stop: threading.Event, name: str, work: Work, wait_seconds: float = 60) -> None:
    """Do the work again and again until ``stop``; the clock goes on, whatever one turn brings."""
    while not stop.wait(wait_seconds):
        try:
            work(stop.is_set)
        except Exception:
            log.exception("the work of the clock %s was not done", name)
