"""The job of a host with a real restic, PostgreSQL and append-only server, and the rehearsals of what it saved."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from controlplane.backup.drill import Rehearsal, note_drill, prove_refusal, rehearse
from controlplane.backup.repository import Repository
from controlplane.backup.restic import backup, snapshots
from controlplane.backup.scratch import _as_account, _run, _server, newest_programs
from controlplane.backup.spot import compare
from controlplane.bootstrap import backing, init_store
from controlplane.cli import app
from controlplane.collect.facts import FACTS
from controlplane.settings import Settings
from tests.conftest import ROOT, Clock
from tests.integration.backup_peers import Bench, restic_program, served, sftp

JOB = ROOT / "playbooks" / "roles" / "backup" / "files" / "emr-backup.py"
ROWS = 1234

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the job dumps as the account postgres, which needs root")
needs_postgres = pytest.mark.skipif(not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")), reason="no PostgreSQL")


def now() -> datetime:
    return datetime.now(UTC)


class Host:
    """A host with its data, its database, two repositories (one append-only) and the job that the play installs."""

    def __init__(self, folder: Path, location: str, sockets: Path) -> None:
        self.folder, self.state = folder, folder / "state"
        self.state.mkdir(mode=0o751)
        self.data = folder / "srv"
        self.data.mkdir()
        for number in range(5):
            (self.data / f"ảnh {number}").write_bytes(os.urandom(2000))
        (self.data / "odd\nname\\").write_text("odd", encoding="utf-8")
        password = folder / "password"
        password.write_text("a password of a test\n", encoding="utf-8")
        password.chmod(0o600)
        self.nas = Repository("nas", password, location, program=restic_program(), cache=folder / "cache")
        self.far = replace(self.nas, name="far", location=str(folder / "far"))
        place = {"offsite": False, "offline": False, "same_host": False, "password_file": str(password)}
        files = {"every_hours": 24, "rpo_minutes": 1440, "excludes": ["*.tmp"]}
        config = {
            "host": "sv-test",
            "restic": self.nas.program,
            "cache": str(folder / "cache"),
            "check_parts": 2,
            "repositories": [
                place | {"name": "nas", "location": location, "medium": "nas-disk"},
                place | {"name": "far", "location": self.far.location, "medium": "rented-disk", "offsite": True},
            ],
            "datasets": [
                files | {"name": "emr", "class": "database", "source": "postgresql:emr", "paths": []}
                | {"connection": {"PGHOST": str(sockets)}},
                files | {"name": "files", "class": "files", "source": "path:/srv", "paths": [str(self.data)]},
            ],
        }  # fmt: skip
        (folder / "backup.json").write_text(json.dumps(config), encoding="utf-8")

    def job(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One run of the job."""
        places = {"EMR_BACKUP_CONFIG": str(self.folder / "backup.json"), "EMR_BACKUP_STATE": str(self.state)}
        argv = [sys.executable, str(JOB), *words]
        return subprocess.run(argv, env=os.environ | places, capture_output=True, text=True, timeout=120, check=False)

    def figures(self) -> dict[str, Any]:
        """What the fact makes of the record."""
        body = "\n".join(p.read_text(encoding="utf-8").strip() for p in sorted(self.state.glob("*.json")))
        text = f"-- now\n{int(time.time())}\n-- state\n{body}\n"
        return FACTS["backup.state"].reader(text)  # type: ignore[no-any-return]

    def rehearse(self, dataset: str, repository: Repository | None = None, scratch: Path | None = None) -> Rehearsal:
        return rehearse(
            repository or self.nas,
            dataset,
            now,
            host="sv-test",
            database=dataset == "emr",
            scratch=scratch,
            record=str(self.state),
        )


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """One host for the whole module: to set it up costs ten seconds."""
    folder = Path(tempfile.mkdtemp(prefix="emr-test-"))
    folder.chmod(0o711)
    programs = newest_programs()
    try:
        with _server(programs) as sockets, served(folder / "store") as server:
            psql = [*_as_account(), str(programs / "psql"), "-Xq", f"--host={sockets}", "--username=postgres"]
            _run([*psql, "-c", "CREATE DATABASE emr"])
            table = 'CREATE TABLE "Bệnh án" (id int PRIMARY KEY, note text); CREATE TABLE visits (id int);'
            fill = f"INSERT INTO \"Bệnh án\" SELECT n, repeat('x', 50) FROM generate_series(1, {ROWS}) n;"  # noqa: S608
            _run([*psql, "-d", "emr", "-c", table + fill])
            made = Host(folder, server.location, sockets)
            assert made.job("init").stdout == "CHANGED\nCHANGED\n"
            assert made.job("init").stdout == ""
            done = made.job("run")
            assert (done.returncode, done.stderr) == (0, "")
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@needs_root
@needs_postgres
def test_a_database_is_restored_and_queried_and_both_times_are_measured(host: Host) -> None:
    scratch = host.folder / "scratch"
    scratch.mkdir()
    drill = host.rehearse("emr", scratch=scratch)
    assert drill.ok, drill.said_en
    assert (drill.tables, drill.rows, drill.tables_wrong) == (2, ROWS, ())
    assert (drill.hashes_verified, drill.hashes_wrong) == (1, 0)
    assert drill.rpo_seconds is not None
    assert 0 <= drill.rpo_seconds < 600
    assert drill.rto_seconds >= 1
    assert note_drill(host.state, drill)
    assert json.loads((host.state / "dataset-emr.json").read_text())["last_drill"]["hashes_verified"] == 1
    assert not list(scratch.iterdir()), "nothing of the data is left behind"


