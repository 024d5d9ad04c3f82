"""The record: an append-only chain of links over the vault, and the index that is rebuilt from it.

Order of every write: first the bytes, then the link. A kill at any instant leaves at worst bytes that no link names.
It never judges, and it changes nothing that was kept.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from controlplane.domain.chain import Break, Link, canonical, first_break, make_link, stamp, unstamp
from controlplane.domain.judge import Seen
from controlplane.domain.model import (
    SITE,
    Finding,
    Look,
    Observation,
    Outcome,
    Scorecard,
)
from controlplane.domain.overview import RoundView
from controlplane.store import index
from controlplane.store.tables import declarations, links, looks, observations, rounds, runs
from controlplane.store.vault import Vault, VaultError


class BusyError(RuntimeError):
    """Another process holds the lock that this work needs."""


class ArchiveError(RuntimeError):
    """The record cannot be read: damaged, or written by a newer version."""


@dataclass(frozen=True)
class Ticket:
    """A round that was opened and is not closed yet."""

    id: str
    started_at: datetime
    only: tuple[str, ...]
    catalog: str
    inventory: str
    opened_seq: int


@dataclass
class Staged:
    """What a round has seen, with its numbers given out, before anything but bytes was written."""

    looks: list[Look] = field(default_factory=list)
    changed: list[Observation] = field(default_factory=list)
    confirmed: dict[int, datetime] = field(default_factory=dict)  # observation id -> seen again at
    transports: dict[str, str] = field(default_factory=dict)  # fact -> transport it came by
    state: dict[tuple[str, str], Seen] = field(default_factory=dict)
    next_number: int = 1


def open_engine(url: str) -> Engine:
    """An engine with SQLite in WAL mode and foreign keys, or any other database SQLAlchemy knows."""
    # SQLite opens in a fraction of a millisecond; a connection that nobody holds is closed, in every thread.
    lite = url.startswith("sqlite")
    engine = sa.create_engine(url, poolclass=sa.NullPool if lite else None)
    if lite:

        @sa.event.listens_for(engine, "connect")
        def _pragmas(connection: Any, _record: Any) -> None:
            for line in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=15000"):
                connection.execute(f"PRAGMA {line}")

    return engine


NEWEST = "0003"
"""The newest migration; a test holds it to alembic's own head."""


def migrate(engine: Engine) -> None:
    """Bring the tables to the newest form. Raises ``ArchiveError`` for a store written by a newer version."""
    try:
        if _revision(engine) != NEWEST:
            _upgrade(engine)
    except Exception as error:  # alembic raises its own, SQLAlchemy's and sqlite's errors
        raise ArchiveError(f"the store cannot be opened: {str(error).splitlines()[0]}") from error


def _revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(engine: Engine) -> None:
    from alembic import command  # noqa: PLC0415  # slow to import, and needed on the first start only
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


