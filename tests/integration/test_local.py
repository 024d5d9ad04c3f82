"""The local transport on this very machine: the real script, a deadline that ends everything, and no right too many."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from pathlib import Path

import pytest

from controlplane.collect.facts import SHELL_FACTS, shell
from controlplane.collect.local import LocalTransport
from controlplane.domain.model import Asset, Fact, Look, Outcome, Reply, Words
from tests.conftest import Clock

HERE = Asset(
    "controlplane-01", "server", ("controlplane",), Words("a", "a"), transports=("local",), address="127.0.0.1"
)


def fact(name: str, ask: str, privileged: bool = False) -> Fact:
    return Fact(name, "shell", ask, str, "-", "test", privileged=privileged)


def look(facts: tuple[Fact, ...], deadline: float = 30.0) -> Look:
    return LocalTransport(script_facts=facts).look(HERE, facts, deadline, Clock())


def words(seen: Look) -> list[str]:
    return [reply.outcome.value for reply in seen.replies]


def test_this_machine_answers_every_question_in_its_own_way() -> None:
    seen = look(SHELL_FACTS, 120.0)
    assert (seen.outcome, seen.detail) == (Outcome.ANSWERED, "")
    assert {"timeout"} & set(words(seen)) == set()
    by_name = {one.name: one for one in SHELL_FACTS}
    answered = [reply for reply in seen.replies if reply.outcome is Outcome.ANSWERED]
    assert len(answered) > 40
    for reply in answered:
        by_name[reply.fact].reader(reply.raw.decode("utf-8", "replace"))  # raises for a reply it cannot read


def test_two_looks_give_the_same_figures_where_nothing_changed() -> None:
    """Storage grows with change: bytes are kept where a figure moves, and only a few figures move by themselves.

    The machine is shared: a test beside this one may start a real daemon (rsyslogd) between two looks. What moves by
    itself moves each time; what others moved stands still in one pair of looks or another.
    """
    readers = {fact.name: fact.reader for fact in SHELL_FACTS}
    moving = set(readers)
    before = look(SHELL_FACTS, 120.0)
    for _ in range(4):
        after = look(SHELL_FACTS, 120.0)
        moving &= {
            a.fact
            for a, b in zip(before.replies, after.replies, strict=True)
            if a.outcome is b.outcome is Outcome.ANSWERED and readers[a.fact](text(a)) != readers[a.fact](text(b))
        }
        if moving <= {"cpu.load", "memory.use", "net.listening", "disk.usage", "log.room"}:
            return
        before = after
    raise AssertionError(moving)


def text(reply: Reply) -> str:
    return reply.raw.decode("utf-8", "replace")


def test_each_way_a_command_can_end_has_its_word() -> None:
    facts = (
        fact("a.fine", "echo fine"),
        fact("a.missing-program", "no-such-program-here --version"),
        fact("a.missing-thing", "exit 69"),
        fact("a.no-right", "exit 77"),
        fact("a.denied", "echo 'cat: /x: Permission denied' >&2; exit 1"),
        fact("a.broken", "echo half; echo 'what happened' >&2; exit 3"),
        fact("a.silent", "true"),
    )
    seen = look(facts)
    assert words(seen) == ["answered", "not_supported", "not_supported", "refused", "refused", "garbled", "answered"]
    assert seen.replies[5].detail == "the command ended with exit code 3: what happened"
    assert "no-such-program-here" in seen.replies[1].detail


def test_the_time_limit_of_one_command_costs_that_fact_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "COMMAND_SECONDS", 1)
    seen = look(
        (
            fact("a.slow", "sleep 60"),
            fact("a.stubborn", "trap '' TERM; sleep 1.5; sleep 60"),
            fact("a.next", "echo next"),
        )
    )
    assert words(seen) == ["timeout", "timeout", "answered"]
    assert seen.replies[0].detail == "the command did not end within 1 s"


def children_of_the_world(word: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if line.startswith(f"sleep {word}"):
            found.append(line)
    return found


def test_the_deadline_ends_every_process_and_keeps_what_came() -> None:
    mark = f"77{os.getpid()}"
    started = time.monotonic()
    seen = look(
        (fact("a.fine", "echo fine"), fact("a.hang", f"sleep {mark} & sleep {mark}"), fact("a.next", "echo next")), 1.0
    )
    assert time.monotonic() - started < 4
    assert seen.outcome is Outcome.ANSWERED
    assert seen.detail == "the deadline of 1 s cut the script short"
    assert words(seen) == ["answered", "garbled", "garbled"]
    assert children_of_the_world(mark) == []


def test_nothing_at_all_within_the_deadline_is_a_timeout() -> None:
    seen = look((fact("a.hang", "sleep 30"),), 0.5)
    assert seen.outcome is Outcome.TIMEOUT
    assert seen.replies == ()


def test_a_missing_shell_is_an_outcome() -> None:
    transport = LocalTransport(script_facts=(fact("a.b", "true"),), shell="/no/shell")  # noqa: S604  # it is a path, not a switch
    seen = transport.look(HERE, (), 5.0, Clock())
    assert seen.outcome is Outcome.UNREACHABLE
    assert "No such file" in seen.detail


def test_a_question_outside_the_script_is_not_supported() -> None:
    transport = LocalTransport(script_facts=(fact("a.b", "true"),))
    seen = transport.look(HERE, (fact("c.d", "true"),), 5.0, Clock())
    assert words(seen) == ["not_supported"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_without_rights_the_privileged_facts_are_refused_with_words() -> None:
    nobody = pwd.getpwnam("nobody")
    done = subprocess.run(
        ["sh", "-s"],
        input=shell.build_script(SHELL_FACTS).encode(),
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        capture_output=True,
        check=True,
        cwd="/",
    )
    replies = {reply.fact: reply for reply in shell.split_output(done.stdout, SHELL_FACTS)}
    for name in ("accounts.passwords", "accounts.inactive"):
        assert replies[name].outcome is Outcome.REFUSED
        assert replies[name].detail.startswith("the account lacks the right: ")
    for one in SHELL_FACTS:
        may_refuse = one.privileged or "exit 77" in one.ask  # the command itself looks whether it may read
        expected = (Outcome.ANSWERED, Outcome.NOT_SUPPORTED, *((Outcome.REFUSED,) if may_refuse else ()))
        assert replies[one.name].outcome in expected, replies[one.name]
