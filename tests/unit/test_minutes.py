"""Minutes of a restore drill: every figure that was measured stands in them, in the form of Decree 30/2020."""

import io
import zipfile
from dataclasses import replace
from datetime import UTC, datetime

from controlplane import texts
from controlplane.backup.drill import Rehearsal
from controlplane.reports.lint import lint
from controlplane.reports.minutes import render_minutes
from tests.unit.weekly_fixture import hospital

AT = datetime(2026, 11, 20, 2, 30, tzinfo=UTC)
DRILL = Rehearsal(
    "emr-database", "nas", "sv-01", AT, datetime(2026, 11, 20, 2, 41, tzinfo=UTC), True, "9f3c" * 16,
    datetime(2026, 11, 19, 19, 0, tzinfo=UTC), 27_000, 642, 3, 0, 2, (), 41, 128_304, (), True,
)  # fmt: skip


def words_of(paper: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(paper)) as package:
        return package.read("word/document.xml").decode()


def render(drill: Rehearsal, rpo: int | None = 1440) -> bytes:
    return render_minutes(drill.document(), "Cơ sở dữ liệu bệnh án", hospital(), texts.speaker("vi"), rpo)


def test_the_minutes_hold_what_was_measured():
    text = words_of(render(DRILL))
    for figure in ("BIÊN BẢN", "/BB-", "642 giây", "450 phút, trong mức tối đa 1.440 phút", "41 bảng, 128.304 bản ghi"):
        assert figure in text, figure
    assert "Chưa thực hiện được các bước" not in text
    assert "vượt mức tối đa 60 phút" in words_of(render(DRILL, 60))
    assert "chưa quy định mức tối đa" in words_of(render(DRILL, None))
    assert render(DRILL) == render(DRILL), "the same drill gives the same bytes"


def test_a_drill_that_failed_says_so_and_why():
    failed = Rehearsal("files", "nas", "sv-01", AT, AT, error="damaged", said="Kho nas bị hỏng dữ liệu.", said_en="-")
    text = words_of(render(failed))
    assert "Không đạt" in text
    assert "Kho nas bị hỏng dữ liệu." in text
    assert "Chưa thực hiện được các bước" in text, "nothing was restored, so nothing is described as done"
    assert "đúng như lúc sao lưu.</w:t></w:r></w:p><w:p>" not in text.split("Kết luận")[1].split("Không đạt")[0]


def test_a_database_that_only_its_hash_proves_is_not_called_none():
    drill = replace(DRILL, database=False, tables=0, rows=0).document()
    said = {
        hashed: words_of(render_minutes(drill, "HIS", hospital(), texts.speaker("vi"), None, hashed_only=hashed))
        for hashed in (True, False)
    }
    assert "Do chương trình của bệnh viện kết xuất" in said[True]
    assert "Không có trong bộ dữ liệu này" in said[False]
    assert "PostgreSQL" not in said[True], "the dump may be of another server"


def test_the_form_is_that_of_the_decree_but_for_its_two_signers_and_dotted_lines():
    """The linter knows documents of one signer beside the recipients; minutes have two, and lines to write on."""
    faults = {fault.rule for fault in lint(render(DRILL))}
    assert faults <= {"signer.level", "recipient.archive", "rule.typed"}
