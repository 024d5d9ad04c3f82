"""Which paths between VLANs are tried, and what the answers of the probes make of them. It opens no connection.

A probe is a tiny host in one VLAN, or outside the firewall. From each, every service of the matrix and a few more that
nobody should reach are tried toward the probe of every other VLAN. Silence proves a closed path only while the other
end is known to be up and listening: otherwise nothing was tried.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

INTERNET = "internet"
"""The place of whatever lies outside the perimeter."""

PROBE = "probe"
"""The kind of asset that tries paths."""

CANARIES = (
    *("tcp/21", "tcp/22", "tcp/23", "tcp/80", "tcp/135", "tcp/443", "tcp/445", "tcp/1433", "tcp/3306", "tcp/3389"),
    *("tcp/5432", "tcp/5900", "udp/53", "udp/161"),
)
"""Tried between all VLANs besides the services of the matrix: administration, files, databases, remote screens."""

PAIR = timedelta(minutes=30)
"""Two looks further apart than this are not of one round: the one says nothing of the other's silence."""


class Device(Protocol):
    """What is needed of an asset."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def address(self) -> str | None: ...
    @property
    def fields(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class Place:
    """Where one probe stands: ``place`` is the name of a VLAN or ``internet``, ``address`` its own in there."""

    probe: str
    place: str
    address: str


class Path(StrEnum):
    """What is known of one service on the way from one VLAN to another."""

    CLOSED = "closed"  # forbidden, and nothing came through while the other end listened
    OPEN = "open"  # forbidden, and something came through
    USED = "used"  # allowed, and it works
    BLOCKED = "blocked"  # allowed, and nothing comes through while the other end listens
    UNTRIED = "untried"  # nothing proves one or the other


@dataclass(frozen=True)
class Trial:
    """What one probe found, with the time of its look. Targets and services are written ``address protocol/port``."""

    probe: str
    address: str  # its own in the VLAN, from which everything was sent
    up: bool  # its way out of the VLAN answered
    listening: frozenset[str]  # services that it was itself listening on
    open: frozenset[str]
    refused: frozenset[str]  # a reset came back: the path is open, or somebody on the way refuses aloud
    silent: frozenset[str]
    at: datetime


@dataclass(frozen=True)
class Isolation:
    """Every path between two places that was to be tried, by (from, to, service)."""

    paths: Mapping[tuple[str, str, str], Path] = field(default_factory=dict)
    places: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()  # places without a probe that answered

    def those(self, *words: Path) -> list[tuple[str, str, str]]:
        """The paths of which one of these is known, sorted."""
        return sorted(key for key, path in self.paths.items() if path in words)

    def cells(self) -> dict[str, dict[str, str]]:
        """From -> to -> one word for all services: the worst of them; ``used`` where what is allowed works."""
        found: dict[tuple[str, str], set[Path]] = defaultdict(set)
        for (source, target, _), path in self.paths.items():
            found[source, target].add(path)
        cells: dict[str, dict[str, str]] = {}
        for (source, target), seen in sorted(found.items()):
            cells.setdefault(source, {})[target] = str(next(word for word in _WORST if word in seen))
        return cells


_WORST = (Path.OPEN, Path.BLOCKED, Path.UNTRIED, Path.USED, Path.CLOSED)


def services_tried(allow: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Every service that is tried between every two places: those the matrix allows anywhere, and the canaries."""
    return tuple(sorted({*CANARIES, *(str(service) for row in allow for service in row["services"])}))


def places_of(devices: Iterable[Device], vlans: Iterable[Mapping[str, Any]]) -> tuple[Place, ...]:
    """Where the probes in use stand, by their declared VLAN; a probe without a place or an address has none."""
    names = {str(vlan["id"]): str(vlan["name"]) for vlan in vlans}
    found = []
    for device in devices:
        if device.kind != PROBE or device.fields.get("state", "in_use") != "in_use":
            continue
        outside = device.fields.get("outside") == "true"
        place = INTERNET if outside else names.get(device.fields.get("vlan", ""))
        address = device.fields.get("vlan_address") or device.address
        if place and address:
            found.append(Place(device.name, place, address))
    return tuple(sorted(found, key=lambda one: one.probe))


def places_needed(devices: Iterable[Device], vlans: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The places that must have a probe: each VLAN with a subnet or with a device in it, and the outside.

    While no VLAN has a subnet and no probe stands anywhere there is nothing to try, and the answer is empty.
    """
    in_use = [device for device in devices if device.fields.get("state", "in_use") == "in_use"]
    if all(vlan.get("subnet") is None for vlan in vlans) and all(device.kind != PROBE for device in in_use):
        return ()
    used = {device.fields.get("vlan", "") for device in in_use}
    named = {str(vlan["name"]) for vlan in vlans if vlan.get("subnet") is not None or str(vlan["id"]) in used}
    return (*sorted(named), INTERNET)


def probe_plans(places: Sequence[Place], allow: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Probe -> its plan: where it stands, the services, and the only addresses that it may ever send to."""
    services = list(services_tried(allow))
    return {
        one.probe: {
            "from": one.place,
            "address": one.address,
            "services": services,
            "targets": {other.address: other.place for other in places if other.place != one.place},
        }
        for one in places
    }


def isolation(
    needed: Sequence[str], places: Sequence[Place], allow: Sequence[Mapping[str, Any]], trials: Iterable[Trial]
) -> Isolation:
    """What the probes prove of every path between two places that need one. ``allow`` has source, target, services.

    The order of the trials does not matter. A trial counts only from the address that the inventory gives the probe.
    """
    allowed = {(row["source"], row["target"], service) for row in allow for service in row["services"]}
    by_probe = {trial.probe: trial for trial in trials}
    standing: dict[str, list[Trial]] = defaultdict(list)
    for one in places:
        trial = by_probe.get(one.probe)
        if trial is not None and trial.address == one.address:
            standing[one.place].append(trial)
    paths = {
        (source, target, service): _path(
            (source, target, service) in allowed,
            {_word(one, other, service) for one in standing[source] for other in standing[target]},
        )
        for source in needed
        for target in needed
        if source != target
        for service in services_tried(allow)
    }
    return Isolation(paths, tuple(needed), tuple(place for place in needed if not standing[place]))


def _word(one: Trial, other: Trial, service: str) -> str:
    """What one probe found of another: open, refused, silent while the other listened, or nothing at all."""
    key = f"{other.address} {service}"
    if key in one.open:
        return "open"
    together = abs(one.at - other.at) <= PAIR and other.up and service in other.listening
    if key in one.refused:
        return "refused" if together else "reset"
    return "silent" if key in one.silent and together and one.up else ""


def _path(allowed: bool, words: set[str]) -> Path:
    """One word for a path, from what every pair of probes found of it."""
    if allowed:
        if "open" in words:
            return Path.USED
        return Path.BLOCKED if words & {"refused", "silent"} else Path.UNTRIED
    if words & {"open", "refused", "reset"}:
        return Path.OPEN
    return Path.CLOSED if "silent" in words else Path.UNTRIED
