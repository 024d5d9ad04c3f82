"""The index: looks, observations, rounds and runs, written from bodies of the record and read back as nouns.

One way to write it, whether a round is being kept or the whole record is replayed; so a rebuilt index is identical.
It reads no vault and writes no link.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from controlplane.domain.chain import Link, canonical, stamp, unstamp
from controlplane.domain.declared import fact_of
from controlplane.domain.model import (
    SITE,
    CriterionScore,
    Finding,
    GroupScore,
    Observation,
    Outcome,
    OverallScore,
    Proof,
    Reason,
    Scorecard,
    Verdict,
)
from controlplane.domain.overview import RoundView
from controlplane.store.tables import declarations, links, looks, observations, rounds, runs

RECORD = "record"
"""The transport of what the control plane derives itself: the look of the asset ``site`` stands for all of it."""

# ---------------------------------------------------------------------- one way to write the index


def replay(connection: Connection, link: Link, body: Mapping[str, Any]) -> None:
    """One link of the record into the index; the kinds that leave no trace in it are passed over."""
    match link.kind:
        case "round_opened":
            write_opened(connection, body, link.seq)
        case "round":
            write_round(connection, body, link.seq)
        case "round_interrupted":
            write_interrupted(connection, rounds, body["id"], link)
        case "run_opened":
            write_run_opened(connection, body, link.seq)
        case "run":
            write_run_closed(connection, body, link.seq)
        case "run_approval":
            write_run_approval(connection, body)
        case "run_cancel":
            write_run_cancel(connection, body)
        case "run_interrupted":
            write_interrupted(connection, runs, body["id"], link)
        case "declaration":
            write_declaration(connection, body, link)
        case "attestation":  # the form before documents had dates of their own
            write_declaration(connection, _declaration_of(body), link)


def write_declaration(connection: Connection, body: Mapping[str, Any], link: Link) -> None:
    """A person's word: one row per criterion; it takes the place of the word before."""
    criteria = sorted(set(body["criteria"]))
    d = declarations.c
    connection.execute(declarations.update().where(d.criterion.in_(criteria), d.latest).values(latest=False))
    documents = body.get("documents") or [{}]
    row = {
        "seq": link.seq,
        "at": link.at,
        "latest": True,
        "raw_digest": documents[0].get("sha256"),
        "value": canonical({name: value for name, value in body.items() if name != "criteria"}).decode(),
    }
    connection.execute(declarations.insert(), [row | {"criterion": criterion} for criterion in criteria])


def _declaration_of(body: Mapping[str, Any]) -> dict[str, Any]:
    documents = []
    if body.get("document"):
        documents = [{"name": body["document_name"], "bytes": body["document_bytes"], "sha256": body["document"]}]
    kept = {"by": body["by"], "statement": body["statement"], "expires_on": body["until"], "at": body["at"]}
    return {"criteria": [body["criterion"]], "kind": "attestation", "documents": documents, **kept}


def write_opened(connection: Connection, body: Mapping[str, Any], seq: int) -> None:
    """A round that began."""
    connection.execute(
        rounds.insert().values(
            id=body["id"],
            opened_seq=seq,
            state="running",
            started_at=body["started_at"],
            only=json.dumps(body["only"]),
            looks="{}",
            summary="{}",
            catalog=body["catalog"],
            inventory=body["inventory"],
        )
    )


def write_round(connection: Connection, body: Mapping[str, Any], seq: int) -> None:
    """A round that was kept: its looks, the intervals it extended, the ones it began."""
    outcomes = _assets_by_outcome(body)
    connection.execute(
        rounds.update()
        .where(rounds.c.id == body["id"])
        .values(
            seq=seq,
            state="done",
            ended_at=body["ended_at"],
            looks=json.dumps(outcomes, sort_keys=True),
            summary=json.dumps(body["summary"], sort_keys=True),
            as_of=body["as_of"],
            findings=body["findings"],
            scorecard=body["scorecard"],
        )
    )
    if body["looks"]:
        connection.execute(looks.insert(), [look | {"round_id": body["id"]} for look in body["looks"]])
    for at, *ends in body["confirmed"]:
        for first, last in zip(ends[::2], ends[1::2], strict=True):
            connection.execute(observations.update().where(observations.c.id.between(first, last)).values(seen_at=at))
    _index_changed(connection, body["changed"])


def _assets_by_outcome(body: Mapping[str, Any]) -> dict[str, int]:
    """outcome -> assets. An asset that answered over any transport answered."""
    by_asset = dict.fromkeys(body["no_address"], str(Outcome.NO_ADDRESS))
    for look in body["looks"]:
        if look["transport"] == RECORD:
            continue
        if by_asset.get(look["asset"]) != Outcome.ANSWERED:
            by_asset[look["asset"]] = look["outcome"]
    return dict(Counter(by_asset.values()))


