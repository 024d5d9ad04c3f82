"""Overviews for the tests of the weekly report: rich, empty, one where nothing is known, one of very long names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime

from controlplane import texts
from controlplane.domain.model import GroupScore, Reason, Words
from controlplane.domain.overview import (
    Blocker,
    Campaign,
    GroupView,
    Hospital,
    Milestone,
    MilestoneView,
    Overview,
    RoundView,
    Target,
    TrendPoint,
)
from controlplane.reports.weeks import EvidenceLine, IsoWeek, LookLine

WEEK = IsoWeek(2025, 33)
HEAD = "a94f5374fce5edbc8e2a8697c15331677e6ebf0b34f1c2d5a9e0b7c6d8e9f012"
SEAL = "3b1f0c2d4e5f60718293a4b5c6d7e8f90123456789abcdef0123456789abcdef"
CARD = "9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab"


def say() -> Callable[..., str]:
    """The house's Vietnamese words."""
    return texts.speaker("vi")


def hospital() -> Hospital:
    return Hospital(
        name=Words("Bệnh viện Nội tiết", "Hospital of Endocrinology"),
        parent_body=Words("Sở Y tế Quảng Ngãi", "Quảng Ngãi Department of Health"),
        short_symbol="BVNT",
        place="Quảng Ngãi",
        signer_title=Words("Giám đốc", "Director"),
        recipients=("Sở Y tế (b/c)", "GĐ, các PGĐ BV", "Các khoa, phòng", "Trang Thông tin điện tử BV"),
        archive_line="Lưu: VT, HCTH",
    )


_OWNERS = ("Phòng Hành chính - Tổng hợp; Tổ Tư vấn hạ tầng công nghệ", "Tổ Tư vấn nghiệp vụ chuyên môn")


def campaign() -> Campaign:
    rows = (
        ("infrastructure", "Hoàn thiện hạ tầng công nghệ thông tin", date(2025, 8, 15), _OWNERS[0], "V.1"),
        ("software", "Xây dựng phần mềm hồ sơ bệnh án điện tử", date(2025, 8, 25), _OWNERS[1], "V.2"),
        ("links", "Kết nối, liên thông, lưu trữ dữ liệu y tế", date(2025, 8, 31), _OWNERS[0], "V.3"),
        ("training", "Đào tạo, nâng cao năng lực", date(2025, 9, 15), "Phòng Hành chính - Tổng hợp", "V.4"),
        (
            "trial",
            "Vận hành chạy thử và chuẩn bị hồ sơ công bố",
            date(2025, 9, 25),
            "Ban Giám đốc; các khoa, phòng",
            "V.6",
        ),
        ("announce", "Công bố thực hiện bệnh án điện tử", date(2025, 9, 30), "Tổ Tư vấn pháp lý", "IV"),
    )
    return Campaign(
        title=Words("Chiến dịch 45 ngày đêm tăng tốc bệnh án điện tử", "the campaign of 45 days and nights"),
        plan="62/KH-BVNT ngày 01/8/2025",
        starts_on=date(2025, 8, 1),
        ends_on=date(2025, 9, 14),
        hospital=hospital(),
        milestones=tuple(Milestone(id_, Words(title, title), due, owner, src) for id_, title, due, owner, src in rows),
        targets=(Target("tt54-2017", "infra", "7", _OWNERS[0], "infrastructure", "VI.3"),),
    )


TT54 = Words(
    "Thông tư 54/2017/TT-BYT: Bộ tiêu chí ứng dụng công nghệ thông tin tại cơ sở khám bệnh, chữa bệnh",
    "Circular 54/2017/TT-BYT",
)
TCVN = Words("TCVN 14423:2026 An ninh mạng - Hệ thống thông tin - Yêu cầu cơ bản", "TCVN 14423:2026")
NUMBERS = ("1", "2", "3", "4", "5", "6", "7")
NAMED = ("basic", "advanced")


