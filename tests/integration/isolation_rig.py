"""Probes in network namespaces around a real nftables router: small enough to stand up in a second.

Every namespace is made here under a name of this process and removed again; nothing can leave them.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controlplane.collect.facts import FACTS
from controlplane.collect.facts.shell import build_script, split_output
from controlplane.domain.isolation import Place, probe_plans
from controlplane.domain.model import Reply

ROOT = Path(__file__).resolve().parents[2]
RESPONDER = ROOT / "playbooks" / "roles" / "isolation_probe" / "files" / "emrctl-probe"
FACT = FACTS["probe.attempts"]
# A mount namespace of its own, in which /etc has the probe's plan; process 1 of nothing, so it ends with its parent.
_INSIDE = """
set -eu
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir "$1/up" "$1/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$1/up,workdir=$1/work" overlay /etc
mkdir -p /etc/emrctl
cp "$2" /etc/emrctl/probe-plan.json
shift 2
exec "$@"
"""


@dataclass
class Rig:
    """A router with one leg for each place, and a probe on each. ``vlans`` are (name, id)."""

    folder: Path
    vlans: Sequence[tuple[str, int]]
    allow: list[dict[str, Any]]
    prefix: str = field(default_factory=lambda: f"iso-{os.getpid()}")
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def places(self) -> list[Place]:
        """Where the probes stand; number 255 is the outside."""
        return [Place(f"probe-{name}", name, f"10.79.{number}.9") for name, number in self.vlans]

    def ip(self, *words: str, inside: str = "") -> None:
        """One command of iproute2, in a namespace of the rig where one is named."""
        chosen = ["-n", f"{self.prefix}-{inside}"] if inside else []
        subprocess.run(["ip", *chosen, *words], check=True, capture_output=True, text=True)

    def up(self) -> None:
        """Namespaces, cables, addresses, routes, and the rules of the matrix."""
        self.ip("netns", "add", f"{self.prefix}-fw")
        self.inside("fw", ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])
        for name, number in self.vlans:
            namespace = f"{self.prefix}-{name}"
            self.ip("netns", "add", namespace)
            leg = f"v{number}"
            self.ip("link", "add", leg, "type", "veth", "peer", "name", "eth1", "netns", namespace, inside="fw")
            self.ip("addr", "add", f"10.79.{number}.1/24", "dev", leg, inside="fw")
            self.ip("link", "set", leg, "up", inside="fw")
            self.ip("link", "set", "lo", "up", inside=name)
            self.ip("addr", "add", f"10.79.{number}.9/24", "dev", "eth1", inside=name)
            self.ip("link", "set", "eth1", "up", inside=name)
            self.ip("route", "add", "10.79.0.0/16", "via", f"10.79.{number}.1", inside=name)
        self.rules()

    def rules(self, *more: str) -> None:
        """The firewall as the matrix wants it, and ``more`` rules before: each the text of one nftables rule."""
        numbers = dict(self.vlans)
        lines = [
            f'iifname "v{numbers[row["source"]]}" oifname "v{numbers[row["target"]]}" {kind} dport {port} accept'
            for row in self.allow
            for kind, port in (service.split("/") for service in row["services"])
        ]
        rules = "\n".join(["ct state established,related accept", *more, *lines])
        hooks = (
            f"chain forward {{ type filter hook forward priority 0; policy drop;\n{rules}\n}}\n"
            "chain input { type filter hook input priority 0; policy drop; }"
        )
        self.inside("fw", ["nft", "-f", "-"], text=f"flush ruleset\ntable inet emr {{\n{hooks}\n}}\n")

    def inside(self, name: str, argv: Sequence[str], text: str = "") -> str:
        """Run a program in a namespace of the rig."""
        full = ["nsenter", f"--net=/run/netns/{self.prefix}-{name}", *argv]
        return subprocess.run(full, input=text, check=True, capture_output=True, text=True).stdout

    def _probe(self, one: Place, argv: Sequence[str]) -> list[str]:
        plan = self.folder / f"{one.probe}.json"
        plan.write_text(json.dumps(probe_plans(self.places, self.allow)[one.probe]))
        scratch = self.folder / f"etc-{one.probe}"
        scratch.mkdir(exist_ok=True)
        enter = ["nsenter", f"--net=/run/netns/{self.prefix}-{one.place}", "unshare", "--mount"]
        return [*enter, "sh", "-c", _INSIDE, "sh", str(scratch), str(plan), *argv]

    def listen(self, *but: str) -> None:
        """Start the responder of every probe but those named, and wait until they listen."""
        for one in self.places:
            if one.place not in (*but, *self.started):
                self.started[one.place] = subprocess.Popen(self._probe(one, ["/usr/bin/python3", "-I", str(RESPONDER)]))
        until = time.monotonic() + 10
        for place in self.started:
            while "10.79" not in self.inside(place, ["ss", "-Hlntu"]):
                assert time.monotonic() < until, f"the responder of {place} does not listen"
                time.sleep(0.05)

    def silence(self, place: str) -> None:
        """End the responder of one probe."""
        with contextlib.suppress(KeyError):
            process = self.started.pop(place)
            process.terminate()
            process.wait(10)

    def look(self, *only: str) -> dict[str, Reply]:
        """Every probe's answer to the one question, all at once as in a round: probe -> reply."""
        script = build_script([FACT]).encode()

        def ask(one: Place) -> tuple[str, Reply]:
            done = subprocess.run(self._probe(one, ["sh", "-s"]), input=script, capture_output=True, check=False)
            (reply,) = split_output(done.stdout, [FACT])
            return one.probe, reply

        chosen = [one for one in self.places if not only or one.place in only]
        with ThreadPoolExecutor(len(chosen)) as pool:
            return dict(pool.map(ask, chosen))

    def down(self) -> None:
        """End what was started and remove every namespace."""
        for place in list(self.started):
            self.silence(place)
        for name in ("fw", *(name for name, _ in self.vlans)):
            subprocess.run(["ip", "netns", "del", f"{self.prefix}-{name}"], check=False, capture_output=True)


@contextlib.contextmanager
def rig(folder: Path, vlans: Sequence[tuple[str, int]], allow: list[dict[str, Any]]) -> Iterator[Rig]:
    """A rig that stands while the block lasts."""
    one = Rig(folder, vlans, allow)
    try:
        one.up()
        yield one
    finally:
        one.down()
