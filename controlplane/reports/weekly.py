"""The Thursday report to Sở Y tế: one overview of sealed figures in the order of the campaign plan, as a Word document.

It refuses to fill a gap: what no round has measured is said to be unmeasured, a draft never shows as a level, and a
level that cannot be determined is printed with its reason. It computes no verdict and reads no clock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from controlplane import texts
from controlplane.domain.model import Outcome, Reason, Verdict, Words
from controlplane.domain.overview import Blocker, GroupView, Hospital, Milestone, Overview, RoundView, TrendPoint
from controlplane.reports import nd30
from controlplane.reports.nd30 import (
    Column,
    Head,
    Paper,
    Row,
    Signature,
    Span,
    paragraph,
    paragraph_of,
    ruled_table,
    run,
)
from controlplane.reports.weeks import EvidenceLine, IsoWeek, LookLine

Say = Callable[..., str]
"""``say(key, **figures)``: the house's sentence for a key, in the tongue it is bound to. Reports want Vietnamese."""


@dataclass(frozen=True)
class _Story:
    """Everything the report tells, handed from section to section."""

    overview: Overview
    week: IsoWeek
    looks: Sequence[LookLine]
    evidence: Sequence[EvidenceLine]
    say: Say
    issued_on: date

    def note(self, key: str, **figures: Any) -> str:
        """A sentence of this report, its figures already in Vietnamese print."""
        return self.say(f"report.{key}", **{k: _printed(v) for k, v in figures.items()})

    def reason(self, reason: Reason) -> str:
        """The sentence for why something is so."""
        return texts.reason(self.say, reason.code, {k: _printed(v) for k, v in reason.figures.items()})

    @property
    def span(self) -> dict[str, str]:
        """The week's figures, as most sentences want them."""
        return {
            "week": str(self.week.number),
            "monday": nd30.short_date(self.week.monday),
            "sunday": nd30.short_date(self.week.sunday),
        }


def render_weekly(
    overview: Overview,
    week: IsoWeek,
    looks: Sequence[LookLine],
    evidence: Sequence[EvidenceLine],
    say: Say,
    *,
    issued_on: date | None = None,
) -> bytes:
    """The weekly report as ``.docx`` bytes; the same arguments give the same bytes.

    ``looks``: assets of the last round, for the list of those that gave no answer. ``evidence``: further lines of the
    index, such as the scorecard. ``issued_on``: the day printed beside the place; without it the day, in Viet Nam,
    on which the overview was asked for. Whether the last round lies in the week is said here; ``overview.notes``
    need not say it again. Raises whatever ``say`` raises for a word it does not have.
    """
    story = _Story(overview, week, looks, evidence, say, issued_on or nd30.local_day(overview.at))
    hospital = overview.campaign.hospital
    phrases = [story.note("subject", campaign=overview.campaign.title.vi), story.note("subject_week", **story.span)]
    paper = Paper(title=f"{nd30.REPORT}: {' '.join(phrases)}", author=hospital.name.vi, at=overview.at)
    symbol = f"{nd30.REPORT_CODE}-{hospital.short_symbol}"
    paper.head(Head(hospital.parent_body.vi, hospital.name.vi, symbol, hospital.place, story.issued_on))
    paper.name(nd30.REPORT, phrases)
    paper.addressee(hospital.parent_body.vi)
    _opening(paper, story)
    for part in (_leadership, _results, _assessment, _obstacles, _next_week, _proposals):
        part(paper, story)
    paper.signature(Signature(hospital.signer_title.vi, _others(hospital), hospital.archive_line))
    _annex(paper, story, symbol)
    return paper.to_bytes()


def _others(hospital: Hospital) -> list[str]:
    """The recipients besides the addressee, whom ``Như trên`` names."""
    to = hospital.parent_body.vi.casefold()
    return [line for line in hospital.recipients if not to.startswith(line.split("(")[0].strip(" -;.").casefold())]


