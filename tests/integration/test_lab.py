"""The lab itself: its hosts answer as real ones, it comes up after every crash, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.plan import HOSTS, NAME, SWITCHBOARD
from lab.processes import Process
from tests.integration.conftest import ROOT, Lab

pytestmark = pytest.mark.lab

ADDRESSES = {
    "sv-01": "10.77.0.10",
    "pc-01": "10.77.0.11",
    "pc-02": "10.77.0.12",
    "pc-03": "10.77.0.13",
    "sw-acc-01": "10.77.0.14",
    "prn-01": "10.77.0.15",
    "ups-01": "10.77.0.16",
}
SYS_NAME = "1.3.6.1.2.1.1.5.0"
PRINTER_STATUS = ("1.3.6.1.2.1.25.3.5.1.1.1", "1.3.6.1.2.1.25.3.2.1.5.1", "1.3.6.1.2.1.25.3.5.1.2.1")
VLAN_DATABASE, PVID = "1.3.6.1.2.1.17.7.1.4.2.1.3.0", "1.3.6.1.2.1.17.7.1.4.5.1.1"


def traces(lab: Lab) -> list[str]:
    """What of the lab can be seen on this machine: mounts, namespaces, cgroups, cards, processes."""
    found = [line for line in Path("/proc/mounts").read_text().splitlines() if str(lab.dir) in line]
    namespaces = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout.split()
    found += sorted({SWITCHBOARD, *(one.namespace for one in HOSTS)} & set(namespaces))
    found += [str(path) for path in Path("/sys/fs/cgroup").rglob(f"emr-{NAME}")]
    found += [path.name for path in Path("/sys/class/net").iterdir() if path.name in {one.name for one in HOSTS}]
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                mounts = (process / "mounts").read_text()
            except OSError:
                continue
            if f"{lab.dir}/hosts" in words + mounts:
                found.append(f"process {process.name} {words}")
    return found


def off(lab: Lab) -> list[str]:
    """The hosts that are not up."""
    return [name for name, row in lab.status().items() if not row["up"]]


def end(pid: int) -> None:
    """Kill a process without warning and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    limit = time.monotonic() + 10
    while time.monotonic() < limit and Process.of(pid):
        time.sleep(0.02)


@pytest.mark.parametrize("host", ADDRESSES)
def test_the_readers_key_opens_each_host(lab: Lab, host: str) -> None:
    done = lab.ssh(ADDRESSES[host], "hostname")
    tied = "command=" in lab.inside(host, ["cat", "/home/emrread/.ssh/authorized_keys"]).stdout
    if tied:  # the gate runs the collectors' script and nothing else
        assert done.returncode == 126, done.stderr
    else:
        assert (done.returncode, done.stdout) == (0, f"{host}\n"), done.stderr


