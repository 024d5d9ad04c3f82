"""Plays: which there are, one run of one of them, what happened in it, and what is hidden of it.

It refuses a limit that names no host, a playbook that does not hold together, a host key that is not known, and to
keep a secret in what it hands back.
"""

from controlplane.plays.catalogue import Play, PlayError, load_plays
from controlplane.plays.digests import digest_of
from controlplane.plays.hours import ClinicHours, clinic_hours
from controlplane.plays.listener import Listener, canonical_line
from controlplane.plays.live import LOOK, STEP, LiveFile, Progress, Tail, lines_of, outcome_of, progress_of
from controlplane.plays.orders import RunSettings
from controlplane.plays.owed import Handlers, Owed, by_handler
from controlplane.plays.pins import Pin, pin_from
from controlplane.plays.results import DIFF_CHARS, Diff, Event, HostRecap, PlayRun, TaskResult
from controlplane.plays.runner import apply, pin_of, preview, sweep
from controlplane.plays.scrub import HIDDEN, scrub

__all__ = [
    "DIFF_CHARS",
    "HIDDEN",
    "LOOK",
    "STEP",
    "ClinicHours",
    "Diff",
    "Event",
    "Handlers",
    "HostRecap",
    "Listener",
    "LiveFile",
    "Owed",
    "Pin",
    "Play",
    "PlayError",
    "PlayRun",
    "Progress",
    "RunSettings",
    "Tail",
    "TaskResult",
    "apply",
    "by_handler",
    "canonical_line",
    "clinic_hours",
    "digest_of",
    "lines_of",
    "load_plays",
    "outcome_of",
    "pin_from",
    "pin_of",
    "preview",
    "progress_of",
    "scrub",
    "sweep",
]
