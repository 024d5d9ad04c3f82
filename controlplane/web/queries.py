"""What pages and API choose from a judgement: rows, filters, parts of long lists. It writes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Generic, TypeVar

from controlplane.bootstrap import Judgement, Plane
from controlplane.domain.compare import Difference
from controlplane.domain.model import (
    Asset,
    Catalog,
    Criterion,
    CriterionScore,
    Finding,
    Framework,
    Group,
    Observation,
    Proof,
    Reason,
    Standing,
    Verdict,
)
from controlplane.domain.overview import GroupView, RoundView, group_views
from controlplane.store.vault import VaultError
from controlplane.web.errors import RequestError

PER_PAGE = 50
LONGEST_SEARCH = 200
FIRST_DAY = date(2000, 1, 1)
LAST_DAY = date(2099, 12, 31)
ROUND_ID = re.compile(r"[0-9A-Za-z._-]{1,64}")
DIGEST = re.compile(r"[0-9a-f]{64}")
CHUNK = 100
KINDS = ("controlplane", "server", "nas", "firewall", "switch", "ups", "service", "workstation", "printer")

T = TypeVar("T")


# ------------------------------------------------------------------------------------------ what is asked


def day_asked(text: str | None, today: date) -> date | None:
    """The day of ``?as_of=``; None where none was given. Raises ``RequestError`` with a sentence."""
    if not text:
        return None
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) is None:
        raise RequestError(400, "bad_date", text=text[:40])
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise RequestError(400, "bad_date", text=text) from None
    if not FIRST_DAY <= day <= today:
        raise RequestError(400, "day_out_of_range", text=text)
    return day


def law_asked(text: str | None) -> date | None:
    """The day of ``?law=``: whose frameworks are asked for. It may lie ahead. Raises ``RequestError``."""
    return day_asked(text, LAST_DAY)


def today_of(plane: Plane) -> date:
    """The hospital's day."""
    return plane.clock().astimezone(plane.settings.timezone).date()


