#!/usr/bin/python
"""One table of nftables as it shall be: compared with what the kernel really holds, and loaded in one step."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.emr_host import finished, on_disk, write

DOCUMENTATION = r"""
module: nft_table
short_description: Hold one inet table of nftables to a text
description:
  - The text is loaded into an empty network namespace first. That proves it, and nft itself then says how the table
    will read, so that it can be compared with the table the kernel holds now, rule by rule.
  - A rule that somebody put in or took out by hand is a difference, whatever lies on the disk.
options:
  table: {description: The table's name., type: str, required: true}
  content: {description: The text for nft -f; it must replace the table itself., type: str, required: true}
  path: {description: Where the text lies for the next start., type: path, required: true}
  load_only: {description: Change what is in force and leave the disk as it is., type: bool, default: false}
  aliases: {description: Interface to the alias it shall carry., type: dict, default: {}}
author: hospital IT
"""
EXAMPLES = r"""
- name: Load what the matrix allows
  nft_table: {table: filter, content: "{{ lookup('template', 'router.nft.j2') }}", path: /etc/router.nft}
"""
RETURN = r"""
before: {description: The table as the kernel held it; empty when there was none., type: str, returned: success}
loaded: {description: Whether the kernel's table differed., type: bool, returned: success}
"""


def held(table):
    """The table as the kernel holds it, without counters; empty when there is none."""
    code, text, _ = finished(["nft", "-s", "list", "table", "inet", table])
    return plain(text) if code == 0 else ""


def plain(text):
    """A listing without what lives: the members of dynamic sets."""
    return re.sub(r"\n[ \t]*elements = \{[^}]*\}", "", text)


def wanted(table, content):
    """How nft reads the text back from an empty network namespace. Raises ValueError with nft's words."""
    with tempfile.NamedTemporaryFile("w", suffix=".nft") as file:
        file.write(content)
        file.flush()
        script = 'nft -f "$1" && nft -s list table inet "$2"'
        code, text, error = finished(["unshare", "--net", "sh", "-c", script, "sh", file.name, table])
    if code != 0:
        raise ValueError(error.replace(file.name, "rules"))
    return plain(text)


def alias_of(interface):
    """What an interface is called besides its name. Raises ValueError when there is no such interface."""
    try:
        return Path(f"/sys/class/net/{interface}/ifalias").read_text(encoding="utf-8").strip()
    except OSError:
        raise ValueError(f"this router has no interface {interface}") from None


def main():
    """Compare, and load what differs unless this is a check."""
    module = AnsibleModule(
        argument_spec={
            "table": {"type": "str", "required": True},
            "content": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "load_only": {"type": "bool", "default": False},
            "aliases": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    asked = module.params
    try:
        after = wanted(asked["table"], asked["content"])
        called = {name: alias_of(name) for name in asked["aliases"]}
    except (ValueError, OSError) as error:
        module.fail_json(msg=f"The rules cannot be loaded, and nothing was changed: {error}")
    before, disk = held(asked["table"]), on_disk(asked["path"])
    renamed = {name: alias for name, alias in asked["aliases"].items() if called[name] != alias}
    stale = not asked["load_only"] and disk != asked["content"]
    loads = before != after
    if not module.check_mode:
        if loads:
            code, _, error = finished(["nft", "-f", "-"], asked["content"])
            if code != 0:
                module.fail_json(msg=f"nft refused the rules, and the old ones stand: {error}")
        for name, alias in renamed.items():
            finished(["ip", "link", "set", "dev", name, "alias", alias])
        if stale:
            write(asked["path"], asked["content"])
    diff = []
    if loads:
        diff.append({"before_header": "in force", "after_header": "in force", "before": before, "after": after})
    if renamed:
        lines = [{name: names[name] for name in renamed} for names in (called, asked["aliases"])]
        first, second = ("".join(f"{n}: {a}\n" for n, a in sorted(line.items())) for line in lines)
        diff.append({"before_header": "aliases", "after_header": "aliases", "before": first, "after": second})
    if stale:
        header = asked["path"]
        diff.append({"before_header": header, "after_header": header, "before": disk, "after": asked["content"]})
    module.exit_json(changed=bool(diff), loaded=loads, before=before, diff=diff)


if __name__ == "__main__":
    main()
