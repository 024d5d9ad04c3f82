"""What switches of other makers say of their ports, and which ports differ from the intended network. Pure.

The forms are those of recorded outputs (tests/switches, each with its origin); no switch of these makers was ever
asked by this product.
"""

from __future__ import annotations

import re

from ansible.errors import AnsibleFilterError

EVERYTHING = "all"
# What RouterOS begins a refusal with. The collection itself knows three of them.
_REFUSED = re.compile(
    r"^(failure:|bad (command|parameter)|no such|invalid|input does not match|expected|syntax error|ambiguous"
    r"|value of|not enough permissions|unknown parameter|missing|cannot )"
)
_SHORT = {"gi": "gigabitethernet", "fa": "fastethernet", "te": "tengigabitethernet", "po": "port-channel"}


def port_name(name):
    """One spelling for IOS's short and long names: Gi1/0/1 and GigabitEthernet1/0/1 are one port."""
    letters, figures = re.fullmatch(r"([A-Za-z-]+)([0-9/.]*)", name).groups() if name[:1].isalpha() else (name, "")
    return _SHORT.get(letters.lower(), letters.lower()) + figures


def _numbers(text):
    """VLAN ids of a list such as 10,20-22; everything for ALL."""
    if text.strip().lower() == "all":
        return EVERYTHING
    found = set()
    for part in filter(None, (word.strip() for word in text.split(","))):
        if part.lower() == "none":
            continue
        low, _, high = part.partition("-")
        if not low.isdigit() or (high and not high.isdigit()):
            raise AnsibleFilterError(f"not a list of VLANs: {text!r}")
        found.update(range(int(low), int(high or low) + 1))
    return sorted(found)


def read_ios(listing):
    """Port -> {mode, access, native, trunk, negotiates} from ``show interfaces switchport``.

    Raises for a text that is none.
    """
    found = {}
    for block in re.split(r"(?m)^Name: ", listing)[1:]:
        name, _, rest = block.partition("\n")
        # A list of VLANs may go on in the next lines, which begin with blanks.
        rest = re.sub(r",\s*\n\s+", ",", rest)
        words = dict(re.findall(r"(?m)^([A-Za-z][A-Za-z ]*): *(.*?)\s*$", rest))
        if "Administrative Mode" not in words:
            if words.get("Switchport", "").lower() == "disabled":
                continue
            raise AnsibleFilterError(f"the port {name.strip()} does not say its mode")
        found[port_name(name.strip())] = {
            "mode": words["Administrative Mode"],
            "access": int(words["Access Mode VLAN"].split()[0]),
            "native": int(words["Trunking Native Mode VLAN"].split()[0]),
            "trunk": _numbers(words["Trunking VLANs Enabled"]),
            # A switch that knows ISL as well admits no trunk before it is told which of the two.
            "negotiates": words.get("Administrative Trunking Encapsulation", "dot1q") != "dot1q",
        }
    if not found:
        raise AnsibleFilterError("the switch named no port")
    return found


def read_ios_vlans(listing):
    """VLAN id -> name from ``show vlan brief``."""
    rows = re.findall(r"(?m)^(\d{1,4})\s+(\S+)\s+(?:active|suspended|act/\S+|sus/\S+)", listing)
    if not rows:
        raise AnsibleFilterError("the switch named no VLAN")
    return {int(number): name for number, name in rows}


def ios_differs(plan, listing):
    """The rows of the plan whose port is set another way; a port that the switch has not is refused by name."""
    now = read_ios(listing)
    rows = []
    for row in plan["ports"]:
        held = now.get(port_name(row["name"]))
        if held is None:
            raise AnsibleFilterError(f"The switch has no port {row['name']}.")
        if row["access"]:
            same = held["mode"] == "static access" and held["access"] == row["access"]
        else:
            # Without a native VLAN of its own a trunk leaves VLAN 1 there, which it does not carry.
            wanted = sorted({*row["trunk"], *([row["native"]] if row["native"] else [])})
            same = held["mode"] == "trunk" and (held["native"], held["trunk"]) == (row["native"] or 1, wanted)
        if not same:
            rows.append({**row, "negotiates": held["negotiates"]})
    return rows


