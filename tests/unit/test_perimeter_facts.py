"""Readers that judge a firewall, a backup record and central logs: the cases on which a wrong figure would flatter."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controlplane.collect.facts import FACTS

LINKS = [
    {"ifname": "wan0"},
    {"ifname": "lan20", "ifalias": "zone:internal"},
    {"ifname": "srv10", "ifalias": "zone:server"},
]
ROUTES = [{"dst": "default", "dev": "wan0"}]


def chain(name: str, hook: str = "", policy: str = "drop") -> dict[str, Any]:
    base = {"type": "filter", "hook": hook, "prio": 0, "policy": policy} if hook else {}
    return {"chain": {"family": "inet", "table": "t", "name": name, **base}}


def rule(where: str, *expressions: dict[str, Any]) -> dict[str, Any]:
    return {"rule": {"family": "inet", "table": "t", "chain": where, "expr": list(expressions)}}


def meta(key: str, right: Any) -> dict[str, Any]:
    return {"match": {"op": "==", "left": {"meta": {"key": key}}, "right": right}}


def port(right: Any, protocol: str = "tcp") -> dict[str, Any]:
    return {"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": "dport"}}, "right": right}}


ACCEPT: dict[str, Any] = {"accept": None}
DROP: dict[str, Any] = {"drop": None}


def policy(*entries: dict[str, Any]) -> dict[str, Any]:
    rules = json.dumps({"nftables": list(entries)})
    text = f"-- links\n{json.dumps(LINKS)}\n-- routes\n{json.dumps(ROUTES)}\n-- rules\n{rules}\n"
    return FACTS["firewall.policy"].reader(text)  # type: ignore[no-any-return]


BASE = (chain("in", "input"), chain("fw", "forward"))


def test_a_chain_that_closes_nothing_is_a_way_for_everything() -> None:
    open_one = policy(chain("in", "input", "accept"), chain("fw", "forward", "accept"))
    assert (open_one["forward_drop"], open_one["open_passages"], open_one["inbound_open"]) == (False, 1, 2)
    assert open_one["users_reach_database"] == 1
    closed = policy(*BASE)
    assert (closed["forward_drop"], closed["open_passages"], closed["inbound_open"]) == (True, 0, 0)


def test_a_last_rule_that_drops_only_some_closes_nothing() -> None:
    some = policy(chain("in", "input"), chain("fw", "forward", "accept"), rule("fw", meta("iifname", "wan0"), DROP))
    assert some["forward_drop"] is False
    every = policy(chain("in", "input"), chain("fw", "forward", "accept"), rule("fw", {"counter": None}, DROP))
    assert every["forward_drop"] is True


def test_a_rule_behind_a_jump_counts_with_what_led_to_it() -> None:
    jump = rule("fw", meta("iifname", "lan20"), meta("oifname", "srv10"), {"jump": {"target": "users"}})
    narrow = policy(*BASE, chain("users"), jump, rule("users", port({"set": [443, 8443]}), ACCEPT))
    assert (narrow["user_services"], narrow["open_passages"], narrow["users_reach_management"]) == ([443, 8443], 0, 1)
    wide = policy(*BASE, chain("users"), jump, rule("users", ACCEPT))
    assert (wide["user_open"], wide["open_passages"], wide["users_reach_database"]) == (1, 1, 1)


def test_a_range_of_ports_holds_the_ports_inside_it() -> None:
    ranged = policy(*BASE, rule("fw", meta("iifname", "wan0"), port({"range": [3000, 4000]}), ACCEPT))
    assert ranged["remote_control_exposed"] == 1


def test_established_connections_are_no_way_in_but_new_ones_are() -> None:
    state = {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}
    fresh = {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "new"]}}
    assert policy(*BASE, rule("fw", state, ACCEPT))["passages"] == 0
    assert policy(*BASE, rule("fw", fresh, ACCEPT))["open_passages"] == 1


def test_a_limit_for_one_port_does_not_cover_another() -> None:
    way = rule("fw", meta("iifname", "wan0"), port({"set": [443, 25]}), ACCEPT)
    limit = rule("fw", port(443), {"ct count": {"val": 100, "inv": True}}, DROP)
    assert policy(*BASE, limit, way)["inbound_unlimited"] == 1
    both = rule("fw", port({"set": [443, 25]}), {"ct count": {"val": 100, "inv": True}}, DROP)
    assert policy(*BASE, both, way)["inbound_unlimited"] == 0


def test_chains_that_jump_in_a_circle_are_refused() -> None:
    with pytest.raises(ValueError, match="too deep"):
        policy(*BASE, rule("fw", {"jump": {"target": "fw"}}))


def ha(*notes: str) -> dict[str, Any]:
    text = "-- now\n2000000\n-- running\nkeepalived\n-- conf\nvrrp_instance a {\n-- notes\n" + "\n".join(notes) + "\n"
    return FACTS["firewall.ha"].reader(text)  # type: ignore[no-any-return]


def test_becoming_master_at_the_start_is_no_change_over() -> None:
    assert ha("1000000 INSTANCE a BACKUP", "1000004 INSTANCE a MASTER")["failover_days"] == 999_999
    assert ha("1000000 INSTANCE a BACKUP", "1090000 INSTANCE a MASTER")["failover_days"] == 10


NOW = 1_800_000_000


def backup(repositories: list[dict[str, Any]], datasets: list[dict[str, Any]]) -> dict[str, Any]:
    documents = [{"format": 1, "kind": "repository", **r} for r in repositories]
    documents += [{"format": 1, "kind": "dataset", **d} for d in datasets]
    body = "\n".join(json.dumps(document) for document in documents)
    return FACTS["backup.state"].reader(f"-- now\n{NOW}\n-- state\n{body}\n")  # type: ignore[no-any-return]


def test_a_repository_that_says_nothing_is_counted_against() -> None:
    found = backup([{"name": "r"}], [])
    for key in ("unencrypted", "erasable", "deletion_untested", "unchecked", "data_unread", "on_same_host"):
        assert found[key] == 1, key
    assert found["copies"] is None


def test_an_old_snapshot_is_no_copy() -> None:
    far = {"name": "far", "offsite": True, "medium": "rented-disk"}
    snapshot = {"repository": "far", "id": "0123abcd", "at": NOW - 27 * 3600, "kept": 9}
    late = backup([far], [{"name": "d", "class": "files", "every_hours": 24, "snapshots": [snapshot]}])
    assert (late["late"], late["copies"], late["far_copies"], late["drills_late"]) == (["d"], 1, 0, 1)
    weekly = backup([far], [{"name": "d", "class": "files", "every_hours": 168, "snapshots": [snapshot]}])
    assert (weekly["late_count"], weekly["copies"], weekly["media"], weekly["far_copies"]) == (0, 2, 2, 1)


def test_a_drill_without_a_verified_hash_failed() -> None:
    drill = {"at": NOW, "ok": True, "rto_seconds": 5, "hashes_verified": 0, "hashes_wrong": 0}
    assert backup([], [{"name": "d", "class": "files", "last_drill": drill}])["drills_failed"] == 1


def test_an_openvpn_server_with_a_password_alone_has_no_second_step() -> None:
    reader = FACTS["vpn.server"].reader
    base = "-- openvpn\n== /etc/openvpn/server/a.conf\nserver 10.8.0.0 255.255.255.0\nca ca.crt\n"
    base += "plugin openvpn-plugin-auth-pam.so\n"
    end = "-- wireguard\n-- running\nopenvpn\n"
    assert reader(base + end)["second_factor"] is True
    assert reader(base + "verify-client-cert none\n" + end)["second_factor"] is False
    assert reader(base + "-- wireguard\nwg0\n-- running\nopenvpn\n")["second_factor"] is False  # the weakest counts


def test_an_alert_of_wazuh_is_read_by_its_documented_keys() -> None:
    alert = {
        "timestamp": "2027-01-15T08:00:00.000+0000",
        "rule": {"level": 10, "description": "sshd: brute force", "groups": ["sshd", "authentication_failures"]},
        "agent": {"id": "001", "name": "sv-01"},
        "data": {"srcip": "192.0.2.9"},
    }
    text = f"-- now\n{NOW}\n-- running\nwazuh-analysisd\n-- wazuh\ncut off\n{json.dumps(alert)}\n"
    text += "-- rules\n140\n-- crowdsec\n"
    found = FACTS["siem.alerts"].reader(text)
    assert (found["alerts"], found["brute_force_days"], found["fields_missing_percent"]) == (1, 0, 0.0)


def test_nothing_to_look_at_is_never_nothing_wrong() -> None:
    empty = backup([], [])
    zero = {name for name, value in empty.items() if value == 0}
    assert zero == {"repositories", "datasets"}
    vault = FACTS["backup.vault"].reader(f"-- now\n{NOW}\n-- restic\n-- borg\n-- writers\n")
    assert (vault["stale"], vault["unencrypted"], vault["append_only"]) == (None, None, None)
    hot = '{"format": 1, "kind": "dataset", "name": "m", "source": "path:/var/lib/mysql"}'
    copied = FACTS["backup.coverage"].reader(f"-- state\n{hot}\n-- databases\n-- places\n/var/lib/mysql\n")
    assert copied["uncovered_count"] == 1, "files of a running server are no copy of its databases"
    coverage = FACTS["backup.coverage"].reader("-- state\n-- databases\n-- places\n")
    assert coverage["uncovered_count"] is None
    monitor = FACTS["monitor.prometheus"].reader("-- scope\n-- up\n-- ages\n-- rules\n-- managers\n")
    assert (monitor["old"], monitor["unseen_count"], monitor["running"]) == (None, None, False)
