"""Reads a filled workbook against the pack it was made from, and says what it would change. It records nothing.

Every cell that cannot be taken over is named by its address, in both tongues; the rest of the workbook is still read.
"""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any

from openpyxl import load_workbook
from openpyxl.utils import get_column_letter

from controlplane import texts
from controlplane.domain.catalog import KINDS
from controlplane.domain.packs import PackError, added_id
from controlplane.ooxml import PackageError, inspect
from controlplane.sheets.form import (
    ABSENT,
    ANNEX,
    COLUMNS,
    COMPLETE,
    CRITERIA,
    GROUPS,
    GUIDE,
    HEADER,
    INCOMPLETE,
    LEVEL_WORDS,
    MARK_CELL,
    NOTHING,
    NUMBERED,
    YES,
    Added,
    Bad,
    Change,
    Preview,
    clean,
    decided,
    level_text,
    level_word,
    mark,
    reference,
    words,
)

MOST_BYTES = 10 * 1024 * 1024
MOST_UNPACKED_BYTES = 32 * 1024 * 1024
MOST_XML_BYTES = 24 * 1024 * 1024
MOST_ROWS = 5_000
LAST_ROW = 1_048_576  # of any workbook: what stands below was not written by an office program
MOST_LETTERS = {"new_title": 1_000, "new_clause": 200, "new_level": 100, "confirm": 40, "remark": 2_000}
COMPARED = {
    CRITERIA: ("group", "level", "clause", "title"),
    GROUPS: ("group", "ladder"),
    ANNEX: ("group", "level"),
}
"""The pack's own words that a mark in the row confirms: they must still be those of the pack."""

SAID = {
    **dict.fromkeys(("x", "✓", "✔", "có", "đúng", "v", "yes"), YES),
    **dict.fromkeys(("không có", "không", "ko", "k", "no", "absent"), ABSENT),
}
SAID_OF_A_LIST = {
    **dict.fromkeys(("đủ", "x", "có", "đã đủ", "yes"), COMPLETE),
    **dict.fromkeys(("chưa đủ", "chưa", "không", "thiếu", "no"), INCOMPLETE),
}


class _Wrong(Exception):  # noqa: N818 - it is caught in this room and never leaves it
    """A cell that cannot be taken over."""

    def __init__(self, column: str, code: str, **figures: Any) -> None:
        super().__init__(code)
        self.column, self.code, self.figures = column, code, figures


def read_sheet(data: bytes, document: Mapping[str, Any]) -> Preview:
    """What the workbook's bytes say about a framework document. It never raises: what is wrong stands in ``bad``."""
    total = len(document["criteria"])
    if len(data) > MOST_BYTES:
        return _refused("sheet.bad.size", total, most_mb=MOST_BYTES >> 20)
    try:
        if inspect(data, MOST_UNPACKED_BYTES, MOST_XML_BYTES) != "xlsx":
            return _refused("package.kind", total)
        pages = _tables(data)
    except PackageError as error:
        return _refused(f"package.{error.code}", total, **error.figures)
    except _TooMany:
        return _refused("sheet.bad.rows", total, most=MOST_ROWS)
    except Exception:  # the library names no common error for a damaged workbook
        return _refused("package.unreadable", total)
    return _Reader(document, pages).preview()


class _TooMany(Exception):  # noqa: N818
    """More rows than a framework could ever have."""


def _refused(key: str, unchanged: int, **figures: Any) -> Preview:
    return Preview(bad=(Bad("", "", words(key, **figures)),), unchanged=unchanged)