def _index_changed(connection: Connection, changed: Sequence[Mapping[str, Any]]) -> None:
    if not changed:
        return
    fields = ("id", "asset", "fact", "transport", "outcome", "unit", "asked", "collector", "detail")
    rows = [
        {name: o[name] for name in fields}
        | {
            "answered": o["outcome"] == Outcome.ANSWERED,
            "latest": True,
            "value": canonical(o["value"]).decode(),
            "raw_digest": o["raw"],
            "first_seen_at": o.get("first_at", o["at"]),
            "seen_at": o["at"],
        }
        for o in changed
    ]
    connection.execute(
        observations.update()
        .where(
            observations.c.asset == sa.bindparam("b_asset"),
            observations.c.fact == sa.bindparam("b_fact"),
            observations.c.answered == sa.bindparam("b_answered"),
            observations.c.latest,
        )
        .values(latest=False),
        [{"b_asset": r["asset"], "b_fact": r["fact"], "b_answered": r["answered"]} for r in rows],
    )
    connection.execute(observations.insert(), rows)


def write_interrupted(connection: Connection, table: sa.Table, id_: str, link: Link) -> None:
    """A round or a run whose process died."""
    connection.execute(
        table.update().where(table.c.id == id_).values(state="interrupted", seq=link.seq, ended_at=link.at)
    )


def write_run_opened(connection: Connection, body: Mapping[str, Any], seq: int) -> None:
    """A play that began."""
    connection.execute(
        runs.insert().values(
            id=body["id"],
            opened_seq=seq,
            play=body["play"],
            mode=body["mode"],
            state="running",
            started_at=body["started_at"],
            hosts=json.dumps(body["hosts"]),
            **{name: body.get(name) for name in ("by", "preview", "resumes")},  # a body of the first form has none
        )
    )


def write_run_closed(connection: Connection, body: Mapping[str, Any], seq: int) -> None:
    """A play that was kept."""
    values = {"seq": seq, **{name: body[name] for name in ("state", "ended_at", "dossier")}}
    values |= {name: body.get(name) for name in ("envelope", "applied_at")}
    connection.execute(runs.update().where(runs.c.id == body["id"]).values(**values))


def write_run_approval(connection: Connection, body: Mapping[str, Any]) -> None:
    """A preview whose apply was asked for, approved or refused."""
    connection.execute(runs.update().where(runs.c.id == body["run"]).values(approval=body["state"]))


def write_run_cancel(connection: Connection, body: Mapping[str, Any]) -> None:
    """Somebody wants a run to stop."""
    connection.execute(runs.update().where(runs.c.id == body["run"]).values(cancelled_by=body["by"]))


# ----------------------------------------------------------------------------------------- rows to nouns


def standing(connection: Connection) -> list[Observation]:
    """The newest observation of every asset, fact and lane."""
    return [observation_from(row) for row in connection.execute(sa.select(observations).where(observations.c.latest))]


def standing_at(connection: Connection, at: datetime) -> list[Observation]:
    """The observations that stood at a past time, seen no later than the last look before it."""
    moment = stamp(at)
    o = observations
    newest = (
        sa.select(o.c.asset, o.c.fact, o.c.answered, sa.func.max(o.c.id).label("id"))
        .where(o.c.first_seen_at <= moment)
        .group_by(o.c.asset, o.c.fact, o.c.answered)
        .subquery()
    )
    times = _look_times(connection, moment)
    found = {}
    for row in connection.execute(sa.select(o).join(newest, o.c.id == newest.c.id)):
        observation = observation_from(row)
        if row.seen_at > moment:  # a later look confirmed it; on that day only the looks up to then had been made
            before = times.get((row.asset, row.transport), ()) or times.get(("", row.transport), ())
            seen = max([row.first_seen_at, *before[-1:]])
            observation = replace(observation, seen_at=unstamp(seen))
        found[row.asset, row.fact, row.answered] = (observation, row)
    return [_as_old_as_its_inputs(kept, row, moment, found) for kept, row in found.values()]


def _look_times(connection: Connection, moment: str) -> dict[tuple[str, str], list[str]]:
    """(asset, transport) -> when it was looked at, up to a moment, in order.

    The record is looked into once a round for every asset of that round: ``("", record)`` for an asset that no
    narrow round named.
    """
    query = (
        sa.select(looks.c.asset, looks.c.transport, looks.c.at, rounds.c.only)
        .join(rounds, rounds.c.id == looks.c.round_id)
        .where(looks.c.at <= moment)
        .order_by(looks.c.at)
    )
    times: dict[tuple[str, str], list[str]] = {}
    derived: list[tuple[str, list[str]]] = []
    for row in connection.execute(query):
        if row.transport == RECORD:
            derived.append((row.at, json.loads(row.only)))
        else:
            times.setdefault((row.asset, row.transport), []).append(row.at)
    named = {name for _, only in derived for name in only}
    for name in named | {""}:
        times[name, RECORD] = [at for at, only in derived if not only or name in only]
    times[SITE, RECORD] = [at for at, _ in derived]
    return times


