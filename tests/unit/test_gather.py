"""Many looks at once: no transport can raise, hold the round up, or cost another asset its look."""

import time

from controlplane.collect.gather import gather, observe, questions
from controlplane.domain.model import Asset, Fact, Look, Outcome, Reply, Words
from tests.conftest import NOON, Clock

FACTS = {
    "cpu.count": Fact("cpu.count", "shell", "nproc", int, "cores", "nproc(1)"),
    "secret.thing": Fact("secret.thing", "shell", "true", str, "-", "test", keep_raw=False),
    "printer.pages": Fact("printer.pages", "snmp", ".1.3", int, "pages", "Printer-MIB", kinds=("printer",)),
}


class Told:
    """A transport of one's own making: a hand-made fake at the edge."""

    name = family_name = "ssh"
    family = "shell"
    collector = "ssh/1"

    def __init__(self, behaviour):
        self.behaviour = behaviour

    def look(self, asset, facts, deadline_seconds, clock):
        return self.behaviour(asset, facts, deadline_seconds, clock)


def asset(name, address="192.0.2.1", kind="server"):
    return Asset(name, kind, (), Words(name, name), transports=("ssh",), address=address)


def answer(raw):
    def behaviour(one, facts, _deadline, clock):
        replies = tuple(Reply(f.name, Outcome.ANSWERED, f.ask, raw) for f in facts)
        return Look(one.name, "ssh", Outcome.ANSWERED, clock(), 1, "ssh/1", replies=replies)

    return behaviour


def run(assets, behaviour, **options):
    return list(gather(assets, {"ssh": Told(behaviour)}, FACTS, Clock(), **options))


def test_a_reply_becomes_a_typed_value_with_the_digest_of_its_bytes():
    ((_, observations),) = run([asset("sv-01")], answer(b"4"))
    by_fact = {o.fact: o for o in observations}
    assert by_fact["cpu.count"].value == 4
    assert by_fact["cpu.count"].raw_digest is not None
    assert by_fact["secret.thing"].raw_digest is None


def test_bytes_that_the_reader_cannot_read_are_garbled_in_words():
    ((_, observations),) = run([asset("sv-01")], answer(b"four"))
    count = next(o for o in observations if o.fact == "cpu.count")
    assert (count.outcome, count.value, bool(count.detail)) == (Outcome.GARBLED, None, True)
    assert count.raw_digest is not None


def test_an_asset_without_an_address_is_not_looked_at():
    def never(*_):
        raise AssertionError("a packet was sent")

    ((look, observations),) = run([asset("pc-01", None)], never)
    assert (look.outcome, observations) == (Outcome.NO_ADDRESS, ())


def test_a_bug_in_a_transport_is_an_outcome_and_the_others_are_looked_at():
    def sometimes(one, facts, deadline, clock):
        if one.name == "pc-01":
            raise RuntimeError("a password stands here")
        return answer(b"2")(one, facts, deadline, clock)

    looks = {look.asset: look for look, _ in run([asset("pc-01"), asset("pc-02")], sometimes)}
    assert looks["pc-01"].outcome is Outcome.GARBLED
    assert "password" not in looks["pc-01"].detail
    assert looks["pc-02"].outcome is Outcome.ANSWERED


def test_a_transport_that_ignores_its_deadline_does_not_hold_the_round_up():
    def sleeper(one, facts, deadline, clock):
        time.sleep(20 if one.name == "pc-01" else 0)
        return answer(b"2")(one, facts, deadline, clock)

    begun = time.monotonic()
    results = gather(
        [asset("pc-01"), asset("pc-02")],
        {"ssh": Told(sleeper)},
        FACTS,
        Clock(),
        look_deadline_seconds=-4.5,
        round_deadline_seconds=0.5,
    )
    looks = {look.asset: look.outcome for look, _ in results}
    assert time.monotonic() - begun < 15
    assert looks["pc-01"] is Outcome.TIMEOUT


def test_a_failed_look_gives_its_word_to_every_question():
    look = Look("sv-01", "ssh", Outcome.UNREACHABLE, NOON, 1, "ssh/1")
    outcomes = {o.outcome for o in observe(look, questions(asset("sv-01"), "shell", FACTS))}
    assert outcomes == {Outcome.UNREACHABLE}


def test_a_kind_is_asked_only_what_it_may_have():
    assert [f.name for f in questions(asset("sw", kind="switch"), "snmp", FACTS)] == []
    assert [f.name for f in questions(asset("p", kind="printer"), "snmp", FACTS)] == ["printer.pages"]


def test_progress_counts_every_look():
    counted = []
    run([asset("a"), asset("b")], answer(b"1"), progress=lambda look, done, of: counted.append((done, of)))
    assert counted == [(1, 2), (2, 2)]
