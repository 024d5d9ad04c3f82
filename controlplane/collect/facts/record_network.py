"""Ports, resolvers, remote tools, VLANs and changes against what the hospital wrote down and did through plays.

It opens no connection: it compares what devices answered with the registers.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from controlplane.collect.facts.record_text import (
    AssetRow,
    Document,
    listing,
    mapping,
    matches,
    moment,
    named,
    objects,
    reviewed_days,
    text,
    texts,
    whole,
)
from controlplane.domain.model import Fact

ZONES_LEVEL_2 = ("server", "dmz", "internal", "perimeter")
"""Zones that security level 2 asks for; a wireless zone only where there is wireless."""

ZONES_LEVEL_3 = ("database", "management")
"""Zones that level 3 asks for besides."""

SETTINGS = (
    "ssh.config",
    "password.rules",
    "password.lockout",
    "kernel.switches",
    "net.firewall",
    "net.gateway",
    "net.dns",
    "service.enabled",
    "log.forwarding",
    "accounts.admins",
    "sudo.rules",
    "vlan.list",
    "vlan.membership",
    "vlan.pvid",
)
"""Facts that change only when somebody changes a setting."""

YEAR_DAYS = 365

FRESH_HOURS = 2
"""A figure of load older than this is no monitoring."""

_HOSTS = ("server", "controlplane", "virtual_machine", "workstation")
_SITE = ("site",)
_NO_EQUIPMENT = ("service", "probe")
_INFRASTRUCTURE = ("server", "controlplane", "virtual_machine", "nas", "switch", "firewall", "access_point")
_PERFORMANCE = {
    "server": ("cpu.load", "memory.use"),
    "controlplane": ("cpu.load", "memory.use"),
    "virtual_machine": ("cpu.load", "memory.use"),
    "nas": ("device.load",),
    "switch": ("ports.inventory",),
    "firewall": ("ports.inventory",),
    "access_point": ("ports.inventory",),
}


def read_ports(raw: str) -> dict[str, Any]:
    """Ports that one host opens to others and that no row of the register approves for it."""
    document = Document(raw)
    rows, own = objects(document.register("ports").get("ports")), document.own()
    approved = {text(row.get("port")) for row in rows if own.within([text(row.get("role"))])}
    listening = mapping(document.value("net.listening"))
    open_ = {f"{kind}/{whole(port)}" for kind in ("tcp", "udp") for port in listing(listening.get(kind))}
    found = named("unapproved", open_ - approved)
    if not approved:
        found["unapproved_count"] = None
    return {"open": len(open_), "approved": len(approved)} | found


def read_resolvers(raw: str) -> dict[str, Any]:
    """Name servers of one host that are no approved filtering resolver; no figure while the register is empty."""
    document = Document(raw)
    rows = objects(document.register("resolvers").get("resolvers"))
    approved = {text(row.get("address")) for row in rows}
    servers = set(texts(mapping(document.value("net.dns")).get("servers")))
    found = named("unapproved", servers - approved)
    if not approved or not servers:
        found["unapproved_count"] = None
    return {"servers": len(servers), "approved": len(approved)} | found


def read_remote_tools(raw: str) -> dict[str, Any]:
    """Remote-control software on one host that the register does not approve; no figure until it was reviewed."""
    document = Document(raw)
    register, own, today = document.register("remote_tools"), document.own(), document.today()
    tools = [text(r.get("name")) for r in objects(register.get("tools")) if own.within(texts(r.get("scope")))]
    installed = texts(mapping(document.value("packages.remote-control")).get("packages"))
    found = named("unapproved", (name for name in installed if not matches(name, tools)))
    if reviewed_days(register, today) is None:
        found["unapproved_count"] = None
    return {"installed": len(installed), "approved": len(tools)} | found


def read_zones(raw: str) -> dict[str, Any]:
    """The VLANs of the plan against those that the core switches carry, and the zones they stand for.

    A zone is there when a core switch carries one of its VLANs; without an answer of any there is no figure.
    """
    document = Document(raw)
    planned = {
        whole(r.get("id")): text(r.get("zone")) for r in objects(mapping(document.whole_part("vlans")).get("vlans"))
    }
    core = {asset.name for asset in document.assets() if "core_switches" in asset.roles}
    answers = [answer for answer in document.answers("vlan.list") if answer.asset in core]
    seen = {whole(r.get("vlan")) for a in answers for r in objects(mapping(a.value).get("vlans"))} - {1}
    zones = {planned[vlan] for vlan in seen if vlan in planned}
    found = (
        named("missing", (f"VLAN {vlan}" for vlan in set(planned) - seen))
        | named("unplanned", (f"VLAN {vlan}" for vlan in seen - set(planned)))
        | named("zones_missing", (zone for zone in ZONES_LEVEL_2 if zone not in zones))
        | named("zones_missing_level_3", (zone for zone in ZONES_LEVEL_3 if zone not in zones))
    )
    if not answers or not planned:
        found |= dict.fromkeys(key for key in found if key.endswith("_count"))
    return {"planned": len(planned), "core_switches": len(core), "core_answered": len(answers)} | found


def read_separation(raw: str) -> dict[str, Any]:
    """Whether servers stand in zones of their own, and nothing else stands in those zones, as declared."""
    document = Document(raw)
    planned = {
        whole(r.get("id")): text(r.get("zone")) for r in objects(mapping(document.whole_part("vlans")).get("vlans"))
    }
    assets = [asset for asset in document.assets() if asset.in_use and asset.kind not in _NO_EQUIPMENT]
    unplaced = [asset.name for asset in assets if _zone(asset, planned) is None]
    inside = ("server", "database")
    mixed = [
        asset.name
        for asset in assets
        if (asset.kind in ("server", "virtual_machine") and _zone(asset, planned) not in (*inside, "dmz", None))
        or (asset.kind in ("workstation", "printer", "mobile", "modality") and _zone(asset, planned) in inside)
    ]
    return {"assets": len(assets)} | named("mixed", mixed) | named("unplaced", unplaced)


def read_databases(raw: str) -> dict[str, Any]:
    """Database instances on the hospital's hosts that the register does not know, or that serve data of two classes.

    An instance is a host and a port that others can reach. While a server in use is silent, or the register is empty or
    was not reviewed within the year, that nothing was found is no figure.
    """
    document = Document(raw)
    register = document.register("databases")
    classes: dict[str, set[str]] = {}
    for row in objects(register.get("databases")):
        instance = f"{text(row.get('host'))} {text(row.get('port')).rpartition('/')[2]}"
        classes.setdefault(instance, set()).add(text(row.get("class")))
    probes = {asset.name for asset in document.assets() if asset.kind == "probe"}  # they listen where a database would
    open_ = {
        f"{answer.asset} {whole(port)}"
        for answer in document.answers("net.listening")
        if answer.asset not in probes
        for port in listing(mapping(answer.value).get("databases"))
    }
    servers = {a.name for a in document.assets() if a.in_use and a.kind in ("server", "virtual_machine")}
    silent = sorted(servers & set(document.silent("net.listening")))
    found = named("shared", (name for name, seen in classes.items() if len(seen) > 1))
    found |= named("unlisted", open_ - set(classes))
    days = reviewed_days(register, document.today())
    for key in ("shared", "unlisted"):
        if not found[key] and (silent or not servers or not classes or days is None or days > YEAR_DAYS):
            found[f"{key}_count"] = None
    return {"instances": len(open_ | set(classes)), "silent": len(silent)} | found


def _zone(asset: AssetRow, planned: Mapping[int, str]) -> str | None:
    vlan = asset.fields.get("vlan", "")
    return planned.get(int(vlan)) if vlan.isascii() and vlan.isdecimal() and len(vlan) < 6 else None


def read_watch(raw: str) -> dict[str, Any]:
    """How many assets in use answered within a day, and how many minutes lie between two whole rounds."""
    document = Document(raw)
    assets = [asset.name for asset in document.assets() if asset.in_use and asset.kind not in _NO_EQUIPMENT]
    seen = document.seen(24)
    silent = [name for name in assets if name not in seen]
    found = named("silent", silent)
    if not seen:
        found["silent_count"] = None
    return {
        "assets": len(assets),
        "answered": len(assets) - len(silent),
        "answered_percent": (len(assets) - len(silent)) * 100 // len(assets) if assets and seen else None,
        "gap_minutes": _gap(objects(document.whole_part("rounds"))),
    } | found


def _gap(rounds: list[Mapping[str, Any]]) -> int | None:
    """Minutes between the newest whole rounds, their median rounded up to five; None for fewer than three rounds."""
    times: list[datetime] = [
        moment(row.get("at")) for row in rounds if row.get("state") == "done" and not listing(row.get("only"))
    ]
    times = sorted(times)[-13:]
    if len(times) < 3:
        return None
    gaps = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(times)]
    return 5 * -int(-statistics.median(gaps) // 300)


def read_performance(raw: str) -> dict[str, Any]:
    """Servers, storage and network devices in use whose figures of load or ports are older than two hours."""
    document = Document(raw)
    facts = {fact for names in _PERFORMANCE.values() for fact in names}
    fresh = {fact: {answer.asset for answer in document.answers(fact, FRESH_HOURS)} for fact in facts}
    watched = [asset for asset in document.assets() if asset.in_use and asset.kind in _INFRASTRUCTURE]
    blind = [a.name for a in watched if not all(a.name in fresh[fact] for fact in _PERFORMANCE[a.kind])]
    found = named("blind", blind)
    if len(blind) == len(watched):
        found["blind_count"] = None
    return {"devices": len(watched), "measured": len(watched) - len(blind)} | found


def read_changes(raw: str) -> dict[str, Any]:
    """Settings that changed within 30 days, and those changes that fall in no applied play on that asset.

    A change lies between the last time the old answer was seen and the first time the new one was. While a server or
    a network device is silent for a week, that nothing changed is no figure.
    """
    document = Document(raw)
    runs = [run for run in objects(document.whole_part("runs")) if run.get("mode") == "apply"]
    changes = document.changes()
    untracked = [
        f"{text(row.get('asset'))} {text(row.get('fact'))} {text(row.get('since'))[:16]}Z"
        for row in changes
        if not any(_covers(run, row) for run in runs)
    ]
    found = named("untracked", untracked)
    seen = document.seen()
    silent = [a.name for a in document.assets() if a.in_use and a.kind in _INFRASTRUCTURE and a.name not in seen]
    if not untracked and (silent or not seen):
        found["untracked_count"] = None
    return {"changes": len(changes), "runs": len(runs), "unwatched": len(silent)} | found


def _covers(run: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
    if text(change.get("asset")) not in texts(run.get("hosts")) or run.get("state") == "interrupted":
        return False
    ended = run.get("ended_at")
    begins_before = moment(run.get("started_at")) <= moment(change.get("since"))
    return begins_before and (ended is None or moment(ended) >= moment(change.get("not_after")))


FACTS: tuple[Fact, ...] = (
    Fact(
        "ports.exceptions",
        "record",
        "net.listening register:ports inventory",
        read_ports,
        "ports",
        "inventory/registers/ports.yaml",
        kinds=_HOSTS,
    ),
    Fact(
        "dns.exceptions",
        "record",
        "net.dns register:resolvers inventory",
        read_resolvers,
        "servers",
        "inventory/registers/resolvers.yaml",
        kinds=_HOSTS,
    ),
    Fact(
        "remote.exceptions",
        "record",
        "packages.remote-control register:remote_tools inventory today",
        read_remote_tools,
        "packages",
        "inventory/registers/remote_tools.yaml",
        kinds=_HOSTS,
    ),
    Fact(
        "network.zones",
        "record",
        "inventory vlans vlan.list",
        read_zones,
        "VLANs, zones",
        "vlan.list of the core switches against inventory/vlans.yaml",
        kinds=_SITE,
    ),
    Fact(
        "network.separation",
        "record",
        "inventory vlans",
        read_separation,
        "assets in use",
        "inventory/hosts.yaml emr_vlan, inventory/vlans.yaml",
        kinds=_SITE,
    ),
    Fact(
        "databases.instances",
        "record",
        "inventory net.listening register:databases today",
        read_databases,
        "database instances",
        "net.listening of every host against inventory/registers/databases.yaml",
        kinds=_SITE,
    ),
    Fact(
        "watch.answers",
        "record",
        "inventory seen rounds",
        read_watch,
        "assets in use, minutes",
        "rounds of the record",
        kinds=_SITE,
    ),
    Fact(
        "watch.performance",
        "record",
        "inventory cpu.load memory.use device.load ports.inventory",
        read_performance,
        "devices",
        "answers that stand in the record",
        kinds=_SITE,
    ),
    Fact(
        "watch.changes",
        "record",
        f"inventory runs seen {' '.join(f'changes:{fact}' for fact in SETTINGS)}",
        read_changes,
        "changes within 30 days",
        "answers and applied plays in the record",
        kinds=_SITE,
    ),
)
