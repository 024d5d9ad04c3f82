"""The form of a Vietnamese administrative document (decree 30/2020/NĐ-CP, annexes I and III) as Word parts.

It knows paper, letters, rules and blocks, and no hospital. It refuses fonts other than Times New Roman, rules made of
underscores, and bytes that change when nothing changed: the same calls give the same file.
"""

from __future__ import annotations

import io
import re
import unicodedata
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import takewhile
from typing import Any
from xml.sax.saxutils import escape

from docx import Document
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.oxml.ns import nsdecls
from docx.oxml.parser import parse_xml

FONT = "Times New Roman"
NATION = "CỘNG HÒA XÃ HỘI CHỦ NGHĨA VIỆT NAM"
MOTTO = "Độc lập - Tự do - Hạnh phúc"
REPORT = "BÁO CÁO"
REPORT_CODE = "BC"
END_MARK = "./."
MINUTES, MINUTES_CODE = "BIÊN BẢN", "BB"

# Millimetres; each lies inside the range of annex I, part I.
PAGE_WIDTH, PAGE_HEIGHT = 210.0, 297.0
MARGIN_TOP, MARGIN_BOTTOM, MARGIN_LEFT, MARGIN_RIGHT = 20.0, 20.0, 30.0, 20.0
TEXT_WIDTH = PAGE_WIDTH - MARGIN_LEFT - MARGIN_RIGHT
HEADER_DISTANCE = 9.0  # the page number stands in the top margin

HEAD_LEFT, HEAD_RIGHT = 68.0, 92.0
RULE_SHARE = 0.42  # of the line above: the decree says one third to one half
CELL_MARGIN = 1.5
WHOLE_ROWS = 4  # tables of up to so many rows are never split over two pages

# A fixed offset, not a zone file: a minimal Debian has none, and Viet Nam has kept UTC+7 since 1975.
VIETNAM = timezone(timedelta(hours=7), "Asia/Ho_Chi_Minh")


# ------------------------------------------------------------------------------------- words and figures


def issue_date(day: date) -> str:
    """``ngày 01 tháng 8 năm 2025``: days below 10 and months 1 and 2 get a leading zero, no other month."""
    return f"ngày {day.day:02d} tháng {_month(day)} năm {day.year}"


def short_date(day: date) -> str:
    """``01/8/2025``, with the leading zeros of the decree."""
    return f"{day.day:02d}/{_month(day)}/{day.year}"


def _month(day: date) -> str:
    return f"{day.month:02d}" if day.month <= 2 else str(day.month)


def local_day(at: datetime) -> date:
    """The day it was in Viet Nam at a timezone-aware time."""
    return at.astimezone(VIETNAM).date()


def local_time(at: datetime) -> str:
    """``08 giờ 05 phút ngày 14/8/2025``, in Viet Nam's time."""
    there = at.astimezone(VIETNAM)
    return f"{there:%H} giờ {there:%M} phút ngày {short_date(there.date())}"


def number(value: float) -> str:
    """A figure as Vietnamese print has it: decimal comma, points between thousands, at most two decimals."""
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.2f}".rstrip("0").rstrip(".")
    return text.translate(str.maketrans(",.", ".,"))


def share(part: int, whole: int) -> str:
    """``21,8%`` with one decimal, or a dash where there is no whole."""
    return f"{part * 100 / whole:.1f}%".replace(".", ",") if whole else "-"


# --------------------------------------------------------------------------------------- how wide text is

