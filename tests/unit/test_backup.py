"""Backups without restic: what it is asked, what its words mean, which part is read next."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from controlplane import texts
from controlplane.backup import repository as words_for
from controlplane.backup.causes import cause, deletion_answer, last_words
from controlplane.backup.errors import BackupError
from controlplane.backup.reach import keys_from, ssh_command
from controlplane.backup.repository import Repository, make_environment, next_part
from controlplane.backup.restic import Lock, parse_time
from controlplane.bootstrap.rehearsing import in_turn, last_hour

NAS = Repository("nas", Path("/etc/emrctl/secrets/restic-nas"), "rest:http://nas:8000/sv-01/", cache=Path("/c"))
ID = "0123456789abcdef"


def test_no_command_and_no_environment_holds_a_password_or_the_caller_s_own(monkeypatch):
    monkeypatch.setenv("RESTIC_PASSWORD", "canary")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    environment = make_environment(NAS)
    assert "canary" not in str(environment)
    assert environment["RESTIC_PASSWORD_FILE"] == "/etc/emrctl/secrets/restic-nas"
    assert "RESTIC_REPOSITORY" not in make_environment(
        Repository("far", Path("/p"), "", location_file=Path("/etc/emrctl/secrets/far"))
    )


def test_what_restic_is_asked():
    assert words_for.make_backup_command(NAS, ["/srv"], tags=["files"], host="sv-01", excludes=["*.tmp"]) == (
        "restic", "--json", "backup", "--host", "sv-01", "--tag", "files", "--exclude", "*.tmp", "--", "/srv",
    )  # fmt: skip
    assert words_for.make_check_command(NAS, 3, 14)[-1] == "--read-data-subset=3/14"
    assert words_for.make_check_command(NAS) == ("restic", "--json", "check")
    assert words_for.make_restore_command(NAS, ID, Path("/s"), ["/srv/a"])[-2:] == ("--include", "/srv/a")
    assert words_for.make_unlock_command(NAS) == ("restic", "--quiet", "unlock"), "never --remove-all"


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda: words_for.make_backup_command(NAS, [], tags=[], host="h"), "no_paths"),
        (lambda: words_for.make_backup_command(NAS, ["srv"], tags=[], host="h"), "no_paths"),
        (lambda: words_for.make_check_command(NAS, 0, 7), "bad_part"),
        (lambda: words_for.make_check_command(NAS, 8, 7), "bad_part"),
        (lambda: words_for.make_forget_one_command(NAS, "--prune"), "no_snapshot"),
    ],
)
def test_what_would_do_harm_is_refused_before_restic_is_asked(act, code):
    with pytest.raises(BackupError) as caught:
        act()
    assert caught.value.code == code


# What restic 0.14.0 and 0.18.0 really said.
SAID = {
    "wrong_password": (1, "Fatal: wrong password or no key found"),
    "no_repository": (
        1,
        "Fatal: unable to open config file: stat /r/config: no such file or directory\n"
        "Is there a repository at the following location?\n/r",
    ),
    "network": (
        1,
        'Fatal: unable to open config file: client.Head: Head "http://127.0.0.1:9/config": dial tcp 127.0.0.1:9: '
        "connect: connection refused\nIs there a repository at the following location?\nrest:http://127.0.0.1:9/",
    ),
    "full_disk": (1, "Fatal: unable to save snapshot: write r/data/fd/fd31-tmp-42: no space left on device"),
    "damaged": (1, "Pack ID does not match, want 62ca, got 0b7d\nFatal: repository contains errors"),
    "refused": (1, "blob not removed, server response: 403 Forbidden (403)"),
    "locked": (11, "unable to create lock in backend: repository is already locked by PID 26210 on vm by root"),
    "unknown_host": (
        1,
        "subprocess ssh: Host key verification failed.\nFatal: unable to open repository: unable to start the sftp "
        "session, error: server unexpectedly closed connection: unexpected EOF",
    ),
    "denied": (
        1,
        "subprocess ssh: nobody@127.0.0.1: Permission denied (publickey).\nFatal: unable to open repository: unable to "
        "start the sftp session, error: server unexpectedly closed connection: unexpected EOF",
    ),
    "failed": (1, "something that nobody has seen yet"),
}


@pytest.mark.parametrize("code", SAID)
def test_a_failure_is_told_by_its_cause_and_has_a_sentence_in_both_tongues(code):
    assert cause(*SAID[code]) == code
    assert texts.has(f"backup.{code}")


# What restic 0.14.0 and 0.18.0 said when a deletion was tried on a real storage, and what that proves.
TRIED = [
    (0, "Remove(<snapshot/fc50>) failed: unexpected HTTP response (403): 403 Forbidden\nunable to remove snapshot/fc50 "
     "from the repository", "refused"),
    (1, "unable to remove <snapshot/44dd> from the repository\nblob not removed, server response: 403 Forbidden (403)",
     "refused"),
    (0, "", "refused"),
    (11, "unable to create lock in backend: repository is already locked by PID 26210 on vm by root", "locked"),
    (1, "unable to create lock in backend: repository is already locked exclusively by PID 1 on vm", "locked"),
    (1, "unable to create lock in backend: open /r/locks/1: permission denied", "failed"),
    (0, "unable to remove snapshot/fc50: Delete: dial tcp 127.0.0.1:9: connect: connection refused", "network"),
    (1, "unable to remove <snapshot/44dd>: unlinkat /r/snapshots/44dd: input/output error", "failed"),
    (1, "Remove(<snapshot/44dd>) failed: remove /r/snapshots/44dd: operation not permitted", "refused"),
    (1, "Remove(<snapshot/44dd>) failed: Access Denied.", "refused"),
    (0, "Remove(<snapshot/10a5>) failed: unexpected HTTP response (500): 500 Internal Server Error\nunable to remove "
     "snapshot/10a5 from the repository", "failed"),
    (1, "nobody@127.0.0.1: Permission denied (publickey).", "denied"),
    (1, "ssh: Host key verification failed.\nFatal: server closed connection: unexpected EOF", "unknown_host"),
    (12, "Fatal: wrong password or no key found", "wrong_password"),
    (-9, "", "interrupted"),
    (1, "something that nobody has seen yet", "failed"),
    (1, "Remove(<snapshot/10a58d1681>) returned error, retrying after 552.330144ms: blob not removed, server response: "
     "403 Forbidden (403)", "refused"),
    (1, "Save(<lock/95db5ba9e1>) failed: open /r/locks/95db5ba9e1: permission denied", "failed"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "said", "answer"), TRIED)
def test_only_a_real_refusal_is_one(code, said, answer):
    assert deletion_answer(code, said) == answer


def test_a_certificate_and_a_key_of_s3_that_are_not_accepted_are_told_apart_from_the_network():
    tls = 'Head "https://nas/config": tls: failed to verify certificate: x509: certificate signed by unknown authority'
    assert cause(1, f"Stat(<config/>) returned error, retrying after 1.04s: {tls}") == "unknown_host"
    for words in ("Stat: Access Denied.", "Stat: InvalidAccessKeyId", "s3.getCredentials: no credentials found."):
        assert cause(1, f"Fatal: unable to open config file: {words}") == "denied"


def test_a_file_of_keys_holds_keys_of_s3_alone_and_an_error_names_none():
    assert keys_from("# the second copy\n\nAWS_ACCESS_KEY_ID=AK\nAWS_SECRET_ACCESS_KEY=a/b+c=\n") == {
        "AWS_ACCESS_KEY_ID": "AK",
        "AWS_SECRET_ACCESS_KEY": "a/b+c=",
    }
    for line in ("LD_PRELOAD=/canary", "RESTIC_PASSWORD=canary", "export AWS_X=canary", "AWS_X=", "canary"):
        with pytest.raises(ValueError, match=r"^2$"):
            keys_from(f"AWS_ACCESS_KEY_ID=AK\n{line}\n")


def test_over_ssh_nobody_is_asked_and_no_host_is_trusted_that_is_not_known():
    far = replace(NAS, location="sftp:backup@nas:/srv", ssh_key=Path("/s/restic-far.key"), known_hosts=Path("/k h"))
    command = words_for.make_snapshots_command(far)
    assert command[1] == "-o"
    for word in ("BatchMode=yes", "StrictHostKeyChecking=yes", "'-oUserKnownHostsFile=/k h'", "/s/restic-far.key"):
        assert word in command[2]
    assert command[3:] == ("--json", "--no-lock", "snapshots")
    assert ssh_command(far.location, [])[-5:] == ("-l", "backup", "-s", "nas", "sftp")
    port = ssh_command("sftp://b@nas:2222//srv/r", [])
    assert port[-7:] == ("-l", "b", "-p", "2222", "-s", "nas", "sftp")
    assert ssh_command(NAS.location, []) == ()


def test_exit_codes_decide_where_restic_gives_them():
    assert [cause(n, "") for n in (10, 11, 12, 1)] == ["no_repository", "locked", "wrong_password", "failed"]


def test_the_last_words_are_the_fatal_line_and_no_stack_of_calls():
    said = "retrying\nFatal: no\ngithub.com/restic/restic/internal/backend.(*R).Remove\n\t/x/rest.go:399\n"
    assert last_words(said) == "Fatal: no"
    assert last_words("") == "-"


def test_the_repositories_of_a_data_set_are_rehearsed_in_turn_and_what_lies_in_a_safe_is_not():
    register = {"repositories": [{"name": n, "offline": n == "disk"} for n in ("nas", "far", "disk")]}
    row = {"name": "emr", "repositories": ["nas", "far", "disk", "undeclared"]}
    assert in_turn(row, register, {}) == "nas"
    assert in_turn(row, register, {("emr", "nas"): "2026-11-22T00:00:00Z", ("files", "far"): "2026-11-22"}) == "far"
    assert in_turn(row, register, {("emr", "nas"): "2026-11-22", ("emr", "far"): "2026-11-29"}) == "nas"
    assert in_turn(row | {"repositories": ["disk", "undeclared"]}, register, {}) == ""


def test_every_part_is_read_once_in_a_cycle_and_another_cycle_begins_anew():
    last, read = None, []
    for _ in range(14):
        part = next_part(last, 7)
        read.append(part)
        last = {"part": part, "of": 7}
    assert read == [1, 2, 3, 4, 5, 6, 7] * 2
    assert next_part({"part": 5, "of": 7}, 10) == 1


@pytest.mark.parametrize(
    ("now", "last"),
    [
        ("2026-11-27T08:00", "2026-11-22T03:00"),  # a Friday: last Sunday
        ("2026-11-29T02:59", "2026-11-22T03:00"),  # Sunday, one minute before
        ("2026-11-29T03:00", "2026-11-29T03:00"),
    ],
)
def test_the_hour_of_the_week_that_has_passed(now, last):
    hanoi = ZoneInfo("Asia/Ho_Chi_Minh")
    found = last_hour("sun 03:00", datetime.fromisoformat(now).replace(tzinfo=hanoi))
    assert found.astimezone(hanoi).isoformat().startswith(last)


def test_a_lock_of_another_machine_is_stale_only_when_it_was_not_renewed():
    now = datetime(2026, 11, 20, 3, tzinfo=UTC)
    young = Lock(ID, now - timedelta(minutes=20), "elsewhere", 1, exclusive=True)
    assert not young.stale(now)
    assert Lock(ID, now - timedelta(minutes=31), "elsewhere", 1, exclusive=True).stale(now)


def test_restic_s_nanoseconds_are_read():
    assert parse_time("2026-11-26T22:41:22.711873891Z") == datetime(2026, 11, 26, 22, 41, 22, 711873, UTC)
