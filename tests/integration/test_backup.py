"""restic for real: what goes wrong is told by its cause, and whatever it is, no earlier snapshot is lost by it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from controlplane.backup.drill import prove_refusal
from controlplane.backup.errors import BackupError
from controlplane.backup.restic import (
    backup,
    check,
    files_of,
    locks,
    newest,
    release_stale,
    restore,
    snapshots,
    stats,
)
from tests.integration.backup_peers import Bench, Server, Slowly, init, restic_program, served, until

DEBIAN_12 = "/usr/bin/restic"


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="session")
def program() -> str:
    return restic_program()


@pytest.fixture
def bench(tmp_path: Path, program: str) -> Bench:
    return Bench(tmp_path, program)


def refused(act: Callable[[], object]) -> BackupError:
    with pytest.raises(BackupError) as caught:
        act()
    assert caught.value.words.vi != caught.value.words.en
    return caught.value


def test_what_is_saved_is_listed_counted_and_restored(bench: Bench) -> None:
    bench.made()
    assert newest(bench.repository, "files", "sv-test").paths == (str(bench.data),)
    (bench.data / "sub" / "new.txt").write_text("new", encoding="utf-8")
    saved = backup(bench.repository, [str(bench.data)], tags=["files"], host="sv-test", excludes=["*.tmp"])
    assert (saved.files_new, saved.files_unmodified, saved.incomplete) == (1, 6, False)
    listed = files_of(bench.repository, saved.snapshot)
    assert str(bench.data / "sub" / "new.txt") in listed
    assert str(bench.data / "thumbs.tmp") not in listed
    assert stats(bench.repository)["total_size"] > 0
    check(bench.repository, 1, 1)
    bench.still_whole([s for s in snapshots(bench.repository) if s.id == saved.snapshot])


def test_a_source_file_that_cannot_be_read_is_told_and_the_rest_is_saved(bench: Bench) -> None:
    bench.made()
    absent = str(bench.folder / "absent")
    saved = backup(bench.repository, [str(bench.data), absent], tags=["files"], host="sv-test", excludes=["*.tmp"])
    assert (saved.incomplete, saved.files_unmodified) == (True, 6)


@pytest.mark.parametrize("old", [False, True], ids=["0.18", "debian-12"])
def test_wrong_password_missing_repository_and_no_network_are_told_apart(bench: Bench, old: bool) -> None:
    if old and not Path(DEBIAN_12).exists():
        pytest.skip("Debian's own restic is not installed")
    bench.repository = replace(bench.repository, program=DEBIAN_12 if old else bench.program)
    bench.made()
    before = snapshots(bench.repository)
    wrong = bench.folder / "wrong"
    wrong.write_text("another\n", encoding="utf-8")
    wrong.chmod(0o600)
    assert refused(lambda: snapshots(replace(bench.repository, password_file=wrong))).code == "wrong_password"
    assert refused(lambda: snapshots(bench.at(str(bench.folder / "none")))).code == "no_repository"
    assert not (bench.folder / "none").exists(), "no repository is made unasked"
    nobody = bench.at("rest:http://127.0.0.1:9/")
    assert refused(lambda: snapshots(nobody, seconds=3)).code == "network"
    bench.still_whole(before)
    if old:
        proof = prove_refusal(bench.repository, now, "sv-test")
        assert (proof.refused, proof.snapshots_before - proof.snapshots_after) == (False, 1)


def test_a_password_that_others_may_read_and_a_program_that_is_not_there_are_refused(bench: Bench) -> None:
    bench.password.chmod(0o644)
    error = refused(lambda: init(bench.repository))
    assert (error.code, error.figures["mode"]) == ("open_password", "0644")
    bench.password.chmod(0o600)
    assert refused(lambda: init(replace(bench.repository, program="/nowhere/restic"))).code == "no_program"


class Bucket(BaseHTTPRequestHandler):
    """A storage of the kind S3 that knows nobody; it remembers who asked."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Authorization", ""))
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.command == "GET" else b"")

    do_HEAD = do_GET  # noqa: N815  # the name that the library calls

    def log_message(self, *_: object) -> None:
        pass


def test_the_keys_of_s3_reach_the_storage_and_no_error(bench: Bench) -> None:
    keys = bench.folder / "restic-far.env"
    keys.write_text("AWS_ACCESS_KEY_ID=AKCANARY\nAWS_SECRET_ACCESS_KEY=secretcanary\n", encoding="utf-8")
    keys.chmod(0o640)
    with ThreadingHTTPServer(("127.0.0.1", 0), Bucket) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        far = replace(bench.at(f"s3:http://127.0.0.1:{server.server_port}/bucket"), keys_file=keys)
        assert refused(lambda: snapshots(far)).code == "open_password"
        assert Bucket.asked == []
        keys.chmod(0o600)
        error = refused(lambda: snapshots(far))
        server.shutdown()
    assert error.code == "denied"
    assert "Credential=AKCANARY/" in Bucket.asked[0]
    assert "canary" not in str(error.words).lower()


