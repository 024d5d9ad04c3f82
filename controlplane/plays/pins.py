"""What a preview was a preview of: play, hosts, playbooks, inventory; so that nothing else is applied in its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.domain.model import Words
from controlplane.plays.digests import commit_of, inventory_digest, playbook_digest


@dataclass(frozen=True)
class Pin:
    """One exact change. The commit is told beside it and compared with nothing: the digests say more."""

    play: str
    hosts: tuple[str, ...]  # sorted
    playbook_digest: str
    inventory_digest: str
    commit: str | None = None
    shipped: tuple[tuple[str, str], ...] = ()  # (file of this machine that the play brings along, its SHA-256)

    def document(self) -> dict[str, Any]:
        """The pin as JSON-able values."""
        return {
            "play": self.play,
            "hosts": list(self.hosts),
            "playbook_digest": self.playbook_digest,
            "inventory_digest": self.inventory_digest,
            "commit": self.commit,
            "shipped": dict(self.shipped),
        }

    def difference(self, now: Pin) -> Words | None:
        """What is another thing now, in the order in which somebody would look for it; None when nothing is."""
        found = []
        if now.play != self.play:
            found.append(Words(f"kịch bản là {now.play}, không phải {self.play}", f"the play is {now.play}"))
        if now.playbook_digest != self.playbook_digest:
            found.append(Words("tệp kịch bản đã đổi", "the playbook has changed"))
        if now.inventory_digest != self.inventory_digest:
            found.append(Words("kho thiết bị đã đổi", "the inventory has changed"))
        # What is left to be resumed may bring less along; which hosts that are is asked below.
        for name in sorted(name for name, digest in now.shipped if dict(self.shipped).get(name) != digest):
            found.append(Words(f"tệp {name} đã đổi", f"the file {name} has changed"))
        if now.hosts != self.hosts:
            was, are = ", ".join(self.hosts), ", ".join(now.hosts)
            found.append(
                Words(f"các máy đã đổi (trước: {was}; nay: {are})", f"the hosts have changed (were: {was}; are: {are})")
            )
        if not found:
            return None
        return Words("; ".join(w.vi for w in found), "; ".join(w.en for w in found))


def pin_from(document: Mapping[str, Any]) -> Pin:
    """The pin that ``Pin.document`` wrote."""
    shipped = tuple(sorted((document.get("shipped") or {}).items()))
    return Pin(**{**document, "hosts": tuple(document["hosts"]), "shipped": shipped})


def pin_now(
    play: str,
    playbook: Path,
    inventory_files: Sequence[Path],
    hosts: Sequence[str],
    given: Mapping[str, Any] | None = None,
    shipped: Mapping[str, str] | None = None,
) -> Pin:
    """The pin of a play as its files are on the disk at this moment."""
    folder = playbook.resolve().parent
    files = tuple(Path(path).resolve() for path in inventory_files)
    inventory = inventory_digest(files, given)
    brought = tuple(sorted((shipped or {}).items()))
    return Pin(play, tuple(sorted(hosts)), playbook_digest(folder), inventory, commit_of(folder), brought)
