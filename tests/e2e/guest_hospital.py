"""emrctl over a hospital whose one server and storage is the lab's guest: what the short and the long tests share."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import yaml

from controlplane.store.vault import Vault
from lab.plan import GUEST
from tests.conftest import ROOT

CRITERION = "tt54.infra.x.8"
STRICT = "tcvn14423.bak.central_ha"
PORT = 8089
MAIL_PORT = 8025


@contextlib.contextmanager
def fresh_guest(lab):
    """The lab's guest, just started; it is taken down at the end."""
    lab.run_lab("vm", "down", check=True)
    made = lab.run_lab("vm", "up", timeout=600)
    assert made.returncode == 0, made.stderr
    yield
    lab.run_lab("vm", "down", check=True)


class Storage:
    """emrctl over a hospital whose one server and storage is the guest."""

    def __init__(self, lab, folder):
        self.lab, self.folder, self.home = lab, folder, folder / "home"
        for name in ("checks", "playbooks", "inventory"):
            shutil.copytree(ROOT / name, self.home / name)
        self._only_groups()
        self.arrays("LAB-A1", "LAB-A2")

    def _only_groups(self):
        path = self.home / "inventory" / "hosts.yaml"
        document = yaml.safe_load(path.read_text(encoding="utf-8"))

        def prune(group):
            if "hosts" in group:
                group["hosts"] = {}
            for child in (group.get("children") or {}).values():
                if child:
                    prune(child)

        prune(document["all"])
        path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")

    def arrays(self, *serials, wipe=(), sealed=()):
        """Write what a hospital would: the array by serial numbers, a volume on it, and who is told.

        The disks of ``sealed`` get an encrypted volume beside the open one, and mail goes out beside the webhook.
        """
        serials = serials or sealed
        size = "60M" if sealed else "100M"  # btrfs wants 109 MiB of the rest
        values = {
            "storage_arrays": [{"name": "md0", "level": 1, "serials": list(serials)}],
            "storage_volumes": [{"name": "records", "array": "md0", "size": size, "mount": "/srv/records"}],
            "storage_wipe_serials": list(wipe),
            "storage_webhook_url": f"http://10.77.0.1:{PORT}/disk",
        }
        if sealed:
            volume = {"name": "sealed", "array": "md0", "size": "100%FREE", "filesystem": "btrfs"}
            values["storage_volumes"] += [{**volume, "mount": "/srv/sealed", "encrypt": True}]
            values["storage_mail_relay"] = f"10.77.0.1:{MAIL_PORT}"
            values |= {"storage_mail_from": "disks@hospital.invalid", "storage_mail_to": "it@hospital.invalid"}
        values["emr_kind"] = "server"  # so that the hospital has the server that its criterion asks for
        group = {"servers": {"hosts": {"nas-02": {}}}}
        overlay = {"all": {"hosts": {"nas-02": values}, "children": group}}
        (self.folder / "overlay.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")

    def emrctl(self, *argv, code=0):
        given = ["--data-dir", self.folder / "data", "--known-hosts", self.lab.known_hosts, "--lang", "en"]
        given += ["--inventory", self.lab.dir / "guest-inventory.yaml", "--inventory", self.folder / "overlay.yaml"]
        # A look takes an emulated machine half a minute, and several where other work shares this machine's processors.
        slow = ["EMRCTL_LOOK_DEADLINE_SECONDS=240", "EMRCTL_ROUND_DEADLINE_SECONDS=500"]
        command = ["env", f"EMRCTL_HOME={self.home}", *slow, sys.executable, "-m", "controlplane", *given, *argv]
        done = self.lab.exec(command, cwd=ROOT, timeout=850)
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def json(self, *argv, code=0):
        return json.loads(self.emrctl(*argv, "--json", code=code))

    def play(self, code=0, name="storage"):
        """Preview, approve by somebody else, apply: the way of a play that may cost data."""
        me, other = (["--by", name, "--password-file", self.folder / name] for name in ("an", "chi"))
        preview = self.json("preview", name, "--limit", "nas-02", *me, code=code)
        if code:
            return preview, None
        self.emrctl("request", preview["id"], *me)
        self.emrctl("approve", preview["id"], *other)
        glass = ["--break-glass", "the lab has no patients"]
        return preview, self.json("apply", name, "--limit", "nas-02", *me, *glass)

    def people(self):
        """Two people with passwords of their own, through the plane itself."""
        program = f"""
from controlplane.bootstrap import open_plane
from controlplane.settings import Settings
from pathlib import Path
plane = open_plane(Settings(data_dir=Path({str(self.folder / "data")!r}), home=Path({str(self.home)!r})))
plane.accounts.add("an", "engineer", "a password of an", plane.clock())
plane.accounts.add("chi", "director", "a password of chi", plane.clock())
"""
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)
        for name in ("an", "chi"):
            (self.folder / name).touch(mode=0o600)
            (self.folder / name).write_text(f"a password of {name}\n", encoding="utf-8")

    def verdict(self, criterion=CRITERION):
        return self.verdicts(criterion)[0]

    def verdicts(self, *criteria):
        """What the last round found of these criteria, in their order."""
        found = {c["id"]: c["verdict"] for c in self.json("score")["criteria"]}
        return [found[one] for one in criteria]

    def finding(self, check):
        """The verdict of a check on the guest, as the last round sealed it."""
        with sqlite3.connect(self.folder / "data" / "emrctl.db") as database:
            query = "select findings from rounds where findings is not null order by opened_seq desc limit 1"
            (digest,) = database.execute(query).fetchone()
        kept = json.loads(Vault(self.folder / "data" / "vault").get(digest))
        (verdict,) = {one["verdict"] for one in kept if (one["check"], one["asset"]) == (check, "nas-02")}
        return verdict

    def rounds(self):
        """The ids of all rounds, the newest first."""
        with sqlite3.connect(self.folder / "data" / "emrctl.db") as database:
            return [row[0] for row in database.execute("select id from rounds order by opened_seq desc")]

    def guest(self, command, code=0):
        done = self.lab.run_lab("vm", "exec", "sh", "-c", command)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def exporter(self):
        """Figure -> disk -> value, as the node exporter hands on what its two readers of disks find now."""
        self.guest("systemctl start prometheus-node-exporter-smartmon.service prometheus-node-exporter-nvme.service")
        url = f"http://{GUEST.address}:9100/metrics"
        program = f"import urllib.request as u; print(u.urlopen({url!r}, timeout=60).read().decode())"
        done = self.lab.exec([sys.executable, "-c", program], timeout=90, check=True)
        found = {}
        for name, labels, value in re.findall(r"^(smartmon_\w+|nvme_\w+)\{(.*?)\} (\S+)$", done.stdout, re.MULTILINE):
            disk = re.search(r'(?:device|disk)="(?:/dev/)?(\w+)', labels)
            found.setdefault(name, {})[disk[1] if disk else labels] = float(value)
        return found

    def make_array(self):
        """Let the storage role's tasks of an array work alone, by Ansible: the play as a whole takes minutes here."""
        tasks = {"name": "storage", "tasks_from": "array", "handlers_from": "main"}
        array = yaml.safe_load((self.folder / "overlay.yaml").read_text(encoding="utf-8"))["all"]["hosts"]["nas-02"]
        role = {"ansible.builtin.include_role": tasks, "name": "Keep the array"}
        own = {"storage_array": array["storage_arrays"][0], "storage_init": {"stat": {"exists": False}}}
        play = {"hosts": "nas-02", "become": True, "gather_facts": False, "vars": own, "tasks": [role]}
        book = self.home / "playbooks" / "array-alone.yml"
        book.write_text(yaml.safe_dump([{"name": "The array alone", **play}]), encoding="utf-8")
        login = [
            f"ansible_user=emrplay ansible_ssh_private_key_file={self.lab.key('play')}",
            f"ansible_ssh_common_args='-F none -o UserKnownHostsFile={self.lab.known_hosts}'",
            "ansible_python_interpreter=/usr/bin/python3",
        ]
        given = ["-i", self.lab.dir / "guest-inventory.yaml", "-i", self.folder / "overlay.yaml", "-e", " ".join(login)]
        program = [Path(sys.executable).parent / "ansible-playbook", *given, book]
        done = self.lab.exec(program, cwd=book.parent, timeout=300)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return re.findall(r"^TASK \[storage : (.*?)\] \*+\n(?:[^\n]+\n)*?changed: ", done.stdout, re.MULTILINE)

    def await_array(self, word):
        """Wait until the kernel says so of the array: its rebuilding takes as long as it takes."""
        limit = time.monotonic() + 120
        while word not in (said := self.guest("cat /proc/mdstat")):
            assert time.monotonic() < limit, said
            time.sleep(1)
