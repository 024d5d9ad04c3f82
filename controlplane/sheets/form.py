"""The form that writer and reader share: pages, columns, words of levels, what a reading gives. It opens no file."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from controlplane import texts
from controlplane.domain.chain import canonical, digest
from controlplane.domain.model import Words
from controlplane.domain.packs import NOT_IN_TEXT, OFFICIAL, is_empty

GUIDE, CRITERIA, GROUPS, ANNEX = "Hướng dẫn", "Tiêu chí", "Nhóm", "Phụ lục II"
HEADER = 3  # the row of the headings, on every page but the guide
SPARE_ROWS = 60  # empty rows in which the hospital may add criteria
MARK_CELL = "B2"  # of the guide: which pack the workbook was made from

COLUMNS: Mapping[str, tuple[str, ...]] = {
    CRITERIA: tuple(
        "id group level clause title standing confirm new_level new_clause new_title remark english kind confidence"
        " note".split()
    ),
    GROUPS: tuple("id group ladder count listed confirm remark note".split()),
    ANNEX: tuple("overall id group level confidence confirm new_level remark".split()),
}
FILLED: Mapping[str, frozenset[str]] = {
    CRITERIA: frozenset("confirm new_level new_clause new_title remark".split()),
    GROUPS: frozenset("confirm remark".split()),
    ANNEX: frozenset("confirm new_level remark".split()),
}
"""The columns that the hospital fills; every other cell is the pack's own word and may not be changed."""

YES, ABSENT = "x", "không có"
COMPLETE, INCOMPLETE = "đủ", "chưa đủ"
NOTHING = "không yêu cầu"
UNKNOWN_LEVEL = "chưa rõ"
LEVEL_WORDS = {"basic": "cơ bản", "advanced": "nâng cao", "met": "đạt yêu cầu", "table": "bảng yêu cầu"}
NUMBERED = re.compile(r"chưa rõ số tiêu chí|tiêu chí (\d+)")
FULL_WIDTH = {0x3000: 0x20, **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}}
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")


@dataclass(frozen=True)
class Change:
    """One field of a shipped criterion that the official text words differently."""

    criterion: str
    field: str  # levels, clause, title, standing or note
    before: str
    after: str


@dataclass(frozen=True)
class Added:
    """A criterion of the official text that the pack lacked."""

    id: str
    group: str
    levels: tuple[str, ...]
    clause: str
    title: str


@dataclass(frozen=True)
class Bad:
    """What cannot be taken over: the page and cell, both empty when it is the file itself, and why in both tongues."""

    sheet: str
    cell: str
    words: Words


@dataclass(frozen=True)
class Preview:
    """What a workbook would change, before anybody agreed to it. Nothing may be recorded while ``bad`` holds a row."""

    changes: tuple[Change, ...] = ()
    confirmed: tuple[str, ...] = ()  # ids found in the official text, corrected or not
    absent: tuple[str, ...] = ()  # ids that the official text does not hold
    added: tuple[Added, ...] = ()
    groups_completed: tuple[str, ...] = ()
    groups_incomplete: tuple[str, ...] = ()
    annex2: tuple[tuple[str, str, str | None], ...] = ()  # overall level, group, its level; None: nothing is asked
    bad: tuple[Bad, ...] = ()
    unchanged: int = 0  # shipped criteria that the hospital did not mark
    same_pack: bool = True  # False: the workbook was made from another state of the pack than the one handed in
    overlay: Mapping[str, Any] = field(default_factory=dict)  # for domain.packs.apply_overlay, without the document

    @property
    def ready(self) -> bool:
        """Whether there is something to record and nothing against it."""
        return not self.bad and not is_empty(self.overlay)


def words(key: str, **figures: Any) -> Words:
    """A sentence of the texts in both tongues."""
    return Words(texts.say("vi", key, **figures), texts.say("en", key, **figures))


