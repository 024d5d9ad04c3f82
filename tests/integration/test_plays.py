"""Plays for real: against this machine in check mode, and against the lab's hosts with everything that can go wrong."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.model import Asset, Words
from controlplane.plays import Play, PlayError, PlayRun, apply, preview, sweep
from tests.integration.conftest import ROOT, Lab

TWO = Words("hai", "two")
HERE = Asset("here", "server", ("all_here",), TWO, transports=("local",), access={"ansible_connection": "local"})
PLAYBOOK = """---
- name: Try
  hosts: all
  gather_facts: false
  tasks:
"""


# ------------------------------------------------------------------------- this machine, tiny playbooks, no lab


class Here:
    """A playbook in a temporary folder and this machine as its only host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "inventory.yaml").write_text("all: {hosts: {here: {ansible_connection: local}}}\n")

    def run(self, tasks: str, mode: Any = preview, head: str = PLAYBOOK, **settings: Any) -> PlayRun:
        (self.folder / "books").mkdir(exist_ok=True)
        (self.folder / "books" / "try.yml").write_text(head + tasks)
        play = Play("try", self.folder / "books" / "try.yml", TWO, TWO, "all")
        settings = {"hosts": [HERE], "known_hosts": self.folder / "none", "timeout_seconds": 60} | settings
        return mode(play, [self.folder / "inventory.yaml"], ["here"], self.folder / "runs", **settings)


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def test_a_preview_says_what_would_change_and_changes_nothing(here: Here, capfd: pytest.CaptureFixture[str]) -> None:
    target = here.folder / "made.conf"
    target.write_text("level = 2\n")
    task = f"""
    - name: Write
      ansible.builtin.copy:
        dest: {target}
        content: "level = 3\\npassword = canary-in-a-diff\\n"
        mode: "0600"
"""
    run = here.run(task)
    assert (run.state, run.mode) == ("successful", "preview")
    assert target.read_text() == "level = 2\n"
    assert stat.S_IMODE(target.stat().st_mode) != 0o600
    (result,) = run.tasks
    assert (result.host, result.task, result.status) == ("here", "Write", "would_change")
    assert result.diff[0].before == "level = 2\n"
    assert result.diff[0].after.startswith("level = 3\n")
    assert b"canary" not in run.events_raw
    assert "canary" not in json.dumps(run.document())
    assert capfd.readouterr().out == "", "the runner keeps its noise to itself"
    assert list((here.folder / "runs").iterdir()) == [], "the private folder is gone"

    run = here.run(task, mode=apply)
    assert [one.status for one in run.tasks] == ["changed"]
    assert "canary" in target.read_text(), "the host gets the real value"
    assert here.run(task, mode=apply).recap["here"].changed == 0


def test_a_failed_task_gives_its_words(here: Here) -> None:
    run = here.run("    - ansible.builtin.fail:\n        msg: the disk is not the one you meant\n")
    assert run.state == "failed"
    assert run.detail == "here: ansible.builtin.fail: the disk is not the one you meant"
    assert run.recap["here"].failed == 1


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ("    - name: [\n", "yaml"),
        ("    - no.such.module:\n        a: 1\n", "no.such.module"),
        ("    - ansible.builtin.import_role:\n        name: no_such_role\n", "no_such_role"),
        ("    - ansible.builtin.copy: {}\n      surprise: 1\n", "surprise"),
    ],
)
def test_a_playbook_that_does_not_hold_together_is_refused_with_words(here: Here, tasks: str, said: str) -> None:
    with pytest.raises(PlayError) as caught:
        here.run(tasks)
    assert said in caught.value.words.en.lower()
    assert caught.value.words.vi.startswith("Ansible không bắt đầu được kịch bản")
    assert "Traceback" not in caught.value.words.en


