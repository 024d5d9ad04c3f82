"""Lays what the hospital confirmed from its official copy over a framework document. It refuses what it does not know.

A pack is a framework document as it is shipped; an overlay holds only what the hospital read in the official text and
names that text by its SHA-256. The old pack is never changed: both together make a new one, and either can be judged.
"""

from __future__ import annotations

import copy
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from controlplane.domain.catalog import KINDS
from controlplane.domain.model import Standing

OFFICIAL = "official"
"""The word of confidence of whatever the hospital read in the official text."""

NOT_IN_TEXT = "not_in_text"
"""The word of confidence of a row that the hospital looked for and did not find in the official text."""

ADDED = "added"
"""The part of an id that says a criterion came from the hospital: ``tt54.infra.added.7``."""

OVERLAY_KEYS = frozenset("framework document criteria added groups annex2".split())
FIELDS = frozenset("levels title clause note absent".split())
ADDED_FIELDS = frozenset("id group levels title clause kind note".split())
HASH = re.compile(r"[0-9a-f]{64}")


class PackError(ValueError):
    """An overlay does not fit its pack. The message names the entry and says what is wrong with it."""


def is_empty(overlay: Mapping[str, Any]) -> bool:
    """Whether an overlay confirms nothing at all."""
    return not any(overlay.get(part) for part in ("criteria", "added", "groups", "annex2"))


def naming(overlay: Mapping[str, Any], name: str, sha256: str) -> dict[str, Any]:
    """The overlay with the official text it rests on: its file name and the SHA-256 of its bytes."""
    return {**overlay, "document": {"name": unicodedata.normalize("NFC", name), "sha256": sha256}}


