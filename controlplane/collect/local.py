"""The machine the control plane runs on, asked with the same script as every other Linux host. It never raises.

It refuses to ask for a password: what needs root is refused with words unless sudo allows it without one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from controlplane.collect.facts import SHELL_FACTS
from controlplane.collect.facts.shell import build_script, split_output
from controlplane.domain.model import Asset, Fact, Look, Outcome, Reply


class LocalTransport:
    """Runs the script of all shell facts with ``sh -s`` on this machine, within a deadline."""

    name = "local"
    family = "shell"
    collector = "local/1"

    def __init__(self, *, script_facts: Sequence[Fact] = SHELL_FACTS, shell: str = "/bin/sh") -> None:
        self._facts = tuple(script_facts)
        self._script = build_script(self._facts).encode()
        self._shell = shell

    def look(self, asset: Asset, facts: Sequence[Fact], deadline_seconds: float, clock: Callable[[], datetime]) -> Look:
        """One look at this machine; replies to ``facts`` in their order.

        A script that is cut by the deadline still answers for the facts it got through.
        """
        at, started = clock(), time.monotonic()
        try:
            raw, late = self._run(deadline_seconds)
        except OSError as error:
            return self._look(
                asset, Outcome.UNREACHABLE, at, started, f"{self._shell} does not start: {error.strerror}"
            )
        replies = {reply.fact: reply for reply in split_output(raw, self._facts)}
        if late and all(reply.outcome is Outcome.GARBLED for reply in replies.values()):
            return self._look(asset, Outcome.TIMEOUT, at, started, f"no answer within {deadline_seconds:g} s")
        detail = f"the deadline of {deadline_seconds:g} s cut the script short" if late else ""
        chosen = tuple(replies.get(fact.name) or _not_in_script(fact) for fact in facts)
        return self._look(asset, Outcome.ANSWERED, at, started, detail, chosen)

    def _look(
        self,
        asset: Asset,
        outcome: Outcome,
        at: datetime,
        started: float,
        detail: str,
        replies: tuple[Reply, ...] = (),
    ) -> Look:
        lasted = round((time.monotonic() - started) * 1000)
        return Look(asset.name, self.name, outcome, at, lasted, self.collector, detail, replies)

    def _run(self, deadline_seconds: float) -> tuple[bytes, bool]:
        """The output so far, and whether the deadline cut it."""
        with subprocess.Popen(
            [self._shell, "-s"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent"},
        ) as process:
            try:
                raw, _ = process.communicate(self._script, timeout=max(deadline_seconds, 0.001))
            except subprocess.TimeoutExpired:
                _end_session(process.pid)
                raw, _ = process.communicate()
                return raw, True
            return raw, False


def _not_in_script(fact: Fact) -> Reply:
    return Reply(fact.name, Outcome.NOT_SUPPORTED, fact.ask, b"", "this question is not part of the script")


def _end_session(leader: int) -> None:
    """Ends every process of the script's own session.

    ``timeout`` moves each command into a process group of its own, so ending one group would not be enough.
    """
    for _ in range(3):
        members = _session_members(leader)
        for pid in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not members:
            return


def _session_members(leader: int) -> list[int]:
    """Living processes whose session is the leader's, from /proc/PID/stat (field 6; field 3 is the state)."""
    members = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                members.append(int(entry.name))
    return members