def _tables(data: bytes) -> dict[str, list[tuple[int, list[Any]]]]:
    """Every page's rows that hold something, as (row number, cells)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # openpyxl tells of looks that it does not keep
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=False, keep_links=False)
        try:
            return {clean(page.title): list(_rows(page)) for page in book.worksheets}
        finally:
            book.close()


def _rows(page: Any) -> Iterator[tuple[int, list[Any]]]:
    page.reset_dimensions()  # what the file says of its own size is not relied on
    for number, cells in enumerate(page.iter_rows(max_col=40), 1):
        if number > LAST_ROW:
            raise _TooMany
        if all(cell.value is None or cell.value == "" for cell in cells):
            continue
        if number > MOST_ROWS:
            raise _TooMany
        yield number, list(cells)


class _Reader:
    """One reading: the pack on one side, the pages on the other, and what came of it so far."""

    def __init__(self, document: Mapping[str, Any], pages: Mapping[str, list[tuple[int, list[Any]]]]) -> None:
        self.document, self.pages = document, pages
        self.known = {str(c["id"]): c for c in document["criteria"]}
        self.groups = {str(g["id"]): g for g in document["groups"]}
        self.bad: list[Bad] = []
        self.changes: list[Change] = []
        self.fields: dict[str, dict[str, Any]] = {}  # id -> what the overlay says of it
        self.added: dict[str, dict[str, Any]] = {}
        self.complete: dict[str, bool] = {}
        self.annex: dict[str, dict[str, str | None]] = {}
        self.cells: dict[str, str] = {}  # id -> where its number stands, for what is found out later

    def preview(self) -> Preview:
        """Read page after page, then hold the rows against one another."""
        wanted = [GUIDE, CRITERIA, GROUPS] + ([ANNEX] if self.document.get("annex2") else [])
        for name in wanted:
            if name not in self.pages:
                self._say("", "", "sheet.bad.page_missing", page=name)
        for name in self.pages:
            if name not in wanted:
                self._say(name, "", "sheet.bad.page_unknown")
        self._page(CRITERIA, self._criterion)
        self._numbers()
        self._page(GROUPS, self._group)
        if ANNEX in wanted:
            self._page(ANNEX, self._annex_cell)
        return self._result()

    def _result(self) -> Preview:
        absent = tuple(id_ for id_, fields in self.fields.items() if fields.get("absent"))
        overlay = {
            "framework": self.document["framework"],
            "criteria": self.fields,
            "added": list(self.added.values()),
            "groups": self.complete,
            "annex2": self.annex,
        }
        return Preview(
            changes=tuple(self.changes),
            confirmed=tuple(id_ for id_ in self.fields if id_ not in absent),
            absent=absent,
            added=tuple(
                Added(a["id"], a["group"], tuple(a["levels"]), a["clause"], a["title"]["vi"])
                for a in self.added.values()
            ),
            groups_completed=tuple(g for g, word in self.complete.items() if word),
            groups_incomplete=tuple(g for g, word in self.complete.items() if not word),
            annex2=tuple((o, g, level) for o, row in self.annex.items() for g, level in row.items()),
            bad=tuple(self.bad),
            unchanged=len(self.known) - len(self.fields),
            same_pack=self._mark() == mark(self.document),
            overlay=overlay,
        )

    def _mark(self) -> str:
        for number, cells in self.pages.get(GUIDE, []):
            if number == int(MARK_CELL[1:]) and len(cells) > 1:
                return clean(str(cells[1].value))
        return ""

    # ---------------------------------------------------------------------------------------------- pages

    def _page(self, name: str, take: Any) -> None:
        """Hand every row of a page on as texts by column; a row with a bad cell is named and left out."""
        rows = self.pages.get(name)
        if rows is None or not self._headings(name, rows):
            return
        own = {self._key(name, row): row for row in reference(name, self.document)}
        seen: set[str] = set()
        for number, cells in rows:
            if number <= HEADER:
                continue
            try:
                row = self._texts(name, cells)
                self._compare(name, row, own, seen)
                take(row, number)
            except _Wrong as wrong:
                self._say(name, self._at(name, wrong.column, number), f"sheet.bad.{wrong.code}", **wrong.figures)

    def _headings(self, name: str, rows: list[tuple[int, list[Any]]]) -> bool:
        cells = next((cells for number, cells in rows if number == HEADER), [])
        for place, column in enumerate(COLUMNS[name]):
            wanted = f"{texts.say('vi', f'sheet.head.{column}')} {texts.say('en', f'sheet.head.{column}')}"
            found = clean(str(cells[place].value)) if place < len(cells) else ""
            if found != clean(wanted):
                address = f"{get_column_letter(place + 1)}{HEADER}"
                self._say(name, address, "sheet.bad.heading", wanted=texts.say("vi", f"sheet.head.{column}"))
                return False
        return True

    def _texts(self, name: str, cells: list[Any]) -> dict[str, str]:
        columns = COLUMNS[name]
        row = {column: _text(cells[i], column) if i < len(cells) else "" for i, column in enumerate(columns)}
        for place, cell in enumerate(cells[len(columns) :], len(columns)):
            if cell.value not in (None, ""):
                raise _Wrong(f"#{place + 1}", "outside")
        return row

    def _compare(self, name: str, row: Mapping[str, str], own: Mapping[str, Mapping[str, str]], seen: set[str]) -> None:
        """A row must be the pack's own, once, and still say what the pack says; an added row bears no id."""
        if name == CRITERIA and not row["id"]:
            return
        key = self._key(name, row)
        if key not in own:
            raise _Wrong("id", "id_unknown", id=row["id"][:80])
        if key in seen:
            raise _Wrong("id", "id_twice", id=row["id"])
        seen.add(key)
        for column in COMPARED[name]:
            if row[column] != clean(own[key].get(column, "")):
                raise _Wrong(column, "pack_word", wanted=own[key].get(column, "")[:120])

    def _key(self, name: str, row: Mapping[str, str]) -> str:
        return f"{row['overall']} {row['id']}" if name == ANNEX else row["id"]

    def _at(self, name: str, column: str, number: int) -> str:
        place = int(column[1:]) if column.startswith("#") else COLUMNS[name].index(column) + 1
        return f"{get_column_letter(place)}{number}"

    def _say(self, sheet: str, cell: str, key: str, **figures: Any) -> None:
        self.bad.append(Bad(sheet, cell, words(key, **figures)))

    # ------------------------------------------------------------------------------------------- criteria

    def _criterion(self, row: Mapping[str, str], number: int) -> None:
        if not row["id"]:
            self._new(row, number)
            return
        corrected = [c for c in ("new_level", "new_clause", "new_title") if row[c]]
        said = _said(row["confirm"], SAID)
        if not said:
            if corrected:
                raise _Wrong("confirm", "not_marked")
            return
        note = {"note": row["remark"]} if row["remark"] else {}
        if said == ABSENT:
            if corrected:
                raise _Wrong(corrected[0], "absent_corrected")
            self.fields[row["id"]] = {"absent": True, **note}
            return
        entry = self.known[row["id"]]
        fields: dict[str, Any] = {}
        levels = _levels(row["new_level"], self.groups[entry["group"]]["levels"])
        if levels and levels != list(entry["levels"]):
            fields["levels"] = levels
            self._change(row["id"], "levels", level_text(entry), ", ".join(map(level_word, levels)))
        clause = _clause(row["new_clause"], str(entry["clause"]))
        if clause and clause != entry["clause"]:
            fields["clause"] = clause
            self._change(row["id"], "clause", str(entry["clause"]), clause)
        if row["new_title"] and row["new_title"] != clean(entry["title"]["vi"]):
            fields["title"] = {"vi": row["new_title"]}
            self._change(row["id"], "title", entry["title"]["vi"], row["new_title"])
        self.fields[row["id"]] = {**fields, **note}
        self.cells[row["id"]] = self._at(CRITERIA, "new_clause", number)

    def _change(self, id_: str, name: str, before: str, after: str) -> None:
        self.changes.append(Change(id_, name, before, after))

    def _new(self, row: Mapping[str, str], number: int) -> None:
        """A criterion that the pack lacks: its group, level, number and title are needed, and the mark."""
        if not any(row[c] for c in ("group", "confirm", "new_level", "new_clause", "new_title", "remark")):
            return
        titles = {clean(g["title"]["vi"]): id_ for id_, g in self.groups.items()} | {id_: id_ for id_ in self.groups}
        if row["group"] not in titles:
            raise _Wrong("group", "group_unknown", group=row["group"][:80] or "-")
        if _said(row["confirm"], SAID) != YES:
            raise _Wrong("confirm", "not_marked")
        group = titles[row["group"]]
        ladder = self.groups[group]["levels"]
        for column in ("new_level", "new_clause", "new_title"):
            if not row[column] and (ladder or column != "new_level"):
                raise _Wrong(column, "needed", name=texts.say("vi", f"sheet.head.{column}"))
        levels = _levels(row["new_level"], ladder)
        try:
            id_ = added_id(self.document, group, row["new_clause"])
        except PackError:
            raise _Wrong("new_clause", "number", text=row["new_clause"][:80]) from None
        if id_ in self.known or id_ in self.added:
            raise _Wrong("new_clause", "number_twice", text=row["new_clause"][:80], id=id_)
        like = next((str(c["clause"]) for c in self.known.values() if c["group"] == group), "")
        title = {"vi": row["new_title"], **({"en": row["english"]} if row["english"] else {})}
        entry = {
            "id": id_,
            "group": group,
            "levels": levels,
            "title": title,
            "clause": _clause(row["new_clause"], like),
        }
        note = {"note": row["remark"]} if row["remark"] else {}
        self.added[id_] = {**entry, "kind": _kind(row["kind"]), **note}
        self.cells[id_] = self._at(CRITERIA, "new_clause", number)

    def _numbers(self) -> None:
        """No number of the official list may stand twice, where the framework numbers its criteria."""
        clauses = {
            id_: str(self.fields.get(id_, {}).get("clause", entry["clause"]))
            for id_, entry in self.known.items()
            if not self.fields.get(id_, {}).get("absent")
        } | {id_: str(entry["clause"]) for id_, entry in self.added.items()}
        found = {id_: match[1] for id_, clause in clauses.items() if (match := NUMBERED.search(clause)) and match[1]}
        times = Counter(found.values())
        for id_, cell in self.cells.items():
            if times.get(found.get(id_, ""), 0) > 1:
                other = next(o for o, n in found.items() if n == found[id_] and o != id_)
                self._say(CRITERIA, cell, "sheet.bad.number_twice", text=found[id_], id=other)

    # ---------------------------------------------------------------------------------- groups and annex

    def _group(self, row: Mapping[str, str], _number: int) -> None:
        said = _said(row["confirm"], SAID_OF_A_LIST)
        if not said:
            return
        if said == COMPLETE:
            self._whole(row["id"])
        self.complete[row["id"]] = said == COMPLETE

    def _whole(self, group: str) -> None:
        """A list is only complete when each of its rows was compared, and each one that stays has a level."""
        mine = [c for c in self.known.values() if c["group"] == group]
        open_ = [c["id"] for c in mine if c["id"] not in self.fields and not decided(c)]
        if open_:
            raise _Wrong("confirm", "group_open", count=len(open_), id=open_[0])
        kept = [c for c in mine if not self._is_absent(c)]
        if not kept and not any(a["group"] == group for a in self.added.values()):
            raise _Wrong("confirm", "group_empty")
        for entry in kept:
            levels = self.fields.get(entry["id"], {}).get("levels", entry["levels"])
            if not levels and self.groups[group]["levels"] and entry.get("kind") != "informative":
                raise _Wrong("confirm", "group_level", id=entry["id"])

    def _is_absent(self, entry: Mapping[str, Any]) -> bool:
        if entry["id"] in self.fields:
            return bool(self.fields[entry["id"]].get("absent"))
        return str(entry["standing"]) != "confirmed"

    def _annex_cell(self, row: Mapping[str, str], _number: int) -> None:
        said = _said(row["confirm"], {word: YES for word, means in SAID.items() if means == YES})
        if not said:
            if row["new_level"]:
                raise _Wrong("confirm", "not_marked")
            return
        text = row["new_level"] or row["level"]
        levels: list[str] = []
        if text.lower() != NOTHING:
            levels = _levels(row["new_level"], self.groups[row["id"]]["levels"]) if row["new_level"] else []
            levels = levels or [str(self.document["annex2"][row["overall"]][row["id"]]["level"])]
            if len(levels) > 1:
                raise _Wrong("new_level", "one_level")
        self.annex.setdefault(row["overall"], {})[row["id"]] = levels[0] if levels else None