class Archive:
    """The one way into the record. Safe for several processes: SQLite serialises, the lock file orders rounds."""

    def __init__(self, engine: Engine, vault: Vault, lock_folder: Path) -> None:
        self.engine = engine
        self.vault = vault
        self.lock_folder = lock_folder
        lock_folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    # ---------------------------------------------------------------------------------------- the chain

    def append(self, kind: str, body: Any, at: datetime) -> Link:
        """Keep a body and link it. The body is in the vault before the link is written."""
        name = self.vault.put(canonical(body))
        with self._writing() as connection:
            return self._link(connection, kind, name, at)

    def chain(self, kind: str | None = None) -> Iterator[Link]:
        """Every link from the first, or those of one kind."""
        query = sa.select(links).order_by(links.c.seq)
        with self.engine.connect() as connection:
            for row in connection.execute(query if kind is None else query.where(links.c.kind == kind)):
                yield Link(**row._mapping)

    def backwards(self, kind: str, since: str = "") -> Iterator[dict[str, Any]]:
        """Bodies of a kind kept since a moment (as a link writes it), the newest first, each as it is asked for.

        Each has its ``link`` and ``seal``. Whoever has found what it looked for stops, and the bodies of years are not
        read.
        """
        query = sa.select(links).where(links.c.kind == kind, links.c.at >= since).order_by(links.c.seq.desc())
        with self.engine.connect() as connection:
            for row in connection.execute(query):
                yield self._with_link(Link(**row._mapping))

    def recent(self, kind: str, most: int) -> list[dict[str, Any]]:
        """The newest ``most`` of :meth:`backwards`."""
        return list(islice(self.backwards(kind), most))

    def kept_at(self, kind: str, number: int) -> dict[str, Any] | None:
        """The body of this kind that the link of this number keeps, or None."""
        query = sa.select(links).where(links.c.kind == kind, links.c.seq == number)
        with self.engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else self._with_link(Link(**row._mapping))

    def _with_link(self, link: Link) -> dict[str, Any]:
        return dict(self.body(link)) | {"link": link.seq, "seal": link.seal}

    def head(self) -> Link | None:
        """The newest link; its seal is what a report prints."""
        with self.engine.connect() as connection:
            return _head(connection)

    def newest(self, kind: str) -> int:
        """The number of the newest link of a kind; 0 when there is none."""
        query = sa.select(sa.func.max(links.c.seq)).where(links.c.kind == kind)
        with self.engine.connect() as connection:
            return int(connection.execute(query).scalar() or 0)

    def body(self, link: Link) -> Any:
        """A link's body. Raises ``VaultError`` when its bytes are gone or changed."""
        return json.loads(self.vault.get(link.digest))

    def first_break(self, *, bodies: bool = False) -> Break | None:
        """The first place where the chain, or with ``bodies`` a body in the vault, does not hold."""
        broken = first_break(self.chain())
        if broken is None and bodies:
            for link in self.chain():
                try:
                    self.vault.get(link.digest)
                except VaultError:
                    return Break(link.seq, "body")
        return broken

    def _link(self, connection: Connection, kind: str, name: str, at: datetime) -> Link:
        # The unique ``prev`` is the second guard: a writer that does not hold the lock fails, and nothing is half-kept.
        before = _head(connection)
        moment = stamp(at)
        if before is not None and moment < before.at:
            moment = before.at  # a clock set back must not break the chain; the body keeps its own times
        link = make_link(before, moment, kind, name)
        connection.execute(links.insert().values(**link.__dict__))
        return link

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """One transaction that may add a link; writers wait for each other, over threads and processes."""
        with self.lock("chain", wait=True), self.engine.begin() as connection:
            yield connection

    # ------------------------------------------------------------------------------------------- locks

    @contextmanager
    def lock(self, name: str, wait: bool = False) -> Iterator[None]:
        """One holder at a time, over processes; the kernel frees it when the holder dies. Raises ``BusyError``."""
        handle = os.open(self.lock_folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise BusyError(name) from None
            yield
        finally:
            os.close(handle)

    # ------------------------------------------------------------------------------------------- words

    def declare(self, body: Mapping[str, Any], at: datetime) -> Link:
        """Keep a person's word about one or several criteria (``body["criteria"]``); its documents lie in the vault."""
        body = {**body, "at": stamp(at)}
        name = self.vault.put(canonical(body))
        with self._writing() as connection:
            link = self._link(connection, "declaration", name, at)
            index.write_declaration(connection, json.loads(canonical(body)), link)
        return link

    def words_about(self, criterion: str, at: datetime | None = None) -> list[Observation]:
        """Everything people said about a criterion, the newest first; with ``at`` what had been said by then."""
        with self.engine.connect() as connection:
            return index.words_about(connection, criterion, at)

    # ------------------------------------------------------------------------------------------ rounds

    def open_round(self, id_: str, at: datetime, only: Sequence[str], catalog: str, inventory: str) -> Ticket:
        """Say in the chain that a round begins, so that a kill in the middle of it is seen."""
        body = {"id": id_, "started_at": at, "only": list(only), "catalog": catalog, "inventory": inventory}
        name = self.vault.put(canonical(body))
        with self._writing() as connection:
            link = self._link(connection, "round_opened", name, at)
            index.write_opened(connection, body | {"started_at": stamp(at)}, link.seq)
        return Ticket(id_, at, tuple(only), catalog, inventory, link.seq)

    def stage(self, seen: Iterable[tuple[Look, Sequence[Observation]]], onto: Staged | None = None) -> Staged:
        """Set looks against what stands as they come, and put the bytes of every new answer into the vault.

        ``onto`` goes on with what was staged before; its ``state`` moves with every look, so that what is derived
        may be handed in lazily. An answer that is the same as before keeps the bytes it was first read from.
        """
        staged = onto if onto is not None else Staged(state=self.state(), next_number=self._next_number())
        for look, observed in seen:
            staged.looks.append(look)
            raw = {reply.fact: reply.raw for reply in look.replies}
            for observation in observed:
                begins = _stage_one(staged, observation)
                if begins and observation.raw_digest is not None:
                    self.vault.put(raw[observation.fact])
                staged.transports[observation.fact] = look.transport
        return staged

    def close_round(
        self, ticket: Ticket, staged: Staged, findings: Sequence[Finding], card: Scorecard, at: datetime
    ) -> RoundView:
        """Keep a round: bodies to the vault, then one transaction with the link and the index."""
        body = {
            "id": ticket.id,
            "started_at": ticket.started_at,
            "ended_at": at,
            "only": list(ticket.only),
            "catalog": ticket.catalog,
            "inventory": ticket.inventory,
            "looks": [_look_body(look) for look in staged.looks if _is_told(look)],
            "no_address": sorted({look.asset for look in staged.looks if look.outcome is Outcome.NO_ADDRESS}),
            "changed": [_observation_body(o, staged.transports[o.fact]) for o in staged.changed],
            "confirmed": _confirmed_body(staged.confirmed),
            "findings": self.vault.put(canonical(list(findings))),
            "scorecard": self.vault.put(canonical(card)),
            "as_of": card.as_of,
            "summary": sum((Counter(group.counts) for group in card.groups), Counter()),
        }
        plain = json.loads(canonical(body))
        name = self.vault.put(canonical(body))
        with self._writing() as connection:
            link = self._link(connection, "round", name, at)
            index.write_round(connection, plain, link.seq)
        return self.round(ticket.id)

    def close_abandoned(self, at: datetime, clear: Callable[[str], bytes] = lambda _id: b"") -> list[str]:
        """Mark rounds and runs whose process died as interrupted; return their ids. Call it when opening the store.

        ``clear`` ends what a dead run left behind on this machine and returns its events as far as they came.
        """
        ended = []
        try:
            with self.lock("round"):
                for id_ in self._open_ids(rounds):
                    self._interrupt(rounds, "round_interrupted", {"id": id_, "found_at": at}, at)
                    ended.append(id_)
        except BusyError:
            pass  # somebody is at work: what is open is his
        return ended + [id_ for id_ in self._open_ids(runs) if self._abandoned_run(id_, at, clear)]

    def _abandoned_run(self, id_: str, at: datetime, clear: Callable[[str], bytes]) -> bool:
        """Whether a run's process is dead; then it is marked so. A run that lives holds its own lock."""
        try:
            with self.run_lock(id_):
                if id_ not in self._open_ids(runs):
                    return False  # it was kept, or found dead by somebody else, a moment ago
                events = clear(id_)
                body = {"id": id_, "found_at": at} | ({"events": self.vault.put(events)} if events else {})
                self._interrupt(runs, "run_interrupted", body, at)
                return True
        except BusyError:
            return False

    def _open_ids(self, table: sa.Table) -> list[str]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.select(table.c.id).where(table.c.state == "running")).scalars())

    def _interrupt(self, table: sa.Table, kind: str, body: Mapping[str, Any], at: datetime) -> None:
        name = self.vault.put(canonical(body))
        with self._writing() as connection:
            link = self._link(connection, kind, name, at)
            index.write_interrupted(connection, table, body["id"], link)

    # -------------------------------------------------------------------------------------------- runs

    @contextmanager
    def run_lock(self, id_: str) -> Iterator[None]:
        """Held by the process that carries a run out, as long as it does; its file goes with it.

        Who finds the file just before it goes holds a lock that says nothing: look at the run's state under it.
        """
        with self.lock(f"run-{id_}"):
            try:
                yield
            finally:
                (self.lock_folder / f"run-{id_}.lock").unlink(missing_ok=True)

    @contextmanager
    def host_locks(self, hosts: Iterable[str]) -> Iterator[None]:
        """No other run on any of these hosts, on any process. Raises ``BusyError`` naming the first taken one."""
        with ExitStack() as held:
            for host in sorted(hosts):
                try:
                    held.enter_context(self.lock(f"host-{quote(host, safe='')}"))
                except BusyError:
                    raise BusyError(f"host {host}") from None
            yield

    def open_run(self, id_: str, at: datetime, play: str, mode: str, hosts: Sequence[str], **more: Any) -> None:
        """Say in the chain that a play begins: by whom, pinned to what, and what it carries out or resumes."""
        about = {"id": id_, "started_at": stamp(at), "play": play, "mode": mode, "hosts": list(hosts)}
        body = json.loads(canonical(about | more))
        name = self.vault.put(canonical(body))
        with self._writing() as connection:
            link = self._link(connection, "run_opened", name, at)
            index.write_run_opened(connection, body, link.seq)

    def close_run(
        self,
        id_: str,
        at: datetime,
        state: str,
        dossier: Any,
        *,
        applied_at: str | None = None,
        sign: Callable[[str], bytes] | None = None,
    ) -> Link:
        """Keep a run's dossier (preview, events, findings before and after), its signature beside it, and link both.

        ``sign`` makes the envelope over the dossier's digest; ``applied_at`` is when the play ended on the hosts.
        """
        body = {"id": id_, "ended_at": stamp(at), "state": state, "dossier": self.vault.put(canonical(dossier))}
        if applied_at is not None:
            body["applied_at"] = applied_at
        if sign is not None:
            body["envelope"] = self.vault.put(sign(body["dossier"]))
        name = self.vault.put(canonical(body))
        with self._writing() as connection:
            link = self._link(connection, "run", name, at)
            index.write_run_closed(connection, body, link.seq)
        return link

    def decide_run(self, id_: str, at: datetime, state: str, by: str, **more: Any) -> Link:
        """Keep that somebody asked for a run's apply (requested), approved or refused it."""
        body = json.loads(canonical({"run": id_, "at": at, "state": state, "by": by} | more))
        name = self.vault.put(canonical(body))
        with self._writing() as connection:
            link = self._link(connection, "run_approval", name, at)
            index.write_run_approval(connection, body)
        return link

    def decisions(self, id_: str) -> list[dict[str, Any]]:
        """What was asked and answered about a run's apply, in order, each with the seal of its link."""
        found = [(self.body(link), link.seal) for link in self.chain("run_approval")]
        return [{**body, "seal": seal} for body, seal in found if body["run"] == id_]

    def ask_to_cancel(self, id_: str, at: datetime, by: str) -> Link:
        """Keep that somebody wants a run to stop; the process that carries it out sees it within a second."""
        body = {"run": id_, "at": stamp(at), "by": by}
        name = self.vault.put(canonical(body))
        with self._writing() as connection:
            link = self._link(connection, "run_cancel", name, at)
            index.write_run_cancel(connection, body)
        return link

    def resumed_by(self, id_: str) -> str | None:
        """The run that went on with the hosts of this one, or None."""
        with self.engine.connect() as connection:
            return connection.execute(sa.select(runs.c.id).where(runs.c.resumes == id_).limit(1)).scalar()

    def run_line(self, id_: str) -> dict[str, Any] | None:
        """One run without its dossier, or None."""
        with self.engine.connect() as connection:
            row = connection.execute(sa.select(runs).where(runs.c.id == id_)).one_or_none()
        return index.run_row(row._mapping) if row is not None else None

    def runs(self, most: int | None = 100, **only: str) -> list[dict[str, Any]]:
        """Kept and interrupted runs, the newest first; ``only`` those with these words (``mode``, ``preview`` ...).

        What is asked of all runs is asked with ``only`` and without ``most``: every night adds a run for each play.
        """
        return self._runs(most, *(runs.c[name] == word for name, word in only.items()))

    def newest_runs(self) -> list[dict[str, Any]]:
        """Of every play in every mode the newest run that has ended, and the newest that has not; the newest first."""
        groups = (runs.c.play, runs.c.mode, runs.c.state == "running")
        newest = sa.select(sa.func.max(runs.c.opened_seq)).group_by(*groups)
        return self._runs(None, runs.c.opened_seq.in_(newest))

    def unused_approvals(self, play: str) -> list[dict[str, Any]]:
        """Approved previews of a play that no run has carried out, the newest first."""
        used = sa.select(runs.c.preview).where(runs.c.preview.is_not(None))
        return self._runs(None, runs.c.play == play, runs.c.approval == "approved", runs.c.id.not_in(used))

    def _runs(self, most: int | None, *wanted: Any) -> list[dict[str, Any]]:
        query = sa.select(runs).where(*wanted).order_by(runs.c.started_at.desc(), runs.c.opened_seq.desc())
        with self.engine.connect() as connection:
            return [index.run_row(row._mapping) for row in connection.execute(query.limit(most))]

    def run(self, id_: str) -> dict[str, Any] | None:
        """One run with its dossier opened (``body``) and what was said when it began (``opened``), or None."""
        found = self.run_line(id_)
        if found is None:
            return None
        found["body"] = json.loads(self.vault.get(found["dossier"])) if found["dossier"] else None
        with self.engine.connect() as connection:
            name = connection.execute(sa.select(links.c.digest).where(links.c.seq == found["opened_seq"])).scalar_one()
        found["opened"] = json.loads(self.vault.get(name))
        return found

    # ----------------------------------------------------------------------------------------- reading

    def state(self, at: datetime | None = None) -> dict[tuple[str, str], Seen]:
        """What stands: per asset and fact the newest answer, and a newer failed look if there is one.

        With ``at`` it is what stood then: intervals begun by that time, confirmed by the last look of that time.
        """
        with self.engine.connect() as connection:
            found = index.standing(connection) if at is None else index.standing_at(connection, at)
            found += index.words(connection, at)
        state: dict[tuple[str, str], Seen] = {}
        for observation in found:
            key = (observation.asset, observation.fact)
            seen = state.get(key, Seen())
            answered = observation.outcome is Outcome.ANSWERED
            state[key] = replace(seen, answer=observation) if answered else replace(seen, failure=observation)
        for key, seen in state.items():
            # An answer after a failed look begins a new interval, and so does a failed look after an answer.
            if seen.answer and seen.failure and seen.failure.id < seen.answer.id:
                state[key] = Seen(seen.answer)
        return state

    def observations(self, ids: Iterable[int]) -> dict[int, Observation]:
        """Observations by number; a number that is not there is left out. A negative one is a person's word."""
        wanted = sorted(set(ids))
        found: dict[int, Observation] = {}
        with self.engine.connect() as connection:
            for start in range(0, len(wanted), 500):
                part = wanted[start : start + 500]
                query = sa.select(observations).where(observations.c.id.in_(part))
                found |= {row.id: index.observation_from(row) for row in connection.execute(query)}
            if wanted and wanted[0] < 0:
                found |= {o.id: o for o in index.words_by_number(connection, [n for n in wanted if n < 0])}
        return found

    def history(self, asset: str, fact: str, most: int = 50) -> list[Observation]:
        """How one figure of one asset moved, the newest first."""
        query = (
            sa.select(observations)
            .where(observations.c.asset == asset, observations.c.fact == fact)
            .order_by(observations.c.first_seen_at.desc())
            .limit(most)
        )
        with self.engine.connect() as connection:
            return [index.observation_from(row) for row in connection.execute(query)]

    def changes(self, fact: str, since: datetime) -> list[dict[str, Any]]:
        """Answers about a fact that began since a time and say something else than the answer before them."""
        o = observations
        query = sa.select(o).where(o.c.fact == fact, o.c.answered).order_by(o.c.id)
        before: dict[str, Observation] = {}
        found = []
        with self.engine.connect() as connection:
            for new in (index.observation_from(row) for row in connection.execute(query)):
                old = before.get(new.asset)
                if old and old.value != new.value and old.asked == new.asked and new.first_seen_at >= since:
                    entry = {"asset": new.asset, "fact": fact, "observation": new.id, "before": old.id}
                    found.append(entry | {"since": new.first_seen_at, "not_after": old.seen_at})
                before[new.asset] = new
        return found

    def first_answers(self, fact: str) -> dict[str, datetime]:
        """Asset -> when it first answered a fact, over the whole record."""
        o = observations
        query = sa.select(o.c.asset, sa.func.min(o.c.first_seen_at)).where(o.c.fact == fact, o.c.answered)
        with self.engine.connect() as connection:
            return {asset: unstamp(at) for asset, at in connection.execute(query.group_by(o.c.asset))}

    def round(self, id_: str) -> RoundView:
        """One round. Raises ``KeyError``."""
        with self.engine.connect() as connection:
            row = connection.execute(index.ROUNDS.where(rounds.c.id == id_)).one_or_none()
        if row is None:
            raise KeyError(id_)
        return index.round_view(row)

    def rounds(self, most: int = 100) -> list[RoundView]:
        """Rounds, the newest first."""
        query = index.ROUNDS.order_by(rounds.c.started_at.desc(), rounds.c.opened_seq.desc()).limit(most)
        with self.engine.connect() as connection:
            return [index.round_view(row) for row in connection.execute(query)]

    def last_round(self, at: datetime | None = None) -> RoundView | None:
        """The newest round that was done, or done by ``at``."""
        query = index.ROUNDS.where(rounds.c.state == "done").order_by(rounds.c.seq.desc()).limit(1)
        if at is not None:
            query = query.where(rounds.c.ended_at <= stamp(at))
        with self.engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return index.round_view(row) if row else None

    def trend(self, most: int = 60) -> list[tuple[datetime, dict[str, int]]]:
        """(ended at, verdict -> criteria) of the newest rounds that were done, the oldest first."""
        query = (
            sa.select(rounds.c.ended_at, rounds.c.summary)
            .where(rounds.c.state == "done")
            .order_by(rounds.c.seq.desc())
            .limit(most)
        )
        with self.engine.connect() as connection:
            rows = connection.execute(query).all()
        return [(unstamp(row.ended_at), json.loads(row.summary)) for row in reversed(rows)]

    def sealed(self, round_id: str) -> tuple[Scorecard, tuple[Finding, ...]]:
        """The scorecard and the findings as a round kept them, from their bytes."""
        names = self.sealed_names(round_id)
        return (
            index.scorecard_from(json.loads(self.vault.get(names["scorecard"]))),
            index.findings_from(json.loads(self.vault.get(names["findings"]))),
        )

    def sealed_names(self, round_id: str) -> dict[str, str]:
        """The digests of what a round kept: scorecard, findings, catalog, inventory. Raises ``KeyError``."""
        columns = ("scorecard", "findings", "catalog", "inventory")
        with self.engine.connect() as connection:
            row = connection.execute(sa.select(rounds).where(rounds.c.id == round_id)).one_or_none()
        if row is None or row.scorecard is None:
            raise KeyError(round_id)
        return {name: row._mapping[name] for name in columns}

    def looks_of(self, round_id: str) -> list[dict[str, Any]]:
        """Every look of a round at a device; the look into the record itself is left out."""
        query = (
            sa.select(looks)
            .where(looks.c.round_id == round_id, looks.c.transport != index.RECORD)
            .order_by(looks.c.asset, looks.c.transport)
        )
        with self.engine.connect() as connection:
            return [dict(row._mapping) | {"at": unstamp(row.at)} for row in connection.execute(query)]

    def last_looks(self) -> dict[tuple[str, str], dict[str, Any]]:
        """(asset, transport) -> its newest look at a device."""
        newest = (
            sa.select(sa.func.max(looks.c.id))
            .where(looks.c.transport != index.RECORD)
            .group_by(looks.c.asset, looks.c.transport)
        )
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(looks).where(looks.c.id.in_(newest)))
            return {(r.asset, r.transport): dict(r._mapping) | {"at": unstamp(r.at)} for r in rows}

    # ----------------------------------------------------------------------------------------- rebuild

    def reindex(self, progress: Callable[[int], None] | None = None) -> int:
        """Delete every derived table and rebuild it from links and vault; return how many links were read.

        One transaction: a kill leaves the old index. Raises ``VaultError`` when a body is missing.
        """
        count = 0
        with self.engine.begin() as connection:
            for table in (looks, observations, rounds, runs, declarations):
                connection.execute(table.delete())
            for row in connection.execute(sa.select(links).order_by(links.c.seq)).all():
                index.replay(connection, Link(**row._mapping), json.loads(self.vault.get(row.digest)))
                count += 1
                if progress:
                    progress(count)
        return count

    def _next_number(self) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(sa.select(sa.func.max(observations.c.id))).scalar() or 0) + 1


