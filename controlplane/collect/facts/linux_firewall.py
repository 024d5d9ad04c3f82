"""The firewall that stands between the zones: what nftables lets pass, its standby, its VPN. It reads rules, no packet.

A zone is the word after ``zone:`` in an interface's alias (``ip link set dev lan20 alias zone:internal``): the
firewall itself says which leg is which. The interface of the default route is the outside, whatever it is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from controlplane.collect.facts.linux_text import NEVER, lines, part, rows, table, whole
from controlplane.domain.model import Fact

ZONES = ("internal", "perimeter", "server", "dmz", "database", "management")
"""What TCVN 14423:2026 asks for at level 3; a wireless zone only where there is wireless."""

ADMIN_PORTS = frozenset({22, 23, 80, 161, 443, 830, 3389, 5900, 8006, 8443, 9090, 10000})
SHELL_PORTS = ADMIN_PORTS - {80, 443}
"""Ports for administrators alone; the others of them may be an application's."""

REMOTE_PORTS = frozenset({22, 23, 139, 445, 512, 513, 514, 3389, 5500, 5800, 5900, 5901, 5938, 5985, 5986, 6568, 7070})
DATABASE_PORTS = frozenset({1433, 1521, 3306, 5432, 6379, 27017})
USERS = frozenset({"internal", "wireless"})

SETTLED_SECONDS = 30
"""How long an instance must have been the standby before its becoming master counts as a change-over."""

_DEEPEST = 12
_CLOSING = ("drop", "reject")


@dataclass(frozen=True)
class _Pass:
    """What must be so of a packet to come to a rule, as far as this reader follows it."""

    inward: frozenset[str] | None = None  # interfaces it came in by; None: any
    outward: frozenset[str] | None = None
    sourced: bool = False  # only some source addresses
    ports: frozenset[int] | None = None  # destination ports; None: any
    protocols: frozenset[str] | None = None
    known: bool = False  # only connections that stand already

    @property
    def service(self) -> bool:
        """Whether it names a service: ports, or a protocol that has none."""
        return self.ports is not None or bool(
            self.protocols
            and self.protocols <= {"icmp", "icmpv6", "ipv6-icmp", "igmp", "vrrp", "112", "esp", "ah", "50", "51"}
        )


@dataclass
class _Rules:
    """A ruleset by table and chain."""

    chains: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    rules: dict[tuple[str, str, str], list[list[Any]]] = field(default_factory=dict)

    def hooked(self, hook: str) -> Iterator[tuple[str, str, str]]:
        """The base chains of IPv4 at this hook."""
        for key, chain in self.chains.items():
            if chain.get("hook") == hook and key[0] in ("ip", "inet") and chain.get("type") == "filter":
                yield key


def _ruleset(text: str) -> _Rules:
    found = table(text)
    entries = found.get("nftables") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a ruleset of nft")
    ruleset = _Rules()
    for entry in entries:
        if not isinstance(entry, dict):
            raise ValueError("not an entry of a ruleset")
        for kind in ("chain", "rule"):
            body = entry.get(kind)
            if isinstance(body, dict):
                chain = str(body.get("name" if kind == "chain" else "chain"))
                key = (str(body.get("family")), str(body.get("table")), chain)
                if kind == "chain":
                    ruleset.chains[key] = body
                else:
                    expressions = body.get("expr")
                    ruleset.rules.setdefault(key, []).append(expressions if isinstance(expressions, list) else [])
    return ruleset


def _words(value: Any) -> frozenset[str]:
    """The plain members of a right-hand side: one word, a set, or a range's ends. A named set gives its name."""
    if isinstance(value, dict):
        if isinstance(value.get("set"), list):
            return frozenset().union(*(_words(member) for member in value["set"])) if value["set"] else frozenset()
        if isinstance(value.get("range"), list) and len(value["range"]) == 2:
            return frozenset({"-".join(str(end) for end in value["range"])})
        if "elem" in value and isinstance(value["elem"], dict):
            return _words(value["elem"].get("val"))
        return frozenset({str(sorted(value))})
    if isinstance(value, list):
        return frozenset().union(*(_words(member) for member in value)) if value else frozenset()
    return frozenset({str(value)})


def _ports(value: Any) -> frozenset[int]:
    """Ports; a range gives its ends and the ports of interest between them."""
    found: set[int] = set()
    for word in _words(value):
        if match := re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", word):
            low, high = int(match[1]), int(match[2])
            found |= {low, high} | {p for p in ADMIN_PORTS | REMOTE_PORTS | DATABASE_PORTS if low <= p <= high}
        elif re.fullmatch(r"[0-9]{1,5}", word):
            found.add(int(word))
    return frozenset(found)


