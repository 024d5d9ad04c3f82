"""The backup job of a host when things go wrong: told in both tongues, no snapshot lost, nothing claimed as proof."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controlplane.backup.drill import rehearse
from controlplane.backup.restic import locks
from tests.integration.backup_host import JOB, JobHost
from tests.integration.backup_peers import Server, served, sftp, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the job is root's: it gives its record to a group")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> JobHost:
    """One host for the whole module, saved once: opening a repository costs restic half a second each time."""
    made = JobHost(tmp_path_factory.mktemp("host"))
    made.config["repositories"] = [made.row("nas", str(made.folder / "plain"))]
    assert made.job("init")[0] == 0
    assert made.job("run") == (0, "")
    shutil.copytree(made.folder / "plain", made.folder / "early")
    return made


@pytest.fixture
def copied(host: JobHost, tmp_path: Path) -> Path:
    """A copy of its repository as it was at first."""
    return Path(shutil.copytree(host.folder / "early", tmp_path / "store"))


@pytest.fixture
def held(host: JobHost, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A backup into its repository that is under way and holds a lock."""
    (tmp_path / "big").write_bytes(os.urandom(20_000_000))
    slow, note = host.slow()
    process = subprocess.Popen(
        [slow, "--password-file", str(host.password), "backup", str(tmp_path / "big")],
        env=os.environ | {"RESTIC_REPOSITORY": str(host.folder / "plain"), "RESTIC_CACHE_DIR": str(tmp_path / "cache")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: note.exists() and any((host.folder / "plain" / "locks").iterdir()))
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)
        note.unlink()


def test_a_lock_is_no_refusal_and_a_folder_that_lets_the_canary_go_is_told(
    host: JobHost, held: subprocess.Popen[bytes]
) -> None:
    before = host.record("repository", "nas") | {"append_only": True, "last_delete_refused_at": 1795700000}
    (host.state / "repository-nas.json").write_text(json.dumps(before), encoding="utf-8")
    code, said = host.job("refusal")
    assert code == 1
    assert "chưa thử xóa được" in said
    assert "could not be tried" in said
    assert "in use by another program" in said
    found = host.record("repository", "nas")
    assert (found["append_only"], found["last_delete_refused_at"]) == (True, 1795700000), "the earlier result stands"
    assert found["last_delete_not_tried_why"] == "locked"
    code, said = host.job("check")
    assert (code, "in use by another program" in said) == (1, True)
    assert host.record("repository", "nas")["last_check_ok"] is None, "nothing was found out"
    held.kill()
    held.wait(10)
    # The owner of the lock is gone now: the job takes it away by itself and gets the real answer.
    assert any((host.folder / "plain" / "locks").iterdir())
    code, said = host.job("refusal")
    assert (code, "let this host delete a copy" in said) == (1, True)
    found = host.record("repository", "nas")
    assert (found["append_only"], found["last_delete_refused_at"]) == (False, None)
    assert "last_delete_not_tried_why" not in found


def test_only_the_answer_of_an_append_only_storage_is_recorded_as_refused(host: JobHost, copied: Path) -> None:
    with served(copied) as server:
        there = [host.row("far", server.location)]
        began = int(time.time())
        assert host.job("refusal", repositories=there) == (0, "")
        found = host.record("repository", "far")
        assert found["append_only"] is True
        assert found["last_delete_refused_at"] >= began
        server.stop()
        code, said = host.job("refusal", repositories=there, restic_seconds=2)
    assert (code, "cannot be reached" in said, "could not be tried" in said) == (1, True, True)
    gone = host.record("repository", "far")
    assert (gone["append_only"], gone["last_delete_refused_at"]) == (True, found["last_delete_refused_at"])
    assert gone["last_delete_not_tried_why"] == "network"


