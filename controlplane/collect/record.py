"""What follows from what the control plane already holds: inventory, registers, and the answers that stand.

It touches no device. A derived answer is an observation like any other: its bytes name every input (the observation's
number, its time, its value), and its reader is pure. An answer about one asset is as old as its oldest input; an
answer about the hospital says itself which assets are silent, and how old the others are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

from controlplane.collect.gather import Clock, observe
from controlplane.collect.yaml_file import InventoryError
from controlplane.domain.chain import canonical, plain
from controlplane.domain.judge import Seen, State
from controlplane.domain.model import SITE, Asset, Fact, Look, Observation, Outcome, Reply, Value

FAMILY = "record"
COLLECTOR = "record/1"
CHANGE_DAYS = 30
"""How far back a change of a setting is looked for."""

MOST_DRILLS = 1000
"""How many kept proofs of backups are looked through for rehearsals."""

_SHELL = frozenset({"local", "ssh"})


class History(Protocol):
    """What the record tells beyond the answers that stand."""

    def rounds(self, most: int = 100) -> Sequence[Any]: ...
    def runs(self, most: int = 100) -> Sequence[Mapping[str, Any]]: ...
    def changes(self, fact: str, since: datetime) -> Sequence[Mapping[str, Any]]: ...
    def first_answers(self, fact: str) -> Mapping[str, datetime]: ...
    def recent(self, kind: str, most: int) -> Sequence[Mapping[str, Any]]: ...


@dataclass(frozen=True)
class Holdings:
    """What is written down at the hospital, at the time of a round, as plain values."""

    assets: Sequence[Mapping[str, Any]]  # the public form of every asset of the inventory
    registers: Mapping[str, Value | InventoryError]
    vlans: Value
    hospital: Value


class _UnansweredError(Exception):
    """An input has no answer: ``outcome`` is what the derived look says then, None when there is nothing to say."""

    def __init__(self, outcome: Outcome | None, detail: str = "", document: Value = None) -> None:
        super().__init__(detail)
        self.outcome, self.detail, self.document = outcome, detail, document


class Record:
    """Derives every fact of the family ``record``."""

    def __init__(self, facts: Mapping[str, Fact], holdings: Holdings, history: History, clock: Clock) -> None:
        self._facts, self._holdings, self._history, self._clock = facts, holdings, history, clock
        self._own = [fact for _, fact in sorted(facts.items()) if fact.family == FAMILY]
        self._public = {str(asset["name"]): asset for asset in holdings.assets}

    def derive(self, assets: Sequence[Asset], state: State) -> Iterator[tuple[Look, tuple[Observation, ...]]]:
        """One look into the record for each asset, and always one for the site, the last.

        ``state`` may move while this runs: what was derived of the assets is an input of the site.
        """
        at = self._clock()
        for asset in sorted(assets, key=lambda a: a.name):
            wanted = [fact for fact in self._own if asset.kind in fact.kinds and asset.kind != SITE]
            if wanted:
                yield self._look(asset.name, wanted, at, partial(self._of_asset, asset, state))
        own = [fact for fact in self._own if SITE in fact.kinds] if SITE in self._public else []
        yield self._look(SITE, own, at, lambda fact: (self._of_site(fact, state, at), at))

    def _look(
        self, asset: str, wanted: Sequence[Fact], at: datetime, ask: Callable[[Fact], tuple[Value, datetime | None]]
    ) -> tuple[Look, tuple[Observation, ...]]:
        replies, ages = [], {}
        for fact in wanted:
            try:
                document, ages[fact.name] = ask(fact)
                replies.append(Reply(fact.name, Outcome.ANSWERED, fact.ask, canonical(document)))
            except _UnansweredError as none:
                raw = canonical(none.document) if none.document is not None else b""
                if none.outcome is not None:
                    replies.append(Reply(fact.name, none.outcome, fact.ask, raw, none.detail))
        look = Look(asset, FAMILY, Outcome.ANSWERED, at, 0, COLLECTOR, replies=tuple(replies))
        answered = {reply.fact for reply in replies}
        seen = observe(look, [fact for fact in wanted if fact.name in answered])
        return look, tuple(_aged(o, ages.get(o.fact)) for o in seen)

    # ------------------------------------------------------------------------------- the inputs of a fact

    def _of_asset(self, asset: Asset, state: State, fact: Fact) -> tuple[Value, datetime | None]:
        """The inputs of a fact about one asset, and the age of the oldest answer among them."""
        document: dict[str, Any] = {"asset": asset.name}
        ages = []
        for word in fact.ask.split():
            if word in self._facts:
                seen = _standing(asset.name, word, state)
                document.setdefault("inputs", {})[word] = _told(seen)
                ages.append(seen.seen_at)
            elif word == "inventory":
                document["inventory"] = self._public[asset.name]
            else:
                self._add(document, word)
        return document, min(ages, default=None)

    def _of_site(self, fact: Fact, state: State, at: datetime) -> Value:
        """The inputs of a fact about the hospital: every asset's answer with its age, and who has not answered."""
        document: dict[str, Any] = {"asset": SITE, "at": at}
        for word in fact.ask.split():
            if word in self._facts:
                given, silent = self._everybody(self._facts[word], state, at)
                document.setdefault("inputs", {})[word] = given
                document.setdefault("unanswered", {})[word] = silent
            elif word == "inventory":
                document["inventory"] = self._holdings.assets
            elif word == "seen":
                document["seen"] = self._seen(state, at)
            else:
                self._add(document, word)
        return document

    def _seen(self, state: State, at: datetime) -> dict[str, int]:
        """Asset -> whole hours since the device itself last answered anything."""
        newest: dict[str, datetime] = {}
        for (name, fact), seen in state.items():
            of_device = fact in self._facts and self._facts[fact].family != FAMILY
            if seen.answer is not None and of_device and name in self._public:
                newest[name] = max(newest.get(name, seen.answer.seen_at), seen.answer.seen_at)
        return {name: max(int((at - on).total_seconds() // 3600), 0) for name, on in newest.items()}

    def _everybody(self, fact: Fact, state: State, at: datetime) -> tuple[list[Value], list[str]]:
        given, silent = [], []
        for name, asset in sorted(self._public.items()):
            if not _is_asked(fact, asset):
                continue
            try:
                seen = _standing(name, fact.name, state)
            except _UnansweredError:
                silent.append(name)
                continue
            hours = max(int((at - seen.seen_at).total_seconds() // 3600), 0)
            given.append(_told(seen) | {"age_hours": hours})
        return given, silent

    def _add(self, document: dict[str, Any], word: str) -> None:
        """An input that is no answer of a device. Raises ``_UnansweredError`` for a broken register."""
        kind, _, name = word.partition(":")
        match kind:
            case "register":
                document.setdefault("registers", {})[name] = self._register(name)
            case "today":
                document["today"] = self._clock().date()
            case "vlans":
                document["vlans"] = self._holdings.vlans
            case "hospital":
                document["hospital"] = self._holdings.hospital
            case "rounds":
                document["rounds"] = [_round(view) for view in self._history.rounds(50)]
            case "runs":
                document["runs"] = [_run(run) for run in self._history.runs(500)]
            case "drills":
                document["drills"] = _drills(self._history.recent("drill", MOST_DRILLS))
            case "changes":
                since = self._clock() - timedelta(days=CHANGE_DAYS)
                document.setdefault("changes", {})[name] = self._history.changes(name, since)
            case "first":
                document.setdefault("first", {})[name] = self._history.first_answers(name)
            case _:
                raise ValueError(f"no such input of a derived fact: {word}")

    def _register(self, name: str) -> Value:
        found = self._holdings.registers[name]
        if isinstance(found, InventoryError):
            raise _UnansweredError(Outcome.GARBLED, f"the register cannot be used: {found}"[:200])
        return found


def derive_from(
    facts: Mapping[str, Fact], holdings: Holdings, history: History, clock: Clock
) -> Callable[[Sequence[Asset], State], Iterable[tuple[Look, tuple[Observation, ...]]]]:
    """The second phase of a round, as the route wants it."""
    return Record(facts, holdings, history, clock).derive


def _aged(observation: Observation, oldest: datetime | None) -> Observation:
    """An answer is not younger than what it rests on; what rests on no answer is as young as the look."""
    return observation if oldest is None else replace(observation, seen_at=min(oldest, observation.seen_at))


def _standing(asset: str, fact: str, state: State) -> Observation:
    """The answer that stands. Raises ``_UnansweredError``, with an outcome when the device gives it no more."""
    seen = state.get((asset, fact), Seen())
    failure = seen.failure
    if failure is not None and (
        failure.outcome is Outcome.NOT_SUPPORTED
        or (failure.outcome is Outcome.GARBLED and failure.raw_digest is not None)
    ):
        document = {"asset": asset, "failed": {fact: {"observation": failure.id, "outcome": failure.outcome}}}
        raise _UnansweredError(failure.outcome, f"{fact}: {failure.detail}"[:200], document)
    if seen.answer is None:
        raise _UnansweredError(None)
    return seen.answer


def _told(o: Observation) -> dict[str, Any]:
    return {"asset": o.asset, "fact": o.fact, "observation": o.id, "seen_at": o.seen_at, "value": o.value}


def _is_asked(fact: Fact, asset: Mapping[str, Any]) -> bool:
    """Whether a round would ask the asset this, had it an address."""
    of_kind = not fact.kinds or asset["kind"] in fact.kinds
    ways = frozenset(asset["transports"])
    if fact.family == "shell":
        return bool(ways & _SHELL)
    return of_kind if fact.family == FAMILY else of_kind and fact.family in ways


def _round(view: Any) -> Value:
    return plain(
        {"id": view.id, "state": view.state, "at": view.started_at, "ended_at": view.ended_at, "only": view.only}
    )


def _run(run: Mapping[str, Any]) -> Value:
    kept = ("id", "play", "mode", "state", "started_at", "ended_at", "hosts")
    return plain({name: run[name] for name in kept})


def _drills(bodies: Iterable[Mapping[str, Any]]) -> Value:
    """Of every data set its newest rehearsal, and the newest good one; paths and tables are counted, not named."""
    newest: dict[tuple[str, bool], Mapping[str, Any]] = {}
    for body in bodies:
        if body["what"] == "restore":
            newest.setdefault((body["result"]["dataset"], False), body)
            if body["result"]["ok"]:
                newest.setdefault((body["result"]["dataset"], True), body)
    kept = (
        *("dataset", "repository", "database", "ok", "error", "rpo_seconds", "rto_seconds"),
        *("hashes_verified", "hashes_wrong", "tables", "rows"),
    )
    return plain(
        [
            {name: body["result"][name] for name in kept}
            | {
                "link": body["link"],
                "at": body["result"]["ended_at"],
                "tables_wrong": len(body["result"]["tables_wrong"]),
            }
            for _, body in sorted({body["link"]: body for body in newest.values()}.items())
        ]
    )
