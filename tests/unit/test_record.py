"""What is derived of the record: named inputs, honest ages, flat storage, identical rebuild, past days."""

import json
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from controlplane.collect.record import Holdings, Record, derive_from
from controlplane.collect.yaml_file import InventoryError
from controlplane.domain.chain import plain
from controlplane.domain.model import Asset, Fact, Outcome, Words
from controlplane.rounds import make_round
from controlplane.store.tables import looks, observations
from tests.conftest import NOON, a_catalog, a_check, a_criterion, a_framework, a_look, an_asset
from tests.unit.test_archive import dump

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
SITE = Asset("site", "site", ("site",), Words("site", "site"))
DISK, COUNT = "disk.used_percent", "cpu.count"


def read_double(raw):
    """Twice the disk's figure, as far as the register allows."""
    document = json.loads(raw)
    return min(2 * document["inputs"][DISK]["value"], document["registers"]["ports"]["most"])


def read_answered(raw):
    """Who answered within a day."""
    document = json.loads(raw)
    fresh = [row["asset"] for row in document["inputs"][DISK] if row["age_hours"] <= 24]
    return {
        "answered": len(fresh),
        "silent": document["unanswered"][DISK],
        "doubles": len(document["inputs"]["d.double"]),
    }


FACTS = {
    fact.name: fact
    for fact in (
        Fact(DISK, "shell", "true", int, "-", "-"),
        Fact(COUNT, "shell", "true", int, "-", "-"),
        Fact("d.double", "record", f"{DISK} register:ports", read_double, "-", "-", kinds=("server",)),
        Fact(
            "d.sum",
            "record",
            f"{DISK} {COUNT}",
            lambda raw: len(json.loads(raw)["inputs"]),
            "-",
            "-",
            kinds=("server",),
        ),
        Fact(
            "d.declared",
            "record",
            "inventory",
            lambda raw: json.loads(raw)["inventory"]["kind"],
            "-",
            "-",
            kinds=("server",),
        ),
        Fact("d.site", "record", f"{DISK} d.double", read_answered, "-", "-", kinds=("site",)),
    )
}
ASSETS = {name: an_asset(name) for name in ("sv-01", "sv-02")} | {"site": SITE}
CATALOG = a_catalog([a_check(fact="d.double", expect={"at_most": 85})], a_framework(a_criterion()))


def public(asset):
    return plain({"name": asset.name, "kind": asset.kind, "transports": asset.transports, "roles": asset.roles})


def walk(archive, clock, answers, only=None, ports=None):
    """One round in which assets answer ``answers``: asset -> fact -> value or outcome."""
    held = Holdings([public(a) for a in ASSETS.values()], {"ports": ports or {"most": 100}}, {}, {})

    def gather(targets):
        return [a_look(a.name, answers[a.name], clock()) for a in targets if a.name in answers]

    derive = derive_from(FACTS, held, archive, clock)
    targets = [ASSETS[name] for name in only] if only else None
    return make_round(CATALOG, ASSETS, "0" * 64, gather, archive, clock, ZONE, targets, derive)


def standing(archive, asset, fact, at=None):
    return archive.state(at)[asset, fact].answer


def test_a_derived_answer_names_its_inputs_down_to_the_observation(archive, clock):
    walk(archive, clock, {"sv-01": {DISK: 40, COUNT: 2}})
    source, derived = standing(archive, "sv-01", DISK), standing(archive, "sv-01", "d.double")
    document = json.loads(archive.vault.get(derived.raw_digest))
    assert document["inputs"][DISK] == plain(
        {"asset": "sv-01", "fact": DISK, "observation": source.id, "seen_at": source.seen_at, "value": 40}
    )
    assert FACTS["d.double"].reader(archive.vault.get(derived.raw_digest).decode()) == derived.value == 80
    assert (derived.asked, derived.collector) == (FACTS["d.double"].ask, "record/1")


def test_what_was_never_answered_derives_nothing_and_what_is_declared_needs_no_answer(archive, clock):
    walk(archive, clock, {"sv-01": {DISK: 40, COUNT: 2}})
    state = archive.state()
    assert ("sv-02", "d.double") not in state
    assert state["sv-02", "d.declared"].answer.value == "server"