@needs_root
@needs_postgres
def test_files_are_restored_with_the_oddest_names_and_the_record_satisfies_the_fact(host: Host) -> None:
    drill = host.rehearse("files", host.far)
    assert (drill.ok, drill.hashes_verified) == (True, 6)
    assert not note_drill(host.folder, drill), "no record is made where there is none"
    assert host.job("check").returncode == 0
    assert host.job("drill").returncode == 0
    assert host.job("refusal").returncode == 1, "the folder on the disk lets the canary go, and the job says so"
    found = host.figures()
    assert (found["datasets"], found["repositories"], found["copies"], found["far_copies"]) == (2, 2, 3, 1)
    assert (found["late_count"], found["drills_late"], found["drills_failed"], found["unchecked"]) == (0, 0, 0, 0)
    assert (found["data_unread"], found["erasable"], found["deletion_untested"]) == (0, 1, 1), "far is no append-only"
    first = json.loads((host.state / "repository-nas.json").read_text())
    assert (first["append_only"], first["check_part"], first["check_of"]) == (True, 1, 2)
    host.job("check")
    assert json.loads((host.state / "repository-nas.json").read_text())["check_part"] == 2


@needs_root
@needs_postgres
def test_a_second_repository_over_sftp_is_rehearsed_and_a_strange_host_or_key_is_told(
    host: Host, tmp_path: Path
) -> None:
    with sftp(tmp_path / "ssh") as server:
        shutil.copytree(host.far.location, server.folder / "store")
        ways = {"location": server.location, "ssh_key": server.folder / "key", "known_hosts": server.known}
        far = replace(host.far, **ways)
        drill = host.rehearse("files", far)
        assert (drill.ok, drill.hashes_verified) == (True, 6), drill.said_en
        assert host.rehearse("files", replace(far, known_hosts=server.other)).error == "unknown_host"
        assert host.rehearse("files", replace(far, ssh_key=server.folder / "stranger")).error == "denied"


