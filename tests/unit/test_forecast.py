"""The forecast: dates that are there by right, honest where nothing is known, and as often right as it says."""

import math
import random
import re
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane import texts
from controlplane.collect.campaign import load_campaign
from controlplane.domain.chain import canonical
from controlplane.domain.declared import fact_of
from controlplane.domain.forecast import Dates, Expiry, expiries, forecast, learn, outlook
from controlplane.domain.judge import Seen
from controlplane.domain.model import SITE, Finding, Reason, Verdict, Words
from controlplane.domain.overview import Milestone, Task, milestones_from
from controlplane.domain.score import score
from tests import forecast_backtest as backtest
from tests.conftest import ROOT, a_catalog, a_check, a_criterion, a_framework, seen
from tests.unit.test_overview import CAMPAIGN
from tests.unit.test_shipped_checks import CATALOG

DAY = date(2025, 8, 1)
AIM = "law/a"


def a_task(name="t1", starts=0, days=10, done=None, serves=(AIM,), milestone="infra"):
    """A task of ten days from the first day on; ``done`` is the day of the campaign on which it was done."""
    start = DAY + timedelta(days=starts)
    done_on = None if done is None else DAY + timedelta(days=done)
    return Task(
        name,
        Words(name, name),
        milestone,
        "Tổ hạ tầng",
        serves,
        start,
        start + timedelta(days=days - 1),
        "V.1",
        done_on,
    )


UNDATED = replace(a_task("open-end"), starts_on=None, due_on=None)
LAW = a_catalog(
    [a_check("c0", ("law.a.0",)), a_check("c1", ("law.a.1",))],
    a_framework(a_criterion("law.a.0", "1"), a_criterion("law.a.1", "2")),
)


def a_card(first="met", second="not_met", day=DAY, catalog=LAW):
    findings = [Finding(f"c{i}", "sv-01", Verdict(v), Reason("t")) for i, v in enumerate((first, second))]
    return score(catalog, findings, day)


def said(*tasks, day=DAY, card=None, expiring=(), catalog=LAW, **campaign):
    plan = replace(CAMPAIGN, tasks=tasks, **campaign)
    return forecast(plan, catalog, card or a_card(day=day), day, expiring)


def target(*tasks, **options):
    return said(*tasks, **options).targets[0]


# ------------------------------------------------------------------------------------------- the dates


def test_before_anything_is_finished_the_dates_are_wide_and_say_so():
    found = target(a_task())
    assert found.state == "likely"
    assert abs((found.p50 - DAY).days - 9) <= 1  # the plan is taken at its word
    assert (found.p90 - found.p50).days >= 5
    assert [n.code for n in found.notes] == ["nothing_finished"]
    assert (found.late_days_p50, found.due_on) == ((found.p50 - date(2025, 8, 15)).days, date(2025, 8, 15))


def test_what_was_finished_late_makes_the_rest_later_and_narrower():
    late = [a_task(f"d{i}", 0, 10, done=19) for i in range(6)]
    day = DAY + timedelta(days=20)
    slow = target(*late, a_task("next", 21, 10), day=day)
    fresh = target(a_task("next", 21, 10), day=day)
    assert slow.p50 > fresh.p50 + timedelta(days=5)
    assert (slow.p90 - slow.p50) < (fresh.p90 - fresh.p50)
    assert slow.notes == ()
    assert 1.6 < learn(late, day).factor < 2.2


def test_one_late_task_moves_the_middle_less_than_many():
    day = DAY + timedelta(days=40)
    factors = [learn([a_task(f"d{i}", 0, 10, done=29) for i in range(n)], day).factor for n in (0, 1, 3, 9)]
    assert factors == sorted(factors)
    assert factors[0] == pytest.approx(1, abs=0.01)
    assert factors[1] < 2 < factors[3] < 3.2


def test_a_task_that_is_still_running_says_that_it_takes_longer():
    day = DAY + timedelta(days=25)
    assert learn([a_task()], day).factor > 1.3
    assert target(a_task(), day=day).p50 >= day


def test_what_is_recorded_later_is_not_known_yet():
    day = DAY + timedelta(days=5)
    known = learn([a_task(done=4), a_task("t2", done=30)], day)
    assert (known.finished, known.running) == (1, 1)
    assert target(a_task(done=30), day=day) == target(a_task(), day=day)


def test_the_last_task_decides_and_is_named_first():
    found = target(a_task("short", 0, 5), a_task("long", 0, 40), a_task("mid", 0, 12), a_task("tiny", 0, 3))
    assert found.drivers[0].task == "long"
    assert len(found.drivers) == 3
    assert found.drivers[0].likely_percent > 80
    assert found.drivers[0].owner == "Tổ hạ tầng"
    assert found.open_tasks == ("long", "mid", "short", "tiny")