# ---------------------------------------------------------------------------------------------------- cells


def _text(cell: Any, column: str) -> str:
    """The text of a cell, whatever type the office program gave it; raises ``_Wrong`` for what is not plain text."""
    value, type_ = cell.value, getattr(cell, "data_type", "n")
    if value is None:
        return ""
    if type_ == "f" or not isinstance(value, str | bool | int | float | datetime | date | time | timedelta):
        raise _Wrong(column, "formula")
    if type_ == "e":
        raise _Wrong(column, "error", text=str(value)[:20])
    if isinstance(value, bool):
        if column != "confirm":
            raise _Wrong(column, "boolean")
        return YES if value else ""
    if isinstance(value, datetime | date) and column == "remark":
        return value.strftime("%d/%m/%Y")
    if isinstance(value, datetime | date | time | timedelta):
        raise _Wrong(column, "date")
    if isinstance(value, float):
        if not value.is_integer() and column != "remark":
            raise _Wrong(column, "decimal", text=repr(value))
        value = int(value) if value.is_integer() else repr(value).replace(".", ",")
    text = clean(str(value))
    if not text.isprintable():
        raise _Wrong(column, "letters")
    if len(text) > MOST_LETTERS.get(column, 4_000):
        raise _Wrong(column, "long", most=MOST_LETTERS.get(column, 4_000))
    return text


