"""Plain documents to checks, frameworks and criteria: whole, or refused by name. It reads no file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from controlplane.domain.chain import canonical, digest
from controlplane.domain.forms import CatalogError
from controlplane.domain.forms import day as _day
from controlplane.domain.forms import keys as _keys
from controlplane.domain.forms import near as _near
from controlplane.domain.forms import period as _period
from controlplane.domain.forms import strings as _strings
from controlplane.domain.forms import text as _text
from controlplane.domain.forms import words as _words
from controlplane.domain.model import (
    DECLARED,
    AnnexCell,
    Catalog,
    Check,
    Criterion,
    Expect,
    Framework,
    Group,
    Standing,
    Waiver,
    Words,
)

__all__ = ["CatalogError", "catalog_body", "catalog_from", "make_catalog", "span"]

TESTS = ("equals", "at_most", "at_least", "one_of", "contains", "matches")
SEVERITIES = ("low", "medium", "high", "critical")
RULES = ("cumulative", "own_set", "share")
KINDS = ("required", "suggested", "conditional", "informative")
SEEN = ("official", "quoted", "secondary")  # words of confidence that stand for a text somebody read
SPAN = re.compile(r"^(\d{1,5})(m|h|d)$")

CHECK_KEYS = frozenset(
    "id title fact role of expect fresh_within severity remedy fix serves partly if_absent examples".split()
)
FRAMEWORK_KEYS = frozenset("framework title source in_force rule sources groups criteria annex2".split())
GROUP_KEYS = frozenset("id title levels list_complete in_force note".split())
CRITERION_KEYS = frozenset(
    "id group levels draft_levels section title clause source standing scored confidence kind automatable note params"
    " evidence_idea".split()
)
WAIVER_KEYS = frozenset("check asset reason approver expires_on".split())


def make_catalog(
    check_documents: Mapping[str, Any],
    framework_documents: Mapping[str, Any],
    waiver_document: Any = None,
    *,
    facts: frozenset[str] | None = None,
    plays: frozenset[str] | None = None,
    targets: Mapping[tuple[str, str], tuple[str, str]] | None = None,
) -> Catalog:
    """Build the catalog from parsed YAML, keyed by file name.

    ``facts`` and ``plays`` are the names a check may use; ``targets`` maps (framework, group) to
    (level, owner). Raises ``CatalogError`` naming file and entry.
    """
    checks = make_checks(check_documents, facts=facts, plays=plays)
    frameworks = {}
    serving = _serving(checks)
    covered = frozenset(criterion for check in checks.values() for criterion in check.serves)
    for file, document in sorted(framework_documents.items()):
        framework = _framework(file, document, serving, covered, targets or {})
        frameworks[framework.id] = framework
    known = _known_criteria(frameworks)
    for criterion, by in serving.items():
        if criterion not in known:
            raise CatalogError(f"{by[0]}: serves {criterion!r}, which no framework holds{_near(criterion, known)}")
    waivers = tuple(_waiver(entry, checks) for entry in _entries("waivers", waiver_document, "waivers"))
    body = catalog_body(check_documents, framework_documents, waiver_document, targets)
    return Catalog(checks, frameworks, waivers, digest(canonical(body)))


def make_checks(
    documents: Mapping[str, Any], *, facts: frozenset[str] | None = None, plays: frozenset[str] | None = None
) -> dict[str, Check]:
    """Checks from parsed YAML, keyed by file name. Raises ``CatalogError`` naming file and entry."""
    checks: dict[str, Check] = {}
    for file, document in sorted(documents.items()):
        for entry in _entries(file, document, "checks"):
            check = _check(file, entry)
            if check.id in checks:
                raise CatalogError(f"{file}: {check.id}: this id already stands elsewhere")
            if facts is not None and check.fact not in facts:
                raise CatalogError(f"{file}: {check.id}: no fact {check.fact!r}{_near(check.fact, facts)}")
            if plays is not None and check.remedy and check.remedy not in plays:
                raise CatalogError(f"{file}: {check.id}: no play {check.remedy!r}{_near(check.remedy, plays)}")
            checks[check.id] = check
    return checks


def _known_criteria(frameworks: Mapping[str, Framework]) -> frozenset[str]:
    """Every criterion's id; an id may not stand in two frameworks, for checks and people name it alone."""
    where: dict[str, str] = {}
    for framework in frameworks.values():
        for criterion in framework.criteria:
            if criterion.id in where:
                raise CatalogError(f"{framework.id}: {criterion.id}: this id also stands in {where[criterion.id]}")
            where[criterion.id] = framework.id
    return frozenset(where)


