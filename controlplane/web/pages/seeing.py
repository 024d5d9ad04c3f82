"""Pages that show what stands: overview, criteria, assets, rounds, raw bytes."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from fastapi import Response

from controlplane.domain.declared import accepts
from controlplane.domain.explain import gathered
from controlplane.domain.model import Catalog, Declared
from controlplane.web import figures, queries
from controlplane.web.errors import RequestError
from controlplane.web.pages.face import Dated, Plain, show

WORDS_THAT_PROVE = (Declared.DOCUMENT, Declared.ATTESTATION, Declared.OTHER_VALUE, Declared.NOT_APPLICABLE)
SHOWN_BYTES = 256 * 1024  # of a raw reply on its page; the whole of it is the download


def overview(face: Dated) -> Response:
    """The director's screen."""
    screen = face.plane.overview(face.as_of, law=face.law)
    judgement = face.plane.judgement(face.as_of, face.law)
    standings = queries.standings(judgement)
    aimed = [view for view in screen.groups if view.target]
    return show(
        face,
        "overview.html",
        screen=screen,
        judgement=judgement,
        aimed=aimed,
        shares=[view for view in screen.groups if figures.is_share(view)],
        others=[view for view in screen.groups if not view.target and not figures.is_share(view)],
        overall=judgement.card.overall,
        standings=standings,
        standing=queries.sum_up(standings.values()),
        proofs=queries.proofs(screen.groups),
        judged=sum(view.score.judged for view in screen.groups),
        contradicted=sum(view.score.contradicted for view in screen.groups),
        notes=queries.notes(judgement),
        annexes={f.id: f for f in judgement.catalog.frameworks.values() if f.annex},
        bar=figures.bar,
        share_items=queries.share_items(judgement),
        reached=sum(1 for view in aimed if view.gap == 0),
        open_=sum(1 for view in aimed if view.gap is None),
        coming=[m for m in screen.milestones if m.days_left >= 0],
        passed=[m for m in screen.milestones if m.days_left < 0],
        segments=figures.bar(screen.counts),
        trend=figures.trend(screen.trend),
        ladder=figures.ladder,
        today=queries.today_of(face.plane),
    )


def criteria(face: Dated) -> Response:
    """Every criterion, with filters."""
    query = face.request.query_params
    judgement = face.plane.judgement(face.as_of, face.law)
    rows = queries.criterion_rows(judgement)
    asked = {name: query.get(name, "").strip() for name in queries.FILTERS}
    found = queries.filter_rows(rows, asked)
    part = queries.Part.of(found, query.get("page"))
    counts = Counter(str(row.score.verdict) for row in found)
    return show(
        face,
        "criteria.html",
        part=part,
        asked=asked,
        choices=queries.choices(rows),
        segments=figures.bar(counts),
        standing=Counter(str(row.criterion.standing) for row in found),
        summary=queries.group_summary(face.plane, judgement, asked["framework"], asked["group"]),
        standings=queries.standings(judgement),
        notes=queries.notes(judgement),
        share_items={},
        ladder=figures.ladder,
        is_share=figures.is_share,
        bar=figures.bar,
        day=face.as_of or face.plane.today,
        judgement=judgement,
    )


def criterion(face: Dated, criterion: str) -> Response:
    """One criterion down to the bytes."""
    try:
        story = face.plane.explain(criterion, face.as_of, face.law)
    except KeyError:
        raise RequestError(404, "no_criterion", criterion=criterion[:80]) from None
    group = next(g for g in story.framework.groups if g.id == story.criterion.group)
    judgement = face.plane.judgement(face.as_of, face.law)
    kinds = [kind for kind in WORDS_THAT_PROVE if accepts(story.criterion, kind) is None]
    return show(
        face,
        "criterion.html",
        story=story,
        group=group,
        judgement=judgement,
        gathered=gathered,
        kinds=kinds,
        ending=None if face.as_of or face.law else face.plane.ageing().criteria.get(criterion),
        able=queries.able(story.criterion, judgement.catalog),
        drifted=[] if face.as_of or face.law else face.plane.drift_by_criterion().get(criterion, []),
    )


def assets(face: Plain) -> Response:
    """Every asset with its last look."""
    query = face.request.query_params
    rows = queries.asset_rows(face.plane, face.plane.judgement())
    kinds = list(dict.fromkeys(row.kind for row in rows))
    kind = query.get("kind", "")
    if kind and kind not in kinds:
        raise RequestError(400, "bad_filter", name="kind", value=kind[:40])
    chosen = [row for row in rows if kind in ("", row.kind)]
    part = queries.Part.of(chosen, query.get("page"), 100)
    everything = Counter(row.kind for row in rows)
    addressed = sum(1 for row in rows if row.address)
    return show(
        face, "assets.html", part=part, kinds=kinds, kind=kind, counts=everything, all=len(rows), addressed=addressed
    )


def asset(face: Plain, name: str) -> Response:
    """One asset: what was seen, what is said of it, how one figure moved."""
    judgement = face.plane.judgement()
    story = queries.asset_story(face.plane, judgement, name)
    fact = face.request.query_params.get("fact", "")
    history = face.plane.archive.history(name, fact) if fact and len(fact) <= 96 else []
    if fact and not history:
        raise RequestError(404, "no_history", fact=fact[:80], name=name[:80])
    return show(face, "asset.html", story=story, fact=fact, history=history, checks=judgement.catalog.checks)


def rounds(face: Plain) -> Response:
    """Rounds, the newest first."""
    part = queries.Part.of(face.plane.archive.rounds(1000), face.request.query_params.get("page"))
    return show(face, "rounds.html", part=part)


def round_(face: Plain, round_id: str) -> Response:
    """One round and what moved since the one before."""
    story = queries.round_story(face.plane, round_id)
    judgement = face.plane.judgement()
    return show(face, "round.html", story=story, **names(judgement.catalog))


def names(catalog: Catalog) -> dict[str, Any]:
    """What a list of moves needs to name criteria, checks and levels."""
    frameworks = catalog.frameworks.values()
    return {
        "titles": {c.id: c.title for f in frameworks for c in f.criteria},
        "ladders": {(f.id, g.id): g for f in frameworks for g in f.groups},
        "checks": catalog.checks,
    }


def raw(face: Plain, sha256: str) -> Response:
    """The bytes of a digest, readable, with who rests on them."""
    data = queries.raw_of(face.plane, sha256)
    named = [
        o for s in face.plane.archive.state().values() for o in (s.answer, s.failure) if o and o.raw_digest == sha256
    ]
    text = data[:SHOWN_BYTES].decode("utf-8", "replace")
    readable = "\x00" not in text and queries.ending(data) == "txt"
    if readable and text[:1] in ("{", "[") and len(data) <= SHOWN_BYTES:
        text = _indented(text)
    return show(
        face, "raw.html", sha256=sha256, size=len(data), text=text if readable else "", cut=SHOWN_BYTES, named=named
    )


def _indented(text: str) -> str:
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except ValueError:
        return text