def test_a_wrong_password_and_a_backup_that_was_cut_short_cost_no_earlier_copy(host: JobHost) -> None:
    there = host.repository("nas", str(host.folder / "plain"))
    before = [s.id for s in host.kept(there)]
    right = host.password.read_text(encoding="utf-8")
    host.password.write_text("another\n", encoding="utf-8")
    code, said = host.job("run")
    assert code == 1
    assert "mật khẩu trong tệp không mở được kho" in said
    assert "password in the file does not open it" in said
    host.password.write_text(right, encoding="utf-8")
    (host.data / "big").write_bytes(os.urandom(20_000_000))
    slow, note = host.slow()
    held = host.folder / "plain" / "locks"
    # Killed outright, as by a power cut: restic has no word, the job has.
    under_way = host.start("run", restic=slow)
    until(lambda: note.exists() and any(held.iterdir()))
    os.kill(int(note.read_text()), signal.SIGKILL)
    said = under_way.communicate(timeout=60)[1]
    assert (under_way.returncode, "bị ngắt giữa chừng" in said, "was cut short" in said) == (1, True, True)
    # Told to stop, as systemd does: the job tells restic, which takes its lock along.
    note.unlink()
    left = {path.name for path in held.iterdir()}
    under_way = host.start("run", restic=slow)
    until(lambda: note.exists() and {path.name for path in held.iterdir()} - left)
    under_way.send_signal(signal.SIGTERM)
    said = under_way.communicate(timeout=60)[1]
    assert (under_way.returncode, "was cut short" in said) == (1, True)
    assert {path.name for path in held.iterdir()} == left != set()
    assert [s.id for s in host.kept(there)] == before
    assert host.job("check")[0] == 0, "the lock that the killed one left is taken away"
    assert host.record("repository", "nas")["last_check_ok"] is True
    (host.data / "big").unlink()
    assert host.job("run") == (0, "")
    assert len(host.kept(there)) == len(before) + 1
    assert locks(there) == []


def test_a_full_disk_and_a_network_that_is_cut_cost_no_earlier_copy(host: JobHost, copied: Path) -> None:
    small = host.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", small], check=True)
    try:
        near = host.repository("near", str(shutil.copytree(copied, small / "repository")))
        with served(copied) as server:
            nas = host.repository("nas", server.location)
            rows = [host.row(there.name, there.location) for there in (near, nas)]
            before = [[s.id for s in host.kept(there)] for there in (near, nas)]
            (host.data / "much").write_bytes(os.urandom(8_000_000))
            slow, note = host.slow()
            under_way = host.start("run", restic=slow, repositories=rows, restic_seconds=5)
            until(lambda: note.exists() and any((copied / "locks").iterdir()), 60)
            server.stop()
            said = under_way.communicate(timeout=90)[1]
            assert under_way.returncode == 1
            assert "Kho near: ổ đĩa của kho đã đầy" in said
            assert "near: its disk is full" in said
            assert "Không tới được kho nas" in said
            assert "nas cannot be reached" in said
            again = Server(copied, port=server.port)
            try:
                assert [[s.id for s in host.kept(there)] for there in (near, nas)] == before
                (host.data / "much").unlink()
                assert host.job("run", repositories=rows[1:]) == (0, "")
            finally:
                again.stop()
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_disk_without_room_for_the_restore_is_not_filled_and_proves_nothing(host: JobHost, tmp_path: Path) -> None:
    assert host.job("drill") == (0, "")
    before = host.record("dataset", "files")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", tmp_path], check=True)
    try:
        for verb in ("drill", "spot"):
            code, said = host.job(verb, scratch=str(tmp_path))
            assert (code, "không thử khôi phục" in said, f"{tmp_path} has 3 MB left" in said) == (1, True, True), said
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    found = host.record("dataset", "files")
    assert {found.get(f"last_{verb}_not_tried_why") for verb in ("drill", "spot")} == {"no_room"}
    assert (found["last_drill"], found.get("last_spot")) == (before["last_drill"], before.get("last_spot"))
    assert host.job("drill") == (0, "")
    assert "last_drill_not_tried_at" not in host.record("dataset", "files"), "there was room again"


