"""Look at many assets at once, each over its transports, and read every reply. It never raises and never judges."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from datetime import datetime
from typing import Protocol

from controlplane.domain.chain import canonical, digest
from controlplane.domain.model import Asset, Fact, Look, Observation, Outcome, Reply

Clock = Callable[[], datetime]
Progress = Callable[[Look, int, int], None]
"""(look, done, of)."""


class Transport(Protocol):
    """A way to a device: one conversation, every answer, no exception."""

    name: str
    family: str
    collector: str

    def look(self, asset: Asset, facts: Sequence[Fact], deadline_seconds: float, clock: Clock) -> Look: ...


def gather(
    assets: Sequence[Asset],
    transports: Mapping[str, Transport],
    facts: Mapping[str, Fact],
    clock: Clock,
    *,
    at_once: int = 16,
    look_deadline_seconds: float = 30.0,
    round_deadline_seconds: float = 300.0,
    progress: Progress | None = None,
) -> Iterator[tuple[Look, tuple[Observation, ...]]]:
    """Yield every look with its observations as it ends; what the round's deadline cuts off ends as ``timeout``."""
    errands = [(asset, transports[name]) for asset in assets for name in asset.transports if name in transports]
    ends = time.monotonic() + round_deadline_seconds
    pool = futures.ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="look")
    waiting: dict[futures.Future[tuple[Look, tuple[Observation, ...]]], tuple[Asset, Transport]] = {}
    try:
        for asset, transport in errands:
            task = pool.submit(_errand, asset, transport, facts, clock, look_deadline_seconds, ends)
            waiting[task] = (asset, transport)
        ended = _as_they_end(waiting, ends + look_deadline_seconds + 5.0, clock)
        for done, result in enumerate(ended, start=1):
            if progress:
                progress(result[0], done, len(errands))
            yield result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _as_they_end(
    waiting: Mapping[futures.Future[tuple[Look, tuple[Observation, ...]]], tuple[Asset, Transport]],
    ends: float,
    clock: Clock,
) -> Iterator[tuple[Look, tuple[Observation, ...]]]:
    open_tasks = set(waiting)
    try:
        for task in futures.as_completed(waiting, timeout=max(0.1, ends - time.monotonic())):
            open_tasks.discard(task)
            yield task.result()
    except TimeoutError:
        # A transport that ignores its deadline holds nobody up: its asset was not answered in time, that is all.
        for task in sorted(open_tasks, key=lambda t: (waiting[t][0].name, waiting[t][1].name)):
            asset, transport = waiting[task]
            yield _failed(asset, transport, Outcome.TIMEOUT, "the round's deadline ended first", clock), ()


def _errand(
    asset: Asset,
    transport: Transport,
    facts: Mapping[str, Fact],
    clock: Clock,
    look_deadline_seconds: float,
    ends: float,
) -> tuple[Look, tuple[Observation, ...]]:
    wanted = questions(asset, transport.family, facts)
    left = min(look_deadline_seconds, ends - time.monotonic())
    if asset.address is None:
        look = _failed(asset, transport, Outcome.NO_ADDRESS, "no address yet: nothing was sent", clock)
        return look, ()  # nothing was asked: there is nothing to keep but the look itself
    if left <= 0:
        look = _failed(asset, transport, Outcome.TIMEOUT, "the round's deadline ended first", clock)
    else:
        try:
            look = transport.look(asset, wanted, left, clock)
        except Exception as error:  # a bug in a transport must not cost the other assets their look
            detail = f"the collector failed: {type(error).__name__}"
            look = _failed(asset, transport, Outcome.GARBLED, detail, clock)
    return look, tuple(observe(look, wanted))


def questions(asset: Asset, family: str, facts: Mapping[str, Fact]) -> tuple[Fact, ...]:
    """The facts an asset is asked over one family, in the order of their names."""
    return tuple(
        fact
        for _, fact in sorted(facts.items())
        if fact.family == family and (family == "shell" or not fact.kinds or asset.kind in fact.kinds)
    )


def observe(look: Look, wanted: Sequence[Fact]) -> Iterator[Observation]:
    """One observation per question: the value of its reply, or the word for why there is none."""
    replies = {reply.fact: reply for reply in look.replies}
    for fact in wanted:
        reply = replies.get(fact.name)
        if reply is None:
            failed = look.outcome is not Outcome.ANSWERED
            reply = Reply(fact.name, look.outcome if failed else Outcome.GARBLED, fact.ask)
        yield _read(look, fact, reply)


def _read(look: Look, fact: Fact, reply: Reply) -> Observation:
    outcome, value, detail = reply.outcome, None, reply.detail
    if outcome is Outcome.ANSWERED:
        try:
            value = fact.reader(reply.raw.decode("utf-8", "replace"))
            canonical(value)  # a value that has no plain form is the reader's mistake: garbled
        except (ValueError, TypeError) as error:
            outcome, value, detail = Outcome.GARBLED, None, str(error)[:200]
    keeps = fact.keep_raw and bool(reply.raw or outcome is Outcome.ANSWERED)
    return Observation(
        asset=look.asset,
        fact=fact.name,
        outcome=outcome,
        value=value,
        unit=fact.unit,
        raw_digest=digest(reply.raw) if keeps else None,
        asked=reply.asked,
        collector=look.collector,
        first_seen_at=look.at,
        seen_at=look.at,
        detail=detail,
    )


def _failed(asset: Asset, transport: Transport, outcome: Outcome, detail: str, clock: Clock) -> Look:
    return Look(asset.name, transport.name, outcome, clock(), 0, transport.collector, detail)