def test_a_live_lock_is_waited_for_and_the_lock_of_a_killed_backup_is_not(bench: Bench) -> None:
    bench.made()
    before = snapshots(bench.repository)
    slow, note = bench.slow()
    backup_under_way = Slowly(bench, slow, note)
    until(lambda: note.exists() and locks(bench.repository))
    assert refused(lambda: check(bench.repository)).code == "locked"
    assert release_stale(bench.repository, now)[0] == [], "a lock that somebody lives behind stays"
    held = refused(lambda: prove_refusal(bench.repository, now, "sv-test"))
    assert (held.code, held.figures["pid"]) == ("locked", backup_under_way.pid), "not tried is not refused"
    os.kill(backup_under_way.pid, signal.SIGKILL)
    assert backup_under_way.join().code == "interrupted"
    assert refused(lambda: check(bench.repository)).code == "stale_lock"
    assert refused(lambda: prove_refusal(bench.repository, now, "sv-test")).code == "stale_lock"
    removed, left = release_stale(bench.repository, now)
    assert (len(removed), left) == (1, [])
    assert {s.id for s in snapshots(bench.repository, "files")} == {s.id for s in before}
    assert snapshots(bench.repository, "big") == [], "half a backup is no snapshot"
    plain = prove_refusal(bench.repository, now, "sv-test")
    assert (plain.refused, plain.snapshots_after) == (False, plain.snapshots_before - 1), "a plain folder lets it go"
    bench.still_whole(before)
    bench.save()
    check(bench.repository, 1, 1)


def test_a_deletion_is_refused_only_when_it_was_tried(bench: Bench) -> None:
    """The forget of a client that hangs, and of one that claims to be done: the canary stays both times."""
    init(bench.repository)
    odd = bench.folder / "odd"
    odd_one = replace(bench.repository, program=str(odd))
    for answer, code in (("sleep 30", "timeout"), ("exit 0", "")):
        odd.write_text(f'#!/bin/sh\ncase "$*" in *" forget "*) {answer} ;; esac\nexec {bench.program} "$@"\n')
        odd.chmod(0o755)
        if code:
            assert refused(lambda: prove_refusal(odd_one, now, "sv-test", seconds=5)).code == code
    assert prove_refusal(odd_one, now, "sv-test").refused, "it claims to have deleted what is still there"


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted, which needs root")
def test_a_full_disk_costs_the_new_copy_and_no_old_one(bench: Bench) -> None:
    small = bench.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", small], check=True)
    try:
        there = bench.at(str(small / "repository"), "small")
        init(there)
        bench.save(there)
        before = snapshots(there)
        (bench.data / "much").write_bytes(os.urandom(8_000_000))
        assert refused(lambda: bench.save(there)).code == "full_disk"
        bench.still_whole(before, there)
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_network_that_is_cut_in_the_middle_costs_the_new_copy_and_no_old_one(bench: Bench) -> None:
    store = bench.folder / "store"
    with served(store) as server:
        there = bench.at(server.location, "nas")
        init(there)
        bench.save(there)
        before = snapshots(there)
        slow, note = bench.slow()
        under_way = Slowly(bench, replace(slow, location=server.location, name="nas"), note, seconds=6)
        until(lambda: note.exists() and any((store / "locks").iterdir()))
        server.stop()
        assert under_way.join().code == "network"
        again = Server(store, port=server.port)
        try:
            bench.still_whole(before, there)
            bench.save(there)
        finally:
            again.stop()


def test_a_damaged_pack_is_found_by_the_part_that_reads_it_and_spares_the_other_snapshots(bench: Bench) -> None:
    bench.made()
    before = snapshots(bench.repository)
    packs = {p for p in (bench.folder / "repository" / "data").rglob("*") if p.is_file()}
    (bench.data / "picture").write_bytes(os.urandom(400_000))
    second = bench.save()
    new = {p for p in (bench.folder / "repository" / "data").rglob("*") if p.is_file()} - packs
    pack = max(new, key=lambda p: p.stat().st_size)
    pack.chmod(0o600)
    body = bytearray(pack.read_bytes())
    body[len(body) // 3] ^= 0xFF
    pack.write_bytes(body)
    check(bench.repository)  # the structure alone does not show it
    found = []
    for part in (1, 2):
        try:
            check(bench.repository, part, 2)
        except BackupError as error:
            found.append(error.code)
    assert found == ["damaged"], "one of the two parts reads it"
    assert refused(lambda: restore(bench.repository, second, bench.folder / "out")).code == "damaged"
    shutil.rmtree(bench.folder / "out")
    bench.still_whole(before)
