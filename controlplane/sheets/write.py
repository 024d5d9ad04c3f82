"""Writes the workbook: a guide, the criteria, the groups and, where the framework has one, its table of levels.

The same document gives the same bytes. It locks whatever the hospital should not change and sets no password.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from openpyxl import Workbook
from openpyxl.styles import Alignment, Border, Font, PatternFill, Protection, Side
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.datavalidation import DataValidation
from openpyxl.worksheet.header_footer import HeaderFooterItem, _HeaderFooterPart
from openpyxl.worksheet.properties import PageSetupProperties
from openpyxl.worksheet.worksheet import Worksheet

from controlplane import texts
from controlplane.domain.catalog import KINDS
from controlplane.domain.packs import is_added
from controlplane.sheets.form import (
    ABSENT,
    ANNEX,
    COLUMNS,
    COMPLETE,
    CRITERIA,
    FILLED,
    GROUPS,
    GUIDE,
    HEADER,
    INCOMPLETE,
    MARK_CELL,
    NOTHING,
    SPARE_ROWS,
    YES,
    level_word,
    mark,
    reference,
)

FACE = "Times New Roman"
INK, PALE, GRID = "1F3864", "F2F5FA", "B7C3D9"
PAPER, FILL_IN, SPARE = "FFFFFF", "FFF8DC", "FFFDF3"
STANDING_INK = {"confirmed": "1E6B34", "second_hand": "1F4E9E", "draft": "9C5700", "absent": "7F7F7F"}
WIDTHS = {
    CRITERIA: (17, 15, 10, 19, 38, 14, 9, 10, 15, 34, 22, 34, 11, 13, 60),
    GROUPS: (11, 34, 24, 9, 13, 13, 28, 50),
    ANNEX: (11, 11, 40, 18, 18, 12, 18, 34),
}
PRINTED = {CRITERIA: "remark", GROUPS: "remark", ANNEX: "remark"}  # the last column that goes on paper
A4 = 9
LINE = Side(style="thin", color=GRID)
BOX = Border(left=LINE, right=LINE, top=LINE, bottom=LINE)
NEW_GROUP = Border(left=LINE, right=LINE, top=Side(style="medium", color=INK), bottom=LINE)
TO_THE_LEFT = Alignment(horizontal="left", vertical="center", wrap_text=True)
MIDDLE = Alignment(horizontal="center", vertical="center", wrap_text=True)
CENTRED = frozenset("level confirm new_level count listed overall".split())


def export_framework(document: Mapping[str, Any]) -> bytes:
    """The workbook of a framework document (the parsed YAML of one file of ``checks/criteria``) as .xlsx bytes."""
    book = Workbook()
    _guide(book, document)
    _criteria(book, document)
    _groups(book, document)
    if document.get("annex2"):
        _annex(book, document)
    book.properties.creator = "emrctl"
    book.properties.title = document["title"]["vi"]
    return _steady(book)


# ------------------------------------------------------------------------------------------------- pages


def _guide(book: Workbook, document: Mapping[str, Any]) -> None:
    page = book.worksheets[0]
    page.title = GUIDE
    _sheet_setup(page, document, landscape=False)
    for column, width in zip("AB", (26, 82), strict=True):
        page.column_dimensions[column].width = width
    _put(page, "A1", texts.say("vi", "sheet.title"), size=16, bold=True, ink=INK)
    page.row_dimensions[1].height = 26
    _put(page, "A2", texts.say("vi", "sheet.mark"), size=9, ink="7F7F7F")
    _put(page, MARK_CELL, mark(document), size=9, ink="7F7F7F")
    row = _pairs(page, 4, "sheet.about", [("law", document["title"]), ("source", document["source"])])
    row = _steps(page, row + 1)
    row = _pairs(page, row + 1, "sheet.standings", [(s, None) for s in STANDING_INK])
    filled = [name for name in COLUMNS[CRITERIA] if name in FILLED[CRITERIA]]
    row = _pairs(page, row + 1, "sheet.columns", [(name, None) for name in filled])
    _tally(page, row + 1, document)
    page.protection.sheet = True
    page.page_setup.fitToHeight = 1


def _pairs(page: Worksheet, row: int, key: str, entries: Sequence[tuple[str, Any]]) -> int:
    """A block of the guide: what it is called on the left, both tongues on the right."""
    row = _bar(page, row, key)
    for name, given in entries:
        vi = given["vi"] if isinstance(given, Mapping) else given or texts.say("vi", f"{key}.{name}.is")
        en = given["en"] if isinstance(given, Mapping) else "" if given else texts.say("en", f"{key}.{name}.is")
        ink = STANDING_INK.get(name, "000000")
        _put(page, f"A{row}", texts.say("vi", f"{key}.{name}.name"), bold=True, ink=ink, box=True)
        _put(page, f"B{row}", f"{vi}\n{en}" if en else vi, box=True)
        page.row_dimensions[row].height = 15 * (_lines(vi, 82) + _lines(en, 82)) + 4
        row += 1
    return row


def _steps(page: Worksheet, row: int) -> int:
    row = _bar(page, row, "sheet.steps")
    for number in range(1, 8):
        vi, en = (texts.say(tongue, f"sheet.steps.{number}") for tongue in texts.LANGUAGES)
        _put(page, f"A{row}", texts.say("vi", "sheet.steps.name", number=number), bold=True, box=True)
        _put(page, f"B{row}", f"{vi}\n{en}", box=True)
        page.row_dimensions[row].height = 15 * (_lines(vi, 82) + _lines(en, 82)) + 4
        row += 1
    return row


def _tally(page: Worksheet, row: int, document: Mapping[str, Any]) -> None:
    row = _bar(page, row, "sheet.tally")
    for group in document["groups"]:
        mine = [c for c in document["criteria"] if c["group"] == group["id"]]
        counts = {s: sum(c["standing"] == s for c in mine) for s in ("confirmed", "second_hand", "draft")}
        _put(page, f"A{row}", group["title"]["vi"], bold=True, box=True)
        _put(page, f"B{row}", texts.say("vi", "sheet.tally.row", total=len(mine), **counts), box=True)
        page.row_dimensions[row].height = 15 * _lines(group["title"]["vi"], 24) + 4
        row += 1


def _bar(page: Worksheet, row: int, key: str) -> int:
    for column, tongue in (("A", "vi"), ("B", "en")):
        cell = page[f"{column}{row}"]
        cell.value = texts.say(tongue, f"{key}.heading")
        cell.font = Font(name=FACE, size=11, bold=tongue == "vi", italic=tongue == "en", color=PAPER)
        cell.fill = PatternFill("solid", fgColor=INK)
    page.row_dimensions[row].height = 18
    return row + 1


def _criteria(book: Workbook, document: Mapping[str, Any]) -> None:
    rows = reference(CRITERIA, document)
    page = _table(book, CRITERIA, document, rows, SPARE_ROWS)
    last, end = HEADER + len(rows), HEADER + len(rows) + SPARE_ROWS
    before = None
    for number, row in enumerate(rows, HEADER + 1):
        code = re.findall(r"\((\w+)\)$", row["standing"])[0]
        cell = page.cell(number, COLUMNS[CRITERIA].index("standing") + 1)
        cell.font = Font(name=FACE, size=10, bold=True, color=STANDING_INK[code])
        if row["group"] != before:
            for column in range(1, len(COLUMNS[CRITERIA]) + 1):
                page.cell(number, column).border = NEW_GROUP
        before = row["group"]
        if is_added(row["id"]):
            page.cell(number, 1).font = Font(name=FACE, size=10, italic=True)
    _choice(page, CRITERIA, "confirm", f'"{YES},{ABSENT}"', HEADER + 1, last)
    _choice(page, CRITERIA, "confirm", f'"{YES}"', last + 1, end)
    _choice(page, CRITERIA, "group", f"'{GROUPS}'!$B${HEADER + 1}:$B${HEADER + len(document['groups'])}", last + 1, end)
    kinds = ",".join(texts.say("vi", f"sheet.kind.{kind}") for kind in KINDS)
    _choice(page, CRITERIA, "kind", f'"{kinds}"', last + 1, end)
    ladders = {g["title"]["vi"]: g["levels"] for g in document["groups"]}
    at = HEADER + 1
    for group, mine in groupby(rows, key=lambda r: r["group"]):
        size = len(list(mine))
        _choice(page, CRITERIA, "new_level", _ladder(ladders[group]), at, at + size - 1, strict=False)
        at += size


def _groups(book: Workbook, document: Mapping[str, Any]) -> None:
    rows = reference(GROUPS, document)
    page = _table(book, GROUPS, document, rows)
    _choice(page, GROUPS, "confirm", f'"{COMPLETE},{INCOMPLETE}"', HEADER + 1, HEADER + len(rows))


def _annex(book: Workbook, document: Mapping[str, Any]) -> None:
    rows = reference(ANNEX, document)
    page = _table(book, ANNEX, document, rows)
    _choice(page, ANNEX, "confirm", f'"{YES}"', HEADER + 1, HEADER + len(rows))
    ladders = {g["id"]: g["levels"] for g in document["groups"]}
    before = None
    for number, row in enumerate(rows, HEADER + 1):
        _choice(page, ANNEX, "new_level", _ladder(ladders[row["id"]], NOTHING), number, number, strict=False)
        if row["overall"] != before:
            for column in range(1, len(COLUMNS[ANNEX]) + 1):
                page.cell(number, column).border = NEW_GROUP
        before = row["overall"]


# ------------------------------------------------------------------------------------------------ tables


def _table(
    book: Workbook, name: str, document: Mapping[str, Any], rows: Sequence[Mapping[str, str]], spare: int = 0
) -> Worksheet:
    """A page with its headings in row ``HEADER``, the pack's words locked and the hospital's columns open."""
    page: Worksheet = book.create_sheet(name)
    _sheet_setup(page, document, landscape=True)
    columns, filled = COLUMNS[name], FILLED[name]
    widths = [_id_width(rows) if column == "id" else width for column, width in zip(columns, WIDTHS[name], strict=True)]
    _put(page, "A1", document["title"]["vi"], size=13, bold=True, ink=INK, wrap=False)
    page.row_dimensions[1].height, page.row_dimensions[2].height = 21, 18
    _put(page, "A2", texts.say("vi", f"sheet.hint.{_key(name)}"), size=10, ink="595959", wrap=False, italic=True)
    for place, (column, width) in enumerate(zip(columns, widths, strict=True), 1):
        letter = get_column_letter(place)
        page.column_dimensions[letter].width = width
        _heading(page, f"{letter}{HEADER}", column, column in filled)
    page.row_dimensions[HEADER].height = 46
    for number, row in enumerate(rows, HEADER + 1):
        _line(page, number, columns, row, filled)
        page.row_dimensions[number].height = _height(row, columns, widths)
    for number in range(HEADER + len(rows) + 1, HEADER + len(rows) + spare + 1):
        _line(page, number, columns, {}, filled | {"group", "kind", "english"}, SPARE)
        page.row_dimensions[number].height = 24
    end = HEADER + len(rows) + spare
    page.auto_filter.ref = f"A{HEADER}:{get_column_letter(len(columns))}{HEADER + len(rows) + spare}"
    page.freeze_panes = f"B{HEADER + 1}"
    page.print_title_rows = f"{HEADER}:{HEADER}"
    printed_rows = HEADER + len(rows) + min(spare, 10)
    page.print_area = f"A1:{get_column_letter(columns.index(PRINTED[name]) + 1)}{min(end, printed_rows)}"
    page.protection.sheet = True
    for right in ("formatColumns", "formatRows", "autoFilter", "sort"):
        setattr(page.protection, right, False)  # False: not forbidden
    return page


def _line(
    page: Worksheet,
    number: int,
    columns: Sequence[str],
    row: Mapping[str, str],
    filled: frozenset[str],
    colour: str = FILL_IN,
) -> None:
    for place, column in enumerate(columns, 1):
        cell = page.cell(number, place)
        text = row.get(column, "")
        if text:
            cell.value = text
            cell.data_type = "s"  # a title that begins with "=" stays a title
        mine = column in filled
        cell.number_format = "@"  # text: 1-2 stays 1-2 and does not become a day in January
        cell.font = Font(name=FACE, size=11 if column == "title" or mine else 10)
        cell.alignment = MIDDLE if column in CENTRED else TO_THE_LEFT
        cell.border = BOX
        cell.fill = PatternFill("solid", fgColor=colour if mine else PALE if column == "id" else PAPER)
        cell.protection = Protection(locked=not mine)


def _heading(page: Worksheet, address: str, column: str, filled: bool) -> None:
    cell = page[address]
    cell.value = f"{texts.say('vi', f'sheet.head.{column}')}\n{texts.say('en', f'sheet.head.{column}')}"
    cell.font = Font(name=FACE, size=10, bold=True, color="5C4400" if filled else PAPER)
    cell.fill = PatternFill("solid", fgColor="FFE08A" if filled else INK)
    cell.alignment = Alignment(horizontal="center", vertical="center", wrap_text=True)
    cell.border = BOX


def _choice(page: Worksheet, name: str, column: str, list_: str, first: int, last: int, *, strict: bool = True) -> None:
    """A list to choose from. Not strict: other words may be typed, for example two levels at once."""
    if last < first or list_ == '""':
        return
    rule = DataValidation(type="list", formula1=list_, allow_blank=True, showErrorMessage=strict)
    rule.errorTitle, rule.error = texts.say("vi", "sheet.choice.title"), texts.say("vi", "sheet.choice.error")
    letter = get_column_letter(COLUMNS[name].index(column) + 1)
    rule.add(f"{letter}{first}:{letter}{last}")
    page.add_data_validation(rule)


def _ladder(levels: Sequence[str], *more: str) -> str:
    return '"' + ",".join([level_word(level) for level in levels] + list(more)) + '"'


def _key(name: str) -> str:
    return {CRITERIA: "criteria", GROUPS: "groups", ANNEX: "annex"}[name]


# --------------------------------------------------------------------------------------------------- looks


def _put(
    page: Worksheet,
    address: str,
    text: str,
    *,
    size: int = 11,
    bold: bool = False,
    italic: bool = False,
    ink: str = "000000",
    box: bool = False,
    wrap: bool = True,
) -> None:
    cell = page[address]
    cell.value = text
    cell.data_type = "s"
    cell.font = Font(name=FACE, size=size, bold=bold, italic=italic, color=ink)
    cell.alignment = Alignment(vertical="center", wrap_text=wrap and box)
    if box:
        cell.border = BOX


def _sheet_setup(page: Worksheet, document: Mapping[str, Any], *, landscape: bool) -> None:
    page.page_setup.paperSize = A4
    page.page_setup.orientation = "landscape" if landscape else "portrait"
    page.page_setup.fitToWidth, page.page_setup.fitToHeight = 1, 0
    page.sheet_properties.pageSetUpPr = PageSetupProperties(fitToPage=True)
    page.print_options.horizontalCentered = True
    page.page_margins.left = page.page_margins.right = 0.4
    page.page_margins.top, page.page_margins.bottom, page.page_margins.footer = 0.5, 0.75, 0.35
    page.oddFooter = HeaderFooterItem(
        left=_HeaderFooterPart(text=document["framework"]),
        right=_HeaderFooterPart(text=f"{texts.say('vi', 'sheet.footer')} &P/&N"),
    )
    page.sheet_view.showGridLines = False


def _id_width(rows: Sequence[Mapping[str, str]]) -> int:
    return min(30, max(11, max(len(row["id"]) for row in rows) + 1)) if rows else 11


def _lines(text: str, width: int) -> int:
    """How many lines a text takes in a column: Times runs a fifth narrower than the digits that a width counts."""
    return sum(max(1, -(-len(line) * 100 // (width * 118))) for line in text.split("\n")) if text else 0


def _height(row: Mapping[str, str], columns: Sequence[str], widths: Sequence[int]) -> float:
    """The points that a row needs on screen and on paper; the pack's longest cell decides."""
    lines = (_lines(row.get(column, ""), width - 1) for column, width in zip(columns, widths, strict=True))
    return 14.0 * max(1, *lines) + 6


def _steady(book: Workbook) -> bytes:
    """The package with its members in a fixed order and no time of day, so that it can be made again and compared."""
    raw, out = io.BytesIO(), io.BytesIO()
    book.save(raw)
    with zipfile.ZipFile(raw) as source, zipfile.ZipFile(out, "w") as target:
        for name in sorted(source.namelist(), key=lambda n: (n != "[Content_Types].xml", n)):
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type, member.create_system = zipfile.ZIP_DEFLATED, 0
            body = source.read(name)
            if name == "docProps/core.xml":
                body = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", b"2020-01-01T00:00:00Z", body)
            target.writestr(member, body, compresslevel=9)
    return out.getvalue()
