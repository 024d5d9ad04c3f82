"""Random hospitals for property tests: laws, checks, waivers, assets, and what was seen and said over time.

A world is drawn from one ``random.Random``, so that hypothesis steers it and a plain seed repeats it. Documents are
plain JSON: another interpreter can be handed the same world.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

from controlplane.domain.catalog import make_catalog
from controlplane.domain.chain import canonical, digest
from controlplane.domain.declared import accepts, fact_of
from controlplane.domain.judge import Seen, judge
from controlplane.domain.model import SITE, Asset, Catalog, Criterion, Declared, Observation, Outcome, Words
from controlplane.domain.score import score

ZONE = timezone(timedelta(hours=7))
BEGIN = datetime(2026, 6, 29, 3, 0, tzinfo=UTC)
ROLES = ("servers", "printers", "pcs", SITE)
LEVELS = ("1", "2", "3")
# What a fact may say, the good first, and the tests that a check may put to it.
FIGURES: dict[str, tuple[tuple[Any, ...], tuple[dict[str, Any], ...]]] = {
    "disk.used": ((10, 10, 40, 40.0, 90), ({"at_most": 50}, {"one_of": [10, 40]})),
    "login.root": ((True, True, True, 1, False), ({"equals": True}, {"equals": 1}, {"one_of": [True]})),
    "backup.age": (
        ({"v": 10}, [{"name": "a", "v": 10}], [{"name": "a", "v": 10}, {"name": "b", "v": 60}], {"v": 90}),
        ({"at_most": 50}, {"at_least": 5}),
    ),
    "time.zone": (("no", "no", "yes"), ({"matches": "^n"}, {"contains": "no"})),
}
STRANGE: tuple[Any, ...] = (None, [], "x", {"w": 1}, 1, True)
FAILURES = (Outcome.UNREACHABLE, Outcome.TIMEOUT, Outcome.GARBLED, Outcome.NOT_SUPPORTED)
KINDS = ("attestation", "document", "other_value", "not_applicable", "withdrawn")
WAITS = (0, 1, 30, 60, 61, 60 * 7, 60 * 24, 60 * 24, 60 * 26, 60 * 24 * 40, 60 * 24 * 90)
STATE = dict[tuple[str, str], Seen]


@dataclass
class World:
    """A hospital at a moment, and the generator that lets it go on."""

    rnd: random.Random
    catalog: Catalog
    documents: Mapping[str, Any]
    assets: tuple[Asset, ...]
    now: datetime = BEGIN
    state: STATE = field(default_factory=dict)

    @property
    def day(self) -> date:
        """The hospital's day."""
        return self.now.astimezone(ZONE).date()

    def happens(self, most: int = 6) -> set[tuple[str, str]]:
        """Some time passes, some looks are made, some words are given or lost; the keys that changed."""
        self.now += timedelta(minutes=self.rnd.choice(WAITS), microseconds=self.rnd.choice((0, 0, 1)))
        return {self._event() for _ in range(self.rnd.randint(0, most))}

    def fill(self, share: float = 0.9) -> None:
        """Something seen for most that is asked, and something said about most criteria."""
        for asset in self.assets:
            for fact in FIGURES:
                if self.rnd.random() < share:
                    self._look(asset.name, fact)
        for criterion in self.catalog.criteria:
            if self.rnd.random() < share * 0.7:
                self._word(criterion)

    def _event(self) -> tuple[str, str]:
        draw = self.rnd.random()
        if draw < 0.1 and self.state:
            key = self.rnd.choice(sorted(self.state))
            del self.state[key]
            return key
        if draw < 0.35:
            return self._word(self.rnd.choice(sorted(self.catalog.criteria)))
        return self._look(self.rnd.choice(self.assets).name, self.rnd.choice(tuple(FIGURES)))

    def _look(self, asset: str, fact: str) -> tuple[str, str]:
        key, before = (asset, fact), self.state.get((asset, fact), Seen())
        draw = self.rnd.random()
        if draw < 0.1:
            outcome = self.rnd.choice(FAILURES)
            raw = self.rnd.choice((None, "f" * 64))
            self.state[key] = Seen(before.answer, self._observed(key, None, outcome, raw))
        elif draw < 0.4 and before.answer is not None:
            self.state[key] = Seen(replace(before.answer, seen_at=self.now))  # the same answer, confirmed
        else:
            self.state[key] = Seen(self._observed(key, self._value(fact), Outcome.ANSWERED, "a" * 64))
        return key

    def _value(self, fact: str) -> Any:
        strange = self.rnd.random() < 0.05
        return self.rnd.choice(STRANGE if strange else FIGURES[fact][0])

    def _word(self, criterion: str) -> tuple[str, str]:
        key = (SITE, fact_of(criterion))
        self.state[key] = Seen(
            self._observed(key, word(self.rnd, self.catalog.criteria[criterion], self.day), Outcome.ANSWERED, None)
        )
        return key

    def _observed(self, key: tuple[str, str], value: Any, outcome: Outcome, raw: str | None) -> Observation:
        at = self.now - timedelta(minutes=self.rnd.choice((0, 0, 5, 61)))
        return Observation(*key, outcome, value, "-", raw, "true", "ssh/1", at, at, self.rnd.choice((0, 1, 2, 3)))