def test_the_chance_that_all_are_done_is_summed_and_not_drawn():
    tasks = [a_task("a"), a_task("b", 2, 7)]
    dates = Dates(tasks, learn(tasks, DAY), DAY)
    by_hand = 0.0
    for point, (_, _, weight) in enumerate(dates.pace.points):
        by_hand += weight * dates.done(0, 12)[point] * dates.done(1, 12)[point]
    assert dates.all_done(12) == pytest.approx(by_hand)
    assert sum(w for _, _, w in dates.pace.points) == pytest.approx(1)


plans = st.lists(
    st.builds(a_task, st.uuids().map(str), st.integers(0, 40), st.integers(1, 30), st.none() | st.integers(0, 80)),
    min_size=1,
    max_size=7,
)


@settings(max_examples=40)
@given(plans, st.integers(0, 60))
def test_dates_are_in_order_never_past_and_the_same_again(tasks, ahead):
    day = DAY + timedelta(days=ahead)
    found = target(*tasks, day=day)
    assert canonical(found) == canonical(target(*reversed(tasks), day=day))
    if found.p50 is not None:
        assert found.p50 >= day
        assert found.p90 is None or found.p90 >= found.p50
        assert sum(d.likely_percent for d in found.drivers) <= 102
    else:
        assert found.state == "unknown"


@settings(max_examples=25)
@given(plans)
def test_one_more_task_never_makes_it_earlier_at_the_same_pace(tasks):
    running = [replace(t, done_on=None) for t in tasks]
    pace = learn(running, DAY)
    fewer = Dates(running[:-1], pace, DAY).quantile(0.5) if running[:-1] else 0
    assert Dates(running, pace, DAY).quantile(0.5) >= fewer


# ------------------------------------------------------------------------------------ what is not known


@pytest.mark.parametrize(
    ("tasks", "code"),
    [
        ([], "no_task"),
        ([a_task(serves=())], "no_task"),
        ([UNDATED], "undated"),
        ([UNDATED, a_task()], "undated"),
        ([a_task(done=0)], "tasks_done"),
    ],
)
def test_where_nothing_is_known_no_date_is_given(tasks, code):
    found = target(*tasks)
    assert (found.state, found.reason.code, found.p50, found.p90) == ("unknown", code, None, None)


def test_a_criterion_that_no_task_serves_is_named():
    card = a_card("not_met", "not_met")
    found = target(a_task(serves=("law.a.0",)), card=card)
    assert (found.state, found.reason.code, found.reason.figures["criteria"]) == ("unknown", "uncovered", "law.a.1")
    assert target(a_task(serves=("law.a.1",))).state == "likely"  # law.a.0 is met already
    assert target(a_task(serves=(AIM,)), card=card).state == "likely"


def test_later_than_the_model_knows_is_no_date():
    found = target(*(a_task(f"t{i}") for i in range(6)), day=DAY + timedelta(days=480))
    assert (found.state, found.reason.code, found.p50) == ("unknown", "off_scale", None)


def test_a_target_that_is_reached_needs_no_date():
    found = target(a_task(), card=a_card("met", "met"))
    assert (found.state, found.p50, found.drivers) == ("reached", None, ())


def test_where_no_level_can_be_proven_the_tasks_have_a_date_and_the_target_a_note():
    open_ = a_catalog(
        [a_check("c0", ("law.a.0",)), a_check("c1", ("law.a.1",))],
        a_framework(a_criterion("law.a.0", "1"), a_criterion("law.a.1", "2"), list_complete=False),
    )
    found = target(a_task(), card=a_card("met", "met", catalog=open_), catalog=open_)
    assert found.state == "likely"
    assert "no_level_provable" in [n.code for n in found.notes]


def test_evidence_that_ends_before_the_date_is_said():
    soon, later = Expiry("law.a.0", DAY + timedelta(days=3)), Expiry("law.a.0", DAY + timedelta(days=400))
    other = Expiry("law.a.1", DAY)  # not met anyway
    notes = [n for n in target(a_task(), expiring=[soon, later, other]).notes if n.code == "expires"]
    assert [n.figures for n in notes] == [{"criterion": "law.a.0", "until": "2025-08-04"}]


def test_words_that_end_soon_are_found():
    def word(kind, until):
        value = {"kind": kind, "by": "Phòng HCTH", "expires_on": until}
        return Seen(seen(SITE, fact_of("law.a.0"), value))

    for kind, until, count in (
        ("document", "2025-08-20", 1),
        ("document", "2025-12-20", 0),
        ("document", "2025-07-20", 0),
        ("withdrawn", "2025-08-20", 0),
        ("document", None, 0),
    ):
        assert len(expiries(LAW, {(SITE, fact_of("law.a.0")): word(kind, until)}, DAY, 30)) == count


# ------------------------------------------------------------------------------------------- milestones


def test_a_milestone_that_is_done_is_not_overdue():
    mark = CAMPAIGN.milestones[0]
    done = replace(CAMPAIGN, milestones=(replace(mark, done_on=date(2025, 8, 20)),))
    for day, state in ((date(2025, 8, 14), "coming"), (date(2025, 8, 18), "late"), (date(2025, 8, 20), "done")):
        assert milestones_from(done, day)[0].state == state
    assert milestones_from(CAMPAIGN, date(2026, 1, 1))[0].state == "late"
    assert milestones_from(CAMPAIGN, mark.due_on)[0].state == "coming"


