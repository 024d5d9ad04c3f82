"""Duties at their time: "before the 20th" ends on the 19th, years turn, February has its 29th, clocks run in UTC."""

from __future__ import annotations

import unicodedata
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.catalog import CatalogError
from controlplane.domain.duties import Due, DutyError, dossier, due_dates, incident_clocks, keep_until, make_duties

FILE = Path(__file__).parents[2] / "checks" / "law" / "duties.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
LAW = make_duties(FILE.name, DOCUMENT)
SAIGON = timezone(timedelta(hours=7))
NOVEMBER = date(2026, 11, 23)


def rows(day: date, **options: Any) -> dict[str, list[Due]]:
    found: dict[str, list[Due]] = {}
    for due in due_dates(LAW, day, **options):
        found.setdefault(due.duty.id, []).append(due)
    return found


def last_days(name: str, day: date, **options: Any) -> list[tuple[date | None, int | None]]:
    return [(due.due_on, due.days_left) for due in rows(day, **options).get(name, [])]


# ------------------------------------------------------------------------------------------------ every year


@pytest.mark.parametrize(
    ("name", "day", "due_on", "days_left"),
    [
        ("security.year_closed", NOVEMBER, date(2026, 12, 14), 21),
        ("security.report_to_owner", NOVEMBER, date(2026, 12, 19), 26),
        ("security.report_to_owner", date(2026, 12, 19), date(2026, 12, 19), 0),
        ("security.report_to_ministry", NOVEMBER, date(2026, 12, 24), 31),
        ("security.report_to_ministry", date(2026, 8, 19), date(2026, 12, 24), 127),
        ("tt54.december_report", date(2018, 2, 27), date(2018, 12, 31), 307),
    ],
)
def test_before_a_day_means_that_the_day_itself_is_too_late(name: str, day: date, due_on: date, days_left: int) -> None:
    assert last_days(name, day) == [(due_on, days_left)]


def test_a_duty_of_a_law_that_does_not_hold_yet_or_any_more_is_not_told() -> None:
    assert "security.report_to_owner" not in rows(date(2026, 8, 18))
    assert "security.report_to_owner" in rows(date(2026, 8, 19))
    assert last_days("security.directive09_approved", date(2026, 6, 30)) == [(date(2024, 9, 30), -638)]
    assert "security.directive09_approved" not in rows(date(2026, 7, 1))


def test_a_report_that_was_not_sent_is_late_beside_the_next_one() -> None:
    day = date(2026, 12, 20)
    late_and_next = [(date(2026, 12, 19), -1), (date(2027, 12, 19), 364)]
    assert last_days("security.report_to_owner", day) == late_and_next
    # a year's silence does not help; the last year's report is the one that is late
    assert last_days("security.report_to_owner", date(2027, 12, 31), done={"security.report_to_owner": day}) == [
        (date(2027, 12, 19), -12), (date(2028, 12, 19), 354),
    ]  # fmt: skip


def test_a_report_that_was_sent_in_time_or_late_leaves_the_next_year() -> None:
    sent = {"security.report_to_owner": date(2026, 12, 10)}
    assert last_days("security.report_to_owner", date(2026, 12, 11), done=sent) == [(date(2027, 12, 19), 373)]
    late = {"security.report_to_owner": date(2027, 1, 5)}
    assert last_days("security.report_to_owner", date(2027, 1, 6), done=late) == [(date(2027, 12, 19), 347)]
    tomorrow = {"security.report_to_owner": date(2026, 12, 12)}
    assert last_days("security.report_to_owner", date(2026, 12, 11), done=tomorrow) == [(date(2026, 12, 19), 8)]


def test_the_year_turns() -> None:
    sent = {"tt54.december_report": date(2026, 12, 28)}
    (december,) = rows(date(2026, 12, 31), done={"tt54.december_report": date(2025, 12, 20)})["tt54.december_report"]
    assert (december.due_on, december.days_left, december.opens_on) == (date(2026, 12, 31), 0, date(2026, 12, 1))
    (january,) = rows(date(2027, 1, 1), done=sent)["tt54.december_report"]
    assert (january.due_on, january.days_left, january.opens_on) == (date(2027, 12, 31), 364, date(2027, 12, 1))


def made_yearly(**when: str) -> Any:
    document = deepcopy(DOCUMENT)
    document["duties"] = [document["duties"][0] | {"when": {"yearly": when}, "in_force": [None, None]}]
    return make_duties("law.yaml", document)