def test_a_derived_answer_is_as_old_as_its_oldest_input(archive, clock):
    walk(archive, clock, {"sv-01": {DISK: 40, COUNT: 2}})
    clock.pass_(hours=5)
    walk(archive, clock, {"sv-01": {DISK: 40, COUNT: Outcome.UNREACHABLE}})
    assert standing(archive, "sv-01", "d.sum").seen_at == NOON
    assert standing(archive, "sv-01", "d.double").seen_at == NOON + timedelta(hours=5)
    assert standing(archive, "sv-01", "d.declared").seen_at == NOON + timedelta(hours=5)


def test_a_new_register_changes_the_answer_and_not_its_age(archive, clock):
    walk(archive, clock, {"sv-01": {DISK: 40, COUNT: 2}})
    clock.pass_(hours=30)
    walk(archive, clock, {}, ports={"most": 50})
    derived = standing(archive, "sv-01", "d.double")
    assert (derived.value, derived.seen_at, derived.first_seen_at) == (50, NOON, NOON + timedelta(hours=30))
    assert standing(archive, "sv-01", "d.double", NOON + timedelta(hours=29)).value == 80
    assert archive.state(clock()) == archive.state()


@pytest.mark.parametrize("outcome", [Outcome.NOT_SUPPORTED, Outcome.UNREACHABLE])
def test_an_input_that_the_device_no_longer_gives_takes_the_answer_along(archive, clock, outcome):
    walk(archive, clock, {"sv-01": {DISK: 40, COUNT: 2}})
    clock.pass_(hours=1)
    walk(archive, clock, {"sv-01": {DISK: outcome, COUNT: 2}})
    failure = archive.state()["sv-01", "d.double"].failure
    if outcome is Outcome.NOT_SUPPORTED:
        assert failure.outcome is outcome
        named = json.loads(archive.vault.get(failure.raw_digest))["failed"][DISK]["observation"]
        assert archive.observations([named])[named].fact == DISK
    else:
        assert failure is None
    clock.pass_(hours=1)
    walk(archive, clock, {"sv-01": {DISK: 41, COUNT: 2}})
    assert archive.state()["sv-01", "d.double"].failure is None
    assert archive.state(clock()) == archive.state()


def test_the_site_says_who_is_silent_and_takes_what_was_just_derived(archive, clock):
    walk(archive, clock, {"sv-01": {DISK: 40, COUNT: 2}})
    value = standing(archive, "site", "d.site").value
    assert value == {"answered": 1, "silent": ["sv-02"], "doubles": 1}
    clock.pass_(hours=30)
    walk(archive, clock, {})
    assert standing(archive, "site", "d.site").value["answered"] == 0
    assert standing(archive, "site", "d.site").seen_at == clock()


def test_a_narrow_round_derives_for_its_assets_and_always_for_the_site(archive, clock):
    both = {name: {DISK: 40, COUNT: 2} for name in ("sv-01", "sv-02")}
    walk(archive, clock, both)
    clock.pass_(hours=1)
    walk(archive, clock, both, only=["sv-02"])
    assert standing(archive, "sv-01", "d.declared").seen_at == NOON
    assert standing(archive, "sv-02", "d.declared").seen_at == clock()
    assert standing(archive, "site", "d.site").seen_at == clock()
    clock.pass_(hours=1)
    walk(archive, clock, both)
    assert standing(archive, "sv-01", "d.declared", NOON + timedelta(minutes=90)).seen_at == NOON


def test_a_broken_register_leaves_the_last_answer_and_says_why(archive, clock):
    walk(archive, clock, {"sv-01": {DISK: 40, COUNT: 2}})
    clock.pass_(hours=1)
    broken = InventoryError(Words("Sai", "Wrong"), "inventory/registers/ports.yaml", 3)
    walk(archive, clock, {"sv-01": {DISK: 41, COUNT: 2}}, ports=broken)
    seen = archive.state()["sv-01", "d.double"]
    assert (seen.answer.value, seen.failure.outcome, seen.failure.raw_digest) == (80, Outcome.GARBLED, None)
    assert "ports.yaml:3" in seen.failure.detail


