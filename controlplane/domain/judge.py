"""Check times observation gives a finding. Pure: the time is handed in, and it looks at observations only.

A failed look never erases a good answer: the good one stands until it is too old, and then it is stale, not failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from controlplane.domain.declared import judge_word
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


@dataclass(frozen=True)
class Seen:
    """What the record holds of one asset and one fact: the newest answer, and the newest failed look after it."""

    answer: Observation | None = None
    failure: Observation | None = None


State = Mapping[tuple[str, str], Seen]
"""(asset, fact) -> Seen. What stands: the record's newest word on everything that was ever looked at."""


def judge(
    catalog: Catalog, assets: Iterable[Asset], state: State, now: datetime, day: date | None = None
) -> tuple[Finding, ...]:
    """Every check on every asset of its role, in the order of their names, then every word that people gave.

    ``day`` is the hospital's day, by which waivers and documents end; without it the day of ``now`` in UTC.
    """
    by_role = bearers(assets)
    today = day or now.date()
    findings: list[Finding] = []
    for check in sorted(catalog.checks.values(), key=lambda c: c.id):
        found = judge_check(check, by_role.get(check.role, ()), state, now)
        findings.extend(waive(finding, catalog, today) for finding in found)
    return (*findings, *judge_words(catalog, state, today))


def bearers(assets: Iterable[Asset]) -> dict[str, list[Asset]]:
    """role -> its assets, by name."""
    found: dict[str, list[Asset]] = {}
    for asset in sorted(assets, key=lambda a: a.name):
        for role in asset.roles:
            found.setdefault(role, []).append(asset)
    return found


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


def try_check(check: Check, assets: Iterable[Asset], state: State, now: datetime) -> Trial:
    """One check against the latest facts; nothing is kept and no criterion moves."""
    judged = [(word, value, test_value(check, value)[0]) for word, values in check.examples.items() for value in values]
    wrong = tuple(row for row in judged if row[0] != row[2])
    return Trial(check, wrong, tuple(judge_check(check, bearers(assets).get(check.role, ()), state, now)))


def judge_words(catalog: Catalog, state: State, day: date) -> Iterator[Finding]:
    """What people declared about criteria of this catalog, in the order of the criteria's names."""
    said = [key for key in state if key[0] == SITE and key[1].startswith(DECLARED)]
    for key in sorted(said):
        criterion = catalog.criteria.get(key[1].removeprefix(DECLARED))
        answer = state[key].answer
        if criterion is not None and answer is not None:
            finding = judge_word(criterion, answer, day)
            if finding is not None:
                yield finding


def judge_check(check: Check, assets: Sequence[Asset], state: State, now: datetime) -> list[Finding]:
    """One check on the bearers of its role. No bearer is unknown, unless the check says it is not applicable then."""
    if not assets:
        absent = check.if_absent == "not_applicable"
        verdict = Verdict.NOT_APPLICABLE if absent else Verdict.UNKNOWN
        return [Finding(check.id, "", verdict, Reason("no_asset", {"role": check.role}))]
    return [_judge_one(check, asset, state.get((asset.name, check.fact), Seen()), now) for asset in assets]


def _judge_one(check: Check, asset: Asset, seen: Seen, now: datetime) -> Finding:
    answer, failure = seen.answer, seen.failure
    if answer is None:
        return Finding(check.id, asset.name, Verdict.UNKNOWN, _why_unseen(asset, failure))
    proof = (answer.id, answer.raw_digest)
    if failure is not None and _answers_otherwise(failure):
        return Finding(check.id, asset.name, Verdict.UNKNOWN, Reason(failure.outcome), *proof)
    age = now - answer.seen_at
    if age > check.fresh_within:
        figures = {"age_hours": int(age.total_seconds() // 3600), "bound_hours": _hours(check)}
        return Finding(check.id, asset.name, Verdict.STALE, Reason("stale", figures), *proof)
    verdict, reason = test_value(check, answer.value)
    return Finding(check.id, asset.name, verdict, reason, *proof)


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
    for waiver in catalog.waivers:
        if waiver.check == finding.check and waiver.asset in (None, finding.asset) and today <= waiver.expires_on:
            figures = {
                "approver": waiver.approver,
                "expires_on": waiver.expires_on.isoformat(),
                "because": waiver.reason,
            }
            return replace(finding, verdict=Verdict.WAIVED, reason=Reason("waived", figures))
    return finding
