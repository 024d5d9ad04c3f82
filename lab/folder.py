"""The lab's folder: where things lie, the lock, and what is remembered of running hosts; it refuses odd paths."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent


class LabError(Exception):
    """Something a person must know: one clear sentence."""


def say(text: str) -> None:
    """Print one line of progress at once, also into a pipe."""
    print(text, flush=True)


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace ``path`` in one step, so that a reader or a crash never meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(text)
    part.chmod(mode)
    part.replace(path)


@dataclass(frozen=True)
class Folder:
    """The lab's folder and the names of what it holds."""

    path: Path

    @classmethod
    def chosen(cls) -> Folder:
        """``.lab`` of this repository, or what EMRCTL_LAB_DIR says."""
        path = Path(os.environ.get("EMRCTL_LAB_DIR") or REPOSITORY / ".lab").absolute()
        if any(sign in str(path) for sign in ":,\\\n ") or len(str(path)) > 200:
            raise LabError(
                f"The lab's folder {path} holds a space, colon, comma or backslash, or its name is too long, and mount "
                "cannot take that; set EMRCTL_LAB_DIR to another folder."
            )
        return cls(path)

    @property
    def bases(self) -> Path:
        """Where the base trees lie; several labs may share them (EMRCTL_LAB_BASE)."""
        return Path(os.environ.get("EMRCTL_LAB_BASE") or self.path / "base").absolute()

    @property
    def inventory(self) -> Path:
        """The Ansible overlay with the addresses of the lab's hosts."""
        return self.path / "inventory.yaml"

    @property
    def guest_inventory(self) -> Path:
        """The Ansible overlay with the address of the guest, which is there while the guest is up."""
        return self.path / "guest-inventory.yaml"

    @property
    def guest(self) -> Path:
        """What belongs to the QEMU guest: its images, and below ``run`` what one start of it needs."""
        return self.path / "guest"

    @property
    def hospital(self) -> Path:
        """The overlay of the whole lab: every host of the other one, and all the rest with the probes."""
        return self.path / "hospital.yaml"

    @property
    def vlans(self) -> Path:
        """The hospital's VLAN plan with the lab's subnets."""
        return self.path / "vlans.yaml"

    @property
    def known_hosts(self) -> Path:
        """The public host keys of all hosts, in the form of OpenSSH."""
        return self.path / "known_hosts"

    def key(self, name: str) -> Path:
        """The private key ``reader`` or ``play``."""
        return self.path / "keys" / name

    def secret(self, name: str) -> Path:
        """The file of one SNMP secret."""
        return self.path / "secrets" / name

    def host_dir(self, name: str) -> Path:
        """What belongs to one host: its writable layer, mount point and console log."""
        return self.path / "hosts" / name

    def host_keys(self, name: str) -> Path:
        """The SSH host keys of one host, kept over ``up --fresh``."""
        return self.path / "hostkeys" / name

    def remembered(self) -> dict[str, Any]:
        """What the last command wrote about running hosts; empty after a reboot of this machine."""
        try:
            state = json.loads((self.path / "state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {"hosts": {}}
        if not isinstance(state, dict) or state.get("boot") != boot_id():
            return {"hosts": {}}
        return state

    def remember(self, state: dict[str, Any]) -> None:
        """Keep what must be known to end exactly our own processes later."""
        text = json.dumps({**state, "boot": boot_id()}, indent=1, sort_keys=True)
        write_whole(self.path / "state.json", text + "\n", 0o600)

    @contextlib.contextmanager
    def locked(self, patience_seconds: float = 600.0) -> Iterator[None]:
        """Hold the folder alone; a second command waits, and says so."""
        with alone(self.path / "lock", patience_seconds):
            yield


@contextlib.contextmanager
def alone(path: Path, patience_seconds: float = 600.0) -> Iterator[None]:
    """Hold a lock file; a second command waits, and says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        end = time.monotonic() + patience_seconds
        told = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise LabError("Another script/lab has been at work here for too long.") from None
                if not told:
                    print("Another script/lab is at work here; waiting for it.", file=sys.stderr, flush=True)
                    told = True
                time.sleep(0.2)
        yield


def boot_id() -> str:
    """What tells this start of the machine from any other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
