"""What may be run: the entries of playbooks/plays.yaml, refused by name when they do not hold together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.domain.model import Words


class PlayError(Exception):
    """A play that may not or cannot run; nothing was changed on any host. ``words`` says why, in both tongues."""

    def __init__(self, vi: str, en: str) -> None:
        super().__init__(en)
        self.words = Words(vi, en)


@dataclass(frozen=True)
class Play:
    """One entry of playbooks/plays.yaml. The checks it mends are those that name it as their remedy."""

    id: str
    playbook: Path
    title: Words
    summary: Words
    hosts: str  # the inventory group it is meant for, or "all"
    disruptive: bool = False  # it interrupts somebody's work
    approval: str = "none"  # see APPROVALS: second_role asks for a yes by somebody else with another role
    witnesses: str = ""  # a group that shows what the play did elsewhere: it is looked at before and after, too
    ships: tuple[str, ...] = ()  # variables that name a file of this machine which the play brings to hosts


APPROVALS = ("none", "second_role")
_KEYS = frozenset({"id", "playbook", "title", "summary", "hosts", "disruptive", "approval"})
_MAY = frozenset({"witnesses", "ships"})


def load_plays(document: Any, folder: Path) -> Mapping[str, Play]:
    """Plays by id, in the order of the file. ``document`` is the parsed plays.yaml, ``folder`` holds the playbooks.

    Raises PlayError naming the entry: unknown or missing key, double id, a title in one tongue, a missing playbook.
    """
    entries = document.get("plays") if isinstance(document, dict) and set(document) == {"plays"} else None
    if not isinstance(entries, list) or not entries:
        raise PlayError(
            "plays.yaml phải có đúng một khóa `plays` là một danh sách không rỗng.",
            "plays.yaml must hold exactly one key, `plays`, with a list that is not empty.",
        )
    plays: dict[str, Play] = {}
    for number, entry in enumerate(entries, start=1):
        name = str(entry.get("id", f"#{number}")) if isinstance(entry, dict) else f"#{number}"
        problem = _entry_problem(entry, folder)
        if not problem and name in plays:
            problem = "the id stands twice"
        if problem:
            raise PlayError(
                f"plays.yaml, mục {name}: không hợp lệ ({problem}).", f"plays.yaml, entry {name}: {problem}."
            )
        plays[name] = Play(
            id=name,
            playbook=folder / entry["playbook"],
            title=Words(**entry["title"]),
            summary=Words(**entry["summary"]),
            hosts=entry["hosts"],
            disruptive=entry["disruptive"],
            approval=entry["approval"],
            witnesses=entry.get("witnesses", ""),
            ships=tuple(entry.get("ships", ())),
        )
    return plays


def _entry_problem(entry: Any, folder: Path) -> str:
    """What is wrong with one entry, in one English clause; empty when nothing is."""
    if not isinstance(entry, dict):
        return "it is not a mapping"
    if unknown := sorted(str(key) for key in set(entry) - _KEYS - _MAY):
        return f"unknown key {', '.join(unknown)}"
    if missing := sorted(_KEYS - set(entry)):
        return f"missing key {', '.join(missing)}"
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", str(entry["id"])):
        return "the id must be lower-case words joined by hyphens"
    for key in ("title", "summary"):
        words = entry[key]
        both = isinstance(words, dict) and set(words) == {"vi", "en"}
        if not both or not all(isinstance(text, str) and text.strip() for text in words.values()):
            return f"{key} must be given in vi and in en"
    if not isinstance(entry["disruptive"], bool):
        return "disruptive must be true or false"
    for key in ("hosts", "witnesses"):
        if key in entry and not re.fullmatch(r"[a-z0-9_]+", str(entry[key])):
            return f"{key} must be one lower-case name"
    ships = entry.get("ships", [])
    if not isinstance(ships, list) or not all(re.fullmatch(r"[a-z0-9_]+", str(name)) for name in ships):
        return "ships must be a list of names of variables"
    if entry["approval"] not in APPROVALS:
        return f"approval must be one of {', '.join(APPROVALS)}"
    playbook = str(entry["playbook"])
    if "/" in playbook or not playbook.endswith(".yml"):
        return "playbook must be the name of a .yml file beside plays.yaml"
    return "" if (folder / playbook).is_file() else f"there is no playbook {playbook}"