def test_milestones_have_dates_of_their_own():
    done = Milestone("start", Words("a", "a"), DAY, "BGĐ", "IV", done_on=DAY)
    marks = (done, *CAMPAIGN.milestones)
    found = {o.id: o for o in said(a_task(), milestones=marks).milestones}
    assert (found["start"].state, found["infra"].state) == ("reached", "likely")
    assert found["infra"].p50 is not None


# ------------------------------------------------------------------------------------------- as shipped


def test_the_shipped_tasks_come_from_the_plan_and_hold_no_finished_date():
    campaign = load_campaign(ROOT / "inventory" / "campaign.yaml")
    assert len(campaign.tasks) == 21
    assert all(t.done_on is None and ("Mục V" in t.source) for t in campaign.tasks)
    assert all(m.done_on is None for m in campaign.milestones)
    targets = {f"{t.framework}/{t.group}" for t in campaign.targets}
    for task in campaign.tasks:
        assert all(aim in targets or aim in CATALOG.criteria for aim in task.serves), task.id
        due = {m.id: m.due_on for m in campaign.milestones}.get(task.milestone)
        assert task.due_on is None or task.due_on == due, task.id
        assert (task.due_on is None) == ("không nêu thời hạn" in task.source), task.id
    served = {aim for task in campaign.tasks for aim in task.serves}
    assert targets <= served


def test_the_shipped_plan_is_forecast_from_its_own_days_and_refused_a_year_later():
    campaign = load_campaign(ROOT / "inventory" / "campaign.yaml")
    for day, state, code in ((date(2025, 8, 5), "likely", "likely"), (date(2026, 11, 26), "unknown", "off_scale")):
        found = forecast(campaign, CATALOG, score(CATALOG, [], day), day)
        by_id = {o.id: o for o in found.targets}
        assert (by_id["tt13-2025/emr"].state, by_id["tt13-2025/emr"].reason.code) == (state, code)
        assert by_id["tt54-2017/infra"].reason.code == "undated"
        assert by_id["tt54-2017/infra"].due_on is None


# ----------------------------------------------------------------------------------------- calibration


def test_what_comes_as_the_prior_assumes_comes_as_often_as_is_said():
    tally = backtest.measure("prior", 50, 150)
    assert tally.made >= 120
    assert 0.38 <= tally.by_p50 / tally.made <= 0.62  # three standard errors
    assert 0.82 <= tally.by_p90 / tally.made <= 0.98


@pytest.mark.parametrize(("scenario", "percent"), [("third", 75), ("stuck", 50)])
def test_the_published_table_is_the_measured_one(scenario, percent):
    page = (ROOT / "docs" / "explanation" / "forecast.md").read_text(encoding="utf-8")
    assert backtest.row(scenario, percent, backtest.measure(scenario, percent)) in page
    assert page.count("\n| ") == 2 + len(backtest.SCENARIOS) * len(backtest.SEEN_AT)


def test_every_code_has_a_sentence_in_both_tongues():
    source = (ROOT / "controlplane" / "domain" / "forecast.py").read_text(encoding="utf-8")
    codes = set(re.findall(r'(?:Reason|unknown)\("(\w+)"', source))
    assert len(codes) >= 14
    for lang in ("vi", "en"):
        assert not [c for c in codes if f"forecast.{c}" not in texts.words(lang)]


def test_an_outlook_without_a_plans_date_has_no_days_late():
    dates = Dates([a_task()], learn([a_task()], DAY), DAY)
    found = outlook("target", AIM, "2", None, dates)
    assert (found.late_days_p50, found.late_days_p90) == (None, None)


def test_dates_and_drivers_are_what_drawing_many_campaigns_gives():
    chance = random.Random("drawn")  # noqa: S311
    tasks = [a_task("a", 0, 20), a_task("b", 5, 18), a_task("c", 0, 8), a_task("d", 12, 6)]
    day = DAY + timedelta(days=10)
    dates = Dates(tasks, learn([*tasks, a_task("e", 0, 8, done=9)], day), day)
    points = dates.pace.points
    ends, last = [], Counter()
    for middle, width, _ in chance.choices(points, [w for _, _, w in points], k=6000):
        drawn = {}
        for task in tasks:
            begins, planned = (task.starts_on - DAY).days, (task.due_on - task.starts_on).days + 1
            took = 0.0
            while begins + took <= max(begins, 10):  # it is known to be running still
                took = planned * math.exp(chance.gauss(middle, width))
            drawn[task.id] = begins + took
        ends.append(math.ceil(max(drawn.values())) - 1 - 10)
        last[max(drawn, key=drawn.get)] += 1
    for share in (0.5, 0.9):
        assert sum(e <= dates.quantile(share) for e in ends) / len(ends) == pytest.approx(share, abs=0.04)
    for driver in dates.drivers():
        assert driver.likely_percent == pytest.approx(100 * last[driver.task] / len(ends), abs=4)