def level_word(level: str) -> str:
    """A level as a Vietnamese reader knows it: ``basic`` is ``cơ bản``, ``3`` stays ``3``."""
    return LEVEL_WORDS.get(level, level)


def level_text(criterion: Mapping[str, Any]) -> str:
    """The levels of a criterion in one cell; those of a draft are marked as such."""
    if criterion["levels"]:
        return ", ".join(level_word(level) for level in criterion["levels"])
    if draft := criterion.get("draft_levels"):
        return f"{UNKNOWN_LEVEL} (dự thảo: {', '.join(level_word(level) for level in draft)})"
    return UNKNOWN_LEVEL


def standing_text(criterion: Mapping[str, Any]) -> str:
    """How far a criterion's text can be relied on: the word and its code."""
    if criterion["confidence"] == NOT_IN_TEXT:
        return f"{texts.say('vi', 'sheet.not_in_text')} (absent)"
    return f"{texts.say('vi', 'sheet.standing.' + str(criterion['standing']))} ({criterion['standing']})"


def confidence_text(word: str) -> str:
    """The word of the source data in Vietnamese; one that the texts do not know stays as it is."""
    key = f"sheet.confidence.{word}"
    return texts.say("vi", key) if texts.has(key) else word


def decided(criterion: Mapping[str, Any]) -> bool:
    """Whether the hospital already compared a criterion with its official copy."""
    return criterion["confidence"] in (OFFICIAL, NOT_IN_TEXT)


def mark(document: Mapping[str, Any]) -> str:
    """Which state of the pack a workbook belongs to."""
    return digest(canonical(document))


def clean(text: str) -> str:
    """Text as the house keeps it: NFC, half-width, without invisible letters, single spaces."""
    text = INVISIBLE.sub("", unicodedata.normalize("NFC", text.translate(FULL_WIDTH)))
    return " ".join(text.split())


def annex_rows(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Every overall level with every group, and the cell that the pack holds for them (empty: it holds none)."""
    for overall, cells in (document.get("annex2") or {}).items():
        for group in document["groups"]:
            yield str(overall), group, cells.get(group["id"]) or {}


def reference(page: str, document: Mapping[str, Any]) -> list[dict[str, str]]:
    """The pack's own words on a page, one mapping of column to text a row, in the order of the page."""
    titles = {g["id"]: g["title"]["vi"] for g in document["groups"]}
    if page == GROUPS:
        return [_group_row(document, group) for group in document["groups"]]
    if page == ANNEX:
        return [_annex_row(*row) for row in annex_rows(document)]
    places = list(titles)
    rows = sorted(document["criteria"], key=lambda c: places.index(c["group"]))
    return [_criterion_row(row, titles) for row in rows]


def _criterion_row(row: Mapping[str, Any], titles: Mapping[str, str]) -> dict[str, str]:
    return {
        "id": row["id"],
        "group": titles[row["group"]],
        "level": level_text(row),
        "clause": row["clause"],
        "title": row["title"]["vi"],
        "standing": standing_text(row),
        "english": row["title"]["en"],
        "kind": texts.say("vi", f"sheet.kind.{row.get('kind', 'required')}"),
        "confidence": confidence_text(str(row["confidence"])),
        "note": str(row.get("note", "")),
    }


def _group_row(document: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, str]:
    return {
        "id": group["id"],
        "group": group["title"]["vi"],
        "ladder": ", ".join(level_word(level) for level in group["levels"]),
        "count": str(sum(c["group"] == group["id"] for c in document["criteria"])),
        "listed": COMPLETE if group["list_complete"] is True else INCOMPLETE,
        "note": str(group.get("note", "")),
    }


def _annex_row(overall: str, group: Mapping[str, Any], cell: Mapping[str, Any]) -> dict[str, str]:
    return {
        "overall": overall,
        "id": group["id"],
        "group": group["title"]["vi"],
        "level": level_word(cell["level"]) if cell else NOTHING,
        "confidence": confidence_text(str(cell["confidence"]) if cell else "none"),
    }