def _opening(paper: Paper, story: _Story) -> None:
    campaign = story.overview.campaign
    bases = ("basis_law", "basis_54", "basis_13", "basis_524", "basis_plan")
    figures = {"plan": campaign.plan, "hospital": campaign.hospital.name.vi, "campaign": campaign.title.vi}
    figures["parent"] = campaign.hospital.parent_body.vi
    paper.bases([story.note(key, **figures) for key in bases])
    paper.add(paragraph("NoiDung", story.note("opening", **figures, **story.span)))
    for sentence in _notes(story):
        runs = [run(f"{story.note('remark')} ", bold=True), run(sentence)]
        paper.add(paragraph_of("NoiDung", runs))


def _notes(story: _Story) -> list[str]:
    """Everything a reader must know before the figures; each sentence once."""
    overview, last = story.overview, story.overview.last_round
    reasons = list(overview.notes)
    told = {reason.code for reason in reasons}
    if last is None and "no_round" not in told:
        reasons.append(Reason("no_round"))
    if last is not None and not story.week.holds(nd30.local_day(last.started_at)) and "round_outside_week" not in told:
        reasons.append(Reason("round_outside_week", {"day": nd30.local_day(last.started_at)}))
    notes = [story.reason(reason) for reason in reasons]
    if last is not None and last.state != "done" and "interrupted" not in told:
        notes.append(story.note("round_not_done"))
    if last is not None and last.only:
        notes.append(story.note("round_narrow", only=", ".join(last.only)))
    if not overview.chain_holds:
        notes.append(story.note("chain_broken"))
    return list(dict.fromkeys(_sentence(note) for note in notes))


# ---------------------------------------------------------------------------------------------- sections


def _leadership(paper: Paper, story: _Story) -> None:
    campaign = story.overview.campaign
    _heading(paper, story, "leadership")
    days = (campaign.ends_on - campaign.starts_on).days + 1
    period = {"starts": campaign.starts_on, "ends": campaign.ends_on, "days": days, "plan": campaign.plan}
    paper.add(paragraph("NoiDung", story.note("leadership_plan", campaign=campaign.title.vi, **period)))
    paper.add(paragraph("NoiDung", story.note("leadership_meeting", thursday=story.week.thursday)))
    paper.add(paragraph("NoiDung", story.note("leadership_unknown")))


_AREA_OF = {
    "infra": "infrastructure",
    "nonfunc": "links",
    "security": "security",
    "system": "security",
}
"""Group id -> the section of the plan its sentence stands in; every other group is software."""

_AREAS = ("infrastructure", "software", "links", "training", "signatures", "security", "trial", "dossier")


def _results(paper: Paper, story: _Story) -> None:
    _heading(paper, story, "results")
    for index, area in enumerate(_AREAS, 1):
        paper.add(paragraph("Khoan", f"{index}. {story.note(f'area_{area}')}"))
        if area == "infrastructure":
            _machines(paper, story)
        groups = [g for g in story.overview.groups if _AREA_OF.get(g.group, "software") == area]
        for group in groups:
            paper.add(paragraph("NoiDung", f"- {_level_sentence(story, group)}"))
        if not groups:
            paper.add(paragraph("NoiDung", story.note(f"unmeasured_{area}")))
        if area == "software":
            _levels(paper, story)


def _machines(paper: Paper, story: _Story) -> None:
    """The inventory by kind, and how the last round went."""
    overview = story.overview
    kinds = [kind for kind, count in overview.assets.items() if count and kind != "site"]
    kinds.sort(key=lambda kind: (_KINDS.index(kind) if kind in _KINDS else len(_KINDS), kind))
    if not kinds:
        paper.add(paragraph("NoiDung", story.note("inventory_empty")))
        return
    counted = [story.note("count_of_kind", count=overview.assets[k], kind=_kind(story, k)) for k in kinds]
    paper.add(paragraph("NoiDung", story.note("inventory", list=", ".join(counted))))
    if overview.last_round is None:
        paper.add(paragraph("NoiDung", story.note("round_none")))
    else:
        _round(paper, story, overview.last_round)
    rows: list[Row] = []
    for index, kind in enumerate(kinds, 1):
        answered = nd30.number(overview.assets_looked_at.get(kind, 0))
        seen = answered if overview.last_round else story.note("unmeasured_cell")
        title = _kind(story, kind)
        rows.append([str(index), title[:1].upper() + title[1:], nd30.number(overview.assets[kind]), seen])
    columns = [
        Column(story.note("col_no"), 14, "center"),
        Column(story.note("col_kind"), 66),
        Column(story.note("col_inventory"), 38, "center"),
        Column(story.note("col_answered"), 42, "center"),
    ]
    _table(paper, story, "machines", columns, rows)