def _said(text: str, meaning: Mapping[str, str]) -> str:
    """What a mark means; empty for no mark."""
    if not text:
        return ""
    if text.lower() not in meaning:
        raise _Wrong("confirm", "mark", text=text[:40], allowed=", ".join(dict.fromkeys(meaning.values())))
    return meaning[text.lower()]


def _levels(text: str, ladder: list[str]) -> list[str]:
    """Levels such as ``3``, ``1, 2``, ``1-3``, ``Mức cơ bản``; each must stand on the group's ladder."""
    by_word = {level_word(level).lower(): level for level in ladder} | {level: level for level in ladder}
    by_word |= {word: code for code, word in LEVEL_WORDS.items() if code in ladder}
    found: list[str] = []
    for part in re.split(r"[,;/+&]|\bvà\b", text.lower()):
        word = part.strip().removeprefix("mức").strip()
        if not word:
            continue
        reach = re.fullmatch(r"(\d+)\s*[-–]\s*(\d+)", word)
        names = [word]
        if reach and reach[1] in ladder and reach[2] in ladder:
            names = ladder[ladder.index(reach[1]) : ladder.index(reach[2]) + 1]
        for name in names or [word]:
            if name not in by_word:
                allowed = ", ".join(level_word(level) for level in ladder)
                raise _Wrong("new_level", "level", text=part.strip()[:40], allowed=allowed)
            found.append(by_word[name])
    return sorted(set(found), key=ladder.index)


def _clause(text: str, like: str) -> str:
    """A bare number becomes a clause worded like its neighbours; anything else stays as it was typed."""
    if text.isdecimal() and NUMBERED.search(like):
        return NUMBERED.sub(f"tiêu chí {int(text)}", like, count=1)
    return text


def _kind(text: str) -> str:
    by_word = {texts.say("vi", f"sheet.kind.{kind}"): kind for kind in KINDS} | {kind: kind for kind in KINDS}
    if text and text not in by_word:
        raise _Wrong("kind", "kind", text=text[:40])
    return by_word.get(text, "required")
