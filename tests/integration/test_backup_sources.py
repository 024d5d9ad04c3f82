"""What the backup job saves of a database: a real MariaDB to the row, root's own command, and never nothing at all."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controlplane.backup.drill import rehearse
from controlplane.backup.restic import files_of
from controlplane.backup.scratch import _mariadb_client, _run, mariadb_server
from tests.integration.backup_host import JobHost

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the job dumps as root")
FILL = """
CREATE DATABASE his; USE his;
CREATE TABLE `Bệnh án` (id INT PRIMARY KEY, note TEXT, picture LONGBLOB) ENGINE=InnoDB;
INSERT INTO `Bệnh án` SELECT seq, CONCAT('dòng ', seq, '\\nINSERT INTO `visits` VALUES (1);'), RANDOM_BYTES(40) FROM seq_1_to_700;
CREATE TABLE visits (id INT) ENGINE=InnoDB;
CREATE TABLE `a``b` (id INT) ENGINE=MyISAM;
INSERT INTO `a``b` VALUES (1), (2);
CREATE VIEW v AS SELECT id FROM visits;
CREATE EVENT tidy ON SCHEDULE EVERY 1 DAY DO DELETE FROM visits;
CREATE TRIGGER t AFTER DELETE ON visits FOR EACH ROW SET @x = 1;
DELIMITER ;;
CREATE PROCEDURE p()
BEGIN
INSERT INTO `visits` VALUES (2);
INSERT INTO `visits` VALUES (3);
END;;
DELIMITER ;
"""  # noqa: E501


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> JobHost:
    made = JobHost(tmp_path_factory.mktemp("host"))
    made.config["datasets"] = []
    made.config["repositories"] = [made.row("nas", str(made.folder / "plain"))]
    assert made.job("init")[0] == 0
    return made


@pytest.fixture
def server() -> Iterator[Path]:
    if shutil.which("mariadbd") is None:
        pytest.fail("mariadb-server is missing") if os.environ.get("CI") == "true" else pytest.skip("no MariaDB")
    with mariadb_server() as sockets:
        subprocess.run(_mariadb_client(sockets), input=FILL, text=True, check=True, capture_output=True)
        yield sockets


def test_a_mariadb_is_dumped_counted_to_the_row_and_restored(host: JobHost, server: Path) -> None:
    host.config["datasets"] = []
    place = {"connection": {"socket": str(server / "socket")}, "class": "database"}
    host.dataset("his", "mariadb:his", **place)
    code, said = host.job("run")
    assert (code, said.count("\n")) == (0, 1), said
    assert "are not InnoDB" in said
    assert "`a``b`" in said
    rows = (host.state / "manifests" / "his.rows").read_text(encoding="utf-8")
    assert rows == "`Bệnh án`\t700\n`a``b`\t2\n`visits`\t0\n"
    assert (host.state / "dumps" / "his.dump").stat().st_mode & 0o777 == 0o600
    text = (host.state / "dumps" / "his.dump").read_text(encoding="utf-8")
    assert all(words in text for words in ("CREATE DEFINER", "PROCEDURE `p`", "EVENT `tidy`", "TRIGGER t AFTER"))
    assert host.job("drill") == (0, "")
    there = host.repository("nas", str(host.folder / "plain"))
    drill = rehearse(
        there, "his", lambda: datetime.now(UTC), host="sv-test", database=True, record=str(host.state)
    )  # fmt: skip
    assert (drill.ok, drill.tables, drill.rows, drill.tables_wrong) == (True, 3, 702, ()), drill.said_en
    before = host.record("dataset", "his")["snapshots"]
    # A row that the dump has lost is found by the job's own drill, and a database that is not there is no snapshot.
    (host.state / "manifests" / "his.rows").write_text(rows.replace("700", "701"), encoding="utf-8")
    lists = [str(host.state / name) for name in ("dumps/his.dump", "manifests/his.rows", "manifests/his.sha256")]
    argv = [host.program, "backup", "--host", "sv-test", "--tag", "his", *lists]
    places = {"RESTIC_REPOSITORY": there.location, "RESTIC_CACHE_DIR": str(host.folder / "cache")}
    subprocess.run(
        argv, env=os.environ | places | {"RESTIC_PASSWORD_FILE": str(host.password)}, check=True, capture_output=True
    )
    code, said = host.job("drill")
    assert (code, "`Bệnh án` 700" in said, "cannot be read whole" in said) == (1, True, True)
    assert host.record("dataset", "his")["last_drill"]["ok"] is False
    _run([*_mariadb_client(server), "--execute", "DROP DATABASE his"])
    code, said = host.job("run")
    assert (code, "chưa kết xuất được cơ sở dữ liệu his" in said, "Unknown database" in said) == (1, True, True)
    assert host.record("dataset", "his")["snapshots"] == before


def test_root_s_own_command_dumps_what_the_job_cannot(host: JobHost, monkeypatch: pytest.MonkeyPatch) -> None:
    sbin = host.folder / "sbin"
    sbin.mkdir(mode=0o755)
    monkeypatch.setenv("EMR_BACKUP_COMMANDS", str(sbin))
    command = sbin / "dump-lis"
    host.config["datasets"] = []
    host.dataset("lis", f"command:{command}", command_seconds=1)

    def says(body: str, words: str, mode: int = 0o755) -> None:
        command.unlink(missing_ok=True)
        command.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        command.chmod(mode)
        code, said = host.job("run")
        assert (code, words in said) == (1, True), said
        assert not (host.state / "dataset-lis.json").exists(), "no snapshot is recorded as good"

    says("true", "others may write it", 0o775)
    says("true", "not a program", 0o644)
    says("echo no licence >&2; exit 3", "no licence")
    says("sleep 60", "1 s")
    says(': >"$EMR_DUMP_FOLDER/empty"', "left no file that holds anything")
    command.unlink()
    command.symlink_to("/bin/true")
    code, said = host.job("run")
    assert (code, "not a program" in said) == (1, True)
    command.unlink()
    command.write_text('#!/bin/sh\necho "$#" >"$EMR_DUMP_FOLDER/lis.bak"\nenv >env\n', encoding="utf-8")
    command.chmod(0o700)
    assert host.job("run") == (0, "")
    (one,) = host.record("dataset", "lis")["snapshots"]
    saved = {Path(p).name for p in files_of(host.repository("nas", str(host.folder / "plain")), one["id"])}
    assert {"lis.bak", "env", "lis.sha256"} <= saved
    left = host.state / "dumps" / "lis.d"
    assert (left / "lis.bak").read_text() == "0\n"
    given = {line.split("=")[0] for line in (left / "env").read_text().splitlines()}
    assert given <= {"EMR_DUMP_FOLDER", "LC_ALL", "PATH", "PWD", "OLDPWD", "SHLVL", "_"}


def test_what_would_save_nothing_is_refused_before_restic_is_asked(host: JobHost) -> None:
    host.config["datasets"] = []
    (host.folder / "unmounted").mkdir()
    host.dataset("typo", "mysql:his", paths=[str(host.data)])
    host.dataset("option", "mariadb:-e", paths=[])
    host.dataset("climb", "command:/usr/local/sbin/../bin/x")
    host.dataset("bare", "path:/srv")
    host.dataset("hollow", "path:/srv", paths=[str(host.folder / "unmounted")])
    host.dataset("hidden", "path:/srv", paths=[str(host.data)], excludes=["*.txt"])
    code, said = host.job("run", repositories=[host.row("nas", "/nowhere")])
    assert code == 1
    lines = said.splitlines()
    assert [line.split()[1] for line in lines] == ["typo:", "option:", "climb:", "bare:", "hollow:", "hidden:"]
    assert all("is not known" in line for line in lines[:3])
    assert all("there is no file to save" in line and "không có tệp nào để sao lưu" in line for line in lines[3:])
