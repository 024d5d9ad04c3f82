"""Paths between VLANs tried for real: probes in network namespaces around a real nftables router."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controlplane.collect.facts import FACTS
from controlplane.collect.record import Holdings, Record
from controlplane.domain.chain import plain
from controlplane.domain.judge import Seen
from controlplane.domain.model import SITE, Asset, Observation, Outcome, Reply, Words
from tests.integration.isolation_rig import Rig, rig

VLANS = (("servers", 10), ("clinical", 20), ("cameras", 60), ("internet", 255))
ALLOW: list[dict[str, Any]] = [
    {"source": "clinical", "target": "servers", "services": ["tcp/443"]},
    {"source": "servers", "target": "clinical", "services": ["tcp/104", "udp/161"]},
    {"source": "clinical", "target": "internet", "services": ["tcp/443", "udp/443"]},
]
AT = datetime(2026, 11, 27, 1, 0, tzinfo=UTC)


def asset(name: str, number: int) -> Asset:
    fields = {"vlan": str(number), "vlan_address": f"10.79.{number}.9"}
    if name == "internet":
        fields = {"outside": "true", "vlan_address": f"10.79.{number}.9"}
    title = Words(name, name)
    return Asset(f"probe-{name}", "probe", ("probes",), title, transports=("ssh",), address="192.0.2.1", fields=fields)


def derived(replies: dict[str, Reply]) -> tuple[dict[str, Any], bytes]:
    """What the product derives of the probes' replies, through its own second phase, and the bytes it rests on."""
    site = Asset(SITE, SITE, (SITE,), Words("x", "x"))
    assets = [asset(*one) for one in VLANS] + [site]
    told = [
        {**plain(vars(one)), "transports": one.transports, "fields": dict(one.fields), "roles": one.roles}
        for one in assets
    ]
    vlans = [{"id": number, "name": name, "subnet": f"10.79.{number}.0/24"} for name, number in VLANS[:-1]]
    rows = [{key: value for key, value in row.items() if key != "access"} for row in told]
    holdings = Holdings(rows, {}, {"vlans": vlans, "allow": ALLOW}, {})
    facts = {name: FACTS[name] for name in ("probe.attempts", "network.isolation")}
    state = {}
    for number, (name, reply) in enumerate(sorted(replies.items()), start=1):
        if reply.outcome is Outcome.ANSWERED:
            value = FACTS["probe.attempts"].reader(reply.raw.decode())
            seen = Observation(name, "probe.attempts", reply.outcome, value, "-", None, "", "ssh/1", AT, AT, number)
            state[name, "probe.attempts"] = Seen(seen)
    record = Record(facts, holdings, None, lambda: AT)  # type: ignore[arg-type]  # no fact here asks for history
    (look, (seen,)) = list(record.derive(assets, state))[-1]
    return seen.value, look.replies[0].raw


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(tmp_path_factory.mktemp("rig"), VLANS, ALLOW) as one:
        one.listen()
        yield one


def test_as_the_matrix_wants_it_everything_forbidden_is_closed_and_everything_allowed_is_used(hospital: Rig) -> None:
    value, _ = derived(hospital.look())
    assert (value["open_forbidden_count"], value["blocked_allowed_count"], value["untried_count"]) == (0, 0, 0)
    assert value["used"] == value["allowed"] == 5
    assert value["closed"] == value["forbidden"] > 150
    assert value["cells"]["clinical"] == {"cameras": "closed", "internet": "used", "servers": "used"}


def test_a_path_opened_by_hand_is_named_and_a_closed_one_that_is_needed_too(hospital: Rig) -> None:
    opened = 'iifname "v60" oifname "v10" tcp dport 445 accept'
    shut = 'iifname "v20" oifname "v10" tcp dport 443 drop'
    hospital.rules(opened, shut, 'iifname "v255" oifname "v20" udp dport 53 accept')
    value, _ = derived(hospital.look())
    assert value["open_forbidden"] == ["cameras -> servers tcp/445", "internet -> clinical udp/53"]
    assert value["blocked_allowed"] == ["clinical -> servers tcp/443"]
    assert value["cells"]["cameras"]["servers"] == "open"
    assert value["cells"]["clinical"]["servers"] == "blocked"
    hospital.rules()