# Advance widths of Times New Roman in thousandths of the size, for U+0020 to U+007E. Rules have to be as long as their
# line, or a third to a half of it, so a width must be known before Word sets the line.
_WIDTHS = {
    (False, False): (
        "250 333 408 500 500 833 778 180 333 333 500 564 250 333 250 278 500 500 500 500 500 500 500 500 500 500 278"
        " 278 564 564 564 444 921 722 667 667 722 611 556 722 722 333 389 722 611 889 722 722 556 722 667 556 611 722"
        " 722 944 722 722 611 333 278 333 469 500 333 444 500 444 500 444 333 500 500 278 278 500 278 778 500 500 500"
        " 500 333 389 278 500 500 722 500 500 444 480 200 480 541"
    ),
    (True, False): (
        "250 333 555 500 500 1000 833 278 333 333 500 570 250 333 250 278 500 500 500 500 500 500 500 500 500 500 333"
        " 333 570 570 570 500 930 722 667 722 722 667 611 778 778 389 500 778 667 944 722 778 611 778 722 556 667 722"
        " 722 1000 722 722 667 333 278 333 581 500 333 500 556 444 556 444 333 500 556 278 333 556 278 833 556 500 556"
        " 556 444 389 333 556 500 722 500 500 444 394 220 394 520"
    ),
    (False, True): (
        "250 333 420 500 500 833 778 214 333 333 500 675 250 333 250 278 500 500 500 500 500 500 500 500 500 500 333"
        " 333 675 675 675 500 920 611 611 667 722 611 611 722 722 333 444 667 556 833 667 722 611 722 611 500 556 722"
        " 611 833 611 556 556 389 278 389 422 500 333 500 500 444 500 444 278 500 500 278 278 444 278 722 500 500 500"
        " 500 389 389 278 500 444 667 444 444 389 400 275 400 541"
    ),
    (True, True): (
        "250 389 555 500 500 833 778 278 333 333 500 570 250 333 250 278 500 500 500 500 500 500 500 500 500 500 333"
        " 333 570 570 570 500 832 667 667 667 722 667 667 722 778 389 500 667 611 889 722 722 611 722 667 556 611 722"
        " 667 889 667 611 611 333 278 333 570 500 333 500 500 444 500 444 333 500 556 278 278 500 278 778 556 500 500"
        " 500 389 389 278 556 444 667 500 444 389 348 220 348 570"
    ),
}
_ADVANCE = {face: tuple(int(w) for w in row.split()) for face, row in _WIDTHS.items()}
_OTHER = {"Đ": "D", "đ": "d", "Ơ": "O", "ơ": "o", "Ư": "U", "ư": "u", "–": "n", "“": "c", "”": "c", "×": "+"}


def text_width(text: str, points: float, *, bold: bool = False, italic: bool = False) -> float:
    """Millimetres a line of Times New Roman takes; tone marks take none. Within about 1 % for Vietnamese."""
    advance = _ADVANCE[bold, italic]
    total = 0
    for letter in unicodedata.normalize("NFC", text):
        base = _OTHER.get(letter) or unicodedata.normalize("NFD", letter)[0]
        at = ord(base) - 0x20
        total += advance[at] if 0 <= at < len(advance) else 500
        if "\u031b" in unicodedata.normalize("NFD", letter):
            total += 42  # the horn of ơ and ư stands out to the right
    return total * points / 1000 * 25.4 / 72


def wrap(text: str, width: float, points: float, *, bold: bool = False, italic: bool = False) -> list[str]:
    """The lines a text falls into within ``width`` millimetres, as a word processor breaks them."""
    lines: list[str] = []
    for word in re.findall(r"\S+\s*", text):
        trial = lines[-1] + word if lines else word
        if lines and text_width(trial.rstrip(), points, bold=bold, italic=italic) <= width:
            lines[-1] = trial
        else:
            lines.append(word)
    return [line.rstrip() for line in lines]


def even_measure(phrases: Sequence[str], width: float, points: float, *, bold: bool = False) -> float:
    """The measure, at most ``width`` millimetres, in which a centred text looks best.

    It takes no more lines than it must, keeps its phrases whole where it can, and then has lines of like length.
    """
    text = " ".join(phrases)
    ends = {" ".join(phrases[: i + 1]) for i in range(len(phrases))}
    found: dict[tuple[str, ...], list[int]] = {}
    for measure in range(int(width / 4), int(width) + 1):
        found.setdefault(tuple(wrap(text, measure, points, bold=bold)), []).append(measure)

    def worth(lines: tuple[str, ...]) -> tuple[int, int, float]:
        cuts = [" ".join(lines[: i + 1]) for i in range(len(lines) - 1)]
        return len(lines), sum(cut not in ends for cut in cuts), max(text_width(x, points, bold=bold) for x in lines)

    measures = found[min(found, key=worth)]
    # Some slack, so that another reader's rounding does not move a word to the next line.
    return measures[0] + min(3.0, (measures[-1] - measures[0]) / 2)


