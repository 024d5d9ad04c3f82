"""Two people for one change: somebody asks for the apply of a preview, somebody else with another role answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from controlplane.bootstrap.following import Following
from controlplane.domain.model import Words
from controlplane.plays import Pin, Play, PlayError, pin_from, pin_of
from controlplane.store.accounts import Account

ASKERS = ("engineer", "admin")
ANSWERERS = ("director", "engineer", "admin")
"""Roles that may approve or refuse, when another role asked. An auditor looks and decides nothing."""

SECOND_ROLE = "second_role"


class Approving(Following):
    """Requests for an apply and their answers, all in the chain."""

    def request_approval(self, run_id: str, by: str, note: str = "") -> dict[str, Any]:
        """Ask for the apply of exactly this preview. Raises ``PlayError``."""
        with self.archive.lock("approval", wait=True):
            account = self._person(by, ASKERS)
            found = self._previewed(run_id)
            if found["approval"] is not None:
                raise PlayError(
                    f"Bản xem trước {run_id} đã có yêu cầu phê duyệt ({found['approval']}). Hãy xem trước lại.",
                    f"The preview {run_id} has an approval on it already ({found['approval']}). Preview it again.",
                )
            self._refuse_another_pin(pin_from(found["opened"]["pin"]), found["hosts"])
            return self._decide(found, "requested", account, note)

    def approve_run(self, run_id: str, by: str, note: str = "") -> dict[str, Any]:
        """Say yes to the apply of exactly this preview. Raises ``PlayError``: not asked for, one's own, changed."""
        with self.archive.lock("approval", wait=True):
            account, found = self._second(run_id, by)
            self._refuse_another_pin(pin_from(found["opened"]["pin"]), found["hosts"])
            return self._decide(found, "approved", account, note)

    def refuse_run(self, run_id: str, by: str, reason: str) -> dict[str, Any]:
        """Say no, with a reason. It is final: another preview may be asked for. Raises ``PlayError``."""
        if not reason.strip():
            raise PlayError("Từ chối thì phải nêu lý do.", "A refusal needs a reason.")
        with self.archive.lock("approval", wait=True):
            account, found = self._second(run_id, by)
            return self._decide(found, "refused", account, reason)

    def approval_for(self, play: Play, preview_id: str, pin: Pin) -> tuple[str, list[dict[str, Any]]]:
        """(preview to carry out, what was asked and answered about it); ("", []) when the play needs none.

        Raises ``PlayError`` when it needs one and none stands for exactly this change.
        """
        needed = self.needs_second_role(play, pin.hosts)
        if not preview_id and not needed:
            return "", []
        found = self._previewed(preview_id) if preview_id else self._newest_approved(play, pin)
        self._refuse_unanswered(play, found, needed=needed)
        if other := pin_from(found["opened"]["pin"]).difference(pin):
            raise _changed(found["id"], other)
        decisions = self.archive.decisions(found["id"])
        if needed:
            self._refuse_lapsed(found["id"], decisions)
        return found["id"], decisions

    def lapsed(self, preview_id: str, decisions: Sequence[Mapping[str, Any]]) -> Words | None:
        """Why the yes to a preview holds no longer; None while it does.

        It is good for ``approval_days``, and as long as who gave it has the account and the role to give it.
        """
        days = self.settings.approval_days
        for yes in (decision for decision in decisions if decision["state"] == "approved"):
            if self.clock() - datetime.fromisoformat(yes["at"]) > timedelta(days=days):
                return Words(
                    f"Phê duyệt của bản xem trước {preview_id} đã quá {days} ngày. Hãy xem trước và đề nghị lại.",
                    f"The approval of the preview {preview_id} is more than {days} days old. Preview and ask again.",
                )
            account = self.accounts.find(yes["by"])
            if account is None or account.disabled or account.role != yes["role"]:
                return Words(
                    f"Người phê duyệt bản xem trước {preview_id} là {yes['by']} ({yes['role']}), nay không còn tài"
                    " khoản hoặc vai trò đó. Hãy xem trước và đề nghị lại.",
                    f"The preview {preview_id} was approved by {yes['by']} ({yes['role']}), who no longer has that"
                    " account or role. Preview and ask again.",
                )
        return None

    def _refuse_lapsed(self, preview_id: str, decisions: Sequence[Mapping[str, Any]]) -> None:
        if why := self.lapsed(preview_id, decisions):
            raise PlayError(why.vi, why.en)

    def needs_second_role(self, play: Play, hosts: Iterable[str]) -> bool:
        """Whether somebody with another role has to say yes: for the play itself, or for one of these hosts."""
        return play.approval == SECOND_ROLE or bool(self.strict_hosts(hosts))

    def strict_hosts(self, hosts: Iterable[str]) -> tuple[str, ...]:
        """Those on which every play needs a second role: ``emr_approval: second_role`` in the inventory."""
        inventory, _ = self.inventory()
        assets = (inventory.assets.get(host) for host in sorted(hosts))
        return tuple(a.name for a in assets if a is not None and a.access.get("emr_approval") == SECOND_ROLE)

    def _refuse_unanswered(self, play: Play, found: Mapping[str, Any], *, needed: bool) -> None:
        if needed and found["approval"] != "approved":
            word = found["approval"] or "-"
            raise PlayError(
                f"Kịch bản {play.id} trên các máy này cần người có vai trò khác phê duyệt; bản xem trước"
                f" {found['id']}: {word}.",
                f"The play {play.id} on these hosts needs the approval of a second role; the preview"
                f" {found['id']}: {word}.",
            )
        if users := self.archive.runs(1, preview=found["id"]):
            used = users[0]["id"]
            raise PlayError(
                f"Bản xem trước {found['id']} đã được áp dụng ở lần chạy {used}. Hãy xem trước lại, hoặc chạy tiếp"
                " lần chạy đó.",
                f"The preview {found['id']} was carried out by the run {used}. Preview it again, or resume that run.",
            )

    def _newest_approved(self, play: Play, pin: Pin) -> dict[str, Any]:
        """The newest of these hosts; that of others says nothing about them."""
        for run in self.archive.unused_approvals(play.id):
            if run["hosts"] == list(pin.hosts):
                return self._previewed(run["id"])
        raise PlayError(
            f"Kịch bản {play.id} trên các máy này cần người có vai trò khác phê duyệt trước khi áp dụng: xem"
            " trước (preview), đề nghị phê duyệt (request), rồi người kia phê duyệt (approve).",
            f"The play {play.id} on these hosts needs the approval of a second role before it is applied: preview"
            " it, request the approval, and the other one approves.",
        )

    def _previewed(self, run_id: str) -> dict[str, Any]:
        """A preview that ended well enough to be carried out. Raises ``PlayError``."""
        self.run_line(run_id)
        found = self.archive.run(run_id) or {}
        ended_well = found["mode"] == "preview" and found["state"] in {"successful", "unreachable"}
        if not ended_well or "pin" not in found["opened"]:
            raise PlayError(
                f"Lần chạy {run_id} không phải một bản xem trước thành công ({found['mode']}, {found['state']}).",
                f"The run {run_id} is not a preview that ended well ({found['mode']}, {found['state']}).",
            )
        return found

    def _second(self, run_id: str, by: str) -> tuple[Account, dict[str, Any]]:
        """Who answers, and the preview that waits for it. Raises ``PlayError``."""
        account, found = self._person(by, ANSWERERS), self._previewed(run_id)
        asked = next((d for d in self.archive.decisions(run_id) if d["state"] == "requested"), None)
        if asked is None or found["approval"] != "requested":
            raise PlayError(
                f"Bản xem trước {run_id} không chờ ai phê duyệt ({found['approval'] or '-'}).",
                f"The preview {run_id} waits for nobody's approval ({found['approval'] or '-'}).",
            )
        if account.name == asked["by"] or account.role == asked["role"]:
            raise PlayError(
                f"Người đề nghị là {asked['by']} ({asked['role']}); phải là người khác, có vai trò khác trả lời.",
                f"It was asked for by {asked['by']} ({asked['role']}); somebody else with another role has to answer.",
            )
        return account, found

    def _person(self, name: str, roles: tuple[str, ...]) -> Account:
        """An account that may do this. One that still has its one-time password is nobody's own yet."""
        account = self.accounts.find(name)
        if account is None or account.disabled or account.must_change or account.role not in roles:
            raise PlayError(
                f"Tài khoản {name!r} không được làm việc này: phải là tài khoản đang dùng, đã tự đặt mật khẩu, có một"
                f" trong các vai trò: {', '.join(roles)}.",
                f"The account {name!r} may not do this: it must be in use, have a password of its own, and one of the"
                f" roles {', '.join(roles)}.",
            )
        return account

    def _decide(self, found: Mapping[str, Any], state: str, account: Account, note: str) -> dict[str, Any]:
        pin = found["opened"]["pin"]
        about = {"role": account.role, "note": note.strip(), "pin": pin, "dossier": found["dossier"]}
        link = self.archive.decide_run(found["id"], self.clock(), state, account.name, **about)
        return {
            "run": found["id"],
            "play": found["play"],
            "state": state,
            "by": account.name,
            "seal": link.seal,
        } | about

    def _refuse_another_pin(self, pin: Pin, hosts: list[str]) -> None:
        """Nobody is asked to approve what would be refused afterwards."""
        inventory, _ = self.inventory()
        if gone := [host for host in hosts if host not in inventory.assets]:
            names = ", ".join(gone)
            raise PlayError(f"Kho thiết bị không còn {names}.", f"The inventory no longer holds {names}.")
        play = self.play(pin.play)
        now = pin_of(play, self.settings.inventory_files, hosts, inventory.assets.values(), self.given())
        if other := pin.difference(now):
            raise _changed("", other)

    def play(self, play_id: str) -> Play:
        """A play by its id. Raises ``PlayError`` naming those there are."""
        if play_id not in self.plays:
            near = ", ".join(self.plays)
            raise PlayError(
                f"Không có playbook {play_id}. Hiện có: {near}.", f"There is no play {play_id}. There are: {near}."
            )
        return self.plays[play_id]


def _changed(preview_id: str, other: Any) -> PlayError:
    which = f" {preview_id}" if preview_id else ""
    return PlayError(
        f"Từ chối, chưa máy nào bị thay đổi: so với bản xem trước{which}, {other.vi}. Hãy xem trước lại.",
        f"Refused, and no host was changed: against the preview{which}, {other.en}. Preview it again.",
    )