_KINDS = ("server", "workstation", "printer", "switch", "firewall", "ups", "nas", "service")


def _kind(story: _Story, kind: str) -> str:
    return story.say(f"kind.{kind}")


_SILENT_SHOWN = 10


def _round(paper: Paper, story: _Story, last: RoundView) -> None:
    looked = sum(last.looks.values())
    answered = last.looks.get(Outcome.ANSWERED, 0)
    others = [(word, n) for word, n in last.looks.items() if word != Outcome.ANSWERED and n]
    others.sort(key=lambda pair: (-pair[1], pair[0]))
    figures = {
        "seq": str(last.seq),
        "id": last.id,
        "at": nd30.local_time(last.started_at),
        "looked": looked,
        "answered": answered,
    }
    text = story.note("round_facts", **figures)
    if others:
        parts = [story.note("count_of_outcome", count=n, outcome=story.say(f"outcome.{word}")) for word, n in others]
        text += " " + story.note("round_silent", count=looked - answered, list="; ".join(parts))
    paper.add(paragraph("NoiDung", text))
    quiet = (Outcome.ANSWERED, Outcome.NO_ADDRESS)
    silent = [line for line in story.looks if line.outcome not in quiet]
    names = [f"{line.title} ({story.say(f'outcome.{line.outcome}')})" for line in silent]
    if names:
        more = len(names) - _SILENT_SHOWN
        listed = "; ".join(names[:_SILENT_SHOWN])
        tail = f"; {story.note('and_more', count=more)}" if more > 0 else ""
        paper.add(paragraph("NoiDung", story.note("round_silent_names", list=listed + tail)))


# ------------------------------------------------------------------------------------------------ levels


def _level(story: _Story, view: GroupView, level: str | None) -> str:
    """``mức 2``, ``mức nâng cao``; below the lowest: ``dưới mức 1``, ``chưa đạt mức cơ bản``."""
    if level is None:
        lowest = view.levels[0]
        return story.note("below_number" if lowest.isdigit() else "below_word", level=_level(story, view, lowest))
    text = texts.level(story.say, level, view.levels)
    return text[:1].lower() + text[1:]


def _level_sentence(story: _Story, view: GroupView) -> str:
    """``Hạ tầng: Mức 2 (đã chứng minh) / có thể đạt mức 4; mục tiêu mức 7.`` A draft is never a level."""
    name = view.title.vi
    target = story.note("target_is", level=_level(story, view, view.target)) if view.target else story.note("no_target")
    score = view.score
    if score.reason.code == "share":
        return story.note("level_share", name=name, reason=story.reason(score.reason))
    if not score.determinable:
        why = _sentence(story.reason(score.reason), end="")
        text = story.note("level_undetermined", name=name, reason=why, target=target)
    else:
        proven = _capital(_level(story, view, score.proven))
        pair = story.note("level_pair", proven=proven, possible=_level(story, view, score.possible))
        text = story.note("level_known", name=name, pair=pair, target=target)
    if score.drafts:
        text += " " + story.note("drafts_apart", count=score.drafts)
    return text


def _levels(paper: Paper, story: _Story) -> None:
    """The table of levels and the table of counts."""
    overview = story.overview
    rows: list[Row] = []
    frameworks = list(dict.fromkeys(g.framework for g in overview.groups))
    count = 0
    for framework in frameworks:
        mine = [g for g in overview.groups if g.framework == framework]
        rows.append(Span(mine[0].framework_title.vi))
        for view in mine:
            count += 1
            rows.append([str(count), *_level_row(story, view)])
    if rows:
        columns = [
            Column(story.note("col_no"), 9, "center"),
            Column(story.note("col_group"), 32),
            Column(story.note("col_proven"), 17, "center"),
            Column(story.note("col_possible"), 17, "center"),
            Column(story.note("col_target"), 16, "center"),
            Column(story.note("col_gap"), 13, "center"),
            Column(story.note("col_owner"), 29),
            Column(story.note("col_due"), 27, "center"),
        ]
        _table(paper, story, "levels", columns, rows, as_of=overview.as_of)
    if overview.total:
        _counts(paper, story)


