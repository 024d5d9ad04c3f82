#!/usr/bin/python
"""Ansible module: what stands on disks that are named by serial number. It reads, and changes nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: emr_disks
short_description: What stands on disks that are named by serial number
description: Reads lsblk and wipefs in their reading modes. A disk that does not say what it holds is said to hold data.
options:
  serials:
    description: The serial numbers.
    type: list
    elements: str
    required: true
author: [hospital IT]
"""
RETURN = """
disks:
  description: >-
    By serial number, path, size in bytes, the array it is in, what it holds and what uses it, and the array that this
    machine wrote down for its next start, that the disk belongs to and that is not running.
  returned: always
  type: dict
arrays:
  description: The arrays that this machine has, by the names of their devices, whatever disks they stand on.
  returned: always
  type: list
  elements: str
"""
COLUMNS = "NAME,PATH,TYPE,SERIAL,SIZE,MOUNTPOINTS"
WRITTEN_DOWN = Path("/etc/mdadm/mdadm.conf")
DEVICES = Path("/dev")


def users(device: dict[str, Any]) -> list[str]:
    """What stands on a device and is running now: mounts, swap, arrays, volumes; partitions by themselves are none."""
    found = [f"mounted at {place}" for place in device.get("mountpoints") or [] if place]
    for child in device.get("children") or []:
        if child.get("type") != "part":
            found.append(f"{child.get('type')} {child.get('name')}")
        found.extend(users(child))
    return found


def signatures(module: AnsibleModule, path: str) -> tuple[list[str], set[str]]:
    """The marks that filesystems, partition tables, arrays, volumes and encryption leave, and the arrays' UUIDs."""
    code, out, errors = module.run_command(["wipefs", "--no-act", "--json", path])
    if code != 0:
        return [f"something that cannot be read ({errors.strip()[:100]})"], set()
    found = json.loads(out)["signatures"] if out.strip() else []
    arrays = {plain(str(one.get("uuid"))) for one in found if one.get("type") == "linux_raid_member"}
    return sorted({str(one.get("type")) for one in found}), arrays


def plain(uuid: str) -> str:
    """A UUID without the signs that wipefs and mdadm set into it, each in its own places."""
    return re.sub(r"[^0-9a-f]", "", uuid.lower())


def missing_arrays() -> dict[str, str]:
    """UUID -> device of the arrays that are written down for the next start and are not running."""
    text = WRITTEN_DOWN.read_text(encoding="utf-8", errors="replace") if WRITTEN_DOWN.exists() else ""
    lines = re.findall(r"(?im)^ARRAY\s+(\S+)\s.*?\bUUID=([0-9a-f:]+)", text)
    return {plain(uuid): device for device, uuid in lines if not (DEVICES / device.removeprefix("/dev/")).exists()}


def describe(module: AnsibleModule, device: dict[str, Any]) -> dict[str, Any]:
    """One disk in figures and words."""
    children = device.get("children") or []
    arrays = sorted({c["name"] for c in children if str(c.get("type", "")).startswith(("raid", "md", "linear"))})
    holds, members_of = signatures(module, device["path"])
    missing = missing_arrays()
    if any(child.get("type") == "part" for child in children):
        holds.append("partitions")
    return {
        "path": device["path"],
        "size": int(device["size"]),
        "array": arrays[0] if arrays else "",
        "holds": holds,
        "used_by": sorted(set(users(device))),
        "keeps": next((missing[uuid] for uuid in sorted(members_of) if uuid in missing), ""),
    }


def main() -> None:
    """Look at every disk and return those that were asked for."""
    arguments = {"serials": {"type": "list", "elements": "str", "required": True}}
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)
    _, out, _ = module.run_command(["lsblk", "--json", "--bytes", "--output", COLUMNS], check_rc=True)
    disks: dict[str, dict[str, Any]] = {}
    twice = set()
    for device in json.loads(out)["blockdevices"]:
        serial = str(device.get("serial") or "")
        if device.get("type") != "disk" or serial not in module.params["serials"]:
            continue
        if serial in disks:
            twice.add(serial)
        disks[serial] = describe(module, device)
    if twice:
        module.fail_json(msg=f"Two disks have the serial number {min(twice)}, so it names neither.")
    arrays = sorted(path.name for path in DEVICES.iterdir() if re.fullmatch(r"md[0-9]+", path.name))
    module.exit_json(changed=False, disks=disks, arrays=arrays)


if __name__ == "__main__":
    main()
