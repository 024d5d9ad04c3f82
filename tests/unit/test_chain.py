"""Canonical bytes have one form; the chain names its first break."""

import dataclasses
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.chain import Break, canonical, digest, first_break, make_link, stamp, unstamp

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def a_chain(length=5):
    links = []
    for number in range(length):
        links.append(
            make_link(links[-1] if links else None, f"2026-11-23T00:00:0{number}.000000Z", "round", digest(b"x"))
        )
    return links


def test_one_word_typed_on_two_keyboards_has_one_hash():
    assert canonical(unicodedata.normalize("NFD", "đạt mức cơ bản")) == canonical("đạt mức cơ bản")


@given(plain_values)
def test_canonical_is_stable_and_ignores_the_order_of_keys(value):
    def turned(inner):
        if isinstance(inner, dict):
            return {k: turned(inner[k]) for k in reversed(list(inner))}
        return [turned(i) for i in inner] if isinstance(inner, list) else inner

    first = canonical(value)
    assert isinstance(first, bytes)
    if not _collides(value):
        assert canonical(turned(value)) == first


def _collides(value):
    if isinstance(value, dict):
        keys = [unicodedata.normalize("NFC", k) for k in value]
        return len(keys) != len(set(keys)) or any(_collides(v) for v in value.values())
    return isinstance(value, list) and any(_collides(v) for v in value)


def test_nothing_without_a_plain_form_gets_a_digest():
    for bad in (b"bytes", object(), float("nan")):
        with pytest.raises((TypeError, ValueError)):
            canonical(bad)


def test_a_whole_chain_holds():
    assert first_break(a_chain()) is None
    assert first_break([]) is None


@pytest.mark.parametrize("field", ["at", "kind", "digest"])
def test_an_edited_link_is_named(field):
    links = a_chain()
    links[2] = dataclasses.replace(links[2], **{field: "2026-11-23T00:00:02.000001Z" if field == "at" else "edited"})
    assert first_break(links) == Break(3, "seal")


def test_a_removed_link_is_named():
    links = a_chain()
    del links[2]
    assert first_break(links) == Break(3, "missing")


def test_a_link_sealed_anew_breaks_the_next_one():
    links = a_chain()
    links[2] = make_link(links[1], links[2].at, "round", digest(b"other"))
    assert first_break(links) == Break(4, "prev")


def test_a_back_dated_link_is_named():
    links = a_chain(2)
    links.append(make_link(links[-1], "2025-01-01T00:00:00.000000Z", "round", digest(b"x")))
    assert first_break(links) == Break(3, "time")


def test_a_cut_tail_is_not_seen_by_the_chain_alone():
    assert first_break(a_chain()[:3]) is None


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001
def test_times_keep_their_order_and_come_back(at):
    at = at.replace(tzinfo=UTC)
    assert unstamp(stamp(at)) == at