@pytest.mark.parametrize("host", ["sv-01", "pc-01"])
def test_the_gate_runs_the_products_own_script_and_sudo_knows_its_commands(lab: Lab, host: str) -> None:
    ask = [sys.executable, "-m", "controlplane.collect.facts.shell"]
    script = subprocess.run([*ask, "--script"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lab.run_lab("up", check=True)  # the product may have changed since the hosts came up
    done = lab.ssh(ADDRESSES[host], "", input=script)
    assert done.returncode == 0, done.stderr
    assert f"{host}\n" in done.stdout
    changed = lab.ssh(ADDRESSES[host], "", input=script + "\n")
    assert changed.returncode == 126
    allowed = lab.inside(host, ["sudo", "-l", "-U", "emrread"]).stdout
    assert "NOPASSWD: /usr/sbin/sshd -T" in allowed
    assert "ALL\n" not in allowed


@pytest.mark.parametrize("host", ADDRESSES)
def test_the_plays_key_opens_each_host_and_may_become_root(lab: Lab, host: str) -> None:
    done = lab.ssh(ADDRESSES[host], "sudo -n sh -c 'hostname; id -un'", key="play")
    assert (done.returncode, done.stdout) == (0, f"{host}\nroot\n"), done.stderr


@pytest.mark.parametrize("host", ADDRESSES)
@pytest.mark.parametrize("version", ["3", "2c"])
def test_each_host_answers_snmp(lab: Lab, host: str, version: str) -> None:
    assert lab.snmp(ADDRESSES[host], SYS_NAME, version=version) == [host]


def test_the_server_is_a_real_systemd_host_and_the_pcs_have_init_scripts(lab: Lab) -> None:
    rows = lab.status()
    assert rows["sv-01"]["how"] == "systemd", rows["sv-01"].get("note")
    assert (
        lab.inside("sv-01", ["systemctl", "is-active", "ssh", "snmpd", "chrony", "cron"]).stdout.split()
        == ["active"] * 4
    )
    assert lab.inside("sv-01", ["systemctl", "restart", "chrony"]).returncode == 0
    assert lab.inside("pc-01", ["service", "ssh", "restart"]).returncode == 0
    assert lab.ssh(ADDRESSES["pc-01"], "true", key="play").returncode == 0


def test_hosts_have_processes_files_and_names_of_their_own(lab: Lab) -> None:
    lab.inside("pc-01", ["sh", "-c", "echo mine > /etc/only-here"], check=True)
    assert lab.inside("pc-02", ["cat", "/etc/only-here"]).returncode != 0
    assert not Path("/etc/only-here").exists()
    assert len(lab.inside("pc-01", ["ps", "-e"]).stdout.splitlines()) < 30
    assert lab.inside("pc-01", ["hostname"]).stdout == "pc-01\n"
    lab.inside("pc-01", ["rm", "/etc/only-here"], check=True)


@pytest.mark.parametrize("host", ["sv-01", "pc-01"])
def test_no_host_can_change_the_machine(lab: Lab, host: str) -> None:
    # To the second it is anyway: where the guard fails, this test must not be what breaks the machine's clock.
    clock = lab.inside(host, ["sh", "-c", 'date -s "@$(date +%s)"'])
    assert clock.returncode != 0
    setting = Path("/proc/sys/vm/swappiness")
    before = setting.read_text()
    assert lab.inside(host, ["sh", "-c", "echo 1 > /proc/sys/vm/swappiness"]).returncode != 0
    assert setting.read_text() == before
    assert lab.inside(host, ["mknod", "/root/disk", "b", "8", "0"]).returncode != 0


def test_the_switch_tells_its_vlans_through_database_numbers_of_their_own(lab: Lab) -> None:
    names = [f"{PVID}.{port}" for port in (1, 2, 3, 4)] + [f"{VLAN_DATABASE}.{vlan}" for vlan in (20, 30, 40)]
    assert lab.snmp(ADDRESSES["sw-acc-01"], *names) == ["20", "20", "20", "40", "101", "102", "103"]
    learned = f"1.3.6.1.2.1.17.7.1.2.2.1.2.101.2.119.0.0.1.{0x0D}"  # pc-03's card, in the database of VLAN 20
    assert lab.snmp(ADDRESSES["sw-acc-01"], learned) == ["3"]
    lab.inside("sw-acc-01", ["ovs-vsctl", "set", "port", "port3", "tag=30"], check=True)
    try:
        time.sleep(1.1)  # the agent reads the switch at most once a second
        assert lab.snmp(ADDRESSES["sw-acc-01"], f"{PVID}.3") == ["30"]
    finally:
        lab.inside("sw-acc-01", ["ovs-vsctl", "set", "port", "port3", "tag=20"], check=True)


def test_the_printer_tells_what_its_state_file_says(lab: Lab) -> None:
    path = "/var/lib/printer/state.json"
    before = lab.inside("prn-01", ["cat", path], check=True).stdout
    assert lab.snmp(ADDRESSES["prn-01"], *PRINTER_STATUS, version="2c") == ["3", "2", "0x0000"]
    state = json.loads(before) | {"cover_open": True}
    state["supplies"][0]["level"] = 4
    try:
        lab.inside("prn-01", ["tee", path], input=json.dumps(state), check=True)
        time.sleep(1.1)
        # Stopped (other), down; low toner and door open are bits 2 and 4 (RFC 2790).
        assert lab.snmp(ADDRESSES["prn-01"], *PRINTER_STATUS, version="2c") == ["1", "5", "0x2800"]
    finally:
        lab.inside("prn-01", ["tee", path], input=before, check=True)


def test_ansible_reads_the_overlay(lab: Lab) -> None:
    argv = [str(ROOT / ".venv" / "bin" / "ansible-inventory"), "-i", str(lab.inventory), "--list"]
    shipped = ROOT / "inventory" / "hosts.yaml"
    if shipped.is_file():
        argv[1:1] = ["-i", str(shipped)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["_meta"]["hostvars"]
    assert {name: found[name]["ansible_host"] for name in ADDRESSES} == ADDRESSES
    for name in ADDRESSES:
        secret = Path(found[name]["emr_snmp"]["secret_file"])
        for path in (secret, Path(found[name]["emr_play_key_file"])):
            assert path.stat().st_mode & 0o777 == 0o600


def test_exec_keeps_folder_environment_streams_and_exit_code(lab: Lab, tmp_path: Path) -> None:
    done = lab.exec(
        ["sh", "-c", "pwd; echo $WORD; cat; echo aside >&2; exit 7"],
        cwd=tmp_path,
        env={**os.environ, "WORD": "kept"},
        input="through\n",
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, f"{tmp_path}\nkept\nthrough\n", "aside\n")
    assert lab.exec(["no-such-program"]).returncode == 127


def test_a_host_switched_off_answers_nothing_and_comes_back_with_the_same_key(lab: Lab) -> None:
    lab.run_lab("stop", "pc-03", check=True)
    assert not lab.status()["pc-03"]["up"]
    off = lab.ssh(ADDRESSES["pc-03"], "true", key="play")
    assert off.returncode == 255
    assert "refused" not in off.stderr
    lab.run_lab("start", "pc-03", check=True)
    assert lab.ssh(ADDRESSES["pc-03"], "true", key="play").returncode == 0


def test_a_cut_host_swallows_packets_until_it_is_mended(lab: Lab) -> None:
    lab.run_lab("cut", "pc-02", check=True)
    try:
        silent = lab.ssh(ADDRESSES["pc-02"], "true", key="play")
        assert silent.returncode == 255
        assert "timed out" in silent.stderr
        assert lab.status()["pc-02"]["up"]
    finally:
        lab.run_lab("mend", "pc-02", check=True)
    assert lab.ssh(ADDRESSES["pc-02"], "true", key="play").returncode == 0


def test_new_host_keys_are_not_accepted_until_up_tells_of_them(lab: Lab) -> None:
    lab.run_lab("rekey", "pc-02", check=True)
    changed = lab.ssh(ADDRESSES["pc-02"], "true", key="play")
    assert changed.returncode == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in changed.stderr
    lab.run_lab("up", check=True)
    assert lab.ssh(ADDRESSES["pc-02"], "true", key="play").returncode == 0


def test_up_again_starts_nothing(lab: Lab) -> None:
    before = {name: row["pid"] for name, row in lab.status().items()}
    done = lab.run_lab("up", check=True)
    assert "started: nothing" in done.stdout
    assert {name: row["pid"] for name, row in lab.status().items()} == before


def test_up_mends_a_crash(lab: Lab) -> None:
    state = json.loads((lab.dir / "state.json").read_text())["hosts"]
    before = {name: row["pid"] for name, row in lab.status().items()}
    end(state["pc-01"]["pid"])  # what carries the host
    end(state["sv-01"]["pid"])
    end(before["prn-01"])  # process 1 of the host
    assert sorted(off(lab)) == ["pc-01", "prn-01", "sv-01"]
    done = lab.run_lab("up", check=True)
    assert "started: sv-01 pc-01 prn-01" in done.stdout
    assert lab.status()["pc-02"]["pid"] == before["pc-02"]
    for name in ("sv-01", "pc-01", "prn-01"):
        assert lab.ssh(ADDRESSES[name], "true", key="play").returncode == 0


def test_up_works_when_everything_was_killed_and_nothing_is_remembered(lab: Lab) -> None:
    for row in json.loads((lab.dir / "state.json").read_text())["hosts"].values():
        if row["how"] == "namespaces":
            end(row["pid"])
    (lab.dir / "state.json").unlink()  # sv-01 still runs, and only its namespace and cgroup tell of it
    lab.run_lab("up", check=True)
    assert off(lab) == []
    assert len([line for line in traces(lab) if "systemd-nspawn" in line]) == 1


@pytest.mark.parametrize("seconds", [0.1, 0.25, 0.4, 0.6, 0.9])
def test_an_up_that_is_killed_half_way_does_no_harm(lab: Lab, seconds: float) -> None:
    lab.run_lab("down", check=True)
    began = subprocess.Popen(
        [str(ROOT / "script" / "lab"), "up", "--small"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(seconds)
    began.kill()
    began.wait()
    lab.run_lab("up", check=True)
    assert off(lab) == []
    lab.run_lab("down", check=True)
    assert traces(lab) == []
    lab.run_lab("up", check=True)


def test_two_ups_at_once_wait_for_each_other(lab: Lab) -> None:
    lab.run_lab("down", check=True)
    words = [str(ROOT / "script" / "lab"), "up", "--small"]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=120) for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert sorted("started: nothing" in out for out, _ in said) == [False, True]


def test_a_server_whose_systemd_does_not_boot_is_started_without_it(lab: Lab, tmp_path: Path) -> None:
    broken = tmp_path / "systemd-nspawn"
    broken.write_text("#!/bin/sh\necho Operation not permitted >&2\nexit 1\n")
    broken.chmod(0o755)
    lab.run_lab("stop", "sv-01", check=True)
    try:
        without = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        lab.run_lab("start", "sv-01", env=without, check=True)
        row = lab.status()["sv-01"]
        assert row["how"] == "namespaces"
        assert "Operation not permitted" in row["note"]
        assert lab.ssh(ADDRESSES["sv-01"], "true", key="play").returncode == 0
    finally:
        lab.run_lab("stop", "sv-01", check=True)
        lab.run_lab("start", "sv-01", check=True)
    assert lab.status()["sv-01"]["how"] == "systemd"


def test_down_leaves_nothing_and_up_comes_back_in_time(lab: Lab) -> None:
    lab.inside("pc-01", ["sh", "-c", "echo kept > /root/kept"], check=True)
    assert traces(lab)
    lab.run_lab("down", check=True)
    assert traces(lab) == []
    assert not lab.inventory.exists()
    refused = lab.exec(["true"])
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    began = time.monotonic()
    lab.run_lab("up", check=True)
    assert time.monotonic() - began < 60
    assert lab.inside("pc-01", ["cat", "/root/kept"]).stdout == "kept\n"
    lab.run_lab("up", "--fresh", check=True)
    assert lab.inside("pc-01", ["cat", "/root/kept"]).returncode != 0


def test_a_name_belongs_to_one_folder_and_the_other_folder_is_named(lab: Lab, tmp_path: Path) -> None:
    other = lab.run_lab("up", env={**os.environ, "EMRCTL_LAB_DIR": str(tmp_path)})
    assert other.returncode == 1
    assert str(lab.dir) in other.stderr
    assert off(lab) == []


@pytest.mark.parametrize("words", [["frobnicate"], ["stop", "pc-99"], ["in", "pc-01"], ["exec"], []])
def test_a_wrong_call_is_a_sentence(lab: Lab, words: list[str]) -> None:
    done = lab.run_lab(*words)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


def test_without_root_it_says_so(lab: Lab) -> None:
    if any(not folder.stat().st_mode & 0o001 for folder in Path(__file__).resolve().parents):
        pytest.skip("the account nobody may not enter this folder")
    done = lab.run_lab("status", user="nobody", cwd="/")
    assert done.returncode == 1
    assert "root" in done.stderr
    assert done.stderr.count("\n") == 1
