"""A playbook of 30 tasks through our runs (locks, links, live events, evidence) against bare `ansible-playbook`.

Interleaved in one run, on this machine over the local connection; prints ratios. ``preview``: check mode with
differences. ``apply``: the apply alone, with its events kept. ``whole``: all that an order to apply does: the round
before, the preview again, the apply, the round after, what moved, the signed dossier and its links; the peer applies.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from controlplane.bootstrap import Plane, init_store  # noqa: E402  # of this checkout, whatever is installed
from controlplane.bootstrap.acting import Order, Watch  # noqa: E402
from controlplane.plays import apply  # noqa: E402
from controlplane.settings import Settings  # noqa: E402

TASKS = 30
MODES = {"preview": "preview", "apply": "apply", "whole": "apply"}
GOALS = {"preview": "goal at most 1.10", "apply": "goal at most 1.10", "whole": "two rounds and a preview are in it"}
WORDS = {"vi": "đo", "en": "measure"}


def a_plane(folder: Path) -> Plane:
    """A store over the shipped rules with one more play, for this machine alone."""
    home = folder / "home"
    for name in ("checks", "playbooks", "inventory"):
        shutil.copytree(ROOT / name, home / name)
    book = [{"name": "Measure", "hosts": "controlplane", "gather_facts": False, "tasks": tasks(folder)}]
    (home / "playbooks" / "measure.yml").write_text(yaml.safe_dump(book, sort_keys=False), encoding="utf-8")
    listed = yaml.safe_load((home / "playbooks" / "plays.yaml").read_text(encoding="utf-8"))
    entry = {"id": "measure", "playbook": "measure.yml", "title": WORDS, "summary": WORDS, "hosts": "controlplane"}
    listed["plays"].append(entry | {"disruptive": False, "approval": "none"})
    (home / "playbooks" / "plays.yaml").write_text(yaml.safe_dump(listed, allow_unicode=True), encoding="utf-8")
    return init_store(Settings(home=home, data_dir=folder / "data", round_every_minutes=0))


def tasks(folder: Path) -> list[dict[str, object]]:
    """Thirty files, each written anew every time: half of them whole, half of them a line in one."""
    made: list[dict[str, object]] = []
    for number in range(TASKS // 2):
        path = str(folder / f"file-{number}")
        text = "level = {{ 1000 | random }}\n"
        made.append({"name": f"Write {number}", "ansible.builtin.copy": {"dest": path, "content": text}})
        line = {"path": path, "line": "more = yes", "create": True}
        made.append({"name": f"Add {number}", "ansible.builtin.lineinfile": line})
    return made


def spent() -> float:
    """Processor seconds of this process and of those that it waited for, so far."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def measured(side: Callable[[Plane, str], float], plane: Plane, mode: str) -> tuple[float, float]:
    """(wall seconds, processor seconds) of one run."""
    before = spent()
    return side(plane, mode), spent() - before


def ours(plane: Plane, mode: str) -> float:
    """Wall seconds of one run, from the order to the link in the chain."""
    inventory, _ = plane.inventory()
    order = Order(plane.play("measure"), MODES[mode], tuple(inventory.select(["controlplane-01"])))
    begun = time.perf_counter()
    if mode != "apply":
        dossier = plane.carry_out(order, Watch())
        state = dossier["state"]
        assert mode == "preview" or len(dossier["rounds"]) == 2, "an apply looks before and after"
    else:
        run = apply(
            order.play,
            plane.settings.inventory_files,
            ["controlplane-01"],
            plane.settings.run_dir / "measure",
            hosts=order.targets,
            known_hosts=plane.settings.known_hosts_file,
        )
        plane.archive.vault.put(run.events_raw)
        state = run.state
    took = time.perf_counter() - begun
    assert state == "successful", state
    return took


def theirs(plane: Plane, mode: str) -> float:
    """Wall seconds of ansible-playbook with the same playbook, inventory and settings, its output thrown away."""
    home = plane.settings.home
    argv = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(home / "inventory" / "hosts.yaml")]
    argv += ["--limit", "controlplane-01", "--diff", *(["--check"] if mode == "preview" else [])]
    path = (
        f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # as ours has it
    )
    env = os.environ | {
        "PATH": path,
        "ANSIBLE_CONFIG": str(home / "playbooks" / "ansible.cfg"),
        "ANSIBLE_PIPELINING": "True",
    }
    begun = time.perf_counter()
    subprocess.run([*argv, str(home / "playbooks" / "measure.yml")], env=env, check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--mode", choices=tuple(MODES), help="only this one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        plane = a_plane(Path(scratch))
        theirs(plane, "apply")  # both sides find warm caches and the files there
        for mode in [options.mode] if options.mode else MODES:
            mine, peer = [], []
            for _ in range(options.repeat):
                peer.append(measured(theirs, plane, mode))
                mine.append(measured(ours, plane, mode))
            wall, work = ([a[at] / b[at] for a, b in zip(mine, peer, strict=True)] for at in (0, 1))
            print(
                f"{mode}, {TASKS} tasks: ours {statistics.median(a for a, _ in mine):.2f} s, ansible-playbook"
                f" {statistics.median(a for a, _ in peer):.2f} s; ratio {statistics.median(wall):.2f}"
                f" ({min(wall):.2f} to {max(wall):.2f}), of processor time {statistics.median(work):.2f}; {GOALS[mode]}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
