"""The law as data holds: counts, ids, both tongues, and no row stronger than what was seen of the text."""

from __future__ import annotations

import csv
import unicodedata
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "checks" / "criteria"
TT54 = "tt54-2017"
TCVN = "tcvn14423-2026"
TT13, CV365, LEGACY, DUTIES = "tt13-2025", "cv365-2025", "tcvn11930-2017", "nd331-2026"
ALL = [TT54, TCVN, TT13, CV365, LEGACY, DUTIES]
# Every row of the two reference collections, as they were compiled: id, confidence, kind, levels; made once from them.
GOLDEN = Path(__file__).with_name("law-rows.tsv")
FILE_KEYS = {"framework", "title", "source", "in_force", "rule", "sources", "groups", "criteria"}
GROUP_KEYS = {"id", "title", "levels", "list_complete", "in_force", "note"}
NEEDED = {
    "id", "group", "levels", "section", "title", "clause", "source", "standing", "scored", "confidence", "kind",
    "automatable", "evidence_idea",
}  # fmt: skip


def read(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module", params=ALL)
def law(request: pytest.FixtureRequest) -> dict[str, Any]:
    return read(request.param)


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(key)
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def test_the_file_has_its_form_and_its_name_is_its_id(law: dict[str, Any]) -> None:
    assert (FOLDER / f"{law['framework']}.yaml").is_file()
    assert set(law) - {"annex2"} == FILE_KEYS
    assert law["rule"] in {"cumulative", "own_set", "share"}
    for group in law["groups"]:
        assert set(group) == GROUP_KEYS, group["id"]
        for day in (*group["in_force"], *law["in_force"]):
            assert day is None or date.fromisoformat(day)
    for row in law["criteria"]:
        assert NEEDED <= set(row) <= NEEDED | {"params", "note", "draft_levels"}, row["id"]


def test_ids_are_unique_and_groups_and_levels_exist(law: dict[str, Any]) -> None:
    ids = Counter(row["id"] for row in law["criteria"])
    assert [name for name, times in ids.items() if times > 1] == []
    ladders = {group["id"]: group["levels"] for group in law["groups"]}
    for row in law["criteria"]:
        assert set(row["levels"]) <= set(ladders[row["group"]]), row["id"]
        assert all(isinstance(level, str) for level in row["levels"])


def test_every_text_is_nfc_and_every_title_stands_in_both_tongues(law: dict[str, Any]) -> None:
    assert [text for text in texts(law) if unicodedata.normalize("NFC", text) != text] == []
    for entry in [law, *law["groups"], *law["criteria"]]:
        assert set(entry["title"]) == {"vi", "en"}
        assert all(title.strip() for title in entry["title"].values())


def test_no_key_or_text_fell_into_a_boolean_trap(law: dict[str, Any]) -> None:
    def keys(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            yield from value
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                yield from keys(item)

    assert [key for key in keys(law) if not isinstance(key, str)] == []


def test_nothing_is_confirmed_and_a_draft_decides_nothing(law: dict[str, Any]) -> None:
    for row in law["criteria"]:
        assert row["standing"] in {"second_hand", "draft"}, row["id"]
        assert not (row["standing"] == "draft" and row["scored"]), row["id"]
        assert not (row["confidence"] == "recalled" and row["standing"] != "draft"), row["id"]
        assert not (row["scored"] and not row["levels"]), row["id"]


def test_words_of_the_vocabulary(law: dict[str, Any]) -> None:
    for row in law["criteria"]:
        assert row["kind"] in {"required", "suggested", "conditional", "informative"}, row["id"]
        assert row["confidence"] in {"quoted", "secondary", "recalled"}, row["id"]
        assert row["automatable"] in {
            "host", "network", "software", "backup", "interop", "document", "attestation",
        }, row["id"]  # fmt: skip
        assert row["clause"], row["id"]
        assert 3 <= len(row["evidence_idea"].strip()) <= 300, row["id"]


def test_every_cited_source_is_listed_and_every_listed_source_is_cited(law: dict[str, Any]) -> None:
    cited = {key for row in law["criteria"] for key in row["source"]}
    assert cited <= set(law["sources"])
    notes = " ".join(row.get("note", "") for row in law["criteria"])
    assert [key for key in law["sources"] if key not in cited and key not in notes] == []


def test_tt54_counts() -> None:
    law = read(TT54)
    rows = law["criteria"]
    assert len(rows) == 135
    assert Counter(row["group"] for row in rows) == {
        "infra": 17, "mgmt": 12, "his": 37, "rispacs": 18, "lis": 10, "nonfunc": 16, "security": 16, "emr": 9,
    }  # fmt: skip
    scored = Counter((row["group"], *row["levels"]) for row in rows if row["scored"])
    assert scored == {
        ("rispacs", "basic"): 14,
        ("rispacs", "advanced"): 4,
        ("lis", "basic"): 6,
        ("lis", "advanced"): 4,
        ("nonfunc", "advanced"): 3,
    }
    assert Counter(row["confidence"] for row in rows) == {"quoted": 4, "secondary": 56, "recalled": 75}


def test_tt54_only_the_two_complete_lists_can_decide_a_level() -> None:
    law = read(TT54)
    assert law["rule"] == "cumulative"
    assert law["in_force"] == ["2018-02-27", None]
    groups = {group["id"]: group for group in law["groups"]}
    assert {name for name, group in groups.items() if group["list_complete"]} == {"rispacs", "lis"}
    assert groups["emr"]["in_force"] == [None, "2025-06-06"]
    assert not any(row["scored"] for row in law["criteria"] if row["group"] == "emr")
    for name in ("rispacs", "lis"):
        assert all(row["scored"] for row in law["criteria"] if row["group"] == name)


def test_tt54_annex_two_names_levels_of_its_groups_and_marks_what_was_seen() -> None:
    law = read(TT54)
    ladders = {group["id"]: group["levels"] for group in law["groups"]}
    assert list(law["annex2"]) == ["1", "2", "3", "4", "5", "6", "7"]
    seen = set()
    for level, cells in law["annex2"].items():
        for group, cell in cells.items():
            assert cell["level"] in ladders[group]
            assert cell["confidence"] in {"quoted", "recalled"}
            if cell["confidence"] == "quoted":
                seen.add((level, group, cell["level"]))
    assert seen == {
        ("3", "lis", "basic"), ("4", "lis", "advanced"), ("4", "rispacs", "basic"), ("5", "rispacs", "advanced"),
    }  # fmt: skip


def test_tcvn_counts_per_level() -> None:
    law = read(TCVN)
    rows = law["criteria"]
    assert len(rows) == 223
    assert law["rule"] == "own_set"
    assert law["in_force"] == ["2026-08-19", None]
    scored = {level: sum(level in row["levels"] for row in rows if row["scored"]) for level in "123"}
    assert scored == {"1": 114, "2": 137, "3": 208}
    assert {level: sum(level in row["levels"] for row in rows) for level in "123"} == {"1": 118, "2": 144, "3": 219}


def test_tcvn_kinds_are_kept_and_only_the_informative_are_reported_apart() -> None:
    rows = read(TCVN)["criteria"]
    assert Counter(row["kind"] for row in rows) == {
        "required": 197, "informative": 11, "conditional": 8, "suggested": 7,
    }  # fmt: skip
    for row in rows:
        assert row["scored"] == (row["kind"] != "informative"), row["id"]
        assert row["standing"] == "second_hand", row["id"]
        assert [part.split()[0] for part in row["clause"].split("; ")] == [f"l{n}" for n in row["levels"]], row["id"]
    assert sum("params" in row for row in rows) == 50


def golden() -> list[dict[str, str]]:
    with GOLDEN.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_every_framework_file_is_among_those_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(ALL)


def test_an_id_stands_in_one_framework_only() -> None:
    ids = Counter(row["id"] for name in ALL for row in read(name)["criteria"])
    assert [name for name, times in ids.items() if times > 1] == []


def test_every_row_of_the_reference_is_in_and_no_row_was_invented() -> None:
    rows = golden()
    assert Counter(row["status"] == "-" for row in rows) == {True: 364, False: 135}
    for name in (TT54, TCVN, LEGACY, DUTIES):
        assert {row["id"] for row in read(name)["criteria"]} == {row["id"] for row in rows if row["file"] == name}


def test_rows_keep_confidence_kind_and_levels_of_the_reference() -> None:
    here = {row["id"]: row for name in ALL for row in read(name)["criteria"]}
    kinds = {"legacy": {"required", "conditional"}, "-": {"required"}}
    for was in golden():
        row = here[was["id"]]
        assert row["confidence"] == was["confidence"], was["id"]
        assert row["kind"] in kinds.get(was["kind"], {was["kind"]}), was["id"]
        if was["file"] != TT54:  # whose levels are checked by count, and dropped where they were a guess
            assert row["levels"] == was["levels"].split(","), was["id"]


def test_what_the_reference_would_not_score_is_a_draft() -> None:
    here = {row["id"]: row for name in ALL for row in read(name)["criteria"]}
    for was in golden():
        weak = was["use_for_scoring"] == "false" or was["confidence"] == "recalled" or was["status"] == "draft_only"
        standing = (here[was["id"]]["standing"], here[was["id"]]["scored"])
        if weak:
            assert standing == ("draft", False), was["id"]
        else:
            assert standing == ("second_hand", was["kind"] != "informative"), was["id"]


def test_tt13_is_nine_criteria_on_one_level() -> None:
    law = read(TT13)
    assert [row["id"] for row in law["criteria"]] == [
        "tt13.1.1", "tt13.1.2", "tt13.1.3", "tt13.1.4", "tt13.2.1", "tt13.2.2", "tt13.2.3", "tt13.2.4", "tt13.3",
    ]  # fmt: skip
    assert (law["rule"], law["in_force"]) == ("own_set", ["2025-07-21", None])
    (group,) = law["groups"]
    assert (group["id"], group["levels"], group["list_complete"]) == ("emr", ["met"], True)
    assert all(row["scored"] and row["levels"] == ["met"] for row in law["criteria"])
    quoted = {row["id"] for row in law["criteria"] if row["confidence"] == "quoted"}
    assert quoted == {"tt13.1.1", "tt13.1.2", "tt13.1.3", "tt13.1.4"}


def test_cv365_shows_a_share_and_leaves_out_what_was_not_seen() -> None:
    law = read(CV365)
    rows = law["criteria"]
    assert (law["rule"], law["in_force"], len(rows)) == ("share", ["2025-06-06", None], 27)
    assert not law["groups"][0]["list_complete"]
    clauses = {row["clause"] for row in rows}
    assert not clauses & {"Mục III.2 b", "Mục III.2 d"}
    assert not any(clause.startswith("Mục III.3") for clause in clauses)
    assert Counter(row["kind"] for row in rows) == {"required": 23, "suggested": 2, "conditional": 2}
    assert Counter(row["confidence"] for row in rows) == {"quoted": 17, "secondary": 10}


def test_the_former_frame_ends_with_its_law_and_proves_no_level() -> None:
    law = read(LEGACY)
    rows = law["criteria"]
    assert (law["rule"], law["in_force"], len(rows)) == ("own_set", ["2022-10-01", "2026-07-01"], 93)
    assert not law["groups"][0]["list_complete"]
    assert {level: sum(level in row["levels"] for row in rows if row["scored"]) for level in "123"} == {
        "1": 32, "2": 42, "3": 92,
    }  # fmt: skip
    assert [row["id"] for row in rows if not row["scored"]] == ["tcvn11930.rec.log_l2"]


def test_the_duties_stand_by_law_with_the_day_each_began() -> None:
    law = read(DUTIES)
    rows = law["criteria"]
    assert (law["rule"], law["in_force"]) == ("share", ["2026-07-01", None])
    assert Counter(row["group"] for row in rows) == {"nd331": 29, "luat116": 7, "health": 9, "other": 3}
    begins = {group["id"]: group["in_force"][0] for group in law["groups"]}
    assert begins == {"nd331": "2026-08-19", "luat116": "2026-07-01", "health": None, "other": None}
    assert Counter(row["kind"] for row in rows) == {"required": 39, "conditional": 9}