def _level_row(story: _Story, view: GroupView) -> list[str | None]:
    score = view.score
    pair: list[str | None]
    if score.determinable:
        pair = [_capital(_level(story, view, level)) for level in (score.proven, score.possible)]
    elif score.reason.code == "share":
        pair = [_capital(texts.reason(story.say, "share_short", score.reason.figures)), None]
    else:
        pair = [story.say("level.undeterminable"), None]
    target = _capital(_level(story, view, view.target)) if view.target else story.note("no_target_cell")
    missing = nd30.number(view.gap) if view.gap is not None else story.note("no_gap_cell")
    return [
        view.title.vi,
        *pair,
        target,
        missing,
        view.owner or story.note("no_owner"),
        _due(story, view.due_on) if view.due_on else story.note("no_due"),
    ]


def _counts(paper: Paper, story: _Story) -> None:
    overview = story.overview
    words = list(Verdict)
    columns = [Column(story.note("col_criteria"), 28)]
    columns += [Column(_capital(story.say(f"verdict.{word}")), 19, "center") for word in words]
    columns.append(Column(story.note("col_total"), 18, "center"))
    figures = [overview.counts.get(word, 0) for word in words]
    rows: list[Row] = [
        [story.note("row_count"), *(nd30.number(n) for n in figures), nd30.number(overview.total)],
        [story.note("row_share"), *(nd30.share(n, overview.total) for n in figures), "100%"],
    ]
    _table(paper, story, "counts", columns, rows)
    apart = story.note("counts_apart", drafts=overview.drafts, automated=overview.automated, total=overview.total)
    paper.add(paragraph("NoiDung", apart))
    if overview.contradicted:
        paper.add(paragraph("NoiDung", story.note("contradicted", count=overview.contradicted)))
    _standings(paper, story)


def _standings(paper: Paper, story: _Story) -> None:
    """How sure the criteria themselves are, and how much of them is measured; the overall level stays apart."""
    overview = story.overview
    titles = {g.framework: g.framework_title.vi for g in overview.groups}
    names = ("criteria", "confirmed", "second_hand", "draft", "scored", "automated", "judged")
    columns = [Column(story.note("col_framework"), 48)]
    columns.append(Column(story.note("col_criteria_count"), 16, "center"))
    columns += [Column(story.note(f"col_{name}"), 16, "center") for name in names[1:]]
    rows: list[Row] = [
        [_short(titles[c.framework]), *(nd30.number(getattr(c, name)) for name in names)] for c in overview.coverage
    ]
    if rows:
        _table(paper, story, "standings", columns, rows)
    for overall in overview.overall:
        name = _short(titles[overall.framework])
        if overall.determinable:
            text = story.note("overall_known", name=name, level=overall.proven or "–", possible=overall.possible or "–")
        else:
            text = story.note("overall_open", name=name, reason=_sentence(story.reason(overall.reason), end=""))
        paper.add(paragraph("NoiDung", text))


def _short(title: str) -> str:
    """The name of a law up to what it is about."""
    return re.split(r": | An ninh", title, maxsplit=1)[0].strip()


# -------------------------------------------------------------------------------- assessment and the rest


def _assessment(paper: Paper, story: _Story) -> None:
    overview = story.overview
    _heading(paper, story, "assessment")
    if overview.total:
        met = overview.counts.get(Verdict.MET, 0)
        open_ = overview.counts.get(Verdict.UNKNOWN, 0) + overview.counts.get(Verdict.STALE, 0)
        bad = overview.counts.get(Verdict.NOT_MET, 0)
        figures = {"met": met, "total": overview.total, "share": nd30.share(met, overview.total)}
        paper.add(paragraph("NoiDung", story.note("assessed", bad=bad, unclear=open_, **figures)))
    else:
        paper.add(paragraph("NoiDung", story.note("assessed_nothing")))
    paper.add(paragraph("NoiDung", _trend(story)))
    if not overview.milestones:
        return
    paper.add(paragraph("NoiDung", story.note("milestones_unknown", table=paper.tables + 1)))
    rows = []
    for index, view in enumerate(overview.milestones, 1):
        mark = view.milestone
        rows.append([str(index), mark.title.vi, mark.owner or story.note("no_owner"), _due(story, mark.due_on)])
    columns = [
        Column(story.note("col_no"), 12, "center"),
        Column(story.note("col_milestone"), 58),
        Column(story.note("col_owner"), 53),
        Column(story.note("col_due"), 37, "center"),
    ]
    _table(paper, story, "milestones", columns, rows, as_of=overview.as_of)


