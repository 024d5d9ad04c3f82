"""The play `backup` for real, in a throw-away copy of this machine (overlay and chroot) that systemd does not run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.integration.backup_peers import restic_program

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="it mounts an overlay, which needs root"),
    pytest.mark.slow,
]
SETTINGS: dict[str, Any] = {
    "backup_datasets": [
        {"name": "files", "class": "files", "source": "path:/srv/emr", "paths": ["/srv/emr"], "rpo_minutes": 1440}
    ],
    "backup_repositories": [
        {"name": "nas", "location": "/srv/nas/sv-01", "medium": "nas-disk"},
        {"name": "far", "location": "/srv/far/sv-01", "medium": "rented-disk", "offsite": True},
    ],
    "backup_passwords": {"far": "a canary password"},
    "emr_backups": {"excludes": {}},
}


class Copy:
    """The root of this machine with a folder of changes over it; nothing of it reaches the machine itself."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "root"
        for name in ("upper", "work", "root"):
            (folder / name).mkdir()
        layers = f"lowerdir=/,upperdir={folder}/upper,workdir={folder}/work"
        done = subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", layers, self.root], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no overlay here: {done.stderr.decode()[:100]}")
        for name in ("proc", "dev"):
            subprocess.run(["mount", "--rbind", f"/{name}", self.root / name], check=True)
            subprocess.run(["mount", "--make-rslave", self.root / name], check=True)
        shutil.rmtree(self.root / "run" / "systemd", ignore_errors=True)
        (self.root / "srv" / "emr").mkdir(parents=True)
        (self.root / "srv" / "emr" / "hồ sơ").write_text("nội dung", encoding="utf-8")

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """A program inside the copy."""
        return subprocess.run(
            ["chroot", str(self.root), *argv], capture_output=True, text=True, timeout=240, check=False
        )

    def play(
        self, *options: str, settings: dict[str, Any] | None = None, name: str = "backup"
    ) -> subprocess.CompletedProcess[str]:
        """One run of the play of that name."""
        values = SETTINGS | {"backup_restic_source": restic_program()} | (settings or {})
        host = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
        group = "linux_storage" if name == "backup-storage" else "linux_servers"
        inventory = {"all": {"children": {group: {"hosts": {"sv-01": host}}}, "vars": values}}
        (self.root / "tmp" / "inventory.json").write_text(json.dumps(inventory), encoding="utf-8")
        program = Path(sys.executable).parent / "ansible-playbook"
        words = f"cd {ROOT}/playbooks && exec {program} -i /tmp/inventory.json {' '.join(options)} {name}.yml"
        return self.run("/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root",
                        "/bin/sh", "-c", words)  # fmt: skip


@pytest.fixture(scope="module")
def copy() -> Iterator[Copy]:
    folder = Path(tempfile.mkdtemp(prefix="emr-play-"))
    try:
        yield Copy(folder)
    finally:
        for name in ("dev", "proc", ""):
            subprocess.run(["umount", "-l", folder / "root" / name], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def changed(done: subprocess.CompletedProcess[str]) -> int:
    found = re.search(r"changed=(\d+) .*failed=0", done.stdout)
    assert found, done.stdout[-3000:] + done.stderr[-500:]
    return int(found[1])


def test_a_preview_changes_nothing_an_apply_does_and_a_second_one_finds_nothing_to_do(copy: Copy) -> None:
    assert changed(copy.play("--check")) > 3
    assert not (copy.root / "etc" / "emrctl" / "backup.json").exists()
    put = ["etc/emrctl/secrets/restic-far.env", "etc/emrctl/secrets/restic-far.key", "etc/emrctl/luks/md0-records"]
    for path in put:
        (copy.root / path).parent.mkdir(parents=True, exist_ok=True)
        (copy.root / path).touch(mode=0o600)
    done = copy.play()
    assert changed(done) > 6
    escrow = (copy.root / "etc/emrctl/secrets/ESCROW.txt").read_text(encoding="utf-8")
    assert [path for path in put if f"- /{path}\n" not in escrow] == [], "without them nobody opens the copies either"
    assert "a canary password" not in done.stdout
    assert "vừa tạo mật khẩu kho nas." in done.stdout, "the play tells people what to print and seal"
    secrets = copy.root / "etc" / "emrctl" / "secrets"
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in secrets.iterdir()} == {0o600}
    assert len((secrets / "restic-nas").read_text().strip()) > 30, "nobody gave one, so it was made"
    assert (secrets / "restic-far").read_text() == "a canary password\n"
    assert (copy.root / "srv" / "nas" / "sv-01" / "config").exists()
    kept = (secrets / "restic-nas").read_text()
    assert changed(copy.play()) == 0
    assert (secrets / "restic-nas").read_text() == kept


def test_the_job_that_was_installed_saves_checks_and_rehearses(copy: Copy) -> None:
    if not (copy.root / "etc" / "emrctl" / "backup.json").exists():
        copy.play()
    lines = (copy.root / "etc" / "cron.d" / "emr-backup").read_text().splitlines()
    verbs = [line.split(" emr-backup ")[-1].split()[-1] for line in lines if " root " in line]
    assert verbs == ["run", "check", "drill", "spot", "refusal"]
    for verb in ("run", "check", "drill", "spot"):
        done = copy.run("/usr/local/sbin/emr-backup", verb)
        assert done.returncode == 0, done.stderr
    record = json.loads((copy.root / "var/lib/emrctl/backup/dataset-files.json").read_text())
    assert record["last_drill"]["ok"]
    assert record["last_spot"]["ok"]
    assert record["rpo_minutes"] == 1440
    assert {s["repository"] for s in record["snapshots"]} == {"nas", "far"}