def apply_overlay(document: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """The framework document with the confirmed rows in it; neither argument is changed.

    A confirmed row stands ``confirmed`` with confidence ``official`` and a source that names the official text; it is
    scored when it has a level and is not informative. A row that is not in the text becomes a draft and decides
    nothing. Raises ``PackError`` for another framework, unknown names and levels that are not on the ladder.
    """
    result: dict[str, Any] = copy.deepcopy(dict(document))
    _refuse_unknown("overlay", overlay, OVERLAY_KEYS)
    if overlay.get("framework", document["framework"]) != document["framework"]:
        raise PackError(f"overlay of {overlay['framework']!r} does not fit {document['framework']!r}")
    if is_empty(overlay):
        return result
    source = _source(result, overlay.get("document"))
    ladders = {str(g["id"]): list(g["levels"]) for g in result["groups"]}
    rows = {str(c["id"]): c for c in result["criteria"]}
    for id_, fields in (overlay.get("criteria") or {}).items():
        if id_ not in rows:
            raise PackError(f"{id_}: no such criterion")
        rows[id_].update(_confirmed(rows[id_], fields, ladders, source))
        rows[id_].pop("draft_levels", None)
        if not rows[id_].get("note"):
            rows[id_].pop("note", None)
    for entry in overlay.get("added") or ():
        row = _added(entry, rows, result, ladders, source)
        rows[row["id"]] = row
    result["criteria"] = _in_order(rows, ladders)
    _groups(result, overlay.get("groups") or {}, source)
    _annex(result, overlay.get("annex2") or {}, ladders, source)
    return result


def added_id(document: Mapping[str, Any], group: str, number: str) -> str:
    """The id of a criterion that the hospital adds: prefix of the framework, group, number in plain letters (đ is dd).

    Raises ``PackError`` when nothing of the number is left.
    """
    prefix = next((str(c["id"]).split(".")[0] for c in document["criteria"]), str(document["framework"]))
    plain = unicodedata.normalize("NFKD", number.replace("đ", "dd").replace("Đ", "dd"))
    slug = re.sub(r"[^a-z0-9]+", "-", plain.encode("ascii", "ignore").decode().lower()).strip("-")
    if not slug:
        raise PackError(f"{group}: {number!r} makes no id")
    return f"{prefix}.{group}.{ADDED}.{slug}"


def is_added(id_: str) -> bool:
    """Whether a criterion came from the hospital and not from the shipped pack."""
    return f".{ADDED}." in id_


def _source(result: dict[str, Any], named: Any) -> str:
    """Enter the official text among the sources and give the word that points to it."""
    if not isinstance(named, Mapping) or not HASH.fullmatch(str(named.get("sha256", ""))):
        raise PackError("overlay: names no official text (document: name, sha256 in 64 hex digits)")
    key = f"sha256:{named['sha256']}"
    result["sources"] = {**(result.get("sources") or {}), key: str(named.get("name") or key)}
    return key


def _confirmed(row: Mapping[str, Any], fields: Any, ladders: Mapping[str, list[str]], source: str) -> dict[str, Any]:
    where = str(row["id"])
    if not isinstance(fields, Mapping):
        raise PackError(f"{where}: its fields must be a mapping")
    _refuse_unknown(where, fields, FIELDS)
    note = _text(where, "note", fields["note"]) if fields.get("note") else ""
    if fields.get("absent"):
        return {
            "levels": [],
            "standing": str(Standing.DRAFT),
            "scored": False,
            "confidence": NOT_IN_TEXT,
            "source": [source],
            "note": note,
        }
    levels = _levels(where, fields.get("levels", row["levels"]), ladders[row["group"]])
    title = dict(row["title"])
    for tongue, text in (fields.get("title") or {}).items():
        if tongue not in ("vi", "en"):
            raise PackError(f"{where}: no tongue {tongue!r}")
        title[tongue] = _text(where, "title", text)
    return {
        "levels": levels,
        "title": title,
        "clause": _text(where, "clause", fields.get("clause", row["clause"])),
        "source": [source],
        "standing": str(Standing.CONFIRMED),
        "scored": bool(levels) and row.get("kind", "required") != "informative",
        "confidence": OFFICIAL,
        "note": note,
    }


def _added(
    entry: Any, rows: Mapping[str, Any], result: Mapping[str, Any], ladders: Mapping[str, list[str]], source: str
) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise PackError("added: every criterion must be a mapping")
    where = str(entry.get("id", "added"))
    _refuse_unknown(where, entry, ADDED_FIELDS)
    group = entry.get("group")
    if group not in ladders:
        raise PackError(f"{where}: no group {group!r}")
    if not is_added(where) or not where.startswith(added_id(result, str(group), "0")[:-1]):
        raise PackError(f"{where}: not an id that a criterion of the hospital may bear")
    kind = entry.get("kind") or "required"
    if kind not in KINDS:
        raise PackError(f"{where}: kind must be one of {', '.join(KINDS)}")
    section = next((c["section"] for c in rows.values() if c["group"] == group and c.get("section")), "")
    title = entry.get("title")
    if not isinstance(title, Mapping) or not title.get("vi"):
        raise PackError(f"{where}: lacks a Vietnamese title")
    row: dict[str, Any] = {
        "id": where,
        "group": group,
        "levels": [],
        "section": section,
        "title": {"vi": title["vi"], "en": title.get("en") or title["vi"]},
        "clause": entry.get("clause"),
        "kind": kind,
        "automatable": "attestation",
    }
    taken = {name: entry[name] for name in ("levels", "title", "clause", "note") if entry.get(name)}
    row.update(_confirmed(row, taken, ladders, source))
    return row if row.get("note") else {name: value for name, value in row.items() if name != "note"}


def _in_order(rows: Mapping[str, Any], ladders: Mapping[str, Any]) -> list[Any]:
    """Shipped rows as they stood, then the hospital's own by group and number, whatever order they came in."""
    places = list(ladders)
    own = sorted(
        (c for c in rows.values() if is_added(c["id"])), key=lambda c: (places.index(c["group"]), _by(c["id"]))
    )
    return [c for c in rows.values() if not is_added(c["id"])] + own


def _by(id_: str) -> list[tuple[int, int, str]]:
    parts = re.findall(r"\d+|\D+", id_)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def _groups(result: dict[str, Any], complete: Mapping[str, Any], source: str) -> None:
    known = {str(g["id"]): g for g in result["groups"]}
    for id_, word in complete.items():
        if id_ not in known:
            raise PackError(f"groups: no group {id_!r}")
        if not isinstance(word, bool):
            raise PackError(f"groups: {id_}: must be true or false")
        known[id_]["list_complete"] = word
        said = "complete" if word else "not complete"
        known[id_]["note"] = f"The hospital found the list {said} against {source}."


def _annex(result: dict[str, Any], cells: Mapping[str, Any], ladders: Mapping[str, list[str]], source: str) -> None:
    if not cells:
        return
    table = result.get("annex2")
    if not table:
        raise PackError("annex2: this framework knows no overall level")
    for overall, row in cells.items():
        if overall not in table:
            raise PackError(f"annex2: no overall level {overall!r}")
        for group, level in row.items():
            if group not in ladders:
                raise PackError(f"annex2: {overall}: no group {group!r}")
            if level is None:  # the official table asks nothing of this group
                table[overall].pop(group, None)
                continue
            _levels(f"annex2: {overall}: {group}", [level], ladders[group])
            table[overall][group] = {"level": level, "confidence": OFFICIAL, "note": source}
        table[overall] = {group: table[overall][group] for group in ladders if group in table[overall]}


def _levels(where: str, levels: Any, ladder: Sequence[str]) -> list[str]:
    if not isinstance(levels, list | tuple) or len(set(map(str, levels))) != len(levels):
        raise PackError(f"{where}: levels must be a list without repetition")
    if off := [level for level in levels if level not in ladder]:
        raise PackError(f"{where}: level {off[0]!r} is not on the ladder {', '.join(ladder)}")
    return sorted(levels, key=ladder.index)


def _text(where: str, name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise PackError(f"{where}: {name} must be text")
    return unicodedata.normalize("NFC", value.strip())


def _refuse_unknown(where: str, entry: Mapping[str, Any], allowed: frozenset[str]) -> None:
    for key in entry:
        if key not in allowed:
            raise PackError(f"{where}: unknown key {key!r}")
