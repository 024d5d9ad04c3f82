"""The weekly report: the week it is about, what it prints, what it refuses to print, and that it is always the same."""

from __future__ import annotations

import contextlib
import io
import re
import unicodedata
import zipfile
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from docx import Document
from docx.oxml.ns import qn
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.model import Reason, Words
from controlplane.reports import nd30
from controlplane.reports.lint import lint
from controlplane.reports.weekly import render_weekly
from controlplane.reports.weeks import EvidenceLine, IsoWeek, LookLine, WeekError
from tests.unit import weekly_fixture as world

SAY = world.say()
CASES = {"rich": world.rich, "empty": world.empty, "unknown": world.unknown, "long": world.long_names}


def made(overview, week=world.WEEK, looks=world.LOOKS, evidence=world.EVIDENCE, **more):
    return render_weekly(overview, week, looks, evidence, SAY, **more)


def text_of(data):
    """Every line of the document as it is read: paragraphs and cells in order."""
    document = Document(io.BytesIO(data))
    lines = []
    for block in document.iter_inner_content():
        if hasattr(block, "rows"):
            cells = [cell for row in block.rows for cell in dict.fromkeys(row.cells)]
            lines += [p.text for cell in cells for p in cell.paragraphs]
        else:
            lines.append(block.text)
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------- weeks


def test_a_week_runs_from_monday_to_sunday():
    week = IsoWeek.parse("2025-W33")
    assert (week.monday, week.thursday, week.sunday) == (date(2025, 8, 11), date(2025, 8, 14), date(2025, 8, 17))
    assert str(week) == "2025-W33"
    assert week.holds(date(2025, 8, 17))
    assert not week.holds(date(2025, 8, 18))


@pytest.mark.parametrize(
    "text",
    ["2025-W54", "2025-W53", "2025-W00", "W1", "2025-W1", "2025W33", "33", "", "tuần 33", "2025-w33", " 2025-W33",
     "2025-W33\n", "٢٠٢٥-W٣٣", "1999-W01", "9999-W52", "0000-W01", "-025-W01", "x" * 5000],
)  # fmt: skip
def test_what_is_no_week_is_refused_in_both_tongues(text):
    with pytest.raises(WeekError) as refused:
        IsoWeek.parse(text)
    words = refused.value.words
    assert words.vi.endswith((".", "2025-W33."))
    assert words.en
    assert len(words.vi) < 200


@given(st.text(max_size=12))
def test_parsing_a_week_raises_nothing_else(text):
    with contextlib.suppress(WeekError):
        assert str(IsoWeek.parse(text)) == text


@given(st.dates(date(2000, 1, 3), date(2099, 12, 31)))
def test_every_day_lies_in_its_week(day):
    week = IsoWeek.of(day)
    assert week.holds(day)
    assert IsoWeek.parse(str(week)) == week
    assert week.sunday - week.monday == timedelta(days=6)


# ------------------------------------------------------------------------------------------------ figures


@pytest.mark.parametrize(
    ("day", "text"),
    [
        (date(2025, 8, 1), "ngày 01 tháng 8 năm 2025"),
        (date(2026, 1, 9), "ngày 09 tháng 01 năm 2026"),
        (date(2026, 2, 28), "ngày 28 tháng 02 năm 2026"),
        (date(2026, 3, 10), "ngày 10 tháng 3 năm 2026"),
        (date(2026, 12, 31), "ngày 31 tháng 12 năm 2026"),
    ],
)
def test_only_days_below_ten_and_months_one_and_two_take_a_zero(day, text):
    assert nd30.issue_date(day) == text


def test_figures_are_printed_the_vietnamese_way():
    assert nd30.number(70000) == "70.000"
    assert nd30.number(0.5) == "0,5"
    assert nd30.number(1234.5) == "1.234,5"
    assert nd30.number(3.0) == "3"
    assert nd30.share(12, 168) == "7,1%"
    assert nd30.share(0, 0) == "-"


def test_times_are_those_of_viet_nam():
    late = datetime(2025, 8, 17, 17, 30, tzinfo=UTC)
    assert nd30.local_time(late) == "00 giờ 30 phút ngày 18/8/2025"
    assert nd30.local_day(late) == date(2025, 8, 18)


# ------------------------------------------------------------------------------------------------ content