@pytest.mark.parametrize(
    ("when", "day", "due_on"),
    [
        ({"before": "03-01"}, date(2028, 2, 1), date(2028, 2, 29)),
        ({"before": "03-01"}, date(2027, 2, 1), date(2027, 2, 28)),
        ({"by": "02-29"}, date(2028, 2, 1), date(2028, 2, 29)),
        ({"by": "02-29"}, date(2027, 2, 1), date(2027, 2, 28)),
        ({"before": "01-01"}, date(2026, 12, 31), date(2026, 12, 31)),
        ({"before": "01-01"}, date(2027, 1, 1), date(2027, 12, 31)),
    ],
)
def test_leap_years_and_the_first_of_january(when: dict[str, str], day: date, due_on: date) -> None:
    assert due_dates(made_yearly(**when), day)[-1].due_on == due_on


@given(st.dates(date(2018, 2, 27), date(2060, 1, 1)))
def test_on_any_day_every_yearly_duty_has_one_last_day_within_a_year(day: date) -> None:
    for name in ("security.report_to_owner", "security.report_to_ministry", "tt54.december_report"):
        coming = [due for due in rows(day).get(name, []) if due.days_left is not None and due.days_left >= 0]
        assert len(coming) == (1 if name in rows(day) else 0)
        for due in coming:
            assert due.due_on == day + timedelta(days=due.days_left or 0)
            assert (due.days_left or 0) <= 366


# ------------------------------------------------------------------------------------------------ once and again


def test_a_single_deadline_counts_down_passes_and_goes_when_it_is_done() -> None:
    assert last_days("emr.hospitals", date(2025, 8, 15)) == [(date(2025, 9, 30), 46)]
    assert last_days("emr.hospitals", date(2025, 10, 1)) == [(date(2025, 9, 30), -1)]
    assert last_days("emr.hospitals", date(2025, 10, 1), done={"emr.hospitals": date(2025, 9, 28)}) == []
    assert last_days("security.sector_approved", date(2026, 9, 29)) == [(date(2026, 9, 29), 0)]
    assert last_days("security.old_projects_approved", NOVEMBER) == [(date(2026, 12, 31), 38)]
    assert last_days("security.measures_after_transition", NOVEMBER) == [(date(2027, 6, 30), 219)]


def test_intervals_follow_the_level_and_the_day_of_the_last_time() -> None:
    done = {"review.logs": date(2027, 9, 1)}
    day = date(2027, 9, 1)
    assert last_days("review.logs", day, level="2", done=done) == [(date(2028, 8, 31), 365)]  # over a 29th of February
    assert last_days("review.logs", day, level="3", done=done) == [(date(2028, 3, 2), 183)]
    assert last_days("review.logs", day, done=done) == [(date(2028, 3, 2), 183)]  # no level: the strictest
    assert last_days("review.logs", day, level="2") == [(None, None)]
    assert due_dates(LAW, day, level="2")[-1].due_on is None


def test_a_level_leaves_out_what_binds_other_levels_only() -> None:
    assert "security.admins_certified" not in rows(NOVEMBER, level="2")
    assert "security.admins_certified" in rows(NOVEMBER, level="3")
    assert "security.sector_approved" not in rows(NOVEMBER, level="1")
    assert "tt54.december_report" in rows(NOVEMBER, level="1")


def test_what_binds_others_is_told_on_request_and_events_have_no_day() -> None:
    assert "emr.other_facilities" not in rows(NOVEMBER)
    assert last_days("emr.other_facilities", NOVEMBER, others=True) == [(date(2026, 12, 31), 38)]
    assert [due.due_on for due in rows(NOVEMBER, others=True)["security.ministry_list"]] == [date(2027, 1, 14)]
    assert "security.risk_assessment" not in rows(NOVEMBER, others=True)


def test_the_soonest_stands_first() -> None:
    days = [due.due_on for due in due_dates(LAW, NOVEMBER) if due.due_on]
    assert days == sorted(days)


def test_an_unknown_duty_or_level_is_refused_by_name() -> None:
    with pytest.raises(DutyError, match=r"review\.log: no such duty; did you mean 'review\.logs'"):
        due_dates(LAW, NOVEMBER, done={"review.log": NOVEMBER})
    with pytest.raises(DutyError, match="4: no such level"):
        due_dates(LAW, NOVEMBER, level="4")


