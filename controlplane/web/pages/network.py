"""The matrix of VLANs as the probes found it: one word for each pair, and where its evidence is. It decides nothing."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from controlplane.domain.judge import NOTHING
from controlplane.domain.model import SITE
from controlplane.web.pages.face import Plain, show

FACT = "network.isolation"
SHAPES = {"closed": "met", "used": "met", "open": "not_met", "blocked": "stale", "untried": "unknown"}
"""A word of a path, and the verdict whose shape and colour it borrows."""


def network(face: Plain) -> Response:
    """VLAN by VLAN: closed, open though forbidden, used, blocked, untried."""
    plane = face.plane
    inventory, _ = plane.inventory()
    seen = plane.archive.state().get((SITE, FACT), NOTHING).answer
    value: dict[str, Any] = seen.value if seen is not None else {}
    judgement = plane.judgement()
    checks = {id_: check for id_, check in judgement.catalog.checks.items() if check.fact == FACT}
    probes: dict[str, list[str]] = {}
    for probe, plan in sorted(plane.given()["emr_network"]["probes"].items()):
        probes.setdefault(plan["from"], []).append(probe)
    return show(
        face,
        "network.html",
        value=value,
        seen=seen,
        shapes=SHAPES,
        titles={vlan.name: vlan.title for vlan in inventory.vlans.vlans},
        probes=probes,
        checks=checks,
        findings=[finding for finding in judgement.findings if finding.check in checks],
        fact=FACT,
    )
