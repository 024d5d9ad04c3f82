"""Processes by pid and start time, and by namespace; it refuses to signal one that is not surely ours."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.folder import LabError


@dataclass(frozen=True)
class Process:
    """A process told apart from a later one with the same number by when it began (clock ticks since boot)."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The living process with this number, or None; a zombie does not live."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return Process.of(self.pid) == self

    def send(self, sign: signal.Signals) -> None:
        """Send a signal to this very process; nothing when it has gone."""
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)  # from here on the number cannot be given to another process
            try:
                if self.alive:
                    signal.pidfd_send_signal(handle, sign)
            finally:
                os.close(handle)


def run(*argv: str, given: str | None = None, **options: object) -> str:
    """Run a program to its end and return what it printed; a failure is a LabError with its last words."""
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split())[-400:]
        raise LabError(f"`{' '.join(argv[:6])}` failed ({done.returncode}): {words}")
    return str(done.stdout)


def all_pids() -> list[int]:
    """Every process number on this machine."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def within(kind: str, inodes: Iterable[int]) -> dict[int, list[Process]]:
    """Every living process in the namespaces of this kind (net, pid, mnt), by inode, in one walk over all processes."""
    found: dict[int, list[Process]] = {inode: [] for inode in inodes}
    for pid in all_pids():
        with contextlib.suppress(OSError):
            inode = Path(f"/proc/{pid}/ns/{kind}").stat().st_ino
            if inode in found and (one := Process.of(pid)):
                found[inode].append(one)
    return found


def first_of(pid: int) -> int | None:
    """Process 1 of the host that ``pid`` started (itself or a descendant), as a number on this machine."""
    waiting = [pid]
    while waiting:
        one = waiting.pop(0)
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{one}/status").read_text(encoding="utf-8", errors="replace")
            chain = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
            if len(chain) > 1 and chain[-1] == "1":
                return one
            children = Path(f"/proc/{one}/task/{one}/children").read_text(encoding="ascii")
            waiting += [int(child) for child in children.split()]
    return None


def end(processes: Iterable[Process], grace_seconds: float) -> None:
    """Ask with SIGTERM, wait by the clock, then SIGKILL; raises when one outlives even that."""
    theirs = [one for one in processes if one.alive]
    if grace_seconds > 0:
        for one in theirs:
            one.send(signal.SIGTERM)
        theirs = _wait_gone(theirs, grace_seconds)
    for one in theirs:
        one.send(signal.SIGKILL)
    if left := _wait_gone(theirs, 10.0):
        raise LabError(f"Process {left[0].pid} of the lab does not end.")


def _wait_gone(processes: list[Process], seconds: float) -> list[Process]:
    limit = time.monotonic() + seconds
    while (processes := [one for one in processes if one.alive]) and time.monotonic() < limit:
        time.sleep(0.02)
    return processes


def proportional_kib(processes: Iterable[Process]) -> int:
    """The memory these processes take, in KiB, shared pages counted in shares (PSS)."""
    total = 0
    for one in processes:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one.pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total
