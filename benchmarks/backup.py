"""The house's wrapper around restic against bare restic on the same repository, in one run, interleaved; a ratio.

Needs restic (script/restic finds or fetches it). Each pair saves the same changed files; who goes first alternates.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from controlplane.backup.repository import Repository, make_environment  # noqa: E402
from controlplane.backup.restic import ask, backup, snapshots  # noqa: E402

FILES, BYTES = 60, 500_000
GOAL = 1.05  # of the wall time of restic alone


def change(data: Path) -> None:
    """Half of the files anew."""
    for number in range(0, FILES, 2):
        (data / str(number)).write_bytes(os.urandom(BYTES))


def ours(repository: Repository, data: Path) -> float:
    """Seconds of one backup and one list through the wrapper."""
    begun = time.perf_counter()
    backup(repository, [str(data)], tags=["bench"], host="bench")
    snapshots(repository, "bench")
    return time.perf_counter() - begun


def bare(repository: Repository, data: Path) -> float:
    """Seconds of the same by restic alone, with the same options of output and in the same environment."""
    begun = time.perf_counter()
    words = (["backup", "--host", "bench", "--tag", "bench", str(data)], ["--no-lock", "snapshots", "--tag", "bench"])
    for argv in words:
        command = [repository.program, "--json", *argv]
        subprocess.run(command, env=make_environment(repository), capture_output=True, check=True)
    return time.perf_counter() - begun


def main() -> int:
    """Measure and print; 1 above the goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=9)
    options = parser.parse_args()
    found = subprocess.run([ROOT / "script" / "restic"], capture_output=True, text=True, check=False)
    if found.returncode:
        print(found.stderr.strip())
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data, password = folder / "data", folder / "password"
        data.mkdir()
        password.write_text("a password of a benchmark\n", encoding="utf-8")
        password.chmod(0o600)
        where = str(folder / "repository")
        repository = Repository("bench", password, where, program=found.stdout.strip(), cache=folder / "cache")
        for number in range(FILES):
            (data / str(number)).write_bytes(os.urandom(BYTES))
        ask(repository, (repository.program, "init"))
        ours(repository, data)  # the first fills the repository and warms the cache for both
        mine: list[float] = []
        theirs: list[float] = []
        for turn in range(options.repeat):
            for measure, kept in ((ours, mine), (bare, theirs))[:: 1 if turn % 2 else -1]:
                change(data)
                kept.append(measure(repository, data))
    ratio = statistics.median(mine) / statistics.median(theirs)
    print(f"through the wrapper: {statistics.median(mine):.2f} s; restic alone: {statistics.median(theirs):.2f} s")
    print(f"ratio of wall time: {ratio:.3f}; goal at most {GOAL}")
    return 0 if ratio <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
