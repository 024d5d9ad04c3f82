"""One whole local round against `oscap xccdf eval`, in one run, interleaved; prints a ratio and both counts of rules.

Needs the Debian packages openscap-scanner and ssg-debian, and root (both read files that only root may read).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONTENT = Path("/usr/share/xml/scap/ssg/content/ssg-debian11-ds.xml")
PROFILE = "xccdf_org.ssgproject.content_profile_anssi_np_nt28_minimal"
ROUND = """
import json, sys, time
from pathlib import Path
from controlplane.bootstrap import open_plane
from controlplane.settings import read_settings
plane = open_plane(read_settings(data_dir=Path(sys.argv[1])))
plane.catalog
for line in sys.stdin:
    begun = time.perf_counter()
    kept = plane.make_round(["controlplane-01"])
    took = time.perf_counter() - begun
    _, findings = plane.archive.sealed(kept.id)
    judged = sum(1 for f in findings if f.asset == "controlplane-01" and f.observation)
    print(json.dumps({"seconds": took, "rules": judged}), flush=True)
"""


def accept_this_release(folder: Path) -> Path:
    """A copy of the content whose platform test accepts any Debian version."""
    text = CONTENT.read_text(encoding="utf-8")
    changed = re.sub(r"\^11\.\[0-9\]\+\$", r"^1[0-9]\\.[0-9]+$", text)
    copy = folder / "content.xml"
    copy.write_text(changed, encoding="utf-8")
    return copy


def one_oscap(content: Path) -> tuple[float, dict[str, int]]:
    """Wall seconds, and result word -> rules."""
    begun = time.perf_counter()
    argv = ["oscap", "xccdf", "eval", "--profile", PROFILE, str(content)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    took = time.perf_counter() - begun
    counts: dict[str, int] = {}
    for word in re.findall(r"^Result\s+(\S+)", done.stdout, re.MULTILINE):
        counts[word] = counts.get(word, 0) + 1
    return took, counts


def one_process(data: Path) -> float:
    """Wall seconds of a whole `emrctl round`, interpreter start included."""
    begun = time.perf_counter()
    argv = [sys.executable, "-m", "controlplane", "--data-dir", str(data), "round", "--limit", "controlplane-01"]
    subprocess.run(argv, cwd=ROOT, capture_output=True, check=True)
    return time.perf_counter() - begun


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    if not shutil.which("oscap") or not CONTENT.exists():
        print("oscap or ssg-debian is missing: apt-get install openscap-scanner ssg-debian")
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        content, data = accept_this_release(folder), folder / "data"
        argv = [sys.executable, "-m", "controlplane", "--data-dir", str(data)]
        subprocess.run([*argv, "init"], cwd=ROOT, check=True, capture_output=True)
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        rounds = subprocess.Popen(
            [sys.executable, "-c", ROUND, str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        assert rounds.stdin is not None
        assert rounds.stdout is not None
        ours, whole, theirs, rules, counts = [], [], [], 0, {}
        for _ in range(options.repeat):
            rounds.stdin.write("go\n")
            rounds.stdin.flush()
            said = json.loads(rounds.stdout.readline())
            ours.append(said["seconds"])
            rules = said["rules"]
            took, counts = one_oscap(content)
            theirs.append(took)
            whole.append(one_process(data))
        rounds.stdin.close()
        rounds.wait(timeout=30)
    report(ours, whole, theirs, rules, counts)
    return 0


def report(ours: list[float], whole: list[float], theirs: list[float], rules: int, counts: dict[str, int]) -> None:
    """Medians, and the ratios."""
    evaluated = sum(n for word, n in counts.items() if word != "notapplicable")
    mine, process, peer = statistics.median(ours), statistics.median(whole), statistics.median(theirs)
    print(f"round in a running control plane: {mine:.2f} s, {rules} rules judged on real facts")
    print(f"`emrctl round`, process start included: {process:.2f} s")
    print(f"oscap, ANSSI minimal: {peer:.2f} s, {sum(counts.values())} rules, {evaluated} evaluated {counts}")
    print(f"ratio of wall time: {mine / peer:.2f} (process start included: {process / peer:.2f}); goal at most 1.5")
    print(f"ratio of rules: {rules / max(1, sum(counts.values())):.2f}; goal at least 3")
    print(f"ratio of wall time per rule: {mine / max(1, rules) / (peer / max(1, evaluated)):.2f}")


if __name__ == "__main__":
    sys.exit(main())