# ------------------------------------------------------------------------------------------- Word's XML


def twips(millimetres: float) -> int:
    """Twentieths of a point, Word's own measure."""
    return round(millimetres * 1440 / 25.4)


@dataclass(frozen=True)
class Style:
    """One paragraph style; sizes in points, indents in millimetres, spacing in points."""

    id: str
    name: str
    points: float = 14
    bold: bool = False
    italic: bool = False
    align: str = "both"
    first_line: float = 0
    before: float = 0
    after: float = 0
    line: int = 240  # 240ths of a line
    keep_next: bool = False
    outline: int | None = None  # the level in Word's navigation pane

    def xml(self) -> str:
        """The ``w:style`` element."""
        keep = "<w:keepNext/>" if self.keep_next else ""
        level = f'<w:outlineLvl w:val="{self.outline}"/>' if self.outline is not None else ""
        return (
            f'<w:style {nsdecls("w")} w:type="paragraph" w:customStyle="1" w:styleId="{self.id}">'
            f'<w:name w:val="{self.name}"/><w:basedOn w:val="Normal"/><w:qFormat/>'
            f"<w:pPr>{keep}<w:widowControl/>"
            f'<w:spacing w:before="{round(self.before * 20)}" w:after="{round(self.after * 20)}"'
            f' w:line="{self.line}" w:lineRule="auto"/>'
            f'<w:ind w:left="0" w:right="0" w:firstLine="{twips(self.first_line)}"/>'
            f'<w:jc w:val="{self.align}"/>{level}</w:pPr><w:rPr>{_face(self)}</w:rPr></w:style>'
        )


def _face(style: Style) -> str:
    bold = "<w:b/><w:bCs/>" if style.bold else ""
    italic = "<w:i/><w:iCs/>" if style.italic else ""
    size = round(style.points * 2)
    return f'{bold}{italic}<w:sz w:val="{size}"/><w:szCs w:val="{size}"/>'


def _heading_style(id_: str, name: str, *, before: float, outline: int) -> Style:
    return Style(
        id_,
        name,
        bold=True,
        align="left",
        first_line=12.7,
        before=before,
        after=6,
        line=276,
        keep_next=True,
        outline=outline,
    )


STYLES: dict[str, Style] = {
    style.id: style
    for style in (
        Style("CoQuanChuQuan", "Cơ quan chủ quản", 12, align="center"),
        Style("CoQuanBanHanh", "Cơ quan ban hành", 12, bold=True, align="center"),
        Style("QuocHieu", "Quốc hiệu", 12, bold=True, align="center"),
        Style("TieuNgu", "Tiêu ngữ", 13, bold=True, align="center"),
        Style("SoKyHieu", "Số, ký hiệu", 13, align="center", before=8),
        Style("DiaDanhNgay", "Địa danh, thời gian", 13, italic=True, align="center", before=8),
        Style("TenLoai", "Tên loại văn bản", 14, bold=True, align="center", before=18, keep_next=True),
        Style("TrichYeu", "Trích yếu", 14, bold=True, align="center", keep_next=True),
        Style("DuongKe", "Đường kẻ", 2, align="center"),
        Style("KinhGui", "Kính gửi", 14, align="center", before=12, after=12),
        Style("CanCu", "Căn cứ", 14, italic=True, first_line=12.7, after=6, line=276),
        Style("NoiDung", "Nội dung", 14, first_line=12.7, after=6, line=276),
        _heading_style("Muc", "Mục", before=6, outline=0),
        _heading_style("Khoan", "Khoản có tiêu đề", before=0, outline=1),
        Style("TenBang", "Tên bảng", 14, bold=True, align="center", before=6, after=6, keep_next=True),
        Style("DauBang", "Đầu bảng", 12, bold=True, align="center", before=2, after=2),
        Style("OBang", "Ô bảng", 12, align="left", before=2, after=2),
        Style("OBangGiua", "Ô bảng giữa", 12, align="center", before=2, after=2),
        Style("OBangDam", "Ô bảng đậm", 12, bold=True, align="left", before=2, after=2, keep_next=True),
        Style("SauBang", "Sau bảng", 6, after=0),
        Style("NoiNhan", "Nơi nhận", 12, bold=True, italic=True, align="left"),
        Style("DongNoiNhan", "Dòng nơi nhận", 11, align="left"),
        Style("NguoiKy", "Người ký", 14, bold=True, align="center"),
        Style("ChoKy", "Chỗ ký", 14, align="center"),
        Style("PhuLuc", "Phụ lục", 14, bold=True, align="center", keep_next=True, outline=0),
        Style("TenPhuLuc", "Tên phụ lục", 14, bold=True, align="center", keep_next=True),
        Style("KemTheo", "Kèm theo", 14, italic=True, align="center", keep_next=True),
        Style("SoTrang", "Số trang", 13, align="center"),
    )
}


