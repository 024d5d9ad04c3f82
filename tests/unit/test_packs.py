"""An overlay of the official text over a shipped pack: pure, repeatable, in any order, and always a catalog."""

from __future__ import annotations

import copy
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.catalog import make_catalog
from controlplane.domain.chain import canonical
from controlplane.domain.model import Standing
from controlplane.domain.packs import PackError, added_id, apply_overlay, is_empty, naming

FOLDER = Path(__file__).parents[2] / "checks" / "criteria"
PACKS = {p.stem: yaml.safe_load(p.read_text(encoding="utf-8")) for p in sorted(FOLDER.glob("*.yaml"))}
TT54 = PACKS["tt54-2017"]
HASH = "ab" * 32
WORD = st.text("ăâđêôơư abcXYZ019/.,", min_size=1, max_size=20).map(str.strip).filter(bool)


def load(document: dict[str, Any]) -> Any:
    return make_catalog({}, {"pack.yaml": document}).frameworks[document["framework"]]


def overlay(document: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return naming({"framework": document["framework"], **parts}, "Thông tư.pdf", HASH)


@st.composite
def some_fields(draw: st.DrawFn, ladder: list[str]) -> dict[str, Any]:
    if draw(st.integers(0, 4)) == 0:
        return {"absent": True}
    fields: dict[str, Any] = {}
    if draw(st.booleans()):
        fields["levels"] = draw(st.lists(st.sampled_from(ladder), unique=True))
    if draw(st.booleans()):
        fields["title"] = {"vi": draw(WORD)}
    if draw(st.booleans()):
        fields["clause"] = draw(WORD)
    if draw(st.booleans()):
        fields["note"] = draw(WORD)
    return fields


@st.composite
def packs_and_overlays(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A shipped pack and two overlays that speak of different rows."""
    document = PACKS[draw(st.sampled_from(sorted(PACKS)))]
    ladders = {g["id"]: g["levels"] for g in document["groups"]}
    rows = draw(st.lists(st.sampled_from(document["criteria"]), max_size=8, unique_by=lambda c: c["id"]))
    numbers = draw(st.lists(st.integers(200, 230), max_size=4, unique=True))
    groups = draw(st.lists(st.sampled_from(sorted(ladders)), unique=True))
    cells = [(o, g) for o in document.get("annex2", {}) for g in ladders]
    annex = draw(st.lists(st.sampled_from(cells), max_size=5, unique=True)) if cells else []
    halves: list[dict[str, Any]] = [{"criteria": {}, "added": [], "groups": {}, "annex2": {}} for _ in range(2)]

    def half() -> dict[str, Any]:
        return halves[draw(st.integers(0, 1))]

    for row in rows:
        half()["criteria"][row["id"]] = draw(some_fields(ladders[row["group"]]))
    for number in numbers:
        group = draw(st.sampled_from(sorted(ladders)))
        levels = draw(st.lists(st.sampled_from(ladders[group]), unique=True))
        id_ = added_id(document, group, str(number))
        entry = {"id": id_, "group": group, "levels": levels, "title": {"vi": draw(WORD)}, "clause": str(number)}
        half()["added"].append(entry)
    for group in groups:
        half()["groups"][group] = draw(st.booleans())
    for overall, group in annex:
        half()["annex2"].setdefault(overall, {})[group] = draw(st.sampled_from([None, *ladders[group]]))
    return document, overlay(document, **halves[0]), overlay(document, **halves[1])


@pytest.mark.parametrize("name", sorted(PACKS))
def test_an_empty_overlay_changes_nothing(name):
    document = PACKS[name]
    for empty in ({}, {"framework": name}, {"framework": name, "criteria": {}, "added": [], "groups": {}}):
        assert is_empty(empty)
        assert apply_overlay(document, empty) == document


@settings(max_examples=60)
@given(packs_and_overlays())
def test_twice_is_once_the_order_does_not_matter_and_the_result_loads(drawn):
    document, first, second = drawn
    before = copy.deepcopy((document, first, second))
    once = apply_overlay(document, first)
    assert canonical(apply_overlay(once, first)) == canonical(once)
    one_way, other_way = apply_overlay(once, second), apply_overlay(apply_overlay(document, second), first)
    assert canonical(one_way) == canonical(other_way)
    assert [c["id"] for c in one_way["criteria"]] == [c["id"] for c in other_way["criteria"]]
    assert (document, first, second) == before
    framework = load(one_way)
    for criterion in framework.criteria:
        if f"sha256:{HASH}" not in criterion.source:
            continue
        absent = criterion.confidence == "not_in_text"
        assert criterion.standing is (Standing.DRAFT if absent else Standing.CONFIRMED)
        assert criterion.scored == (not absent and bool(criterion.levels) and criterion.kind != "informative")
    touched = {id_ for o in (first, second) for id_ in o["criteria"]}
    untouched = [c for c in one_way["criteria"] if c["id"] not in touched and ".added." not in c["id"]]
    assert untouched == [c for c in document["criteria"] if c["id"] not in touched]


def test_a_confirmed_row_counts_and_names_the_official_text():
    made = apply_overlay(TT54, overlay(TT54, criteria={"tt54.infra.x.9": {"levels": ["3"]}}, groups={"infra": True}))
    row = next(c for c in load(made).criteria if c.id == "tt54.infra.x.9")
    assert (row.standing, row.scored, row.confidence, row.levels) == (Standing.CONFIRMED, True, "official", ("3",))
    assert row.source == f"sha256:{HASH}"
    assert row.note == "", "the shipped note says that the row is not verified, which is no longer so"
    assert made["sources"][f"sha256:{HASH}"] == "Thông tư.pdf"
    assert next(g for g in load(made).groups if g.id == "infra").list_complete


def test_a_confirmed_row_without_a_level_is_not_scored():
    made = apply_overlay(TT54, overlay(TT54, criteria={"tt54.infra.x.9": {}}))
    row = next(c for c in load(made).criteria if c.id == "tt54.infra.x.9")
    assert (row.standing, row.scored) == (Standing.CONFIRMED, False)


def test_an_informative_row_is_confirmed_and_never_scored():
    document = PACKS["tcvn14423-2026"]
    id_ = next(c["id"] for c in document["criteria"] if c["kind"] == "informative")
    row = next(c for c in load(apply_overlay(document, overlay(document, criteria={id_: {}}))).criteria if c.id == id_)
    assert (row.standing, row.scored) == (Standing.CONFIRMED, False)


def test_a_row_that_is_not_in_the_text_no_longer_counts():
    id_ = "tt54.lis.basic.1"
    assert next(c for c in TT54["criteria"] if c["id"] == id_)["scored"] is True
    row = next(
        c for c in load(apply_overlay(TT54, overlay(TT54, criteria={id_: {"absent": True}}))).criteria if c.id == id_
    )
    assert (row.standing, row.scored, row.levels) == (Standing.DRAFT, False, ())


def test_cells_of_the_level_table_are_set_and_taken_out():
    made = apply_overlay(TT54, overlay(TT54, annex2={"3": {"lis": "advanced", "his": None}, "1": {"emr": "basic"}}))
    assert made["annex2"]["3"]["lis"] == {"level": "advanced", "confidence": "official", "note": f"sha256:{HASH}"}
    assert "his" not in made["annex2"]["3"]
    assert made["annex2"]["1"]["emr"]["level"] == "basic"
    assert made["annex2"]["2"] == TT54["annex2"]["2"]


def test_text_is_kept_as_nfc():
    title = unicodedata.normalize("NFD", "Máy chủ dự phòng")
    made = apply_overlay(TT54, overlay(TT54, criteria={"tt54.infra.x.9": {"title": {"vi": title}}}))
    assert next(c for c in made["criteria"] if c["id"] == "tt54.infra.x.9")["title"]["vi"] == "Máy chủ dự phòng"


def test_ids_of_added_criteria():
    assert added_id(TT54, "infra", "7") == "tt54.infra.added.7"
    assert added_id(TT54, "infra", "Điều 3, khoản 2 đ") == "tt54.infra.added.ddieu-3-khoan-2-dd"
    with pytest.raises(PackError, match="makes no id"):
        added_id(TT54, "infra", "…")


NEW = {"id": "tt54.infra.added.7", "group": "infra", "levels": ["1"], "title": {"vi": "Máy chủ"}, "clause": "7"}


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"criteria": {"tt54.infra.x.999": {}}}, "no such criterion"),
        ({"criteria": {"tt54.infra.x.9": {"levels": ["8"]}}}, "not on the ladder"),
        ({"criteria": {"tt54.infra.x.9": {"levels": ["3", "3"]}}}, "without repetition"),
        ({"criteria": {"tt54.infra.x.9": {"scored": True}}}, "unknown key 'scored'"),
        ({"criteria": {"tt54.infra.x.9": {"title": {"vi": " "}}}}, "title must be text"),
        ({"criteria": {"tt54.infra.x.9": {"title": {"fr": "x"}}}}, "no tongue"),
        ({"criteria": {"tt54.infra.x.9": None}}, "must be a mapping"),
        ({"groups": {"infrastructure": True}}, "no group"),
        ({"groups": {"infra": "x"}}, "true or false"),
        ({"annex2": {"8": {"infra": "1"}}}, "no overall level"),
        ({"annex2": {"1": {"x": "1"}}}, "no group"),
        ({"annex2": {"1": {"infra": "basic"}}}, "not on the ladder"),
        ({"added": [NEW | {"group": "his"}]}, "may bear"),
        ({"added": [NEW | {"id": "tt54.infra.x.1"}]}, "may bear"),
        ({"added": [NEW | {"group": "none"}]}, "no group"),
        ({"added": [NEW | {"kind": "optional"}]}, "kind must be"),
        ({"added": [NEW | {"title": {"en": "x"}}]}, "Vietnamese title"),
        ({"added": [NEW | {"clause": None}]}, "clause must be text"),
        ({"added": ["x"]}, "must be a mapping"),
        ({"who": "me", "groups": {"infra": True}}, "unknown key 'who'"),
    ],
)
def test_what_the_pack_does_not_know_is_refused(parts, sentence):
    with pytest.raises(PackError, match=sentence):
        apply_overlay(TT54, overlay(TT54, **parts))


def test_an_overlay_of_another_framework_or_without_its_text_is_refused():
    with pytest.raises(PackError, match="does not fit"):
        apply_overlay(TT54, {"framework": "tcvn14423-2026"})
    for named in (None, {}, {"name": "x", "sha256": "12"}, {"name": "x", "sha256": "AB" * 32}):
        with pytest.raises(PackError, match="names no official text"):
            apply_overlay(TT54, {"framework": "tt54-2017", "document": named, "groups": {"infra": True}})
    document = PACKS["tcvn14423-2026"]
    with pytest.raises(PackError, match="knows no overall level"):
        apply_overlay(document, overlay(document, annex2={"1": {"system": "1"}}))


def test_the_hospitals_own_criteria_stand_after_the_shipped_ones_by_group_and_number():
    numbers = [("lis", "12"), ("infra", "10"), ("infra", "9")]
    for order in (numbers, numbers[::-1]):
        document: dict[str, Any] = TT54
        for group, number in order:
            level = "basic" if group == "lis" else "1"
            new = {"id": added_id(TT54, group, number), "group": group, "levels": [level], "title": {"vi": number}}
            document = apply_overlay(document, overlay(TT54, added=[new | {"clause": number}]))
        own = [c["id"] for c in document["criteria"]][-3:]
        assert own == ["tt54.infra.added.9", "tt54.infra.added.10", "tt54.lis.added.12"]
        assert load(document).criteria[-1].title.en == "12"
