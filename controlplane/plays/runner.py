"""Previews a play or applies it through ansible-runner, and says host by host and task by task what happened."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Unpack

from controlplane.domain.model import Asset, Words
from controlplane.plays.bench import Bench
from controlplane.plays.catalogue import Play, PlayError
from controlplane.plays.digests import shipped_digests, versions
from controlplane.plays.listener import Listener
from controlplane.plays.orders import Order, RunSettings, choose, refuse_missing_files
from controlplane.plays.pins import Pin, pin_now
from controlplane.plays.results import HostRecap, PlayRun, outcomes_of

log = logging.getLogger(__name__)


def preview(
    play: Play,
    inventory_files: Sequence[Path],
    hosts_limit: Sequence[str],
    run_dir: Path,
    **settings: Unpack[RunSettings],
) -> PlayRun:
    """What an apply would change, with differences; no host is changed. Arguments and errors as for ``apply``."""
    return _run("preview", play, inventory_files, hosts_limit, run_dir, settings)


def apply(
    play: Play,
    inventory_files: Sequence[Path],
    hosts_limit: Sequence[str],
    run_dir: Path,
    **settings: Unpack[RunSettings],
) -> PlayRun:
    """Carry a play out on the hosts of the limit (host names or groups) and say what happened.

    ``run_dir`` holds a private folder while it lasts. Raises PlayError when nothing could be started; once a task
    was begun there is always a PlayRun.
    """
    return _run("apply", play, inventory_files, hosts_limit, run_dir, settings)


def _run(
    mode: str,
    play: Play,
    inventory_files: Sequence[Path],
    hosts_limit: Sequence[str],
    run_dir: Path,
    settings: RunSettings,
) -> PlayRun:
    chosen, left_out = choose(play, hosts_limit, tuple(settings["hosts"]))
    order = Order(
        play=play,
        mode=mode,
        inventory_files=tuple(Path(path).resolve() for path in inventory_files),
        chosen=chosen,
        left_out=left_out,
        known_hosts=settings["known_hosts"].resolve(),
        **{key: value for key, value in settings.items() if key not in {"hosts", "known_hosts"}},  # type: ignore[arg-type]
    )
    refuse_missing_files(order)
    started_at = order.clock()
    run_id = f"{started_at:%Y%m%dT%H%M%SZ}-{play.id}-{uuid.uuid4().hex[:8]}"
    bench = Bench(run_dir.resolve() / run_id)
    try:
        bench.lay_out(order)
        _refuse_another_change(order, bench)
        return _carry_out(order, bench, run_id, started_at)
    except OSError as error:
        raise PlayError(
            f"Không chuẩn bị được thư mục riêng cho lần chạy: {error.strerror}.",
            f"The private folder of the run could not be made ready: {error.strerror}.",
        ) from error
    finally:
        bench.clear(keep=order.keep)


def pin_of(
    play: Play,
    inventory_files: Sequence[Path],
    hosts_limit: Sequence[str],
    hosts: Iterable[Asset],
    given: Mapping[str, Any] | None = None,
) -> Pin:
    """What a run of this play would be, without running it. Raises PlayError when no host is left to run on."""
    chosen, _ = choose(play, hosts_limit, tuple(hosts))
    shipped = shipped_digests(play.ships, chosen)
    return pin_now(play.id, play.playbook, inventory_files, [asset.name for asset in chosen], given, shipped)


def _refuse_another_change(order: Order, bench: Bench) -> None:
    """Compare with what lies in the private folder already: what is compared is what would run."""
    if order.expected is None:
        return
    names = tuple(sorted(asset.name for asset in order.chosen))
    shipped = tuple(shipped_digests(order.play.ships, order.chosen).items())
    now = Pin(order.play.id, names, bench.playbook_digest, bench.inventory_digest, bench.commit, shipped)
    if other := order.expected.difference(now):
        raise PlayError(
            f"Không áp dụng, chưa máy nào bị thay đổi: {other.vi} kể từ lần xem trước. Hãy xem trước lại.",
            f"Not applied, and no host was changed: {other.en} since the preview. Preview it again.",
        )


def sweep(run_dir: Path) -> tuple[str, ...]:
    """End what a killed control plane left under way in ``run_dir``, remove it, and name the interrupted runs.

    For the start of the one process that runs plays: a run that is still somebody's would be ended too.
    """
    left = sorted(path for path in run_dir.iterdir() if path.is_dir()) if run_dir.is_dir() else []
    for path in left:
        Bench(path.resolve()).clear(keep=False)
    return tuple(path.name for path in left)


def _carry_out(order: Order, bench: Bench, run_id: str, started_at: datetime) -> PlayRun:
    """From a laid-out bench to a PlayRun; PlayError when not one task was begun."""
    listener = Listener(order.mode, bench.path, order.on_event, order.cancelled, bench.notes)
    runner, broken = _run_through(order, bench, listener, run_id)
    bench.end_leftovers()
    listener.add_notes(bench.notes())
    ended = bool(runner.canceled or runner.timed_out)
    if not listener.begun and not ended:
        raise _not_started(listener, broken)
    recap = listener.recap()
    state = _state(runner, recap, broken)
    missed = {asset.name: _UNMATCHED for asset in order.chosen if asset.name not in recap} if not ended else {}
    return PlayRun(
        id=run_id,
        play=order.play.id,
        mode=order.mode,
        state=state,
        started_at=started_at,
        ended_at=order.clock(),
        recap=recap,
        outcomes=outcomes_of((a.name for a in order.chosen if a.name not in missed), recap, cut_off=ended),
        left_out={**order.left_out, **missed},
        tasks=tuple(listener.tasks),
        playbook_digest=bench.playbook_digest,
        inventory_digest=bench.inventory_digest,
        commit=bench.commit,
        versions=versions(),
        detail=broken or listener.detail(state),
        events_raw=bytes(listener.raw),
        files=bench.fetched(),
    )


def _run_through(order: Order, bench: Bench, listener: Listener, run_id: str) -> tuple[Any, str]:
    """The last runner, and what broke it off, if anything did.

    Ansible gives a whole playbook up as soon as one of its plays has lost every host, though the hosts of later plays
    are well: a printer that knows no account would keep the network play from the router. So the playbooks that it has
    not come to are carried out on the hosts that are left.
    """
    until = time.monotonic() + order.timeout_seconds
    playbook = order.play.playbook.name
    while True:
        runner = bench.runner(order, listener, playbook, until - time.monotonic())
        try:
            runner.run()
        except Exception as error:  # the runner's own trouble: what was done until then is still told
            log.exception("ansible-runner broke off run %s", run_id)
            return runner, f"ansible-runner broke off: {type(error).__name__}"
        found = listener.recap()
        lost = {host for host, tally in found.items() if tally.failed or tally.unreachable}
        rest, well = bench.left_over(listener.plays_begun), [a.name for a in order.chosen if a.name not in lost]
        if runner.canceled or runner.timed_out or not lost or not rest or not well:
            return runner, ""
        playbook = bench.go_on_with(rest, well)


_UNMATCHED = Words(
    "bỏ qua: kho thiết bị của Ansible không xếp máy này vào nhóm của kịch bản",
    "skipped: the inventory does not put this host into the play's group",
)


def _state(runner: Any, recap: Mapping[str, HostRecap], broken: str) -> str:
    if runner.canceled:
        return "cancelled"
    if runner.timed_out:
        return "timeout"
    if broken or any(host.failed for host in recap.values()):
        return "failed"
    if any(host.unreachable for host in recap.values()):
        return "unreachable"
    return "successful" if runner.rc == 0 else "failed"


def _not_started(listener: Listener, broken: str) -> PlayError:
    """Ansible ended before its first task: say what it said."""
    said = listener.said()
    if listener.no_hosts or "no hosts to target" in said:
        return PlayError(
            "Không có máy nào trong giới hạn thuộc nhóm của kịch bản, nên không chạy gì.",
            "No host of the limit belongs to the play's group, so nothing was run.",
        )
    reason = said or broken or "it gave no reason"
    return PlayError(
        f"Ansible không bắt đầu được kịch bản, chưa máy nào bị thay đổi. Ansible báo: {reason}",
        f"Ansible could not start the playbook and no host was changed. It said: {reason}",
    )
