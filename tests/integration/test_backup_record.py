"""The small backup job with a real restic: what it leaves behind is what ``backup.state`` reads, good and bad alike."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from controlplane.collect.facts import FACTS
from tests.conftest import ROOT

JOB = ROOT / "lab" / "examples" / "backup-job.sh"

pytestmark = pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")


def run_job(home: Path, repositories: str) -> dict[str, Any]:
    """One run over two files, and the figures that the reader makes of the record."""
    data = home / "data"
    data.mkdir(exist_ok=True)
    for name in ("a", "b"):
        (data / name).write_text(name * 1000, encoding="utf-8")
    (home / "password").write_text("test\n", encoding="utf-8")
    (home / "repositories").write_text(repositories, encoding="utf-8")
    state = home / "state"
    argv = ["sh", str(JOB), "files", "files", "24", str(data), str(home / "repositories"), str(home / "password")]
    places = {"EMR_BACKUP_STATE": str(state), "RESTIC_CACHE_DIR": str(home / "cache")}
    subprocess.run(argv, env=os.environ | places, check=True, capture_output=True, timeout=120)
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(state.glob("*.json"))]
    now = max(document.get("last_check_at", 0) for document in documents) + 60
    body = "\n".join(json.dumps(document) for document in documents)
    return FACTS["backup.state"].reader(f"-- now\n{now}\n-- state\n{body}\n")  # type: ignore[no-any-return]


def test_a_repository_on_the_same_disk_is_restored_and_still_falls_short(tmp_path: Path) -> None:
    line = f"here {tmp_path}/repository server-disk false true\n"
    run_job(tmp_path, line)
    found = run_job(tmp_path, line)
    assert (found["datasets"], found["late_count"], found["drills_late"], found["drills_failed"]) == (1, 0, 0, 0)
    assert (found["unversioned"], found["unchecked"], found["data_unread"], found["unencrypted"]) == (0, 0, 0, 0)
    # The job tried to delete and was let: nothing it wrote may say otherwise.
    assert (found["erasable"], found["deletion_untested"], found["on_same_host"]) == (1, 1, 1)
    assert (found["copies"], found["media"], found["far_copies"]) == (2, 1, 0)


def test_a_damaged_repository_fails_its_check(tmp_path: Path) -> None:
    line = f"here {tmp_path}/repository server-disk false true\n"
    run_job(tmp_path, line)
    pack = max(
        (p for p in (tmp_path / "repository" / "data").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    pack.chmod(0o600)
    body = bytearray(pack.read_bytes())
    body[len(body) // 2] ^= 0xFF
    pack.write_bytes(body)
    assert run_job(tmp_path, line)["unchecked"] == 1