def _as_old_as_its_inputs(
    kept: Observation, row: Any, moment: str, found: Mapping[tuple[str, str, bool], tuple[Observation, Any]]
) -> Observation:
    """A derived answer of one asset with the age it had at that moment: that of the oldest answer it rests on."""
    if row.transport != RECORD or not row.answered or row.seen_at <= moment:
        return kept
    asked = [(row.asset, word, True) for word in row.asked.split()]
    ages = [found[key][0].seen_at for key in asked if key in found]
    return replace(kept, seen_at=min(ages)) if ages else kept


def words(connection: Connection, at: datetime | None = None) -> list[Observation]:
    """The newest word about every criterion, or the newest that had been given by ``at``."""
    d = declarations
    if at is None:
        rows = connection.execute(sa.select(d).where(d.c.latest))
    else:
        newest = (
            sa.select(d.c.criterion, sa.func.max(d.c.seq).label("seq"))
            .where(d.c.at <= stamp(at))
            .group_by(d.c.criterion)
            .subquery()
        )
        same = sa.and_(d.c.seq == newest.c.seq, d.c.criterion == newest.c.criterion)
        rows = connection.execute(sa.select(d).join(newest, same))
    return [_word_from(row) for row in rows]


def words_about(connection: Connection, criterion: str, at: datetime | None = None) -> list[Observation]:
    """Every word about one criterion, the newest first."""
    d = declarations.c
    query = sa.select(declarations).where(d.criterion == criterion).order_by(d.seq.desc())
    if at is not None:
        query = query.where(d.at <= stamp(at))
    return [_word_from(row) for row in connection.execute(query)]


def words_by_number(connection: Connection, numbers: Sequence[int]) -> list[Observation]:
    """Words by their (negative) numbers. One word about several criteria comes back once."""
    query = sa.select(declarations).where(declarations.c.seq.in_([-number for number in numbers]))
    return [_word_from(row) for row in connection.execute(query)]


def _word_from(row: Any) -> Observation:
    """A word as an observation of the hospital itself; its number is that of its link, negative."""
    value = json.loads(row.value)
    return Observation(
        asset=SITE,
        fact=fact_of(row.criterion),
        outcome=Outcome.ANSWERED,
        value=value,
        unit="-",
        raw_digest=row.raw_digest,
        asked=value["statement"],
        collector="person/1",
        first_seen_at=unstamp(row.at),
        seen_at=unstamp(row.at),
        id=-row.seq,
    )


def observation_from(row: Any) -> Observation:
    """An observation from its row."""
    return Observation(
        asset=row.asset,
        fact=row.fact,
        outcome=Outcome(row.outcome),
        value=json.loads(row.value),
        unit=row.unit,
        raw_digest=row.raw_digest,
        asked=row.asked,
        collector=row.collector,
        first_seen_at=unstamp(row.first_seen_at),
        seen_at=unstamp(row.seen_at),
        id=row.id,
        detail=row.detail,
    )


ROUNDS = sa.select(rounds, links.c.seal).outerjoin(
    links, links.c.seq == sa.func.coalesce(rounds.c.seq, rounds.c.opened_seq)
)
"""Rounds, each with the seal of its newest link."""


def round_view(row: Any) -> RoundView:
    """A round from its row of ``ROUNDS``."""
    return RoundView(
        row.id,
        row.seq or row.opened_seq,
        unstamp(row.started_at),
        unstamp(row.ended_at) if row.ended_at else None,
        row.state,
        tuple(json.loads(row.only)),
        json.loads(row.looks),
        row.seal or "",
    )


def run_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A run from its row."""
    return dict(row) | {
        "hosts": json.loads(row["hosts"]),
        "started_at": unstamp(row["started_at"]),
        "ended_at": unstamp(row["ended_at"]) if row["ended_at"] else None,
        "applied_at": unstamp(row["applied_at"]) if row["applied_at"] else None,
    }


def scorecard_from(body: Mapping[str, Any]) -> Scorecard:
    """A scorecard from its canonical form; one of an earlier form lacks the newer figures."""
    return Scorecard(
        date.fromisoformat(body["as_of"]),
        body["catalog_digest"],
        tuple(GroupScore(**_pairs(g)) for g in body["groups"]),
        tuple(
            CriterionScore(**c | {"verdict": Verdict(c["verdict"]), "reason": Reason(**c["reason"])} | _proof(c))
            for c in body["criteria"]
        ),
        tuple(OverallScore(**_pairs(o)) for o in body.get("overall", ())),
    )


def _pairs(score: Mapping[str, Any]) -> dict[str, Any]:
    preview = score.get("preview")
    return {**score, "reason": Reason(**score["reason"]), "preview": tuple(preview) if preview else None}


def _proof(score: Mapping[str, Any]) -> dict[str, Any]:
    return {"proof": Proof(score.get("proof", Proof.NONE))}


def findings_from(body: Iterable[dict[str, Any]]) -> tuple[Finding, ...]:
    """Findings from their canonical form."""
    fields = ("check", "asset", "observation", "raw_digest")
    return tuple(
        Finding(verdict=Verdict(f["verdict"]), reason=Reason(**f["reason"]), **{name: f[name] for name in fields})
        for f in body
    )
