"""Reads a ``.docx`` and names everything in it that is not in the form of decree 30/2020/NĐ-CP, annex I.

It judges form, never content, and changes nothing. A file that is no Word document, or is made to exhaust the machine,
is refused with one sentence. It never raises for what is in a file.
"""

from __future__ import annotations

import io
import posixpath
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

from docx.oxml.ns import qn
from docx.oxml.parser import parse_xml

from controlplane.domain.model import Words
from controlplane.reports import nd30

MAX_FILE_BYTES = 20 * 1024 * 1024
MAX_UNPACKED_BYTES = 30 * 1024 * 1024  # of all the parts that are read together
MAX_MEMBERS = 1000
MAX_PARAGRAPHS = 20_000
MAX_SECTIONS = 200


@dataclass(frozen=True)
class Fault:
    """One departure from the decree: the rule's name, and a sentence for whoever has to mend it."""

    rule: str
    words: Words


def lint_file(path: Path) -> tuple[Fault, ...]:
    """:func:`lint` on a file; one that cannot be read is a fault too."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return (_fault("file.size", most=MAX_FILE_BYTES // 1024**2),)
        data = path.read_bytes()
    except OSError as error:
        return (_fault("file.read", why=error.strerror or type(error).__name__),)
    return lint(data)


def lint(data: bytes) -> tuple[Fault, ...]:
    """Every fault of the document, in the order of the decree; an empty tuple when it is in form."""
    try:
        word = _open(data)
    except _RefusedError as refused:
        return (_fault(refused.key, most=MAX_FILE_BYTES // 1024**2),)
    found: list[Fault] = []
    for rules in (_page, _page_numbers, _letters, _head, _title, _addressee, _bases, _body, _closing, _annexes):
        found.extend(rules(word))
    return tuple(found)


# -------------------------------------------------------------------------------------------- the package


class _RefusedError(Exception):
    """The file is not judged at all; ``key`` names the sentence."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class _Package:
    """The parts of the file, unpacked one by one and never beyond a limit, whatever the directory claims."""

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_FILE_BYTES:
            raise _RefusedError("file.size")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            self._names = set(self._zip.namelist())
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError) as error:
            raise _RefusedError("file.word") from error
        if len(self._names) > MAX_MEMBERS:
            raise _RefusedError("file.size")
        self._left = MAX_UNPACKED_BYTES
        self._read: dict[str, Any] = {}

    def part(self, name: str) -> Any | None:
        """The parsed XML of a part, or None when the package lacks it."""
        if name in self._names and name not in self._read:
            self._read[name] = self._parse(name)
        return self._read.get(name)

    def _parse(self, name: str) -> Any:
        try:
            with self._zip.open(name) as stream:
                data = stream.read(self._left + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
            raise _RefusedError("file.word") from error
        self._left -= len(data)
        if self._left < 0:
            raise _RefusedError("file.size")
        try:
            root: Any = parse_xml(data)
        except (SyntaxError, ValueError) as error:  # the parser's own error is a SyntaxError
            raise _RefusedError("file.word") from error
        if root.getroottree().docinfo.doctype:
            raise _RefusedError("file.word")  # OOXML has no DTD; entities are how XML bombs are made
        return root

    def targets(self, part: str) -> dict[str, tuple[str, str]]:
        """Relationship id -> (kind, name of the part it leads to)."""
        folder, name = posixpath.split(part)
        root = self.part(posixpath.join(folder, "_rels", f"{name}.rels"))
        found = {}
        for relation in root if root is not None else ():
            kind = str(relation.get("Type", "")).rsplit("/", 1)[-1]
            target = str(relation.get("Target", ""))
            path = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
            found[str(relation.get("Id", ""))] = (kind, path)
        return found


# ------------------------------------------------------------------------------------------- what is read


@dataclass(frozen=True)
class _Run:
    text: str
    points: float
    bold: bool
    italic: bool
    underline: bool
    colour: str
    fonts: frozenset[str]


@dataclass(frozen=True)
class _Place:
    """Where a paragraph stands: table, row and cell counted from 0; -1 outside tables. ``room`` in millimetres."""

    section: int
    table: int = -1
    row: int = -1
    cell: int = -1
    room: float = nd30.TEXT_WIDTH


@dataclass(frozen=True)
class _Para:
    index: int
    text: str
    typed: tuple[str, ...]  # its text, split where the writer broke the line
    runs: tuple[_Run, ...]
    place: _Place
    room: float  # millimetres its lines may take
    align: str
    first_line: float  # millimetres
    before: float  # points
    after: float
    line: float | None  # lines; None when the height is fixed in points
    rule: float | None  # millimetres of a drawn line that belongs to this paragraph
    before_table: bool = False

    def all(self, test: Callable[[_Run], bool]) -> bool:
        """Whether every run that shows something passes."""
        return all(test(run) for run in self.runs if run.text.strip())


@dataclass
class _Word:
    """The document as far as the rules need it."""

    paras: list[_Para]
    sections: list[Any]
    headers: list[dict[str, Any]]  # per section: kind (default, first, footer) -> part
    styles: _Styles
    blocks: dict[str, _Para] = field(default_factory=dict)

    def cell(self, place: _Place) -> list[_Para]:
        """The paragraphs of one table cell that show text."""
        key = (place.table, place.row, place.cell)
        return [p for p in self.paras if (p.place.table, p.place.row, p.place.cell) == key and p.text]


def _open(data: bytes) -> _Word:
    package = _Package(data)
    mains = [name for kind, name in package.targets("").values() if kind == "officeDocument"]
    main = mains[0] if mains else "word/document.xml"
    root = package.part(main)
    body = root.find(qn("w:body")) if root is not None else None
    if body is None:
        raise _RefusedError("file.word")
    targets = package.targets(main)
    named = [name for kind, name in targets.values() if kind == "styles"]
    styles = _Styles(package.part(named[0]) if named else None)
    paras, sections = _read(body, styles)
    if not sections:
        raise _RefusedError("file.word")
    headers = _headers(package, targets, sections)
    word = _Word(paras, sections, headers, styles)
    word.blocks = _find_blocks(word)
    return word


def _headers(
    package: _Package, targets: Mapping[str, tuple[str, str]], sections: Sequence[Any]
) -> list[dict[str, Any]]:
    """What stands in the margins of each section; a section without its own has those of the one before."""
    result: list[dict[str, Any]] = []
    current: dict[str, Any] = {}
    for section in sections:
        current = dict(current)
        for tag in ("header", "footer"):
            for reference in section.findall(qn(f"w:{tag}Reference")):
                _, name = targets.get(str(reference.get(qn("r:id"))), ("", ""))
                current[f"{tag}.{reference.get(qn('w:type'), 'default')}"] = package.part(name)
        result.append(current)
    return result


def _number(value: Any) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


def _flag(element: Any | None) -> bool | None:
    if element is None:
        return None
    return str(element.get(qn("w:val"), "true")).lower() not in {"0", "false", "off", "none"}


class _Styles:
    """Style inheritance, as far as the rules look: paragraph and run properties, nearest first."""

    def __init__(self, root: Any | None) -> None:
        self._by_id: dict[str, Any] = {}
        self._default = ""
        self._defaults: list[Any] = []
        for style in root.findall(qn("w:style")) if root is not None else ():
            self._by_id[str(style.get(qn("w:styleId")))] = style
            if style.get(qn("w:type")) == "paragraph" and style.get(qn("w:default")) in {"1", "true"}:
                self._default = str(style.get(qn("w:styleId")))
        defaults = root.find(qn("w:docDefaults")) if root is not None else None
        if defaults is not None:
            self._defaults = [e for e in defaults.iter() if e.tag in {qn("w:rPr"), qn("w:pPr")}]

    def chain(self, owner: Any | None, tag: str, paragraph: Any | None = None) -> list[Any]:
        """The ``w:pPr`` or ``w:rPr`` elements that say something about a paragraph or run, nearest first."""
        found = [owner] if owner is not None else []
        if tag == "rPr" and owner is not None:
            found += self._of_style(owner.find(qn("w:rStyle")), tag)
        base = paragraph if tag == "rPr" else owner
        named = base.find(qn("w:pStyle")) if base is not None else None
        found += self._of_style(named, tag)
        return found + [e for e in self._defaults if e.tag == qn(f"w:{tag}")]

    def _of_style(self, named: Any | None, tag: str) -> list[Any]:
        name = str(named.get(qn("w:val"))) if named is not None else self._default
        found, seen = [], set()
        while name in self._by_id and name not in seen:
            seen.add(name)
            style = self._by_id[name]
            own = style.find(qn(f"w:{tag}"))
            if own is not None:
                found.append(own)
            based = style.find(qn("w:basedOn"))
            name = str(based.get(qn("w:val"))) if based is not None else ""
        return found


def _first(chain: Iterable[Any], tag: str, attribute: str = "val") -> str | None:
    """The nearest value of a property; a property may carry several attributes from several levels."""
    for element in chain:
        child = element.find(qn(f"w:{tag}"))
        if child is not None and child.get(qn(f"w:{attribute}")) is not None:
            return str(child.get(qn(f"w:{attribute}")))
    return None


def _toggle(chain: Iterable[Any], tag: str) -> bool:
    for element in chain:
        state = _flag(element.find(qn(f"w:{tag}")))
        if state is not None:
            return state
    return False


def _read(body: Any, styles: _Styles) -> tuple[list[_Para], list[Any]]:
    """Every paragraph in reading order, and every section."""
    if sum(1 for _ in body.iter(qn("w:p"))) > MAX_PARAGRAPHS:
        raise _RefusedError("file.size")
    paras: list[_Para] = []
    sections: list[Any] = []
    tables = 0
    for child in _content(body):
        if child.tag == qn("w:p"):
            paras.append(_para(len(paras), child, styles, _Place(len(sections)), _is_table(child.getnext())))
            section = child.find(f"{qn('w:pPr')}/{qn('w:sectPr')}")
            if section is not None:
                sections.append(section)
        elif child.tag == qn("w:tbl"):
            for place, element in _cells(child, len(sections), tables):
                paras.append(_para(len(paras), element, styles, place, before_table=False))
            tables += 1
        elif child.tag == qn("w:sectPr"):
            sections.append(child)
    if len(sections) > MAX_SECTIONS:
        raise _RefusedError("file.size")
    return paras, sections


def _content(box: Any) -> Iterator[Any]:
    """What stands in a body, also where Word wrapped it in a content control."""
    for child in box:
        if child.tag == qn("w:sdt"):
            for content in child.findall(qn("w:sdtContent")):
                yield from _content(content)
        else:
            yield child


def _is_table(element: Any | None) -> bool:
    return element is not None and element.tag == qn("w:tbl")


def _cells(table: Any, section: int, index: int) -> Iterator[tuple[_Place, Any]]:
    margins = 0.0
    for side in ("left", "right", "start", "end"):
        margin = table.find(f"{qn('w:tblPr')}/{qn('w:tblCellMar')}/{qn(f'w:{side}')}")
        margins += _twips(margin.get(qn("w:w"))) if margin is not None else 0.0
    for row, line in enumerate(table.findall(qn("w:tr"))):
        for cell, box in enumerate(line.findall(qn("w:tc"))):
            width = box.find(f"{qn('w:tcPr')}/{qn('w:tcW')}")
            room = _twips(width.get(qn("w:w"))) - margins if width is not None else nd30.TEXT_WIDTH / 2
            for element in box.iter(qn("w:p")):
                yield _Place(section, index, row, cell, room), element


def _twips(value: Any) -> float:
    """Twips as millimetres; what is no number is 0."""
    return (_number(value) or 0.0) * 25.4 / 1440


def _para(index: int, element: Any, styles: _Styles, place: _Place, before_table: bool) -> _Para:
    own = element.find(qn("w:pPr"))
    chain = styles.chain(own, "pPr")
    runs = tuple(_runs(element, own, styles))
    typed = unicodedata.normalize("NFC", "".join(run.text for run in runs)).split("\n")
    room = place.room - _twips(_first(chain, "ind", "left")) - _twips(_first(chain, "ind", "right"))
    line = _number(_first(chain, "spacing", "line") or "240")
    ruled = (_first(chain, "spacing", "lineRule") or "auto") == "auto"
    return _Para(
        index,
        " ".join(typed).strip(),
        tuple(typed),
        runs,
        place,
        room,
        _first(chain, "jc") or "left",
        _twips(_first(chain, "ind", "firstLine")) - _twips(_first(chain, "ind", "hanging")),
        (_number(_first(chain, "spacing", "before")) or 0.0) / 20,
        (_number(_first(chain, "spacing", "after")) or 0.0) / 20,
        (line or 240.0) / 240 if ruled else None,
        _rule_of(element, chain, room),
        before_table,
    )


def _rule_of(element: Any, chain: Sequence[Any], room: float) -> float | None:
    """Millimetres of a line drawn by this paragraph: a border over its measure, or a drawn shape's width."""
    for side in ("top", "bottom"):
        for properties in chain:
            border = properties.find(f"{qn('w:pBdr')}/{qn(f'w:{side}')}")
            if border is not None and str(border.get(qn("w:val"))) not in {"none", "nil", "None"}:
                return room
    for extent in element.iter(qn("wp:extent")):
        return (_number(extent.get("cx")) or 0.0) / 36000
    return None


_SLOTS = ("ascii", "hAnsi", "cs", "eastAsia")


def _runs(paragraph: Any, properties: Any | None, styles: _Styles) -> Iterator[_Run]:
    for element in paragraph.iter(qn("w:r")):
        text = "".join(_piece(child) for child in element)
        chain = styles.chain(element.find(qn("w:rPr")), "rPr", properties)
        yield _Run(
            text,
            (_number(_first(chain, "sz")) or 20.0) / 2,
            _toggle(chain, "b"),
            _toggle(chain, "i"),
            _toggle(chain, "u"),
            (_first(chain, "color") or "auto").lower(),
            frozenset(_font(chain, slot) for slot in _SLOTS),
        )


def _piece(child: Any) -> str:
    if child.tag == qn("w:t"):
        return child.text or ""
    if child.tag in {qn("w:tab"), qn("w:br")}:
        return "\n" if child.tag == qn("w:br") else " "
    return "\u2011" if child.tag == qn("w:noBreakHyphen") else ""


def _font(chain: Iterable[Any], slot: str) -> str:
    """The font of a slot; a theme's font counts by the theme's word, since it may be any. Unsaid is the default."""
    theme = {"ascii": "asciiTheme", "hAnsi": "hAnsiTheme", "cs": "cstheme", "eastAsia": "eastAsiaTheme"}[slot]
    for element in chain:
        fonts = element.find(qn("w:rFonts"))
        if fonts is None:
            continue
        if fonts.get(qn(f"w:{theme}")) is not None:
            return f"theme: {fonts.get(qn(f'w:{theme}'))}"
        if fonts.get(qn(f"w:{slot}")) is not None:
            return str(fonts.get(qn(f"w:{slot}")))
    return nd30.FONT


# --------------------------------------------------------------------------------------- finding the parts

TYPE_CODES = {
    "NGHỊ QUYẾT": "NQ", "QUYẾT ĐỊNH": "QĐ", "CHỈ THỊ": "CT", "QUY CHẾ": "QC", "QUY ĐỊNH": "QyĐ", "THÔNG BÁO": "TB",
    "HƯỚNG DẪN": "HD", "CHƯƠNG TRÌNH": "CTr", "KẾ HOẠCH": "KH", "PHƯƠNG ÁN": "PA", "ĐỀ ÁN": "ĐA", "DỰ ÁN": "DA",
    "BÁO CÁO": "BC", "TỜ TRÌNH": "TTr", "BIÊN BẢN": "BB",
}  # fmt: skip
"""Annex III, the types that take the layout of form 1.4 or one close to it."""

_UPWARD = {"BÁO CÁO", "TỜ TRÌNH"}
_ROMAN = re.compile(r"[IVXLC]+\.\s")
_NATIONS = {nd30.NATION.casefold(), nd30.NATION.replace("HÒA", "HOÀ").casefold()}
_MOTTO = re.compile(r"độc lập\s*[-–—]\s*tự do\s*[-–—]\s*hạnh phúc\W*", re.IGNORECASE)
_DATE = re.compile(r"ngày.*tháng.*năm", re.IGNORECASE)
_ANNEX = re.compile(r"phụ lục(\s+[ivxlc0-9]+)?", re.IGNORECASE)


def _find_blocks(word: _Word) -> dict[str, _Para]:
    shown = [p for p in word.paras if p.text]
    found: dict[str, _Para] = {}

    def first(name: str, test: Callable[[_Para], bool], after: int = -1) -> int:
        hit = next((p for p in shown if p.index > after and test(p)), None)
        if hit is not None:
            found[name] = hit
        return hit.index if hit is not None else after

    first("nation", lambda p: p.text.casefold() in _NATIONS)
    first("motto", lambda p: _MOTTO.fullmatch(p.text) is not None)
    first("number", lambda p: p.text.casefold().startswith("số:") or p.text.casefold().startswith("số :"))
    kind = first("type", lambda p: p.text.upper() in TYPE_CODES)
    first("date", lambda p: p.index < kind and _DATE.search(p.text) is not None)
    first("subject", lambda p: not p.text.casefold().startswith("kính gửi"), kind)
    to = first("addressee", lambda p: p.text.casefold().startswith("kính gửi"))
    first("recipients", lambda p: p.text.casefold().startswith("nơi nhận"), max(kind, to))
    if "nation" in found and found["nation"].place.cell > 0:
        place = found["nation"].place
        left = word.cell(_Place(place.section, place.table, place.row, place.cell - 1))
        left = [p for p in left if p is not found.get("number")]
        if len(left) > 1:
            found["parent"] = left[0]
        if left:
            found["issuer"] = left[-1]
    if "recipients" in found and found["recipients"].place.table >= 0:
        place = found["recipients"].place
        right = word.cell(_Place(place.section, place.table, place.row, place.cell + 1))
        if right:
            found["signer"] = right[0]
    return found


# ---------------------------------------------------------------------------------------------- sentences

_SAYS: dict[str, tuple[str, str]] = {
    "file.read": ("Không đọc được tệp: {why}.", "The file cannot be read: {why}."),
    "file.size": (
        "Tệp lớn hơn {most} MB hoặc giải nén ra quá lớn nên không kiểm tra.",
        "The file is larger than {most} MB or unpacks to too much; it was not checked.",
    ),
    "file.word": (
        "Tệp không phải là văn bản Word (.docx) hoặc đã hỏng.",
        "The file is not a Word document (.docx), or is damaged.",
    ),
    "page.size": ("Khổ giấy phải là A4 (210 mm x 297 mm).", "The paper must be A4 (210 mm x 297 mm)."),
    "page.margin": (
        "Lề {side_vi} phải từ {low} đến {high} mm, hiện là {have} mm.",
        "The {side_en} margin must be {low} to {high} mm; it is {have} mm.",
    ),
    "number.page": ("Thiếu số trang ở phần lề trên.", "There is no page number in the top margin."),
    "number.align": ("Số trang phải canh giữa.", "The page number must be centred."),
    "number.style": (
        "Số trang phải cỡ chữ 13-14, kiểu chữ đứng.",
        "The page number must be 13-14 pt and upright.",
    ),
    "number.first": ("Không hiển thị số trang thứ nhất.", "The first page must not show its number."),
    "number.footer": (
        "Số trang đặt ở lề trên, không đặt ở lề dưới.",
        "Page numbers stand in the top margin, not in the bottom margin.",
    ),
    "font": ("Phông chữ phải là Times New Roman: {at} ({odd}).", "The font must be Times New Roman: {at} ({odd})."),
    "colour": ("Chữ phải màu đen: {at}.", "Letters must be black: {at}."),
    "unicode": (
        "Chữ phải dùng bộ mã Unicode dựng sẵn (TCVN 6909:2001): {at}.",
        "Letters must be composed Unicode (TCVN 6909:2001): {at}.",
    ),
    "rule.typed": ("Đường kẻ phải là nét liền, không gõ bằng dấu gạch.", "Rules are drawn lines, not typed dashes."),
    "missing": ("Thiếu {vi}.", "There is no {en}."),
    "size": ("Cỡ chữ của {vi} phải là {size}: {at}.", "The size of the {en} must be {size} pt: {at}."),
    "bold": ("Kiểu chữ của {vi} phải đậm: {at}.", "The {en} must be bold: {at}."),
    "thin": ("Kiểu chữ của {vi} không được đậm: {at}.", "The {en} must not be bold: {at}."),
    "italic": ("Kiểu chữ của {vi} phải nghiêng: {at}.", "The {en} must be in italics: {at}."),
    "upright": ("Kiểu chữ của {vi} phải đứng: {at}.", "The {en} must be upright: {at}."),
    "case": ("{vi} phải in hoa: {at}.", "The {en} must be in capitals: {at}."),
    "centre": ("{vi} phải canh giữa: {at}.", "The {en} must be centred: {at}."),
    "underline": (
        "Không gạch chân {vi}; phía dưới có đường kẻ riêng.",
        "The {en} must not be underlined; a rule of its own stands below.",
    ),
    "rule": (
        "Dưới {vi} phải có đường kẻ ngang, nét liền, dài từ {low} đến {high} mm; hiện là {have} mm.",
        "Below the {en} stands a drawn rule of {low} to {high} mm; it is {have} mm.",
    ),
    "order": ("{vi} phải đứng trước {after_vi}.", "The {en} must stand before the {after_en}."),
    "nation.place": (
        "Quốc hiệu phải ở phía trên cùng, bên phải.",
        "The country's name must stand at the top right.",
    ),
    "date.line": (
        "Địa danh và thời gian ban hành phải cùng dòng với số, ký hiệu, ở bên phải.",
        "Place and date must stand on the line of the number, to its right.",
    ),
    "motto.text": ("Tiêu ngữ phải ghi đúng «Độc lập - Tự do - Hạnh phúc»: {at}.", "The motto is misspelt: {at}."),
    "number.form": ("Số, ký hiệu phải có dạng «Số: 05/BC-BVNT»: {at}.", "Not a number and symbol: {at}."),
    "number.space": ("Số và ký hiệu viết liền, không cách chữ: {at}.", "Number and symbol have no spaces: {at}."),
    "number.zero": ("Số nhỏ hơn 10 phải thêm số 0 phía trước: {at}.", "A number below 10 takes a leading 0: {at}."),
    "number.code": ("Ký hiệu của {kind} phải bắt đầu bằng «{code}»: {at}.", "The symbol must begin with {code}: {at}."),
    "date.form": (
        "Thời gian phải có dạng «Quảng Ngãi, ngày 01 tháng 8 năm 2025»: {at}.",
        "Place and date must read «Quảng Ngãi, ngày 01 tháng 8 năm 2025»: {at}.",
    ),
    "date.day": ("Ngày nhỏ hơn 10 phải thêm số 0 phía trước: {at}.", "A day below 10 takes a leading 0: {at}."),
    "date.month": (
        "Chỉ tháng 1, 2 thêm số 0 phía trước, tháng khác không thêm: {at}.",
        "Only months 1 and 2 take a leading 0, no other month: {at}.",
    ),
    "date.calendar": ("Ngày không có trong lịch: {at}.", "There is no such day: {at}."),
    "addressee.colon": ("Sau từ “Kính gửi” có dấu hai chấm: {at}.", "A colon follows the words Kính gửi: {at}."),
    "base.end": ("Căn cứ này phải kết thúc bằng dấu «{end}»: {at}.", "This legal basis must end with «{end}»: {at}."),
    "body.align": ("Nội dung phải canh đều cả hai lề: {at}.", "The body must be justified: {at}."),
    "body.indent": (
        "Chữ đầu dòng phải lùi vào 1 cm hoặc 1,27 cm: {at}.",
        "First lines are indented 1 or 1.27 cm: {at}.",
    ),
    "body.line": ("Khoảng cách dòng phải từ dòng đơn đến 1,5 lines: {at}.", "Lines stand 1 to 1.5 apart: {at}."),
    "body.spacing": ("Giữa các đoạn văn phải cách tối thiểu 6pt: {at}.", "At least 6 pt between paragraphs: {at}."),
    "end.mark": ("Nội dung phải kết thúc bằng «./.»: {at}.", "The body must end with «./.»: {at}."),
    "signer.level": (
        "Chức vụ người ký phải ngang hàng với từ “Nơi nhận”, ở bên phải.",
        "The signer's title must stand level with Nơi nhận, to its right.",
    ),
    "recipient.form": (
        "Nơi nhận bắt đầu bằng «- », kết thúc bằng «;», dòng cuối bằng «.»: {at}.",
        "A recipient begins with «- » and ends with «;», the last with «.»: {at}.",
    ),
    "recipient.first": ("Dòng đầu của nơi nhận là «- Như trên;».", "The first recipient is «- Như trên;»."),
    "recipient.archive": (
        "Dòng cuối của nơi nhận có dạng «- Lưu: VT, đơn vị soạn thảo.».",
        "The last recipient reads «- Lưu: VT, drafting unit.».",
    ),
    "annex.numeral": (
        "Từ hai phụ lục trở lên phải đánh số bằng chữ số La Mã: {at}.",
        "Two annexes or more are numbered in Roman numerals: {at}.",
    ),
    "annex.pages": (
        "Số trang của phụ lục phải đánh số riêng, từ 1: {at}.",
        "The pages of an annex are numbered on their own, from 1: {at}.",
    ),
}
RULES = tuple(_SAYS)
"""Every rule a fault can name; a rule about the looks of a part is named ``part.rule``, for example ``motto.size``."""


@dataclass(frozen=True)
class _Form:
    """How a part has to look; None leaves a matter open."""

    vi: str
    en: str
    points: tuple[float, float]
    bold: bool | None = None
    italic: bool | None = False
    upper: bool = False
    centred: bool = False


FORMS = {
    "nation": _Form("Quốc hiệu", "country's name", (12, 13), True, upper=True, centred=True),
    "motto": _Form("Tiêu ngữ", "motto", (13, 14), True, centred=True),
    "parent": _Form("tên cơ quan chủ quản", "parent body", (12, 13), False, upper=True, centred=True),
    "issuer": _Form("tên cơ quan ban hành", "issuer", (12, 13), True, upper=True, centred=True),
    "number": _Form("số, ký hiệu", "number and symbol", (13, 13), False, centred=True),
    "date": _Form("địa danh và thời gian ban hành", "place and date", (13, 14), False, italic=True, centred=True),
    "type": _Form("tên loại văn bản", "type of the document", (13, 14), True, upper=True, centred=True),
    "subject": _Form("trích yếu nội dung", "subject", (13, 14), True, centred=True),
    "addressee": _Form("dòng “Kính gửi”", "addressee", (13, 14), False),
    "base": _Form("căn cứ ban hành", "legal basis", (13, 14), False, italic=True),
    "body": _Form("nội dung văn bản", "body", (13, 14)),
    "section": _Form("tiêu đề mục", "section heading", (13, 14), True, upper=True),
    "recipients": _Form("từ “Nơi nhận”", "word Nơi nhận", (12, 12), True, italic=True),
    "recipient": _Form("dòng nơi nhận", "recipient", (11, 11), False),
    "signer": _Form("chức vụ người ký", "signer's title", (13, 14), True, upper=True, centred=True),
    "annex": _Form("từ “Phụ lục”", "word Phụ lục", (14, 14), True, centred=True),
    "annex_title": _Form("tên phụ lục", "annex title", (13, 14), True, upper=True, centred=True),
    "annex_reference": _Form("chỉ dẫn kèm theo phụ lục", "annex reference", (13, 14), False, True, centred=True),
}


def _fault(rule: str, block: str = "", at: str = "", **figures: object) -> Fault:
    """A fault in words; ``block`` is the part of :data:`FORMS` it is about, ``at`` the text it is found in."""
    form = FORMS.get(block)
    names = {"vi": form.vi, "en": form.en} if form else {}
    place = at if len(at) <= 60 else f"{at[:57].rstrip()}..."
    vi, en = (text.format(at=f"«{place}»", **names, **figures) for text in _SAYS[rule])
    return Fault(f"{block}.{rule}" if block else rule, Words(vi[:1].upper() + vi[1:], en))


def _once(faults: Iterable[Fault]) -> list[Fault]:
    """One sentence for each rule, however often it is broken; the first place is named."""
    kept: dict[str, Fault] = {}
    for fault in faults:
        kept.setdefault(fault.rule, fault)
    return list(kept.values())


def _style(block: str, para: _Para) -> Iterator[Fault]:
    """Size, weight, slant, case and alignment of a part."""
    form = FORMS[block]
    low, high = form.points
    if not para.all(lambda run: low <= run.points <= high):
        yield _fault("size", block, para.text, size=f"{low:g}" if low == high else f"{low:g}-{high:g}")
    if form.bold is not None and not para.all(lambda run: run.bold is form.bold):
        yield _fault("bold" if form.bold else "thin", block, para.text)
    if form.italic is not None and not para.all(lambda run: run.italic is form.italic):
        yield _fault("italic" if form.italic else "upright", block, para.text)
    if form.upper and para.text != para.text.upper():
        yield _fault("case", block, para.text)
    if form.centred and para.align != "center":
        yield _fault("centre", block, para.text)


# ------------------------------------------------------------------------------------------------- rules

_MARGINS = {
    "top": ("trên", 20, 25),
    "bottom": ("dưới", 20, 25),
    "left": ("trái", 30, 35),
    "right": ("phải", 15, 20),
}


def _page(word: _Word) -> list[Fault]:
    """I.1 to I.3: A4, upright or (for wide tables) lying, and the four margins, in every section."""
    found = []
    for section in word.sections:
        size = section.find(qn("w:pgSz"))
        sides = sorted(_twips(size.get(qn(f"w:{s}"))) if size is not None else 0.0 for s in "wh")
        if abs(sides[0] - nd30.PAGE_WIDTH) > 1 or abs(sides[1] - nd30.PAGE_HEIGHT) > 1:
            found.append(_fault("page.size"))
        margins = section.find(qn("w:pgMar"))
        for side, (name, low, top) in _MARGINS.items():
            have = _twips(margins.get(qn(f"w:{side}"))) if margins is not None else 0.0
            if not low - 0.5 <= have <= top + 0.5:
                shown = f"{have:.0f}"
                found.append(_fault("page.margin", side_vi=name, side_en=side, low=low, high=top, have=shown))
    return list(dict.fromkeys(found))


def _page_numbers(word: _Word) -> list[Fault]:
    """I.7: Arabic, 13 to 14 points, upright, centred in the top margin, hidden on the first page."""
    found = []
    for section, parts in zip(word.sections, word.headers, strict=True):
        numbers = _page_fields(parts.get("header.default"), word.styles)
        if not numbers:
            found.append(_fault("number.page"))
        for para in numbers:
            if para.align != "center":
                found.append(_fault("number.align"))
            if not all(13 <= run.points <= 14 and not run.bold and not run.italic for run in para.runs):
                found.append(_fault("number.style"))
        if _flag(section.find(qn("w:titlePg"))) is not True or _page_fields(parts.get("header.first"), word.styles):
            found.append(_fault("number.first"))
        if any(_page_fields(parts.get(f"footer.{kind}"), word.styles) for kind in ("default", "first", "even")):
            found.append(_fault("number.footer"))
    return _once(found)


def _page_fields(part: Any | None, styles: _Styles) -> list[_Para]:
    """The paragraphs of a header or footer that hold the PAGE field."""
    found = []
    for element in part.iter(qn("w:p")) if part is not None else ():
        codes = [str(e.text or "") for e in element.iter(qn("w:instrText"))]
        codes += [str(e.get(qn("w:instr"), "")) for e in element.iter(qn("w:fldSimple"))]
        if any(re.search(r"\bPAGE\b", code) for code in codes):
            found.append(_para(0, element, styles, _Place(0), before_table=False))
    return found


def _letters(word: _Word) -> list[Fault]:
    """I.4: Times New Roman, black, composed Unicode; and no line imitated by letters."""
    margins = {id(part): part for parts in word.headers for part in parts.values() if part is not None}.values()
    elements = [element for part in margins for element in part.iter(qn("w:p"))]
    around = [_para(0, element, word.styles, _Place(0), before_table=False) for element in elements]
    found: list[Fault] = []
    for para in [*word.paras, *around]:
        for run in para.runs:
            found.extend(_letters_of(run))
        if re.fullmatch(r"[_\-–—=.]{5,}", para.text):
            found.append(_fault("rule.typed"))
    return _once(found)


def _letters_of(run: _Run) -> Iterator[Fault]:
    shown = run.text.strip()
    if not shown:
        return
    odd = sorted(font for font in run.fonts if font.casefold() != nd30.FONT.casefold())
    if odd:
        yield _fault("font", at=shown, odd=", ".join(odd))
    if run.colour not in {"auto", "000000", "windowtext"}:
        yield _fault("colour", at=shown)
    if not unicodedata.is_normalized("NFC", shown):
        yield _fault("unicode", at=shown)


def _head(word: _Word) -> list[Fault]:
    """II.1 to II.4: the four boxes at the top."""
    blocks = word.blocks
    found = [_fault("missing", name) for name in ("nation", "motto", "issuer", "number", "date") if name not in blocks]
    for name in ("nation", "motto", "parent", "issuer", "number", "date"):
        if name in blocks:
            found.extend(_style(name, blocks[name]))
    found.extend(_head_order(blocks))
    if "motto" in blocks:
        if blocks["motto"].text != nd30.MOTTO:
            found.append(_fault("motto.text", at=blocks["motto"].text))
        found.extend(_rule(word, "motto", 0.95, 1.05))
    if "issuer" in blocks:
        found.extend(_rule(word, "issuer", 1 / 3, 1 / 2))
    if "number" in blocks:
        found.extend(_number_form(word))
    if "date" in blocks:
        found.extend(_date_form(blocks["date"].text))
    return found


def _head_order(blocks: Mapping[str, _Para]) -> Iterator[Fault]:
    order = ("parent", "issuer", "nation", "motto", "number", "date", "type", "subject", "addressee", "recipients")
    have = [name for name in order if name in blocks]
    for before, after in pairwise(have):
        if blocks[before].index > blocks[after].index:
            yield _fault("order", before, after_vi=FORMS[after].vi, after_en=FORMS[after].en)
    number, day = blocks.get("number"), blocks.get("date")
    if number is not None and day is not None:
        same = (number.place.table, number.place.row) == (day.place.table, day.place.row)
        if number.place.table < 0 or not same or number.place.cell >= day.place.cell:
            yield _fault("date.line")
    if "nation" in blocks and blocks["nation"].place.cell < 1:
        yield _fault("nation.place")


def _rule(word: _Word, block: str, low: float, high: float) -> Iterator[Fault]:
    """The drawn line under a part, measured against the longest line of the part as it is set."""
    para = word.blocks[block]
    if not para.all(lambda run: not run.underline):
        yield _fault("underline", block)
    after = [p for p in word.paras[para.index + 1 : para.index + 3] if p.place == para.place and not p.text]
    lengths = [p.rule for p in (para, *after) if p.rule is not None]
    look = next(run for run in para.runs if run.text.strip())
    lines = [line for part in para.typed for line in nd30.wrap(part, para.room, look.points, bold=look.bold)]
    longest = max(nd30.text_width(line, look.points, bold=look.bold) for line in lines)
    least, most = low * longest, high * longest
    have = lengths[0] if lengths else 0.0
    if not lengths or not least - 1 <= have <= most + 1:
        yield _fault("rule", block, low=f"{least:.0f}", high=f"{most:.0f}", have=f"{have:.0f}")


def _number_form(word: _Word) -> Iterator[Fault]:
    """II.3: ``Số: 05/BC-BVNT``; the figure may still be blank."""
    text = word.blocks["number"].text
    parts = re.fullmatch(r"Số:(?P<figure>[^/]*)/(?P<symbol>.+)", text)
    if parts is None:
        yield _fault("number.form", at=text)
        return
    figure, symbol = parts["figure"], parts["symbol"]
    given = figure.strip(" .…\u00a0")
    if re.search(r"\s", symbol) or (given and not re.fullmatch(r"\s?\S+", figure)):
        yield _fault("number.space", at=text)
    if given and not re.fullmatch(r"[0-9]+", given.replace(" ", "")):
        yield _fault("number.form", at=text)
    elif len(given) == 1:
        yield _fault("number.zero", at=text)
    kind = word.blocks["type"].text.upper() if "type" in word.blocks else ""
    code = TYPE_CODES.get(kind, "")
    bare = re.sub(r"\s", "", symbol)
    if not re.fullmatch(r"[A-ZĐ][A-Za-zĐđ]*(-[A-ZĐ0-9]+)+", bare):
        yield _fault("number.form", at=text)
    elif code and bare.split("-")[0] != code:
        yield _fault("number.code", at=text, kind=kind, code=code)


def _date_form(text: str) -> Iterator[Fault]:
    """II.4: days below 10 and months 1 and 2 with a leading zero, other months without; both may still be blank."""
    parts = re.fullmatch(r"[^,]+, ngày (?P<day>.*?) ?tháng (?P<month>.*?) ?năm (?P<year>[0-9]{4})", text)
    if parts is None:
        yield _fault("date.form", at=text)
        return
    day, month = parts["day"].strip(" .…"), parts["month"].strip(" .…")
    if day and not re.fullmatch(r"0[1-9]|[12][0-9]|3[01]", day):
        yield _fault("date.day", at=text)
    if month and not re.fullmatch(r"0[12]|[3-9]|1[0-2]", month):
        yield _fault("date.month", at=text)
    if re.fullmatch(r"[0-9]{1,2}", day) and re.fullmatch(r"[0-9]{1,2}", month):
        try:
            date(int(parts["year"]), int(month), int(day))
        except ValueError:
            yield _fault("date.calendar", at=text)


def _title(word: _Word) -> list[Fault]:
    """II.5: type, subject, and the rule below."""
    found = [_fault("missing", name) for name in ("type", "subject") if name not in word.blocks]
    if "type" in word.blocks:
        found += _style("type", word.blocks["type"])
    if "subject" in word.blocks:
        found += _style("subject", word.blocks["subject"])
        found += _rule(word, "subject", 1 / 3, 1 / 2)
    return found


def _addressee(word: _Word) -> list[Fault]:
    """II.9b: a report to a higher body is addressed to it."""
    kind = word.blocks["type"].text.upper() if "type" in word.blocks else ""
    if "addressee" not in word.blocks:
        return [_fault("missing", "addressee")] if kind in _UPWARD else []
    para = word.blocks["addressee"]
    found = list(_style("addressee", para))
    if not para.text.startswith("Kính gửi:"):
        found.append(_fault("addressee.colon", at=para.text))
    return found


def _main(word: _Word) -> tuple[list[_Para], list[_Para]]:
    """(legal bases, body): the shown paragraphs outside tables between the addressee and the recipients."""
    start = max((word.blocks[b].index for b in ("type", "subject", "addressee") if b in word.blocks), default=-1)
    end = word.blocks["recipients"].index if "recipients" in word.blocks else len(word.paras)
    inside = [p for p in word.paras if start < p.index < end and p.text and p.place.table < 0]
    bases = list(takewhile(lambda p: p.text.startswith("Căn cứ") or p.all(lambda run: run.italic), inside))
    return bases, inside[len(bases) :]


def _bases(word: _Word) -> list[Fault]:
    """II.6a: italics, each on its line, ``;`` after each and ``.`` after the last."""
    bases, _ = _main(word)
    found = [fault for para in bases for fault in _style("base", para)]
    for index, para in enumerate(bases):
        end = "." if index == len(bases) - 1 else ";"
        if not para.text.endswith(end):
            found.append(_fault("base.end", at=para.text, end=end))
    return _once(found)


def _body(word: _Word) -> list[Fault]:
    """II.6: size, slant, measure, first line, spacing, section headings."""
    bases, body = _main(word)
    found: list[Fault] = []
    for para in body:
        found.extend(_style("body", para))
        if _ROMAN.match(para.text):
            found.extend(_style("section", para))
    for para in [*bases, *body]:
        found.extend(_layout(para))
    for para, after in pairwise(body):
        if after.index == para.index + 1 and max(para.after, after.before) < 6:
            found.append(_fault("body.spacing", at=para.text))
    return _once(found)


def _layout(para: _Para) -> Iterator[Fault]:
    """A table's own title is centred; a heading need not be justified."""
    if para.before_table and para.align == "center":
        return
    heading = _ROMAN.match(para.text) is not None or para.all(lambda run: run.bold)
    if para.align != "both" and not heading:
        yield _fault("body.align", at=para.text)
    if min(abs(para.first_line - 10), abs(para.first_line - 12.7)) > 0.3:
        yield _fault("body.indent", at=para.text)
    if para.line is not None and not 0.99 <= para.line <= 1.51:
        yield _fault("body.line", at=para.text)


def _closing(word: _Word) -> list[Fault]:
    """II.6 end mark, II.7 signer, II.9 recipients."""
    found: list[Fault] = []
    _, body = _main(word)
    if body and not body[-1].text.endswith(nd30.END_MARK):
        found.append(_fault("end.mark", at=body[-1].text))
    if "recipients" not in word.blocks:
        return [*found, _fault("missing", "recipients")]
    place = word.blocks["recipients"].place
    found.extend(_style("recipients", word.blocks["recipients"]))
    found.extend(_recipients(word, word.cell(place)[1:] if place.table >= 0 else []))
    if "signer" in word.blocks:
        found.extend(_style("signer", word.blocks["signer"]))
    else:
        found.append(_fault("signer.level"))
    return _once(found)


def _recipients(word: _Word, lines: Sequence[_Para]) -> Iterator[Fault]:
    for para in lines:
        yield from _style("recipient", para)
        if not para.text.startswith("- ") or not para.text.endswith("." if para is lines[-1] else ";"):
            yield _fault("recipient.form", at=para.text)
    if "addressee" in word.blocks and (not lines or lines[0].text != "- Như trên;"):
        yield _fault("recipient.first")
    if not lines or not re.fullmatch(r"- Lưu: VT(, \S.*)?\.", lines[-1].text):
        yield _fault("recipient.archive")


def _annexes(word: _Word) -> list[Fault]:
    """III.1: word, title and reference of each annex; its pages are numbered on their own."""
    start = word.blocks["recipients"].index if "recipients" in word.blocks else len(word.paras)
    tail = [p for p in word.paras if p.index > start and p.text and p.place.table < 0]
    heads = [i for i, para in enumerate(tail) if _ANNEX.fullmatch(para.text)]
    found: list[Fault] = []
    for i in heads:
        if len(heads) > 1 and not re.fullmatch(r"Phụ lục [IVXLC]+", tail[i].text):
            found.append(_fault("annex.numeral", at=tail[i].text))
        for block, para in zip(("annex", "annex_title", "annex_reference"), tail[i : i + 3], strict=False):
            found.extend(_style(block, para))
        section = tail[i].place.section
        numbers = word.sections[section].find(qn("w:pgNumType")) if section < len(word.sections) else None
        if section == 0 or numbers is None or numbers.get(qn("w:start")) != "1":
            found.append(_fault("annex.pages", at=tail[i].text))
    return _once(found)