def _head(connection: Connection) -> Link | None:
    row = connection.execute(sa.select(links).order_by(links.c.seq.desc()).limit(1)).one_or_none()
    return Link(**row._mapping) if row else None


# ----------------------------------------------------------------------------------- staging a round


def _stage_one(staged: Staged, new: Observation) -> bool:
    """Extend the interval of the same answer, or begin a new one; return whether one begins."""
    key = (new.asset, new.fact)
    seen = staged.state.get(key, Seen())
    answered = new.outcome is Outcome.ANSWERED
    old = seen.answer if answered else seen.failure
    # An answer after a failed look begins a new interval: in between it was not known.
    unbroken = old is not None and not (answered and seen.failure is not None)
    confirms = unbroken and old is not None and _same(old, new)
    if confirms and old is not None:
        kept = replace(old, seen_at=new.seen_at)
        if new.seen_at != old.seen_at:  # a derived answer whose inputs were not seen again is not seen again either
            staged.confirmed[old.id] = new.seen_at
    else:
        kept = replace(new, id=staged.next_number)
        staged.changed.append(kept)
        staged.next_number += 1
    staged.state[key] = Seen(kept) if answered else replace(seen, failure=kept)
    return not confirms


def _same(old: Observation, new: Observation) -> bool:
    return (
        old.outcome is new.outcome
        and old.unit == new.unit
        and old.asked == new.asked
        and old.collector == new.collector
        and (old.raw_digest is None) == (new.raw_digest is None)
        and canonical(old.value) == canonical(new.value)
    )


