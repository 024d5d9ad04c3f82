"""Who may talk to whom in the lab, from inventory/vlans.yaml; it refuses a file it cannot read whole."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from lab.folder import REPOSITORY, LabError
from lab.plan import DATA, VLANS, WAN

_SOURCE = REPOSITORY / "inventory" / "vlans.yaml"
# The lab itself runs on Debian's own Python, which may be without a YAML reader; the product's environment has one.
_PYTHONS = (str(REPOSITORY / ".venv" / "bin" / "python"), sys.executable)
_READ = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1], encoding='utf-8'))))"
_INTERNET = "internet"
_HEAD = """#!/usr/sbin/nft -f
# Who may cross this router: the matrix of inventory/vlans.yaml as it was at the first start. Default: refused.
flush ruleset

table inet hospital {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iifname { "lo", "eth0" } accept
        meta l4proto { icmp, ipv6-icmp } accept
    }

    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
"""


def document() -> dict[str, Any]:
    """What inventory/vlans.yaml says, with the lab's subnets; raises ``LabError`` when it is not what the lab has."""
    for python in _PYTHONS:
        try:
            done = subprocess.run([python, "-c", _READ, str(_SOURCE)], capture_output=True, text=True, check=False)
        except OSError:
            continue
        if done.returncode == 0:
            break
    else:
        raise LabError("The lab cannot read inventory/vlans.yaml: neither .venv nor this Python has PyYAML.")
    told: dict[str, Any] = json.loads(done.stdout)
    if tuple(vlan["id"] for vlan in told["vlans"]) != VLANS:
        raise LabError("inventory/vlans.yaml has other VLANs than the lab; bring VLANS in lab/plan.py up to date.")
    for vlan in told["vlans"]:
        vlan["subnet"] = f"{DATA}.{vlan['id']}.0/24"
    return told


def overlay(told: dict[str, Any]) -> str:
    """The VLAN plan as a file of the product's form: JSON, which YAML reads as it stands."""
    text = json.dumps(told, ensure_ascii=False, indent=1)
    return f"# Written by script/lab up: inventory/vlans.yaml with the lab's subnets.\n{text}\n"


def rules(told: dict[str, Any]) -> str:
    """The firewall's first /etc/nftables.conf: refused is whatever no line of the matrix allows."""
    legs = {vlan["name"]: f"vlan{vlan['id']}" for vlan in told["vlans"]} | {_INTERNET: WAN}
    lines = []
    for passage in told["matrix"]["allow"]:
        source, target = passage["from"], passage["to"]
        for protocol in ("tcp", "udp"):
            ports = [word.split("/")[1] for word in passage["services"] if word.startswith(f"{protocol}/")]
            if ports:
                way = f'iifname "{legs[source]}" oifname "{legs[target]}"'
                words = f"{protocol} dport {{ {', '.join(ports)} }}"
                lines.append(f'        {way} {words} accept comment "{source} to {target}"\n')
    return f"{_HEAD}{''.join(lines)}    }}\n}}\n"
