"""What one run is asked for: the play, the hosts it will visit and why others are left out, and its settings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Required, TypedDict

from controlplane.domain.model import Asset, Words
from controlplane.plays.catalogue import Play, PlayError
from controlplane.plays.owed import Handlers
from controlplane.plays.pins import Pin
from controlplane.plays.results import Event

NO_ADDRESS = Words("bỏ qua: chưa có địa chỉ", "skipped: no address yet")


@dataclass(frozen=True)
class Order:
    """Everything one run was asked for."""

    play: Play
    mode: str
    inventory_files: tuple[Path, ...]
    chosen: tuple[Asset, ...]
    left_out: Mapping[str, Words]
    known_hosts: Path
    on_event: Callable[[Event], None] | None = None
    cancelled: Callable[[], bool] | None = None
    forks: int = 10
    connect_timeout_seconds: int = 10
    timeout_seconds: int = 1800
    vault_password_file: Path | None = None
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    keep: bool = False
    expected: Pin | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    owed: Handlers = field(default_factory=dict)


class RunSettings(TypedDict, total=False):
    """Keyword settings of ``preview`` and ``apply``; the first two are compulsory."""

    hosts: Required[Iterable[Asset]]  # every asset the limit may mean
    known_hosts: Required[Path]  # OpenSSH's file, unless a host names its own (emr_known_hosts); else no conversation
    on_event: Callable[[Event], None]  # called as events come, from the run's thread; its errors are only logged
    cancelled: Callable[[], bool]  # asked about once a second
    forks: int  # hosts at a time, 10
    connect_timeout_seconds: int  # 10
    timeout_seconds: int  # of the whole run, 1800
    vault_password_file: Path
    clock: Callable[[], datetime]
    expected: Pin  # refuse to run when playbook, inventory or hosts are other ones
    keep: bool  # leave the private folder for a look by hand, False
    given: Mapping[str, Any]  # variables of the control plane's own, which no inventory can replace
    owed: Handlers  # what earlier runs notified on these hosts and did not come to; done where the play has the role


def choose(play: Play, limit: Sequence[str], hosts: Sequence[Asset]) -> tuple[tuple[Asset, ...], dict[str, Words]]:
    """The hosts to visit, and those of the limit that are left out with the reason.

    The limit is resolved here and handed to Ansible as plain names, so no pattern of Ansible's can widen it.
    """
    terms = [term.strip() for term in (limit.split(",") if isinstance(limit, str) else limit) if term.strip()]
    if not terms:
        raise PlayError(
            "Phải nêu rõ máy hoặc nhóm máy sẽ chạy; giới hạn rỗng bị từ chối.",
            "Name the hosts or groups to run on; an empty limit is refused.",
        )
    wanted: dict[str, Asset] = {}
    for term in terms:
        named = [asset for asset in hosts if term == asset.name or term in asset.roles or term == "all"]
        if not named:
            raise PlayError(
                f"Không có máy hay nhóm máy nào tên là {term!r} trong kho thiết bị.",
                f"No host or group of the inventory is called {term!r}.",
            )
        wanted.update((asset.name, asset) for asset in named)
    left_out: dict[str, Words] = {}
    for asset in wanted.values():
        if reason := _why_left_out(play, asset):
            left_out[asset.name] = reason
    chosen = tuple(asset for asset in wanted.values() if asset.name not in left_out)
    if not chosen:
        names = "; ".join(f"{name}: {words.en}" for name, words in sorted(left_out.items()))
        raise PlayError(
            f"Không còn máy nào để chạy: {'; '.join(f'{n}: {w.vi}' for n, w in sorted(left_out.items()))}.",
            f"No host is left to run on: {names}.",
        )
    return chosen, left_out


def _why_left_out(play: Play, asset: Asset) -> Words | None:
    if play.hosts != "all" and play.hosts not in asset.roles:
        return Words(f"bỏ qua: không thuộc nhóm {play.hosts}", f"skipped: not in the group {play.hosts}")
    connection = _connection(asset)
    if connection not in {"ssh", "local"}:
        return Words(f"bỏ qua: chưa hỗ trợ kết nối {connection}", f"skipped: connection {connection} is not supported")
    return NO_ADDRESS if asset.address is None and connection != "local" else None


def _connection(asset: Asset) -> str:
    """ssh, local, or whatever else the inventory names; only those two are bound to the list of known hosts."""
    named = str(asset.access.get("ansible_connection", "ssh")).removeprefix("ansible.builtin.")
    return "ssh" if named == "smart" else named


def refuse_missing_files(order: Order) -> None:
    """Raise PlayError naming the first file that the run needs and that is not there."""
    needed = [order.play.playbook, *order.inventory_files]
    over_ssh = [asset for asset in order.chosen if _connection(asset) == "ssh"]
    needed += sorted({Path(asset.access.get("emr_known_hosts", order.known_hosts)) for asset in over_ssh})
    if order.vault_password_file:
        needed.append(order.vault_password_file)
    for path in needed:
        if not path.exists():
            raise PlayError(
                f"Thiếu tệp {path.name} mà kịch bản {order.play.id} cần.",
                f"The file {path.name} that the play {order.play.id} needs is missing.",
            )
    if not order.inventory_files:
        raise PlayError("Chưa nêu tệp kho thiết bị nào.", "No inventory file was given.")
    if not (scripts() / "ansible-playbook").is_file():
        raise PlayError(
            "Chưa cài ansible-core cạnh chương trình này, nên không chạy được kịch bản.",
            "ansible-core is not installed beside this program, so no play can run.",
        )


def scripts() -> Path:
    """The folder of this Python's programs; inside a virtual environment, that one's."""
    return Path(sys.executable).parent
