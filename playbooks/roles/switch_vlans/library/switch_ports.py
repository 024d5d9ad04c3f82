#!/usr/bin/python
"""Ports of a Linux switch as they shall be: compared with what the switch does, and changed where they differ."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.emr_host import on_disk, run, write

DOCUMENTATION = r"""
module: switch_ports
short_description: Hold access and trunk ports of a Linux switch to a list
description:
  - Open vSwitch is changed in one transaction of its database, which also keeps it for the next start.
  - A Linux bridge with VLAN filtering is changed port by port, and a script that repeats it is kept for the next start.
  - A port of the bridge that the list does not name is left alone and named in C(unlisted).
options:
  system: {description: What the switch runs., type: str, required: true, choices: [openvswitch, linux_bridge]}
  bridge: {description: The name of the bridge., type: str, required: true}
  ports: {description: Rows of name with access or trunk and native., type: list, elements: dict, required: true}
  path: {description: Where the script for the next start lies; a Linux bridge only., type: path, required: true}
  load_only: {description: Change what is in force and leave the disk as it is., type: bool, default: false}
author: hospital IT
"""
EXAMPLES = r"""
- name: Hold the ports to the inventory
  switch_ports:
    system: openvswitch
    bridge: sw0
    path: /etc/emrctl/switch.sh
    ports: [{name: port1, access: 20, trunk: [], native: null}]
"""
RETURN = r"""
before: {description: The ports as they were, as the program of the switch tells them., type: str, returned: success}
loaded: {description: Whether a port differed., type: bool, returned: success}
undo: {description: Lines of a shell script that bring the ports back., type: list, returned: success}
unlisted: {description: Ports of the bridge that the list does not name., type: list, returned: success}
"""

EVERYTHING = "all"


def carried(access=None, native=None, trunk=()):
    """What a port carries, in one form: (VLAN without a tag or None, VLANs with a tag or everything)."""
    return (access or native, EVERYTHING if trunk == EVERYTHING else frozenset(trunk))


def told(port):
    """One port in words."""
    plain, tagged = port
    several = EVERYTHING if tagged == EVERYTHING else ", ".join(map(str, sorted(tagged)))
    parts = [f"untagged {plain}" if plain else "", f"tagged {several}" if several else ""]
    return "; ".join(filter(None, parts)) or "nothing"


# ------------------------------------------------------------------------------------------------- Open vSwitch


def ovs_cell(cell):
    """The members of one cell of the database's JSON."""
    return cell[1] if isinstance(cell, list) and cell and cell[0] == "set" else [cell]


def read_ovs(listing):
    """Port -> what it carries, from ``ovs-vsctl --format=json --columns=name,tag,trunks,vlan_mode list Port``."""
    found = {}
    for name, tag, trunks, mode in json.loads(listing)["data"]:
        own = next((n for n in ovs_cell(tag) if isinstance(n, int)), None)
        several = frozenset(n for n in ovs_cell(trunks) if isinstance(n, int))
        kind = next(iter(ovs_cell(mode)), "") or ("access" if own is not None else "trunk")
        if kind == "access":
            found[name] = carried(access=own)
        elif kind == "trunk":
            found[name] = carried(trunk=several or EVERYTHING)
        else:  # native-tagged carries its own VLAN with a tag, native-untagged without
            several = several or EVERYTHING
            tagged = several if several == EVERYTHING or kind == "native-tagged" else several - {own}
            found[name] = carried(native=None if kind == "native-tagged" else own, trunk=tagged)
    return found


def ovs_columns(port):
    """The columns of one port's row that make it carry this."""
    plain, tagged = port
    everything = tagged == EVERYTHING
    several = (
        "[]" if everything else f"[{','.join(map(str, sorted(tagged | ({plain} if plain and tagged else set()))))}]"
    )
    if plain and not tagged:
        return [f"tag={plain}", "trunks=[]", "vlan_mode=access"]
    if plain:
        return [f"tag={plain}", f"trunks={several}", "vlan_mode=native-untagged"]
    return ["tag=[]", f"trunks={several}", "vlan_mode=trunk"]


