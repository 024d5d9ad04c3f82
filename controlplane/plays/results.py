"""What happened in a run, host by host and task by task, ready to be kept as evidence: it holds no secret."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from controlplane.domain.model import Words

Event = Mapping[str, Any]
"""One event of the runner, as kept: scrubbed, without the facts of the hosts."""

NOTIFIED = "emr_notified"
"""In the data of a result that changed something: the handlers it notifies, as Ansible names them: role : handler."""

MODES = ("preview", "apply")
STATES = ("successful", "failed", "unreachable", "cancelled", "timeout")
OUTCOMES = ("ok", "changed", "failed", "unreachable", "cancelled")
"""How a run ended on one host. In a preview, ``changed`` means that an apply would change it."""

DIFF_CHARS = 20_000  # of each side of a difference; the whole of it stays on the host
MESSAGE_CHARS = 2_000


@dataclass(frozen=True)
class Diff:
    """One file or object before and after a task, cut to DIFF_CHARS a side."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class TaskResult:
    """One task on one host."""

    host: str
    task: str
    action: str
    status: str  # ok changed would_change failed unreachable skipped
    tags: tuple[str, ...] = ()  # the criteria it serves
    diff: tuple[Diff, ...] = ()
    message: str = ""
    ignored: bool = False  # it failed, and the playbook says to go on


@dataclass(frozen=True)
class HostRecap:
    """How many tasks of a host ended how. In a preview, ``changed`` counts what an apply would change."""

    ok: int = 0
    changed: int = 0
    failed: int = 0
    unreachable: int = 0
    skipped: int = 0
    rescued: int = 0  # failed, and the playbook had a way back


@dataclass(frozen=True)
class PlayRun:
    """One run of a play, ready to be kept as evidence: it holds no secret."""

    id: str
    play: str
    mode: str  # preview | apply
    state: str  # successful | failed | unreachable | cancelled | timeout
    started_at: datetime
    ended_at: datetime
    recap: Mapping[str, HostRecap]
    left_out: Mapping[str, Words]  # hosts of the limit that the run did not visit, and why
    tasks: tuple[TaskResult, ...]
    playbook_digest: str  # SHA-256 over the playbooks and roles as run, see digest_of
    inventory_digest: str  # the same over the inventory files and the variables beside them
    commit: str | None  # of the Git checkout the playbook lies in; None when there is none
    versions: Mapping[str, str]
    outcomes: Mapping[str, str] = field(default_factory=dict)  # host to be visited -> one of OUTCOMES
    detail: str = ""  # one English sentence for the engineer when the state is not successful
    events_raw: bytes = field(default=b"", repr=False)  # one canonical JSON document a line, for the vault
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # what the play fetched: HOST/NAME -> bytes

    def document(self) -> dict[str, Any]:
        """The run as JSON-able values, its events and files by their SHA-256; times in ISO 8601, UTC."""
        values = asdict(self)
        del values["events_raw"]
        values["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()}
        for key in ("started_at", "ended_at"):
            values[key] = getattr(self, key).isoformat()
        values["events_digest"] = hashlib.sha256(self.events_raw).hexdigest()
        return values


def outcomes_of(hosts: Iterable[str], recap: Mapping[str, HostRecap], *, cut_off: bool) -> dict[str, str]:
    """Host -> how the run ended on it. ``cut_off``: the run was cancelled or reached its time limit.

    Of a run that was cut off nobody knows which host was through, so all but the failed ones count as cancelled.
    """
    return {host: _outcome(recap.get(host, HostRecap()), cut_off) for host in sorted(hosts)}


def _outcome(tally: HostRecap, cut_off: bool) -> str:
    if tally.failed:
        return "failed"
    if tally.unreachable:
        return "unreachable"
    if cut_off:
        return "cancelled"
    return "changed" if tally.changed else "ok"
