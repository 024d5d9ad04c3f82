"""A criterion down to the bytes: criterion, checks, findings, observations, digests. It holds no words of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from controlplane.domain.declared import fact_of
from controlplane.domain.model import (
    Catalog,
    Check,
    Criterion,
    CriterionScore,
    Finding,
    Framework,
    Observation,
    Reason,
    Scorecard,
    Verdict,
)
from controlplane.domain.score import HOLDS
from controlplane.domain.stake import Stake, stake_of


@dataclass(frozen=True)
class FindingProof:
    """A finding with the observation it rests on; ``observation`` is None where nothing was ever seen."""

    finding: Finding
    observation: Observation | None


@dataclass(frozen=True)
class CheckProof:
    """A check of the criterion with what it found on every asset, the worst first."""

    check: Check
    findings: tuple[FindingProof, ...]


@dataclass(frozen=True)
class Confirmed:
    """Who compared a criterion with the official text, when, and with which document."""

    by: str
    at: datetime
    document: str
    sha256: str
    link: int


@dataclass(frozen=True)
class Explanation:
    """Everything between the law's sentence and the bytes on a disk."""

    confirmed: Confirmed | None = field(default=None, kw_only=True)  # None: nobody compared it with the official text
    framework: Framework
    criterion: Criterion
    score: CriterionScore
    checks: tuple[CheckProof, ...]
    word: FindingProof | None = None  # what the newest word of a person is worth today
    words: tuple[Observation, ...] = ()  # every word about it, the newest first
    stake: Stake | None = None  # what it is worth in level today; None: its framework is not in force

    @property
    def assets(self) -> tuple[int, int]:
        """(assets on which every check of the criterion holds, assets that any of them asks): what a count declares."""
        holds: dict[str, bool] = {}
        for proof in self.checks:
            for found in proof.findings:
                if found.finding.asset:
                    good = found.finding.verdict in HOLDS
                    holds[found.finding.asset] = holds.get(found.finding.asset, True) and good
        return sum(holds.values()), len(holds)


def explain(
    criterion_id: str,
    catalog: Catalog,
    card: Scorecard,
    findings: Iterable[Finding],
    observations: Mapping[int, Observation],
    words: Sequence[Observation] = (),
) -> Explanation:
    """``words`` are what people said of it, the newest first.

    Raises ``KeyError`` for a criterion that no framework holds.
    """
    framework, criterion = find_criterion(catalog, criterion_id)
    score = next((c for c in card.criteria if c.id == criterion_id), None)
    stake = stake_of(catalog, card, criterion) if score is not None else None
    if score is None:  # its framework is not in force on this day
        score = CriterionScore(criterion_id, Verdict.NOT_APPLICABLE, Reason("framework_out_of_force"), {})
    mine: dict[str, list[FindingProof]] = {check: [] for check in criterion.checks}
    word = None
    for finding in findings:
        if finding.check == fact_of(criterion_id):
            word = FindingProof(finding, words[0] if words else None)
        if finding.check in mine:
            seen = observations.get(finding.observation) if finding.observation else None
            mine[finding.check].append(FindingProof(finding, seen))
    proofs = tuple(
        CheckProof(catalog.checks[check], tuple(sorted(found, key=_worst_first))) for check, found in mine.items()
    )
    return Explanation(framework, criterion, score, proofs, word, tuple(words), stake)


@dataclass(frozen=True)
class Gathered:
    """Findings of one check that say the same for the same reason and rest on nothing seen; or a single one."""

    first: FindingProof
    assets: tuple[str, ...]


def gathered(proofs: Iterable[FindingProof]) -> list[Gathered]:
    """The findings of a check with those that nothing was seen for put together, in their order."""
    groups: dict[Any, list[FindingProof]] = {}
    for number, proof in enumerate(proofs):
        f = proof.finding
        alone = proof.observation is not None
        key = number if alone else (f.verdict, f.reason.code, repr(sorted(f.reason.figures.items())))
        groups.setdefault(key, []).append(proof)
    return [Gathered(group[0], tuple(p.finding.asset for p in group)) for group in groups.values()]


def find_criterion(catalog: Catalog, criterion_id: str) -> tuple[Framework, Criterion]:
    """The criterion and its framework. Raises ``KeyError``."""
    criterion = catalog.criteria[criterion_id]
    return catalog.frameworks[criterion.framework], criterion


ORDER = (
    Verdict.NOT_MET,
    Verdict.WAIVED,
    Verdict.STALE,
    Verdict.UNKNOWN,
    Verdict.MET,
    Verdict.NOT_APPLICABLE,
)


def _worst_first(proof: FindingProof) -> tuple[int, str]:
    return ORDER.index(proof.finding.verdict), proof.finding.asset