def _trend(story: _Story) -> str:
    """This week's last round against the last one before the week; a sentence also when there is nothing to compare."""
    points = sorted(story.overview.trend, key=lambda p: p.at)
    inside = [p for p in points if story.week.holds(nd30.local_day(p.at))]
    before = [p for p in points if nd30.local_day(p.at) < story.week.monday]
    if not inside:
        return story.note("trend_no_round")
    if not before:
        return story.note("trend_first", **_point("now", inside[-1]))
    change = inside[-1].met - before[-1].met
    word = "trend_up" if change > 0 else "trend_down" if change < 0 else "trend_same"
    return story.note(word, change=abs(change), **_point("now", inside[-1]), **_point("before", before[-1]))


def _point(name: str, point: TrendPoint) -> dict[str, Any]:
    return {f"{name}_met": point.met, f"{name}_total": point.total, f"{name}_day": nd30.local_day(point.at)}


def _obstacles(paper: Paper, story: _Story) -> None:
    _heading(paper, story, "obstacles")
    blockers = story.overview.blockers
    if not blockers:
        paper.add(paragraph("NoiDung", story.note("obstacles_none")))
        return
    paper.add(paragraph("NoiDung", story.note("obstacles", count=len(blockers), table=paper.tables + 1)))
    groups = {(g.framework, g.group): g for g in story.overview.groups}
    rows = []
    for index, blocker in enumerate(blockers, 1):
        group = groups.get((blocker.framework, blocker.group))
        name = group.title.vi if group else blocker.group
        word, why = story.say(f"verdict.{blocker.verdict}"), story.reason(blocker.reason)
        state = _capital(why if word in why else f"{word}: {why}")
        owner = blocker.owner or story.note("no_owner")
        rows.append([str(index), f"{blocker.title.vi} ({name})", _sentence(state), owner])
    columns = [
        Column(story.note("col_no"), 12, "center"),
        Column(story.note("col_obstacle"), 56),
        Column(story.note("col_state"), 50),
        Column(story.note("col_owner"), 42),
    ]
    _table(paper, story, "obstacles", columns, rows)


def _next_week(paper: Paper, story: _Story) -> None:
    """What the plan dates for the week to come, or its next date, and the obstacles above: nothing else is known."""
    week = IsoWeek.of(story.week.sunday + timedelta(days=1))
    span = {"monday": nd30.short_date(week.monday), "sunday": nd30.short_date(week.sunday)}
    _heading(paper, story, "next_week")
    rows = []
    for item in _coming(story, week):
        rows.append([item.title.vi, item.owner or story.note("no_owner"), _due(story, item.due_on)])
    rows += [_mend(story, blocker) for blocker in story.overview.blockers]
    if not rows:
        paper.add(paragraph("NoiDung", story.note("next_week_none", **span)))
        return
    columns = [
        Column(story.note("col_no"), 12, "center"),
        Column(story.note("col_task"), 61),
        Column(story.note("col_owner"), 50),
        Column(story.note("col_due"), 37, "center"),
    ]
    printed = [[str(i), *row] for i, row in enumerate(rows, 1)]
    _table(paper, story, "next_week", columns, printed, **span)


def _coming(story: _Story, week: IsoWeek) -> list[Milestone]:
    """Milestones due in the coming week or, when it has none, the first one after it."""
    ahead = sorted((m.milestone for m in story.overview.milestones), key=lambda m: m.due_on)
    ahead = [m for m in ahead if m.due_on >= week.monday]
    return [m for m in ahead if m.due_on <= week.sunday] or ahead[:1]


