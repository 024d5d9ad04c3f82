"""Events of a run as they come, as a stream of server-sent events that can be dropped and taken up again.

Each event has its number as ``id``, so a client that was cut off sends ``Last-Event-ID`` and misses nothing. What is
sent is what is kept: secrets were hidden before it was written. One listener costs a bounded read of a file now and
then; one that does not read, or that is gone, is let go.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from controlplane.bootstrap import Plane
from controlplane.bootstrap.following import Feed
from controlplane.plays import LOOK, STEP, outcome_of
from controlplane.web import queries
from controlplane.web.errors import RequestError

MOST_LISTENERS_OF_ONE = 4  # of one account: a browser opens at most six connections to a server
MOST_LISTENERS = 32
ASK_EVERY_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
SLOWEST_SEND_SECONDS = 30.0
LONGEST_SITTING_SECONDS = 900.0  # then the client comes back by itself, and its session is looked at again
RETRY_MS = 2000


class Listeners:
    """Who listens, counted by account."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    def enter(self, name: str) -> None:
        """Let one more in. Raises ``RequestError`` for one too many."""
        with self._lock:
            if self._open[name] >= MOST_LISTENERS_OF_ONE or self._open.total() >= MOST_LISTENERS:
                raise RequestError(429, "too_many_listeners")
            self._open[name] += 1

    def leave(self, name: str) -> None:
        """One is gone."""
        with self._lock:
            self._open[name] -= 1

    def count(self) -> int:
        """How many listen now."""
        with self._lock:
            return self._open.total()


class EventStream(StreamingResponse):
    """A stream that gives up on a client who does not read, and frees its place whatever happens."""

    def __init__(self, feed: Feed, frames: AsyncIterator[str], listeners: Listeners, name: str) -> None:
        headers = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
        super().__init__(frames, media_type="text/event-stream", headers=headers)
        self._feed, self._listeners, self._name = feed, listeners, name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the run, the sitting or the client ends."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._feed.close()
            self._listeners.leave(self._name)

    async def stream_response(self, send: Send) -> None:
        """As a stream does, but no single send may take for ever."""

        async def send_in_time(message: Any) -> None:
            await asyncio.wait_for(send(message), SLOWEST_SEND_SECONDS)

        try:
            await super().stream_response(send_in_time)
        except TimeoutError:  # it may come back and go on where it was
            return


def events(
    request: Request,
    run_id: str,
    after: Annotated[int, Query(ge=0, description="Only events after this number; Last-Event-ID goes first.")] = 0,
    brief: Annotated[bool, Query(description="Only steps, looks, and how tasks began and ended.")] = False,
) -> EventStream:
    """The events of a run from the first, or after the one with the number in the header Last-Event-ID.

    ``id`` is the event's number, ``data`` the event as JSON; a comment comes every 15 seconds; the last one is named
    ``end`` and tells the state. Kept runs are told the same way, under the same numbers.
    """
    plane: Plane = request.app.state.plane
    queries.run_line_of(plane, run_id)
    given = request.headers.get("last-event-id", "")
    listeners: Listeners = request.app.state.listeners
    name = request.state.session.account.name
    listeners.enter(name)
    try:
        feed = plane.feed(run_id, int(given) if given.isascii() and given.isdigit() and len(given) < 10 else after)
    except BaseException:
        listeners.leave(name)
        raise
    return EventStream(feed, _frames(plane, run_id, feed, brief), listeners, name)


async def _frames(plane: Plane, run_id: str, feed: Feed, brief: bool) -> AsyncIterator[str]:
    now = asyncio.get_running_loop().time
    ends, spoken = now() + LONGEST_SITTING_SECONDS, now()
    yield f"retry: {RETRY_MS}\n\n"
    while now() < ends:
        for number, event in await run_in_threadpool(feed.more):
            shown = briefly(event) if brief else event
            if shown is not None:
                spoken = now()
                yield frame(shown, number)
        if feed.over:
            state = (await run_in_threadpool(plane.run_line, run_id))["state"]
            yield frame({"run": run_id, "state": state}, name="end")
            return
        if not feed.behind:
            await asyncio.sleep(ASK_EVERY_SECONDS)
        if now() - spoken >= HEARTBEAT_SECONDS:
            spoken = now()
            yield ": still running\n\n"


def frame(data: Mapping[str, Any], number: int | None = None, name: str = "") -> str:
    """One server-sent event. JSON holds no line end of its own, so no text in it can begin another event."""
    head = (f"id: {number}\n" if number is not None else "") + (f"event: {name}\n" if name else "")
    return f"{head}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


def briefly(event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a page shows of an event; None for one that a page does not show."""
    kind, data = event.get("event"), event.get("event_data") or {}
    if kind in (STEP, LOOK):
        return event
    if kind == "playbook_on_task_start":
        return {"event": kind, "task": data.get("task", "")}
    if word := outcome_of(event):
        return {"event": kind, "host": data.get("host", ""), "task": data.get("task", ""), "status": word}
    return None
