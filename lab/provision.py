"""What is written into a host's own root before it starts; it refuses to touch what a play has changed elsewhere."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import stat
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.domain.isolation import INTERNET, Place, probe_plans
from lab import policy
from lab.folder import REPOSITORY, Folder
from lab.handover import secrets_of
from lab.plan import CORE, GUEST, HOSTS, NETWORK, PLAYER, READER, Host, host, ports_of
from lab.processes import run

_HERE = Path(__file__).resolve().parent
_GATE = REPOSITORY / "controlplane" / "collect" / "gate.sh"
_GATE_IN_HOST = "usr/local/lib/emrctl/gate.sh"
_PROBE_FILES = REPOSITORY / "playbooks" / "roles" / "isolation_probe" / "files"


@dataclass(frozen=True)
class Agent:
    """What snmpd of a device calls: our agent's name, the branches it answers, and what the device says it is."""

    name: str
    branches: tuple[str, ...]
    describes: str
    layers: int  # sysServices: the sum of two to the power of each layer less one


_AGENTS = {
    "switch": Agent("qbridge", (".1.3.6.1.2.1.17",), "Lab access switch (Open vSwitch)", 2),
    "printer": Agent(
        "printer", (".1.3.6.1.2.1.25.3.2", ".1.3.6.1.2.1.25.3.5", ".1.3.6.1.2.1.43"), "Lab Laser 2320", 72
    ),
    "ups": Agent("ups", (".1.3.6.1.2.1.33",), "Lab UPS 3000", 72),
}


@dataclass(frozen=True)
class ReaderRights:
    """What ties the reading account to the one script it may run; ``missing`` says why there is no such tie."""

    gate: str = ""
    script_sha256: str = ""
    sudoers: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Root:
    """A host's root as files on this machine: its writable layer while it is off, its live root while it is on."""

    path: Path
    base: Path

    def put(self, name: str, text: str | bytes, mode: int = 0o644, like: str = "") -> None:
        """Write one file in one step; ``like`` names the path whose owner it takes over (root's own otherwise)."""
        target = self.path / name
        self._folders(target.parent)
        if target.is_symlink() or target.exists():
            with contextlib.suppress(OSError):
                if not target.is_symlink() and target.read_bytes() == _bytes(text):
                    target.chmod(mode)
                    return
            target.unlink()
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as out:
            out.write(_bytes(text))
        target.chmod(mode)
        if like:
            theirs = (self.base / like).stat()
            os.chown(target, theirs.st_uid, theirs.st_gid)

    def _folders(self, folder: Path) -> None:
        """Make folders with the mode and owner they have in the base tree: the writable layer's own would win."""
        if folder.is_dir():
            return
        self._folders(folder.parent)
        folder.mkdir()
        theirs = self.base / folder.relative_to(self.path)
        if theirs.is_dir():
            found = theirs.stat()
            os.chown(folder, found.st_uid, found.st_gid)
            folder.chmod(stat.S_IMODE(found.st_mode))
        else:
            folder.chmod(0o755)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def reader_rights() -> ReaderRights:
    """Ask the product which script its collectors send and which commands they may raise; never raises."""
    if not _GATE.is_file():
        return ReaderRights(missing="the product has no gate.sh")
    python = REPOSITORY / ".venv" / "bin" / "python"
    told = []
    for option in (["--script-sha256"], ["--sudoers", "--account", READER]):
        argv = [str(python), "-m", "controlplane.collect.facts.shell", *option]
        try:
            done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)
        except (OSError, subprocess.TimeoutExpired) as error:
            return ReaderRights(missing=f"the product could not be asked ({type(error).__name__})")
        if done.returncode != 0 or not done.stdout.strip():
            return ReaderRights(missing=f"the product does not answer {option[0]}")
        told.append(done.stdout)
    # Once for a batch of hosts, so that a broken rule never locks sudo in a host.
    checked = (
        subprocess.run(["visudo", "-cf", "-"], input=told[1], capture_output=True, text=True, check=False)
        if shutil.which("visudo")
        else None
    )
    if checked is not None and checked.returncode != 0:
        return ReaderRights(missing="the product's sudo rules are not valid")
    return ReaderRights(_GATE.read_text(encoding="utf-8"), told[0].strip(), told[1])


def put_reader_rights(root: Root, folder: Folder, rights: ReaderRights) -> None:
    """Write the reader's key and its limits; also into a host that runs."""
    key = folder.key("reader").with_suffix(".pub").read_text(encoding="utf-8")
    tie = ""
    if not rights.missing:
        root.put(_GATE_IN_HOST, rights.gate, 0o755)
        root.put("etc/emrctl/allowed-scripts", rights.script_sha256 + "\n")
        root.put("etc/sudoers.d/emrctl", rights.sudoers.rstrip("\n") + "\n", 0o440)
        tie = f'restrict,command="/{_GATE_IN_HOST}" '
    home = f"home/{READER}"
    root.put(f"{home}/.ssh/authorized_keys", tie + key, 0o600, like=home)


