"""Takes the runner's events as they come and makes results of them. Nothing that goes wrong in here may end the run."""

from __future__ import annotations

import json
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from controlplane.plays.results import DIFF_CHARS, MESSAGE_CHARS, NOTIFIED, Diff, Event, HostRecap, TaskResult
from controlplane.plays.scrub import scrub

log = logging.getLogger(__name__)


_ENDINGS = {
    "runner_on_ok": "ok",
    "runner_on_failed": "failed",
    "runner_on_unreachable": "unreachable",
    "runner_on_skipped": "skipped",
}
_SPOKEN = {"error", "warning", "system_warning", "verbose"}


class Listener:
    """Takes the runner's events as they come. Nothing that goes wrong in here may end the run."""

    def __init__(
        self,
        mode: str,
        private: Path,
        on_event: Callable[[Event], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        notes: Callable[[], Iterable[Mapping[str, Any]]] = tuple,
    ) -> None:
        self.tasks: list[TaskResult] = []
        self.raw = bytearray()
        self.begun = False  # a task was begun on a host, so something may have been changed
        self.no_hosts = False
        self.plays_begun = 0  # of the playbook that is under way
        self._mode = mode
        self._private = os.fsencode(private)  # a path that says nothing and differs each time
        self._on_event = on_event
        self._cancelled = cancelled
        self._notes = notes  # of our own callback, as far as they have come
        self._notifies: dict[str, list[str]] = {}  # task -> the handlers it notifies when it changes something
        self._under_way: dict[tuple[str, str], str] = {}
        self._task_uuids: list[str] = []
        self._stats: list[dict[str, Any]] = []  # one a playbook: a run that lost a whole play takes several
        self._playbooks = 0
        self._warned = False
        self._spoken: list[str] = []

    def hear(self, event: dict[str, Any]) -> bool:
        """The runner's event handler; False, so that no event is written to the disk unscrubbed."""
        try:
            kept = _keepable(event)
            if kept is None:
                return False
            self._add_notified(kept)
            line = canonical_line(kept).replace(self._private, b"run:")
            kept = json.loads(line)
            self.raw += line
            self._take(kept)
        except Exception:
            log.exception("an event of a play could not be read")
            return False
        if self._on_event is not None:
            try:
                self._on_event(kept)
            except Exception:
                if not self._warned:
                    log.exception("the listener of a play's events failed; the run goes on")
                self._warned = True
        return False

    def wants_to_stop(self) -> bool:
        """The runner's cancel callback; a question that fails is not a wish to stop."""
        try:
            return bool(self._cancelled and self._cancelled())
        except Exception:
            log.exception("asking whether a play is cancelled failed")
            return False

    def _add_notified(self, event: dict[str, Any]) -> None:
        """To a result that changed something, or hides whether it did: which handlers it notifies."""
        data = event.get("event_data") or {}
        result = data.get("res")
        if event["event"] != "runner_on_ok" or not isinstance(result, dict):
            return
        if result.get("changed") or "censored" in result:
            task = str(data.get("task_uuid", ""))
            if task not in self._notifies:
                told = {note["task_uuid"]: list(note.get("notify", ())) for note in self._notes() if "tags" in note}
                self._notifies |= {task: []} | told
            if names := self._notifies[task]:
                data[NOTIFIED] = names

    def _take(self, event: Event) -> None:
        kind = event["event"]
        data = event.get("event_data", {})
        where = (str(data.get("host", "")), str(data.get("task_uuid", "")))
        if kind == "runner_on_start":
            self.begun = True
            self._under_way[where] = f"{where[0]}: {data.get('task', '')}"
        elif kind in _ENDINGS:
            self._under_way.pop(where, None)
            self.tasks.append(_task_result(kind, data, self._mode))
            self._task_uuids.append(where[1])
        elif kind == "playbook_on_start":
            self._playbooks, self.plays_begun = self._playbooks + 1, 0
        elif kind == "playbook_on_play_start":
            self.plays_begun += 1
        elif kind == "playbook_on_stats":
            self._stats.append(data)
        elif kind == "playbook_on_no_hosts_matched":
            self.no_hosts = True
        if kind in _SPOKEN and event.get("stdout"):
            self._spoken.append(event["stdout"])

    def add_notes(self, notes: Iterable[Mapping[str, Any]]) -> None:
        """Give every task its tags, and the word changed to one whose result was hidden by no_log."""
        tags: dict[str, tuple[str, ...]] = {}
        changed: set[tuple[str, str]] = set()
        for note in notes:
            if "tags" in note:
                tags[note["task_uuid"]] = tuple(note["tags"])
            elif "host" in note:
                changed.add((note["host"], note["task_uuid"]))
        word = _changed_word(self._mode)
        for number, (task, task_uuid) in enumerate(zip(self.tasks, self._task_uuids, strict=True)):
            status = word if (task.host, task_uuid) in changed and task.status == "ok" else task.status
            self.tasks[number] = replace(task, tags=tags.get(task_uuid, ()), status=status)

    def said(self) -> str:
        """What Ansible said outside of tasks, errors first, in one bounded text."""
        errors = [line for line in self._spoken if "ERROR" in line]
        return _bounded(" ".join(" ".join(errors or self._spoken).split()), MESSAGE_CHARS)

    def recap(self) -> dict[str, HostRecap]:
        """Ansible's own figures; counted from the tasks, a rescued failure as a failure, when the run was cut short."""
        names = {f.name: f.name for f in fields(HostRecap)} | {"failed": "failures", "unreachable": "dark"}
        if self._stats and len(self._stats) >= self._playbooks:
            hosts = {host for stats in self._stats for host in stats.get("processed", {})}
            return {
                host: HostRecap(
                    **{
                        name: sum(stats.get(theirs, {}).get(host, 0) for stats in self._stats)
                        for name, theirs in names.items()
                    }
                )
                for host in sorted(hosts)
            }
        counts: dict[str, Counter[str]] = {}
        for task in self.tasks:
            word = "ok" if task.ignored else task.status.replace("would_change", "changed")
            counts.setdefault(task.host, Counter())[word] += 1
            if word == "changed":
                counts[task.host]["ok"] += 1  # as Ansible counts
        return {host: HostRecap(**counts[host]) for host in sorted(counts)}

    def detail(self, state: str) -> str:
        """Why the run is not successful: the last task that ended as it did, the last failure, or Ansible's words."""
        if state == "successful":
            return ""
        if state in {"cancelled", "timeout"}:
            open_tasks = "; ".join(sorted(self._under_way.values())) or "none"
            return f"cut off; tasks under way, which the host may still bring to an end: {open_tasks}"
        ended = [task for task in self.tasks if task.status in {"failed", "unreachable"} and not task.ignored]
        # A host that was switched off meanwhile says nothing of why others failed.
        told = [task for task in ended if task.status == state] or ended
        return f"{told[-1].host}: {told[-1].task}: {told[-1].message}" if told else self.said()


def _keepable(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """The event without secrets, without hosts' facts and without the text that repeats the result; None if empty."""
    kind = event.get("event")
    if not kind or kind == "EOF":
        return None
    kept = {key: value for key, value in event.items() if key not in {"runner_ident", "pid"}}
    if str(kind).startswith("runner_"):
        kept.pop("stdout", None)  # the result stands in event_data, in a form that can be scrubbed by name
    elif not kept.get("stdout") and kind == "verbose":
        return None
    data = dict(kept.get("event_data") or {})
    result = data.get("res")
    if isinstance(result, dict) and isinstance(result.get("ansible_facts"), dict):
        data["res"] = {**result, "ansible_facts": f"{len(result['ansible_facts'])} facts left out"}
    kept["event_data"] = data
    scrubbed: dict[str, Any] = scrub(kept)
    return scrubbed


def _changed_word(mode: str) -> str:
    return "would_change" if mode == "preview" else "changed"


def _task_result(kind: str, data: Mapping[str, Any], mode: str) -> TaskResult:
    found = data.get("res")
    result = found if isinstance(found, dict) else {}
    status = _ENDINGS[kind]
    if status == "ok" and result.get("changed"):
        status = _changed_word(mode)
    return TaskResult(
        host=str(data.get("host", "")),
        task=str(data.get("task", "")),
        action=str(data.get("resolved_action") or data.get("task_action", "")),
        status=status,
        diff=tuple(_diffs(result)),
        message=_message(result),
        ignored=bool(data.get("ignore_errors")),
    )


def _diffs(result: Mapping[str, Any]) -> Iterator[Diff]:
    """The differences of a result and of each turn of its loop."""
    turns = result.get("results")
    for part in [result, *(turn for turn in (turns if isinstance(turns, list) else ()) if isinstance(turn, dict))]:
        found = part.get("diff")
        for diff in found if isinstance(found, list) else [found]:
            if not isinstance(diff, dict) or diff.get("before") == diff.get("after"):
                continue
            before, after = (_bounded(_text(diff.get(side)), DIFF_CHARS) for side in ("before", "after"))
            yield Diff(_diff_name(part, diff), before, after)


def _diff_name(result: Mapping[str, Any], diff: Mapping[str, Any]) -> str:
    """The file or object that differs. A new file's own header names only Ansible's temporary source."""
    arguments = (result.get("invocation") or {}).get("module_args") or {}
    places = (*(part.get(key) for part in (result, arguments) for key in ("dest", "path")), diff.get("before_header"))
    return next((str(place) for place in places if place), str(diff.get("after_header") or ""))


def _message(result: Mapping[str, Any]) -> str:
    """The sentence of a result: its own, or that of the first turn of its loop that failed."""
    turns = result.get("results")
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict) and turn.get("failed"):
            return _message(turn)
    parts = [result.get(key) for key in ("msg", "reason", "censored", "skip_reason")]
    said = next((_text(part) for part in parts if part), "")
    if result.get("failed") or result.get("rc"):
        said = " ".join(part for part in (said, _text(result.get("stderr") or "").strip()) if part)
    return _bounded(said, MESSAGE_CHARS)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True, indent=1)


def _bounded(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}\n[{len(text) - limit} characters more were left out]"


def canonical_line(event: Event) -> bytes:
    """One event as a line of JSON: sorted keys, no spaces, NFC, UTF-8."""
    text = json.dumps(event, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return unicodedata.normalize("NFC", text).encode("utf-8", "replace") + b"\n"