def test_a_data_set_that_fails_keeps_no_other_from_its_turn(host: JobHost) -> None:
    good = host.config["datasets"][0]
    gone, lost = good | {"name": "gone", "paths": ["/nowhere"]}, good | {"name": "lost", "repositories": ["nobody"]}
    before = host.record("dataset", "files")["snapshots"][0]["id"]
    code, said = host.job("run", datasets=[{"name": "broken"}, gone, lost, good])
    assert code == 1
    assert len(said.splitlines()) == 3
    for words in ("broken: dừng vì lỗi", "/nowhere is not there", "lost: no repository is declared"):
        assert words in said
    assert host.record("dataset", "files")["snapshots"][0]["id"] != before
    code, said = host.job("drill", datasets=[gone, good])
    assert (code, "gone: there is no snapshot" in said) == (1, True)
    assert host.record("dataset", "files")["last_drill"]["ok"] is True
    assert host.job("run", "nothing")[0] == 2


def test_files_in_use_are_told_marked_and_counted_apart_by_both_drills(host: JobHost, tmp_path: Path) -> None:
    pacs = tmp_path / "pacs"
    pacs.mkdir()
    for name in ("still", "growing", "gone"):
        (pacs / name).write_text(name, encoding="utf-8")
    # A restic that finds one file longer and one gone whenever it begins, as in a folder of pictures in use.
    busy = tmp_path / "busy"
    busy.write_text(
        f'#!/bin/sh\ncase "$*" in *" backup "*) echo more >>{pacs}/growing; rm {pacs}/gone ;; esac\n'
        f'{host.program} "$@"\ncode=$?; case "$*" in *" backup "*) echo new >{pacs}/gone ;; esac; exit $code\n',
        encoding="utf-8",
    )
    busy.chmod(0o755)
    sets = [host.config["datasets"][0] | {"name": "pacs", "paths": [str(pacs)]}]
    code, said = host.job("run", restic=str(busy), datasets=sets)
    assert code == 0, said
    assert "2 tệp vẫn thay đổi" in said
    assert "2 files still changed" in said
    (taken,) = host.record("dataset", "pacs")["snapshots"]
    assert taken["changed"] == 2
    assert host.job("drill", datasets=sets) == (0, "")
    done = host.record("dataset", "pacs")["last_drill"]
    assert (done["ok"], done["hashes_verified"], done["hashes_wrong"], done["hashes_changed"]) == (True, 1, 0, 2)
    there = host.repository("nas", str(host.folder / "plain"))
    deep = rehearse(there, "pacs", lambda: datetime.now(UTC), host="sv-test", record=str(host.state))
    assert (deep.ok, deep.hashes_verified, deep.hashes_wrong, deep.hashes_changed) == (True, 1, 0, 2)


def test_a_spot_check_finds_wrong_excludes_changed_bytes_and_mass_encryption_where_the_data_lie(
    host: JobHost, tmp_path: Path
) -> None:
    share = tmp_path / "share"
    share.mkdir()
    for number in range(6):
        (share / f"đơn {number}.txt").write_text(f"dòng {number}\n" * 400, encoding="utf-8")
    (share / "kept.tmp").write_text("not to be lost", encoding="utf-8")
    mine = host.config["datasets"][0] | {"name": "share", "paths": [str(share)], "excludes": ["*.tmp"]}
    assert host.job("run", datasets=[mine]) == (0, "")
    assert host.job("spot", datasets=[mine]) == (0, "")
    found = host.record("dataset", "share")["last_spot"]
    assert (found["ok"], found["same"], found["not_archived_count"], found["left_out"]) == (True, 6, 0, 1)
    # The register that the hospital adopted knows nothing of that exclude.
    code, said = host.job("spot", datasets=[mine | {"declared_excludes": []}])
    assert (code, "no declared exclude means them" in said, "kept.tmp" in said) == (1, True, True)
    for path in share.glob("*.txt"):
        path.write_bytes(os.urandom(path.stat().st_size))
    code, said = host.job("spot", datasets=[mine])
    assert (code, "BÁO ĐỘNG" in said, "ALARM, 100.0 %" in said) == (1, True, True)
    found = host.record("dataset", "share")["last_spot"]
    assert (found["ok"], found["alarm"], found["encrypted"], found["changed"]) == (False, True, 6, 6)
    assert str(share) not in json.dumps(found), "a path may name a patient"