def test_a_play_is_given_the_intended_network_and_no_inventory_can_put_another_in_its_place(here: Here) -> None:
    (here.folder / "inventory.yaml").write_text(
        "all: {hosts: {here: {ansible_connection: local, emr_network: {vlans: [{id: 4000}]}}}}\n"
    )
    task = """
    - name: Tell
      ansible.builtin.debug:
        msg: "ids {{ emr_network.vlans | map(attribute='id') | join(' ') }}"
"""
    run = here.run(task, given={"emr_network": {"vlans": [{"id": 10}, {"id": 20}]}})
    assert run.state == "successful"
    assert b"ids 10 20" in run.events_raw
    assert b"4000" not in run.events_raw


def test_the_backup_job_is_told_what_the_adopted_register_leaves_out(here: Here) -> None:
    """As plays really run, from a copy with no inventory beside it: else wrong excludes would judge themselves."""
    shutil.copytree(ROOT / "playbooks" / "roles" / "backup", here.folder / "books" / "roles" / "backup")
    target, role = here.folder / "backup.json", "{{ playbook_dir }}/roles/backup"
    sets = [{"name": "pacs", "excludes": ["*.dcm"], "declared_excludes": ["*.dcm"]}, {"name": "more"}]
    task = {"name": "Write", "vars": {"backup_datasets": sets, "backup_repositories": []}}
    task["ansible.builtin.template"] = {"src": f"{role}/templates/backup.json.j2", "dest": str(target), "mode": "0600"}
    files = [f"{role}/{part}/main.yml" for part in ("defaults", "vars")]
    books = [{"hosts": "all", "gather_facts": False, "vars_files": files, "tasks": [task]}]
    given = {"emr_backups": {"excludes": {"here": {"pacs": []}, "elsewhere": {"more": ["*"]}}}}
    run = here.run("", apply, json.dumps(books), given=given)
    assert run.state == "successful", run.detail
    pacs, more = json.loads(target.read_text(encoding="utf-8"))["datasets"]
    assert (pacs["excludes"], pacs["declared_excludes"]) == (["*.dcm"], [])
    assert "declared_excludes" not in more, "the register does not know it here"