# ------------------------------------------------------------------------------------------------ clocks


def test_a_serious_incident_starts_the_clocks_in_utc() -> None:
    noticed = datetime(2026, 12, 31, 23, 30, tzinfo=SAIGON)
    found = [(d.clock.id, d.due_at) for d in incident_clocks(LAW, noticed, True)]
    assert found == [
        ("incident.first_notice", datetime(2027, 1, 1, 16, 30, tzinfo=UTC)),
        ("incident.report", datetime(2027, 1, 3, 16, 30, tzinfo=UTC)),
    ]


def test_each_kind_of_incident_runs_its_own_clocks() -> None:
    noticed = datetime(2028, 2, 28, 8, 0, tzinfo=UTC)

    def clocks(serious: bool, **kinds: bool) -> list[str]:
        return [deadline.clock.id for deadline in incident_clocks(LAW, noticed, serious, **kinds)]

    assert clocks(False) == ["incident.report"]
    assert clocks(False, grave=True) == ["incident.now", "incident.first_notice", "incident.report"]
    assert clocks(False, personal_data=True) == ["incident.personal_data", "incident.report"]
    assert incident_clocks(LAW, noticed, True)[-1].due_at == datetime(2028, 3, 2, 8, 0, tzinfo=UTC)  # over the 29th
    assert incident_clocks(LAW, noticed, False, grave=True)[0].due_at == noticed


def test_clocks_follow_the_law_of_the_day_and_need_a_zone() -> None:
    before = datetime(2026, 8, 18, 12, 0, tzinfo=SAIGON)
    assert [d.clock.id for d in incident_clocks(LAW, before, True, personal_data=True)] == ["incident.personal_data"]
    with pytest.raises(DutyError, match="needs its zone"):
        incident_clocks(LAW, datetime(2026, 12, 1, 8, 0), True)  # noqa: DTZ001


# ------------------------------------------------------------------------------------------------ dossiers


def test_the_announcement_has_sixteen_parts() -> None:
    nothing = dossier(LAW, "announcement", [])
    assert (len(nothing.present), len(nothing.missing)) == (0, 16)
    assert nothing.dossier.basis.confidence == "derived"
    some = dossier(LAW, "announcement", ["plan", "council", "plan"])
    assert [part.id for part in some.present] == ["council", "plan"]
    assert len(some.missing) == 14
    assert not dossier(LAW, "announcement", [part.id for part in nothing.missing]).missing


def test_the_level_dossier_and_its_contents() -> None:
    count = {entry.id: len(entry.parts) for entry in LAW.dossiers}
    assert count == {"level": 4, "level-description": 6, "level-plan": 7, "regulation": 7, "announcement": 16}
    assert {entry.basis.confidence for entry in LAW.dossiers if entry.id != "announcement"} == {"quoted"}


def test_an_unknown_dossier_or_part_is_refused_by_name() -> None:
    with pytest.raises(DutyError, match="announcment: no such dossier; did you mean 'announcement'"):
        dossier(LAW, "announcment", [])
    with pytest.raises(DutyError, match="announcement: no such part 'plans'; did you mean 'plan'"):
        dossier(LAW, "announcement", ["plans"])


# ------------------------------------------------------------------------------------------------ retention, fines


@pytest.mark.parametrize(
    ("name", "closed_on", "until"),
    [
        ("record.treatment", date(2025, 8, 15), date(2035, 12, 31)),
        ("record.treatment", date(2025, 12, 31), date(2035, 12, 31)),
        ("record.death", date(2026, 1, 1), date(2056, 12, 31)),
        ("record.incident_file", date(2026, 1, 1), None),
        ("log.level2", date(2027, 1, 31), date(2027, 2, 28)),
        ("log.level2", date(2028, 1, 31), date(2028, 2, 29)),
        ("log.level3", date(2026, 11, 30), date(2027, 2, 28)),
        ("log.online_enterprises", date(2028, 2, 29), date(2029, 2, 28)),
        ("log.digital_accounts", date(2026, 12, 1), date(2027, 3, 1)),
    ],
)
def test_how_long_to_keep(name: str, closed_on: date, until: date | None) -> None:
    assert keep_until(LAW, name, closed_on) == until


