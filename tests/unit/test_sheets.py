"""The workbook of confirmation: written the same twice, read back whole, and every bad cell named by its address."""

from __future__ import annotations

import copy
import io
import re
import unicodedata
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import docx
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook
from openpyxl.utils import get_column_letter

from controlplane.domain.catalog import make_catalog
from controlplane.domain.packs import apply_overlay, naming
from controlplane.sheets.form import ANNEX, COLUMNS, CRITERIA, FILLED, GROUPS, GUIDE, HEADER, Bad, Preview, reference
from controlplane.sheets.read import read_sheet
from controlplane.sheets.write import export_framework

FOLDER = Path(__file__).parents[2] / "checks" / "criteria"
PACKS = {p.stem: yaml.safe_load(p.read_text(encoding="utf-8")) for p in sorted(FOLDER.glob("*.yaml"))}
TT54 = PACKS["tt54-2017"]
SHEET = export_framework(TT54)
Edit = Callable[[Workbook], object]


def at(page: str, key: str, column: str) -> str:
    """The address of a cell by its row's id (in the annex: overall level and group)."""
    rows = [f"{r['overall']} {r['id']}" if page == ANNEX else r["id"] for r in reference(page, TT54)]
    return f"{get_column_letter(COLUMNS[page].index(column) + 1)}{HEADER + 1 + rows.index(key)}"


def spare(column: str, number: int = 0) -> str:
    return f"{get_column_letter(COLUMNS[CRITERIA].index(column) + 1)}{HEADER + 1 + len(TT54['criteria']) + number}"


def edited(*edits: Edit, data: bytes = SHEET) -> bytes:
    book = load_workbook(io.BytesIO(data))
    for edit in edits:
        edit(book)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def put(page: str, address: str, value: Any) -> Edit:
    return lambda book: book[page].__setitem__(address, value)


def row(id_: str, page: str = CRITERIA, **cells: Any) -> Edit:
    def edit(book: Workbook) -> None:
        for column, value in cells.items():
            book[page][at(page, id_, column)] = value

    return edit


def new(number: int = 0, **cells: Any) -> Edit:
    def edit(book: Workbook) -> None:
        for column, value in cells.items():
            book[CRITERIA][spare(column, number)] = value

    return edit


def read(*edits: Edit) -> Preview:
    return read_sheet(edited(*edits), TT54)


def whole(group: str) -> list[Edit]:
    """Every row of a group confirmed, those without a level with the first of the ladder."""
    ladder = next(g["levels"] for g in TT54["groups"] if g["id"] == group)
    mine = [c for c in TT54["criteria"] if c["group"] == group]
    return [row(c["id"], confirm="x", new_level=None if c["levels"] else ladder[0]) for c in mine]


# ------------------------------------------------------------------------------------------------ writing