def prepare(folder: Folder, one: Host, base: Path, rights: ReaderRights, systemd: bool) -> None:
    """Write everything a host needs into its writable layer, before it starts."""
    root = Root(folder.host_dir(one.name) / "upper", base)
    for name in ("upper", "work", "root"):
        (folder.host_dir(one.name) / name).mkdir(parents=True, exist_ok=True)
    root.put("etc/hostname", f"{one.name}\n")
    names = "".join(f"{other.address} {other.name}\n" for other in (*HOSTS, GUEST))
    root.put("etc/hosts", f"127.0.0.1 localhost\n{names}")
    if not (root.path / "etc/machine-id").exists():
        root.put("etc/machine-id", uuid.uuid4().hex + "\n", 0o444)
    if "ssh" in one.services:
        _ssh(root, folder, one, rights)
    if "snmpd" in one.services:
        _snmp(root, folder, one)
    _time(root, one)
    _init(root, one, systemd)
    if one.kind == "firewall":
        _firewall(root)
    if one.kind == "probe":
        _probe(root, one)
    if one.tree == "device":
        _agents(root, one)


def _ssh(root: Root, folder: Folder, one: Host, rights: ReaderRights) -> None:
    put_host_keys(root, folder, one.name)
    put_reader_rights(root, folder, rights)
    home = f"home/{PLAYER}"
    root.put(f"{home}/.ssh/authorized_keys", folder.key("play").with_suffix(".pub").read_bytes(), 0o600, like=home)


def _snmp(root: Root, folder: Folder, one: Host) -> None:
    v2c, v3 = secrets_of(folder)
    lines = [
        "agentAddress udp:161",
        "dontLogTCPWrappersConnects yes",
        f"sysName {one.name}",
        "sysLocation Lab",
        "sysContact it@hospital.invalid",
        f"rocommunity {v2c['community']}",
        f"createUser {v3['user']} SHA {v3['auth_key']} AES {v3['priv_key']}",
        f"rouser {v3['user']} priv",
    ]
    if agent := _AGENTS.get(one.kind):
        what = agent.describes.replace("access", "core") if one.name == CORE else agent.describes
        lines += [f"sysDescr {what}", f"sysServices {agent.layers}"]
        lines += [f"pass_persist {branch} /usr/local/sbin/lab-agent {agent.name}" for branch in agent.branches]
    root.put("etc/snmp/snmpd.conf", "\n".join(lines) + "\n", 0o600)
    without = "smux,mteTrigger,mteTriggerConf" + (",hr_device,hr_print" if one.kind == "printer" else "")
    # A device's agent needs the switch's socket or the state file, so it stays root there.
    account = "" if one.tree == "device" else "-u Debian-snmp -g Debian-snmp "
    root.put("etc/default/snmpd", f"SNMPDOPTS='-Lf /var/log/snmpd.log {account}-I -{without}'\n")


def _time(root: Root, one: Host) -> None:
    """A host never sets the clock: it is the machine's. chronyd measures (-x), and the rest of it is real."""
    if "chrony" not in one.services:
        return
    root.put("etc/default/chrony", 'DAEMON_OPTS="-F 1 -x"\n')
    if one.kind == "clock":
        rules = f"local stratum 8\nallow {NETWORK}.0/24\ndriftfile /var/lib/chrony/chrony.drift\ncmdport 0\n"
        root.put("etc/chrony/chrony.conf", rules)


def _firewall(root: Root) -> None:
    """What makes a router of it, and the rules it starts with; once only, because a play may bring others."""
    if (root.path / "etc/nftables.conf").exists():
        return
    root.put("etc/nftables.conf", policy.rules(policy.document()), 0o755)
    root.put("etc/sysctl.d/60-router.conf", "net.ipv4.ip_forward = 1\n")
    _enable(root, "/lib/systemd/system/nftables.service")


@functools.cache
def _plans() -> dict[str, Any]:
    """What each probe tries, as the product would have it by inventory/vlans.yaml."""
    told = policy.document()
    names = {vlan["id"]: vlan["name"] for vlan in told["vlans"]}
    probes = [one for one in HOSTS if one.kind == "probe"]
    places = [Place(one.name, names.get(one.vlan, INTERNET), one.data_address) for one in probes]
    return probe_plans(places, told["matrix"]["allow"])


