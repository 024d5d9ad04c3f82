"""Demonstration 1 on a real kernel: the storage play makes an array, a disk is pulled, the criterion falls.

It says why; a new disk is built in, and it rises again. In the lab's QEMU guest, by emrctl alone."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time

import pytest

from tests.e2e.guest_hospital import CRITERION, MAIL_PORT, PORT, STRICT, Storage, fresh_guest
from tests.integration.conftest import LAB

# Ansible in an emulated guest takes minutes: too long for the tier of every test run.
pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(900)]

# Takes what is posted or mailed and prints it, a line each, for as long as its parent lives.
_RECEIVER = f"""
import email, email.policy, http.server, json, sys, threading
from aiosmtpd.controller import Controller
class Letters:
    async def handle_DATA(self, server, session, envelope):
        letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
        told = {{"mail": letter["subject"], "to": envelope.rcpt_tos, "body": letter.get_content()}}
        print(json.dumps(told), flush=True)
        return "250 taken"
Controller(Letters(), hostname="10.77.0.1", port={MAIL_PORT}).start()
class Take(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(204); self.end_headers()
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(("10.77.0.1", {PORT}), Take)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
"""


# btrfs names its device as the kernel does (/dev/dm-2); this is the name that the volume was opened under.
SOURCE = "dmsetup info -c --noheadings -o name $(findmnt -n -o SOURCE /srv/sealed)"


@pytest.fixture(scope="module")
def storage(lab, tmp_path_factory):
    with fresh_guest(lab):
        place = Storage(lab, tmp_path_factory.mktemp("storage"))
        place.emrctl("init")
        place.people()
        yield place


@pytest.fixture(scope="module")
def told(lab, tmp_path_factory):
    """Where the webhook's messages arrive, a line of JSON each."""
    path = tmp_path_factory.mktemp("told") / "messages"
    with path.open("wb") as out:
        receiver = subprocess.Popen([LAB, "exec", sys.executable, "-c", _RECEIVER], stdin=subprocess.PIPE, stdout=out)
        yield lambda: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        with contextlib.suppress(BrokenPipeError):
            receiver.communicate(b"", timeout=10)


def test_a_disk_that_holds_data_is_refused_until_its_serial_number_is_told(storage):
    storage.guest("mkfs.ext4 -q /dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_LAB-A2")
    before = storage.guest("sha256sum /dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_LAB-A*[0-9]")
    preview, _ = storage.play(code=1)
    assert "Disk LAB-A2 (/dev/nvme1n1) holds data (ext4)" in preview["run"]["detail"]
    assert storage.guest("sha256sum /dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_LAB-A*[0-9]") == before
    storage.arrays("LAB-A1", "LAB-A2", wipe=["LAB-A2"])


def test_the_play_makes_the_array_and_the_criterion_is_met(storage, told):
    storage.json("round")
    assert storage.verdict() == "not_met"
    preview, applied = storage.play()
    would = {task["task"] for task in preview["run"]["tasks"] if task["status"] == "would_change"}
    assert {"Make the array", "Make the volume", "Have it mounted at every start"} <= would
    assert applied["run"]["state"] == "successful", applied["run"]["detail"]
    assert "/srv/records" in storage.guest(
        "findmnt -n -o TARGET /srv/records; systemctl is-active mdmonitor smartmontools"
    )
    storage.await_array("[UU]")
    storage.arrays("LAB-A1", "LAB-A2")  # what may be wiped is taken out again at once
    storage.guest("echo 'a record' >/srv/records/one && sync")
    storage.json("round")
    assert storage.verdict() == "met"
    assert storage.finding("backup.array-watched") == "met"


def test_a_pulled_disk_lets_the_criterion_fall_with_the_reason_and_the_hospital_is_told(storage, told):
    storage.lab.run_lab("vm", "pull", "LAB-A2", check=True)
    storage.await_array("_")
    assert storage.guest("cat /sys/block/md0/md/array_state").strip() in ("clean", "active"), "it goes on working"
    storage.json("round")
    assert storage.verdicts(CRITERION, STRICT) == ["not_met", "not_met"]
    assert storage.finding("server.raid-whole") == "not_met"
    said = storage.emrctl("explain", CRITERION)
    assert "/proc/mdstat" in said
    assert "[2/1]" in said, "down to the bytes that the kernel told"
    assert storage.guest("cat /srv/records/one").strip() == "a record"
    limit = time.monotonic() + 60
    while (
        not (heard := [m for m in told() if m.get("event") in ("DegradedArray", "Fail")]) and time.monotonic() < limit
    ):
        time.sleep(0.5)
    assert heard, told()
    assert (heard[0]["host"], heard[0]["source"], heard[0]["device"]) == ("nas-02", "mdadm", "/dev/md0")


def test_the_comparison_of_the_two_rounds_names_the_criteria_that_are_lost(storage):
    """One machine alone proves no level of a hospital, so what is lost is told in criteria of the level."""
    after, before = storage.rounds()[:2]
    difference = storage.json("diff", before, after)
    moved = {move["criterion"]: (move["before"], move["after"]) for move in difference["criteria"]}
    assert moved[CRITERION] == ("met", "not_met")
    assert moved[STRICT][1] == "not_met"
    assert {m["check"] for m in difference["findings"]} >= {"server.raid-whole", "backup.storage-whole"}


def test_a_second_run_builds_a_new_disk_in_changes_nothing_else_and_the_criterion_rises_again(storage):
    storage.lab.run_lab("vm", "plug", "LAB-A3", check=True)
    storage.arrays("LAB-A1", "LAB-A3")
    _, applied = storage.play()
    assert applied["run"]["state"] == "successful", applied["run"]["detail"]
    changed = [t["task"] for t in applied["run"]["tasks"] if t["status"] == "changed"]
    assert changed == ["Put the disks into the array that is there"]
    storage.await_array("[UU]")
    storage.json("round")
    assert storage.verdict() == "met"
    assert storage.guest("cat /srv/records/one").strip() == "a record"


def test_a_disk_that_says_it_fails_is_seen_and_seen_no_more_when_it_is_well(storage):
    storage.json("round")
    assert storage.finding("storage.disks-healthy") == "met"
    storage.lab.run_lab("vm", "fail", "LAB-B1", check=True)
    storage.json("round")
    assert storage.finding("storage.disks-healthy") == "not_met"
    assert storage.finding("server.disks-healthy") == "not_met"
    storage.lab.run_lab("vm", "heal", "LAB-B1", check=True)
    storage.json("round")
    assert storage.finding("storage.disks-healthy") == "met"


# ------------------------------------------------------------------------------ encryption at rest, btrfs, mail


def test_a_volume_is_locked_before_it_is_filled_and_a_second_run_finds_nothing_to_do(storage, told):
    for serial in ("LAB-C1", "LAB-C2"):
        storage.lab.run_lab("vm", "plug", serial, check=True)
    storage.arrays("LAB-A1", "LAB-A3", sealed=("LAB-C1", "LAB-C2"))
    _, applied = storage.play()
    assert applied["run"]["state"] == "successful", applied["run"]["detail"]
    changed = {t["task"] for t in applied["run"]["tasks"] if t["status"] == "changed"}
    assert {"Make the array", "Lock the volume", "Open it", "Make the filesystem", "Mount it"} <= changed
    kinds = storage.guest("findmnt -n -o FSTYPE /srv/sealed; blkid -o value -s TYPE /dev/vg_md1/sealed")
    assert kinds.split() == ["btrfs", "crypto_LUKS"]
    assert storage.guest(SOURCE).split() == ["crypt_sealed"]
    assert storage.guest("stat -c %a%U /etc/emrctl/luks/sealed.key").strip() == "400root"
    storage.guest("echo 'ho so benh an so 1' >/srv/sealed/one && sync -f /srv/sealed/one")
    assert storage.guest("grep -c -a 'ho so benh an' /dev/mapper/crypt_sealed").strip() != "0"
    assert storage.guest("grep -c -a 'ho so benh an' /dev/vg_md1/sealed", code=1).strip() == "0"
    me = ["--by", "an", "--password-file", storage.folder / "an"]
    again = storage.json("preview", "storage", "--limit", "nas-02", *me)
    assert [t["task"] for t in again["run"]["tasks"] if t["status"] in ("changed", "would_change")] == []


def test_everything_is_there_again_after_a_start_without_a_person(storage):
    before = storage.guest("cat /proc/sys/kernel/random/boot_id")
    storage.guest("nohup sh -c 'sleep 1; systemctl reboot' >/dev/null 2>&1 &")
    limit = time.monotonic() + 400
    while True:
        done = storage.lab.run_lab("vm", "exec", "cat", "/proc/sys/kernel/random/boot_id")
        if done.returncode == 0 and done.stdout != before:
            break
        assert time.monotonic() < limit, done.stderr
        time.sleep(2)
    storage.guest("timeout 120 systemctl is-system-running --wait || true")
    assert storage.guest("cat /srv/records/one /srv/sealed/one").splitlines() == ["a record", "ho so benh an so 1"]
    assert storage.guest(SOURCE).split() == ["crypt_sealed"]
    assert storage.guest("cat /proc/mdstat").count("[UU]") == 2
    assert storage.guest("systemctl is-active mdmonitor smartmontools").split() == ["active", "active"]


def test_a_disk_that_is_lost_is_told_by_mail_as_well(storage, told):
    storage.lab.run_lab("vm", "pull", "LAB-C2", check=True)
    limit = time.monotonic() + 120
    while not (letters := [m for m in told() if "md1" in m.get("mail", "")]) and time.monotonic() < limit:
        time.sleep(0.5)
    assert letters, told()
    assert letters[0]["to"] == ["it@hospital.invalid"]
    assert letters[0]["mail"].startswith("[nas-02] ")
    assert "device: /dev/md1" in letters[0]["body"]
    assert [m for m in told() if m.get("device") == "/dev/md1"], "and by the webhook, too"