def catalog_body(
    check_documents: Mapping[str, Any],
    framework_documents: Mapping[str, Any],
    waiver_document: Any,
    targets: Mapping[tuple[str, str], tuple[str, str]] | None,
) -> dict[str, Any]:
    """Everything a catalog is made from, as it is kept in the vault under the catalog's digest."""
    return {
        "checks": check_documents,
        "frameworks": framework_documents,
        "waivers": waiver_document,
        "targets": [[*key, *value] for key, value in sorted((targets or {}).items())],
    }


def catalog_from(body: Mapping[str, Any]) -> Catalog:
    """A catalog of an earlier day from its kept body; facts and plays of that day are not asked for."""
    targets = {(f, g): (level, owner) for f, g, level, owner in body["targets"]}
    return make_catalog(body["checks"], body["frameworks"], body["waivers"], targets=targets)


def span(text: Any, where: str) -> timedelta:
    """A duration such as 30m, 26h or 7d."""
    found = SPAN.match(str(text))
    if not found:
        raise CatalogError(f"{where}: {text!r} is not a span such as 30m, 26h or 7d")
    unit = {"m": "minutes", "h": "hours", "d": "days"}[found[2]]
    return timedelta(**{unit: int(found[1])})


def _entries(file: str, document: Any, key: str) -> Sequence[Mapping[str, Any]]:
    if document is None:
        return ()
    if not isinstance(document, Mapping) or set(document) != {key}:
        raise CatalogError(f"{file}: must be a mapping with the single key {key!r}")
    entries = [] if document[key] is None else document[key]
    if not isinstance(entries, list) or not all(isinstance(e, Mapping) for e in entries):
        raise CatalogError(f"{file}: {key} must be a list of mappings")
    return entries


def _check(file: str, entry: Mapping[str, Any]) -> Check:
    where = f"{file}: {entry.get('id', '(no id)')}"
    _keys(where, entry, CHECK_KEYS, "id title fact role expect fresh_within severity examples".split())
    if str(entry["id"]).startswith(DECLARED):
        raise CatalogError(f"{where}: an id that begins with {DECLARED!r} stands for a person's word")
    if entry["severity"] not in SEVERITIES:
        raise CatalogError(f"{where}: severity must be one of {', '.join(SEVERITIES)}")
    if not (entry.get("remedy") or entry.get("fix")):
        raise CatalogError(f"{where}: needs a remedy (a play) or fix (words)")
    if entry.get("if_absent") not in (None, "not_applicable"):
        raise CatalogError(f"{where}: if_absent may only be not_applicable")
    return Check(
        id=_text(where, entry, "id"),
        title=_words(where, entry["title"]),
        fact=_text(where, entry, "fact"),
        role=_text(where, entry, "role"),
        expect=_expect(where, entry["expect"]),
        fresh_within=span(entry["fresh_within"], where),
        severity=entry["severity"],
        of=entry.get("of"),
        remedy=entry.get("remedy"),
        fix=_words(where, entry["fix"]) if entry.get("fix") else None,
        if_absent=entry.get("if_absent"),
        serves=_strings(where, entry.get("serves") or [], "serves"),
        partly=_strings(where, entry.get("partly") or [], "partly"),
        examples=_examples(where, entry["examples"]),
    )


def _expect(where: str, document: Any) -> Expect:
    if not isinstance(document, Mapping) or len(document) != 1 or next(iter(document)) not in TESTS:
        raise CatalogError(f"{where}: expect needs exactly one of {', '.join(TESTS)}")
    test, bound = next(iter(document.items()))
    number = isinstance(bound, int | float) and not isinstance(bound, bool)
    if test in ("at_most", "at_least") and not number:
        raise CatalogError(f"{where}: {test} needs a number, not {bound!r}")
    if test == "one_of" and not isinstance(bound, list):
        raise CatalogError(f"{where}: one_of needs a list")
    if test == "matches":
        try:
            re.compile(str(bound))
        except re.error as error:
            raise CatalogError(f"{where}: matches: not a regular expression ({error})") from None
    return Expect(test, bound)


