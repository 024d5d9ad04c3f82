"""Encryption at rest, btrfs and mail on a real kernel: the storage play locks a volume, and a start needs nobody.

In the lab's QEMU guest, by emrctl alone."""

from __future__ import annotations

import time

import pytest

# Ansible in an emulated guest takes minutes: too long for the tier of every test run.
pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(1800)]

# btrfs names its device as the kernel does (/dev/dm-2); this is the name that the volume was opened under.
SOURCE = "dmsetup info -c --noheadings -o name $(findmnt -n -o SOURCE /srv/sealed)"


def test_a_volume_is_locked_before_it_is_filled_and_a_second_run_finds_nothing_to_do(storage, told):
    storage.arrays(sealed=("LAB-A1", "LAB-A2"))
    preview, applied = storage.play()
    assert applied["run"]["state"] == "successful", applied["run"]["detail"]
    changed = {t["task"] for t in applied["run"]["tasks"] if t["status"] == "changed"}
    assert {"Make the array", "Lock the volume", "Open it", "Make the filesystem", "Mount it"} <= changed
    would = {t["task"] for t in preview["run"]["tasks"] if t["status"] == "would_change"}
    assert {"Make the array", "Lock the volume", "Open it", "Make the filesystem", "Mount it"} <= would
    kinds = storage.guest("findmnt -n -o FSTYPE /srv/sealed; blkid -o value -s TYPE /dev/vg_md0/sealed")
    assert kinds.split() == ["btrfs", "crypto_LUKS"]
    assert storage.guest(SOURCE).split() == ["crypt_sealed"]
    assert storage.guest("stat -c %a%U /etc/emrctl/luks/sealed.key").strip() == "400root"
    storage.guest("echo 'a record' >/srv/records/one && sync -f /srv/records/one")
    storage.guest("echo 'ho so benh an so 1' >/srv/sealed/one && sync -f /srv/sealed/one")
    assert storage.guest("grep -c -a 'ho so benh an' /dev/mapper/crypt_sealed").strip() != "0"
    assert storage.guest("grep -c -a 'ho so benh an' /dev/vg_md0/sealed", code=1).strip() == "0"
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
    assert storage.guest("cat /proc/mdstat").count("[UU]") == 1
    assert storage.guest("systemctl is-active mdmonitor smartmontools").split() == ["active", "active"]


def test_a_disk_that_is_lost_is_told_by_mail_as_well(storage, told):
    storage.lab.run_lab("vm", "pull", "LAB-A2", check=True)
    limit = time.monotonic() + 120
    while not (letters := [m for m in told() if "md0" in m.get("mail", "")]) and time.monotonic() < limit:
        time.sleep(0.5)
    assert letters, told()
    assert letters[0]["to"] == ["it@hospital.invalid"]
    assert letters[0]["mail"].startswith("[nas-02] ")
    assert "device: /dev/md0" in letters[0]["body"]
    assert [m for m in told() if m.get("device") == "/dev/md0"], "and by the webhook, too"