def run(text: str, *, bold: bool = False, italic: bool = False) -> str:
    """One run of text; the face comes from the style of its paragraph unless it is asked for here."""
    marks = ("<w:b/><w:bCs/>" if bold else "") + ("<w:i/><w:iCs/>" if italic else "")
    face = f"<w:rPr>{marks}</w:rPr>" if marks else ""
    return f'<w:r>{face}<w:t xml:space="preserve">{escape(_clean(text))}</w:t></w:r>'


def _clean(text: str) -> str:
    """NFC, one line, and none of the control characters that XML cannot hold."""
    flat = " ".join(text.splitlines()) if "\n" in text or "\r" in text else text
    kept = "".join(c for c in flat if c in "\u00a0\t" or unicodedata.category(c) not in {"Cc", "Cs", "Cn"})
    return unicodedata.normalize("NFC", kept)


def paragraph(style: str, text: str = "", *, side: float = 0, rule: bool = False, keep: bool = False) -> str:
    """One paragraph. ``side`` indents it on both sides, in millimetres; ``rule`` draws a line along its top."""
    return paragraph_of(style, [run(text)] if text else [], side=side, rule=rule, keep=keep)


def paragraph_of(style: str, runs: Iterable[str], *, side: float = 0, rule: bool = False, keep: bool = False) -> str:
    """One paragraph of runs; see :func:`paragraph`. ``keep`` holds it on the page of what follows."""
    hold = "<w:keepNext/>" if keep else ""
    border = '<w:pBdr><w:top w:val="single" w:sz="6" w:space="0" w:color="000000"/></w:pBdr>' if rule else ""
    tight = '<w:spacing w:before="40" w:after="0" w:line="60" w:lineRule="exact"/>' if rule else ""
    indent = f'<w:ind w:left="{twips(side)}" w:right="{twips(side)}"/>' if side else ""
    layout = f'<w:pStyle w:val="{style}"/>{hold}{border}{tight}{indent}'
    return f"<w:p><w:pPr>{layout}</w:pPr>{''.join(runs)}</w:p>"


def rule_under(length: float, room: float) -> str:
    """A drawn line of ``length`` millimetres, centred in ``room``: a paragraph border, so that every reader agrees."""
    return paragraph("DuongKe", side=max(0.0, (room - length) / 2), rule=True)


# ------------------------------------------------------------------------------------------------ tables


@dataclass(frozen=True)
class Column:
    """A column of a ruled table; ``width`` in millimetres, ``align`` left or center."""

    title: str
    width: float
    align: str = "left"


@dataclass(frozen=True)
class Span:
    """A row of one cell over the whole width, set bold: it names what the rows below belong to."""

    text: str


Row = Sequence[str | None] | Span
"""The cells of a row from left to right; None widens the cell before it."""


def ruled_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """A table with black lines whose header repeats on every page and whose rows do not split over two.

    A table of few rows stays on one page; ``\\n`` in a cell begins a new line.
    """
    whole = len(rows) <= WHOLE_ROWS
    header = "".join(_cell(c.width, paragraph("DauBang", c.title, keep=whole), shade=True) for c in columns)
    head = f"<w:tr><w:trPr><w:cantSplit/><w:tblHeader/></w:trPr>{header}</w:tr>"
    body = "".join(_row(columns, row, keep=whole and i < len(rows)) for i, row in enumerate(rows, 1))
    return _table([c.width for c in columns], head + body, ruled=True)