def _examples(where: str, document: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(document, Mapping) or not set(document) <= {"met", "not_met", "unknown"}:
        raise CatalogError(f"{where}: examples may hold met, not_met and unknown")
    if not (document.get("met") and document.get("not_met")):
        raise CatalogError(f"{where}: examples need at least one met and one not_met")
    if not all(isinstance(v, list) for v in document.values()):
        raise CatalogError(f"{where}: every kind of example is a list of values")
    return {kind: tuple(values) for kind, values in document.items()}


def _framework(
    file: str,
    document: Any,
    serving: Mapping[str, Sequence[str]],
    covered: frozenset[str],
    targets: Mapping[tuple[str, str], tuple[str, str]],
) -> Framework:
    if not isinstance(document, Mapping):
        raise CatalogError(f"{file}: must be a mapping")
    _keys(file, document, FRAMEWORK_KEYS, "framework title source in_force rule groups criteria".split())
    if document["rule"] not in RULES:
        raise CatalogError(f"{file}: rule must be one of {', '.join(RULES)}")
    id_ = _text(file, document, "framework")
    groups = tuple(_group(f"{file}: {g.get('id')}", id_, g, targets) for g in document["groups"])
    ladders = {g.id: g for g in groups}
    criteria: dict[str, Criterion] = {}
    for entry in document["criteria"]:
        criterion = _criterion(file, id_, entry, ladders, serving, covered)
        if criterion.id in criteria:
            raise CatalogError(f"{file}: {criterion.id}: this id stands twice")
        criteria[criterion.id] = criterion
    return Framework(
        id_,
        _words(file, document["title"]),
        _source(file, document["source"]),
        _period(file, document["in_force"]),
        document["rule"],
        groups,
        tuple(criteria.values()),
        _annex(file, document.get("annex2"), ladders),
    )


def _source(file: str, told: Any) -> Words:
    """What was read of the text. Frameworks kept before it was told in both tongues hold one sentence."""
    return _words(file, told) if isinstance(told, Mapping) else Words(str(told), str(told))


def _annex(file: str, document: Any, ladders: Mapping[str, Group]) -> tuple[AnnexCell, ...]:
    """The table of group levels behind each overall level; a recalled cell decides nothing."""
    cells = []
    for overall, row in (document or {}).items():
        for group, cell in row.items():
            where = f"{file}: annex2 {overall} {group}"
            if group not in ladders or cell.get("level") not in ladders[group].levels:
                raise CatalogError(f"{where}: no such group, or a level that is not on its ladder")
            _keys(where, cell, frozenset(("level", "confidence", "note")), ("level", "confidence"))
            seen = cell["confidence"] in SEEN
            cells.append(AnnexCell(str(overall), group, cell["level"], str(cell["confidence"]), seen))
    return tuple(cells)


def _group(
    where: str, framework: str, entry: Mapping[str, Any], targets: Mapping[tuple[str, str], tuple[str, str]]
) -> Group:
    _keys(where, entry, GROUP_KEYS, "id title levels list_complete".split())
    levels = _strings(where, entry["levels"], "levels")
    level, owner = targets.get((framework, entry["id"]), (None, ""))
    if level is not None and level not in levels:
        raise CatalogError(f"{where}: the campaign's target {level!r} is not on the ladder {', '.join(levels)}")
    return Group(
        _text(where, entry, "id"),
        _words(where, entry["title"]),
        levels,
        entry["list_complete"] is True,
        _period(where, entry.get("in_force") or [None, None]),
        level,
        owner,
        str(entry.get("note", "")),
    )


def _criterion(
    file: str,
    framework: str,
    entry: Mapping[str, Any],
    ladders: Mapping[str, Group],
    serving: Mapping[str, Sequence[str]],
    covered: frozenset[str],
) -> Criterion:
    where = f"{file}: {entry.get('id', '(no id)')}"
    _keys(where, entry, CRITERION_KEYS, "id group levels title clause standing scored confidence".split())
    id_, group = _text(where, entry, "id"), ladders.get(entry["group"])
    if group is None:
        raise CatalogError(f"{where}: no group {entry['group']!r}{_near(str(entry['group']), ladders)}")
    levels = _strings(where, entry["levels"], "levels")
    if off := [level for level in levels if level not in group.levels]:
        raise CatalogError(f"{where}: level {off[0]!r} is not on the ladder {', '.join(group.levels)}")
    standing = _standing(where, entry, levels)
    source = entry.get("source") or []
    return Criterion(
        id=id_,
        framework=framework,
        group=group.id,
        levels=levels,
        title=_words(where, entry["title"]),
        clause=str(entry["clause"]),
        source=", ".join(source) if isinstance(source, list) else str(source),
        standing=standing,
        scored=entry["scored"] is True,
        confidence=str(entry["confidence"]),
        kind=entry.get("kind", "required"),
        automatable=str(entry.get("automatable", "")),
        section=str(entry.get("section", "")),
        checks=tuple(sorted(serving.get(id_, ()))),
        covered=id_ in covered,
        note=str(entry.get("note", "")),
        owner=group.owner,
        max_age_days=_max_age(where, entry.get("params")),
        draft_levels=_draft_levels(where, entry, group),
        evidence_idea=str(entry.get("evidence_idea", "")),
    )


def _max_age(where: str, params: Any) -> int | None:
    """The strictest age of a document over the levels: one verdict must hold for each of them."""
    if params is None:
        return None
    if not isinstance(params, Mapping):
        raise CatalogError(f"{where}: params must be a mapping")
    ages = params.get("max_age_days") or {}
    days = [age for age in (ages.values() if isinstance(ages, Mapping) else [ages]) if age is not None]
    if not all(isinstance(age, int) and age > 0 for age in days):
        raise CatalogError(f"{where}: max_age_days must be whole days")
    return min(days, default=None)


def _draft_levels(where: str, entry: Mapping[str, Any], group: Group) -> tuple[str, ...]:
    levels = _strings(where, entry.get("draft_levels") or [], "draft_levels")
    if levels and (entry["levels"] or entry["standing"] != Standing.DRAFT):
        raise CatalogError(f"{where}: draft_levels are for a draft whose levels are not known")
    if off := [level for level in levels if level not in group.levels]:
        raise CatalogError(f"{where}: draft level {off[0]!r} is not on the ladder {', '.join(group.levels)}")
    return levels


def _standing(where: str, entry: Mapping[str, Any], levels: Sequence[str]) -> Standing:
    """How far the criterion can be relied on; what may not be scored is refused here."""
    if entry["standing"] not in tuple(Standing):
        raise CatalogError(f"{where}: standing must be one of {', '.join(Standing)}")
    if entry.get("kind", "required") not in KINDS:
        raise CatalogError(f"{where}: kind must be one of {', '.join(KINDS)}")
    standing = Standing(entry["standing"])
    if entry["scored"] and (standing is Standing.DRAFT or not levels):
        raise CatalogError(f"{where}: a draft, or a criterion without a level, may not be scored")
    return standing


def _waiver(entry: Mapping[str, Any], checks: Mapping[str, Check]) -> Waiver:
    where = f"waivers: {entry.get('check', '(no check)')}"
    _keys(where, entry, WAIVER_KEYS, "check reason approver expires_on".split())
    if entry["check"] not in checks:
        raise CatalogError(f"{where}: no such check{_near(str(entry['check']), checks)}")
    return Waiver(
        _text(where, entry, "check"),
        entry.get("asset"),
        _text(where, entry, "reason"),
        _text(where, entry, "approver"),
        _day(where, entry["expires_on"]),
    )


def _serving(checks: Mapping[str, Check]) -> dict[str, list[str]]:
    serving: dict[str, list[str]] = {}
    for check in checks.values():
        for criterion in (*check.serves, *check.partly):
            serving.setdefault(criterion, []).append(check.id)
    return serving