def ovs_change(bridge, wanted, now, members):
    """The words of one transaction from ``now`` to ``wanted``; empty when nothing differs."""
    words = []
    for name, port in wanted.items():
        if name not in members:
            words += ["--", "add-port", bridge, name]
        if name not in members or now.get(name) != port:
            words += ["--", "set", "port", name, *ovs_columns(port)]
    return words


def ovs_undo(bridge, wanted, now, members):
    """Lines of a script that bring the ports back."""
    lines = []
    for name, port in wanted.items():
        if name not in members:
            lines.append(f"ovs-vsctl --timeout=20 --if-exists del-port {bridge} {name}")
        elif now.get(name) != port:
            lines.append(shlex.join(["ovs-vsctl", "--timeout=20", "set", "port", name, *ovs_columns(now[name])]))
    return lines


# --------------------------------------------------------------------------------- a bridge with VLAN filtering


def read_bridge(listing):
    """Port -> what it carries, from ``bridge -j vlan show``."""
    found = {}
    for row in json.loads(listing or "[]"):
        plain, tagged = None, set()
        for entry in row.get("vlans", []):
            numbers = range(entry["vlan"], entry.get("vlanEnd", entry["vlan"]) + 1)
            flags = entry.get("flags", [])
            if "PVID" in flags and "Egress Untagged" in flags:
                plain = entry["vlan"]
            else:
                tagged.update(numbers)
        found[row["ifname"]] = (plain, frozenset(tagged))
    return found


def bridge_lines(name, now, port):
    """Lines of a script that take one port from ``now`` to ``port``. What is new comes before what goes."""
    plain, tagged = port
    lines = [f"bridge vlan add dev {name} vid {number}" for number in sorted(tagged - now[1])]
    if plain and plain != now[0]:
        lines.append(f"bridge vlan add dev {name} vid {plain} pvid untagged")
    gone = (now[1] | ({now[0]} if now[0] else set())) - tagged - ({plain} if plain else set())
    return lines + [f"bridge vlan del dev {name} vid {number}" for number in sorted(gone)]


def bridge_change(bridge, wanted, now, members):
    """Lines of a script from ``now`` to ``wanted``."""
    lines = []
    for name, port in wanted.items():
        if name not in members:
            lines.append(f"ip link set dev {name} master {bridge}")
        # A port that joins is given VLAN 1 by the kernel, unless the bridge was told otherwise.
        lines += bridge_lines(name, now.get(name, (1, frozenset())) if name not in members else now[name], port)
    return lines


def bridge_script(bridge, wanted):
    """The script for the next start: the whole of it, whatever the kernel began with."""
    lines = ["#!/bin/sh", "# Written by the network play, role switch_vlans.", "set -eu"]
    lines.append(f"ip link set dev {bridge} type bridge vlan_filtering 1")
    for name, (plain, tagged) in wanted.items():
        lines += [f"ip link set dev {name} master {bridge}", f"bridge vlan del dev {name} vid 1-4094"]
        lines += [f"bridge vlan add dev {name} vid {number}" for number in sorted(tagged)]
        lines += [f"bridge vlan add dev {name} vid {plain} pvid untagged"] if plain else []
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------------------------ the two


class OpenVSwitch:
    """A bridge of Open vSwitch."""

    def __init__(self, bridge):
        self.bridge = bridge

    def look(self):
        """(listing, port -> what it carries, members of the bridge)."""
        columns = "--columns=name,tag,trunks,vlan_mode"
        listing = run("ovs-vsctl", "--timeout=20", "--format=json", columns, "list", "Port")
        return listing, read_ovs(listing), run("ovs-vsctl", "--timeout=20", "list-ports", self.bridge).split()

    def undo(self, wanted, now, members):
        """Lines that bring the ports back."""
        return ovs_undo(self.bridge, wanted, now, members)

    def change(self, wanted, now, members):
        """Change what differs, all of it or nothing."""
        if words := ovs_change(self.bridge, wanted, now, members):
            run("ovs-vsctl", "--timeout=20", *words)

    def script(self, wanted):
        """Nothing: the database of Open vSwitch keeps itself."""
        return ""


