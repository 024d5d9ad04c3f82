"""How much of the law is in, how sure it is, how much of it checks look at: counts per framework. It judges nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from controlplane.domain.model import Catalog, Criterion, Framework, Standing

MEASURABLE = frozenset({"host", "network", "software", "backup", "interop"})
"""Requirements that the source data marks as such can be measured; the others are for people to prove."""


@dataclass(frozen=True)
class Coverage:
    """One framework in counts. ``by_level`` figures are of its rungs, without informative rows.

    ``automated``: checks alone can prove it. ``judged``: at least one check judges it, alone or beside a person's word.
    ``measurable``: the source data marks it host, network, software, backup or interop.
    """

    framework: str
    criteria: int
    confirmed: int
    second_hand: int
    draft: int
    scored: int
    automated: int
    judged: int
    measurable: int
    automated_by_level: dict[str, int] = field(default_factory=dict)
    judged_by_level: dict[str, int] = field(default_factory=dict)
    measurable_by_level: dict[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()  # measurable, not informative, and no check can prove it alone
    unjudged: tuple[str, ...] = ()  # of those, the ones that no check looks at


def coverage(catalog: Catalog) -> tuple[Coverage, ...]:
    """Every framework, in the order of their names."""
    return tuple(_of(framework) for _, framework in sorted(catalog.frameworks.items()))


def _of(framework: Framework) -> Coverage:
    rows = framework.criteria
    weighed = [c for c in rows if c.kind != "informative"]
    measurable = [c for c in weighed if c.automatable in MEASURABLE]
    return Coverage(
        framework.id,
        len(rows),
        sum(1 for c in rows if c.standing is Standing.CONFIRMED),
        sum(1 for c in rows if c.standing is Standing.SECOND_HAND),
        sum(1 for c in rows if c.standing is Standing.DRAFT),
        sum(1 for c in rows if c.scored),
        sum(1 for c in weighed if c.covered),
        sum(1 for c in weighed if c.checks),
        len(measurable),
        _by_level(framework, measurable, lambda c: c.covered),
        _by_level(framework, measurable, lambda c: bool(c.checks)),
        _by_level(framework, measurable, lambda _: True),
        tuple(c.id for c in measurable if not c.covered),
        tuple(c.id for c in measurable if not c.checks),
    )


def _by_level(framework: Framework, rows: Iterable[Criterion], counts: Callable[[Criterion], bool]) -> dict[str, int]:
    levels = dict.fromkeys(level for group in framework.groups for level in group.levels)
    rows = list(rows)
    return {level: sum(1 for c in rows if level in c.levels and counts(c)) for level in levels}