def _narrow(so_far: _Pass, match: dict[str, Any]) -> _Pass:
    """The pass after one match expression; what this reader does not know leaves it as wide as it was."""
    left, right = match.get("left"), match.get("right")
    if match.get("op") not in ("==", "in", None) or not isinstance(left, dict):
        return so_far
    if isinstance(left.get("concat"), list):
        for number, one in enumerate(left["concat"]):
            so_far = _narrow(so_far, {"op": "==", "left": one, "right": _component(right, number)})
        return so_far
    change: dict[str, Any] = {}
    meta, payload = left.get("meta"), left.get("payload")
    if isinstance(meta, dict):
        key = str(meta.get("key"))
        if key in ("iifname", "iif"):
            change["inward"] = _words(right)
        elif key in ("oifname", "oif"):
            change["outward"] = _words(right)
        elif key in ("l4proto", "protocol"):
            change["protocols"] = _words(right)
    elif isinstance(payload, dict):
        place = (str(payload.get("protocol")), str(payload.get("field")))
        if place[1] == "dport":
            change |= {"ports": _ports(right), "protocols": frozenset({place[0]})}
        elif place[1] == "saddr":
            change["sourced"] = _words(right) != frozenset({"0.0.0.0"})  # noqa: S104  # a match, nothing is bound
        elif place[1] in ("protocol", "nexthdr"):
            change["protocols"] = _words(right)
        elif place[0] in ("icmp", "icmpv6"):
            change["protocols"] = frozenset({place[0]})
    elif isinstance(left.get("ct"), dict) and left["ct"].get("key") == "state":
        change["known"] = not _words(right) & {"new", "untracked", "invalid"}
    elif isinstance(left.get("ct"), dict) and left["ct"].get("key") == "status":
        change["known"] = False
    return _Pass(**{**so_far.__dict__, **change})


def _component(right: Any, place: int) -> list[Any]:
    """What stands at one place of concatenations: of one, or of every member of a set of them."""
    members = right["set"] if isinstance(right, dict) and isinstance(right.get("set"), list) else [right]
    joined = [member.get("concat") for member in members if isinstance(member, dict)]
    return [words[place] for words in joined if isinstance(words, list) and place < len(words)]


def _accepted(ruleset: _Rules, key: tuple[str, str, str], so_far: _Pass, depth: int = 0) -> Iterator[_Pass]:
    """Every way through a chain that ends in accept (or in a queue of the intrusion prevention), jumps followed."""
    if depth > _DEEPEST:
        raise ValueError("chains that jump too deep")
    for expressions in ruleset.rules.get(key, []):
        here = so_far
        for expression in expressions:
            if not isinstance(expression, dict):
                raise ValueError("not an expression of a rule")
            if isinstance(expression.get("match"), dict):
                here = _narrow(here, expression["match"])
            elif "accept" in expression or "queue" in expression:
                yield here
            else:
                yield from _beyond(ruleset, key, expression, here, depth)


def _beyond(
    ruleset: _Rules, key: tuple[str, str, str], expression: dict[str, Any], here: _Pass, depth: int
) -> Iterator[_Pass]:
    for verdict in ("jump", "goto"):
        target = expression.get(verdict)
        if isinstance(target, dict):
            yield from _accepted(ruleset, (key[0], key[1], str(target.get("target"))), here, depth + 1)
    vmap = expression.get("vmap")
    if isinstance(vmap, dict):
        data = vmap.get("data")
        pairs = data.get("set") if isinstance(data, dict) else None
        if not isinstance(pairs, list):  # a named map: it may accept anything
            yield here
            return
        for pair in pairs:
            if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], dict):
                narrowed = _narrow(here, {"op": "==", "left": vmap.get("key"), "right": pair[0]})
                if "accept" in pair[1]:
                    yield narrowed
                else:
                    yield from _beyond(ruleset, key, pair[1], narrowed, depth)


def _closed(ruleset: _Rules, hook: str) -> bool:
    """Whether what no rule of this hook allows is dropped, by policy or by an unconditional last rule."""
    found = list(ruleset.hooked(hook))
    return any(_closes(ruleset, key) for key in found)


def _ways(ruleset: _Rules, hook: str) -> list[_Pass]:
    """Every way for a new connection through this hook; where nothing closes it, one way for everything."""
    found = [p for key in ruleset.hooked(hook) for p in _accepted(ruleset, key, _Pass()) if not p.known]
    return found if _closed(ruleset, hook) else [*found, _Pass()]


