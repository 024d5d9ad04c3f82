"""The law as data holds: counts, ids, both tongues, and no row stronger than what was seen of the text."""

from __future__ import annotations

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
FILE_KEYS = {"framework", "title", "source", "in_force", "rule", "sources", "groups", "criteria"}
GROUP_KEYS = {"id", "title", "levels", "list_complete", "in_force", "note"}
NEEDED = {
    "id", "group", "levels", "section", "title", "clause", "source", "standing", "scored", "confidence", "kind",
    "automatable",
}  # fmt: skip


def read(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module", params=[TT54, TCVN])
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
    assert law["rule"] in {"cumulative", "own_set"}
    for group in law["groups"]:
        assert set(group) == GROUP_KEYS, group["id"]
        for day in (*group["in_force"], *law["in_force"]):
            assert day is None or date.fromisoformat(day)
    for row in law["criteria"]:
        assert NEEDED <= set(row) <= NEEDED | {"params", "note"}, row["id"]


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
