"""The linter names every departure from decree 30/2020, one broken document a rule; it survives what is no document."""

from __future__ import annotations

import io
import re
import zipfile
from functools import cache

import pytest
from docx import Document
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.reports import lint as module
from controlplane.reports.lint import FORMS, RULES, lint, lint_file
from controlplane.reports.weekly import render_weekly
from tests.unit import weekly_fixture as world

BODY, STYLES = "word/document.xml", "word/styles.xml"


@cache
def good() -> bytes:
    return render_weekly(world.rich(), world.WEEK, world.LOOKS, world.EVIDENCE, world.say())


def parts(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        return {name: package.read(name) for name in package.namelist()}


def packed(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in members.items():
            package.writestr(name, content)
    return out.getvalue()


def changed(*edits: tuple[str, str, str]) -> bytes:
    """The good report with regular expressions replaced in its parts; an edit that changes nothing is a wrong test."""
    members = parts(good())
    for name, old, new in edits:
        before = members[name].decode()
        after = re.sub(old, new, before, count=1, flags=re.DOTALL)
        assert after != before, (name, old)
        members[name] = after.encode()
    return packed(members)


def text(old: str, new: str) -> bytes:
    return changed((BODY, re.escape(old), new))


def styled(style: str, old: str, new: str) -> bytes:
    """One property of one style changed."""
    return changed((STYLES, rf'(w:styleId="{style}">(?:(?!</w:style>).)*?){old}', rf"\g<1>{new}"))


def lettered(start: str, look: str) -> bytes:
    """The run that begins with a text, with a look of its own."""
    return changed((BODY, rf"<w:r>(<w:t[^>]*>{start})", rf"<w:r><w:rPr>{look}</w:rPr>\1"))


def rule_after(end: str, side: int) -> bytes:
    """The rule below the paragraph that ends with a text, indented by so many twips on both sides."""
    old = rf'({re.escape(end)}</w:t>(?:(?!<w:ind).)*<w:ind w:left=)"\d+" w:right="\d+"'
    return changed((BODY, old, rf'\1"{side}" w:right="{side}"'))


def addressee_first() -> bytes:
    """The addressee above the type of the document."""
    moved = r"<w:p><w:r><w:t>Kính gửi: Sở Y tế.</w:t></w:r></w:p>\g<0>"
    return changed(
        (BODY, r'<w:p><w:pPr><w:pStyle w:val="KinhGui"/>.*?</w:p>', ""),
        (BODY, r'<w:p><w:pPr><w:pStyle w:val="TenLoai"/>', moved),
    )


def header() -> str:
    return next(name for name in parts(good()) if re.fullmatch(r"word/header\d*\.xml", name))


def with_footer() -> bytes:
    """The page number moved to the bottom by python-docx, as most templates have it."""
    document = Document(io.BytesIO(good()))
    footer = document.sections[0].footer.paragraphs[0]
    footer._p.append(module.parse_xml(f'<w:fldSimple {_W} w:instr=" PAGE "><w:r><w:t>1</w:t></w:r></w:fldSimple>'))
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_RULE_PARAGRAPH = r'<w:p><w:pPr><w:pStyle w:val="DuongKe"/>(?:(?!</w:p>).)*</w:p>'
_CELL = r"<w:tc>(?:(?!</w:tc>).)*</w:tc>"

BROKEN = {
    "file.word": lambda: b"%PDF-1.7 not a document",
    "file.size": lambda: packed({f"word/{i}.xml": b"" for i in range(1001)}),
    "page.size": lambda: changed((BODY, r'<w:pgSz w:w="11906"', '<w:pgSz w:w="12240"')),
    "page.margin": lambda: changed((BODY, r'w:left="1701"', 'w:left="1134"')),
    "number.page": lambda: changed((header(), r"PAGE", "NUMPAGES")),
    "number.align": lambda: styled("SoTrang", 'w:jc w:val="center"', 'w:jc w:val="right"'),
    "number.style": lambda: styled("SoTrang", 'w:sz w:val="26"', 'w:sz w:val="22"'),
    "number.first": lambda: changed((BODY, r"<w:titlePg/>", "")),
    "number.footer": with_footer,
    "font": lambda: lettered("Căn cứ Luật", '<w:rFonts w:ascii="Arial"/>'),
    "colour": lambda: lettered("BÁO CÁO", '<w:color w:val="FF0000"/>'),
    "unicode": lambda: text("Chưa có đề xuất", "Chu\u031ba co\u0301 đề xuất"),
    "rule.typed": lambda: text("I. CÔNG TÁC LÃNH ĐẠO, CHỈ ĐẠO", "_________________"),
    "nation.missing": lambda: text("CỘNG HÒA XÃ HỘI CHỦ NGHĨA VIỆT NAM", "VIỆT NAM"),
    "motto.missing": lambda: text("Độc lập - Tự do - Hạnh phúc", "Độc lập"),
    "number.missing": lambda: text("Số:        /BC-BVNT", "BC-BVNT"),
    "date.missing": lambda: text("Quảng Ngãi, ngày 14 tháng 8 năm 2025", "Quảng Ngãi, 14/8/2025"),
    "type.missing": lambda: text(">BÁO CÁO<", ">TIN NHANH<"),
    "addressee.missing": lambda: text("Kính gửi: Sở Y tế Quảng Ngãi.", "Sở Y tế Quảng Ngãi."),
    "recipients.missing": lambda: text("Nơi nhận:", "Gửi:"),
    "motto.centre": lambda: styled("TieuNgu", 'w:jc w:val="center"', 'w:jc w:val="left"'),
    "section.case": lambda: text("I. CÔNG TÁC LÃNH ĐẠO, CHỈ ĐẠO", "I. Công tác lãnh đạo"),
    "motto.underline": lambda: styled("TieuNgu", "<w:b/>", '<w:b/><w:u w:val="single"/>'),
    "motto.rule": lambda: changed((BODY, rf"(Hạnh phúc</w:t></w:r></w:p>){_RULE_PARAGRAPH}", r"\1")),
    "issuer.rule": lambda: rule_after("NỘI TIẾT", 100),
    "subject.rule": lambda: rule_after("17/8/2025)", 4000),
    "subject.order": addressee_first,
    "nation.place": lambda: changed((BODY, rf"({_CELL})({_CELL})(</w:tr>)", r"\2\1\3")),
    "date.line": lambda: changed((BODY, rf"(</w:tr><w:tr>.*?)({_CELL})({_CELL})(</w:tr>)", r"\1\3\2\4")),
    "motto.motto.text": lambda: text("Độc lập - Tự do - Hạnh phúc", "Độc lập-Tự do-Hạnh phúc"),
    "number.form": lambda: text("Số:        /BC-BVNT", "Số: 62-BC-BVNT"),
    "number.space": lambda: text("Số:        /BC-BVNT", "Số: 62 /BC-BVNT"),
    "number.zero": lambda: text("Số:        /BC-BVNT", "Số: 5/BC-BVNT"),
    "number.code": lambda: text("Số:        /BC-BVNT", "Số: 62/KH-BVNT"),
    "date.form": lambda: text("Quảng Ngãi, ngày 14 tháng 8 năm 2025", "Quảng Ngãi ngày 14 tháng 8 năm 2025"),
    "date.day": lambda: text("ngày 14 tháng 8 năm 2025", "ngày 1 tháng 8 năm 2025"),
    "date.month": lambda: text("ngày 14 tháng 8 năm 2025", "ngày 14 tháng 08 năm 2025"),
    "date.calendar": lambda: text("ngày 14 tháng 8 năm 2025", "ngày 31 tháng 6 năm 2025"),
    "addressee.colon": lambda: text("Kính gửi: Sở", "Kính gửi Sở"),
    "base.end": lambda: text("Căn cứ Luật Khám bệnh, chữa bệnh;", "Căn cứ Luật Khám bệnh, chữa bệnh"),
    "base.italic": lambda: styled("CanCu", "<w:i/>", ""),
    "body.align": lambda: styled("NoiDung", 'w:jc w:val="both"', 'w:jc w:val="left"'),
    "body.indent": lambda: styled("NoiDung", 'w:firstLine="720"', 'w:firstLine="284"'),
    "body.line": lambda: styled("NoiDung", 'w:line="276"', 'w:line="480"'),
    "body.spacing": lambda: styled("NoiDung", 'w:after="120"', 'w:after="40"'),
    "body.size": lambda: styled("NoiDung", 'w:sz w:val="28"', 'w:sz w:val="24"'),
    "body.upright": lambda: styled("NoiDung", "<w:rPr>", "<w:rPr><w:i/>"),
    "end.mark": lambda: text("xem xét, chỉ đạo./.", "xem xét, chỉ đạo."),
    "signer.level": lambda: changed((BODY, r'(<w:pStyle w:val="NguoiKy"/></w:pPr>)<w:r>.*?</w:r>', r"\1")),
    "recipient.form": lambda: text("- Các khoa, phòng;", "- Các khoa, phòng"),
    "recipient.first": lambda: text("- Như trên;", "- Sở Y tế;"),
    "recipient.archive": lambda: text("- Lưu: VT, HCTH.", "- Lưu  VT, HCTH."),
    "annex.numeral": lambda: changed((BODY, r'<w:p><w:pPr><w:pStyle w:val="PhuLuc"/></w:pPr>.*?</w:p>', r"\g<0>\g<0>")),
    "annex.pages": lambda: changed((BODY, r'(.*w:fmt="decimal") w:start="1"', r"\1")),
}  # fmt: skip
LOOKS = {
    "parent": "CoQuanChuQuan", "issuer": "CoQuanBanHanh", "nation": "QuocHieu", "motto": "TieuNgu",
    "number": "SoKyHieu", "date": "DiaDanhNgay", "type": "TenLoai", "subject": "TrichYeu",
    "addressee": "KinhGui", "base": "CanCu",
    "body": "NoiDung", "section": "Muc", "recipients": "NoiNhan", "recipient": "DongNoiNhan", "signer": "NguoiKy",
    "annex": "PhuLuc", "annex_title": "TenPhuLuc", "annex_reference": "KemTheo",
}  # fmt: skip


def named(data: bytes) -> list[str]:
    return [fault.rule for fault in lint(data)]


def test_our_own_report_has_no_fault():
    assert lint(good()) == ()


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_document_is_named(rule):
    faults = {fault.rule: fault.words for fault in lint(BROKEN[rule]())}
    wanted = rule.removeprefix("motto.") if rule == "motto.motto.text" else rule
    assert wanted in faults, sorted(faults)
    words = faults[wanted]
    assert words.vi.endswith(".")
    assert words.en.endswith(".")
    assert not re.search(r"[{}]", words.vi + words.en)


def test_every_rule_has_a_broken_document():
    tried = {rule.split(".", 1)[-1] if rule.split(".")[0] in FORMS else rule for rule in BROKEN} | set(BROKEN)
    looks = {"size", "bold", "thin", "italic", "upright", "case", "centre", "file.read"}  # in the tests below
    assert set(RULES) <= tried | looks | {"motto.text"}


@pytest.mark.parametrize("block", LOOKS)
def test_the_size_of_every_part_is_held(block):
    assert f"{block}.size" in named(styled(LOOKS[block], r'<w:sz w:val="\d+"/>', '<w:sz w:val="36"/>'))


@pytest.mark.parametrize("block", LOOKS)
def test_the_weight_and_slant_of_every_part_are_held(block):
    form, style = FORMS[block], LOOKS[block]
    if form.bold is not None:
        edit = ("<w:b/>", "") if form.bold else ("<w:rPr>", "<w:rPr><w:b/>")
        assert f"{block}.{'bold' if form.bold else 'thin'}" in named(styled(style, *edit))
    if form.italic is False:
        assert f"{block}.upright" in named(styled(style, "<w:rPr>", "<w:rPr><w:i/>"))
    elif block != "base":  # without italics the first basis that does not begin with Căn cứ is body; see BROKEN
        assert f"{block}.italic" in named(styled(style, "<w:i/>", ""))


@pytest.mark.parametrize("block", [b for b in LOOKS if FORMS[b].centred])
def test_centred_parts_are_held(block):
    assert f"{block}.centre" in named(styled(LOOKS[block], 'w:jc w:val="center"', 'w:jc w:val="both"'))


@pytest.mark.parametrize(
    ("block", "shown"),
    [
        ("nation", "CỘNG HÒA XÃ HỘI CHỦ NGHĨA VIỆT NAM"),
        ("parent", "SỞ Y TẾ QUẢNG NGÃI"),
        ("issuer", "BỆNH VIỆN NỘI TIẾT"),
        ("type", "BÁO CÁO"),
        ("signer", "GIÁM ĐỐC"),
        ("annex_title", "DANH MỤC MINH CHỨNG"),
    ],
)
def test_parts_in_capitals_are_held(block, shown):
    assert f"{block}.case" in named(text(f">{shown}<", f">{shown.capitalize()}<"))


@pytest.mark.parametrize("side", ["top", "bottom", "left", "right"])
def test_every_margin_is_held_and_named(side):
    faults = lint(changed((BODY, rf'(<w:pgMar [^>]*)w:{side}="\d+"', rf'\1w:{side}="283"')))
    assert [f.rule for f in faults] == ["page.margin"]
    assert "5 mm" in faults[0].words.vi
    assert side in faults[0].words.en


@pytest.mark.parametrize(
    "line",
    [
        "Số: 05/BC-BVNT",
        "Số: 62/BC-BVNT",
        "Số: 1205/BC-BVNT",
        "Số:/BC-BVNT",
        "Số: ....../BC-BVNT",
        "Số: 12/BC-BVNT-HCTH",
    ],
)
def test_good_numbers_pass(line):
    assert named(text("Số:        /BC-BVNT", line)) == []


@pytest.mark.parametrize(
    "line",
    [
        "Quảng Ngãi, ngày 01 tháng 02 năm 2026",
        "Quảng Ngãi, ngày 10 tháng 3 năm 2026",
        "Quảng Ngãi, ngày 31 tháng 12 năm 2026",
        "Thành phố Hồ Chí Minh, ngày 29 tháng 6 năm 2019",
        "Quảng Ngãi, ngày      tháng      năm 2025",
    ],
)
def test_good_dates_pass(line):
    assert named(text("Quảng Ngãi, ngày 14 tháng 8 năm 2025", line)) == []


def test_the_hospital_s_own_plan_would_have_been_told():
    """Plan 62/KH-BVNT drifts from the decree in its number and in its archive line."""
    data = changed(
        (BODY, re.escape("Số:        /BC-BVNT"), "Số: 62 /KH-BVNT"),
        (BODY, re.escape("- Lưu: VT, HCTH."), "- Lưu  VT, HCTH."),
        (BODY, ">BÁO CÁO<", ">KẾ HOẠCH<"),
    )
    assert named(data) == ["number.space", "recipient.archive"]


def test_a_theme_font_is_a_foreign_font():
    data = changed(
        (STYLES, r'(<w:rPrDefault><w:rPr><w:rFonts )w:ascii="Times New Roman"', r'\1w:asciiTheme="minorHAnsi"')
    )
    clean = changed(
        (STYLES, r'(<w:rPrDefault><w:rPr><w:rFonts )w:ascii="Times New Roman"', r'\1w:asciiTheme="minorHAnsi"'),
        (STYLES, r'(w:styleId="Normal">.*?<w:rPr>)<w:rFonts [^>]*/>', r"\1"),
    )
    assert named(data) == []  # Normal says Times New Roman nearer to the text
    faults = lint(clean)
    assert [f.rule for f in faults] == ["font"]
    assert "minorHAnsi" in faults[0].words.vi


def test_a_drawn_line_counts_as_a_rule():
    shape = (
        '<w:p><w:r><w:drawing><wp:inline xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing">'
        '<wp:extent cx="{}" cy="0"/></wp:inline></w:drawing></w:r></w:p>'
    )
    at = rf"(Hạnh phúc</w:t></w:r></w:p>){_RULE_PARAGRAPH}"
    assert named(changed((BODY, at, rf"\1{shape.format(56 * 36000)}"))) == []
    assert named(changed((BODY, at, rf"\1{shape.format(30 * 36000)}"))) == ["motto.rule"]


def test_a_subject_in_two_typed_lines_is_measured_by_the_longer():
    broken = "tử</w:t><w:br/><w:t>tuần"
    assert (
        named(text("tử tuần 33 (từ ngày 11/8/2025 đến ngày 17/8/2025)</w:t>", f"{broken} 33 (từ ngày 11/8/2025)</w:t>"))
        == []
    )


def test_a_plain_document_of_word_is_told_what_it_lacks():
    out = io.BytesIO()
    Document().save(out)
    rules = named(out.getvalue())
    assert {"nation.missing", "motto.missing", "issuer.missing", "number.missing", "date.missing"} <= set(rules)
    assert {"type.missing", "subject.missing", "recipients.missing", "number.page", "page.size"} <= set(rules)


# --------------------------------------------------------------------------------------- what is no document


def xml_bomb() -> bytes:
    levels = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    bomb = f'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a0 "ha">{levels}]><w:document {_W}>&a9;</w:document>'
    return packed(parts(good()) | {BODY: bomb.encode()})


def zip_bomb() -> bytes:
    return packed(parts(good()) | {BODY: b"<a>" + b" " * (31 * 1024 * 1024)})


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "file.word"),
        (b"PK\x03\x04", "file.word"),
        ("văn bản".encode(), "file.word"),
        (packed({"a.txt": b"x"}), "file.word"),
        (packed({BODY: b"<not closed"}), "file.word"),
        (packed({BODY: b"<html/>"}), "file.word"),
        (packed({BODY: f"<w:document {_W}><w:body/></w:document>".encode()}), "file.word"),
        (b"x" * (20 * 1024 * 1024 + 1), "file.size"),
    ],
)
def test_what_is_no_document_is_one_sentence(data, rule):
    assert named(data) == [rule]