def _mend(story: _Story, blocker: Blocker) -> list[str]:
    views = [g for g in story.overview.groups if (g.framework, g.group) == (blocker.framework, blocker.group)]
    due = views[0].due_on if views else None
    when = _due(story, due) if due else story.note("no_due")
    task = story.note("mend_by_play" if blocker.remedy else "mend", title=blocker.title.vi)
    return [task, blocker.owner or story.note("no_owner"), when]


def _proposals(paper: Paper, story: _Story) -> None:
    campaign = story.overview.campaign
    _heading(paper, story, "proposals")
    paper.add(paragraph("NoiDung", story.note("proposals_unknown")))
    figures = {"campaign": campaign.title.vi, "hospital": campaign.hospital.name.vi}
    closing = story.note("closing", parent=campaign.hospital.parent_body.vi, **figures, **story.span)
    paper.add(paragraph("NoiDung", _sentence(closing, end="") + nd30.END_MARK, keep=True))


# ------------------------------------------------------------------------------------------------- annex


def _annex(paper: Paper, story: _Story, symbol: str) -> None:
    overview = story.overview
    hospital = overview.campaign.hospital.name.vi
    dated = story.note("annex_dated", year=str(story.issued_on.year), hospital=hospital)
    paper.annex(story.note("annex_word"), story.note("annex_title"), [story.note("annex_of", symbol=symbol), dated])
    lines = _evidence(story)
    if lines:
        paper.add(paragraph("NoiDung", story.note("annex_intro")))
        columns = [
            Column(story.note("col_no"), 12, "center"),
            Column(story.note("col_evidence"), 46),
            Column(story.note("col_sha"), 70),
            Column(story.note("col_at"), 32, "center"),
        ]
        rows = [[str(i), x.label, x.sha256, nd30.local_time(x.at)] for i, x in enumerate(lines, 1)]
        paper.add(ruled_table(columns, rows), paragraph("SauBang"))
    state = "annex_empty" if not lines else "annex_holds" if overview.chain_holds else "annex_broken"
    paper.add(paragraph("NoiDung", _sentence(story.note(state), end="") + nd30.END_MARK))


def _evidence(story: _Story) -> list[EvidenceLine]:
    """The round, the head of the chain, and what the caller adds."""
    overview, last = story.overview, story.overview.last_round
    lines = []
    if last is not None:
        label = story.note("evidence_round", seq=str(last.seq), id=last.id)
        lines.append(EvidenceLine(label, last.seal, last.ended_at or last.started_at))
    if overview.chain_head.strip("0"):  # sixty-four zeros are a chain that has not begun
        lines.append(EvidenceLine(story.note("evidence_head"), overview.chain_head, overview.at))
    return lines + list(story.evidence)


# ------------------------------------------------------------------------------------------- small words


_SECTIONS = ("leadership", "results", "assessment", "obstacles", "next_week", "proposals")
_ROMAN = dict(zip(_SECTIONS, ("I", "II", "III", "IV", "V", "VI"), strict=True))


def _heading(paper: Paper, story: _Story, section: str) -> None:
    paper.add(paragraph("Muc", f"{_ROMAN[section]}. {story.note(f'section_{section}')}".upper()))


def _table(
    paper: Paper, story: _Story, name: str, columns: Sequence[Column], rows: Sequence[Row], **figures: Any
) -> None:
    title = story.note(f"table_{name}", **figures)
    paper.table(story.note("table_caption", number=paper.tables + 1, title=title), columns, rows)


def _due(story: _Story, day: date) -> str:
    """``15/8/2025`` and below it ``(còn 4 ngày)``, counted from the day the scorecard stands for."""
    left = (day - story.overview.as_of).days
    word = "days_left" if left > 0 else "days_past" if left < 0 else "days_none"
    return f"{nd30.short_date(day)}\n({story.note(word, days=abs(left))})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(text: str, end: str = ".") -> str:
    return text.strip().rstrip(" .;") + end


def _printed(value: Any) -> Any:
    """A figure as Vietnamese print has it; words and truth values stay what they are."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return nd30.number(value)
    if isinstance(value, datetime):
        return nd30.local_time(value)
    if isinstance(value, date):
        return nd30.short_date(value)
    if isinstance(value, Words):
        return value.vi
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_printed(v)}" for k, v in value.items())
    if isinstance(value, Iterable):
        return ", ".join(str(_printed(item)) for item in value)
    return value