def _probe(root: Root, one: Host) -> None:
    """What the play `probes` would write, word for word: it finds nothing to change."""
    root.put("etc/emrctl/probe-plan.json", json.dumps(_plans()[one.name], sort_keys=True, indent=1) + "\n")
    root.put("usr/local/lib/emrctl/emrctl-probe", (_PROBE_FILES / "emrctl-probe").read_bytes(), 0o755)
    root.put("etc/init.d/emrctl-probe", (_PROBE_FILES / "emrctl-probe.init").read_bytes(), 0o755)
    root.put("etc/sysctl.d/61-emrctl-probe.conf", (_PROBE_FILES / "emrctl-probe.conf").read_bytes())
    for level in "2345":  # as update-rc.d has it
        link = root.path / f"etc/rc{level}.d/S01emrctl-probe"
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to("../init.d/emrctl-probe")


def _enable(root: Root, unit: str) -> None:
    """Have systemd start a unit of the kind that runs before the network is used."""
    link = root.path / "etc/systemd/system/sysinit.target.wants" / Path(unit).name
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(unit)


_CARDS_UNIT = """[Unit]
Description=Cards of the lab's network compute their checksums themselves
DefaultDependencies=no

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-cards
"""


def _init(root: Root, one: Host, systemd: bool) -> None:
    root.put("usr/local/sbin/lab-cards", (_HERE / "boot/lab-cards").read_bytes(), 0o755)
    if systemd:
        root.put("etc/systemd/system/lab-cards.service", _CARDS_UNIT)
        _enable(root, "/etc/systemd/system/lab-cards.service")
        (root.path / "usr/sbin/init").unlink(missing_ok=True)
        # Debian's unit asks for the right to set the clock, which no lab host has.
        root.put("etc/systemd/system/chrony.service.d/lab.conf", "[Unit]\nConditionCapability=\n")
        for unit in ("systemd-networkd-wait-online.service", "console-getty.service"):
            link = root.path / "etc/systemd/system" / unit
            if not link.is_symlink():
                link.symlink_to("/dev/null")
        return
    root.put("usr/sbin/init", (_HERE / "boot/init").read_bytes(), 0o755)
    root.put("etc/default/lab-init", f"LAB_SERVICES='{' '.join(one.services)}'\n")


def _agents(root: Root, one: Host) -> None:
    root.put("usr/local/sbin/lab-agent", (_HERE / "boot/lab-agent").read_bytes(), 0o755)
    for path in (_HERE / "__init__.py", *sorted((_HERE / "agents").glob("*.py"))):
        root.put(f"usr/local/lib/emr-lab/lab/{path.relative_to(_HERE)}", path.read_bytes())
    state = f"var/lib/{one.kind}/state.json"
    shipped = _HERE / "agents" / f"{one.kind}-state.json"
    if shipped.exists() and not (root.path / state).exists():
        told = json.loads(shipped.read_text(encoding="utf-8"))
        if one.kind == "printer" and not one.small:  # no two printers are the same one
            told["serial"] += one.name.removeprefix("prn")
        root.put(state, json.dumps(told, indent=1) + "\n")
    if one.kind == "switch":
        root.put("etc/default/lab-switch", f"LAB_SWITCH_PORTS='{' '.join(_switch_ports(one))}'\n")
        root.put("etc/init.d/lab-switch", (_HERE / "boot/lab-switch").read_bytes(), 0o755)


def _switch_ports(switch: Host) -> list[str]:
    """What makes this switch's ports, in the words of ovs-vsctl."""
    lines = []
    for name, carries in ports_of(switch).items():
        setting = (
            f"tag={carries['access']}" if "access" in carries else f"trunks={','.join(map(str, carries['trunk']))}"
        )
        number = name.removeprefix("port")
        lines.append(f"-- add-port sw0 {name} {setting} -- set interface {name} ofport_request={number}")
    return lines


def new_host_keys(folder: Folder, name: str) -> None:
    """Generate SSH host keys for one host, replacing what it had: a full set, or for one of the many just one."""
    keys = folder.host_keys(name)
    fresh = keys.with_name(f".{name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "etc/ssh").mkdir(parents=True, mode=0o700)
    if host(name).small or host(name).systemd:
        run("ssh-keygen", "-q", "-A", "-f", str(fresh))
    else:  # the kind that costs next to nothing to make
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(fresh / "etc/ssh/ssh_host_ed25519_key"))
    for key in (fresh / "etc/ssh").glob("*.pub"):
        kind, data = key.read_text(encoding="ascii").split()[:2]
        key.write_text(f"{kind} {data} root@{name}\n", encoding="ascii")
    shutil.rmtree(keys, ignore_errors=True)
    (fresh / "etc/ssh").rename(keys)
    shutil.rmtree(fresh)


def live_root(pid: int, base: Path) -> Root:
    """The root of a running host, seen through its process 1."""
    return Root(Path(f"/proc/{pid}/root"), base)


def put_host_keys(root: Root, folder: Folder, name: str) -> None:
    """Write the host's keys as they stand in the lab's folder into its root."""
    for key in sorted(folder.host_keys(name).iterdir()):
        root.put(f"etc/ssh/{key.name}", key.read_bytes(), 0o644 if key.suffix == ".pub" else 0o600)