@needs_root
@needs_postgres
def test_an_append_only_repository_refuses_and_the_refusal_is_the_evidence(host: Host) -> None:
    before = [s.id for s in snapshots(host.nas)]
    proof = prove_refusal(host.nas, now, "sv-test")
    assert (proof.refused, proof.snapshots_before, proof.snapshots_after) == (True, len(before) + 1, len(before) + 1)
    assert "403" in proof.said or "unable to remove" in proof.said
    assert {*before, proof.canary} == {s.id for s in snapshots(host.nas)}
    open_one = prove_refusal(host.far, now, "sv-test")
    assert not open_one.refused, "a repository that lets the canary go is no proof"


@needs_root
@needs_postgres
def test_a_drill_finds_a_damaged_pack_a_wrong_hash_and_a_missing_row(host: Host) -> None:
    copy = replace(host.far, location=str(host.folder / "broken"))
    shutil.copytree(host.far.location, copy.location)
    for pack in (p for p in (Path(copy.location) / "data").rglob("*") if p.is_file()):
        pack.chmod(0o600)
        body = bytearray(pack.read_bytes())
        body[len(body) // 4] ^= 0xFF
        pack.write_bytes(body)
    broken = host.rehearse("files", copy)
    assert (broken.ok, broken.error) == (False, "damaged")
    assert broken.said != broken.said_en
    rows, sums = host.state / "manifests" / "emr.rows", host.state / "manifests" / "files.sha256"
    kept = rows.read_text(encoding="utf-8"), sums.read_text(encoding="utf-8")
    rows.write_text(kept[0].replace(str(ROWS), str(ROWS + 1)), encoding="utf-8")
    sums.write_text(re.sub("[0-9a-f]{64}", "0" * 64, kept[1], count=1), encoding="utf-8")
    lists = [str(rows), str(host.state / "dumps" / "emr.dump"), str(host.state / "manifests" / "emr.sha256")]
    backup(host.far, lists, tags=["emr"], host="sv-test")
    assert host.rehearse("emr", host.far).tables_wrong == ('public."Bệnh án"',)
    backup(host.far, [str(host.data), str(sums)], tags=["files"], host="sv-test")
    wrong = host.rehearse("files", host.far)
    assert (wrong.ok, wrong.hashes_wrong, wrong.hashes_verified) == (False, 1, 5)
    assert host.rehearse("nothing").error == "no_snapshot"


def test_the_same_seed_draws_the_same_and_what_the_excludes_hide_is_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path, restic_program()).made()
    look = {"host": "sv-test", "count": 3}
    spot = compare(bench.repository, "files", [str(bench.data)], now, excludes=["*.tmp"], seed=7, **look)  # type: ignore[arg-type]
    assert (spot.ok, spot.same, spot.drawn, spot.archived_files, spot.seed) == (True, 3, 3, 6, 7)
    hidden = compare(bench.repository, "files", [str(bench.data)], now, seed=7, **look)  # type: ignore[arg-type]
    assert (hidden.ok, hidden.not_archived) == (False, (str(bench.data / "thumbs.tmp"),))
    # Changed behind the clock's back: the bytes differ although nothing says that the file was touched.
    for path in (bench.data / "sub").iterdir():
        path.write_bytes(os.urandom(path.stat().st_size))
    attack = compare(bench.repository, "files", [str(bench.data)], now, excludes=["*.tmp"], seed=7, **look)  # type: ignore[arg-type]
    assert (attack.ok, attack.alarm, attack.changed, len(attack.encrypted)) == (False, True, 3, 3)
    assert attack.changed_share_percent == 100.0
    for number, path in enumerate(sorted((bench.data / "sub").iterdir())):
        path.unlink()
        (bench.data / "sub" / f"{number}.locked").write_bytes(os.urandom(5000))
    renamed = compare(bench.repository, "files", [str(bench.data)], now, excludes=["*.tmp"], seed=7, **look)  # type: ignore[arg-type]
    assert (renamed.alarm, renamed.vanished_count, renamed.same) == (True, 6, 0)


# -------------------------------------------------------------------------------------------- on a schedule