def test_bombs_are_refused():
    assert named(xml_bomb()) == ["file.word"]
    assert named(zip_bomb()) == ["file.size"]
    deep = f"<w:document {_W}><w:body>{'<w:p>' * 3000}{'</w:p>' * 3000}</w:body></w:document>"
    assert named(packed(parts(good()) | {BODY: deep.encode()})) == ["file.word"]


def test_a_document_of_endless_paragraphs_is_refused():
    flat = f"<w:document {_W}><w:body>{'<w:p/>' * 20_100}</w:body></w:document>"
    assert named(packed(parts(good()) | {BODY: flat.encode()})) == ["file.size"]


def test_many_sections_with_one_great_header_are_refused():
    section = "<w:p><w:pPr><w:sectPr/></w:pPr></w:p>"
    flat = f"<w:document {_W}><w:body>{section * 300}<w:sectPr/></w:body></w:document>"
    assert named(packed(parts(good()) | {BODY: flat.encode()})) == ["file.size"]


def test_content_controls_are_looked_into():
    wrapped = changed((BODY, r"(<w:body>)(.*)(<w:sectPr)", r"\1<w:sdt><w:sdtContent>\2</w:sdtContent></w:sdt>\3"))
    assert lint(wrapped) == ()
    assert "body.align" in named(packed(parts(wrapped) | {STYLES: parts(BROKEN["body.align"]())[STYLES]}))