def test_a_day_without_change_adds_no_observation_no_bytes_but_bodies_and_one_look_a_round(archive, clock):
    answers = {name: {DISK: 40, COUNT: 2} for name in ("sv-01", "sv-02")}
    walk(archive, clock, answers)
    with archive.engine.connect() as connection:
        before = connection.execute(sa.select(sa.func.count()).select_from(observations)).scalar()
    kept = len(list(archive.vault.names()))
    for _ in range(24):
        clock.pass_(hours=1)
        walk(archive, clock, answers)
    with archive.engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(observations)).scalar() == before
        derived = sa.select(sa.func.count()).select_from(looks).where(looks.c.transport == "record")
        assert connection.execute(derived).scalar() == 25
    # What opened each round and what closed it, and the scorecard of the second day.
    assert len(list(archive.vault.names())) == kept + 24 * 2 + 1
    for digest in {o.raw_digest for s in archive.state().values() for o in (s.answer, s.failure) if o and o.raw_digest}:
        archive.vault.get(digest)


def test_the_index_is_rebuilt_identically_and_every_past_moment_stands_as_it_was(archive, clock):
    script = [
        ({"sv-01": {DISK: 40, COUNT: 2}, "sv-02": {DISK: 10, COUNT: 1}}, None, 100),
        ({"sv-01": {DISK: Outcome.UNREACHABLE, COUNT: Outcome.UNREACHABLE}}, ["sv-01"], 100),
        ({"sv-01": {DISK: 40, COUNT: 2}}, None, 100),
        ({"sv-01": {DISK: Outcome.NOT_SUPPORTED, COUNT: 2}, "sv-02": {DISK: 10, COUNT: 1}}, None, 60),
        ({"sv-02": {DISK: 10, COUNT: 3}}, ["sv-02"], 60),
        ({"sv-01": {DISK: 44, COUNT: 2}, "sv-02": {DISK: 10, COUNT: 3}}, None, 60),
        ({"sv-01": {DISK: 44, COUNT: 2}, "sv-02": {DISK: 10, COUNT: 3}}, None, 60),
    ]
    stood = []
    for answers, only, most in script:
        walk(archive, clock, answers, only, {"most": most})
        stood.append((clock(), archive.state()))
        clock.pass_(hours=7)
    for at, state in stood:
        assert archive.state(at) == state
    before = dump(archive)
    archive.reindex()
    assert dump(archive) == before
    assert archive.first_break(bodies=True) is None


def test_the_looks_of_a_round_are_those_at_devices(archive, clock):
    kept = walk(archive, clock, {"sv-01": {DISK: 40, COUNT: 2}})
    assert kept.looks == {"answered": 1}
    assert [(look["asset"], look["transport"]) for look in archive.looks_of(kept.id)] == [("sv-01", "ssh")]
    assert set(archive.last_looks()) == {("sv-01", "ssh")}


def test_an_input_that_does_not_exist_is_a_mistake_of_the_registry(archive, clock):
    odd = {"d.odd": Fact("d.odd", "record", "wishes", len, "-", "-", kinds=("server",))}
    held = Holdings([public(a) for a in ASSETS.values()], {}, {}, {})
    with pytest.raises(ValueError, match="wishes"):
        list(Record(odd, held, archive, clock).derive([ASSETS["sv-01"]], {}))


def test_changes_are_told_from_repeated_answers(archive, clock):
    for value in (40, 40, Outcome.UNREACHABLE, 40, 41):
        walk(archive, clock, {"sv-01": {DISK: value, COUNT: 2}})
        clock.pass_(hours=1)
    (change,) = archive.changes(DISK, NOON)
    assert (change["asset"], change["since"]) == ("sv-01", NOON + timedelta(hours=4))
    assert change["not_after"] == NOON + timedelta(hours=3)
    assert archive.changes(DISK, clock()) == []
    assert archive.first_answers(DISK) == {"sv-01": NOON}
