"""Demonstration 1 on a real kernel: the storage play makes an array, a disk is pulled, the criterion falls.

It says why; a new disk is built in, and it rises again. In the lab's QEMU guest, by emrctl alone."""

from __future__ import annotations

import time

import pytest

from tests.e2e.guest_hospital import CRITERION, STRICT

# Ansible in an emulated guest takes minutes: too long for the tier of every test run.
pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(1800)]


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
    wiped = [t for t in preview["run"]["tasks"] if t["task"] == "Wipe the disks that may be lost"]
    assert [t["status"] for t in wiped] == ["would_change"], "the dearest step is seen by whoever approves it"
    would = {task["task"] for task in preview["run"]["tasks"] if task["status"] == "would_change"}
    assert {"Make the array", "Make the volume", "Have it mounted at every start", "Make the filesystem"} <= would
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
    preview, applied = storage.play()
    assert applied["run"]["state"] == "successful", applied["run"]["detail"]
    would = [t["task"] for t in preview["run"]["tasks"] if t["status"] == "would_change"]
    changed = [t["task"] for t in applied["run"]["tasks"] if t["status"] == "changed"]
    assert changed == would == ["Put the disks into the array that is there"]
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


def test_what_the_disks_say_of_themselves_goes_through_the_exporter_and_a_failing_one_meets_the_alarm(storage):
    """The figures that the alarm HostDiskFailing asks for; the readers' timers are not waited for, but started once."""
    storage.guest("systemctl unmask prometheus-node-exporter-smartmon.timer prometheus-node-exporter-nvme.timer")
    applied = storage.json("apply", "monitoring", "--limit", "nas-02")
    assert applied["run"]["state"] == "successful", applied["run"]["detail"]
    enabled = storage.guest(
        "systemctl is-enabled prometheus-node-exporter-smartmon.timer prometheus-node-exporter-nvme.timer"
    )
    assert enabled.split() == ["enabled", "enabled"]
    figures = storage.exporter()
    healthy = figures["smartmon_device_smart_healthy"]
    assert ("sda" in healthy, list(healthy.values())) == (True, [1.0] * 4), "over ATA and over NVMe"
    assert list(figures["nvme_critical_warning_total"].values()) == [0.0, 0.0, 0.0]
    storage.lab.run_lab("vm", "fail", "LAB-B1", check=True)
    failing = storage.exporter()
    storage.lab.run_lab("vm", "heal", "LAB-B1", check=True)
    disk = storage.guest("basename $(readlink /dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_LAB-B1)").strip()
    (warned,) = [name for name, value in failing["nvme_critical_warning_total"].items() if value > 0]
    (unwell,) = [name for name, value in failing["smartmon_device_smart_healthy"].items() if value == 0]
    assert disk.startswith(warned)
    assert disk.startswith(unwell)