def group(
    id_: str,
    title: str,
    proven: str | None,
    possible: str | None,
    target: str | None,
    *,
    levels: tuple[str, ...] = NUMBERS,
    reason: str = "levels",
    gap: int | None = None,
    framework: str = "tt54-2017",
    drafts: int = 0,
    owner: str = _OWNERS[0],
    due: date | None = date(2025, 8, 15),
) -> GroupView:
    known = reason == "levels"
    counts = {"met": 4, "not_met": 3, "unknown": 11}
    score = GroupScore(
        framework, id_, known, proven, possible, target, Reason(reason, {"scored": 18}), counts, 18, drafts, 6
    )
    title_of = TCVN if framework.startswith("tcvn") else TT54
    return GroupView(framework, title_of, id_, Words(title, title), levels, score, target, gap, owner, due)


def groups() -> tuple[GroupView, ...]:
    soft = {"owner": _OWNERS[1], "due": date(2025, 8, 25)}
    return (
        group("infra", "Hạ tầng", "2", "4", "7", gap=5, drafts=23),
        group(
            "his", "Hệ thống thông tin bệnh viện (HIS)", None, None, "6", reason="list_not_complete", drafts=31, **soft
        ),
        group("lis", "Hệ thống thông tin xét nghiệm (LIS)", None, "advanced", "advanced", levels=NAMED, gap=2, **soft),
        group(
            "rispacs",
            "Hệ thống lưu trữ và truyền hình ảnh (RIS-PACS)",
            "basic",
            "advanced",
            "advanced",
            levels=NAMED,
            gap=1,
            **soft,
        ),
        group("emr", "Bệnh án điện tử (EMR)", None, None, "basic", levels=NAMED, reason="group_out_of_force", **soft),
        group(
            "nonfunc", "Phi chức năng", None, None, None, levels=NAMED, reason="list_not_complete", owner="", due=None
        ),
        group(
            "system",
            "An toàn hệ thống thông tin theo cấp độ",
            None,
            "2",
            "2",
            levels=("1", "2", "3"),
            gap=2,
            framework="tcvn14423-2026",
        ),
    )


def rich() -> Overview:
    plan = campaign()
    as_of = date(2025, 8, 14)
    at = datetime(2025, 8, 14, 3, 30, tzinfo=UTC)
    blockers = (
        Blocker(
            "tcvn14423.backup",
            Words("Bản sao lưu ngoại tuyến đã được kiểm tra phục hồi", "Restored"),
            "tcvn14423-2026",
            "system",
            "not_met",
            Reason(
                "findings", {"verdict": "not_met", "count": 1, "of": 1, "check": "backup.restore", "asset": "sv-01"}
            ),
            _OWNERS[0],
            "critical",
            1,
            None,
        ),
        Blocker(
            "tcvn14423.time",
            Words("Thời gian của mọi máy chủ được đồng bộ", "Clocks are synchronised"),
            "tcvn14423-2026",
            "system",
            "not_met",
            Reason("at_most", {"bound": 0.5, "value": 2.75}),
            _OWNERS[0],
            "high",
            2,
            "time-sync",
        ),
        Blocker(
            "tt54.075",
            Words("Thống kê, báo cáo của RIS-PACS", "RIS-PACS statistics"),
            "tt54-2017",
            "rispacs",
            "unknown",
            Reason("no_check"),
            _OWNERS[1],
            "medium",
            0,
            None,
        ),
    )
    return Overview(
        at=at,
        as_of=as_of,
        campaign=plan,
        groups=groups(),
        milestones=tuple(MilestoneView(m, (m.due_on - as_of).days) for m in plan.milestones),
        blockers=blockers,
        trend=(
            TrendPoint(datetime(2025, 8, 7, 3, 0, tzinfo=UTC), 9, 14, 168),
            TrendPoint(datetime(2025, 8, 14, 1, 5, tzinfo=UTC), 12, 11, 168),
        ),
        counts={"met": 12, "not_met": 11, "unknown": 140, "stale": 2, "waived": 1, "not_applicable": 2},
        total=168,
        drafts=104,
        automated=41,
        assets={
            "server": 1,
            "workstation": 35,
            "printer": 30,
            "switch": 4,
            "firewall": 1,
            "ups": 1,
            "nas": 1,
            "service": 5,
            "site": 1,
        },
        assets_looked_at={"server": 1, "workstation": 3, "printer": 1, "switch": 1},
        last_round=RoundView(
            "20250814T010500Z-12",
            12,
            datetime(2025, 8, 14, 1, 5, tzinfo=UTC),
            datetime(2025, 8, 14, 1, 9, 12, tzinfo=UTC),
            "done",
            (),
            {"answered": 6, "no_address": 69, "timeout": 2, "auth_failed": 1},
            SEAL,
        ),
        chain_head=HEAD,
        chain_holds=True,
    )