def test_what_is_not_declared_whole_is_refused_before_anything_changes(copy: Copy) -> None:
    (one,) = SETTINGS["backup_datasets"]
    for settings in (
        {"backup_datasets": []},
        {"backup_datasets": [one | {"source": "mysql:his", "paths": []}]},
        {"backup_datasets": [one | {"paths": []}]},
        {"backup_repositories": [{"name": "nas", "location": "rest:http://sv-01:secret@nas/", "medium": "nas-disk"}]},
    ):
        done = copy.play(settings=settings)
        assert "Nothing was changed" in done.stdout
        assert "failed=1" in done.stdout


@pytest.mark.skipif(not Path("/usr/bin/restic").exists(), reason="Debian's own restic is not installed")
def test_a_restic_that_is_too_old_is_refused_with_the_way_to_a_newer_one(copy: Copy) -> None:
    version = subprocess.run(["/usr/bin/restic", "version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, version.split()[1].split(".")[:2])) >= (0, 18):
        pytest.skip("Debian's own restic is new enough")
    done = copy.play(settings={"backup_restic_source": ""})
    assert "failed=1" in done.stdout
    assert "script/restic" in done.stdout
    assert "cũ hơn 0.18" in done.stdout


def test_settings_that_the_inventory_names_no_more_are_taken_back(copy: Copy) -> None:
    """A proxy that is gone would keep every update away; a log server that is gone fills the queue."""
    left = ["apt/apt.conf.d/01-emrctl-proxy", "rsyslog.d/60-emrctl-forward.conf", "rsyslog.d/40-emrctl-central.conf"]
    for path in left:
        (copy.root / "etc" / path).parent.mkdir(parents=True, exist_ok=True)
        (copy.root / "etc" / path).write_text("", encoding="utf-8")
    roles = [f"{ROOT}/playbooks/roles/{name}" for name in ("security_updates", "log_keeping", "log_store")]
    tasks = [{"ansible.builtin.include_role": {"name": name, "tasks_from": "withdraw.yml"}} for name in roles]
    book = [{"hosts": "all", "gather_facts": False, "tasks": tasks}]
    (copy.root / "tmp" / "withdraw.yml").write_text(json.dumps(book), encoding="utf-8")
    without = {f"log_{name}_init": {"stat": {"exists": False}} for name in ("keeping", "store")}
    named = without | {"security_updates_proxy": "http://10.0.10.5:3142", "log_keeping_server": "10.0.10.6"}
    done = copy.play(name="/tmp/withdraw", settings=named | {"log_store_enabled": True})
    assert changed(done) == 0
    assert changed(copy.play(name="/tmp/withdraw", settings=without)) == 3
    assert [path for path in left if (copy.root / "etc" / path).exists()] == []


def test_the_storage_thins_out_by_spans_that_no_source_can_fill_with_junk(copy: Copy) -> None:
    folder, secret = "/srv/backup/sv-01", "/etc/emrctl/retention-password"
    settings = {
        "backup_repository_address": "127.0.0.1",
        "backup_repository_accounts": ["sv-01:$2y$05$notarealhash"],
        "backup_repository_retention": [{"name": "sv-01", "location": folder, "password_file": secret}],
    }
    assert changed(copy.play(name="backup-storage", settings=settings)) > 3
    more = {"backup_repository_accounts": ["sv-01:$2y$05$notarealhash", "sv-02:$2y$05$another"]}
    later = ("--check", "--start-at-task", "'Make the account that owns the repositories'")
    assert changed(copy.play(*later, name="backup-storage", settings=settings | more)) == 1, "a preview shows it"
    unit = (copy.root / "etc/systemd/system/emr-retention.service").read_text(encoding="utf-8")
    (thin_out,) = [line.removeprefix("ExecStart=") for line in unit.splitlines() if line.startswith("ExecStart=")]
    account = ["setpriv", "--reuid=emrbackup", "--regid=emrbackup", "--clear-groups"]

    def as_account(line: str) -> subprocess.CompletedProcess[str]:
        return copy.run(*account, "env", "RESTIC_CACHE_DIR=/tmp/cache", "sh", "-c", line)

    (copy.root / secret.lstrip("/")).write_text("a password of a test\n", encoding="utf-8")
    assert copy.run("sh", "-c", f"chown emrbackup {secret}; chmod 600 {secret}").returncode == 0
    restic = f"/usr/local/bin/restic --repo {folder} --password-file {secret}"

    def saved(days: int, *hours: int) -> list[str]:
        """Snapshots of a day, those of the source itself at one o'clock."""
        day = datetime.now().astimezone() + timedelta(days=days)
        times = [f"{day:%Y-%m-%d} {hour:02}:00:00" for hour in hours]
        told = as_account(";".join(f"{restic} backup -q --host sv-01 --time '{at}' /etc/hostname" for at in times))
        assert told.returncode == 0, told.stderr
        return [at[:13].replace(" ", "T") for at in times]

    def kept() -> list[str]:
        return [one["time"][:13] for one in json.loads(as_account(f"{restic} snapshots --json").stdout)]

    assert as_account(f"{restic} init").returncode == 0
    # Somebody has taken the source and saves junk later on each day: of a policy of days it would be the newest.
    (old, _, late), recent = saved(-70, 1, 2, 3), saved(-1, 1, 2)
    told = as_account(thin_out)
    assert told.returncode == 0, told.stderr
    assert kept() == [old, late, *recent]
    assert as_account(f"{restic} check").returncode == 0
    saved(2, 1)
    told = as_account(thin_out)
    assert (told.returncode, "emr-retention: Kho sv-01: 1 bản chụp" in told.stderr) == (1, True), told.stderr
    assert "nothing was thinned out" in told.stderr
    assert len(kept()) == 5