@pytest.mark.parametrize("name", sorted(PACKS))
def test_the_same_document_gives_the_same_bytes(name, monkeypatch):
    first = export_framework(PACKS[name])
    for module in ("openpyxl.writer.excel", "openpyxl.packaging.core"):
        later = type("Later", (datetime,), {"now": classmethod(lambda cls, tz=None: datetime(2031, 5, 6, tzinfo=UTC))})
        stand_in = type("M", (), {"datetime": later, "timezone": __import__("datetime").timezone})
        monkeypatch.setattr(f"{module}.datetime", stand_in, raising=False)
    assert export_framework(copy.deepcopy(PACKS[name])) == first
    with zipfile.ZipFile(io.BytesIO(first)) as package:
        assert {m.date_time for m in package.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert (
            re.findall(rb"\d{4}-\d\d-\d\dT[\d:.]+Z", package.read("docProps/core.xml")) == [b"2020-01-01T00:00:00Z"] * 2
        )


def test_pages_headings_locks_filters_and_paper():
    book = load_workbook(io.BytesIO(SHEET))
    assert book.sheetnames == [GUIDE, CRITERIA, GROUPS, ANNEX]
    assert load_workbook(io.BytesIO(export_framework(PACKS["tcvn14423-2026"]))).sheetnames == [GUIDE, CRITERIA, GROUPS]
    for name in (CRITERIA, GROUPS, ANNEX):
        page = book[name]
        assert page.protection.sheet
        assert page.freeze_panes == f"B{HEADER + 1}"
        assert page.auto_filter.ref.startswith(f"A{HEADER}:")
        assert (page.page_setup.orientation, int(page.page_setup.paperSize)) == ("landscape", 9)
        assert page.print_title_rows == f"${HEADER}:${HEADER}"
        for place, column in enumerate(COLUMNS[name], 1):
            cell = page.cell(HEADER + 1, place)
            assert cell.protection.locked == (column not in FILLED[name]), column
            assert cell.number_format == "@"
            assert cell.font.name == "Times New Roman"
    assert not book[CRITERIA][spare("group")].protection.locked
    assert book[CRITERIA][spare("id")].protection.locked


def test_every_criterion_stands_once_with_the_packs_words():
    page = load_workbook(io.BytesIO(SHEET))[CRITERIA]
    rows = [
        [cell.value for cell in r] for r in page.iter_rows(min_row=HEADER + 1, max_row=HEADER + len(TT54["criteria"]))
    ]
    assert sorted(r[0] for r in rows) == sorted(c["id"] for c in TT54["criteria"])
    by_id = {c["id"]: c for c in TT54["criteria"]}
    for r in rows:
        assert r[4] == by_id[r[0]]["title"]["vi"]
        assert f"({by_id[r[0]]['standing']})" in r[5]


def test_lists_to_choose_from_follow_the_ladder_of_the_group():
    page = load_workbook(io.BytesIO(SHEET))[CRITERIA]

    def lists(address: str) -> list[str]:
        return [r.formula1 for r in page.data_validations.dataValidation if address in r.sqref]

    assert lists(at(CRITERIA, "tt54.infra.x.1", "new_level")) == ['"1,2,3,4,5,6,7"']
    assert lists(at(CRITERIA, "tt54.lis.basic.1", "new_level")) == ['"cơ bản,nâng cao"']
    assert lists(at(CRITERIA, "tt54.lis.basic.1", "confirm")) == ['"x,không có"']
    assert lists(spare("group")) == ["'Nhóm'!$B$4:$B$11"]


def test_a_title_that_looks_like_a_formula_stays_a_title():
    document = copy.deepcopy(TT54)
    document["criteria"][0]["title"]["vi"] = "=1+1"
    preview = read_sheet(export_framework(document), document)
    assert (preview.bad, preview.unchanged) == ((), 135)


# ------------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("name", sorted(PACKS))
def test_an_untouched_workbook_changes_nothing(name):
    preview = read_sheet(export_framework(PACKS[name]), PACKS[name])
    assert preview.bad == ()
    assert (preview.changes, preview.confirmed, preview.added, preview.annex2) == ((), (), (), ())
    assert preview.unchanged == len(PACKS[name]["criteria"])
    assert preview.same_pack
    assert not preview.ready
    assert apply_overlay(PACKS[name], preview.overlay) == PACKS[name]


@pytest.mark.parametrize("name", sorted(PACKS))
def test_every_row_confirmed_is_read_without_a_complaint(name):
    document = PACKS[name]

    def all_x(book: Workbook) -> None:
        column = COLUMNS[CRITERIA].index("confirm") + 1
        for number in range(HEADER + 1, HEADER + 1 + len(document["criteria"])):
            book[CRITERIA].cell(number, column).value = "x"

    preview = read_sheet(edited(all_x, data=export_framework(document)), document)
    assert preview.bad == ()
    assert (len(preview.confirmed), preview.unchanged, preview.changes) == (len(document["criteria"]), 0, ())


def test_corrections_are_shown_before_and_after():
    preview = read(
        row("tt54.infra.x.9", confirm="X", new_level="Mức 3", new_clause=7.0, new_title="  Phòng  máy chủ "),
        row("tt54.lis.basic.1", confirm=True, remark=date(2026, 12, 1)),
        row("tt54.infra.x.1", confirm="Không có"),
    )
    assert preview.bad == ()
    assert [(c.field, c.before, c.after) for c in preview.changes] == [
        ("levels", "chưa rõ", "3"),
        ("clause", "Phụ lục I, mục I, chưa rõ số tiêu chí", "Phụ lục I, mục I, tiêu chí 7"),
        ("title", "Phòng máy chủ riêng", "Phòng máy chủ"),
    ]
    assert set(preview.confirmed) == {"tt54.infra.x.9", "tt54.lis.basic.1"}
    assert preview.absent == ("tt54.infra.x.1",)
    assert preview.unchanged == 132
    assert preview.overlay["criteria"] == {
        "tt54.infra.x.1": {"absent": True},
        "tt54.infra.x.9": {
            "levels": ["3"], "clause": "Phụ lục I, mục I, tiêu chí 7", "title": {"vi": "Phòng máy chủ"},
        },
        "tt54.lis.basic.1": {"note": "01/12/2026"},
    }  # fmt: skip
    assert preview.ready


def test_a_correction_that_says_what_already_stands_is_no_change():
    same = {"new_level": "cơ bản", "new_clause": "80", "new_title": "Quản trị hệ thống LIS"}
    preview = read(row("tt54.lis.basic.1", confirm="x", **same))
    assert (preview.bad, preview.changes) == ((), ())
    assert preview.overlay["criteria"] == {"tt54.lis.basic.1": {}}


@pytest.mark.parametrize(
    ("typed", "levels"),
    [
        ("3", ["3"]), (3, ["3"]), (3.0, ["3"]), ("３", ["3"]), ("3, 1", ["1", "3"]), ("1 và 2", ["1", "2"]),
        ("2-4", ["2", "3", "4"]), ("Mức 5; mức 6", ["5", "6"]), ("7\u200b", ["7"]), ("1,1", ["1"]),
    ],
)  # fmt: skip
def test_levels_as_people_type_them(typed, levels):
    preview = read(row("tt54.infra.x.9", confirm="x", new_level=typed))
    assert preview.bad == ()
    assert preview.overlay["criteria"]["tt54.infra.x.9"]["levels"] == levels


@pytest.mark.parametrize("typed", ["nâng cao", "Mức nâng cao", "advanced", unicodedata.normalize("NFD", "Nâng cao")])
def test_the_two_named_levels(typed):
    preview = read(row("tt54.lis.basic.1", confirm="x", new_level=typed))
    assert preview.bad == ()
    assert preview.overlay["criteria"]["tt54.lis.basic.1"]["levels"] == ["advanced"]


def test_text_is_normalised_trimmed_and_half_width():
    typed = unicodedata.normalize("NFD", " Máy\u00a0chủ\n（dự phòng）\ufeff ")
    preview = read(row("tt54.infra.x.9", confirm="x", new_title=typed))
    assert preview.overlay["criteria"]["tt54.infra.x.9"]["title"] == {"vi": "Máy chủ (dự phòng)"}


def test_criteria_may_be_added():
    preview = read(
        new(group="Hạ tầng", confirm="x", new_level=2, new_clause="19", new_title="Máy phát điện", remark="trang 12"),
        new(3, group="lis", confirm="x", new_level="nâng cao", new_clause="mục 5 a", new_title="Ký số",
            kind="khuyến nghị", english="Signed results"),
    )  # fmt: skip
    assert preview.bad == ()
    assert [(a.id, a.group, a.levels, a.clause) for a in preview.added] == [
        ("tt54.infra.added.19", "infra", ("2",), "Phụ lục I, mục I, tiêu chí 19"),
        ("tt54.lis.added.muc-5-a", "lis", ("advanced",), "mục 5 a"),
    ]
    made = apply_overlay(TT54, naming(preview.overlay, "tt54.pdf", "0" * 64))
    framework = make_catalog({}, {"f": made}).frameworks["tt54-2017"]
    assert [c.title.en for c in framework.criteria[-2:]] == ["Máy phát điện", "Signed results"]
    assert framework.criteria[-1].kind == "suggested"


def test_a_group_is_complete_when_each_of_its_rows_was_compared():
    preview = read(*whole("lis"), row("lis", GROUPS, confirm="đủ"), row("emr", GROUPS, confirm="chưa đủ"))
    assert preview.bad == ()
    assert (preview.groups_completed, preview.groups_incomplete) == (("lis",), ("emr",))
    assert preview.overlay["groups"] == {"lis": True, "emr": False}


def test_the_cells_of_annex_two():
    preview = read(
        row("3 lis", ANNEX, confirm="x"),
        row("3 infra", ANNEX, confirm="x", new_level="2"),
        row("4 his", ANNEX, confirm="x", new_level="không yêu cầu"),
        row("1 lis", ANNEX, confirm="x"),
    )
    assert preview.bad == ()
    assert set(preview.annex2) == {("3", "lis", "basic"), ("3", "infra", "2"), ("4", "his", None), ("1", "lis", None)}
    made = apply_overlay(TT54, naming(preview.overlay, "tt54.pdf", "0" * 64))
    assert "his" not in made["annex2"]["4"]


def test_the_second_export_shows_what_was_confirmed_and_asks_for_it_no_more():
    first = read(*whole("infra"), row("infra", GROUPS, confirm="đủ"))
    assert first.bad == ()
    made = apply_overlay(TT54, naming(first.overlay, "tt54.pdf", "0" * 64))
    again = export_framework(made)
    page = load_workbook(io.BytesIO(again))[CRITERIA]
    assert page["F4"].value == "đã xác nhận (confirmed)"
    preview = read_sheet(again, made)
    assert (preview.bad, preview.confirmed, preview.unchanged) == ((), (), 135)
    # The list may be confirmed again without marking each row a second time.
    book = edited(lambda b: b[GROUPS].__setitem__("F4", "đủ"), data=again)
    assert read_sheet(book, made).groups_completed == ("infra",)


def test_a_workbook_of_an_earlier_pack_says_so_and_its_untouched_rows_still_read():
    document = copy.deepcopy(TT54)
    document["criteria"][0]["note"] = "another"
    preview = read_sheet(edited(row("tt54.infra.x.9", confirm="x")), document)
    assert (preview.bad, preview.same_pack, preview.confirmed) == ((), False, ("tt54.infra.x.9",))


# ----------------------------------------------------------------------------------------------- refusing

X9 = "tt54.infra.x.9"
NEW = {"group": "Hạ tầng", "confirm": "x"}


@pytest.mark.parametrize(
    ("edit", "sheet", "cell", "vi"),
    [
        (row(X9, confirm="=1+1"), CRITERIA, at(CRITERIA, X9, "confirm"), "công thức"),
        (row(X9, confirm="#REF!"), CRITERIA, at(CRITERIA, X9, "confirm"), "báo lỗi #REF!"),
        (row(X9, confirm="maybe"), CRITERIA, at(CRITERIA, X9, "confirm"), "không phải dấu xác nhận"),
        (row(X9, confirm="x", new_level="8"), CRITERIA, at(CRITERIA, X9, "new_level"), "không thuộc thang"),
        (row(X9, confirm="x", new_level="nâng cao"), CRITERIA, at(CRITERIA, X9, "new_level"), "1, 2, 3, 4, 5, 6, 7"),
        (row(X9, confirm="x", new_level="9-12"), CRITERIA, at(CRITERIA, X9, "new_level"), "“9-12”"),
        (row(X9, confirm="x", new_level=date(2026, 2, 1)), CRITERIA, at(CRITERIA, X9, "new_level"), "thành ngày"),
        (row(X9, confirm="x", new_level=True), CRITERIA, at(CRITERIA, X9, "new_level"), "đúng/sai"),
        (row(X9, confirm="x", new_clause=3.1), CRITERIA, at(CRITERIA, X9, "new_clause"), "số thập phân 3.1"),
        (row(X9, confirm="x", new_clause="80"), CRITERIA, at(CRITERIA, X9, "new_clause"), "tt54.lis.basic.1"),
        (row(X9, confirm="x", new_title="a" * 1001), CRITERIA, at(CRITERIA, X9, "new_title"), "dài quá 1000"),
        (row(X9, new_title="Phòng"), CRITERIA, at(CRITERIA, X9, "confirm"), "chưa chọn “x”"),
        (row(X9, confirm="không có", new_level="1"), CRITERIA, at(CRITERIA, X9, "new_level"), "không ghi nội dung sửa"),
        (row(X9, title="Khác"), CRITERIA, at(CRITERIA, X9, "title"), "phải là “Phòng máy chủ riêng”"),
        (row(X9, id="tt54.infra.x.99"), CRITERIA, at(CRITERIA, X9, "id"), "không có trong bộ tiêu chí"),
        (row(X9, id="tt54.infra.x.1"), CRITERIA, at(CRITERIA, X9, "id"), "xuất hiện hai lần"),
        (put(CRITERIA, "R9", "xin chào"), CRITERIA, "R9", "nằm ngoài bảng"),
        (put(CRITERIA, "G3", "OK"), CRITERIA, "G3", "tiêu đề cột phải là “Xác nhận”"),
        (lambda b: b[CRITERIA].insert_cols(3), CRITERIA, "C3", "tiêu đề cột phải là “Mức”"),
        (new(**NEW, new_level="1", new_title="Y"), CRITERIA, spare("new_clause"), "“Số, điều khoản đúng”"),
        (new(group="Hạ tầng", new_clause="9", new_title="Y"), CRITERIA, spare("confirm"), "chưa chọn “x”"),
        (new(confirm="x", new_title="Y"), CRITERIA, spare("group"), "không có trong bộ tiêu chí"),
        (new(**NEW, new_level="1", new_clause="…", new_title="Y"), CRITERIA, spare("new_clause"), "đặt mã"),
        (new(**NEW, new_level="1", new_clause="62", new_title="Y"), CRITERIA, spare("new_clause"), "đã dùng"),
        (new(**NEW, new_level="1", new_clause="9", new_title="Y", kind="tùy"), CRITERIA, spare("kind"), "loại “tùy”"),
        (row("lis", GROUPS, confirm="đủ"), GROUPS, at(GROUPS, "lis", "confirm"), "còn 10 tiêu chí"),
        (row("lis", GROUPS, confirm="gần đủ"), GROUPS, at(GROUPS, "lis", "confirm"), "chỉ dùng: đủ, chưa đủ"),
        (row("lis", GROUPS, ladder="1, 2"), GROUPS, at(GROUPS, "lis", "ladder"), "bị sửa"),
        (row("3 lis", ANNEX, new_level="cơ bản"), ANNEX, at(ANNEX, "3 lis", "confirm"), "chưa chọn “x”"),
        (row("3 lis", ANNEX, confirm="x", new_level="2"), ANNEX, at(ANNEX, "3 lis", "new_level"), "cơ bản, nâng cao"),
        (row("3 infra", ANNEX, confirm="x", new_level="1, 2"), ANNEX, at(ANNEX, "3 infra", "new_level"), "một mức"),
        (lambda b: b.remove(b[GROUPS]), "", "", "thiếu trang “Nhóm”"),
        (lambda b: b.create_sheet("Nháp"), "Nháp", "", "không thuộc mẫu"),
        (lambda b: setattr(b[ANNEX], "title", "PL2"), "", "", "thiếu trang “Phụ lục II”"),
    ],
)  # fmt: skip
def test_a_bad_cell_is_named_by_its_address(edit, sheet, cell, vi):
    preview = read(edit)
    first = next(b for b in preview.bad if (b.sheet, b.cell) == (sheet, cell))
    assert vi in first.words.vi
    assert first.words.en != first.words.vi
    assert not preview.ready


def test_a_bad_row_is_left_out_and_the_others_are_read():
    preview = read(row(X9, confirm="x", new_level="8"), row("tt54.infra.x.8", confirm="x", new_level="1"))
    assert [b.cell for b in preview.bad] == [at(CRITERIA, X9, "new_level")]
    assert preview.confirmed == ("tt54.infra.x.8",)


def test_a_group_with_nothing_in_it_or_without_levels_is_not_complete():
    none = [row(c["id"], confirm="không có") for c in TT54["criteria"] if c["group"] == "lis"]
    preview = read(*none, row("lis", GROUPS, confirm="đủ"))
    assert "chưa có tiêu chí nào được xác nhận" in preview.bad[0].words.vi
    levelless = [row(c["id"], confirm="x") for c in TT54["criteria"] if c["group"] == "infra"]
    preview = read(*levelless, row("infra", GROUPS, confirm="đủ"))
    assert "tt54.infra.x.1 chưa có mức" in preview.bad[0].words.vi


def test_two_added_rows_with_one_number():
    line = {"group": "Hạ tầng", "confirm": "x", "new_level": "1", "new_clause": "19", "new_title": "Máy phát"}
    preview = read(new(**line), new(1, **line))
    assert [(b.cell, "đã dùng" in b.words.vi) for b in preview.bad] == [(spare("new_clause", 1), True)]


# ------------------------------------------------------------------------------------------ the file itself


def repacked(change: Callable[[dict[str, bytes]], object], data: bytes = SHEET) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    change(parts)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name, body in parts.items():
            target.writestr(name, body)
    return out.getvalue()


def part(name: str, body: bytes) -> Callable[[dict[str, bytes]], object]:
    return lambda parts: parts.__setitem__(name, body)


def swap(name: str, old: bytes, fresh: bytes) -> Callable[[dict[str, bytes]], object]:
    def change(parts: dict[str, bytes]) -> None:
        assert old in parts[name]
        parts[name] = parts[name].replace(old, fresh)

    return change


SHEET2 = "xl/worksheets/sheet2.xml"
BOOK_RELS = "xl/_rels/workbook.xml.rels"


def only_bad(preview: Preview) -> Bad:
    assert len(preview.bad) == 1
    assert (preview.bad[0].sheet, preview.bad[0].cell) == ("", "")
    assert preview.unchanged == 135
    assert not preview.ready
    return preview.bad[0]


@pytest.mark.parametrize(
    ("data", "vi"),
    [
        (b"", "không đọc được"),
        (b"id,confirm\n", "không đọc được"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "Office cũ"),
        (b"\0" * (10 * 1024 * 1024 + 1), "lớn hơn 10 MB"),
        (SHEET[:-4000], "không đọc được"),
        (SHEET + b"<html>", "ngoài các thành phần"),
        (b"MZ" + SHEET, "ngoài các thành phần"),
        (repacked(part("xl/vbaProject.bin", b"\0")), "macro"),
        (repacked(swap("[Content_Types].xml", b"sheet.main+xml", b"sheet.macroEnabled.main+xml")), "macro"),
        (repacked(part("xl/externalLinks/externalLink1.xml", b"<a/>")), "bên ngoài"),
        (repacked(part("xl/embeddings/oleObject1.bin", b"\0")), "nhúng"),
        (repacked(part("../../etc/passwd", b"x")), "trỏ ra ngoài"),
        (repacked(swap(SHEET2, b"<worksheet", b'<!DOCTYPE x [<!ENTITY a "b">]><worksheet')), "DTD"),
        (repacked(swap(SHEET2, b"</worksheet>", b"")), "XML hợp lệ"),
        (repacked(swap(BOOK_RELS, b"</Relationships>",
            b'<Relationship Id="z" TargetMode="External" Type="http://x/image" Target="http://x/y"/></Relationships>')),
         "bên ngoài"),
        (repacked(part("xl/media/image1.png", b"\0" * (33 << 20))), "vượt quá 32 MB"),
        (repacked(part("xl/worksheets/big.xml", b"<a>" + b" " * (25 << 20) + b"</a>")), "vượt quá 24 MB"),
        (repacked(lambda parts: parts.clear()), "thành phần"),
        (repacked(lambda parts: parts.pop("xl/workbook.xml")), "không đọc được"),
    ],
    ids=lambda v: v if isinstance(v, str) else f"{len(v)}b",
)  # fmt: skip
def test_a_file_that_could_do_harm_or_is_none_is_refused_whole(data, vi):
    assert vi in only_bad(read_sheet(data, TT54)).words.vi


def test_a_word_document_is_not_a_workbook(tmp_path):
    docx.Document().save(str(tmp_path / "a.docx"))
    assert "không phải" in only_bad(read_sheet((tmp_path / "a.docx").read_bytes(), TT54)).words.vi


def test_rows_beyond_any_list_are_refused_and_an_empty_last_row_is_not():
    assert read(lambda b: setattr(b[CRITERIA].row_dimensions[1_048_576], "height", 30)).bad == ()
    assert "quá nhiều dòng" in only_bad(read(put(CRITERIA, "A6000", "x"))).words.vi
    far = repacked(
        swap(SHEET2, b"</sheetData>", b'<row r="99999999999"><c r="A99999999999"><v>1</v></c></row></sheetData>')
    )
    assert only_bad(read_sheet(far, TT54))


@settings(max_examples=60)
@given(st.binary(max_size=400), st.integers(0, len(SHEET)), st.integers(0, 400))
def test_damaged_bytes_never_raise(noise, at_, cut):
    damaged = SHEET[:at_] + noise + SHEET[at_ + cut :]
    preview = read_sheet(damaged, TT54)
    assert isinstance(preview, Preview)


CELL = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 200), st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.dates(date(1990, 1, 1), date(2050, 1, 1)),
    st.sampled_from(["x", "không có", "1", "7", "cơ bản", "đủ", "=A1", "1-3", "Hạ tầng", "80", "tt54.infra.x.1"]),
    st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"), max_size=9),
)  # fmt: skip


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from([CRITERIA, GROUPS, ANNEX]), st.integers(1, 210), st.integers(1, 17), CELL),
        max_size=12,
    )
)
def test_whatever_is_typed_the_overlay_fits_the_pack(typed):
    def scribble(book: Workbook) -> None:
        for page, number, column, value in typed:
            book[page].cell(number, column).value = value

    preview = read(scribble)
    overlay: Mapping[str, Any] = preview.overlay
    make_catalog({}, {"f": apply_overlay(TT54, naming(overlay, "a.pdf", "0" * 64))})
    for bad in preview.bad:
        assert bad.words.vi
        assert bad.words.en
