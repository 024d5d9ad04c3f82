"""How the command line shows things: tables and sentences, or plain JSON on request. It asks nothing itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from controlplane import texts
from controlplane.domain.chain import plain
from controlplane.domain.compare import Cause, Difference
from controlplane.domain.coverage import Coverage
from controlplane.domain.duties import Due
from controlplane.domain.explain import Explanation, FindingProof
from controlplane.domain.judge import Trial
from controlplane.domain.model import DECLARED, Asset, Catalog, Check, GroupScore, Observation
from controlplane.domain.overview import GroupView, Overview
from controlplane.sheets import Preview
from controlplane.texts import Say

COLOURS = {
    "met": "green",
    "not_met": "bold red",
    "stale": "yellow",
    "unknown": "cyan",
    "waived": "magenta",
    "not_applicable": "dim",
}


class Screen:
    """A terminal with a tongue and a time zone. Errors go to standard error, results to standard output."""

    def __init__(self, lang: str, zone: ZoneInfo) -> None:
        self.lang = lang
        self.zone = zone
        self.say: Say = texts.speaker(lang)
        # Into a file or a pipe nothing is folded: a digest cut in two is no digest.
        wide = None if sys.stdout.isatty() else 240
        self.out = Console(highlight=False, width=wide)
        self.err = Console(stderr=True, highlight=False)

    def json(self, value: Any) -> None:
        """One JSON document, as it is kept in the record."""
        self.out.out(json.dumps(plain(value), ensure_ascii=False, indent=2, sort_keys=True), highlight=False)

    def line(self, text: str = "", style: str | None = None) -> None:
        """One line, taken literally."""
        self.out.print(escape(text), style=style, soft_wrap=True)

    def tell(self, key: str, **figures: Any) -> None:
        """One of the house's sentences."""
        self.line(self.say(key, **figures))

    def complain(self, text: str) -> None:
        """A sentence on standard error."""
        self.err.print(escape(text), style="bold red", soft_wrap=True)

    def complain_both(self, key: str, **figures: Any) -> None:
        """A refusal, in the tongue of the screen first and then in the other one."""
        other = "vi" if self.lang == "en" else "en"
        self.complain(self.say(key, **figures))
        self.err.print(escape(texts.say(other, key, **figures)), soft_wrap=True)

    def time(self, at: datetime | None) -> str:
        """A time in the hospital's zone."""
        return at.astimezone(self.zone).strftime("%d/%m/%Y %H:%M") if at else "-"

    # ------------------------------------------------------------------------------------------ parts

    def verdict(self, word: str) -> str:
        """A verdict in its colour; the word itself carries the meaning."""
        return f"[{COLOURS.get(word, '')}]{escape(self.say(f'verdict.{word}'))}[/]"

    def level(self, levels: tuple[str, ...], level: str | None) -> str:
        """A level in words."""
        return level_words(self.say, levels, level)

    def now_level(self, levels: tuple[str, ...], score: GroupScore) -> str:
        """The pair of levels, or that none can be determined."""
        if not score.determinable:
            return self.say("level.undeterminable")
        return self.level(levels, score.proven)

    def groups(self, views: Iterable[GroupView]) -> Table:
        """Levels now, possible and wanted."""
        table = self._table(*(f"cli.column.{key}" for key in ("group", "now", "possible", "target", "gap", "met")))
        table.columns[0].min_width = 26
        for column in table.columns[1:]:
            column.no_wrap = True
        for view in views:
            score = view.score
            table.add_row(
                escape(f"{view.title.in_(self.lang)} · {view.framework}"),
                self.now_level(view.levels, score),
                self.level(view.levels, score.possible) if score.possible or score.determinable else "-",
                self.level(view.levels, view.target) if view.target else "-",
                "-" if view.gap is None else str(view.gap),
                f"{score.counts.get('met', 0)}/{score.total}",
            )
        return table

    def overview(self, o: Overview) -> None:
        """The director's screen, in a terminal."""
        self.line(o.campaign.hospital.name.in_(self.lang), "bold")
        for note in o.notes:
            self.line(texts.reason(self.say, note.code, note.figures), "bold yellow")
        self.out.print(self.groups(o.groups))
        self._blockers(o)
        for view in o.milestones:
            key = "cli.days_left" if view.days_left >= 0 else "cli.days_over"
            day = f"{view.milestone.due_on:%d/%m/%Y}"
            self.tell(key, title=view.milestone.title.in_(self.lang), day=day, days=abs(view.days_left))
        if o.last_round:
            self.tell("cli.last_round", round=o.last_round.id, at=self.time(o.last_round.ended_at))
        self.tell("cli.head", seal=o.chain_head)

    def _blockers(self, o: Overview) -> None:
        for number, blocker in enumerate(o.blockers, start=1):
            why = texts.reason(self.say, blocker.reason.code, blocker.reason.figures)
            title = escape(f"{blocker.title.in_(self.lang)} ({blocker.criterion})")
            self.out.print(f"{number}. {self.verdict(blocker.verdict)}: [bold]{title}[/]")
            self.line(f"   {why}")
            self.tell("cli.owner", owner=blocker.owner)

    def assets(self, assets: Iterable[Asset]) -> Table:
        """The inventory."""
        table = self._table(*(f"cli.column.{key}" for key in ("asset", "kind", "department", "address", "transports")))
        for asset in assets:
            table.add_row(
                escape(asset.name),
                self.say(f"kind.{asset.kind}"),
                escape(asset.department),
                escape(asset.address or self.say("outcome.no_address")),
                ", ".join(asset.transports),
            )
        return table

    def checks(self, catalog: Catalog) -> Table:
        """Every check: what it asks, of whom, and what it serves."""
        table = self._table(*(f"cli.column.{key}" for key in ("check", "title", "role", "rule", "severity", "serves")))
        for check in sorted(catalog.checks.values(), key=lambda c: c.id):
            table.add_row(
                escape(check.id),
                escape(check.title.in_(self.lang)),
                escape(check.role),
                escape(rule_words(check)),
                self.say(f"severity.{check.severity}"),
                escape("\n".join([*check.serves, *(f"({name})" for name in check.partly)])),
            )
        return table

    def preview(self, preview: Preview) -> None:
        """What a workbook would change, and every cell that cannot be taken over."""
        for bad in preview.bad:
            place = f"{bad.sheet}!{bad.cell}: " if bad.cell else ""
            self.out.print(f"[bold red]{escape(place)}[/]{escape(bad.words.in_(self.lang))}")
        for change in preview.changes:
            self.tell("cli.catalog_change", **vars(change))
        for added in preview.added:
            levels = ", ".join(added.levels) or "-"
            self.tell("cli.catalog_added", id=added.id, group=added.group, levels=levels, title=added.title)
        counts = {"confirmed": len(preview.confirmed), "changes": len(preview.changes), "added": len(preview.added)}
        self.tell("cli.catalog_counts", bad=len(preview.bad), unchanged=preview.unchanged, **counts)

    def trial(self, trial: Trial) -> None:
        """A check that was tried: examples that judge otherwise than promised, then what it finds on each asset."""
        self.out.print(f"[bold]{escape(trial.check.id)}[/] {escape(trial.check.title.in_(self.lang))}")
        self.line(f"  {rule_words(trial.check)}", "dim")
        for word, value, got in trial.wrong:
            self.out.print(
                f"  [bold red]{escape(self.say('cli.example_wrong', value=str(value)))}[/] "
                f"{self.verdict(word)} → {self.verdict(got)}"
            )
        for finding in trial.findings:
            why = texts.reason(self.say, finding.reason.code, finding.reason.figures)
            self.out.print(f"  {escape(finding.asset or '-')}: {self.verdict(finding.verdict)}: {escape(why)}")

    def coverage(self, rows: Iterable[Coverage]) -> Table:
        """Counts per framework."""
        keys = ("framework", "rows", "confirmed", "second_hand", "draft", "scored", "automated", "judged", "measurable")
        table = self._table(*(f"cli.column.{key}" for key in keys))
        for r in rows:
            counts = (r.criteria, r.confirmed, r.second_hand, r.draft, r.scored)
            shares = (
                f"{total} ({', '.join(f'{level}: {n}' for level, n in levels.items())})"
                for total, levels in (
                    (r.automated, r.automated_by_level),
                    (r.judged, r.judged_by_level),
                    (r.measurable, r.measurable_by_level),
                )
            )
            table.add_row(r.framework, *map(str, counts), *shares)
        return table

    def duties(self, rows: Iterable[Due]) -> Table:
        """Duties by their last day."""
        table = self._table(*(f"cli.column.{key}" for key in ("due", "days_left", "duty", "who", "basis")))
        for r in rows:
            days = "-" if r.days_left is None else str(r.days_left)
            style = "bold red" if r.days_left is not None and r.days_left < 0 else None
            basis = f"{r.duty.basis.clause} ({r.duty.basis.confidence})"
            words = (r.duty.title.in_(self.lang), r.duty.who.in_(self.lang), basis)
            table.add_row(r.due_on.isoformat() if r.due_on else "-", days, *map(escape, words), style=style)
        return table

    def explanation(self, e: Explanation, raw: Mapping[str, bytes]) -> Tree:
        """A criterion down to its bytes."""
        c = e.criterion
        tree = Tree(f"[bold]{escape(c.id)}[/] {escape(c.title.in_(self.lang))}: {self.verdict(e.score.verdict)}")
        tree.add(escape(f"{e.framework.title.in_(self.lang)}, {c.clause}"))
        tree.add(escape(f"{self.say(f'standing.{c.standing}')} ({c.confidence}; {c.source})"))
        tree.add(escape(texts.reason(self.say, e.score.reason.code, e.score.reason.figures)))
        for proof in e.checks:
            branch = tree.add(f"[bold]{escape(proof.check.id)}[/] {escape(proof.check.title.in_(self.lang))}")
            branch.add(escape(rule_words(proof.check)))
            for found in proof.findings:
                self._finding(branch, found, raw)
        if e.words:
            self._words(tree, e, raw)
        return tree

    def _words(self, tree: Tree, e: Explanation, raw: Mapping[str, bytes]) -> None:
        """What people said of the criterion, the newest first, and whether a check says otherwise."""
        branch = tree.add(escape(self.say("web.explain.step_attested")))
        if e.score.contradicted and e.word is not None:
            declared = e.word.finding.reason.figures.get("count", "-")
            met, of = e.score.findings.get("met", 0), sum(e.score.findings.values())
            branch.add(
                f"[bold red]{escape(self.say('web.explain.contradicted', declared=declared, met=met, of=of))}[/]"
            )
        if e.word is not None:
            self._finding(branch, e.word, raw)
        for word in e.words[1 if e.word is not None else 0 :]:
            self._observation(branch, word, raw)

    def _finding(self, branch: Tree, proof: FindingProof, raw: Mapping[str, bytes]) -> None:
        f = proof.finding
        why = texts.reason(self.say, f.reason.code, f.reason.figures)
        leaf = branch.add(f"{escape(f.asset or '-')}: {self.verdict(f.verdict)}: {escape(why)}")
        if proof.observation is not None:
            self._observation(leaf, proof.observation, raw)

    def _observation(self, leaf: Tree, o: Observation, raw: Mapping[str, bytes]) -> None:
        leaf.add(escape(f"{o.fact} = {json.dumps(o.value, ensure_ascii=False)} ({o.unit})"))
        seen = self.say("cli.seen", at=self.time(o.seen_at), first=self.time(o.first_seen_at), collector=o.collector)
        leaf.add(escape(seen))
        leaf.add(escape(self.say("cli.asked", asked=o.asked)))
        if o.raw_digest is None:
            leaf.add(escape(self.say("cli.raw_not_kept")))
            return
        bytes_ = leaf.add(escape(self.say("cli.raw", digest=o.raw_digest, bytes=len(raw.get(o.raw_digest, b"")))))
        for line in raw.get(o.raw_digest, b"").decode("utf-8", "replace").splitlines()[:12]:
            bytes_.add(escape(line[:160]))

    def difference(self, d: Difference) -> None:
        """What moved."""
        if d.empty:
            self.tell("cli.nothing_moved")
            return
        criteria, findings = len(d.criteria), len(d.findings)
        self.tell("cli.moved", criteria=criteria, findings=findings, before=d.met_before, after=d.met_after)
        for move in d.criteria:
            self.out.print(
                f"  {escape(move.criterion)}: {self.verdict(move.before or 'unknown')} → "
                f"{self.verdict(move.after or 'unknown')}"
            )
            for cause in move.causes:
                self.out.print(f"      {escape(self.cause(cause))}")
        for found in d.findings:
            reason = found.reason_after
            why = texts.reason(self.say, reason.code, reason.figures) if reason else ""
            self.out.print(
                f"    {escape(found.check)} {escape(found.asset)}: {self.verdict(found.before or 'unknown')} → "
                f"{self.verdict(found.after or 'unknown')}: {escape(why)}"
            )

    def cause(self, cause: Cause) -> str:
        """Why a criterion moved, in one sentence that names check, asset, run or link."""
        reason = cause.after or cause.before
        figures = {
            "check": cause.check.removeprefix(DECLARED),
            "asset": cause.asset or "-",
            "run": cause.run,
            "link": -(cause.observation_after or cause.observation_before or 0),
            "why": texts.reason(self.say, reason.code, reason.figures) if reason else "-",
        }
        return self.say(f"cause.{cause.kind}", **figures)

    def _table(self, *keys: str) -> Table:
        table = Table(header_style="bold", expand=False)
        for key in keys:
            table.add_column(self.say(key), overflow="fold")
        return table


def level_words(say: Say, levels: tuple[str, ...], level: str | None) -> str:
    """A level in words: "Mức 4", "Mức nâng cao", "Dưới mức 1"."""
    if level is None:
        lowest = level_words(say, levels, levels[0])
        return say("level.below", lowest=lowest[:1].lower() + lowest[1:])
    return say("level.number", level=level) if level.isdigit() else say(f"level.{level}")


def rule_words(check: Check) -> str:
    """A check's rule as it stands in its file: disk.usage.used_percent at_most 85, fresh within 26 h."""
    figure = f"{check.fact}.{check.of}" if check.of else check.fact
    hours = check.fresh_within.total_seconds() / 3600
    return f"{figure} {check.expect.test} {check.expect.bound} ({hours:g} h)"
