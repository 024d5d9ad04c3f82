"""Check times observation gives a finding. Pure: the time is handed in, and it looks at observations only.

A failed look never erases a good answer: the good one stands until it is too old, and then it is stale, not failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from controlplane.domain.declared import fact_of, judge_word
from controlplane.domain.model import (
    DECLARED,
    SITE,
    Asset,
    Catalog,
    Check,
    Expect,
    Finding,
    Observation,
    Outcome,
    Reason,
    Value,
    Verdict,
)

MISSING = object()
HOUR = timedelta(hours=1)
NEVER = datetime.max.replace(tzinfo=UTC)
"""When a finding turns that time alone never changes."""


@dataclass(frozen=True)
class Seen:
    """What the record holds of one asset and one fact: the newest answer, and the newest failed look after it."""

    answer: Observation | None = None
    failure: Observation | None = None


NOTHING = Seen()

ASKED_OF = {
    "workstation": ("linux_hosts",),
    "virtual_machine": ("linux_hosts",),
    "server": ("linux_hosts", "linux_servers"),
}
"""Roles that an asset of a kind is judged under even outside the group: the law speaks of every machine, so one that no
collector measures (a Windows PC) stays unknown, and the measured ones do not prove a criterion for it."""

Pair = tuple[Check, Asset | None]
"""A check and an asset that bears its role; None where nobody bears it."""

State = Mapping[tuple[str, str], Seen]
"""(asset, fact) -> Seen. What stands: the record's newest word on everything that was ever looked at."""


def judge(
    catalog: Catalog, assets: Iterable[Asset], state: State, now: datetime, day: date | None = None
) -> tuple[Finding, ...]:
    """Every check on every asset of its role, in the order of their names, then every word that people gave.

    ``day`` is the hospital's day, by which waivers and documents end; without it the day of ``now`` in UTC.
    """
    today = day or now.date()
    findings = [judge_pair(catalog, pair, state, now, today) for pair in pairs(catalog, assets)]
    return (*findings, *judge_words(catalog, state, today).values())


def pairs(catalog: Catalog, assets: Iterable[Asset]) -> Iterator[Pair]:
    """Who is judged by what, in the order of the findings. A check whose role nobody bears stands with None."""
    by_role: dict[str, list[Asset]] = {}
    for asset in sorted(assets, key=lambda a: a.name):
        for role in dict.fromkeys((*asset.roles, *ASKED_OF.get(asset.kind, ()))):
            by_role.setdefault(role, []).append(asset)
    for check in sorted(catalog.checks.values(), key=lambda c: c.id):
        for bearer in by_role.get(check.role, (None,)):
            yield check, bearer


@dataclass(frozen=True)
class Trial:
    """A check tried against what stands: its examples that judge otherwise than promised, and what it would find."""

    check: Check
    wrong: tuple[tuple[str, Value, Verdict], ...]  # the word promised, the example, the word it got
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Every example judges as promised."""
        return not self.wrong


def try_check(catalog: Catalog, check: Check, assets: Iterable[Asset], state: State, now: datetime, day: date) -> Trial:
    """One check against the latest facts; nothing is kept and no criterion moves."""
    judged = [(word, value, test_value(check, value)[0]) for word, values in check.examples.items() for value in values]
    wrong = tuple(row for row in judged if row[0] != row[2])
    alone = replace(catalog, checks={check.id: check})
    findings = tuple(judge_pair(alone, pair, state, now, day) for pair in pairs(alone, assets))
    return Trial(check, wrong, findings)


def judge_pair(catalog: Catalog, pair: Pair, state: State, now: datetime, day: date) -> Finding:
    """One check on one asset. No bearer is unknown, unless the check says it is not applicable then."""
    check, asset = pair
    if asset is None:
        absent = check.if_absent == "not_applicable"
        verdict = Verdict.NOT_APPLICABLE if absent else Verdict.UNKNOWN
        return Finding(check.id, "", verdict, Reason("no_asset", {"role": check.role}))
    return waive(_judge_one(check, asset, state.get((asset.name, check.fact), NOTHING), now), catalog, day)


def judge_words(catalog: Catalog, state: State, day: date) -> dict[str, Finding]:
    """What people declared about criteria of this catalog: criterion -> finding, in the order of their names."""
    said = sorted(filter(None, (criterion_of(catalog, key) for key in state)))
    found = ((id_, judge_said(catalog, id_, state, day)) for id_ in said)
    return {id_: finding for id_, finding in found if finding is not None}


def criterion_of(catalog: Catalog, key: tuple[str, str]) -> str | None:
    """The criterion that a key of the state holds a person's word about; None for a measurement."""
    asset, fact = key
    if asset != SITE or not fact.startswith(DECLARED):
        return None
    id_ = fact.removeprefix(DECLARED)
    return id_ if id_ in catalog.criteria else None


def judge_said(catalog: Catalog, criterion: str, state: State, day: date) -> Finding | None:
    """What the word about one criterion is worth on a day; None when nobody gave one, or it was withdrawn."""
    said = state.get((SITE, fact_of(criterion)), NOTHING).answer
    return judge_word(catalog.criteria[criterion], said, day) if said is not None else None