def test_a_firewall_that_refuses_by_a_word_of_its_own_is_closed_and_by_a_reset_is_not(hospital: Rig) -> None:
    hospital.rules('iifname "v60" reject with icmpx admin-prohibited')
    value, _ = derived(hospital.look())
    assert (value["open_forbidden_count"], value["untried_count"]) == (0, 0)
    hospital.rules('iifname "v60" oifname "v10" tcp dport 22 reject with tcp reset')
    value, _ = derived(hospital.look())
    assert value["open_forbidden"] == ["cameras -> servers tcp/22"]
    hospital.rules()


def test_silence_toward_a_probe_that_does_not_listen_proves_nothing(hospital: Rig) -> None:
    hospital.silence("servers")
    hospital.rules('iifname "v60" oifname "v10" tcp dport 23 accept')
    value, _ = derived(hospital.look())
    assert {"cameras -> servers", "clinical -> servers", "internet -> servers"} == set(value["untried"])
    assert value["open_forbidden"] == ["cameras -> servers tcp/23"], "nobody listens, and the path is open all the same"
    assert (value["blocked_allowed_count"], value["blocked_allowed"]) == (None, [])
    hospital.rules()
    hospital.listen()


def test_a_probe_whose_cable_is_out_proves_nothing_and_sends_nothing(hospital: Rig) -> None:
    hospital.ip("link", "set", "v60", "down", inside="fw")
    try:
        value, _ = derived(hospital.look())
    finally:
        hospital.ip("link", "set", "v60", "up", inside="fw")
    others = ("clinical", "internet", "servers")
    pairs = {f"cameras -> {other}" for other in others} | {f"{other} -> cameras" for other in others}
    assert set(value["untried"]) == pairs
    assert value["open_forbidden_count"] is None


def test_a_probe_that_would_go_another_way_sends_nothing(hospital: Rig) -> None:
    """A default route over the card of the control plane must never carry a try."""
    hospital.ip("link", "add", "eth0", "type", "veth", "peer", "name", "far", inside="cameras")
    for words in ("addr add 192.0.2.9/24 dev eth0", "link set eth0 up", "link set far up"):
        hospital.ip(*words.split(), inside="cameras")
    hospital.ip("route", "replace", "10.79.0.0/16", "via", "192.0.2.1", "dev", "eth0", inside="cameras")
    try:
        reply = hospital.look("cameras")["probe-cameras"]
        (card,) = json.loads(hospital.inside("cameras", ["ip", "-s", "-j", "link", "show", "eth0"]))
    finally:
        hospital.ip("link", "del", "eth0", inside="cameras")
        hospital.ip("route", "replace", "10.79.0.0/16", "via", "10.79.60.1", inside="cameras")
    value = FACTS["probe.attempts"].reader(reply.raw.decode())
    assert value["tried"] == 0
    assert not value["up"]
    assert len(value["unsent"]) == 3 * len(value["listening"])
    assert card["stats64"]["tx"]["packets"] < 20, "the kernel's own words at the start of a card, and no try"


def test_the_order_of_answers_does_not_matter_and_one_that_is_missing_leaves_pairs_untried(hospital: Rig) -> None:
    replies = hospital.look()
    first, _ = derived(replies)
    for order in itertools.islice(itertools.permutations(replies), 5):
        assert derived({name: replies[name] for name in order})[0] == first
    del replies["probe-internet"]
    value, _ = derived(replies)
    assert value["probes_missing"] == ["internet"]
    assert value["open_forbidden_count"] is None


def test_a_host_without_a_plan_tries_nothing(hospital: Rig) -> None:
    assert not Path("/etc/emrctl/probe-plan.json").exists()
    before = hospital.inside("clinical", ["cat", "/proc/net/snmp"])
    assert hospital.inside("clinical", ["sh", "-c", f"({FACTS['probe.attempts'].ask}); echo $?"]) == "69\n"
    assert hospital.inside("clinical", ["cat", "/proc/net/snmp"]) == before