@pytest.mark.parametrize("case", CASES)
def test_every_report_is_in_the_form_of_the_decree(case):
    assert [fault.words.vi for fault in lint(made(CASES[case]()))] == []


@pytest.mark.parametrize("case", CASES)
def test_the_same_arguments_give_the_same_bytes(case):
    first, second = made(CASES[case]()), made(CASES[case]())
    assert first == second
    with zipfile.ZipFile(io.BytesIO(first)) as package:
        assert {i.date_time for i in package.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert package.namelist()[0] == "[Content_Types].xml"
        assert len(package.namelist()) == len(set(package.namelist()))


@pytest.mark.parametrize("case", CASES)
def test_it_is_one_document_with_head_sections_and_end(case):
    overview = CASES[case]()
    text = text_of(made(overview))
    parts = [
        "SỞ Y TẾ QUẢNG NGÃI", nd30.NATION, nd30.MOTTO, "Số:        /BC-BVNT", "BÁO CÁO",
        "Kết quả thực hiện Chiến dịch 45 ngày đêm tăng tốc bệnh án điện tử tuần 33 "
        "(từ ngày 11/8/2025 đến ngày 17/8/2025)",
        "Kính gửi: Sở Y tế Quảng Ngãi.", "I. CÔNG TÁC", "II. KẾT QUẢ", "III. ĐÁNH GIÁ", "IV. KHÓ KHĂN",
        "V. NHIỆM VỤ", "VI. ĐỀ XUẤT", "./.", "Nơi nhận:", "- Như trên;", "- Lưu: VT, HCTH.", "GIÁM ĐỐC", "Phụ lục",
        "DANH MỤC MINH CHỨNG", "./.",
    ]  # fmt: skip
    at = 0
    for part in parts:
        assert part in text[at:], part
        at = text.index(part, at)
    assert unicodedata.is_normalized("NFC", text)
    assert "None" not in text
    assert not re.search(r"[{}]", text)


def test_the_addressee_is_not_named_twice_among_the_recipients():
    text = text_of(made(world.rich()))
    assert "Sở Y tế (b/c)" not in text
    assert "- GĐ, các PGĐ BV;" in text


def test_levels_are_a_pair_and_an_unknown_level_says_why():
    text = text_of(made(world.rich()))
    assert "- Hạ tầng: Mức 2 (đã chứng minh) / có thể đạt mức 4; mục tiêu mức 7." in text
    assert "(LIS): Chưa đạt mức cơ bản (đã chứng minh) / có thể đạt mức nâng cao; mục tiêu mức nâng cao." in text
    assert "theo cấp độ: Dưới mức 1 (đã chứng minh) / có thể đạt mức 2; mục tiêu mức 2." in text
    assert "(HIS): chưa xác định được mức, mục tiêu mức 6. Lý do: chưa có danh mục chính thức đầy đủ" in text
    assert (
        "(EMR): chưa xác định được mức, mục tiêu mức cơ bản. Lý do: nhóm tiêu chí không có hiệu lực ngày này." in text
    )


def test_a_level_that_is_not_determinable_is_never_printed():
    overview = world.rich()
    his = overview.groups[1]
    trap = replace(his, score=replace(his.score, proven="5", possible="6"), target=None)
    text = text_of(made(replace(overview, groups=(trap,), blockers=())))
    assert "chưa xác định được mức, chưa đặt mục tiêu" in text
    assert not re.search(r"[Mm]ức [56]", text)


def test_drafts_are_counted_apart():
    text = text_of(made(world.rich()))
    assert "23 tiêu chí chưa đối chiếu được với văn bản chính thức chỉ theo dõi riêng" in text
    assert "Ngoài ra, 104 tiêu chí chưa đối chiếu được" in text


def test_inventory_round_and_counts_are_those_of_the_overview():
    text = text_of(made(world.rich()))
    assert "1 máy chủ, 35 máy tính, 30 máy in" in text
    assert re.search(r"Lượt đo [^:]*12[^:]* bắt đầu lúc 08 giờ 05 phút ngày 14/8/2025", text)
    assert "đã xem xét 78 thiết bị, 6 thiết bị trả lời. Còn 72 thiết bị không có kết quả: 69 thiết bị" in text
    assert "12/168 tiêu chí có chấm điểm đã đạt (7,1%)" in text
    assert "9/168 tiêu chí đạt), lượt đo ngày 14/8/2025 đạt 12/168, tăng 3 tiêu chí." in text
    assert "bệnh viện, " not in text  # the site itself is no device


def test_assets_that_gave_no_answer_are_named_and_the_list_is_bounded():
    text = text_of(made(world.rich()))
    assert "Máy tính PC-02 (quá thời gian chờ)" in text
    assert "Máy tính PC-04" not in text  # no address yet: counted, not named
    many = [LookLine(f"Máy tính PC-{i:02}", "timeout") for i in range(35)]
    assert "PC-09 (quá thời gian chờ); và 25 thiết bị khác." in text_of(made(world.rich(), looks=many))


def test_dates_are_counted_from_the_day_of_the_scorecard():
    text = text_of(made(world.rich()))
    assert "15/8/2025\n(còn 1 ngày)" in text
    past = replace(world.rich(), as_of=date(2025, 8, 20))
    assert "15/8/2025\n(đã qua 5 ngày)" in text_of(made(past))
    today = replace(world.rich(), as_of=date(2025, 8, 15))
    assert "15/8/2025\n(đến hạn)" in text_of(made(today))


def test_blockers_stand_with_their_owner_and_return_as_tasks():
    text = text_of(made(world.rich()))
    table = text[text.index("IV. KHÓ KHĂN") : text.index("V. NHIỆM VỤ")]
    assert "Thời gian của mọi máy chủ được đồng bộ (An toàn hệ thống thông tin theo cấp độ)" in table
    assert "2,75, tối đa được phép 0,5" in table
    assert "Tổ Tư vấn hạ tầng công nghệ" in table
    tasks = text[text.index("V. NHIỆM VỤ") : text.index("VI. ĐỀ XUẤT")]
    assert "Xây dựng phần mềm hồ sơ bệnh án điện tử" in tasks
    assert "Khắc phục (đã có kịch bản tự động để xem trước và phê duyệt): Thời gian của mọi máy chủ" in tasks
    assert "Khắc phục: Thống kê, báo cáo của RIS-PACS" in tasks


def test_the_annex_prints_round_chain_head_and_scorecard():
    text = text_of(made(world.rich()))
    annex = text[text.index("DANH MỤC MINH CHỨNG") :]
    for needed in (world.HEAD, world.SEAL, world.CARD, "20250814T010500Z-12", "08 giờ 09 phút ngày 14/8/2025"):
        assert needed in annex
    assert "còn toàn vẹn khi lập báo cáo./." in annex


def test_where_nothing_is_known_it_says_so_and_invents_nothing():
    text = text_of(made(world.empty(), looks=(), evidence=()))
    assert "Chưa có lượt đo nào." in text
    assert text.count("Chưa có số liệu đo") >= 10
    assert "Chưa có minh chứng nào được ghi nhận./." in text
    body = text[text.index("II. KẾT QUẢ") : text.index("III. ĐÁNH GIÁ")]
    assert set(re.findall(r"\d+", body)) <= {"1", "2", "3", "4", "5", "6", "7", "8", "30", "35"}
    assert "%" not in text


def test_a_chain_that_has_not_begun_has_no_head():
    text = text_of(made(replace(world.empty(), chain_head="0" * 64), looks=(), evidence=()))
    assert "0" * 64 not in text


def test_remarks_are_visible_and_said_once():
    later = text_of(made(world.long_names()))
    assert later.count("Số liệu đo ngày 23/11/2026; tuần báo cáo chưa có lượt đo nào.") == 1
    assert "Lưu ý: Lượt đo gần nhất chỉ gồm: sv-01, pc-01" in later
    assert "Chuỗi minh chứng không còn toàn vẹn; không sử dụng số liệu" in later
    known = Reason("round_outside_week", {"day": date(2026, 11, 23)})
    again = text_of(made(replace(world.long_names(), notes=(known,))))
    assert again.count("tuần báo cáo chưa có lượt đo nào") == 1
    assert "Danh mục tài sản có lỗi" in text_of(made(world.unknown()))


def test_a_reason_the_house_has_no_words_for_does_not_stop_the_report():
    strange = replace(world.rich(), notes=(Reason("quite_new", {"day": date(2025, 8, 14)}),))
    assert "quite_new" in text_of(made(strange))


def test_the_day_of_issue_is_that_of_viet_nam_or_the_one_given():
    late = replace(world.rich(), at=datetime(2025, 8, 31, 18, 0, tzinfo=UTC))
    assert "Quảng Ngãi, ngày 01 tháng 9 năm 2025" in text_of(made(late))
    assert "Quảng Ngãi, ngày 05 tháng 02 năm 2026" in text_of(made(late, issued_on=date(2026, 2, 5)))


def test_text_that_word_cannot_hold_is_cleaned():
    overview = world.rich()
    nasty = "Sao\x00 lưu\u000b & <w:p> \ud800 " + unicodedata.normalize("NFD", "kiểm tra")
    blocker = replace(overview.blockers[0], title=Words(nasty, nasty), owner="A & <B>\nC")
    data = made(replace(overview, blockers=(blocker,)))
    text = text_of(data)
    assert "Sao lưu & <w:p>  kiểm tra" in text
    assert "A & <B>\nC" in text
    assert lint(data) == ()


@settings(max_examples=20, deadline=None)
@given(st.text(max_size=80), st.text(max_size=200), st.text(max_size=80))
def test_no_name_breaks_the_document(title, owner, label):
    overview = world.rich()
    blocker = replace(overview.blockers[0], title=Words(title, title), owner=owner)
    group = replace(overview.groups[0], title=Words(title, title), owner=owner)
    line = EvidenceLine(label, world.CARD, overview.at)
    data = made(replace(overview, blockers=(blocker,), groups=(group,)), evidence=[line])
    assert world.CARD in text_of(data)


def test_groups_outside_the_plan_s_areas_stand_with_the_software():
    odd = world.group("other", "Nhóm khác", "1", "2", None, gap=None)
    text = text_of(made(replace(world.rich(), groups=(odd,), blockers=())))
    software = text[text.index("2. Các nhóm phần mềm") : text.index("3. Kết nối")]
    assert "- Nhóm khác: Mức 1 (đã chứng minh) / có thể đạt mức 2; chưa đặt mục tiêu." in software
    assert "Chưa có số liệu đo về an toàn, bảo mật thông tin." in text


def test_word_s_own_properties_come_from_the_content():
    core = Document(io.BytesIO(made(world.rich()))).core_properties
    assert core.author == "Bệnh viện Nội tiết"
    assert core.title.startswith("BÁO CÁO: Kết quả thực hiện")
    assert core.created == datetime(2025, 8, 14, 3, 30, tzinfo=UTC)
    assert core.comments == ""


def test_tables_fit_the_measure_and_their_headers_repeat():
    document = Document(io.BytesIO(made(world.long_names())))
    ruled = [t for t in document.tables if t.rows[0]._tr.xpath("./w:trPr/w:tblHeader")]
    assert len(ruled) == 7
    for table in document.tables:
        widths = [int(c.get(qn("w:w"))) for c in table._tbl.tblGrid.gridCol_lst]
        assert abs(sum(widths) - nd30.twips(nd30.TEXT_WIDTH)) <= 8
        assert all(row._tr.xpath("./w:trPr/w:cantSplit") for row in table.rows)


def test_a_line_is_as_wide_as_the_letters_of_times_new_roman():
    # Measured in a Times New Roman clone (Liberation Serif 2.1.5), millimetres at 12 and 13 points bold.
    assert nd30.text_width(nd30.NATION, 12, bold=True) == pytest.approx(88.3, abs=0.5)
    assert nd30.text_width(nd30.MOTTO, 13, bold=True) == pytest.approx(56.1, abs=0.5)
    assert nd30.text_width("ơƯ", 10) == pytest.approx((529 + 776) * 10 / 1000 * 25.4 / 72, abs=0.1)


def test_a_subject_breaks_between_its_phrases():
    phrases = ["Kết quả thực hiện Chiến dịch 45 ngày đêm tăng tốc bệnh án điện tử", "tuần 33 (từ ngày 11/8/2025)"]
    measure = nd30.even_measure(phrases, nd30.TEXT_WIDTH, 14, bold=True)
    assert nd30.wrap(" ".join(phrases), measure, 14, bold=True) == phrases
    assert nd30.even_measure(["x" * 300], 160, 14) <= 160