def empty() -> Overview:
    """The first hour: an inventory, a plan, no round and nothing scored."""
    return replace(
        rich(),
        groups=(),
        blockers=(),
        trend=(),
        counts={},
        total=0,
        drafts=0,
        automated=0,
        assets={"server": 1, "workstation": 35, "printer": 30},
        assets_looked_at={},
        last_round=None,
        chain_head="",
    )


def unknown() -> Overview:
    """A hospital of which nothing is known: every criterion unknown, no level determinable, nobody named."""
    blank = tuple(
        replace(
            view,
            score=replace(
                view.score,
                determinable=False,
                proven=None,
                possible=None,
                reason=Reason("list_not_complete", {"scored": 0}),
                counts={"unknown": 18},
            ),
            gap=None,
            target=None,
            owner="",
            due_on=None,
        )
        for view in groups()
    )
    last = rich().last_round
    assert last is not None
    return replace(
        rich(),
        groups=blank,
        blockers=(),
        milestones=(),
        trend=(),
        counts={"unknown": 168},
        automated=0,
        assets_looked_at={},
        last_round=replace(last, looks={"no_address": 78}),
        notes=(Reason("inventory_error", {"sentence": "hosts.yaml, dòng 12: nhóm không có."}),),
    )


def longer(title: Words) -> Words:
    return Words(f"{title.vi} và các nội dung có liên quan, không có ngoại lệ nào tại các khoa, phòng", title.en)


def long_names() -> Overview:
    """Everything at its longest, and figures from outside the week on a broken chain."""
    owner = (
        "Phòng Hành chính - Tổng hợp; Khoa Dược - Trang thiết bị vật tư y tế; Khoa Xét nghiệm - Thăm dò chức năng và "
        "chẩn đoán hình ảnh; Tổ Tư vấn hạ tầng công nghệ; Tổ Tư vấn nghiệp vụ chuyên môn; Bộ phận công nghệ thông tin"
    )
    base = rich()
    name = Words("Bệnh viện Nội tiết tỉnh Quảng Ngãi", "Quảng Ngãi Hospital of Endocrinology")
    plan = replace(
        base.campaign,
        hospital=replace(base.campaign.hospital, name=name, recipients=tuple(f"{owner} ({i})" for i in range(4))),
    )
    later = datetime(2026, 11, 23, 9, 15, tzinfo=UTC)
    last = base.last_round
    assert last is not None
    return replace(
        base,
        at=later,
        as_of=date(2026, 11, 23),
        campaign=plan,
        chain_holds=False,
        groups=tuple(replace(g, owner=owner, title=longer(g.title)) for g in base.groups),
        blockers=tuple(replace(b, owner=owner, title=longer(b.title)) for b in base.blockers),
        last_round=replace(
            last, started_at=later, ended_at=None, state="interrupted", only=("sv-01", "pc-01"), id="f" * 64
        ),
    )


EVIDENCE = (
    EvidenceLine("Bảng điểm (scorecard) của lượt đo số 12", CARD, datetime(2025, 8, 14, 1, 9, 12, tzinfo=UTC)),
    EvidenceLine("Bộ tiêu chí và quy tắc kiểm tra (catalog)", SEAL[::-1], datetime(2025, 8, 14, 1, 9, 12, tzinfo=UTC)),
)
LOOKS = (
    LookLine("Máy chủ SV-01", "answered"),
    LookLine("Máy tính PC-02", "timeout"),
    LookLine("Máy tính PC-03", "timeout"),
    LookLine("Máy in PRN-01", "auth_failed"),
    LookLine("Máy tính PC-04", "no_address"),
)