@dataclass(frozen=True)
class Part(Generic[T]):
    """One page of a long list; pages are counted from 1."""

    items: Sequence[T]
    page: int
    pages: int
    total: int

    @classmethod
    def of(cls, items: Sequence[T], page: str | None, size: int = PER_PAGE) -> Part[T]:
        """The page that was asked for. Raises ``RequestError`` for one that is not there."""
        pages = max(1, -(-len(items) // size))
        number = int(page) if page and re.fullmatch(r"[1-9][0-9]{0,5}", page) else (0 if page else 1)
        if not 1 <= number <= pages:
            raise RequestError(400, "bad_page", page=str(page)[:20], pages=pages)
        return cls(items[(number - 1) * size : number * size], number, pages, len(items))


# ------------------------------------------------------------------------------------------------ criteria


@dataclass(frozen=True)
class CriterionRow:
    """A criterion with its place in the law and its word today."""

    framework: Framework
    group: Group
    criterion: Criterion
    score: CriterionScore


def standings(judgement: Judgement) -> Mapping[tuple[str, str], Mapping[str, int]]:
    """(framework, group) -> standing -> criteria, of what is in force; every standing is named, also with nothing."""
    asked = {(g.framework, g.group) for g in judgement.card.groups if g.reason.code != "group_out_of_force"}
    counts = {key: dict.fromkeys(map(str, Standing), 0) for key in sorted(asked)}
    for criterion in judgement.catalog.criteria.values():
        if (criterion.framework, criterion.group) in asked:
            counts[criterion.framework, criterion.group][str(criterion.standing)] += 1
    return counts


def sum_up(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts of the same words put together."""
    total: dict[str, int] = {}
    for part in counts:
        for word, count in part.items():
            total[word] = total.get(word, 0) + count
    return total


def proofs(groups: Iterable[GroupView]) -> Mapping[str, int]:
    """proof -> scored criteria that are met by it."""
    none = dict.fromkeys((str(Proof.MEASURED), str(Proof.MIXED), str(Proof.DECLARED)), 0)
    return sum_up([none, *(view.score.proofs for view in groups)])


def notes(judgement: Judgement) -> Mapping[tuple[str, str], str]:
    """(framework, group) -> what is missing of the official text, English."""
    return {(f.id, g.id): g.note for f in judgement.catalog.frameworks.values() for g in f.groups}


def share_items(judgement: Judgement) -> Mapping[tuple[str, str], Sequence[CriterionRow]]:
    """(framework, group) -> its scored items, for what the law gives no levels to."""
    shares = {(g.framework, g.group) for g in judgement.card.groups if g.reason.code == "share"}
    items: dict[tuple[str, str], list[CriterionRow]] = {key: [] for key in shares}
    for row in criterion_rows(judgement):
        key = (row.framework.id, row.group.id)
        if key in shares and row.criterion.scored:
            items[key].append(row)
    return items


def group_summary(plane: Plane, judgement: Judgement, framework: str, group: str) -> Sequence[GroupView]:
    """The ladders of the framework or the group that a list was narrowed to; none where it was not."""
    if not framework and not group:
        return ()
    views = group_views(judgement.catalog, judgement.card, plane.campaign)
    return [v for v in views if framework in ("", v.framework) and group in ("", v.group)]


def able(criterion: Criterion, catalog: Catalog) -> tuple[Sequence[str], Sequence[str]]:
    """(checks that prove it together, checks that only can show it not met)."""
    serving = [c for c in criterion.checks if criterion.id in catalog.checks[c].serves]
    return serving, [c for c in criterion.checks if c not in serving]


FILTERS = ("framework", "group", "verdict", "standing", "level", "q")


def criterion_rows(judgement: Judgement) -> list[CriterionRow]:
    """Every criterion of every framework, in the order of the law."""
    scores = {score.id: score for score in judgement.card.criteria}
    rows = []
    for framework in sorted(judgement.catalog.frameworks.values(), key=lambda f: f.id):
        groups = {group.id: group for group in framework.groups}
        for criterion in framework.criteria:
            out = CriterionScore(criterion.id, Verdict.NOT_APPLICABLE, Reason("framework_out_of_force"), {})
            rows.append(CriterionRow(framework, groups[criterion.group], criterion, scores.get(criterion.id, out)))
    return rows


def choices(rows: Iterable[CriterionRow]) -> dict[str, dict[str, Any]]:
    """What each filter may be set to, with what names it."""
    rows = list(rows)
    return {
        "framework": {row.framework.id: row.framework.title for row in rows},
        "group": {row.group.id: row.group.title for row in rows},
        "verdict": {str(verdict): verdict for verdict in Verdict},
        "standing": {str(standing): standing for standing in Standing},
        "level": {level: level for row in rows for level in row.group.levels},
    }


def filter_rows(rows: Sequence[CriterionRow], asked: Mapping[str, str]) -> list[CriterionRow]:
    """The rows that fit every filter. Raises ``RequestError`` naming a filter that is set to nothing there is."""
    allowed = choices(rows)
    for name, values in allowed.items():
        if asked.get(name) and asked[name] not in values:
            raise RequestError(400, "bad_filter", name=name, value=asked[name][:40])
    if len(asked.get("q", "")) > LONGEST_SEARCH:
        raise RequestError(400, "long_search", most=LONGEST_SEARCH)
    tests: dict[str, Callable[[CriterionRow, str], bool]] = {
        "framework": lambda row, value: row.framework.id == value,
        "group": lambda row, value: row.group.id == value,
        "verdict": lambda row, value: row.score.verdict == value,
        "standing": lambda row, value: row.criterion.standing == value,
        "level": lambda row, value: value in row.criterion.levels,
        "q": _speaks_of,
    }
    chosen = [(tests[name], asked[name]) for name in FILTERS if asked.get(name)]
    return [row for row in rows if all(test(row, value) for test, value in chosen)]


def _speaks_of(row: CriterionRow, text: str) -> bool:
    c = row.criterion
    hay = " ".join((c.id, c.title.vi, c.title.en, c.clause, c.section, *c.checks)).casefold()
    return all(word in hay for word in text.casefold().split())


# -------------------------------------------------------------------------------------------------- assets


@dataclass(frozen=True)
class LastLook:
    """How the newest look at an asset over one transport ended."""

    transport: str
    outcome: str
    at: datetime
    duration_ms: int
    collector: str
    detail: str


@dataclass(frozen=True)
class AssetRow:
    """An asset without the ways into it, how it was last looked at, and what is said of it."""

    name: str
    kind: str
    title_vi: str
    title_en: str
    department: str
    address: str | None
    transports: tuple[str, ...]
    roles: tuple[str, ...]
    looks: tuple[LastLook, ...]
    findings: Mapping[str, int]  # verdict -> how many checks


def asset_rows(plane: Plane, judgement: Judgement) -> list[AssetRow]:
    """Every asset of the inventory in force, by kind and name."""
    looks: dict[str, list[LastLook]] = {}
    for (asset, transport), look in sorted(plane.archive.last_looks().items()):
        found = LastLook(transport, look["outcome"], look["at"], look["duration_ms"], look["collector"], look["detail"])
        looks.setdefault(asset, []).append(found)
    counts: dict[str, dict[str, int]] = {}
    for finding in judgement.findings:
        mine = counts.setdefault(finding.asset, {})
        mine[str(finding.verdict)] = mine.get(str(finding.verdict), 0) + 1
    rows = [
        _asset_row(asset, looks.get(asset.name, []), counts.get(asset.name, {})) for asset in judgement.assets.values()
    ]
    return sorted(rows, key=lambda r: (KINDS.index(r.kind) if r.kind in KINDS else len(KINDS), r.name))


def _asset_row(asset: Asset, looks: Sequence[LastLook], findings: Mapping[str, int]) -> AssetRow:
    return AssetRow(
        asset.name,
        asset.kind,
        asset.title.vi,
        asset.title.en,
        asset.department,
        asset.address,
        asset.transports,
        asset.roles,
        tuple(looks),
        dict(sorted(findings.items())),
    )


@dataclass(frozen=True)
class AssetStory:
    """Everything known of one asset now."""

    asset: AssetRow
    observations: tuple[Observation, ...]  # the newest answer of each fact, or the failed look where there is none
    findings: tuple[Finding, ...]


def asset_story(plane: Plane, judgement: Judgement, name: str) -> AssetStory:
    """One asset with what was seen of it. Raises ``RequestError`` when the inventory does not hold it."""
    row = next((r for r in asset_rows(plane, judgement) if r.name == name), None)
    if row is None:
        raise RequestError(404, "no_asset", name=name[:80])
    state = plane.archive.state()
    seen = [(key, value) for key, value in sorted(state.items()) if key[0] == name]
    observations = tuple(o for _, s in seen for o in (s.answer or s.failure,) if o is not None)
    order = list(Verdict)
    findings = [f for f in judgement.findings if f.asset == name]
    worst = (Verdict.NOT_MET, Verdict.WAIVED, Verdict.STALE, Verdict.UNKNOWN)
    findings.sort(key=lambda f: (worst.index(f.verdict) if f.verdict in worst else 9, order.index(f.verdict), f.check))
    return AssetStory(row, observations, tuple(findings))


# -------------------------------------------------------------------------------------------------- rounds


@dataclass(frozen=True)
class RoundStory:
    """A kept round: its looks, the digests of what it sealed, and what moved since the round before."""

    round: RoundView
    looks: tuple[Mapping[str, Any], ...]
    sealed: Mapping[str, str]  # scorecard, findings, catalog, inventory -> SHA-256; empty for an interrupted round
    before: RoundView | None
    difference: Difference | None


def round_story(plane: Plane, round_id: str) -> RoundStory:
    """Raises ``RequestError`` for a round that is not there."""
    archive = plane.archive
    try:
        if not ROUND_ID.fullmatch(round_id):
            raise KeyError(round_id)
        view = archive.round(round_id)
    except KeyError:
        raise RequestError(404, "no_round", round=round_id[:80]) from None
    looks = tuple(archive.looks_of(round_id))
    if view.state != "done":
        return RoundStory(view, looks, {}, None, None)
    before = _round_before(plane, view)
    difference = None
    if before is not None:
        try:
            difference = plane.difference(before.id, view.id)
        except VaultError as error:
            raise RequestError(500, "damaged", why=str(error)) from None
    return RoundStory(view, looks, archive.sealed_names(round_id), before, difference)


def _round_before(plane: Plane, view: RoundView) -> RoundView | None:
    """The newest round that was done before this one."""
    for most in (CHUNK, CHUNK * 1000):
        rounds = plane.archive.rounds(most)
        earlier = [r for r in rounds if r.state == "done" and r.seq < view.seq]
        if earlier or len(rounds) < most:
            return max(earlier, key=lambda r: r.seq, default=None)
    return None


def done_round(plane: Plane, round_id: str) -> RoundView:
    """A round that was ended. Raises ``RequestError`` for one that is not there or was interrupted."""
    try:
        view = plane.archive.round(round_id) if ROUND_ID.fullmatch(round_id) else None
    except KeyError:
        view = None
    if view is None or view.state != "done":
        raise RequestError(404, "no_round", round=round_id[:80])
    return view


# ------------------------------------------------------------------------------------------------- the rest


def run_line_of(plane: Plane, run_id: str) -> dict[str, Any]:
    """One run without its dossier. Raises ``RequestError`` for a run that is not there."""
    line = plane.archive.run_line(run_id) if ROUND_ID.fullmatch(run_id) else None
    if line is None:
        raise RequestError(404, "no_run", run=run_id[:80])
    return line


def run_of(plane: Plane, run_id: str) -> dict[str, Any]:
    """One run with its dossier. Raises ``RequestError`` for a run that is not there."""
    try:
        run = plane.archive.run(run_id) if ROUND_ID.fullmatch(run_id) else None
    except VaultError as error:
        raise RequestError(500, "damaged", why=str(error)) from None
    if run is None:
        raise RequestError(404, "no_run", run=run_id[:80])
    return run


@dataclass(frozen=True)
class Dossier:
    """A kept dossier as far as it is understood; what another version wrote beside it is in ``rest``."""

    about: Mapping[str, Any]  # the run without its tasks
    recap: Mapping[str, Mapping[str, Any]]
    moved: Sequence[Mapping[str, Any]]  # tasks that changed something, would change it, or failed
    quiet: int
    rehearsed: Sequence[Mapping[str, Any]]  # the same of the preview before an apply
    difference: Mapping[str, Any] | None
    rounds: Sequence[str]
    error: Mapping[str, Any]
    events: str  # digest of everything until an error ended the run; empty where none did
    after_error: Mapping[str, Any]  # why nobody could look after an apply
    break_glass: Mapping[str, Any]
    shipped: Mapping[str, Any]  # file that the play brings to hosts -> SHA-256
    findings: Mapping[str, Any]  # before, after -> digest
    approval: Sequence[Mapping[str, Any]]  # what was asked and answered before an apply
    rest: Mapping[str, Any]


UNDERSTOOD = frozenset(
    "id mode play title run preview difference rounds error by pin inventory break_glass resumes approval"
    " carries_out state findings after_error applied_at steps events owed owed_before".split()
)
MOVES = frozenset({"catalog_changed", "levels", "criteria", "findings", "met_before", "met_after"})


def dossier_of(body: Any) -> Dossier:
    """A dossier from its kept body; it never fails, whatever the body is."""
    body = _mapping(body)
    done, difference = _mapping(body.get("run")), _mapping(body.get("difference"))
    moved = _moved(done)
    return Dossier(
        about=done,
        recap={host: tally for host, tally in _mapping(done.get("recap")).items() if isinstance(tally, Mapping)},
        moved=moved,
        quiet=len(_list(done.get("tasks"))) - len(moved),
        rehearsed=_moved(_mapping(body.get("preview"))),
        difference=difference if set(difference) >= MOVES else None,
        rounds=[id_ for id_ in _list(body.get("rounds")) if isinstance(id_, str)],
        error=_mapping(body.get("error")),
        events=str(body.get("events") or ""),
        after_error=_mapping(body.get("after_error")),
        break_glass=_mapping(body.get("break_glass")),
        shipped=_mapping(_mapping(body.get("pin")).get("shipped")),
        findings=_mapping(body.get("findings")),
        approval=[
            d for d in _list(body.get("approval")) if isinstance(d, Mapping) and {"state", "by", "role"} <= set(d)
        ],
        rest={key: value for key, value in body.items() if key not in UNDERSTOOD},
    )


def _moved(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Tasks with every key a page reads, without those that found things right."""
    empty = {"host": "", "task": "", "status": "", "message": "", "ignored": False, "tags": []}
    sides = {"name": "", "before": "", "after": ""}
    tasks: list[Mapping[str, Any]] = []
    for task in _list(run.get("tasks")):
        if isinstance(task, Mapping) and (task.get("status") not in ("ok", "skipped") or task.get("diff")):
            diff = [sides | dict(part) for part in _list(task.get("diff")) if isinstance(part, Mapping)]
            tasks.append({**empty, **task, "diff": diff})
    return tasks


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


BEGINNINGS = {b"%PDF-": "pdf", b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpg"}


def ending(data: bytes) -> str:
    """The ending of a file's name by its first bytes, for the kinds of documents that are let in; else ``txt``."""
    for beginning, name in BEGINNINGS.items():
        if data.startswith(beginning):
            return name
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if data.startswith(b"PK\x03\x04"):
        return "docx" if b"word/document.xml" in data else "xlsx" if b"xl/workbook.xml" in data else "zip"
    return "txt"


def raw_of(plane: Plane, sha256: str) -> bytes:
    """The bytes under a digest. Raises ``RequestError`` for no digest, or bytes that are not there or changed."""
    if DIGEST.fullmatch(sha256) is None:
        raise RequestError(400, "bad_digest", text=sha256[:80])
    if sha256 not in plane.archive.vault:
        raise RequestError(404, "no_raw", digest=sha256)
    try:
        return plane.archive.vault.get(sha256)
    except VaultError as error:
        raise RequestError(500, "damaged", why=str(error)) from None