def test_a_page_may_lie_for_a_wide_table():
    assert named(changed((BODY, r'<w:pgSz w:w="11906" w:h="16838"/>', '<w:pgSz w:w="16838" w:h="11906"/>'))) == []


def test_a_locked_document_is_refused():
    data = bytearray(good())
    for match in re.finditer(rb"PK\x01\x02", bytes(data)):
        data[match.start() + 8] |= 1  # the flag of an encrypted member
    assert named(bytes(data)) == ["file.word"]


def test_files_that_cannot_be_read_are_told(tmp_path):
    assert [f.rule for f in lint_file(tmp_path / "nothing.docx")] == ["file.read"]
    assert [f.rule for f in lint_file(tmp_path)] == ["file.read"]
    big = tmp_path / "big.docx"
    with big.open("wb") as stream:
        stream.truncate(21 * 1024 * 1024)
    assert [f.rule for f in lint_file(big)] == ["file.size"]
    fine = tmp_path / "báo cáo.docx"
    fine.write_bytes(good())
    assert lint_file(fine) == ()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_damage_makes_it_raise(data):
    content = bytearray(good())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), bytes(content[:cut])):
        assert all(fault.words.vi and fault.words.en for fault in lint(damaged))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_no_strange_figure_in_the_xml_makes_it_raise(data):
    odd = data.draw(st.sampled_from(["", "x", "-1", "9" * 30, "nan", "inf", "1e999", "٣", "0x10"]))
    name = data.draw(st.sampled_from([BODY, STYLES]))
    source = parts(good())[name].decode()
    hits = list(re.finditer(r'="([^"]*)"', source))
    hit = hits[data.draw(st.integers(0, len(hits) - 1))]
    spoilt = source[: hit.start(1)] + odd + source[hit.end(1) :]
    lint(packed(parts(good()) | {name: spoilt.encode()}))
