"""Every fact of the registry on recorded replies: it reads what a device said, and stumbles over nothing."""

from __future__ import annotations

import ipaddress
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.collect.facts import FACTS, RECORD_FACTS, SERVICE_FACTS, SHELL_FACTS, SNMP_FACTS
from controlplane.domain.chain import canonical
from controlplane.domain.model import Fact

RECORDED = Path(__file__).resolve().parents[1] / "facts"
CASES = sorted(RECORDED.glob("*/*.json"))
NAMES = sorted(FACTS)


def case(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_text(encoding="utf-8"))
    assert set(document) == {"origin", "reply", "value"}, path
    assert isinstance(document, dict)
    return document


def reads(fact: Fact, text: str) -> Any:
    """The value, or None for bytes that are refused; any other exception is the reader's mistake."""
    try:
        value = fact.reader(text)
    except ValueError:
        return None
    canonical(value)  # a value has one plain form
    return value


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recorded_reply_reads_as_recorded(path: Path) -> None:
    document = case(path)
    assert FACTS[path.parent.name].reader(document["reply"]) == document["value"]
    canonical(document["value"])


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_has_a_recorded_reply(name: str) -> None:
    assert list((RECORDED / name).glob("*.json")), f"record one: script/record {name}"


def test_every_recording_belongs_to_a_fact() -> None:
    assert {path.parent.name for path in CASES} <= set(FACTS)


def test_there_are_enough_facts() -> None:
    assert len(SHELL_FACTS) >= 45
    assert len(SNMP_FACTS) >= 20
    assert len(SERVICE_FACTS) >= 15
    assert len(RECORD_FACTS) >= 15
    assert len(FACTS) == len(SHELL_FACTS) + len(SNMP_FACTS) + len(SERVICE_FACTS) + len(RECORD_FACTS)


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_says_what_it_is(name: str) -> None:
    fact = FACTS[name]
    assert re.fullmatch(r"[a-z]+[a-z0-9_]*\.[a-z0-9_-]+", fact.name)
    assert fact.family in ("shell", "snmp", "service", "record")
    assert fact.ask
    assert fact.unit
    assert fact.source
    assert fact.family == "snmp" or fact.reader.__doc__


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recording_holds_no_address_of_the_outside_and_no_secret(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for word in re.findall(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w.~+-])", text):
        try:
            address = ipaddress.ip_address(word)
        except ValueError:
            continue
        assert not address.is_global or address.is_multicast, word
    assert not re.search(r"PRIVATE KEY|\$(1|5|6|y|2b)\$|password\s*=", text)


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_damaged_reply_is_read_or_refused(path: Path) -> None:
    """Cut, doubled and shuffled replies, and single characters changed: a value or ValueError, nothing else."""
    fact, text = FACTS[path.parent.name], str(case(path)["reply"])
    dice = random.Random(path.relative_to(RECORDED).as_posix())  # noqa: S311  # the same damage on every run
    for _ in range(60):
        at = dice.randrange(len(text) + 1)
        lines = text.splitlines(keepends=True)
        dice.shuffle(lines)
        odd = dice.choice(["\0", "\ufffd", "-1", "9" * 30, "[", '"', "\n\n", "²", " ", "=", ":", "{}", "1e999", "null"])
        for damaged in (text[:at], text[at:], text + text, "".join(lines), text[:at] + odd + text[at + 1 :]):
            reads(fact, damaged)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(text=st.text(max_size=200))
def test_garbage_is_read_or_refused(name: str, text: str) -> None:
    reads(FACTS[name], text)


SECTIONS = re.compile(r"-- (\w+)'")


@pytest.mark.parametrize("name", [fact.name for fact in SHELL_FACTS if SECTIONS.search(fact.ask)])
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_garbage_in_the_right_sections_is_read_or_refused(name: str, data: st.DataObject) -> None:
    sections = SECTIONS.findall(FACTS[name].ask)
    bodies = [
        data.draw(st.text(alphabet=st.sampled_from("abAB019 .,:;=-/*%[]{}()\"'\n\t²é"), max_size=60)) for _ in sections
    ]
    reads(FACTS[name], "".join(f"-- {section}\n{body}\n" for section, body in zip(sections, bodies, strict=True)))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    document=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        *("blockdevices", "name", "type", "size", "children", "mountpoint", "ifname", "addr_info"),
                        *("status", "headers", "cookies", "times_ms", "version", "cipher", "storage", "lists"),
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    )
)
def test_strange_json_is_read_or_refused(name: str, document: Any) -> None:
    text = json.dumps(document)
    reads(FACTS[name], text)
    reads(FACTS[name], f"-- links\n{text}\n-- speeds\n")


def test_deep_json_is_refused() -> None:
    for name in ("disk.devices", "disk.encryption", "net.gateway"):
        with pytest.raises(ValueError, match=r"deep|list|table"):
            FACTS[name].reader("[" * 100_000)


CHECKS = [
    check
    for path in sorted((RECORDED.parents[1] / "checks").glob("*.yaml"))
    for check in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("checks") or ()
    if check["fact"] in {fact.name for fact in (*SHELL_FACTS, *SERVICE_FACTS, *RECORD_FACTS)}
]


def rows_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: str(check["id"]))
def test_a_check_names_a_figure_that_hosts_and_services_really_give(check: dict[str, Any]) -> None:
    """The figure and the keys of the examples stand in recorded values, and the figure has the type that is tested."""
    recorded = [case(path)["value"] for path in (RECORDED / check["fact"]).glob("*.json")]
    rows = [row for value in recorded for row in rows_of(value) if isinstance(row, dict)]
    if "of" in check:
        top = check["of"].split(".")[0]
        assert any(top in row for row in rows), f"no recording of {check['fact']} gives {check['of']}"
        figures = [row[top] for row in rows if row.get(top) is not None]
        test, bound = next(iter(check["expect"].items()))
        if figures and test in ("equals", "at_most", "at_least") and "." not in check["of"]:
            assert isinstance(figures[0], bool) == isinstance(bound, bool)
    known = {key for row in rows for key in row}
    used = {
        key for kind in check["examples"].values() for value in kind for row in rows_of(value) for key in keys_of(row)
    }
    assert used <= known


def keys_of(row: Any) -> set[str]:
    return set(row) if isinstance(row, dict) else set()
