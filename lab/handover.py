"""What the lab hands to its users: keys, secrets, known hosts, inventory; it refuses to print a secret."""

from __future__ import annotations

import json
import secrets
from typing import Any

from lab import policy
from lab.folder import Folder, write_whole
from lab.plan import GUEST, HOSTS, OUTSIDE, PLAYER, READER, SMALL, Host, legs_of, ports_of
from lab.processes import run

V2C, V3 = "lab-v2c", "lab-v3"
TIME_SOURCE = next(one.address for one in HOSTS if one.name == "time")


def make_keys(folder: Folder) -> None:
    """Make the two client keys and the SNMP secrets that are missing; those that exist stay."""
    folder.key("reader").parent.mkdir(parents=True, exist_ok=True)
    folder.key("reader").parent.chmod(0o700)
    for name in ("reader", "play"):
        if not folder.key(name).is_file():
            folder.key(name).with_suffix(".pub").unlink(missing_ok=True)
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab-{name}", "-f", str(folder.key(name)))
    if not folder.secret(V2C).is_file():
        _write_secret(folder, V2C, {"community": secrets.token_hex(12)})
    if not folder.secret(V3).is_file():
        fresh = {"auth_key": secrets.token_hex(16), "priv_key": secrets.token_hex(16)}
        _write_secret(folder, V3, {"user": READER, "auth_protocol": "SHA", "priv_protocol": "AES", **fresh})


def secrets_of(folder: Folder) -> tuple[dict[str, str], dict[str, str]]:
    """The SNMP secrets, v2c and v3."""
    return _read_secret(folder, V2C), _read_secret(folder, V3)


def _write_secret(folder: Folder, name: str, values: dict[str, str]) -> None:
    folder.secret(name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(folder.secret(name), "".join(f"{key} = {value}\n" for key, value in values.items()), 0o600)


def _read_secret(folder: Folder, name: str) -> dict[str, str]:
    lines = folder.secret(name).read_text(encoding="ascii").splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def write_known_hosts(folder: Folder) -> None:
    """Write what the hosts' own keys are, from the keys themselves: nobody on the way is asked."""
    lines = []
    for one in (*HOSTS, GUEST):
        if "ssh" in one.services:
            for key in sorted(folder.host_keys(one.name).glob("*.pub")):
                kind, data = key.read_text(encoding="ascii").split()[:2]
                lines.append(f"{one.name},{one.address} {kind} {data}\n")
    write_whole(folder.known_hosts, "".join(lines))


def write_inventories(folder: Folder, whole: bool) -> None:
    """Write the overlays: of the small lab, and when it is up of the whole one with its VLANs, for the product."""
    head = "# Written by script/lab up; loaded after inventory/hosts.yaml.\nall:\n"
    known = [one for one in HOSTS if one.transports and one.kind != "probe"]
    write_whole(folder.inventory, head + "  hosts:\n" + "".join(_entry(folder, one) for one in known if one in SMALL))
    if not whole:
        return
    probes = "".join(_entry(folder, one, "        ") for one in HOSTS if one.kind == "probe")
    group = f"  children:\n    probes:\n      vars: {{emr_kind: probe}}\n      hosts:\n{probes}"
    write_whole(folder.hospital, head + "  hosts:\n" + "".join(_entry(folder, one) for one in known) + group)
    write_whole(folder.vlans, policy.overlay(policy.document()))


def write_guest_inventory(folder: Folder) -> None:
    """Write the overlay of the guest: storage that the shipped inventory does not know, with its titles and group."""
    titles = {
        "emr_title_vi": "Thiết bị lưu trữ 02 (máy ảo của phòng thử)",
        "emr_title_en": "Storage 02 (guest of the lab)",
    }
    more = "".join(f"      {key}: {json.dumps(value)}\n" for key, value in {"emr_kind": GUEST.kind, **titles}.items())
    group = f"  children:\n    linux_storage:\n      hosts:\n        {GUEST.name}: {{}}\n"
    head = "# Written by script/lab vm up; loaded after the inventories.\nall:\n  hosts:\n"
    write_whole(folder.guest_inventory, head + _entry(folder, GUEST) + more + group)


def _entry(folder: Folder, one: Host, indent: str = "    ") -> str:
    """One host of an overlay; every value is quoted as JSON, which YAML reads as it stands."""
    values: dict[str, Any] = {
        "ansible_host": one.address,
        "ansible_user": READER,
        "ansible_ssh_private_key_file": str(folder.key("reader")),
        "emr_known_hosts": str(folder.known_hosts),
        "emr_transports": list(one.transports),
        "emr_snmp": {
            "version": one.snmp_version,
            "secret_file": str(folder.secret(V3 if one.snmp_version == "3" else V2C)),
        },
        "emr_play_user": PLAYER,
        "emr_play_key_file": str(folder.key("play")),
        "time_sync_servers": [TIME_SOURCE],
    }
    if one.kind == "switch":
        values |= {"emr_switch": {"system": "openvswitch", "bridge": "sw0"}, "emr_ports": ports_of(one)}
    if one.kind == "firewall":
        values["emr_legs"] = legs_of(one)
    if one.data_address:
        values["emr_vlan_address"] = one.data_address
    if one.vlan not in (0, OUTSIDE):
        values["emr_vlan"] = one.vlan
    if one.vlan == OUTSIDE:
        values["emr_outside"] = True
    lines = "".join(f"{indent}  {key}: {json.dumps(value)}\n" for key, value in values.items())
    return f"{indent}{one.name}:\n{lines}"
