"""How the command line shows things: tables and sentences, or plain JSON on request. It asks nothing itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from controlplane import texts
from controlplane.domain.chain import plain
from controlplane.domain.cheapest import Plan
from controlplane.domain.compare import Cause, Difference
from controlplane.domain.coverage import Coverage
from controlplane.domain.decay import Ending
from controlplane.domain.duties import Due
from controlplane.domain.explain import Explanation, FindingProof, gathered
from controlplane.domain.forecast import Forecast
from controlplane.domain.judge import Trial
from controlplane.domain.model import DECLARED, Asset, Catalog, Check, GroupScore, Observation, Reason, Scorecard
from controlplane.domain.overview import GroupView, Overview
from controlplane.domain.whatif import WhatIf, label
from controlplane.plays import Play
from controlplane.sheets.form import Preview
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
        return texts.level(self.say, level, levels)

    def vnd(self, amount: int) -> str:
        """An amount of money with its thousands set apart, as the tongue does it."""
        return f"{amount:,}" if self.lang == "en" else f"{amount:,}".replace(",", ".")

    def now_level(self, levels: tuple[str, ...], score: GroupScore) -> str:
        """The pair of levels, or that none can be determined."""
        if score.reason.code == "share":
            return texts.reason(self.say, "share_short", score.reason.figures)
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

    def standings(self, views: Iterable[GroupView], card: Scorecard) -> Table:
        """Every ladder in full: what its levels rest on, how sure its criteria are, and the preview under drafts."""
        keys = ("group", "now", "possible", "preview", "with_waivers", "met", "proofs", "automated", "judged", "draft")
        table = self._table(*(f"cli.column.{key}" for key in keys))
        for view in views:
            g = view.score
            preview = " – ".join(self.level(view.levels, level) for level in g.preview) if g.preview else "-"
            proofs = ", ".join(f"{self.say(f'proof.{proof}')} {count}" for proof, count in g.proofs.items()) or "-"
            flagged = f" ⚠ {g.contradicted}" if g.contradicted else ""
            table.add_row(
                escape(f"{view.title.in_(self.lang)} · {view.framework}"),
                self.now_level(view.levels, g),
                self.level(view.levels, g.possible) if g.possible or g.determinable else "-",
                preview,
                self.level(view.levels, g.with_waivers) if g.determinable else "-",
                f"{g.counts.get('met', 0)}/{g.total}",
                proofs + flagged,
                *map(str, (g.automated, g.judged, g.drafts)),
            )
        for overall in card.overall:
            table.add_section()
            now = overall.proven or "-" if overall.determinable else self.say("level.undeterminable")
            preview = " – ".join(level or "-" for level in overall.preview)
            title = self.say("cli.overall", framework=overall.framework)
            why = texts.reason(self.say, overall.reason.code, overall.reason.figures)
            table.add_row(title, now, overall.possible or "-", preview, "-", "-", escape(why), "-", "-", "-")
        return table

    def overview(self, o: Overview) -> None:
        """The director's screen, in a terminal."""
        self.line(o.campaign.hospital.name.in_(self.lang), "bold")
        for note in o.notes:
            self.line(texts.reason(self.say, note.code, note.figures), "bold yellow")
        self.out.print(self.groups(o.groups))
        self._blockers(o)
        for view in o.milestones:
            if view.state == "done":
                continue
            key = "cli.days_over" if view.state == "late" else "cli.days_left"
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

    def plays(self, plays: Iterable[Play]) -> Table:
        """Every play: what it does, where, and what has to be thought of before."""
        table = self._table(*(f"cli.column.{key}" for key in ("play", "does", "hosts", "heed")))
        for play in plays:
            heed = [self.say("web.plays.disruptive")] if play.disruptive else []
            heed += [self.say("web.plays.second_role")] if play.approval != "none" else []
            words = (play.id, play.title.in_(self.lang), play.hosts, "; ".join(heed))
            table.add_row(*map(escape, words))
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
            field = self.say(f"cli.catalog_field.{change.field}")
            self.tell("cli.catalog_change", **vars(change) | {"field": field})
        for added in preview.added:
            levels = ", ".join(added.levels) or "-"
            self.tell("cli.catalog_added", id=added.id, group=added.group, levels=levels, title=added.title)
        counts = {"confirmed": len(preview.confirmed), "changes": len(preview.changes), "added": len(preview.added)}
        self.tell("cli.catalog_counts", bad=len(preview.bad), unchanged=preview.unchanged, **counts)

    def imagined(self, found: WhatIf, catalog: Catalog) -> None:
        """Levels before and after, what moved, the price, and what was assumed."""
        for g in found.groups:
            levels = next(x.levels for x in catalog.frameworks[g.framework].groups if x.id == g.group)
            pairs = [(score.determinable, score.proven, score.possible) for score in (g.before, g.after)]
            if pairs[0] == pairs[1] and g.after.target is None:
                continue
            before, after = (
                f"{self.now_level(levels, s)} – {self.level(levels, s.possible)}" for s in (g.before, g.after)
            )
            self.tell("cli.level_move", group=f"{g.framework}/{g.group}", before=before, after=after)
            if g.ahead.list_open:
                self.line("  " + self.say("web.plan.list_open"))
            elif g.ahead.level is not None:
                missing = len(g.ahead.missing)
                self.tell("cli.level_ahead", level=self.level(levels, g.ahead.level), missing=missing)
        for changes in (found.gained, found.lost, found.moved):
            for change in changes:
                title = catalog.criteria[change.criterion].title.in_(self.lang)
                self.out.print(
                    f"  {self.verdict(change.before)} → {self.verdict(change.after)} "
                    f"{escape(f'{title} ({change.criterion})')}"
                )
        self.tell("cli.imagined", gained=len(found.gained), lost=len(found.lost), price=self.vnd(found.price_vnd))
        for assumption in found.assumptions:
            self.line(texts.say(self.lang, f"whatif.{assumption.code}", **self._figures(assumption)), "dim")

    def _figures(self, reason: Reason) -> dict[str, Any]:
        kind = reason.figures.get("kind")
        return {**reason.figures, **({"kind": self.say(f"declared_kind.{kind}")} if kind else {})}

    def way(self, plan: Plan, catalog: Catalog) -> None:
        """The cheapest set, whether it is exact, and what no offer mends."""
        self.tell("cli.way", group=f"{plan.goal.framework}/{plan.goal.group}", level=plan.goal.level)
        for offer in plan.chosen:
            self.line(f"  {label(offer.action)}  {self.vnd(offer.price_vnd)} VND, {offer.effort_hours} h")
        price, bound = self.vnd(plan.cost_vnd), self.vnd(plan.lower_bound_vnd)
        self.tell("cli.way_price", price=price, bound=bound, reached=plan.reached, exact=plan.exact)
        self.line(texts.say(self.lang, f"whatif.{plan.reason.code}", **self._figures(plan.reason)))
        for score in plan.missing:
            self.line(f"  {catalog.criteria[score.id].title.in_(self.lang)} ({score.id})")

    def forecast(self, found: Forecast, soon: Sequence[Ending], stays: Mapping[int, int]) -> None:
        """Dates of targets and milestones, and the evidence that ends first."""
        table = self._table(*(f"cli.column.{key}" for key in ("target", "plan_date", "p50", "p90", "why")))
        for outlook in (*found.targets, *found.milestones):
            days = [day.isoformat() if day else "-" for day in (outlook.due_on, outlook.p50, outlook.p90)]
            why = texts.say(self.lang, f"forecast.{outlook.reason.code}", **outlook.reason.figures)
            name = outlook.id if outlook.level is None else f"{outlook.id} {outlook.level}"
            table.add_row(escape(name), *days, escape(why))
        self.out.print(table)
        for days_ahead, count in sorted(stays.items()):
            self.tell("cli.stay_met", days=days_ahead, count=count)
        for ending in soon[:20]:
            place = f"{ending.check}, {ending.asset}"
            self.tell("cli.ends", until=self.time(ending.until), criterion=ending.criterion, place=place)

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
        standing = tree.add(escape(f"{self.say(f'standing.{c.standing}')} ({c.confidence}; {c.source})"))
        if e.confirmed is not None:
            named = {**vars(e.confirmed), "at": self.time(e.confirmed.at)}
            standing.add(escape(self.say("web.explain.confirmed_by", **named)))
        tree.add(escape(texts.reason(self.say, e.score.reason.code, e.score.reason.figures)))
        if e.stake is not None:
            group = next(g for g in e.framework.groups if g.id == c.group)
            tree.add(escape(texts.stake(self.say, e.stake, group.levels, determinable=group.list_complete)))
        for proof in e.checks:
            branch = tree.add(f"[bold]{escape(proof.check.id)}[/] {escape(proof.check.title.in_(self.lang))}")
            branch.add(escape(rule_words(proof.check)))
            for found in gathered(proof.findings):
                self._finding(branch, found.first, raw, found.assets)
        if e.words:
            self._words(tree, e, raw)
        return tree

    def _words(self, tree: Tree, e: Explanation, raw: Mapping[str, bytes]) -> None:
        """What people said of the criterion, the newest first, and whether a check says otherwise."""
        branch = tree.add(escape(self.say("web.explain.step_attested")))
        if e.score.contradicted and e.word is not None:
            declared = e.word.finding.reason.figures.get("count", "-")
            met, of = e.assets
            branch.add(
                f"[bold red]{escape(self.say('web.explain.contradicted', declared=declared, met=met, of=of))}[/]"
            )
        if e.word is not None:
            self._finding(branch, e.word, raw)
        for word in e.words[1 if e.word is not None else 0 :]:
            self._observation(branch, word, raw)

    def _finding(self, branch: Tree, proof: FindingProof, raw: Mapping[str, bytes], assets: Sequence[str] = ()) -> None:
        """One finding, or one for several assets of which nothing was seen."""
        f = proof.finding
        named = ", ".join(assets) if len(assets) > 1 else f.asset or "-"
        why = texts.reason(self.say, f.reason.code, f.reason.figures)
        leaf = branch.add(f"{escape(named)}: {self.verdict(f.verdict)}: {escape(why)}")
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
            bytes_.add(escape(printable(line[:160])))

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


def printable(line: str) -> str:
    """A line of foreign bytes without what would steer a terminal."""
    return "".join(char if char.isprintable() or char == "\t" else "\ufffd" for char in line)


def rule_words(check: Check) -> str:
    """A check's rule as it stands in its file: disk.usage.used_percent at_most 85, fresh within 26 h."""
    figure = f"{check.fact}.{check.of}" if check.of else check.fact
    hours = check.fresh_within.total_seconds() / 3600
    return f"{figure} {check.expect.test} {check.expect.bound} ({hours:g} h)"