def _closes(ruleset: _Rules, key: tuple[str, str, str]) -> bool:
    if ruleset.chains[key].get("policy") == "drop":
        return True
    last = ruleset.rules.get(key, [[]])[-1]
    bare = [e for e in last if isinstance(e, dict) and not {"counter", "log"} & set(e)]
    return len(bare) == 1 and bool(set(_CLOSING) & set(bare[0]))


def _limits(ruleset: _Rules) -> list[frozenset[int] | None]:
    """For each rule that counts connections or measures their rate: the ports it is about (None: all)."""
    found = []
    for expressions in ruleset.rules.values():
        for rule in expressions:
            words = {word for e in rule if isinstance(e, dict) for word in e}
            sets = [e["set"] for e in rule if isinstance(e, dict) and isinstance(e.get("set"), dict)]
            inner = {word for s in sets for stmt in s.get("stmt") or [] if isinstance(stmt, dict) for word in stmt}
            if {"ct count", "meter"} & words or {"ct count", "limit"} & inner:
                so_far = _Pass()
                for e in rule:
                    if isinstance(e, dict) and isinstance(e.get("match"), dict):
                        so_far = _narrow(so_far, e["match"])
                found.append(so_far.ports)
    return found


def _unlimited(passes: list[_Pass], limits: list[frozenset[int] | None]) -> int:
    """Ways for services on whose ports no rule limits the connections."""
    if None in limits:
        return 0
    limited = frozenset().union(*(ports for ports in limits if ports)) if limits else frozenset()
    return sum(p.ports is not None and not p.ports <= limited for p in passes)


@dataclass(frozen=True)
class _Legs:
    """The firewall's interfaces: which is the outside, and what zone each says it is."""

    outside: frozenset[str]
    zones: dict[str, str]

    def leads(self, names: frozenset[str] | None, wanted: frozenset[str]) -> bool:
        """Whether a rule's interfaces (None: any) hold one of the wanted."""
        return bool(wanted) and (names is None or any(_like(name, one) for name in names for one in wanted))

    def of_zone(self, *zones: str) -> frozenset[str]:
        """The interfaces of these zones."""
        return frozenset(name for name, zone in self.zones.items() if zone in zones)