def _is_told(look: Look) -> bool:
    """Whether a look stands in the round's body: nothing was sent to an asset without an address, and what is derived
    of all assets is derived in one go, which the look of the site stands for."""
    derived = look.transport == index.RECORD
    return look.outcome is not Outcome.NO_ADDRESS and (not derived or look.asset == SITE)


def _look_body(look: Look) -> dict[str, Any]:
    return {
        "asset": look.asset,
        "transport": look.transport,
        "outcome": look.outcome,
        "at": look.at,
        "duration_ms": look.duration_ms,
        "collector": look.collector,
        "detail": look.detail,
    }


def _observation_body(o: Observation, transport: str) -> dict[str, Any]:
    # A derived answer is as old as its oldest input, and yet it was first given in this round.
    first = {} if o.first_seen_at == o.seen_at else {"first_at": o.first_seen_at}
    return first | {
        "id": o.id,
        "asset": o.asset,
        "fact": o.fact,
        "transport": transport,
        "outcome": o.outcome,
        "value": o.value,
        "unit": o.unit,
        "raw": o.raw_digest,
        "asked": o.asked,
        "collector": o.collector,
        "detail": o.detail,
        "at": o.seen_at,
    }


def _confirmed_body(confirmed: Mapping[int, datetime]) -> list[list[Any]]:
    """[[time, first id, last id, ...], ...]: ids as runs, so that a round without change is a few lines."""
    by_time: dict[datetime, list[int]] = {}
    for number, at in confirmed.items():
        by_time.setdefault(at, []).append(number)
    return [[stamp(at), *_as_runs(sorted(ids))] for at, ids in sorted(by_time.items())]


def _as_runs(ids: Sequence[int]) -> list[int]:
    ends: list[int] = []
    for number in ids:
        if ends and number == ends[-1] + 1:
            ends[-1] = number
        else:
            ends += [number, number]
    return ends
