"""Handlers that a run notified and did not come to: a service whose new settings are written and not yet read.

Ansible keeps what is notified in its own memory. A run that is killed, cancelled or loses a host forgets it, and the
next run, which finds the settings as they should be, notifies nothing. So it is folded from the events and handed to
the next run, as the variable ``emr_owed_handlers`` of the role ``owed_handlers``. Ansible's own event of a notification
is of no use here: it comes when handlers are about to run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from controlplane.plays.live import STEP
from controlplane.plays.results import NOTIFIED

Handlers = Mapping[str, Iterable[str]]
"""Host -> handlers as Ansible names them, ``role : handler``, in the order in which they were notified."""


class Owed:
    """What hosts are owed, event by event; only what happens in the step ``apply`` counts.

    A handler that was begun counts as done: the host brings it to its end even when nobody is left to hear of it, and
    one that restarts the control plane itself would otherwise be owed for ever. If it failed or never reached the host
    it is owed again.
    """

    def __init__(self, before: Handlers | None = None) -> None:
        self._left = {host: dict.fromkeys(names) for host, names in (before or {}).items()}
        self._before = {host: frozenset(names) for host, names in self._left.items()}
        self._here: dict[str, set[str]] = {}  # notified in this run
        self._applying = False

    def take(self, event: Mapping[str, Any]) -> None:
        """Go on by one event."""
        kind, data = event.get("event"), event.get("event_data") or {}
        if kind == STEP:
            self._applying = event["step"] == "apply"
            return
        if not self._applying:
            return
        host = str(data.get("host", ""))
        for name in data.get(NOTIFIED) or ():
            self._left.setdefault(host, {})[name] = None
            self._here.setdefault(host, set()).add(name)
        name = f"{data.get('role')} : {data.get('task')}"
        if name not in self._before.get(host, ()) and name not in self._here.get(host, ()):
            return
        if kind == "runner_on_start":
            self._left[host].pop(name, None)
        elif kind in {"runner_on_failed", "runner_on_unreachable"}:
            self._left[host][name] = None

    def came_through(self, hosts: Iterable[str]) -> None:
        """The run is over, and these hosts have come to its end: what it notified there was done.

        A result that is hidden (no_log) does not say whether it changed anything, so it counts as if it did until here.
        """
        for host in hosts:
            for name in self._here.get(host, ()):
                self._left[host].pop(name, None)

    def left(self) -> dict[str, list[str]]:
        """Host -> what it is still owed; hosts that are owed nothing are left out."""
        return {host: list(names) for host, names in sorted(self._left.items()) if names}


def by_handler(owed: Handlers) -> dict[str, list[str]]:
    """The same for a reader: handler -> the hosts that are owed it."""
    found: dict[str, list[str]] = {}
    for host, names in owed.items():
        for name in names:
            found.setdefault(name, []).append(host)
    return found
