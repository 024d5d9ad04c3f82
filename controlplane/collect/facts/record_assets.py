"""The hospital's assets: whether the inventory is whole, whether strangers are on the network, how much there is.

An asset that did not answer never counts as good. Where only a silent asset could decide a figure, there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from controlplane.collect.facts.record_text import (
    Answer,
    AssetRow,
    Document,
    listing,
    mapping,
    maybe_day,
    named,
    objects,
    text,
    texts,
    whole,
)
from controlplane.domain.model import DEVICES, Fact

ABSENT_DAYS = 365
SEEN_HOURS = 30 * 24
PC_PER_STAFF_PERCENT, PRINTER_PER_PC_PERCENT, DEPARTMENTS_PERCENT = 50, 30, 60
"""Thresholds of the draft of circular 54/2017, Annex I; the final text was not seen."""

_SITE = ("site",)
_OWNERLESS = ("service",)
_NETWORK = ("switch", "firewall", "access_point")
_NEEDED = ("owner", "purpose", "location", "vlan", "state", "support_until")
_MAC_FACTS = ("net.interfaces", "device.mac_addresses")


def _hardware(document: Document) -> list[AssetRow]:
    return [asset for asset in document.assets() if asset.kind not in _OWNERLESS]


def _in_use(document: Document) -> list[AssetRow]:
    return [asset for asset in _hardware(document) if asset.in_use]


def _macs_of(answer: Answer) -> list[str]:
    """The MAC addresses in an answer of net.interfaces (rows) or device.mac_addresses (texts)."""
    found = [row if isinstance(row, str) else text(mapping(row).get("mac", "")) for row in listing(answer.value)]
    return [mac.lower() for mac in found if mac]


def _observed_macs(document: Document) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for fact in _MAC_FACTS:
        for answer in document.answers(fact, fresh_hours=10**9):  # an address of a network card does not wear out
            found.setdefault(answer.asset, set()).update(_macs_of(answer))
    return found


def read_fields(raw: str) -> dict[str, Any]:
    """Whether every asset in use has every field: address, MAC or serial number, and what the hospital must declare.

    ``unmarked_count``: assets of which nobody said whether they must be watched.
    A MAC address or a serial number that the device itself gave counts as well as a declared one.
    """
    document = Document(raw)
    marked = {name for name, macs in _observed_macs(document).items() if macs}
    marked |= {a.asset for fact in ("host.serial", "printer.serial") for a in document.answers(fact, 10**9) if a.value}
    missing: dict[str, list[str]] = {}
    for asset in _in_use(document):
        lacking = [field for field in _NEEDED if not asset.fields.get(field)]
        lacking += ["address"] if not asset.address else []
        lacking += ["mac_or_serial"] if not (asset.macs or asset.fields.get("serial") or asset.name in marked) else []
        for field in lacking:
            missing.setdefault(field, []).append(asset.name)
    incomplete = {name for names in missing.values() for name in names}
    unmarked = [asset.name for asset in _in_use(document) if asset.fields.get("watched") not in ("true", "false")]
    total = len(_in_use(document))
    return {
        "assets": total,
        "complete": total - len(incomplete),
        "missing": {field: len(names) for field, names in sorted(missing.items())},
        "ownerless_count": len(missing.get("owner", ())) if total else None,
        "unmarked_count": len(unmarked) if total else None,
        **named("incomplete", incomplete),
    }


def read_coverage(raw: str) -> dict[str, Any]:
    """Whether every class of assets is in the inventory, or confirmed within the year to be absent."""
    document = Document(raw)
    today = document.today()
    counts = Counter(asset.kind for asset in _hardware(document))
    absent = set()
    for row in objects(document.register("assets").get("absent")):
        on = maybe_day(row.get("confirmed_on"))
        if on is not None and timedelta(0) <= today - on <= timedelta(days=ABSENT_DAYS):
            absent.add(text(row.get("class")))
    return {
        "classes": {kind: counts[kind] for kind in DEVICES},
        "external": sum(asset.fields.get("external") == "true" for asset in _hardware(document)),
        "absent": sorted(absent),
        **named("unstated", (kind for kind in DEVICES if not counts[kind] and kind not in absent)),
    }


def _guest_vlans(document: Document) -> set[int]:
    rows = objects(mapping(document.whole_part("vlans")).get("vlans"))
    return {whole(row.get("id")) for row in rows if row.get("guests") is True}


def read_strangers(raw: str) -> dict[str, Any]:
    """MAC addresses on the switches that belong to no known asset, and assets in use that nobody has seen in 30 days.

    ``swept`` says whether every switch in use gave its table within a week; without any there is no figure. Guest
    VLANs are left out. A MAC address is known when the inventory or a device of the inventory names it.
    """
    document = Document(raw)
    observed, guests = _observed_macs(document), _guest_vlans(document)
    known = {mac for macs in observed.values() for mac in macs}
    known |= {mac for asset in _hardware(document) for mac in asset.macs}
    found: dict[str, str] = {}
    tables = document.answers("vlan.learned")
    for answer in tables:
        for row in objects(answer.value):
            vlans = {whole(vlan) for vlan in listing(row.get("vlans"))}
            if not vlans or vlans - guests:
                found.setdefault(text(row.get("mac")).lower(), f"{answer.asset} {text(row.get('port'))}")
    seen = document.seen(SEEN_HOURS)
    unseen = [
        asset.name
        for asset in _in_use(document)
        if asset.name not in seen and not found.keys() & {*asset.macs, *observed.get(asset.name, ())}
    ]
    silent = _still_in_use(document, document.silent("vlan.learned"))
    unknown = {mac: place for mac, place in found.items() if mac not in known}
    return {
        "switches": len(tables) + len(silent),
        "switches_answered": len(tables),
        "swept": None if not tables else not silent,
        "learned": len(found),
        "unknown_count": len(unknown) if tables and (unknown or not silent) else None,
        "unknown": [f"{mac} {place}" for mac, place in sorted(unknown.items())][:50],
        "unseen_count": len(unseen) if tables or seen else None,
        "unseen": sorted(unseen)[:50],
    }


def _still_in_use(document: Document, names: Iterable[str]) -> list[str]:
    in_use = {asset.name for asset in document.assets() if asset.in_use}
    return [name for name in names if name in in_use]


def read_leases(raw: str) -> dict[str, Any]:
    """Leases of the hospital's DHCP servers that belong to no known asset; no figure when no server gives them."""
    document = Document(raw)
    known = {mac for macs in _observed_macs(document).values() for mac in macs}
    known |= {mac for asset in _hardware(document) for mac in asset.macs}
    answers = document.answers("dhcp.leases")
    leased = {text(mac) for answer in answers for mac in texts(mapping(answer.value).get("macs"))}
    found = named("unknown", leased - known)
    if not answers:
        found["unknown_count"] = None
    return {"servers": len(answers), "leases": len(leased)} | found