def _row(columns: Sequence[Column], row: Row, *, keep: bool) -> str:
    if isinstance(row, Span):
        width = sum(c.width for c in columns)
        cells = _cell(width, paragraph("OBangDam", row.text), span=len(columns))
    else:
        cells = "".join(_wide_cell(columns, row, at, keep=keep) for at, text in enumerate(row) if text is not None)
    return f"<w:tr><w:trPr><w:cantSplit/></w:trPr>{cells}</w:tr>"


def _wide_cell(columns: Sequence[Column], row: Sequence[str | None], at: int, *, keep: bool) -> str:
    span = 1 + sum(1 for _ in takewhile(lambda text: text is None, row[at + 1 :]))
    width = sum(c.width for c in columns[at : at + span])
    style = "OBangGiua" if columns[at].align == "center" else "OBang"
    return _cell(width, _lines(style, row[at] or "", keep=keep), span=span)


def _lines(style: str, text: str, *, keep: bool) -> str:
    return paragraph_of(style, [_broken(text.split("\n"))], keep=keep)


def _cell(width: float, content: str, *, span: int = 1, shade: bool = False, plain: bool = False) -> str:
    merged = f'<w:gridSpan w:val="{span}"/>' if span > 1 else ""
    fill = '<w:shd w:val="clear" w:color="auto" w:fill="F2F2F2"/>' if shade else ""
    place = "" if plain else '<w:vAlign w:val="center"/>'
    return f'<w:tc><w:tcPr><w:tcW w:w="{twips(width)}" w:type="dxa"/>{merged}{fill}{place}</w:tcPr>{content}</w:tc>'


def _table(widths: Sequence[float], rows: str, *, ruled: bool) -> str:
    sides = ("top", "left", "bottom", "right", "insideH", "insideV")
    line = 'w:val="single" w:sz="4" w:space="0" w:color="000000"' if ruled else 'w:val="nil"'
    borders = "".join(f"<w:{side} {line}/>" for side in sides)
    margin = twips(CELL_MARGIN) if ruled else 0
    grid = "".join(f'<w:gridCol w:w="{twips(w)}"/>' for w in widths)
    return (
        f'<w:tbl {nsdecls("w")}><w:tblPr><w:tblW w:w="{sum(twips(w) for w in widths)}" w:type="dxa"/>'
        f'<w:jc w:val="center"/><w:tblBorders>{borders}</w:tblBorders><w:tblLayout w:type="fixed"/>'
        f'<w:tblCellMar><w:left w:w="{margin}" w:type="dxa"/><w:right w:w="{margin}" w:type="dxa"/></w:tblCellMar>'
        f"</w:tblPr><w:tblGrid>{grid}</w:tblGrid>{rows}</w:tbl>"
    )


# ------------------------------------------------------------------------------------------------ blocks


@dataclass(frozen=True)
class Head:
    """Boxes 1 to 4: who writes, under which symbol, where and when. ``symbol`` is what follows the number."""

    parent: str
    issuer: str
    symbol: str  # BC-BVNT
    place: str
    issued_on: date


@dataclass(frozen=True)
class Signature:
    """Boxes 7 and 9b. The name is left to the person who signs."""

    title: str
    recipients: Sequence[str]
    archive: str  # Lưu: VT, HCTH


