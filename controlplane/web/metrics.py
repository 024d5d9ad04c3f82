"""Prometheus metrics, read from the last judgement when they are scraped. Labels hold ids, never texts or people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time

from fastapi import Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from controlplane import __version__
from controlplane.bootstrap import Plane
from controlplane.domain.model import Outcome, Proof, Verdict
from controlplane.domain.overview import Overview
from controlplane.web import queries

EVERY_RUN = 1_000_000


def registry_for(plane: Plane) -> CollectorRegistry:
    """A registry of this app alone: nothing is shared over the process."""
    registry = CollectorRegistry()
    registry.register(PlaneCollector(plane))
    return registry


def scrape(request: Request) -> Response:
    """The metrics as text, or as OpenMetrics for who asks for it."""
    try:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
    except (ValueError, TypeError):  # an Accept header with a version that is none
        encode, content_type = choose_encoder("")
    return Response(encode(request.app.state.metrics), headers={"Content-Type": content_type})


class PlaneCollector(Collector):
    """Makes every family anew at each scrape, so that a level that is gone is gone here too."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane

    def describe(self) -> list[Metric]:
        """Nothing: the families are known only when they are made, and registering must not make a judgement."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        screen = self.plane.overview()
        yield from _levels(screen)
        yield from _criteria(screen)
        yield from _proofs(screen)
        yield from self._judged()
        yield from self._deadlines(screen)
        yield from self._record(screen)
        yield from self._probes()
        yield from self._runs()
        yield from self._build()

    def _judged(self) -> Iterator[Metric]:
        """Standings of the texts, and overall levels: 0 is below the lowest."""
        judgement = self.plane.judgement()
        standing = GaugeMetricFamily(
            "emr_readiness_criteria_standing",
            "Criteria by how far their text can be relied on.",
            labels=["framework", "group", "standing"],
        )
        for (framework, group), counts in queries.standings(judgement).items():
            for word, count in counts.items():
                standing.add_metric([framework, group, word], count)
        yield standing
        proven = GaugeMetricFamily(
            "emr_readiness_overall_level", "Overall level proven, where it can be determined.", labels=["framework"]
        )
        possible = GaugeMetricFamily(
            "emr_readiness_overall_level_possible", "Overall level within reach.", labels=["framework"]
        )
        for score in judgement.card.overall:
            rows = list(dict.fromkeys(cell.overall for cell in judgement.catalog.frameworks[score.framework].annex))
            rungs = {level: index for index, level in enumerate(rows, start=1)}
            if score.determinable:
                proven.add_metric([score.framework], rungs.get(score.proven or "", 0))
            possible.add_metric([score.framework], rungs.get(score.possible or "", 0))
        yield from (proven, possible)

    def _deadlines(self, screen: Overview) -> Iterator[Metric]:
        deadline = GaugeMetricFamily(
            "emr_readiness_deadline_timestamp_seconds",
            "End of the day before a milestone is due.",
            labels=["milestone"],
        )
        for view in screen.milestones:
            deadline.add_metric([view.milestone.id], self._midnight(view.milestone.due_on))
        yield deadline
        waiver = GaugeMetricFamily(
            "emr_waiver_expiry_timestamp_seconds", "Last day of a waiver of a check.", labels=["check", "asset"]
        )
        for entry in self.plane.catalog.waivers:
            waiver.add_metric([entry.check, entry.asset or ""], self._midnight(entry.expires_on))
        yield waiver

    def _midnight(self, day: date) -> float:
        return datetime.combine(day, time(), self.plane.settings.timezone).timestamp()

    def _record(self, screen: Overview) -> Iterator[Metric]:
        last = screen.last_round
        if last is not None and last.ended_at is not None:
            ended = last.ended_at.timestamp()
            yield _one("emr_readiness_last_evaluation_timestamp_seconds", "End of the last round.", ended)
            length = (last.ended_at - last.started_at).total_seconds()
            yield _one("emr_round_duration_seconds", "Length of the last round.", length)
            looks = GaugeMetricFamily("emr_round_looks", "Assets of the last round, by outcome.", labels=["outcome"])
            for outcome in Outcome:
                looks.add_metric([str(outcome)], last.looks.get(str(outcome), 0))
            yield looks
        yield _one("emr_evidence_chain_valid", "1 when every link of the chain holds.", float(screen.chain_holds))
        head = self.plane.archive.head()
        yield _one("emr_evidence_chain_links", "Links of the chain.", head.seq if head else 0)
        assets = GaugeMetricFamily("emr_inventory_assets", "Assets of the inventory in force.", labels=["kind"])
        for kind, count in screen.assets.items():
            assets.add_metric([kind], count)
        yield assets
        faulty = any(note.code == "inventory_error" for note in screen.notes)
        yield _one("emr_inventory_valid", "0 when the files are in error and the last good ones stand in.", 1 - faulty)

    def _probes(self) -> Iterator[Metric]:
        success = GaugeMetricFamily(
            "emr_probe_success", "1 when the newest look at an asset was answered.", labels=["probe", "asset"]
        )
        took = GaugeMetricFamily(
            "emr_probe_duration_seconds", "Length of the newest look at an asset.", labels=["probe", "asset"]
        )
        for (asset, probe), look in sorted(self.plane.archive.last_looks().items()):
            success.add_metric([probe, asset], float(look["outcome"] == Outcome.ANSWERED))
            took.add_metric([probe, asset], look["duration_ms"] / 1000)
        yield success
        yield took
        answered: dict[tuple[str, str], datetime] = {}
        for (asset, _), seen in self.plane.archive.state().items():
            if seen.answer is not None:
                key = (seen.answer.collector.partition("/")[0], asset)
                answered[key] = max(seen.answer.seen_at, answered.get(key, datetime.min.replace(tzinfo=UTC)))
        last = GaugeMetricFamily(
            "emr_probe_last_success_timestamp_seconds", "Newest answer of an asset.", labels=["probe", "asset"]
        )
        for key, at in sorted(answered.items()):
            last.add_metric(list(key), at.timestamp())
        yield last

    def _runs(self) -> Iterator[Metric]:
        counts = Counter((run["play"], run["mode"], run["state"]) for run in self.plane.archive.runs(EVERY_RUN))
        total = CounterMetricFamily("emr_run", "Runs of plays.", labels=["playbook", "mode", "status"])
        for key, count in sorted(counts.items()):
            total.add_metric(list(key), count)
        yield total

    def _build(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("emr_build_info", "Always 1.", labels=["version", "rulepack"])
        info.add_metric([__version__, self.plane.catalog.digest[:16]], 1)
        yield info


def _one(name: str, words: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, words)
    family.add_metric([], value)
    return family


def _levels(screen: Overview) -> Iterator[Metric]:
    """Levels as their place on the ladder: 0 is below the lowest. Nothing where no level can be determined."""
    labels = ["framework", "group"]
    proven = GaugeMetricFamily("emr_readiness_level", "Level proven by evidence, 0 below the lowest.", labels=labels)
    possible = GaugeMetricFamily(
        "emr_readiness_level_possible", "Level within reach if what is unknown turns out well.", labels=labels
    )
    target = GaugeMetricFamily("emr_readiness_level_target", "Level the hospital set itself.", labels=labels)
    for view in screen.groups:
        key = [view.framework, view.group]
        rungs = {level: index for index, level in enumerate(view.levels, start=1)}
        if view.score.determinable:
            proven.add_metric(key, rungs.get(view.score.proven or "", 0))
            possible.add_metric(key, rungs.get(view.score.possible or "", 0))
        if view.target:
            target.add_metric(key, rungs[view.target])
    yield from (proven, possible, target)


def _criteria(screen: Overview) -> Iterator[Metric]:
    criteria = GaugeMetricFamily(
        "emr_readiness_criteria", "Scored criteria by verdict.", labels=["framework", "group", "state"]
    )
    drafts = GaugeMetricFamily(
        "emr_readiness_criteria_draft", "Criteria that decide nothing yet.", labels=["framework", "group"]
    )
    automated: Counter[str] = Counter()
    scored: Counter[str] = Counter()
    for view in screen.groups:
        for word in Verdict:
            criteria.add_metric([view.framework, view.group, str(word)], view.score.counts.get(str(word), 0))
        drafts.add_metric([view.framework, view.group], view.score.drafts)
        automated[view.framework] += view.score.automated
        scored[view.framework] += view.score.total
    ratio = GaugeMetricFamily(
        "emr_readiness_criteria_automated_ratio",
        "Part of the scored criteria that checks alone can prove.",
        labels=["framework"],
    )
    for framework, total in sorted(scored.items()):
        if total:
            ratio.add_metric([framework], automated[framework] / total)
    yield from (criteria, drafts, ratio)


def _proofs(screen: Overview) -> Iterator[Metric]:
    """What met criteria rest on, and where a word stands against a measurement."""
    labels = ["framework", "group"]
    proofs = GaugeMetricFamily(
        "emr_readiness_criteria_met", "Scored criteria that are met, by what proves them.", labels=[*labels, "proof"]
    )
    contradicted = GaugeMetricFamily(
        "emr_readiness_criteria_contradicted", "Criteria declared met and measured otherwise.", labels=labels
    )
    judged = GaugeMetricFamily(
        "emr_readiness_criteria_judged", "Scored criteria that a check judges, alone or in part.", labels=labels
    )
    total = GaugeMetricFamily("emr_readiness_criteria_scored", "Scored criteria.", labels=labels)
    for view in screen.groups:
        key = [view.framework, view.group]
        for proof in (Proof.MEASURED, Proof.MIXED, Proof.DECLARED):
            proofs.add_metric([*key, str(proof)], view.score.proofs.get(str(proof), 0))
        contradicted.add_metric(key, view.score.contradicted)
        judged.add_metric(key, view.score.judged)
        total.add_metric(key, view.score.total)
    yield from (proofs, contradicted, judged, total)