def read_hardened(raw: str) -> dict[str, Any]:
    """Whether every asset put into service since the first round had its settings looked at on that day or before.

    Older assets are counted apart: nobody can look at them before they went into service any more.
    """
    document = Document(raw)
    first = document.first()
    start = min(first.values(), default=None)
    undated, late, judged, older = [], [], 0, 0
    for asset in _in_use(document):
        on = maybe_day(asset.fields.get("in_service_on"))
        if on is None:
            undated.append(asset.name)
        elif start is None or on < start.date():
            older += 1
        else:
            judged += 1
            seen = first.get(asset.name)
            if seen is None or seen.date() > on:
                late.append(asset.name)
    found = named("late", late) | named("undated", undated)
    if not judged:
        found["late_count"] = None
    return {"judged": judged, "older": older} | found


def read_counts(raw: str) -> dict[str, Any]:
    """How much there is, as the draft list of circular 54/2017 counts it: only what answered within 30 days counts.

    A share has no figure while silent assets could still lift it over the draft's threshold.
    """
    document = Document(raw)
    seen, assets = document.seen(SEEN_HOURS), _in_use(document)
    staff = whole(mapping(document.whole_part("hospital")).get("staff"))
    kinds = Counter(asset.kind for asset in assets)
    answered = Counter(asset.kind for asset in assets if asset.name in seen)
    pcs = [asset for asset in assets if asset.kind == "workstation"]
    departments = {asset.department for asset in pcs if asset.department}
    joined = {asset.department for asset in pcs if asset.department and asset.name in seen}
    spare = [
        a for a in _hardware(document) if a.kind in ("server", "virtual_machine") and a.fields.get("state") == "spare"
    ]
    network = [asset.name for asset in assets if asset.kind in _NETWORK]
    watched = sum(name in seen for name in network)
    return {
        "assets": dict(sorted(kinds.items())),
        "answered": dict(sorted(answered.items())),
        "staff": staff,
        "pcs_per_staff_percent": _share(
            answered["workstation"], kinds["workstation"], staff, staff, PC_PER_STAFF_PERCENT
        ),
        "printers_per_pc_percent": _share(
            answered["printer"], kinds["printer"], kinds["workstation"], answered["workstation"], PRINTER_PER_PC_PERCENT
        ),
        "departments_joined_percent": _share(
            len(joined), len(departments), len(departments), len(departments), DEPARTMENTS_PERCENT
        ),
        "servers_answered": answered["server"] or None,
        "ups_answered": answered["ups"] or None,
        "mobiles": kinds["mobile"],
        "standby_servers": len(spare),
        "network_watched": bool(network) and watched == len(network) if watched else None,
    }


def _share(proven: int, possible: int, of_most: int, of_least: int, threshold: int) -> int | None:
    """Whole percent that is certain: of the largest base when it is enough, None while the silent could decide it."""
    if not of_most:
        return None
    certain = proven * 100 // of_most
    best = possible * 100 // max(of_least, 1)
    return certain if certain >= threshold or best < threshold else None


FACTS: tuple[Fact, ...] = (
    Fact(
        "assets.fields",
        "record",
        "inventory net.interfaces device.mac_addresses host.serial printer.serial",
        read_fields,
        "assets in use",
        "inventory/hosts.yaml",
        kinds=_SITE,
    ),
    Fact(
        "assets.coverage",
        "record",
        "inventory register:assets today",
        read_coverage,
        "classes of assets",
        "inventory/hosts.yaml, registers/assets.yaml",
        kinds=_SITE,
    ),
    Fact(
        "assets.strangers",
        "record",
        "inventory vlans seen vlan.learned net.interfaces device.mac_addresses",
        read_strangers,
        "MAC addresses, assets",
        "vlan.learned of every switch against inventory/hosts.yaml",
        kinds=_SITE,
    ),
    Fact(
        "assets.leases",
        "record",
        "inventory dhcp.leases net.interfaces device.mac_addresses",
        read_leases,
        "MAC addresses",
        "dhcp.leases of every server against inventory/hosts.yaml",
        kinds=_SITE,
    ),
    Fact(
        "assets.hardened",
        "record",
        "inventory first:kernel.switches first:device.vendor",
        read_hardened,
        "assets in use",
        "inventory/hosts.yaml emr_in_service_on, first look at the settings",
        kinds=_SITE,
    ),
    Fact(
        "assets.counts",
        "record",
        "inventory hospital seen",
        read_counts,
        "assets, percent",
        "inventory/hosts.yaml, inventory/campaign.yaml",
        kinds=_SITE,
    ),
)
