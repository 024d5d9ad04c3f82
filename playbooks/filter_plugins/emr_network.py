"""From the one intended network (``emr_network``) and a device's own ports or legs to what the device shall hold.

Pure: values in, values out. It opens nothing that the model does not allow, and says in words what it cannot decide.
"""

from __future__ import annotations

import ipaddress

from ansible.errors import AnsibleFilterError

INTERNET = "internet"
PERIMETER = "perimeter"


def _vlans(network):
    return {int(vlan["id"]): vlan for vlan in network["vlans"]}


def _legs(network, legs):
    """One row a leg. Without a leg that is called internet, the perimeter's leg is the way out."""
    vlans = _vlans(network)
    rows = []
    for interface, leads_to in legs.items():
        if leads_to == INTERNET:
            rows.append({"interface": interface, "name": INTERNET, "zone": PERIMETER, "subnet": None, "outside": True})
            continue
        vlan = vlans.get(int(leads_to))
        if vlan is None:
            raise AnsibleFilterError(f"{interface} leads to VLAN {leads_to}, which is not in vlans.yaml.")
        row = {"interface": interface, "name": vlan["name"], "zone": vlan["zone"], "subnet": vlan["subnet"]}
        rows.append({**row, "outside": False})
    if not any(row["outside"] for row in rows):
        for row in rows:
            row["outside"] = row["zone"] == PERIMETER
    return rows


def _family(subnet):
    return "ip" if ipaddress.ip_network(subnet).version == 4 else "ip6"


def _hospital(network):
    """Every subnet of the hospital by family: whatever is none of these lies outside."""
    found = {}
    for vlan in network["vlans"]:
        if vlan["subnet"]:
            found.setdefault(_family(vlan["subnet"]), []).append(str(ipaddress.ip_network(vlan["subnet"])))
    return found


def _ends(network, legs, name, way):
    """Where traffic from (``way`` saddr) or to (daddr) ``name`` passes: (interface, {family: match}).

    The family ``any`` stands for a subnet that nobody has written down yet: the leg alone decides.
    """
    ends = []
    for leg in legs:
        if name == INTERNET and leg["outside"]:
            known = _hospital(network)
            matches = {family: f"{family} {way} != {{ {', '.join(nets)} }}" for family, nets in known.items()}
            ends.append((leg["interface"], matches or {"any": ""}))
        elif name != INTERNET and leg["name"] == name:
            if leg["outside"] and not leg["subnet"]:
                raise AnsibleFilterError(
                    f"The matrix names {name}, whose leg is also the way to the Internet: give {name} its subnet first."
                )
            if leg["subnet"]:
                family = _family(leg["subnet"])
                matches = {family: f"{family} {way} {ipaddress.ip_network(leg['subnet'])}"}
            else:
                matches = {"any": ""}
            ends.append((leg["interface"], matches))
    return ends


def _services(services):
    """Matches for services, one a protocol: tcp dport { 80, 443 }."""
    ports = {}
    for service in services:
        protocol, _, port = service.partition("/")
        ports.setdefault(protocol, set()).add(int(port))
    return [f"{protocol} dport {{ {', '.join(map(str, sorted(found)))} }}" for protocol, found in sorted(ports.items())]


def _pairs(source, target):
    """Matches of both ends that one packet can have: a family on each side, or a side that knows none."""
    for left, first in sorted(source.items()):
        for right, second in sorted(target.items()):
            if left == right or "any" in (left, right):
                yield " ".join(filter(None, (first, second)))


def router_plan(network, legs):
    """What a router with these legs lets pass: ``legs`` with zone and subnet, ``rules`` of nftables, ``elsewhere``.

    ``elsewhere`` are the passages one end of which is not on this router. Whatever no rule names is dropped.
    """
    rows = _legs(network, legs)
    rules, elsewhere = [], []
    for passage in network["matrix"]["allow"]:
        told = f"{passage['from']} > {passage['to']}"
        sources = _ends(network, rows, passage["from"], "saddr")
        targets = _ends(network, rows, passage["to"], "daddr")
        if not sources or not targets:
            elsewhere.append(told)
            continue
        for inward, first in sources:
            for outward, second in targets:
                for ends in _pairs(first, second):
                    for service in _services(passage["services"]):
                        where = f'iifname "{inward}" oifname "{outward}"'
                        rules.append(" ".join(filter(None, (where, ends, service, "accept", f'comment "{told}"'))))
    return {"legs": rows, "rules": list(dict.fromkeys(rules)), "elsewhere": elsewhere}


def own_services(network, legs, wanted, management):
    """Rules that let VLANs reach services of the router itself: ``wanted`` is a list of {from, services}.

    The VLANs of the zone management may use the services ``management`` as well.
    """
    rows = _legs(network, legs)
    administrators = [vlan["name"] for vlan in network["vlans"] if vlan["zone"] == "management"]
    rules = []
    for entry in [*wanted, *({"from": name, "services": management} for name in administrators)]:
        for interface, matches in _ends(network, rows, entry["from"], "saddr"):
            for match in matches.values():
                for service in _services(entry["services"]):
                    told = f'comment "{entry["from"]} > this router"'
                    rules.append(" ".join(filter(None, (f'iifname "{interface}"', match, service, "accept", told))))
    return rules


def switch_plan(network, ports):
    """What a switch shall hold: ``vlans`` that its ports carry (id, name), and ``ports`` with access, trunk, native."""
    known = _vlans(network)
    rows, used = [], set()
    for name, port in ports.items():
        row = {"name": name, "access": port.get("access"), "native": port.get("native")}
        row["trunk"] = sorted(port.get("trunk") or [])
        numbers = [n for n in (row["access"], row["native"], *row["trunk"]) if n is not None]
        unknown = [number for number in numbers if number not in known]
        if unknown or not numbers:
            why = f"belongs to VLAN {unknown[0]}, which is not in vlans.yaml" if unknown else "belongs to no VLAN"
            raise AnsibleFilterError(f"The port {name} {why}.")
        used.update(numbers)
        rows.append(row)
    return {"vlans": [{"id": number, "name": known[number]["name"]} for number in sorted(used)], "ports": rows}


class FilterModule:
    """The filters, by name."""

    def filters(self):
        """Names under which playbooks and templates find them."""
        return {"router_plan": router_plan, "own_services": own_services, "switch_plan": switch_plan}
