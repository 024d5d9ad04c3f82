"""One host with the backup job that the play installs, its data and its repositories, for the tests of that job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from controlplane.backup.repository import Repository
from controlplane.backup.restic import Snapshot, snapshots
from tests.conftest import ROOT
from tests.integration.backup_peers import restic_program

JOB = ROOT / "playbooks" / "roles" / "backup" / "files" / "emr-backup.py"
FLAGS = {"offsite": False, "offline": False, "same_host": False, "medium": "nas-disk"}


class JobHost:
    """A folder that is the host: a data set ``files``, and the repositories that a test declares."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state, self.data = folder, folder / "state", folder / "srv"
        self.state.mkdir(mode=0o751)
        self.data.mkdir()
        (self.data / "hồ sơ.txt").write_text("nội dung\n" * 200, encoding="utf-8")
        self.password = folder / "password"
        self.password.write_text("a password of a test\n", encoding="utf-8")
        self.password.chmod(0o600)
        self.program = restic_program()
        self.config: dict[str, Any] = {
            "host": "sv-test",
            "restic": self.program,
            "cache": str(folder / "cache"),
            "check_parts": 1,
            "repositories": [],
            "datasets": [],
        }
        self.dataset("files", f"path:{self.data}", paths=[str(self.data)])

    def dataset(self, name: str, source: str, **more: Any) -> None:
        """Declare a data set."""
        plain = {"class": "files", "paths": [], "excludes": [], "every_hours": 24, "rpo_minutes": 1440}
        self.config["datasets"].append(plain | {"name": name, "source": source} | more)

    def row(self, name: str, location: str) -> dict[str, Any]:
        """A repository as the job is told of it."""
        return FLAGS | {"name": name, "location": location, "password_file": str(self.password)}

    def repository(self, name: str, location: str) -> Repository:
        """A repository as the control plane sees it."""
        return Repository(name, self.password, location, program=self.program, cache=self.folder / "cache")

    def start(self, *words: str, **settings: Any) -> subprocess.Popen[str]:
        """The job, under way, with settings for this run alone."""
        config = self.folder / "backup.json"
        config.write_text(json.dumps(self.config | settings), encoding="utf-8")
        places = {"EMR_BACKUP_CONFIG": str(config), "EMR_BACKUP_STATE": str(self.state)}
        return subprocess.Popen(
            [sys.executable, str(JOB), *words],
            env=os.environ | places,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def job(self, *words: str, **settings: Any) -> tuple[int, str]:
        """One whole run of the job: its exit code and its words."""
        process = self.start(*words, **settings)
        _, said = process.communicate(timeout=120)
        return process.returncode, said

    def record(self, kind: str, name: str) -> dict[str, Any]:
        """A document of the record."""
        return json.loads((self.state / f"{kind}-{name}.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]

    def kept(self, repository: Repository) -> list[Snapshot]:
        """The snapshots of the data set ``files``."""
        return snapshots(repository, "files", "sv-test")

    def slow(self) -> tuple[str, Path]:
        """A restic that uploads 100 KiB a second, but at full speed into a small disk; the file with its number."""
        wrapper, note = self.folder / "slow", self.folder / "slow.pid"
        wrapper.write_text(
            f'#!/bin/sh\ncase $RESTIC_REPOSITORY in */small/*) exec {self.program} "$@" ;; esac\n'
            f'echo $$ >{note}\nexec {self.program} --limit-upload 100 "$@"\n',
            encoding="utf-8",
        )
        wrapper.chmod(0o755)
        return str(wrapper), note