def test_what_would_end_a_line_of_a_unit_or_of_nginx_is_refused_before_anything_changes(tmp_path: Path) -> None:
    """A value that goes into a file of settings is one word there, whatever the inventory says."""
    more, path = "/srv/x --no-auth", "/srv/x"
    retention = {"name": "sv-01", "path": path, "password_file": path}
    storage = {"role_of": "backup_repository", "backup_repository_address": "127.0.0.1"}
    storage |= {"backup_repository_accounts": ["a:$2y$05$none"], "backup_restic_source": ""}
    product = {"role_of": "control_plane", "control_plane_key": path, "control_plane_certificate": path}
    wrong = {
        "folder": storage | {"backup_repository_folder": more},
        "certificate": storage | {"backup_repository_cert": more, "backup_repository_key": path},
        "key": storage | {"backup_repository_cert": path, "backup_repository_key": more},
        "keep": storage | {"backup_repository_keep": "--keep-within 7d --repo /srv"},
        "path": storage | {"backup_repository_retention": [retention | {"path": more}]},
        "location": storage
        | {"backup_repository_retention": [{"name": "a", "location": "rest:http://a:b@c/", "password_file": path}]},
        "secret": storage | {"backup_repository_retention": [retention | {"password_file": "secret"}]},
        "pages": product | {"control_plane_certificate": "/etc/x; include /tmp/x"},
        "pages-key": product | {"control_plane_key": "/etc/x;\nroot /"},
    }
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = {"all": {"hosts": {name: local | values for name, values in wrong.items()}}}
    (tmp_path / "inventory.json").write_text(json.dumps(inventory), encoding="utf-8")
    task = {"ansible.builtin.include_role": {"name": "{{ role_of }}"}}
    (tmp_path / "try.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    argv = [Path(sys.executable).parent / "ansible-playbook", "--check", "-f", "2", "-i", "inventory.json", "try.yml"]
    roles = os.environ | {"ANSIBLE_ROLES_PATH": str(ROOT / "playbooks" / "roles")}
    done = subprocess.run(argv, cwd=tmp_path, env=roles, capture_output=True, text=True, timeout=120, check=False)
    refused = re.findall(r"^fatal: \[([\w-]+)\].*Nothing was changed", done.stdout, re.MULTILINE)
    assert sorted(refused) == sorted(wrong), done.stdout[-3000:]
    assert re.findall(r"changed=(\d+) +unreachable=0 +failed=(\d+)", done.stdout) == [("0", "1")] * len(wrong)


def test_no_serial_number_that_was_left_in_wipes_an_array_that_did_not_start(here: Here) -> None:
    books = here.folder / "books"
    (books / "library").mkdir(parents=True)
    member = {"path": "/dev/none", "array": "", "holds": ["linux_raid_member"], "used_by": [], "keeps": "/dev/md0"}
    told = {"disks": {"A": member, "B": member}, "arrays": []}
    (books / "library" / "emr_disks.py").write_text(
        "from ansible.module_utils.basic import AnsibleModule\n"
        "module = AnsibleModule(argument_spec={'serials': {'type': 'list'}}, supports_check_mode=True)\n"
        f"module.exit_json(**{told})\n"
    )
    settings = {"storage_array": {"name": "md0", "level": 1, "serials": ["A", "B"]}, "storage_wipe_serials": ["A", "B"]}
    tasks = f"{ROOT}/playbooks/roles/storage/tasks/array.yml"
    book = {"hosts": "all", "gather_facts": False, "vars": settings, "tasks": [{"include_tasks": tasks}]}
    run = here.run("", preview, json.dumps([book]))
    assert run.state == "failed"
    assert "which stands in /etc/mdadm/mdadm.conf and is not running" in run.detail
    assert not [task.task for task in run.tasks if task.status == "would_change"]


def test_when_a_play_has_lost_all_of_its_hosts_the_later_ones_are_still_carried_out(here: Here) -> None:
    """Ansible by itself would give up; the site must not be kept from the router by a printer that knows nobody."""
    books, names = here.folder / "books", ("here-1", "here-2", "here-3")
    shutil.copytree(ROOT / "playbooks" / "callback_plugins", books / "callback_plugins")
    shutil.copy(ROOT / "playbooks" / "ansible.cfg", books)
    for number, lost in enumerate(("", "here-2", "", "here-3", ""), start=1):
        write = {"dest": f"{here.folder}/{{{{ inventory_hostname }}}}.{number}", "content": "x", "mode": "0600"}
        task = {"ansible.builtin.fail": {"msg": "not this one"}} if lost else {"ansible.builtin.copy": write}
        book = [{"hosts": lost or "all", "gather_facts": False, "tasks": [task]}]
        (books / f"{number}.yml").write_text(json.dumps(book))
    steps = [{"ansible.builtin.import_playbook": f"{number}.yml"} for number in range(1, 6)]
    (books / "try.yml").write_text(json.dumps(steps))
    there = {name: {"ansible_connection": "local"} for name in names}
    (here.folder / "inventory.yaml").write_text(json.dumps({"all": {"hosts": there}}))
    run = apply(
        Play("try", books / "try.yml", TWO, TWO, "all"),
        [here.folder / "inventory.yaml"],
        names,
        here.folder / "runs",
        hosts=[replace(HERE, name=name) for name in names],
        known_hosts=here.folder / "none",
    )
    assert run.state == "failed"
    assert run.outcomes == {"here-1": "changed", "here-2": "failed", "here-3": "failed"}
    assert {name: run.recap[name].changed for name in names} == {"here-1": 3, "here-2": 1, "here-3": 2}
    written = sorted(path.name for path in here.folder.glob("here-*"))
    assert written == ["here-1.1", "here-1.3", "here-1.5", "here-2.1", "here-3.1", "here-3.3"]


def test_the_site_leaves_alone_what_nothing_is_declared_for_and_says_so(tmp_path: Path) -> None:
    """Every play that rests on a declaration, on a host of every group of theirs; only looked at, to be sure."""
    groups = "disk_hosts linux_storage linux_servers printers probes network_devices controlplane".split()
    of_another_maker = {"emr_ports": {"port1": {"access": 10}}, "emr_switch": {"system": "ios", "bridge": ""}}
    hosts = {"here": HERE.access | {"ansible_python_interpreter": sys.executable}, "vendor": of_another_maker}
    network = {"vlans": [{"id": 10, "name": "x"}], "matrix": {"allow": []}, "probes": {"here": {"targets": {}}}}
    children = {group: {"hosts": {"here": {}}} for group in groups}
    children["network_devices"]["hosts"]["vendor"] = {}
    inventory = {"vars": {"emr_network": network, "ansible_become": False}, "hosts": hosts, "children": children}
    (tmp_path / "inventory.json").write_text(json.dumps({"all": inventory}), encoding="utf-8")
    program = Path(sys.executable).parent / "ansible-playbook"
    argv = [program, "--check", "-i", tmp_path / "inventory.json", "site.yml"]
    done = subprocess.run(argv, cwd=ROOT / "playbooks", capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    said = re.findall(r'^ok: \[(\w+)\] => \{\n    "msg": "(Nothing declared|Left alone): ', done.stdout, re.MULTILINE)
    assert sorted(said) == [*[("here", "Nothing declared")] * len(groups), ("vendor", "Left alone")]
    assert re.findall(r"changed=(\d+)", done.stdout) == ["0", "0"]


def test_a_play_for_another_group_is_refused_with_words(here: Here) -> None:
    with pytest.raises(PlayError, match="No host of the limit belongs to the play's group"):
        here.run("    - ansible.builtin.debug:\n", head=PLAYBOOK.replace("hosts: all", "hosts: elsewhere"))


def test_ansible_missing_is_said(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(here.folder / "python"))
    with pytest.raises(PlayError, match="ansible-core is not installed"):
        here.run("    - ansible.builtin.debug:\n")


SLEEP = "    - ansible.builtin.command: sleep 30\n      check_mode: false\n"


def test_a_run_can_be_cancelled(here: Here) -> None:
    wish = threading.Event()
    threading.Timer(4, wish.set).start()
    began = time.monotonic()
    run = here.run(SLEEP, cancelled=wish.is_set)
    assert run.state == "cancelled"
    assert time.monotonic() - began < 15
    assert "here: ansible.builtin.command" in run.detail
    assert not left_of(here.folder), "no process of the run is left"


def test_a_run_ends_at_its_time_limit(here: Here) -> None:
    run = here.run(SLEEP, timeout_seconds=4)
    assert run.state == "timeout"
    assert not left_of(here.folder)


def test_a_run_of_a_killed_control_plane_is_swept_up(here: Here) -> None:
    """The program is ended without warning in the middle of a task; its playbook goes on until somebody sweeps."""
    here.run("    - ansible.builtin.debug:\n")  # writes the inventory and the folder of the playbook
    (here.folder / "books" / "try.yml").write_text(PLAYBOOK + SLEEP.replace("30", "31"))
    program = f"""
from pathlib import Path
from tests.integration.test_plays import HERE, TWO, Play, apply
folder = Path({str(here.folder)!r})
play = Play("try", folder / "books" / "try.yml", TWO, TWO, "all")
apply(play, [folder / "inventory.yaml"], ["here"], folder / "runs", hosts=[HERE], known_hosts=folder / "none")
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as victim:
        limit = time.monotonic() + 30
        while not any(words.startswith("sleep 31") for words in commands()) and time.monotonic() < limit:
            time.sleep(0.1)
        victim.kill()
    assert left_of(here.folder), "ansible-playbook outlived its master"
    sockets = next((here.folder / "runs").glob("*/s")).resolve()
    assert sockets.is_dir()
    (name,) = sweep(here.folder / "runs")
    assert not sockets.exists()
    assert "-try-" in name
    assert not left_of(here.folder)
    assert sweep(here.folder / "runs") == ()
    assert sweep(here.folder / "nowhere") == ()


def commands() -> list[str]:
    """The command line of every process."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            with contextlib.suppress(OSError):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def left_of(folder: Path) -> list[str]:
    """What a run left behind: the command lines of ansible and ssh that name its folder."""
    return [words for words in commands() if f"{folder}/runs/" in words]


def test_the_environment_of_the_caller_does_not_reach_the_run(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMR_CANARY", "canary-from-the-environment")
    monkeypatch.setenv("ANSIBLE_HOST_KEY_CHECKING", "False")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/canary")
    run = here.run("    - ansible.builtin.command: env\n      check_mode: false\n", keep=True)
    (folder,) = (here.folder / "runs").iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    command = json.loads((folder / "artifacts" / "run" / "command").read_text())
    assert "canary" not in json.dumps(command)
    assert "SSH_AUTH_SOCK" not in command["env"]
    assert command["env"]["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert b"canary" not in run.events_raw
    assert not list((folder / "artifacts" / "run" / "job_events").iterdir()), "no event was written unscrubbed"


# ------------------------------------------------------------------------------------------------- the lab

# A program of its own, since a process enters the lab's network only as a whole. It prints the run as JSON.
_RUN = """
import json, sys
from pathlib import Path
import yaml
from controlplane.collect.inventory import load_inventory
from controlplane.plays import PlayError, apply, load_plays, preview

order = json.loads(sys.argv[1])
books = Path("playbooks")
plays = load_plays(yaml.safe_load((books / "plays.yaml").read_text()), books)
files = [Path(name) for name in order["inventory"]]
assets = load_inventory(files[:2], Path(order["run_dir"])).assets.values()
mode = {"preview": preview, "apply": apply}[order["mode"]]
try:
    run = mode(plays["time-ssh"], files, order["limit"], Path(order["run_dir"]), hosts=assets,
               known_hosts=Path(order["known_hosts"]), connect_timeout_seconds=5)
except PlayError as error:
    print(json.dumps({"refused": error.words.en}))
else:
    print(json.dumps({**run.document(), "events": run.events_raw.decode()}))
"""

# The collectors speak SSH by paramiko, which knows fewer algorithms than OpenSSH.
_READER = """
import sys
import paramiko
transport = paramiko.Transport((sys.argv[1], 22))
transport.connect(username="emrread", pkey=paramiko.Ed25519Key.from_private_key_file(sys.argv[2]))
assert transport.is_authenticated()
transport.close()
"""

# Back to what the lab gave: the play's own files go, the SSH server reads what is left. A second hang-up signal while
# sshd still starts anew would end it, so it is given a moment and is only sent when there is something to forget.
_RESET = """
ls /etc/ssh/sshd_config.d/*.conf >/dev/null 2>&1 || exit 0
rm -rf /etc/ssh/sshd_config.d/*emrctl* /etc/ssh/sshd_config.d/01-other.conf /etc/chrony/sources.d/emrctl.sources
rm -f /etc/profile.d/emrctl-idle.sh /run/emrctl/*
cp /usr/share/chrony/chrony.conf /etc/chrony/chrony.conf
chronyc reload sources >/dev/null
kill -HUP "$(cat /run/sshd.pid)"
sleep 1
"""
_STATE = "find /etc /run/emrctl -xdev -type f -exec sha256sum {} + 2>/dev/null | sort"


class Plays:
    """The shipped play against hosts of the lab, in quick settings."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.overlay: dict[str, Any] = {
            "time_sync_servers": ["10.77.0.2"],
            "timed_rollback_reconnect_seconds": 6,
            "timed_rollback_seconds": 10,
        }
        self.known_hosts = lab.known_hosts

    def __call__(self, mode: str, *limit: str) -> dict[str, Any]:
        overlay = self.folder / "overlay.json"
        overlay.write_text(json.dumps({"all": {"vars": self.overlay}}))
        order = {
            "mode": mode,
            "limit": limit,
            "inventory": [str(ROOT / "inventory" / "hosts.yaml"), str(self.lab.inventory), str(overlay)],
            "run_dir": str(self.folder / "runs"),
            "known_hosts": str(self.known_hosts),
        }
        done = self.lab.exec([sys.executable, "-c", _RUN, json.dumps(order)], cwd=ROOT)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def state(self, host: str) -> str:
        """Every file of /etc with its digest."""
        return self.lab.inside(host, ["sh", "-c", _STATE]).stdout

    def settings(self, host: str) -> list[str]:
        return self.lab.inside(host, ["/usr/sbin/sshd", "-T"]).stdout.splitlines()


HOSTS = {"sv-01": "10.77.0.10", "pc-03": "10.77.0.13"}  # one run by systemd, one without


@pytest.fixture
def plays(lab: Lab, tmp_path: Path) -> Iterator[Plays]:
    # A hospital may have left its hosts one key; sshd names the others all the same.
    away = "mkdir -p /root/keys && mv /etc/ssh/ssh_host_rsa_key* /etc/ssh/ssh_host_ecdsa_key* /root/keys/"
    back = "mv /root/keys/* /etc/ssh/"
    for host in HOSTS:
        lab.inside(host, ["sh", "-c", _RESET], check=True)
    lab.inside("pc-03", ["sh", "-c", away], check=True)
    yield Plays(lab, tmp_path)
    lab.inside("pc-03", ["sh", "-c", back], check=True)
    for host in HOSTS:
        lab.inside(host, ["sh", "-c", _RESET], check=True)


@pytest.mark.lab
@pytest.mark.slow
def test_preview_changes_nothing_apply_changes_and_a_second_apply_finds_nothing_to_do(plays: Plays) -> None:
    before = {host: plays.state(host) for host in HOSTS}
    run = plays("preview", *HOSTS, "pc-20")
    assert run["state"] == "successful", run["detail"]
    assert {host: plays.state(host) for host in HOSTS} == before, "a preview changes no file"
    assert run["left_out"]["pc-20"]["en"] == "skipped: no address yet"
    would = {(task["host"], task["task"]) for task in run["tasks"] if task["status"] == "would_change"}
    steps = {"Write the hardened settings", "Write the time servers", "Write the chrony configuration"}
    assert {(host, step) for host in HOSTS for step in steps} <= would
    assert all(task["tags"] for task in run["tasks"] if task["task"] != "Gathering Facts")

    run = plays("apply", *HOSTS)
    assert run["state"] == "successful", run["detail"]
    assert run["recap"]["pc-03"]["changed"] > 3
    for host, address in HOSTS.items():
        settings = plays.settings(host)
        wanted = {"permitrootlogin no", "passwordauthentication no", "maxauthtries 4", "x11forwarding no"}
        assert wanted <= set(settings)
        assert plays.lab.ssh(address, "sudo -n true", key="play").returncode == 0, "the play's own account gets in"
        reader = plays.lab.exec([sys.executable, "-W", "ignore", "-c", _READER, address, plays.lab.key("reader")])
        assert reader.returncode == 0, f"the collectors' own client gets in: {reader.stderr}"
        assert "10.77.0.2" in plays.lab.inside(host, ["chronyc", "-n", "sources"]).stdout
        assert plays.lab.inside(host, ["ls", "/run/emrctl"]).stdout == "", "the guard is gone"
    assert "PRIVATE KEY" not in run["events"]
    assert str(plays.folder) not in run["events"]

    again = plays("apply", *HOSTS)
    assert again["state"] == "successful"
    assert {host: recap["changed"] for host, recap in again["recap"].items()} == {"pc-03": 0, "sv-01": 0}
    assert again["playbook_digest"] == run["playbook_digest"]

    # As a run leaves it that was ended after it had written the settings and before it had loaded them.
    plays.lab.inside("pc-03", ["touch", "/run/emrctl/ssh-unproven"], check=True)
    resumed = plays("apply", "pc-03")
    assert resumed["state"] == "successful", resumed["detail"]
    loaded = [task["task"] for task in resumed["tasks"] if task["status"] == "changed"]
    assert loaded == ["Reload the SSH server by its own process number"], "what was not proven is proven now"
    assert plays.lab.inside("pc-03", ["ls", "/run/emrctl"]).stdout == ""


@pytest.mark.lab
@pytest.mark.slow
def test_a_play_that_comes_back_later_than_the_hosts_own_guard_is_no_success(plays: Plays) -> None:
    """On a slow day the guard puts the old settings back first; the play must not say that the new ones hold."""
    before = plays.settings("pc-03")
    # The guard's minute is over at once.
    quick = "printf '#!/bin/sh\\n' >/usr/local/bin/sleep && chmod 755 /usr/local/bin/sleep"
    plays.lab.inside("pc-03", ["sh", "-c", quick], check=True)
    try:
        run = plays("apply", "pc-03")
    finally:
        plays.lab.inside("pc-03", ["rm", "/usr/local/bin/sleep"], check=True)
    assert run["state"] == "failed"
    assert "the host has undone the change already" in run["detail"]
    assert plays.settings("pc-03") == before
    assert plays.lab.inside("pc-03", ["ls", "/run/emrctl"]).stdout == "", "nothing of the guard is left"


@pytest.mark.lab
@pytest.mark.slow
def test_settings_that_lock_us_out_are_undone_by_the_host_itself(plays: Plays) -> None:
    assert plays("apply", "pc-03")["state"] == "successful"
    before = plays.settings("pc-03")
    plays.overlay["ssh_hardening_extra_lines"] = ["DenyUsers emrplay"]
    run = plays("apply", "pc-03")
    assert run["state"] == "failed"
    assert "The SSH settings were not taken over and the previous ones stand" in run["detail"]
    assert plays.settings("pc-03") == before
    assert plays.lab.ssh(HOSTS["pc-03"], "true", key="play").returncode == 0


@pytest.mark.lab
@pytest.mark.slow
def test_settings_sshd_does_not_know_or_another_file_overrides_are_not_taken_over(plays: Plays) -> None:
    before = plays.state("pc-03")
    plays.overlay["ssh_hardening_extra_lines"] = ["NoSuchKeyword yes"]
    run = plays("apply", "pc-03")
    assert run["state"] == "failed"
    assert "Bad configuration option: NoSuchKeyword" in run["detail"]
    ssh = [line for line in plays.state("pc-03").splitlines() if "/etc/ssh/" in line]
    assert ssh == [line for line in before.splitlines() if "/etc/ssh/" in line]

    plays.overlay["ssh_hardening_extra_lines"] = []
    plays.lab.inside("pc-03", ["sh", "-c", "echo MaxAuthTries 9 > /etc/ssh/sshd_config.d/01-other.conf"], check=True)
    run = plays("apply", "pc-03")
    assert run["state"] == "failed"
    assert "not in force: maxauthtries 4" in run["detail"]
    assert "permitrootlogin no" not in plays.settings("pc-03"), "nothing is taken over by half"


@pytest.mark.lab
@pytest.mark.slow
def test_a_host_that_is_off_is_kept_apart_and_the_others_finish(plays: Plays) -> None:
    plays.lab.run_lab("stop", "pc-02", check=True)
    try:
        run = plays("apply", "pc-03", "pc-02")
    finally:
        plays.lab.run_lab("start", "pc-02", check=True)
    assert run["state"] == "unreachable"
    assert run["recap"]["pc-02"]["unreachable"] == 1
    assert run["recap"]["pc-02"]["failed"] == 0
    assert run["recap"]["pc-03"]["changed"] > 3
    assert run["recap"]["pc-03"]["unreachable"] == 0


@pytest.mark.lab
def test_a_host_whose_key_is_not_known_is_not_talked_to(plays: Plays) -> None:
    plays.overlay["ansible_ssh_common_args"] = "-o StrictHostKeyChecking=no"
    plays.overlay["ansible_host_key_checking"] = False
    inventory = re.sub(r" *emr_known_hosts: .*\n", "", plays.lab.inventory.read_text())
    (plays.folder / "lab.yaml").write_text(inventory)
    (plays.folder / "known").write_text("")
    plays.known_hosts = plays.folder / "known"
    plays.lab = Elsewhere(plays.lab.dir, plays.folder / "lab.yaml")
    run = plays("preview", "pc-03")
    assert run["state"] == "unreachable"
    assert "Host key verification failed" in run["detail"]


class Elsewhere(Lab):
    """The same lab by another inventory."""

    def __init__(self, folder: Path, inventory: Path) -> None:
        super().__init__(folder)
        object.__setattr__(self, "_inventory", inventory)

    @property
    def inventory(self) -> Path:
        found: Path = self.__dict__["_inventory"]
        return found