def a_home(folder: Path, host: Host, *names: str, of: str = "sv-test") -> Path:
    """A home of the product whose register declares the host's first repository and some of its data sets."""
    home = folder / "home"
    for name in ("checks", "playbooks", "inventory"):
        shutil.copytree(ROOT / name, home / name)
    rows = {"excludes": [], "every_hours": 24, "rpo_minutes": 1440, "host": of, "repositories": ["nas"]}
    named = {"purpose": {"vi": "Hồ sơ thử", "en": "Trial files"}, "source": None, "paths": [str(host.data)]}
    place = {"name": "nas", "location": host.nas.location, "medium": "nas-disk"}
    register = {
        "reviewed_on": None,
        "repositories": [place | {"offsite": False, "offline": False, "same_host": False}],
        "datasets": [
            rows | named | {"name": name, "class": "database" if name == "emr" else "files"} for name in names
        ],
    }
    (home / "inventory" / "registers" / "backups.yaml").write_text(json.dumps(register), encoding="utf-8")
    hosts = home / "inventory" / "hosts.yaml"
    hosts.write_text(hosts.read_text(encoding="utf-8").replace("sv-01", "sv-test"), encoding="utf-8")
    return home


@needs_root
@needs_postgres
def test_the_weekly_rehearsal_is_made_once_and_a_failed_one_moves_the_criterion(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(datetime.now(UTC))
    settings = Settings(home=a_home(tmp_path, host, "emr", of="controlplane-01"), data_dir=tmp_path / "var")
    plane = init_store(settings, clock)
    shutil.copy(host.nas.password_file, settings.secrets_dir / "restic-nas")

    def judged() -> tuple[str, Any]:
        plane.make_round(["site"])
        (score,) = [s for s in plane.judgement().card.criteria if s.id == "tcvn14423.bak.restore_test"]
        value = plane.archive.state()["site", "backup.drills"].answer
        assert value is not None
        return str(score.verdict), value.value

    for ending in ("env", "key"):
        (settings.secrets_dir / f"restic-nas.{ending}").touch(0o600)
    way = plane._repository("nas")
    assert {p.name for p in way.secret_files} == {"restic-nas", "restic-nas.env", "restic-nas.key"}
    assert way.known_hosts == settings.known_hosts_file
    assert judged()[1]["failed_count"] is None, "nothing was ever rehearsed"
    assert judged()[0] == "unknown"
    assert plane.due_rehearsals() == [("emr", "nas")]

    def forbidden(*_: object) -> None:
        raise PermissionError(13, "the record is root's")

    with monkeypatch.context() as without_rights:  # as the service has, which is not root
        without_rights.setattr(backing, "note_drill", forbidden)
        (kept,) = plane.rehearse_due()
    assert plane.proofs()[0].link == kept["link"], "what was rehearsed is kept all the same"
    # Of the host that the register names there is no snapshot, and that is a failed drill.
    assert (kept["result"]["ok"], kept["result"]["error"]) == (False, "no_snapshot")
    assert plane.due_rehearsals() == [], "once a week, whatever came of it"
    word, value = judged()
    assert (word, value["failed"]) == ("not_met", ["emr"])
    register = settings.home / "inventory" / "registers" / "backups.yaml"
    register.write_text(register.read_text(encoding="utf-8").replace("controlplane-01", "sv-test"), encoding="utf-8")
    clock.pass_(days=7)
    assert plane.due_rehearsals() == [("emr", "nas")]
    again, _ = plane.rehearse_backup("emr", record=host.state)
    assert (again["result"]["ok"], again["result"]["tables"]) == (True, 2)
    word, value = judged()
    assert (word, value["failed_count"], value["overdue_count"]) == ("unknown", 0, 0)
    assert plane.due_rehearsals() == [], "one by hand counts, too"


# -------------------------------------------------------------------------------------------- the program emrctl


@needs_root
@needs_postgres
def test_the_verbs_keep_their_results_in_the_chain_and_the_minutes_in_the_vault(host: Host, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("checks", "playbooks", "inventory"):
        shutil.copytree(ROOT / name, home / name)
    rows = {"excludes": [], "every_hours": 24, "rpo_minutes": 1440, "host": "sv-01", "repositories": ["nas"]}
    flags = {"offsite": False, "offline": False, "same_host": False}
    named = {"purpose": {"vi": "Hồ sơ thử", "en": "Trial files"}, "class": "files", "source": "path:/srv"}
    register = {
        "reviewed_on": None,
        "repositories": [flags | {"name": "nas", "location": host.nas.location, "medium": "nas-disk"}],
        "datasets": [rows | named | {"name": "files", "paths": [str(host.data)]}],
    }
    (home / "inventory" / "registers" / "backups.yaml").write_text(json.dumps(register), encoding="utf-8")
    data = tmp_path / "var"
    places = {
        "EMRCTL_HOME": str(home),
        "EMRCTL_DATA_DIR": str(data),
        "PATH": f"{Path(host.nas.program).parent}:/usr/bin",
    }

    def emrctl(*words: str) -> Result:
        """The program in this process: to start it each time costs seconds."""
        return CliRunner().invoke(app, words, env=places)

    assert emrctl("init").exit_code == 0
    refused = emrctl("backup", "check")
    assert refused.exit_code == 1
    assert "restic-nas" in refused.stdout, "a missing password is a result, and kept"
    shutil.copy(host.nas.password_file, data / "secrets" / "restic-nas")
    config = [str(host.data), str(host.state / "manifests" / "files.sha256")]
    backup(host.nas, config, tags=["files"], host="sv-01")
    minutes = tmp_path / "minutes.docx"
    done = emrctl("backup", "drill", "files", "--out", str(minutes), "--json")
    # The manifest stands elsewhere than on a real host, so this drill must say that it proved nothing.
    (kept,) = json.loads(done.stdout)
    assert (done.exit_code, kept["result"]["error"]) == (1, "no_manifest")
    assert minutes.read_bytes()[:2] == b"PK"
    assert emrctl("backup", "check", "--parts", "2").exit_code == 0
    (again,) = json.loads(emrctl("backup", "check", "--parts", "2", "--json").stdout)
    assert (again["result"]["part"], again["result"]["of"]) == (2, 2), "the state of the cycle is in the chain"
    assert emrctl("backup", "refusal").exit_code == 0
    (spot,) = json.loads(emrctl("backup", "spot", "files", "--seed", "11", "--json").stdout)
    assert (spot["result"]["seed"], spot["result"]["ok"]) == (11, True)
    assert emrctl("backup", "drill", "fils").exit_code == 1
    listed = json.loads(emrctl("backup", "list", "--json").stdout)
    assert [(row["what"], row["ok"]) for row in listed[:2]] == [("spot", True), ("refusal", True)]
    (restored,) = [row for row in listed if row["what"] == "restore"]
    assert restored["said"]["vi"] in " ".join(emrctl("backup", "list").stdout.split())
    again_out = tmp_path / "again.docx"
    assert emrctl("backup", "minutes", str(restored["link"]), "--out", str(again_out)).exit_code == 0
    assert again_out.read_bytes() == minutes.read_bytes()
    assert emrctl("backup", "minutes", str(listed[0]["link"]), "--out", str(tmp_path / "none")).exit_code != 0
    (listing,) = json.loads(emrctl("backup", "snapshots", "--json").stdout)
    (counted,) = json.loads(emrctl("backup", "stats", "--json").stdout)
    assert counted["snapshots"] == len(listing["snapshots"]) > 1
    assert counted["stored_bytes"] > 0
    assert emrctl("backup", "stats").exit_code == 0
    assert emrctl("chain").exit_code == 0
    assert emrctl("reindex").exit_code == 0
    assert host.nas.password_file.read_text().strip().encode() not in b"".join(
        p.read_bytes() for p in data.rglob("*") if p.is_file() and p.parent.name != "secrets"
    )