class LinuxBridge:
    """A bridge of the kernel with VLAN filtering."""

    def __init__(self, bridge):
        self.bridge = bridge

    def look(self):
        """(listing, port -> what it carries, members of the bridge)."""
        folder = Path("/sys/class/net") / self.bridge
        try:
            filters = (folder / "bridge" / "vlan_filtering").read_text(encoding="ascii").strip() == "1"
        except OSError:
            raise ValueError(f"there is no bridge {self.bridge}") from None
        if not filters:
            raise ValueError(f"the bridge {self.bridge} does not tell VLANs apart (vlan_filtering is 0)")
        listing = run("bridge", "-j", "vlan", "show")
        members = sorted(path.name for path in (folder / "brif").iterdir())
        return listing, {name: (None, frozenset()) for name in members} | read_bridge(listing), members

    def undo(self, wanted, now, members):
        """Lines that bring the ports back."""
        lines = []
        for name, port in wanted.items():
            if name in members:
                lines += bridge_lines(name, port, now[name])
            else:
                lines.append(f"ip link set dev {name} nomaster")
        return lines

    def change(self, wanted, now, members):
        """Change what differs, port by port."""
        run("sh", "-ec", "\n".join(bridge_change(self.bridge, wanted, now, members)) or "true")

    def script(self, wanted):
        """The script for the next start."""
        return bridge_script(self.bridge, wanted)


def main():
    """Compare, and change what differs unless this is a check."""
    module = AnsibleModule(
        argument_spec={
            "system": {"type": "str", "required": True, "choices": ["openvswitch", "linux_bridge"]},
            "bridge": {"type": "str", "required": True},
            "ports": {"type": "list", "elements": "dict", "required": True},
            "path": {"type": "path", "required": True},
            "load_only": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    asked = module.params
    switch = (OpenVSwitch if asked["system"] == "openvswitch" else LinuxBridge)(asked["bridge"])
    wanted = {row["name"]: carried(row["access"], row["native"], row["trunk"]) for row in asked["ports"]}
    try:
        listing, now, members = switch.look()
        for name in wanted:
            if name not in members and not Path("/sys/class/net", name).exists():
                raise ValueError(f"this switch has no port {name}")
        before = {name: now[name] for name in members if name in now}
        differing = {name: port for name, port in wanted.items() if name not in members or now.get(name) != port}
        undo = switch.undo(wanted, now, members)
        if differing and not module.check_mode:
            switch.change(wanted, now, members)
    except (ValueError, KeyError) as error:
        module.fail_json(msg=f"The ports were not changed: {error}")
    script = switch.script(wanted)
    stale = not asked["load_only"] and on_disk(asked["path"]) != script
    diff = []
    if differing:
        sides = [
            "".join(
                f"{name}: {told(ports[name])}\n" if name in ports else f"{name}: not in the bridge\n"
                for name in sorted(differing)
            )
            for ports in (before, wanted)
        ]
        header = f"ports of {asked['bridge']}"
        diff.append({"before_header": header, "after_header": header, "before": sides[0], "after": sides[1]})
    if stale:
        header = asked["path"]
        diff.append({"before_header": header, "after_header": header, "before": on_disk(header), "after": script})
        if not module.check_mode:
            write(asked["path"], script, mode=0o700)
    module.exit_json(
        changed=bool(diff),
        loaded=bool(differing),
        before=listing,
        undo=undo,
        unlisted=sorted(set(members) - set(wanted)),
        diff=diff,
    )


if __name__ == "__main__":
    main()
