"""What the probes' tries prove of the deny matrix and of the allow matrix. It opens no connection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from controlplane.collect.facts.record_text import Document, mapping, moment, named, objects, text, texts, whole
from controlplane.domain.isolation import Path, Trial, isolation, places_needed, places_of
from controlplane.domain.model import Fact

FRESH_HOURS = 26
"""A try older than this is no try."""


def read_isolation(raw: str) -> dict[str, Any]:
    """Forbidden paths that are open, allowed paths that are not, and the pairs of VLANs that nobody has tried.

    While anything is untried, that nothing forbidden was open is no figure; one open path is a figure all the same.
    """
    document = Document(raw)
    assets = document.assets()
    vlans, allow = _plan(document)
    places = places_of(assets, vlans)
    seen = isolation(places_needed(assets, vlans), places, allow, _trials(document))
    allowed = {(r["source"], r["target"], service) for r in allow for service in r["services"]} & set(seen.paths)
    untried = seen.those(Path.UNTRIED)
    counts = Counter(seen.paths.values())
    found = (
        named("open_forbidden", map(_told, seen.those(Path.OPEN)))
        | named("blocked_allowed", map(_told, seen.those(Path.BLOCKED)))
        | named("untried", _pairs(untried))
        | named("probes_missing", seen.missing)
    )
    for key, all_, waiting in (
        ("open_forbidden", set(seen.paths) - allowed, set(untried) - allowed),
        ("blocked_allowed", allowed, set(untried) & allowed),
    ):
        if not found[key] and (waiting or not all_):
            found[f"{key}_count"] = None
    return {
        "places": list(seen.places),
        "probes": len(places),
        "forbidden": len(set(seen.paths) - allowed),
        "closed": counts[Path.CLOSED],
        "allowed": len(allowed),
        "used": counts[Path.USED],
        "untried_paths": len(untried),
        **found,
        "cells": seen.cells(),
    }


def _plan(document: Document) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The VLANs and the passages of the matrix."""
    plan = mapping(document.whole_part("vlans"))
    vlans, allow = objects(plan.get("vlans")), objects(plan.get("allow"))
    for row in allow:
        text(row.get("source")), text(row.get("target")), texts(row.get("services"))
    for vlan in vlans:
        whole(vlan.get("id")), text(vlan.get("name"))
    return vlans, allow


def _trials(document: Document) -> list[Trial]:
    found = []
    for answer in document.answers("probe.attempts", FRESH_HOURS):
        value = mapping(answer.value)
        words = {word: frozenset(texts(value.get(word))) for word in ("listening", "open", "refused", "silent")}
        up = value.get("up") is True
        found.append(Trial(answer.asset, text(value.get("address")), up, at=moment(answer.seen_at), **words))
    return found


def _told(path: tuple[str, str, str]) -> str:
    return f"{path[0]} -> {path[1]} {path[2]}"


def _pairs(paths: Iterable[tuple[str, str, str]]) -> set[str]:
    return {f"{source} -> {target}" for source, target, _ in paths}


FACTS: tuple[Fact, ...] = (
    Fact(
        "network.isolation",
        "record",
        "inventory vlans probe.attempts",
        read_isolation,
        "paths between VLANs, one service each",
        "probe.attempts of every probe against the matrix of inventory/vlans.yaml",
        kinds=("site",),
    ),
)
