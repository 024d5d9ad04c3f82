#!/usr/bin/python
"""One look at a printer over SNMP, from the control plane: who is answered, and what the printer says of itself."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: printer_look
short_description: Look at a printer over SNMP and change nothing
description:
  - Runs on the control plane, with its own collectors. The intended account is asked for firmware and state; then it is
    tried whether the community names that makers ship are answered.
  - A secret comes by the name of its file and is never an argument or a result.
options:
  name: {description: The printer's name in the inventory., type: str, required: true}
  address: {description: Its address., type: str, required: true}
  snmp: {description: emr_snmp of the inventory., type: dict, required: true}
  secrets_dir: {description: Where a secret file without a path lies., type: str, default: ""}
  communities: {description: Community names that must not be answered., type: list, elements: str, required: true}
author: hospital IT
"""
EXAMPLES = r"""
- name: Look at the printer
  printer_look: {name: prn-01, address: 192.0.2.1, snmp: {version: "3", secret_file: /etc/x}, communities: [public]}
"""
RETURN = r"""
account: {description: How the intended account was answered; C(answered) is well., type: str, returned: success}
detail: {description: Why it was not answered., type: str, returned: success}
answered: {description: Shipped community names that were answered., type: list, returned: success}
facts: {description: What the printer says of itself, by fact., type: dict, returned: success}
"""


def whole(name):
    """Whether this fact tells what a printer is or how it is."""
    return name.startswith("printer.") or name in ("device.description", "device.name", "device.location")


def look(transport, asset, facts):
    """The control plane's own look, within its time."""
    return transport.look(asset, facts, 30.0, lambda: datetime.now(UTC))


def main():
    """Ask, try, tell."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "snmp": {"type": "dict", "required": True},
            "secrets_dir": {"type": "str", "default": ""},
            "communities": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        from controlplane.collect.facts import FACTS  # noqa: PLC0415 - the wrong Python is told in words
        from controlplane.collect.snmp import SnmpTransport  # noqa: PLC0415
        from controlplane.domain.model import Asset, Outcome, Words  # noqa: PLC0415
    except ImportError as error:
        module.fail_json(msg=f"This runs with the control plane's own Python, and that one was not used: {error.name}")
    asked = module.params

    def printer(snmp):
        title = Words(asked["name"], asked["name"])
        transports = ("snmp",)
        access = {"emr_snmp": snmp}
        return Asset(
            asked["name"],
            "printer",
            ("printers",),
            title,
            transports=transports,
            address=asked["address"],
            access=access,
        )

    wanted = [fact for name, fact in FACTS.items() if fact.family == "snmp" and "printer" in fact.kinds and whole(name)]
    folder = Path(asked["secrets_dir"]) if asked["secrets_dir"] else None
    own = look(SnmpTransport(secrets_dir=folder), printer(asked["snmp"]), wanted)
    found, problems = {}, {}
    for fact, reply in zip(wanted, own.replies, strict=False):
        if reply.outcome is Outcome.ANSWERED:
            try:
                found[fact.name] = fact.reader(reply.raw.decode())
            except ValueError as error:
                problems[fact.name] = str(error)
    answered = []
    with tempfile.TemporaryDirectory() as place:
        for community in asked["communities"]:
            secret = Path(place) / "community"
            secret.unlink(missing_ok=True)
            secret.touch(mode=0o600)
            secret.write_text(f"community = {community}\n", encoding="ascii")
            snmp = {**asked["snmp"], "version": "2c", "secret_file": str(secret)}
            quick = SnmpTransport(timeout_seconds=1.5, retries=0)
            if look(quick, printer(snmp), [FACTS["device.name"]]).outcome is Outcome.ANSWERED:
                answered.append(community)
    module.exit_json(
        changed=False, account=own.outcome.value, detail=own.detail, answered=answered, facts=found, unread=problems
    )


if __name__ == "__main__":
    main()