def ios_refused(told):
    """The line by which IOS refused a command, out of a module's words; the words as they are when there is none."""
    found = re.search(r"(% ?[A-Z][^\\\r\n]*|Command rejected:[^\\\r\n]*)", told)
    return found[1] if found else told


def read_routeros(listing):
    """Rows of a RouterOS ``print terse`` as dictionaries; flags before the words are left out."""
    found = []
    for line in listing.splitlines():
        if re.match(r"\s*\d+\s", line):
            found.append(
                {key: value.strip('"') for key, value in re.findall(r'([a-z][a-z0-9.-]*)=("[^"]*"|\S*)', line)}
            )
    return found


def routeros_refused(replies):
    """The lines of RouterOS's replies that refuse a command; a command that was carried out answers nothing."""
    lines = [line.strip() for reply in replies for line in reply.splitlines()]
    return [line for line in lines if _REFUSED.match(line)]


def routeros_differs(plan, bridge, ports, vlans, bridges):
    """What differs: ``ports`` whose pvid or admitted frames are others, ``vlans`` whose members are others.

    A bridge that does not tell VLANs apart is refused: nothing that is set on it would have an effect.
    """
    own = next((row for row in read_routeros(bridges) if row.get("name") == bridge), None)
    if own is None:
        raise AnsibleFilterError(f"The switch has no bridge {bridge}.")
    if own.get("vlan-filtering") != "yes":
        raise AnsibleFilterError(f"The bridge {bridge} does not tell VLANs apart (vlan-filtering is not yes).")
    held = {row["interface"]: row for row in read_routeros(ports) if row.get("bridge") == bridge}
    table = {}
    for row in read_routeros(vlans):
        if row.get("bridge") == bridge:
            numbers = _numbers(row.get("vlan-ids", ""))
            if len(numbers) != 1:
                raise AnsibleFilterError(f"Give each VLAN a row of its own in the bridge's table: {row['vlan-ids']}.")
            for number in numbers:
                table[number] = tuple(
                    frozenset(filter(None, row.get(k, "").split(","))) for k in ("tagged", "untagged")
                )
    wrong, members = [], {}
    for row in plan["ports"]:
        if row["name"] not in held:
            raise AnsibleFilterError(f"The bridge {bridge} has no port {row['name']}.")
        plain = row["access"] or row["native"]
        frames = "admit-only-vlan-tagged" if not plain else "admit-all"
        frames = "admit-only-untagged-and-priority-tagged" if row["access"] else frames
        now = held[row["name"]]
        held_to = (now.get("pvid", "1"), now.get("frame-types", "admit-all"), now.get("ingress-filtering", "yes"))
        if held_to != (str(plain or 1), frames, "yes"):
            wrong.append({"name": row["name"], "pvid": plain or 1, "frames": frames})
        for number in row["trunk"]:
            members.setdefault(number, (set(), set()))[0].add(row["name"])
        if plain:
            members.setdefault(plain, (set(), set()))[1].add(row["name"])
    named = {row["name"] for row in plan["ports"]}
    rows = []
    for number in sorted(members.keys() | table.keys()):
        old = table.get(number, (frozenset(), frozenset()))
        # Ports of the bridge that the plan does not name stay where they are.
        tagged, untagged = (
            set(new) | (was - named) for new, was in zip(members.get(number, ((), ())), old, strict=True)
        )
        if number not in table or old != (tagged, untagged):
            row = {"id": number, "tagged": sorted(tagged), "untagged": sorted(untagged), "new": number not in table}
            rows.append(row)
    return {"ports": wrong, "vlans": rows}


class FilterModule:
    """The filters, by name."""

    def filters(self):
        """Names under which playbooks and templates find them."""
        return {
            "ios_differs": ios_differs,
            "ios_refused": ios_refused,
            "read_ios_vlans": read_ios_vlans,
            "routeros_differs": routeros_differs,
            "routeros_refused": routeros_refused,
        }
