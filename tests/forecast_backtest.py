"""Whether the forecast's dates come true: synthetic campaigns with a known end, seen from several days of their plan.

Each campaign is drawn with a seed of its own, so every run gives the same figures. `python -m tests.forecast_backtest`
prints the table, with `--write` it puts it into docs/explanation/forecast.md, with `--check` it exits 1 when the table
there is not the one measured now.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

from controlplane.domain.forecast import (
    PRIOR_MIDDLE,
    PRIOR_SPREAD,
    WIDTHS,
    Dates,
    is_done,
    learn,
)
from controlplane.domain.model import Words
from controlplane.domain.overview import Task

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "explanation" / "forecast.md"
BEGIN, END = "<!-- backtest: begin -->", "<!-- backtest: end -->"
CAMPAIGNS = 200
FIRST_DAY = date(2025, 8, 1)
PLAN_DAYS = 60
SEEN_AT = (0, 25, 50, 75, 100)  # percent of the planned days
Durations = Callable[[random.Random, list[Task]], list[int]]


@dataclass(frozen=True)
class Tally:
    """How the forecasts of one scenario, seen at one time, came out."""

    made: int  # forecasts that gave both dates
    refused: int  # forecasts that said that they know no date, or none within the horizon
    by_p50: int  # the truth came by the P50
    by_p90: int  # ... by the P90
    width_days: float  # the mean of P90 minus P50


def a_plan(chance: random.Random) -> list[Task]:
    """A campaign of 12 to 20 tasks over two months, as plan 62 is: many overlap, the last ones are short."""
    tasks = []
    for number in range(chance.randint(12, 20)):
        starts = chance.randint(0, PLAN_DAYS - 6)
        length = chance.randint(5, min(30, PLAN_DAYS - starts))
        start, due = FIRST_DAY + timedelta(days=starts), FIRST_DAY + timedelta(days=starts + length - 1)
        name = f"t{number:02}"
        tasks.append(Task(name, Words(name, name), None, "-", (), start, due, "-"))
    return tasks


def planned(task: Task) -> int:
    """The days the plan gives."""
    assert task.due_on
    assert task.starts_on
    return (task.due_on - task.starts_on).days + 1


def spread(middle: Callable[[random.Random], float], width: Callable[[random.Random], float]) -> Durations:
    """Durations as the model takes them to be, with this middle and width of the logarithm."""

    def draw(chance: random.Random, tasks: list[Task]) -> list[int]:
        mu, sigma = middle(chance), width(chance)
        return [max(1, round(planned(t) * 2.718281828459045 ** chance.gauss(mu, sigma) + 0.5)) for t in tasks]

    return draw


def on_the_due_day(chance: random.Random, tasks: list[Task]) -> list[int]:
    """Seven of ten are done exactly on their due day, the others up to as long again."""
    return [planned(t) + (0 if chance.random() < 0.7 else chance.randint(1, planned(t))) for t in tasks]


def a_few_stuck(chance: random.Random, tasks: list[Task]) -> list[int]:
    """Near the plan, but one task in ten takes four to six times as long."""
    factors = [chance.uniform(4, 6) if chance.random() < 0.1 else chance.uniform(0.8, 1.2) for _ in tasks]
    return [max(1, round(planned(t) * f)) for t, f in zip(tasks, factors, strict=True)]


def slower_and_slower(chance: random.Random, tasks: list[Task]) -> list[int]:
    """The first tasks keep their time, the last ones take two and a half times as long."""
    found = []
    for task in tasks:
        assert task.starts_on
        part = (task.starts_on - FIRST_DAY).days / PLAN_DAYS
        found.append(max(1, round(planned(task) * (1 + 1.5 * part) * chance.uniform(0.85, 1.15))))
    return found


def waiting_for_each_other(chance: random.Random, tasks: list[Task]) -> list[int]:
    """Each task waits for the one before it in its chain of three: a late one pushes the next."""
    ends: list[int] = []
    order = sorted(range(len(tasks)), key=lambda i: (tasks[i].starts_on, tasks[i].id))
    took = [0] * len(tasks)
    for place, index in enumerate(order):
        task = tasks[index]
        assert task.starts_on
        begins = (task.starts_on - FIRST_DAY).days
        free = max(begins, ends[place - 3]) if place >= 3 else begins
        ends.append(free + max(1, round(planned(task) * chance.lognormvariate(0.2, 0.3))))
        took[index] = ends[-1] - begins
    return took


SCENARIOS: dict[str, tuple[str, str, Durations]] = {
    "prior": (
        "như giả định ban đầu",
        "as the prior assumes",
        spread(lambda c: c.gauss(PRIOR_MIDDLE, PRIOR_SPREAD), lambda c: c.choice(WIDTHS)),
    ),
    "third": ("chậm hơn một phần ba", "a third slower", spread(lambda _: 0.288, lambda _: 0.35)),
    "slow": ("chậm gấp 2,5 lần", "two and a half times slower", spread(lambda _: 0.916, lambda _: 0.3)),
    "fast": ("nhanh hơn kế hoạch một phần tư", "a quarter faster", spread(lambda _: -0.288, lambda _: 0.2)),
    "due": ("phần lớn xong đúng hạn chót", "mostly done on the very due day", on_the_due_day),
    "stuck": ("một phần mười bị kẹt", "one in ten is stuck", a_few_stuck),
    "drift": ("càng về sau càng chậm", "slower and slower", slower_and_slower),
    "chain": ("việc sau chờ việc trước", "tasks wait for each other", waiting_for_each_other),
}


def a_campaign(scenario: str, number: int) -> list[Task]:
    """The plan with the true day on which each task is done."""
    chance = random.Random(f"{scenario}-{number}")  # noqa: S311  # a seed, so that the figures can be had again
    tasks = a_plan(chance)
    took = SCENARIOS[scenario][2](chance, tasks)
    return [
        replace(t, done_on=t.starts_on + timedelta(days=d - 1)) for t, d in zip(tasks, took, strict=True) if t.starts_on
    ]


def measure(scenario: str, percent: int, campaigns: int = CAMPAIGNS) -> Tally:
    """Forecast the end of every campaign of the scenario that is still running at this part of its plan."""
    as_of = FIRST_DAY + timedelta(days=PLAN_DAYS * percent // 100)
    made = refused = by_p50 = by_p90 = 0
    widths = []
    for number in range(campaigns):
        tasks = a_campaign(scenario, number)
        running = [t for t in tasks if not is_done(t, as_of)]
        if not running:
            continue
        dates = Dates(running, learn(tasks, as_of), as_of)
        p50, p90 = (None, None) if dates.pace.off_scale else (dates.quantile(0.5), dates.quantile(0.9))
        if p50 is None or p90 is None:
            refused += 1
            continue
        truth = (max(t.done_on for t in running if t.done_on) - as_of).days
        made += 1
        by_p50 += truth <= p50
        by_p90 += truth <= p90
        widths.append(p90 - p50)
    return Tally(made, refused, by_p50, by_p90, sum(widths) / len(widths) if widths else 0.0)


def row(scenario: str, percent: int, tally: Tally) -> str:
    """One line of the table."""
    vi, en, _ = SCENARIOS[scenario]
    figures = ["-", "-", "-"]
    if tally.made:
        shares = (tally.by_p50 / tally.made, tally.by_p90 / tally.made)
        figures = [f"{100 * s:.0f} %" for s in shares] + [f"{tally.width_days:.0f}"]
    return f"| {vi} · {en} | {percent} % | {tally.made} | {tally.refused} | {' | '.join(figures)} |"


def table(campaigns: int = CAMPAIGNS) -> str:
    """The whole table, measured now."""
    head = (
        "| Chiến dịch · Campaign | Xem ở · Seen at | Dự báo · Forecasts | Không dự báo · Refused "
        "| Đúng trước P50 · By P50 | Đúng trước P90 · By P90 | P90 − P50 (ngày · days) |\n" + "| --- " * 7 + "|"
    )
    rows = [row(s, p, measure(s, p, campaigns)) for s in SCENARIOS for p in SEEN_AT]
    return "\n".join([head, *rows])


def main() -> int:
    """Print the table, write it into the page, or say whether the page is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    fresh = table()
    print(fresh)
    if not (options.write or options.check):
        return 0
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    wanted = f"{before}{BEGIN}\n{fresh}\n{END}{after}"
    if options.check:
        return 0 if wanted == text else 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