def thinned_out(host: JobHost, repository: dict[str, object]) -> subprocess.CompletedProcess[str]:
    """One run of the storage's retention over a repository that lies elsewhere."""
    program = JOB.parents[2] / "backup_repository" / "files" / "emr-retention.py"
    config = host.folder / "retention.json"
    settings = {"restic": host.program, "cache": str(host.folder / "cache"), "keep": "--keep-within 35d"}
    config.write_text(json.dumps(settings | {"repositories": [repository]}), encoding="utf-8")
    places = {"EMR_RETENTION_CONFIG": str(config), "PYTHONPATH": str(JOB.parent)}
    argv = [sys.executable, str(program)]
    return subprocess.run(argv, env=os.environ | places, capture_output=True, text=True, timeout=120, check=False)


def test_a_second_repository_over_sftp_is_filled_and_a_stranger_is_told(host: JobHost, tmp_path: Path) -> None:
    with sftp(tmp_path / "ssh") as server:
        far = host.row("far", server.location) | {"known_hosts": str(server.known)}
        key = Path(f"{host.password}.key")
        try:
            shutil.copy(server.folder / "key", key)
            assert host.job("init", repositories=[far]) == (0, "")
            assert host.job("run", repositories=[far]) == (0, "")
            assert host.job("drill", repositories=[far]) == (0, "")
            done = thinned_out(host, far)
            assert (done.returncode, done.stderr) == (0, "")
            done = thinned_out(host, far | {"known_hosts": str(server.other)})
            assert (done.returncode, "emr-retention: Kho far" in done.stderr) == (1, True), done.stderr
            code, said = host.job("check", repositories=[far | {"known_hosts": str(server.other)}])
            assert (code, "host key" in said.lower()) == (1, True), said
            shutil.copy(server.folder / "stranger", key)
            code, said = host.job("check", repositories=[far])
            assert (code, "does not accept this host's log-in" in said) == (1, True), said
            key.chmod(0o644)
            code, said = host.job("check", repositories=[far])
            assert (code, "has mode 0644" in said) == (1, True), said
        finally:
            key.unlink(missing_ok=True)


def test_the_keys_of_s3_are_given_to_restic_alone_and_nothing_else_may_stand_beside_them(
    host: JobHost, tmp_path: Path
) -> None:
    spy, keys = tmp_path / "spy", Path(f"{host.password}.env")
    keep = f'echo "$@" >{tmp_path}/argv\nenv >{tmp_path}/env\nexit 1\n'
    spy.write_text(f'#!/bin/sh\n[ "$1" != version ] || exec echo restic 0.18.0\n{keep}', encoding="utf-8")
    spy.chmod(0o755)
    far = host.row("far", "s3:https://127.0.0.1:9/records")
    try:
        keys.write_text(
            "# the second copy\nAWS_ACCESS_KEY_ID=AK\nAWS_SECRET_ACCESS_KEY=very-secret\n", encoding="utf-8"
        )
        keys.chmod(0o600)
        code, said = host.job("check", repositories=[far], restic=str(spy))
        assert code == 1
        assert "AWS_SECRET_ACCESS_KEY=very-secret" in (tmp_path / "env").read_text()
        assert "very-secret" not in said + (tmp_path / "argv").read_text()
        keys.write_text("AWS_ACCESS_KEY_ID=AK\nLD_PRELOAD=/tmp/very-secret.so\n", encoding="utf-8")
        (tmp_path / "env").unlink()
        code, said = host.job("check", repositories=[far], restic=str(spy))
        assert (code, "line 2: only lines of the form AWS_NAME=value" in said) == (1, True), said
        assert "very-secret" not in said
        assert not (tmp_path / "env").exists(), "restic was not run"
    finally:
        keys.unlink()
