"""Plays: previewed, applied, resumed, measured again, kept as a signed dossier."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from controlplane.bootstrap.following import NOBODY
from controlplane.bootstrap.measuring import DONE, Measuring, StoppedError
from controlplane.bootstrap.rules import public
from controlplane.domain.chain import Link, canonical, plain, stamp
from controlplane.domain.model import Asset, Look, Words
from controlplane.plays import (
    LOOK,
    STEP,
    Handlers,
    LiveFile,
    Owed,
    Pin,
    Play,
    PlayError,
    PlayRun,
    apply,
    clinic_hours,
    pin_from,
    pin_of,
    preview,
)
from controlplane.rounds import new_id
from controlplane.store.bundle import SigningKey, signs

DOSSIER_TYPE = "urn:emrctl:change-dossier:v1"
MEASURED = ("successful", "unreachable")  # a failed one leaves the score as it was
UNFINISHED = ("failed", "refused", "unreachable", "cancelled", "timeout", "interrupted")


@dataclass(frozen=True)
class Order:
    """What was asked for."""

    play: Play
    mode: str  # preview | apply | drift
    targets: tuple[Asset, ...]
    by: str = NOBODY
    preview: str = ""  # carry out exactly this preview
    resumes: str = ""
    break_glass: str = ""  # why a disruptive play cannot wait for the evening
    expected: Pin | None = None
    owed: Handlers = field(default_factory=dict)  # what earlier runs have left undone on its hosts


@dataclass
class Watch:
    """Who looks on, and how the run is told to stop."""

    on_event: Callable[[dict[str, Any]], None] | None = None
    cancelled: Callable[[], bool] | None = None
    progress: Callable[[Look, int, int], None] | None = None
    wish: Callable[[], bool] = field(default=lambda: False)  # of another process
    opened: Callable[[str], None] | None = None  # told the id once the run stands in the chain
    live: LiveFile | None = None
    owed: Owed = field(default_factory=Owed)
    steps: list[dict[str, Any]] = field(default_factory=list)  # each with the number of the event it begins with

    def event(self, event: Any) -> None:
        """One event of the play, or a step of the run."""
        self.owed.take(event)
        if self.live is not None:
            self.live.write(event)
        if self.on_event is not None:
            self.on_event(event)

    def step(self, name: str) -> None:
        """A step of the run begins."""
        self.steps.append({"step": name, "event": self.live.written + 1 if self.live is not None else 0})
        self.event({"event": STEP, "step": name})

    def look(self, look: Look, done: int, of: int) -> None:
        """A look of a round has ended."""
        if self.live is not None:
            self.live.write({"event": LOOK, "asset": look.asset, "done": done, "of": of})
        if self.progress is not None:
            self.progress(look, done, of)

    def left_undone(self) -> dict[str, Any]:
        """What the hosts are owed by now, for the dossier; nothing where they are owed nothing."""
        return {"owed": left} if (left := self.owed.left()) else {}

    def stop(self) -> bool:
        """Whether somebody wants the run to stop."""
        return bool(self.cancelled and self.cancelled()) or self.wish()


class RefusedError(PlayError):
    """What may not be carried out. A run that had begun by then ends as refused, before a host was changed."""


class ClinicHoursError(RefusedError):
    """A disruptive play, in clinic hours, without a reason why it cannot wait."""


class Acting(Measuring):
    """Plays on the hospital's hosts."""

    def run_play(
        self,
        play_id: str,
        mode: str,
        limit: Sequence[str] = (),
        on_event: Callable[[dict[str, Any]], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        progress: Callable[[Look, int, int], None] | None = None,
        *,
        by: str = NOBODY,
        preview_id: str = "",
        break_glass: str = "",
    ) -> dict[str, Any]:
        """Preview or apply a play and keep it; return the dossier.

        An apply is a change dossier: narrow round, preview, apply, narrow round, and what moved between the two.
        Hosts that could not be reached are left out of the second round. An apply that failed is followed by no round:
        the score stays as it was, and the dossier says so; what it did is measured by the resume that completes it.
        With ``preview_id`` it carries out exactly that preview, on its hosts. ``break_glass`` is the reason for a
        disruptive play in clinic hours. Raises ``PlayError``, ``InventoryError``, ``BusyError``, ``SigningKeyError``.
        """
        order = self.order(play_id, mode, limit, by=by, preview_id=preview_id, break_glass=break_glass)
        return self.carry_out(order, Watch(on_event, cancelled, progress))

    def order(
        self,
        play_id: str,
        mode: str,
        limit: Sequence[str] = (),
        *,
        by: str,
        preview_id: str = "",
        break_glass: str = "",
    ) -> Order:
        """What is to be carried out, with its hosts. Raises ``PlayError``, ``InventoryError``."""
        play = self.play(play_id)
        inventory, _ = self.inventory()
        if preview_id and not limit:
            limit = self.run_line(preview_id)["hosts"]
        targets = inventory.select(list(limit) or [play.hosts])
        return Order(play, mode, tuple(targets), by, preview_id, break_glass=break_glass.strip())

    def resume_run(
        self,
        run_id: str,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        progress: Callable[[Look, int, int], None] | None = None,
        *,
        by: str = NOBODY,
        break_glass: str = "",
    ) -> dict[str, Any]:
        """Apply again on the hosts that failed, were unreachable or were cancelled; all of a run that was interrupted.

        Under the same approval, and only when playbook and inventory are still the same. Raises as ``run_play``.
        """
        order = self.order_to_resume(run_id, by=by, break_glass=break_glass)
        return self.carry_out(order, Watch(on_event, cancelled, progress))

    def order_to_resume(self, run_id: str, *, by: str, break_glass: str = "") -> Order:
        """What is left of a run. Raises ``PlayError``, ``InventoryError``."""
        self.clear_abandoned()
        found = self._resumable(run_id)
        outcomes = ((found["body"] or {}).get("run") or {}).get("outcomes") or {}
        hosts = [host for host in found["hosts"] if outcomes.get(host) not in DONE]
        inventory, _ = self.inventory()
        expected = replace(pin_from(found["opened"]["pin"]), hosts=tuple(sorted(hosts)))
        targets = tuple(inventory.select(hosts))
        play, glass = self.play(found["play"]), break_glass.strip()
        return Order(play, "apply", targets, by, found["preview"] or "", run_id, glass, expected)

    def _resumable(self, run_id: str) -> dict[str, Any]:
        self.run_line(run_id)
        found = self.archive.run(run_id) or {}
        if found["mode"] != "apply" or found["state"] not in UNFINISHED or "pin" not in found["opened"]:
            raise PlayError(
                f"Lần chạy {run_id} không có gì để chạy tiếp ({found['mode']}, {found['state']}).",
                f"The run {run_id} has nothing to go on with ({found['mode']}, {found['state']}).",
            )
        if later := self.archive.resumed_by(run_id):
            raise PlayError(
                f"Lần chạy {run_id} đã được chạy tiếp ở {later}. Hãy chạy tiếp lần đó.",
                f"The run {run_id} was gone on with by {later}. Resume that one.",
            )
        return found

    def carry_out(self, order: Order, watch: Watch) -> dict[str, Any]:
        """Check what may be checked before, take the locks, and carry an order out between two links of the chain."""
        names = [asset.name for asset in order.targets]
        pin = pin_of(order.play, self.settings.inventory_files, names, order.targets, self.given())
        if order.expected is not None and (other := order.expected.difference(pin)):
            raise PlayError(
                f"Không chạy tiếp, chưa máy nào bị thay đổi thêm: {other.vi}. Hãy xem trước lại.",
                f"Not resumed, and nothing more was changed: {other.en}. Preview it again.",
            )
        glass = self._broken_glass(order)
        key = SigningKey.load(self.settings.keys_dir)  # a dossier that could not be signed is not begun
        id_ = new_id(self.clock())
        with self.archive.run_lock(id_), self.archive.host_locks(pin.hosts):
            self.clear_abandoned()  # a run that was killed may still be at work on one of these hosts
            about = {"by": order.by, "pin": pin.document(), "inventory": self._snapshot(), "break_glass": glass}
            about |= {"resumes": order.resumes or None} | self._approved(order, pin)
            if owed := self.owed_on(pin.hosts):
                about |= {"owed_before": owed}
                order, watch.owed = replace(order, owed=owed), Owed(owed)
            with self._opened(id_, order, pin, about, watch) as dossier:
                self._fill(dossier, id_, order, pin, about, watch)
            dossier |= {"steps": watch.steps} | watch.left_undone()
            link = self._keep(id_, order, dossier, key)
            self._live_file(id_).unlink(missing_ok=True)
        return {**dossier, "link": link.seq, "seal": link.seal}

    # ----------------------------------------------------------------------------- before a run is opened

    def _snapshot(self) -> str:
        """The digest of the inventory's canonical bytes, as a round keeps them too."""
        inventory, _ = self.inventory()
        return self.archive.vault.put(canonical([public(a) for a in inventory.assets.values()]))

    def _approved(self, order: Order, pin: Pin) -> dict[str, Any]:
        """Which preview is carried out and who approved it. Looked up under the locks: an approval is good for one."""
        if order.mode != "apply":
            return {"preview": None, "approval": []}
        if order.resumes:
            self._resumable(order.resumes)
            decisions = self.archive.decisions(order.preview)
            if self.needs_second_role(order.play, pin.hosts):
                self._refuse_lapsed(order.preview, decisions)
            return {"preview": order.preview or None, "approval": decisions}
        preview_id, decisions = self.approval_for(order.play, order.preview, pin)
        return {"preview": preview_id or None, "approval": decisions}

    def _broken_glass(self, order: Order) -> dict[str, Any] | None:
        """Why a disruptive play runs in clinic hours; None when it does not.

        Raises ``PlayError`` without a reason, and for a reason that nobody gives in a name of their own.
        """
        if order.mode != "apply":
            return None
        if order.play.disruptive and order.break_glass and order.by == NOBODY:
            raise RefusedError(
                "Lý do khẩn cấp phải có người chịu trách nhiệm: hãy nêu tài khoản của người quyết định, --by TÊN.",
                "Such a reason needs somebody who answers for it: name the account that decides, --by NAME.",
            )
        if not self.waits_for_the_evening(order.play):
            return None
        now = self.clock()
        local = now.astimezone(self.settings.timezone)
        if not order.break_glass:
            raise ClinicHoursError(
                f"Kịch bản {order.play.id} làm gián đoạn công việc, và bây giờ là {local:%H:%M}, trong giờ"
                f" khám chữa bệnh ({self.settings.clinic_hours}). Hãy chạy ngoài giờ, hoặc nêu lý do khẩn cấp:"
                ' --break-glass "lý do".',
                f"The play {order.play.id} interrupts work, and it is {local:%H:%M}, within clinic hours"
                f" ({self.settings.clinic_hours}). Run it outside of them, or give the reason why it cannot wait:"
                ' --break-glass "reason".',
            )
        return {"reason": order.break_glass, "by": order.by, "at": stamp(now), "hours": self.settings.clinic_hours}

    def waits_for_the_evening(self, play: Play) -> bool:
        """Whether an apply of this play would interrupt work right now, in clinic hours."""
        hours = clinic_hours(self.settings.clinic_hours)
        return play.disruptive and hours is not None and hours.holds(self.clock().astimezone(self.settings.timezone))

    # ------------------------------------------------------------------------------ between its two links

    @contextmanager
    def _opened(
        self, id_: str, order: Order, pin: Pin, about: Mapping[str, Any], watch: Watch
    ) -> Iterator[dict[str, Any]]:
        """A run that is open while the block lasts, and its dossier to be filled.

        An error closes it as failed or refused, with its words, what was found so far and every event until then.
        """
        watch.live = LiveFile(self._live_file(id_))
        watch.wish = lambda: self.run_line(id_)["cancelled_by"] is not None
        dossier: dict[str, Any] = {"id": id_, "mode": order.mode, "play": order.play.id}
        try:
            self.archive.open_run(id_, self.clock(), order.play.id, order.mode, pin.hosts, **about)
            if watch.opened is not None:
                watch.opened(id_)
            yield dossier
        except Exception as error:
            if self.archive.run_line(id_) is not None:
                self._break_off(id_, dossier, watch, error)
            self._live_file(id_).unlink(missing_ok=True)
            raise
        finally:
            watch.live.close()
            shutil.rmtree(self.settings.run_dir / id_, ignore_errors=True)

    def _break_off(self, id_: str, dossier: Mapping[str, Any], watch: Watch, error: Exception) -> None:
        """Close a run that an error ended. What was not come to is left out, and nothing is signed."""
        words = getattr(error, "words", None) or Words(str(error), str(error))
        state = "refused" if isinstance(error, RefusedError) else "failed"
        body = {name: value for name, value in dossier.items() if name != "run" or value}
        body |= {"state": state, "error": words, "steps": watch.steps} | watch.left_undone()
        body["begun"] = any(step["step"] == "apply" for step in watch.steps)
        body["events"] = self.archive.vault.put(self._live_file(id_).read_bytes())
        self.archive.close_run(id_, self.clock(), state, body, applied_at=body.get("applied_at"))

    def _fill(
        self, dossier: dict[str, Any], id_: str, order: Order, pin: Pin, about: Mapping[str, Any], watch: Watch
    ) -> None:
        """Carry the order out and put down each thing as it is known."""
        dossier["title"] = plain(order.play.title)
        dossier |= {name: plain(value) for name, value in about.items() if name != "preview"}
        dossier |= {"carries_out": about["preview"]}
        if order.mode == "apply":
            self._apply(dossier, id_, order, pin, watch)
            return
        watch.step(order.mode)
        run = self._play("preview", id_, order, pin, watch)
        dossier |= {"state": run.state, "run": self._kept_run(run)}

    def _apply(self, found: dict[str, Any], id_: str, order: Order, pin: Pin, watch: Watch) -> None:
        """Look, preview, apply, look again; what was not come to stays empty.

        What comes before the apply may take an hour: the clinic's hours are asked for again when hosts are about to be
        changed, and a reason given for them counts then, too.
        """
        found |= {"run": {}, "difference": None, "findings": {}, "after_error": None}
        looked_at = self._measured_on(order.play, pin.hosts)
        watch.step("round_before")
        try:
            before = self._look_at(looked_at, watch.look, watch.stop)
        except StoppedError:
            found["state"] = "cancelled"
            return
        found["rounds"] = [before.id]
        found["findings"] = {"before": self.archive.sealed_names(before.id)["findings"]}
        watch.step("preview")
        rehearsal = self._play("preview", id_, order, pin, watch)
        found["preview"] = self._kept_run(rehearsal)
        if rehearsal.state in {"cancelled", "timeout"} or watch.stop():
            found["state"] = "timeout" if rehearsal.state == "timeout" else "cancelled"
            return
        if found["carries_out"]:
            self._refuse_other_changes(found["carries_out"], found["preview"], self._changed_so_far(order.resumes))
        found["break_glass"] = found["break_glass"] or self._broken_glass(order)
        watch.step("apply")
        run = self._play("apply", id_, order, pin, watch)
        watch.owed.came_through(host for host, outcome in run.outcomes.items() if outcome in DONE)
        found |= {"run": self._kept_run(run), "state": run.state, "applied_at": stamp(run.ended_at)}
        if run.state in MEASURED and any(outcome in DONE for outcome in run.outcomes.values()):
            watch.step("round_after")
            yet = self._earlier_runs(order.resumes)
            found |= self._measured(id_, looked_at, before, run, yet, watch.look, watch.stop)

    def _play(self, mode: str, id_: str, order: Order, pin: Pin, watch: Watch) -> PlayRun:
        carry = preview if mode == "preview" else apply
        return carry(
            order.play,
            self.settings.inventory_files,
            list(pin.hosts) if mode == "apply" else [asset.name for asset in order.targets],
            self.settings.run_dir / id_,
            hosts=order.targets,
            known_hosts=self.settings.known_hosts_file,
            timeout_seconds=self.settings.play_timeout_minutes * 60,
            clock=self.clock,
            on_event=watch.event,
            cancelled=watch.stop,
            expected=pin,
            given=self.given(),
            owed=order.owed,
        )

    def _changed_so_far(self, run_id: str) -> set[str]:
        """Hosts on which the run that is gone on with, or one before it, has done a part of its work."""
        hosts: set[str] = set()
        while run_id:
            found = self.archive.run(run_id) or {}
            body = found["body"] or {}
            if "run" in body:
                hosts |= {host for host, tally in body["run"].get("recap", {}).items() if tally["changed"]}
            elif body.get("begun", True):  # it was killed, or broke off with an error: how far it came is not known
                hosts |= set(found["hosts"])
            run_id = found["opened"].get("resumes") or ""
        return hosts

    def _refuse_other_changes(self, preview_id: str, rehearsal: Mapping[str, Any], begun: Set[str]) -> None:
        """What would change now must stand in the preview that was approved; what no longer needs changing may not.

        A host on which the approved work has begun is another one than the preview saw: what its new packages brought
        could not be compared then. There playbook and inventory, which are still the same, say what was approved.
        """
        known = self.archive.run(preview_id) or {}
        approved = set(_would_change(known["body"]["run"]))
        if more := [change for change in _would_change(rehearsal) if change[0] not in begun and change not in approved]:
            host, task = more[0][:2]
            raise RefusedError(
                f"Không áp dụng, chưa máy nào bị thay đổi: trên {host}, bước {task!r} nay sẽ thay đổi khác với bản xem"
                f" trước {preview_id}. Hãy xem trước lại.",
                f"Not applied, and no host was changed: on {host}, the task {task!r} would now change something else"
                f" than in the preview {preview_id}. Preview it again.",
            )

    # ----------------------------------------------------------------------------------------- keeping

    def _kept_run(self, run: PlayRun) -> dict[str, Any]:
        """The run as plain values, its events in the vault under ``events_digest``, its files under ``files``."""
        for content in (run.events_raw, *run.files.values()):
            self.archive.vault.put(content)
        document: dict[str, Any] = plain(run.document())
        return document

    def _keep(self, id_: str, order: Order, dossier: Mapping[str, Any], key: SigningKey) -> Link:
        """Close the run: the dossier, and the hospital's signature over its digest."""
        about = {"run": id_, "play": order.play.id, "mode": order.mode, "state": dossier["state"], "by": order.by}
        at = self.clock()

        def sign(digest: str) -> bytes:
            return key.envelope(
                {
                    "_type": "https://in-toto.io/Statement/v1",
                    "subject": [{"name": f"dossier/{id_}", "digest": {"sha256": digest}}],
                    "predicateType": DOSSIER_TYPE,
                    "predicate": about | {"kept_at": stamp(at)},
                }
            )

        applied_at = dossier.get("applied_at")
        return self.archive.close_run(id_, at, dossier["state"], dossier, applied_at=applied_at, sign=sign)

    def signature_of(self, run_id: str) -> dict[str, Any]:
        """Whether the signature beside a dossier holds: ``holds``, ``key`` (fingerprint), ``dossier`` (digest).

        A run kept before dossiers were signed, or closed by an error, has none: ``holds`` is None.
        Raises ``PlayError``, ``VaultError``, ``SigningKeyError``.
        """
        line = self.run_line(run_id)
        key = SigningKey.load(self.settings.keys_dir)
        holds = None
        if line["envelope"]:
            envelope = self.archive.vault.get(line["envelope"])
            holds = signs(envelope, key.public_pem, line["dossier"])
        return {"holds": holds, "key": key.fingerprint, "dossier": line["dossier"], "envelope": line["envelope"]}


def _would_change(run: Mapping[str, Any]) -> list[tuple[str, str, tuple[tuple[str, str], ...]]]:
    """(host, task, [(before, after)]) of every task that would change something."""
    return [
        (task["host"], task["task"], tuple((d["before"], d["after"]) for d in task["diff"]))
        for task in run["tasks"]
        if task["status"] == "would_change"
    ]