def world(rnd: random.Random) -> World:
    """A hospital about which nothing is known yet."""
    documents = draw_documents(rnd)
    catalog = catalog_of(documents)
    assets = tuple(
        Asset(
            f"a{i}",
            "server",
            tuple(sorted(r for r in ROLES[:3] if rnd.random() < 0.6)),
            Words("a", "a"),
            address=rnd.choice(("192.0.2.1", "192.0.2.1", None)),
        )
        for i in range(rnd.randint(0, 4))
    )
    return World(rnd, catalog, documents, (*assets, Asset(SITE, "site", (SITE,), Words("s", "s"))))


def lived_in(rnd: random.Random) -> World:
    """A hospital about which much is known, some of it long ago."""
    found = world(rnd)
    found.fill(rnd.choice((0.5, 0.95, 1.0)))
    for _ in range(rnd.randint(0, 2)):
        found.happens()
    return found


def digest_of(seed: int) -> str:
    """Findings and scorecard of the hospital of a seed, as one digest."""
    found = lived_in(random.Random(seed))  # noqa: S311
    findings = judge(found.catalog, found.assets, found.state, found.now, found.day)
    return digest(canonical([findings, score(found.catalog, findings, found.day)]))


def catalog_of(documents: Mapping[str, Any]) -> Catalog:
    """The catalog of the documents that ``draw_documents`` drew."""
    frameworks = {d["framework"]: d for d in documents["frameworks"]}
    return make_catalog({"c": {"checks": documents["checks"]}}, frameworks, {"waivers": documents["waivers"]})


def draw_documents(rnd: random.Random) -> dict[str, Any]:
    """Laws, checks and waivers as plain documents."""
    frameworks = [_framework(rnd, f"l{i}") for i in range(rnd.randint(1, 3))]
    criteria = [c["id"] for f in frameworks for c in f["criteria"]]
    checks = [_check(rnd, f"c{i}", criteria) for i in range(rnd.randint(0, 6))]
    waivers = [_waiver(rnd, rnd.choice(checks)["id"]) for _ in range(rnd.randint(0, 4)) if checks]
    return {"checks": checks, "frameworks": frameworks, "waivers": waivers}


def word(rnd: random.Random, criterion: Criterion, day: date) -> dict[str, Any]:
    """The value of a person's word given on a day, most often of a kind that the criterion accepts."""
    good = tuple(kind for kind in KINDS if accepts(criterion, Declared(kind)) is None)
    return {
        "kind": rnd.choice(KINDS if rnd.random() < 0.1 else good),
        "by": "Phòng HC-TH",
        "statement": "Đã có",
        "number": rnd.choice(("", "12/QĐ-BVNT")),
        "issued_on": _day(rnd, day, (0, -29, -200), 0.5),
        "effective_on": _day(rnd, day, (-40, 0, 1, 7), 0.8),
        "expires_on": _day(rnd, day, (-1, 0, 1, 7, 60, 60, 60), 0.3),
        "count": rnd.choice((None, 3)),
        "documents": [],
    }


