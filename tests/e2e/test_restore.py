"""The records on the server are destroyed for real and had back from the append-only storage: database and files.

The two plays set storage and job up, the data goes over the hospital's own network through the firewall, the drill
proves the copy and measures, and the steps of docs/how-to/restore.md bring the data back to where they were.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.plan import host
from tests.conftest import ROOT
from tests.integration.backup_peers import restic_program
from tests.integration.conftest import Lab

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.soak]

STORAGE = host("nas-01").data_address
ROWS = 5000
FLAGS = {"offsite": False, "offline": False, "same_host": False}
DATASETS: list[dict[str, Any]] = [
    {"name": "emr-database", "class": "database", "source": "postgresql:emr", "paths": [], "rpo_minutes": 60},
    {"name": "emr-files", "class": "files", "source": "path:/srv/emr", "paths": ["/srv/emr"], "rpo_minutes": 60},
]
_FILL = """
apt-get install -y -q --no-install-recommends postgresql >/dev/null 2>&1 || exit 1
cd /tmp
until runuser -u postgres -- psql -c '' >/dev/null 2>&1; do sleep 0.2; done
runuser -u postgres -- createdb emr
runuser -u postgres -- psql -q -d emr -c "CREATE TABLE records (id int PRIMARY KEY, note text)" \\
    -c "INSERT INTO records SELECT n, md5(n::text) || ' bệnh án' FROM generate_series(1, 5000) n"
mkdir -p "/srv/emr/ảnh"
for n in 1 2 3 4 5 6 7 8; do head -c 300000 /dev/urandom >"/srv/emr/ảnh/$n.dcm"; done
echo 'hồ sơ' >/srv/emr/index.txt
"""
_HASHES = """
cd /srv/emr && find . -type f -exec sha256sum {} + | sort -k 2
cd /tmp && runuser -u postgres -- psql -At -d emr \\
    -c "SELECT count(*), md5(string_agg(id || note, '|' ORDER BY id)) FROM records"