def test_an_unknown_record_is_refused_by_name() -> None:
    with pytest.raises(DutyError, match=r"record\.deaths: no such record; did you mean 'record\.death'"):
        keep_until(LAW, "record.deaths", NOVEMBER)


def test_fines_are_ranges_and_second_hand() -> None:
    assert len(LAW.penalties) == 14
    assert {fine.basis.confidence for fine in LAW.penalties} == {"secondary"}
    assert {fine.of for fine in LAW.penalties if fine.basis.clause.startswith("NĐ 330")} == {"organisation"}


# ------------------------------------------------------------------------------------------------ the document


def test_the_shipped_document_is_nfc_and_cites_every_source_it_lists() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert unicodedata.normalize("NFC", text) == text
    parts = (LAW.duties, LAW.clocks, LAW.terms, LAW.dossiers, LAW.retention, LAW.penalties)
    assert {name for part in parts for entry in part for name in entry.basis.source} == set(DOCUMENT["sources"])
    assert {entry.basis.confidence for part in parts for entry in part} == {"quoted", "secondary", "derived"}
    assert {term.id: term.working_days for term in LAW.terms} == {
        "level.reply_faulty": 5, "level.appraisal": 15, "level.approval": 7,
    }  # fmt: skip


def broken(path: str, value: Any) -> dict[str, Any]:
    """The shipped document with one thing changed; ``duties.0.when`` is a path into it."""
    document = deepcopy(DOCUMENT)
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place: Any = document
    for step in way:
        place = place[step]
    place[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("dutys", [], "law.yaml: unknown key 'dutys'; did you mean 'duties'?"),
        ("duties.0.whom", "x", "law.yaml: duties: security.year_closed: unknown key 'whom'"),
        ("duties.1.id", "security.year_closed", "duties: security.year_closed: this id stands twice"),
        ("duties.0.when", {"weekly": 4}, "when needs exactly one of yearly, once, every_days, event"),
        ("duties.0.when", {"yearly": {"by": "12-14", "before": "12-15"}}, "needs before (that day is too late) or by"),
        ("duties.0.when", {"yearly": {}}, "needs before (that day is too late) or by"),
        ("duties.0.when", {"yearly": {"by": "14/12"}}, "'14/12' is not a day of the year such as 12-20"),
        ("duties.0.when", {"yearly": {"by": "02-30"}}, "'02-30' is not a day of the year"),
        ("duties.0.when", {"once": {"by": "2026-02-29"}}, "'2026-02-29' is not a day such as"),
        ("duties.0.when", {"once": {"from": "2026-02-01", "by": "2026-03-01"}}, "unknown key 'from'"),
        ("duties.0.when", {"every_days": {"1": 30}}, "every_days must name the days of each of its levels"),
        ("duties.0.when", {"every_days": {"1": 0, "2": 1, "3": 1}}, "whole number of at least 1, not 0"),
        ("duties.0.levels", ["4"], "levels must be one of 1, 2, 3"),
        ("duties.0.ours", "no", "ours must be true or false"),
        ("duties.0.source", ["P2"], "duties: security.year_closed: no source 'P2'"),
        ("duties.0.confidence", "certain", "confidence must be one of"),
        ("duties.0.in_force", ["soon", None], "'soon' is not a day"),
        ("clocks.0.hours", -1, "clocks: incident.now: hours must be a whole number"),
        ("clocks.0.hours", True, "clocks: incident.now: hours must be a whole number"),
        ("clocks.0.applies_to", "seriously", "did you mean 'serious'?"),
        ("terms.0.working_days", "5", "terms: level.reply_faulty: working_days must be a whole number"),
        ("dossiers.0.parts", [], "dossiers: level: a dossier needs parts"),
        ("dossiers.0.parts.1.id", "description", "description: this part stands twice"),
        ("retention.0.keep", "forever", "keep must be permanent, or exactly one of years, months, days"),
        ("retention.1.counted_from", "today", "counted_from must be one of year_end, day"),
        ("penalties.0.million_vnd", [60, 40], "million_vnd must be [least, most]"),
        ("penalties.0.of", "hospital", "of must be one of organisation, individual"),
        ("sources", [], "sources must be a mapping"),
    ],
)
def test_a_broken_document_is_refused_by_name(path: str, value: Any, sentence: str) -> None:
    with pytest.raises(CatalogError) as refused:
        make_duties("law.yaml", broken(path, value))
    assert sentence in str(refused.value)
