"""Paths between VLANs: silence proves nothing by itself, one open path always fails, and nobody's order matters."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.collect.facts import FACTS
from controlplane.domain.isolation import (
    CANARIES,
    INTERNET,
    PAIR,
    Path,
    Place,
    Trial,
    isolation,
    places_needed,
    places_of,
    probe_plans,
    services_tried,
)
from controlplane.domain.model import Asset, Words

AT = datetime(2026, 11, 27, 1, 0, tzinfo=UTC)
PLACES = (Place("p-a", "a", "10.0.1.9"), Place("p-b", "b", "10.0.2.9"), Place("p-i", INTERNET, "10.0.3.9"))
NEEDED = ("a", "b", INTERNET)
ALLOW = ({"source": "a", "target": "b", "services": ("tcp/443",)},)
SERVICES = services_tried(ALLOW)
KEYS = [(one.place, other.place, s) for one in PLACES for other in PLACES if one != other for s in SERVICES]


def trial(one: Place, **changes: Any) -> Trial:
    """A probe that is up, listens, and finds what the matrix wants."""
    targets = {f"{other.address} {service}" for other in PLACES if other != one for service in SERVICES}
    good = {"10.0.2.9 tcp/443"} if one.place == "a" else set()
    whole = Trial(one.probe, one.address, True, frozenset(SERVICES), frozenset(good), frozenset(), frozenset(), AT)
    return replace(whole, silent=frozenset(targets - good), **changes)


GOOD = tuple(trial(one) for one in PLACES)


def test_as_the_matrix_wants_it() -> None:
    seen = isolation(NEEDED, PLACES, ALLOW, GOOD)
    assert seen.those(Path.USED) == [("a", "b", "tcp/443")]
    assert set(seen.paths) == set(KEYS)
    assert seen.those(Path.OPEN, Path.BLOCKED, Path.UNTRIED) == []
    assert seen.cells()["a"] == {"b": "used", INTERNET: "closed"}


@pytest.mark.parametrize(
    ("change", "who"),
    [
        ({"up": False}, 0),
        ({"up": False}, 1),
        ({"listening": frozenset()}, 1),
        ({"address": "10.0.1.8"}, 0),
        ({"address": "10.0.2.8"}, 1),
        ({"at": AT - PAIR - timedelta(seconds=1)}, 0),
        ({"at": AT + PAIR + timedelta(seconds=1)}, 1),
        ({"silent": frozenset()}, 0),
    ],
)
def test_silence_without_a_listener_proves_nothing(change: dict[str, Any], who: int) -> None:
    trials = [replace(one, **change) if number == who else one for number, one in enumerate(GOOD)]
    seen = isolation(NEEDED, PLACES, ALLOW, trials)
    assert seen.paths["a", "b", "tcp/22"] is Path.UNTRIED


@pytest.mark.parametrize("word", ["open", "refused"])
def test_a_forbidden_path_that_answers_is_open_whether_or_not_the_other_end_is_known(word: str) -> None:
    found = replace(GOOD[1], **{word: frozenset({"10.0.1.9 tcp/445"})})
    assert isolation(NEEDED, PLACES, ALLOW, [found, GOOD[0]]).paths["b", "a", "tcp/445"] is Path.OPEN
    silent = [found, replace(GOOD[0], up=False, listening=frozenset())]
    assert isolation(NEEDED, PLACES, ALLOW, silent).paths["b", "a", "tcp/445"] is Path.OPEN


def test_an_allowed_path_is_blocked_only_while_the_other_end_listens() -> None:
    deaf = replace(GOOD[0], open=frozenset(), silent=GOOD[0].silent | {"10.0.2.9 tcp/443"})
    key = ("a", "b", "tcp/443")
    assert isolation(NEEDED, PLACES, ALLOW, [deaf, GOOD[1]]).paths[key] is Path.BLOCKED
    away = replace(GOOD[1], listening=frozenset(SERVICES) - {"tcp/443"})
    assert isolation(NEEDED, PLACES, ALLOW, [deaf, away]).paths[key] is Path.UNTRIED
    reset = replace(deaf, silent=frozenset(), refused=frozenset({"10.0.2.9 tcp/443"}))
    assert isolation(NEEDED, PLACES, ALLOW, [reset, GOOD[1]]).paths[key] is Path.BLOCKED
    assert isolation(NEEDED, PLACES, ALLOW, [reset, away]).paths[key] is Path.UNTRIED


def test_of_two_probes_in_one_vlan_the_worse_word_counts() -> None:
    places = (*PLACES, Place("p-a2", "a", "10.0.1.10"))
    second = replace(GOOD[0], probe="p-a2", address="10.0.1.10", open=frozenset({"10.0.2.9 tcp/445"}))
    seen = isolation(NEEDED, places, ALLOW, [*GOOD, second])
    assert seen.paths["a", "b", "tcp/445"] is Path.OPEN
    assert seen.paths["a", "b", "tcp/22"] is Path.CLOSED


# ------------------------------------------------------------------------------------------ properties

_TARGETS = [f"{place.address} {service}" for place in PLACES for service in ("tcp/22", "tcp/443", "tcp/445")]
_SETS = st.frozensets(st.sampled_from(_TARGETS))
_TRIALS = st.lists(
    st.builds(
        Trial,
        probe=st.just(""),
        address=st.just(""),
        up=st.booleans(),
        listening=st.frozensets(st.sampled_from(SERVICES)),
        open=_SETS,
        refused=_SETS,
        silent=_SETS,
        at=st.sampled_from([AT, AT + timedelta(minutes=20), AT + timedelta(hours=2)]),
    ),
    min_size=3,
    max_size=3,
).map(lambda rows: [replace(t, probe=p.probe, address=p.address) for p, t in zip(PLACES, rows, strict=True)])


@settings(max_examples=150, deadline=None)
@given(trials=_TRIALS, gone=st.integers(0, 7), data=st.data())
def test_a_pair_that_was_not_tried_is_never_good_and_the_order_does_not_matter(
    trials: list[Trial], gone: int, data: st.DataObject
) -> None:
    kept = [one for number, one in enumerate(trials) if not gone >> number & 1]
    seen = isolation(NEEDED, PLACES, ALLOW, kept)
    assert isolation(NEEDED, PLACES, ALLOW, data.draw(st.permutations(kept))) == seen
    by_place = {place.place: one for place in PLACES for one in kept if one.probe == place.probe}
    for (source, target, service), path in seen.paths.items():
        one, other = by_place.get(source), by_place.get(target)
        key = f"{other.address} {service}" if other else ""
        if one is None or other is None or key not in one.open | one.refused | one.silent:
            assert path is Path.UNTRIED
        elif path is Path.CLOSED:
            assert key in one.silent - one.open - one.refused
            assert one.up
            assert other.up
            assert service in other.listening
            assert abs(one.at - other.at) <= PAIR
        elif key in one.open:
            assert path is (Path.USED if (source, target, service) == ("a", "b", "tcp/443") else Path.OPEN)
        else:
            assert path is not Path.USED


@settings(max_examples=60, deadline=None)
@given(trials=_TRIALS, path=st.sampled_from([key for key in KEYS if key != ("a", "b", "tcp/443")]))
def test_an_open_path_that_is_forbidden_always_fails(trials: list[Trial], path: tuple[str, str, str]) -> None:
    source, target, service = path
    key = f"{next(p.address for p in PLACES if p.place == target)} {service}"
    opener = next(p.probe for p in PLACES if p.place == source)
    trials = [replace(one, open=one.open | {key}) if one.probe == opener else one for one in trials]
    value = read(trials)
    assert value["open_forbidden_count"] >= 1
    assert f"{source} -> {target} {service}" in value["open_forbidden"]
    assert value["cells"][source][target] == "open"


# -------------------------------------------------------------------------------- inventory and document


def probe(name: str, **fields: str) -> dict[str, Any]:
    return {"name": name, "kind": "probe", "roles": ["probes"], "address": "192.0.2.1", "fields": fields}


INVENTORY = [
    probe("p-a", vlan="1", vlan_address="10.0.1.9"),
    probe("p-b", vlan="2", vlan_address="10.0.2.9"),
    probe("p-i", outside="true", vlan_address="10.0.3.9"),
    {"name": "site", "kind": "site", "roles": ["site"], "address": None, "fields": {}},
]
VLANS = [{"id": 1, "name": "a", "subnet": "10.0.1.0/24"}, {"id": 2, "name": "b", "subnet": "10.0.2.0/24"}]


def read(trials: list[Trial] | tuple[Trial, ...], inventory: Any = INVENTORY, vlans: Any = VLANS, age: int = 0) -> Any:
    rows = [
        {
            "asset": one.probe,
            "age_hours": age,
            "seen_at": one.at.isoformat(),
            "value": {
                "address": one.address,
                "up": one.up,
                **{w: sorted(getattr(one, w)) for w in ("listening", "open", "refused", "silent")},
            },
        }
        for one in trials
    ]
    return FACTS["network.isolation"].reader(
        json.dumps(
            {
                "asset": "site",
                "inputs": {"probe.attempts": rows},
                "unanswered": {"probe.attempts": []},
                "inventory": inventory,
                "vlans": {"vlans": vlans, "allow": [{**row, "services": list(row["services"])} for row in ALLOW]},
            }
        )
    )


def test_the_figures_of_the_hospital() -> None:
    value = read(GOOD)
    assert (value["open_forbidden_count"], value["blocked_allowed_count"], value["untried_count"]) == (0, 0, 0)
    assert value["forbidden"] == value["closed"] == len(KEYS) - 1
    old = read(GOOD, age=27)
    assert old["probes_missing"] == ["a", "b", INTERNET]
    assert (old["open_forbidden_count"], old["blocked_allowed_count"]) == (None, None)


def test_a_vlan_that_has_a_subnet_and_no_probe_leaves_no_figure() -> None:
    value = read(GOOD, vlans=[*VLANS, {"id": 3, "name": "c", "subnet": "10.0.9.0/24"}])
    assert value["probes_missing"] == ["c"]
    assert value["open_forbidden_count"] is None
    assert "c -> a" in value["untried"]
    assert read(GOOD, vlans=[*VLANS, {"id": 3, "name": "c", "subnet": None}])["untried_count"] == 0


def test_as_shipped_nothing_is_known() -> None:
    vlans = [{**vlan, "subnet": None} for vlan in VLANS]
    workstation = {"name": "pc", "kind": "workstation", "roles": [], "address": "192.0.2.2", "fields": {"vlan": "1"}}
    value = read((), inventory=[workstation], vlans=vlans)
    assert value["places"] == []
    assert (value["open_forbidden_count"], value["blocked_allowed_count"]) == (None, None)


def test_a_vlan_with_a_device_in_it_needs_a_probe_even_before_its_subnet_is_written_down() -> None:
    workstation = {"name": "pc", "kind": "workstation", "roles": [], "address": None, "fields": {"vlan": "3"}}
    vlans = [*VLANS, {"id": 3, "name": "c", "subnet": None}]
    assert read(GOOD, inventory=[*INVENTORY, workstation], vlans=vlans)["probes_missing"] == ["c"]
    gone = {**workstation, "fields": {"vlan": "3", "state": "retired"}}
    assert read(GOOD, inventory=[*INVENTORY, gone], vlans=vlans)["probes_missing"] == []


def device(name: str, kind: str = "probe", address: str | None = "192.0.2.1", **fields: str) -> Asset:
    return Asset(name, kind, (), Words(name, name), address=address, fields=fields)


def test_a_plan_names_the_probes_of_other_places_and_nothing_else() -> None:
    devices = [
        device("p-a", vlan="1", vlan_address="10.0.1.9"),
        device("p-a2", vlan="1", vlan_address="10.0.1.10"),
        device("p-b", vlan="2"),  # its one address is that of the VLAN
        device("p-i", outside="true", address="203.0.113.9"),
        device("p-gone", vlan="2", state="retired"),
        device("p-nowhere", vlan="7"),
        device("p-new", vlan="2", address=None),
        device("sv-01", "server", vlan="1"),
    ]
    places = places_of(devices, VLANS)
    assert {one.probe: one.place for one in places} == {"p-a": "a", "p-a2": "a", "p-b": "b", "p-i": INTERNET}
    plan = probe_plans(places, [{"services": ["tcp/8000"]}])["p-a"]
    assert plan["targets"] == {"192.0.2.1": "b", "203.0.113.9": INTERNET}
    assert plan["address"] == "10.0.1.9"
    assert set(plan["services"]) == {*CANARIES, "tcp/8000"}
    assert places_needed(devices, VLANS) == ("a", "b", INTERNET)
    assert places_needed([], []) == ()


# ------------------------------------------------------------------------------------------- the reader

WHOLE = """plan {} a 10.0.1.9 eth1
way 10.0.2.9 eth1 10.0.1.1 reached
way 10.0.3.9 eth0 192.0.2.1 silent
try 10.0.1.9 tcp/22 open
try 10.0.1.9 tcp/23 refused
try 10.0.2.9 tcp/22 silent
try 10.0.2.9 tcp/443 open
try 10.0.3.9 tcp/22 silent
end
""".format("ab" * 32)


def test_silence_on_a_way_that_does_not_answer_or_leads_elsewhere_was_never_sent() -> None:
    value = FACTS["probe.attempts"].reader(WHOLE)
    assert (value["silent"], value["unsent"]) == (["10.0.2.9 tcp/22"], ["10.0.3.9 tcp/22"])
    assert (value["open"], value["listening"]) == (["10.0.2.9 tcp/443"], ["tcp/22"])
    assert (value["deaf"], value["deaf_count"]) == (["tcp/23"], 1)
    assert (value["up"], value["tried"]) == (True, 2)
    down = FACTS["probe.attempts"].reader(WHOLE.replace("reached", "silent"))
    assert (down["silent"], down["up"]) == ([], False)


@pytest.mark.parametrize(
    ("old", "new"),
    [("end\n", ""), ("tcp/443 open", "tcp/443 opened"), ("try 10.0.2.9 tcp/22", "try there tcp/22"), ("ab" * 32, "ab")],
)
def test_an_answer_that_is_not_whole_is_refused(old: str, new: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        FACTS["probe.attempts"].reader(WHOLE.replace(old, new))