def _day(rnd: random.Random, day: date, days: tuple[int, ...], none: float) -> str | None:
    return None if rnd.random() < none else (day + timedelta(days=rnd.choice(days))).isoformat()


def _titles(text: str) -> dict[str, str]:
    return {"vi": text, "en": text}


def _framework(rnd: random.Random, id_: str) -> dict[str, Any]:
    groups = [
        {
            "id": f"g{i}",
            "title": _titles("Nhóm"),
            "levels": list(LEVELS[: rnd.randint(1, 3)]),
            "list_complete": rnd.random() < 0.9,
            "in_force": rnd.choice(([None, None],) * 4 + ([None, "2026-07-01"], ["2026-08-19", None])),
        }
        for i in range(rnd.randint(1, 2))
    ]
    document = {
        "framework": id_,
        "title": _titles("Luật"),
        "source": "test",
        "in_force": rnd.choice(
            (["2025-01-01", None], ["2025-01-01", None], [None, "2026-07-01"], ["2026-07-01", None])
        ),
        "rule": rnd.choice(("cumulative", "cumulative", "own_set", "own_set", "share")),
        "groups": groups,
        "criteria": [_criterion(rnd, f"{id_}.{i}", rnd.choice(groups)) for i in range(rnd.randint(1, 5))],
    }
    if rnd.random() < 0.6:
        document["annex2"] = {str(i): _annex_row(rnd, groups) for i in range(1, rnd.randint(2, 4))}
    return document


def _annex_row(rnd: random.Random, groups: list[dict[str, Any]]) -> dict[str, Any]:
    some = rnd.sample(groups, rnd.randint(1, len(groups)))
    seen = rnd.choice(("official",) * 5 + ("recalled",))
    return {g["id"]: {"level": rnd.choice(g["levels"]), "confidence": seen} for g in some}


def _criterion(rnd: random.Random, id_: str, group: dict[str, Any]) -> dict[str, Any]:
    draft = rnd.random() < 0.2
    levels = sorted(rnd.sample(group["levels"], rnd.randint(1, len(group["levels"]))))
    criterion: dict[str, Any] = {
        "id": id_,
        "group": group["id"],
        "levels": levels,
        "title": _titles("Tiêu chí"),
        "clause": "1",
        "standing": "draft" if draft else "second_hand",
        "scored": not draft and rnd.random() < 0.9,
        "confidence": "secondary",
        "kind": rnd.choice(("required", "required", "suggested", "conditional", "informative")),
        "automatable": rnd.choice(("", "host", "document")),
    }
    if draft and rnd.random() < 0.5:
        criterion |= {"levels": [], "draft_levels": levels}
    if rnd.random() < 0.3:
        criterion["params"] = {"max_age_days": {"1": rnd.choice((30, 200))}}
    return criterion


def _check(rnd: random.Random, id_: str, criteria: list[str]) -> dict[str, Any]:
    mine = rnd.sample(criteria, min(len(criteria), rnd.randint(0, 3)))
    proves = rnd.random() < 0.6
    fact = rnd.choice(tuple(FIGURES))
    check = {
        "id": id_,
        "title": _titles("Được"),
        "fact": fact,
        "role": rnd.choice(ROLES),
        "expect": rnd.choice(FIGURES[fact][1]),
        "fresh_within": rnd.choice(("0m", "30m", "26h", "26h", "3d", "90d", "90d")),
        "severity": "high",
        "fix": _titles("Sửa"),
        "serves": mine if proves else [],
        "partly": [] if proves else mine,
        "examples": {"met": [1], "not_met": [2]},
    }
    if (fact == "backup.age") == (rnd.random() < 0.95):
        check["of"] = "v"
    if rnd.random() < 0.4:
        check["if_absent"] = "not_applicable"
    return check


def _waiver(rnd: random.Random, check: str) -> dict[str, Any]:
    ends = rnd.choice(("2026-06-28", "2026-06-29", "2026-06-30", "2026-07-01", "2026-09-01"))
    waiver = {"check": check, "reason": "r", "approver": "Giám đốc", "expires_on": ends}
    return waiver | ({"asset": rnd.choice(("a0", "a1", SITE))} if rnd.random() < 0.4 else {})