class Paper:
    """An A4 document that is filled from the top; :meth:`to_bytes` closes it."""

    def __init__(self, *, title: str, author: str, at: datetime) -> None:
        self._document = Document()
        self._at = at
        self._title, self._author = title, author
        _lean(self._document)
        self._parts: list[str] = []
        self.tables = 0  # captioned tables so far, for references in the text

    def add(self, *parts: str) -> None:
        """Append paragraphs and tables made by the functions of this module."""
        self._parts.extend(parts)

    def head(self, head: Head) -> None:
        """Two columns: parent, issuer and number on the left; country, motto, place and date on the right."""
        left = paragraph("CoQuanChuQuan", head.parent.upper())
        left += _centred("CoQuanBanHanh", [head.issuer.upper()], HEAD_LEFT)
        right = (
            paragraph("QuocHieu", NATION)
            + paragraph("TieuNgu", MOTTO)
            + rule_under(text_width(MOTTO, 13, bold=True), HEAD_RIGHT)
        )
        number_line = paragraph("SoKyHieu", f"Số:        /{head.symbol}")
        date_line = paragraph("DiaDanhNgay", f"{head.place}, {issue_date(head.issued_on)}")
        rows = "".join(
            f"<w:tr><w:trPr><w:cantSplit/></w:trPr>"
            f"{_cell(HEAD_LEFT, a, plain=True)}{_cell(HEAD_RIGHT, b, plain=True)}</w:tr>"
            for a, b in ((left, right), (number_line, date_line))
        )
        self.add(_table([HEAD_LEFT, HEAD_RIGHT], rows, ruled=False))

    def name(self, kind: str, phrases: Sequence[str]) -> None:
        """Box 5a: the type of the document, its subject in phrases that stay whole where they can, the rule below."""
        self.add(paragraph("TenLoai", kind), _centred("TrichYeu", phrases, TEXT_WIDTH))

    def addressee(self, name: str) -> None:
        """Box 9a, for one addressee: on the line of the words themselves."""
        self.add(paragraph("KinhGui", f"Kính gửi: {name}."))

    def bases(self, lines: Sequence[str]) -> None:
        """Legal bases in italics, one a line, ``;`` after each and ``.`` after the last."""
        for index, line in enumerate(lines):
            end = "." if index == len(lines) - 1 else ";"
            self.add(paragraph("CanCu", line.rstrip(" ;.") + end))

    def table(self, caption: str, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        """A captioned table and the breath after it."""
        self.tables += 1
        self.add(paragraph("TenBang", caption), ruled_table(columns, rows), paragraph("SauBang"))

    def signature(self, signature: Signature) -> None:
        """Recipients on the left, title and room to sign on the right; the block stays on one page."""
        half = TEXT_WIDTH / 2
        lines = ["Như trên", *(_bare(r) for r in signature.recipients)]
        listed = "".join(paragraph("DongNoiNhan", f"- {line};") for line in dict.fromkeys(lines) if line)
        left = paragraph("NoiNhan", "Nơi nhận:") + listed
        left += paragraph("DongNoiNhan", f"- {_bare(signature.archive)}.")
        right = paragraph("NguoiKy", signature.title.upper()) + paragraph("ChoKy") * 5
        row = (
            f"<w:tr><w:trPr><w:cantSplit/></w:trPr>"
            f"{_cell(half, left, plain=True)}{_cell(half, right, plain=True)}</w:tr>"
        )
        self.add(paragraph("SauBang", keep=True), _table([half, half], row, ruled=False))

    def two_signatures(self, left: str, right: str, recipients: Sequence[str], archive: str) -> None:
        """The end of minutes: two titles with room to sign side by side, and below them who gets a copy."""
        half = TEXT_WIDTH / 2
        blocks = (paragraph("NguoiKy", title.upper()) + paragraph("ChoKy") * 5 for title in (left, right))
        cells = "".join(_cell(half, block, plain=True) for block in blocks)
        row = f"<w:tr><w:trPr><w:cantSplit/></w:trPr>{cells}</w:tr>"
        self.add(paragraph("SauBang", keep=True), _table([half, half], row, ruled=False))
        listed = "".join(paragraph("DongNoiNhan", f"- {_bare(line)};") for line in recipients)
        self.add(paragraph("NoiNhan", "Nơi nhận:") + listed + paragraph("DongNoiNhan", f"- {_bare(archive)}."))

    def annex(self, word: str, title: str, reference: Sequence[str]) -> None:
        """Begin an annex: a page of its own, numbered from 1 again; ``reference`` in lines."""
        # A section ends in the properties of its last paragraph.
        self._parts.append(paragraph("SauBang").replace("</w:pPr>", f"{_section(1)}</w:pPr>"))
        self.add(paragraph("PhuLuc", word))
        self.add(paragraph("TenPhuLuc", title.upper()), _centred("KemTheo", reference, TEXT_WIDTH, broken=True))
        self.add(paragraph("SauBang"))

    def to_bytes(self) -> bytes:
        """The ``.docx``. Raises nothing of its own; the same content gives the same bytes."""
        body = self._document.element.body
        for child in list(body):
            body.remove(child)
        wrapped = parse_xml(f"<w:body {nsdecls('w', 'r')}>{''.join(self._parts)}{_section(1)}</w:body>")
        for child in list(wrapped):
            body.append(child)
        _page_numbers(self._document)
        _properties(self._document, self._title, self._author, self._at)
        return _steady_zip(self._document)


def _centred(style: str, phrases: Sequence[str], room: float, *, broken: bool = False) -> str:
    """A centred text in even lines, and a rule of a third to a half of its longest line.

    ``broken`` begins a new line with every phrase instead.
    """
    look = STYLES[style]
    measure = room if broken else even_measure(phrases, room, look.points, bold=look.bold)
    texts = phrases if broken else [" ".join(phrases)]
    lines = [line for text in texts for line in wrap(text, measure, look.points, bold=look.bold, italic=look.italic)]
    longest = max(text_width(line, look.points, bold=look.bold, italic=look.italic) for line in lines)
    text = _broken(texts)
    return paragraph_of(style, [text], side=(room - measure) / 2) + rule_under(RULE_SHARE * longest, room)


def _broken(lines: Sequence[str]) -> str:
    return "<w:r><w:br/></w:r>".join(run(line) for line in lines)


def _bare(line: str) -> str:
    return line.strip().lstrip("-").strip().rstrip(";.").strip()


# ------------------------------------------------------------------------------------------- the package


def _section(first_page: int) -> str:
    """One section: A4, the margins of the decree, numbers from ``first_page``, none on its first page."""
    return (
        f'<w:sectPr {nsdecls("w")}><w:type w:val="nextPage"/>'
        f'<w:pgSz w:w="{twips(PAGE_WIDTH)}" w:h="{twips(PAGE_HEIGHT)}"/>'
        f'<w:pgMar w:top="{twips(MARGIN_TOP)}" w:right="{twips(MARGIN_RIGHT)}" w:bottom="{twips(MARGIN_BOTTOM)}"'
        f' w:left="{twips(MARGIN_LEFT)}" w:header="{twips(HEADER_DISTANCE)}" w:footer="{twips(HEADER_DISTANCE)}"'
        f' w:gutter="0"/><w:pgNumType w:fmt="decimal" w:start="{first_page}"/><w:titlePg/></w:sectPr>'
    )


def _page_numbers(document: Any) -> None:
    """The PAGE field, centred in the top margin of every page but the first of a section."""
    field = (
        '<w:r><w:fldChar w:fldCharType="begin"/></w:r>'
        '<w:r><w:instrText xml:space="preserve"> PAGE </w:instrText></w:r>'
        '<w:r><w:fldChar w:fldCharType="separate"/></w:r><w:r><w:t>2</w:t></w:r>'
        '<w:r><w:fldChar w:fldCharType="end"/></w:r>'
    )
    xml = f'<w:p {nsdecls("w")}><w:pPr><w:pStyle w:val="SoTrang"/></w:pPr>{field}</w:p>'
    header = document.sections[0].header
    header.is_linked_to_previous = False
    for child in list(header._element):
        header._element.remove(child)
    header._element.append(parse_xml(xml))


_DROPPED = ("theme", "numbering", "webSettings", "customXml", "stylesWithEffects", "thumbnail")


def _lean(document: Any) -> None:
    """Take python-docx's template down to what we mean: no theme, no foreign font, no style we did not write."""
    for owner in (document.part, document.part.package):
        for key, relation in list(owner.rels.items()):
            if relation.reltype.rsplit("/", 1)[-1] in _DROPPED:
                del owner.rels[key]
            elif relation.reltype == RELATIONSHIP_TYPE.FONT_TABLE:
                relation.target_part._blob = _FONT_TABLE.encode()
            elif relation.reltype == RELATIONSHIP_TYPE.EXTENDED_PROPERTIES:
                relation.target_part._blob = _APP.encode()
    styles = document.styles.element
    for child in list(styles):
        styles.remove(child)
    for xml in (_DEFAULTS, *_BASE_STYLES, *(style.xml() for style in STYLES.values())):
        styles.append(parse_xml(xml))
    settings = document.settings.element
    for child in list(settings):
        settings.remove(child)
    for xml in _SETTINGS:
        settings.append(parse_xml(xml))


_FONTS = " ".join(f'w:{slot}="{FONT}"' for slot in ("ascii", "hAnsi", "eastAsia", "cs"))
_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_FONT_TABLE = (
    f'{_XML}<w:fonts {nsdecls("w")}><w:font w:name="{FONT}"><w:panose1 w:val="02020603050405020304"/>'
    '<w:charset w:val="00"/><w:family w:val="roman"/><w:pitch w:val="variable"/></w:font></w:fonts>'
)
_APP = (
    f'{_XML}<Properties xmlns="http://schemas.openxmlformats.org/officeDocument/2006/extended-properties">'
    "<Application>Microsoft Office Word</Application><AppVersion>16.0000</AppVersion></Properties>"
)
_DEFAULTS = (
    f'<w:docDefaults {nsdecls("w")}><w:rPrDefault><w:rPr><w:rFonts {_FONTS}/><w:color w:val="000000"/>'
    '<w:sz w:val="28"/><w:szCs w:val="28"/><w:lang w:val="vi-VN" w:eastAsia="vi-VN" w:bidi="ar-SA"/></w:rPr>'
    '</w:rPrDefault><w:pPrDefault><w:pPr><w:spacing w:before="0" w:after="0" w:line="240" w:lineRule="auto"/></w:pPr>'
    "</w:pPrDefault></w:docDefaults>"
)
_BASE_STYLES = (
    f'<w:style {nsdecls("w")} w:type="paragraph" w:default="1" w:styleId="Normal"><w:name w:val="Normal"/><w:qFormat/>'
    f"<w:rPr><w:rFonts {_FONTS}/></w:rPr></w:style>",
    f'<w:style {nsdecls("w")} w:type="character" w:default="1" w:styleId="DefaultParagraphFont">'
    '<w:name w:val="Default Paragraph Font"/></w:style>',
    f'<w:style {nsdecls("w")} w:type="table" w:default="1" w:styleId="TableNormal"><w:name w:val="Normal Table"/>'
    '<w:tblPr><w:tblInd w:w="0" w:type="dxa"/></w:tblPr></w:style>',
    f'<w:style {nsdecls("w")} w:type="paragraph" w:styleId="Header"><w:name w:val="header"/>'
    '<w:basedOn w:val="Normal"/></w:style>',
)
_SETTINGS = (
    f'<w:zoom {nsdecls("w")} w:percent="100"/>',
    f'<w:defaultTabStop {nsdecls("w")} w:val="720"/>',
    f'<w:characterSpacingControl {nsdecls("w")} w:val="doNotCompress"/>',
    f'<w:compat {nsdecls("w")}><w:compatSetting w:name="compatibilityMode"'
    ' w:uri="http://schemas.microsoft.com/office/word" w:val="15"/></w:compat>',
    f'<w:themeFontLang {nsdecls("w")} w:val="vi-VN"/>',
    f'<w:decimalSymbol {nsdecls("w")} w:val=","/>',
    f'<w:listSeparator {nsdecls("w")} w:val=";"/>',
)


def _properties(document: Any, title: str, author: str, at: datetime) -> None:
    """Who and when, from the content; python-docx would leave its own name and a day in 2013."""
    core = document.core_properties
    core.title, core.author, core.subject = _clean(title)[:255], _clean(author)[:255], ""
    core.last_modified_by, core.comments, core.keywords = _clean(author)[:255], "", ""
    core.language, core.revision, core.version = "vi-VN", 1, ""
    there = at.astimezone(UTC).replace(tzinfo=None, microsecond=0)
    core.created = core.modified = there


def _steady_zip(document: Any) -> bytes:
    """The package with members in a fixed order and no time of day: a report can be made again and compared."""
    raw = io.BytesIO()
    document.save(raw)
    out = io.BytesIO()
    with zipfile.ZipFile(raw) as source, zipfile.ZipFile(out, "w") as target:
        for name in sorted(source.namelist(), key=lambda n: (n != "[Content_Types].xml", n)):
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 0
            target.writestr(member, source.read(name), compresslevel=9)
    return out.getvalue()