"""
_DESTROY = """
rm -rf /srv/emr /var/lib/emrctl/backup/dumps/* /var/lib/emrctl/backup/manifests/*
cd /tmp && runuser -u postgres -- dropdb --force emr
"""
# As docs/how-to/restore.md has it; silence of sha256sum means that all agree.
_RESTORE = r"""
set -e
restic() { /usr/local/bin/restic --repository-file /etc/emrctl/secrets/restic-nas.location \
    --password-file /etc/emrctl/secrets/restic-nas --no-lock "$@" >/dev/null; }
for set in emr-database emr-files; do restic restore latest --tag $set --target /srv/restored; done
cd /srv/restored
for set in emr-database emr-files; do
    sed 's#  /#  #' var/lib/emrctl/backup/manifests/$set.sha256 | sha256sum -c --quiet
done
install -m 0644 var/lib/emrctl/backup/dumps/emr-database.dump /tmp/emr.dump
cd /tmp
runuser -u postgres -- createdb emr
runuser -u postgres -- pg_restore --no-owner --exit-on-error -d emr /tmp/emr.dump
mv /srv/restored/srv/emr /srv/emr
"""


class Hospital:
    """emrctl in the whole lab, with its own register of backups and an overlay that sets the two plays."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder, self.home = lab, folder, folder / "home"
        for name in ("checks", "playbooks", "inventory"):
            shutil.copytree(ROOT / name, self.home / name)
        nas = FLAGS | {"name": "nas", "medium": "nas-disk"}
        rows = {"excludes": [], "every_hours": 24, "host": "sv-01", "repositories": ["nas"]}
        purpose = {"purpose": {"vi": "Bệnh án", "en": "Records"}}
        register = {
            "reviewed_on": None,
            "repositories": [nas | {"location": None}],
            "datasets": [rows | purpose | one for one in DATASETS],
        }
        (self.home / "inventory" / "registers" / "backups.yaml").write_text(json.dumps(register), encoding="utf-8")
        self.token = secrets.token_urlsafe(18)
        made = "import crypt, sys; print(crypt.crypt(sys.argv[1], crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=64)))"
        hashed = lab.inside("sv-01", ["python3", "-W", "ignore", "-c", made, self.token], check=True).stdout.strip()
        source = {
            "backup_datasets": DATASETS,
            "backup_repositories": [nas | {"location_file": "/etc/emrctl/secrets/restic-nas.location"}],
            "backup_restic_source": restic_program(),
        }
        storage = {"backup_repository_address": STORAGE, "backup_repository_accounts": [f"sv-01:{hashed}"]}
        overlay = {"all": {"hosts": {"sv-01": source, "nas-01": storage}}}
        (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")

    @property
    def location(self) -> str:
        return f"rest:http://sv-01:{self.token}@{STORAGE}:8000/sv-01/\n"

    def emrctl(self, *argv: str) -> Any:
        given: list[str | Path] = ["--data-dir", self.folder / "data", "--known-hosts", self.lab.known_hosts]
        given += ["--inventory", self.lab.hospital, "--inventory", self.folder / "overlay.yaml"]
        program = f"PATH={Path(restic_program()).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        command: list[str | Path] = [
            "env",
            program,
            f"EMRCTL_HOME={self.home}",
            sys.executable,
            "-m",
            "controlplane",
            *given,
            *argv,
        ]
        done = self.lab.exec(command, cwd=ROOT, timeout=600)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return json.loads(done.stdout) if "--json" in argv else done.stdout

    def on_server(self, script: str, **options: Any) -> str:
        done = self.lab.inside("sv-01", ["sh", "-c", script], **options)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout


@pytest.mark.timeout(1500)
def test_records_that_were_destroyed_are_had_back_byte_for_byte_and_the_time_is_told(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lab.run_lab("up", "--whole", "--fresh").returncode == 0
    place = Hospital(lab, tmp_path)
    place.emrctl("init")
    place.on_server(_FILL)
    before = place.on_server(_HASHES)
    assert before.count("\n") == 10
    assert f"{ROWS}|" in before
    # The log-in is handed over by hand, as the role says; then the two plays.
    place.on_server(
        "umask 077; mkdir -p /etc/emrctl/secrets; cat >/etc/emrctl/secrets/restic-nas.location", input=place.location
    )
    for play, name in (("backup-storage", "nas-01"), ("backup", "sv-01")):
        run = place.emrctl("apply", play, "--limit", name, "--json")["run"]
        assert run["state"] == "successful", run["detail"]
    place.on_server("/usr/local/sbin/emr-backup run")

    lost = time.monotonic()
    place.on_server(_DESTROY)
    assert lab.inside("sv-01", ["test", "-e", "/srv/emr"]).returncode != 0

    # The control plane makes the drill and reaches the storage out of band: the matrix gives it no way to port 8000.
    lab.exec(["ip", "route", "replace", f"{STORAGE}/32", "via", host("nas-01").address], check=True)
    for name, text in (
        ("restic-nas.location", place.location),
        ("restic-nas", place.on_server("cat /etc/emrctl/secrets/restic-nas")),
    ):
        secret = tmp_path / "data" / "secrets" / name
        secret.touch(mode=0o600)
        secret.write_text(text, encoding="utf-8")
    drills = {one["name"]: place.emrctl("backup", "drill", one["name"], "--json")[0]["result"] for one in DATASETS}
    assert {name: drill["ok"] for name, drill in drills.items()} == dict.fromkeys(drills, True)

    began = time.monotonic()
    place.on_server(_RESTORE)
    done = time.monotonic()
    assert place.on_server(_HASHES) == before
    with capsys.disabled():
        told = ", ".join(f"{name} RTO {drill['rto_seconds']} s" for name, drill in drills.items())
        print(f"\ndrills: {told}; restored in {done - began:.0f} s, {done - lost:.0f} s after the loss")
    assert all(drill["rto_seconds"] >= 0 for drill in drills.values())
