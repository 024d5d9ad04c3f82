"""What a hospital can buy, as data: what a purchase would mend and what it assumes. It knows no price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.domain import forms
from controlplane.domain.declared import accepts
from controlplane.domain.forms import CatalogError
from controlplane.domain.model import Catalog, Declared, Words

SCOPES = ("asset", "hospital")
ITEM_KEYS = frozenset("id title unit mends papers per assets_per_unit brings assumption".split())


@dataclass(frozen=True)
class Item:
    """One kind of thing that can be bought. It never carries a price: the price is what the hospital was offered."""

    id: str
    title: Words
    unit: Words  # what one of it is: a device, a licence for a year
    mends: tuple[str, ...]  # checks that would be met on the assets it serves
    papers: tuple[str, ...]  # criteria for which its acceptance papers would be a document
    per: str  # asset: a unit serves so many assets; hospital: one unit serves the whole house
    assets_per_unit: int
    brings: str | None  # the role of the new device it is; None: a part, a licence or a paper for what is there
    assumption: Words  # what must hold after the purchase for the checks to be met


def load_items(document: Any, catalog: Catalog, file: str = "items.yaml") -> Mapping[str, Item]:
    """Items by id, in the order of the file. Raises ``CatalogError`` naming the entry, for unknown checks too."""
    forms.keys(file, document, ("items",), ("items",))
    items: dict[str, Item] = {}
    for entry in forms.mappings(file, document["items"], "items"):
        item = _item(file, entry, catalog)
        if item.id in items:
            raise CatalogError(f"{file}: {item.id}: this id stands twice")
        items[item.id] = item
    return items


def _item(file: str, entry: Mapping[str, Any], catalog: Catalog) -> Item:
    where = f"{file}: {entry.get('id', '(no id)')}"
    forms.keys(where, entry, ITEM_KEYS, "id title unit per assumption".split())
    mends = forms.strings(where, entry.get("mends") or [], "mends")
    papers = forms.strings(where, entry.get("papers") or [], "papers")
    per = forms.one_of(where, entry["per"], "per", SCOPES)
    brings = forms.text(where, entry, "brings") if entry.get("brings") is not None else None
    _known(where, mends, papers, brings, catalog)
    if per == "hospital" and "assets_per_unit" in entry:
        raise CatalogError(f"{where}: assets_per_unit is for what is bought per asset")
    return Item(
        forms.text(where, entry, "id"),
        forms.words(where, entry["title"]),
        forms.words(where, entry["unit"]),
        mends,
        papers,
        per,
        forms.whole(where, entry.get("assets_per_unit", 1), "assets_per_unit", least=1),
        brings,
        forms.words(where, entry["assumption"]),
    )


def _known(where: str, mends: tuple[str, ...], papers: tuple[str, ...], brings: str | None, catalog: Catalog) -> None:
    """Refuse an item that would mend nothing, or something that nobody asks for."""
    if not mends and not papers:
        raise CatalogError(f"{where}: mends no check and carries no papers")
    for check in mends:
        if check not in catalog.checks:
            raise CatalogError(f"{where}: no check {check!r}{forms.near(check, catalog.checks)}")
    for id_ in papers:
        criterion = catalog.criteria.get(id_)
        if criterion is None:
            raise CatalogError(f"{where}: no criterion {id_!r}{forms.near(id_, catalog.criteria)}")
        if accepts(criterion, Declared.DOCUMENT) is not None:
            raise CatalogError(f"{where}: no document may be given about {id_}")
    roles = {catalog.checks[check].role for check in mends}
    if brings is not None and brings not in roles:
        raise CatalogError(f"{where}: brings {brings!r}, a role that none of its checks is about")