def _like(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else pattern == name


def _legs(links: str, routes: str) -> _Legs:
    outside = frozenset(str(route.get("dev")) for route in rows(routes) if route.get("dev"))
    zones: dict[str, str] = {}
    for link in rows(links):
        if found := re.search(r"\bzone:([a-z]+)\b", str(link.get("ifalias") or "")):
            zones[str(link.get("ifname"))] = found[1]
    outside |= frozenset(name for name, zone in zones.items() if zone == "perimeter")
    return _Legs(outside, zones)


def read_policy(text: str) -> dict[str, Any]:
    """What the firewall lets pass between its legs: counts of what is too wide, and the services open to the outside.

    ``present`` is false where nft is not installed or holds no forward chain: then nothing stands between the zones.
    """
    links, routes, rules = part(text, "links", "routes", "rules")
    legs = _legs(links, routes)
    ruleset = _ruleset(rules) if rules.strip() else _Rules()
    through = _ways(ruleset, "forward")
    inside = [p for p in _ways(ruleset, "input") if p.inward != frozenset({"lo"})]
    inbound = [p for p in (*inside, *through) if legs.leads(p.inward, legs.outside)]
    limits = _limits(ruleset)
    zones = sorted(set(legs.zones.values()) | ({"perimeter"} if legs.outside else set()))
    return {
        "present": any(True for _ in ruleset.hooked("forward")),
        "input_drop": _closed(ruleset, "input"),
        "forward_drop": _closed(ruleset, "forward"),
        "zones": zones,
        "zones_missing": sum(zone not in zones for zone in ZONES),
        "passages": len(through),
        "open_passages": sum(not p.service for p in through),
        "connection_limits": len(limits),
        "queued": any("queue" in e for r in ruleset.rules.values() for x in r for e in x if isinstance(e, dict)),
        "inbound_unlimited": _unlimited(inbound, limits),
        **_outside_figures(legs, inbound, through),
        **_inside_figures(legs, inside, through),
    }


def _outside_figures(legs: _Legs, inbound: list[_Pass], through: list[_Pass]) -> dict[str, Any]:
    outbound = [p for p in through if legs.leads(p.outward, legs.outside)]
    served = {f"{sorted(p.protocols or {'any'})[0]}/{port}" for p in inbound for port in p.ports or ()}
    exposed = sum(bool((p.ports or frozenset()) & REMOTE_PORTS) or not p.service for p in inbound)
    return {
        "outside_known": bool(legs.outside),
        "inbound_open": sum(not p.service for p in inbound),
        "inbound_services": sorted(served),
        "remote_control_exposed": exposed,
        "outbound_open": sum(not p.service for p in outbound),
    }


def _inside_figures(legs: _Legs, inside: list[_Pass], through: list[_Pass]) -> dict[str, Any]:
    admin = [p for p in inside if (p.ports is None and not p.service) or (p.ports or frozenset()) & ADMIN_PORTS]
    users = legs.of_zone(*USERS)
    stores = legs.of_zone("database")
    to_servers = [
        p for p in through if legs.leads(p.inward, users) and legs.leads(p.outward, legs.of_zone("server", "database"))
    ]
    return {
        "admin_passages": len(admin),
        "admin_from_anywhere": sum(p.inward is None and not p.sourced for p in admin),
        "admin_from_users": sum(legs.leads(p.inward, users) and not p.sourced for p in admin),
        "users_reach_management": sum(
            legs.leads(p.outward, legs.of_zone("management")) or bool((p.ports or frozenset()) & SHELL_PORTS)
            for p in through
            if legs.leads(p.inward, users) and legs.leads(p.outward, legs.of_zone("server", "database", "management"))
        ),
        "user_services": sorted({port for p in to_servers for port in p.ports or ()}),
        "user_open": sum(not p.service for p in to_servers),
        "users_reach_database": sum(
            legs.leads(p.outward, stores) or bool((p.ports or frozenset()) & DATABASE_PORTS) or not p.service
            for p in to_servers
        ),
    }


def read_ha(text: str) -> dict[str, Any]:
    """The pair of firewalls: whether VRRP runs, its peers, and the days since a change-over was last seen to happen.

    Change-overs come from the notes that keepalived's ``notify`` script writes: ``seconds kind name state``.
    """
    now, running, conf, notes = part(text, "now", "running", "conf", "notes")
    seconds, found = whole(now), lines(conf)
    words = [line.split() for line in found]
    priorities = [whole(w[1]) for w in words if w[0] == "priority" and len(w) > 1]
    states = [w[1] for w in words if w[0] == "state" and len(w) > 1]
    changes = sorted(_change(line) for line in lines(notes))
    tested = max(_takeovers(changes), default=0)
    return {
        "present": bool(found),
        "running": bool(lines(running)),
        "instances": sum(w[0] == "vrrp_instance" for w in words),
        "peers": sum(w[0] == "peer" for w in words),
        "addresses": sum(w[0] == "address" for w in words),
        "balanced": len(set(states)) > 1 or len(set(priorities)) > 1 or any(w[0] == "virtual_server" for w in words),
        "failover_days": (seconds - tested) // 86_400 if tested else NEVER,
        "state": changes[-1][2].lower() if changes else "",
    }


def _change(line: str) -> tuple[int, str, str]:
    cells = line.split()
    if len(cells) != 4 or cells[3] not in ("MASTER", "BACKUP", "FAULT", "STOP"):
        raise ValueError("not a note of a change of state")
    return whole(cells[0]), cells[2], cells[3]


def _takeovers(changes: list[tuple[int, str, str]]) -> Iterator[int]:
    """When a standby became master. At its start every instance is backup for some seconds: that is none."""
    waiting: dict[str, int] = {}
    for at, name, state in changes:
        if state == "MASTER" and at - waiting.get(name, at) >= SETTLED_SECONDS:
            yield at
        if state == "BACKUP":
            waiting[name] = at
        else:
            waiting.pop(name, None)


def read_vpn(text: str) -> dict[str, Any]:
    """The gateway for access from afar: how many servers run, and what each asks of who connects.

    A figure is that of the weakest server. WireGuard knows keys alone: it proves no person and closes no idle session.
    """
    openvpn, wireguard, running = part(text, "openvpn", "wireguard", "running")
    servers = [_openvpn(block) for block in re.split(r"(?m)^== .*$", openvpn)[1:]]
    servers = [s for s in servers if s["server"]]
    interfaces = lines(wireguard)
    plain = [{"server": True, "authenticated": True, "second": False, "idle": NEVER, "listed": True, "posture": False}]
    every = servers + plain * len(interfaces)
    return {
        "present": bool(every),
        "running": len(lines(running)) + len(interfaces),
        "servers": len(every),
        "authenticated": bool(every) and all(s["authenticated"] for s in every),
        "second_factor": bool(every) and all(s["second"] for s in every),
        "idle_seconds": max((s["idle"] for s in every), default=NEVER),
        "listed_only": bool(every) and all(s["listed"] for s in every),
        "posture_checked": bool(every) and all(s["posture"] for s in every),
    }


def _openvpn(block: str) -> dict[str, Any]:
    words = [line.split() for line in lines(block)]
    names = {w[0] for w in words}
    given = {w[0]: w[1] for w in words if len(w) > 1}
    certificates = "ca" in names and given.get("verify-client-cert", "require") == "require"
    plugins = " ".join(" ".join(w[1:]) for w in words if w[0] == "plugin")
    asked = "auth-user-pass-verify" in names or re.search(r"pam|radius|ldap", plugins) is not None
    return {
        "server": bool({"server", "mode", "server-bridge"} & names),
        "authenticated": certificates or asked,
        "second": certificates and asked and "duplicate-cn" not in names,
        "idle": whole(given.get("inactive", "0")) or NEVER,
        "listed": "ccd-exclusive" in names and "client-config-dir" in names,
        "posture": bool({"client-connect", "client-crresponse"} & names),
    }


def read_sessions(text: str) -> dict[str, Any]:
    """Seconds after which the kernel forgets an idle connection that it let through."""
    return {"tcp_idle_seconds": whole(text)}


_RULES = (
    "echo '-- links'; ip -j link show || exit $?; echo '-- routes'; ip -j route show default || exit $?; "
    "echo '-- rules'; [ -x /usr/sbin/nft ] || exit 0; ${S} /usr/sbin/nft -j -s -t list ruleset"
)
_KEEPALIVED = (
    "grep -hsE '^[[:space:]]*(vrrp_instance|virtual_server|state|priority) ' /etc/keepalived/keepalived.conf "
    "/etc/keepalived/conf.d/*.conf; "
    "awk '/unicast_peer/ { p = 1; next } /virtual_ipaddress/ { p = 2; next } /}/ { p = 0 } "
    'p == 1 && NF { print "peer " $1 } p == 2 && NF { print "address " $1 }\' /etc/keepalived/keepalived.conf '
    "/etc/keepalived/conf.d/*.conf 2>/dev/null"
)
_OPENVPN = (
    'for f in /etc/openvpn/*.conf /etc/openvpn/server/*.conf; do [ -r "$f" ] || continue; echo "== $f"; '
    "grep -hE '^[[:space:]]*(server|server-bridge|mode|ca|verify-client-cert|duplicate-cn|plugin|auth-user-pass-verify|"
    'inactive|client-config-dir|ccd-exclusive|client-connect|client-crresponse)([[:space:]]|$)\' "$f"; done'
)

FACTS: tuple[Fact, ...] = (
    Fact(
        "firewall.policy",
        "shell",
        _RULES,
        read_policy,
        "ways through, legs",
        "nft(8) -j list ruleset, libnftables-json(5), ip-link(8) alias",
        privileged=True,
    ),
    Fact(
        "firewall.ha",
        "shell",
        "f=/etc/keepalived/keepalived.conf; [ ! -e $f ] || [ -r $f ] || exit 77; "
        "echo '-- now'; date +%s; echo '-- running'; ps -eo comm= | grep -x keepalived; echo '-- conf'; "
        f"{_KEEPALIVED}; echo '-- notes'; tail -qn 200 /var/lib/emrctl/ha/* 2>/dev/null; true",
        read_ha,
        "instances, peers, days",
        "keepalived.conf(5): vrrp_instance, notify",
    ),
    Fact(
        "vpn.server",
        "shell",
        "for f in /etc/openvpn /etc/openvpn/server /etc/openvpn/*.conf /etc/openvpn/server/*.conf; do "
        '[ ! -e "$f" ] || [ -r "$f" ] || exit 77; done; '
        f"echo '-- openvpn'; {_OPENVPN}; echo '-- wireguard'; ip -o link show type wireguard 2>/dev/null "
        "| sed -E 's/^[0-9]+: ([^:@]+).*/\\1/'; echo '-- running'; ps -eo comm= | grep -x openvpn; true",
        read_vpn,
        "servers, seconds",
        "openvpn(8), wg(8)",
    ),
    Fact(
        "firewall.sessions",
        "shell",
        "cat /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established 2>/dev/null || exit 69",
        read_sessions,
        "seconds",
        "kernel nf_conntrack-sysctl: nf_conntrack_tcp_timeout_established",
    ),
)