def _judge_one(check: Check, asset: Asset, seen: Seen, now: datetime) -> Finding:
    answer, failure = seen.answer, seen.failure
    if answer is None:
        return Finding(check.id, asset.name, Verdict.UNKNOWN, _why_unseen(asset, failure))
    fresh = fresh_until(check, seen)
    if fresh is None and failure is not None:
        verdict, reason = Verdict.UNKNOWN, Reason(failure.outcome)
    elif fresh is not None and now > fresh:
        figures = {"age_hours": (now - answer.seen_at) // HOUR, "bound_hours": _hours(check)}
        verdict, reason = Verdict.STALE, Reason("stale", figures)
    else:
        verdict, reason = test_value(check, answer.value)
    return Finding(check.id, asset.name, verdict, reason, answer.id, answer.raw_digest)


def fresh_until(check: Check, seen: Seen) -> datetime | None:
    """The last moment at which an answer counts if nobody looks again; None where no answer of the device stands."""
    if seen.answer is None or (seen.failure is not None and _answers_otherwise(seen.failure)):
        return None
    return seen.answer.seen_at + check.fresh_within


def turns_at(check: Check, seen: Seen, now: datetime) -> datetime:
    """The first moment after ``now`` at which time alone changes the finding: it turns stale, or an hour staler."""
    fresh = fresh_until(check, seen)
    if fresh is None or seen.answer is None:
        return NEVER
    if now <= fresh:
        return fresh + timedelta.resolution
    return seen.answer.seen_at + ((now - seen.answer.seen_at) // HOUR + 1) * HOUR


def _answers_otherwise(failure: Observation) -> bool:
    """Whether the device itself answered and no longer gives the figure: then the old answer is not its own any more.

    Without bytes (a connection cut half-way) it has said nothing, and the old answer stands.
    """
    garbled = failure.outcome is Outcome.GARBLED and failure.raw_digest is not None
    return garbled or failure.outcome is Outcome.NOT_SUPPORTED


def _hours(check: Check) -> float:
    return round(check.fresh_within.total_seconds() / 3600, 1)


def _why_unseen(asset: Asset, failure: Observation | None) -> Reason:
    if failure is not None:
        return Reason(failure.outcome)
    if asset.address is None:
        return Reason(Outcome.NO_ADDRESS)
    return Reason("not_asked")


def test_value(check: Check, value: Value) -> tuple[Verdict, Reason]:
    """The check's one test on a value; of a list of rows every row must pass, and no row at all is unknown."""
    if isinstance(value, list) and check.expect.test != "contains":
        if not value:
            return Verdict.UNKNOWN, Reason("nothing_seen")
        results = [_test_figure(check, row, _label(row)) for row in value]
        order = (Verdict.NOT_MET, Verdict.UNKNOWN, Verdict.MET)
        return min(results, key=lambda r: (order.index(r[0]), -_distance(r[1])))
    return _test_figure(check, value, None)


test_value.__test__ = False  # type: ignore[attr-defined]  # the name reads as a test to pytest


def _test_figure(check: Check, value: Value, label: str | None) -> tuple[Verdict, Reason]:
    figure = _figure(value, check.of)
    figures: dict[str, Any] = {"bound": check.expect.bound}
    if label:
        figures["row"] = label
    if figure is MISSING or figure is None:
        return Verdict.UNKNOWN, Reason("no_figure", figures | {"of": check.of or check.fact})
    figures["value"] = figure
    passed = _passes(check.expect, figure)
    if passed is None:
        return Verdict.UNKNOWN, Reason("not_comparable", figures)
    return (Verdict.MET if passed else Verdict.NOT_MET), Reason(check.expect.test, figures)


def _figure(value: Value, of: str | None) -> Any:
    for part in of.split(".") if of else ():
        if not isinstance(value, Mapping) or part not in value:
            return MISSING
        value = value[part]
    return value


def _label(row: Value) -> str | None:
    if isinstance(row, Mapping):
        for key in ("name", "mount", "device", "interface", "unit", "port", "id"):
            if key in row:
                return str(row[key])
    return None


def _distance(reason: Reason) -> float:
    value, bound = reason.figures.get("value"), reason.figures.get("bound")
    if isinstance(value, int | float) and isinstance(bound, int | float):
        return abs(float(value) - float(bound))
    return 0.0


def _passes(expect: Expect, figure: Any) -> bool | None:
    bound = expect.bound
    match expect.test:
        case "equals":
            same_kind = isinstance(figure, bool) == isinstance(bound, bool)  # True == 1 in Python
            return bool(same_kind and figure == bound)
        case "one_of":
            return bool(figure in bound)
        case "at_most" | "at_least":
            if isinstance(figure, bool) or not isinstance(figure, int | float):
                return None
            return bool(figure <= bound if expect.test == "at_most" else figure >= bound)
        case "contains":
            return bool(bound in figure) if isinstance(figure, str | list) else None
        case _:
            return re.search(str(bound), figure) is not None if isinstance(figure, str) else None


def waive(finding: Finding, catalog: Catalog, today: date) -> Finding:
    """A waiver in force turns ``not_met`` into ``waived``: shown and counted apart, and it lifts no level."""
    if finding.verdict is not Verdict.NOT_MET:
        return finding
    for waiver in catalog.waivers_of.get(finding.check, ()):
        if waiver.asset in (None, finding.asset) and today <= waiver.expires_on:
            figures = {
                "approver": waiver.approver,
                "expires_on": waiver.expires_on.isoformat(),
                "because": waiver.reason,
            }
            return replace(finding, verdict=Verdict.WAIVED, reason=Reason("waived", figures))
    return finding
