"""What everything else stands on: settings, the store, the law as data as far as it was confirmed, the inventory."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from controlplane.collect import gather as gathering
from controlplane.collect.campaign import load_campaign
from controlplane.collect.facts import FACTS
from controlplane.collect.inventory import Inventory, InventoryKeeper, intended_network
from controlplane.collect.local import LocalTransport
from controlplane.collect.record import Holdings
from controlplane.collect.registers import Registers, load_registers
from controlplane.collect.service import ServiceTransport
from controlplane.collect.yaml_file import InventoryError
from controlplane.domain.catalog import CatalogError, catalog_body, catalog_from, make_catalog
from controlplane.domain.chain import canonical, digest, plain
from controlplane.domain.duties import Duties, make_duties
from controlplane.domain.isolation import places_of, probe_plans
from controlplane.domain.leveling import Questionnaire, make_questionnaire
from controlplane.domain.model import Asset, Catalog, Value, Words
from controlplane.domain.overview import Campaign, RoundView
from controlplane.domain.packs import apply_overlay
from controlplane.plays import Play, load_plays
from controlplane.settings import Settings
from controlplane.store.accounts import Accounts
from controlplane.store.archive import Archive

PACK = "pack"
"""The kind of link that keeps what the hospital confirmed of a framework from its official copy."""


class Rules:
    """Settings, store, rules and inventory of one hospital."""

    def __init__(self, settings: Settings, archive: Archive, accounts: Accounts, clock: Callable[[], datetime]) -> None:
        self.settings = settings
        self.archive = archive
        self.accounts = accounts
        self.clock = clock
        self._keeper = InventoryKeeper(settings.inventory_files, settings.data_dir)
        self._read: tuple[int, Catalog, bytes] | None = None

    @cached_property
    def campaign(self) -> Campaign:
        """The plan as data."""
        return load_campaign(self.settings.home / "inventory" / "campaign.yaml")

    @cached_property
    def plays(self) -> Mapping[str, Play]:
        """Every play of playbooks/plays.yaml."""
        folder = self.settings.home / "playbooks"
        return load_plays(read_yaml(folder / "plays.yaml"), folder)

    def read(self, path: Path) -> Any:
        """A file of rules. Raises ``CatalogError`` naming file and line."""
        return read_cached(path, self.settings.data_dir / "cache")

    @property
    def catalog(self) -> Catalog:
        """Checks and frameworks, with what the hospital confirmed. Raises ``CatalogError`` naming the entry."""
        return self._rules_now()[1]

    @property
    def catalog_body(self) -> bytes:
        """The canonical documents behind ``catalog``, as a round keeps them."""
        return self._rules_now()[2]

    def _rules_now(self) -> tuple[int, Catalog, bytes]:
        newest = self.archive.newest(PACK)
        if self._read is None or self._read[0] != newest:  # another process may have kept a confirmation since
            self._read = (newest, *self.make_catalog(*self.shipped_frameworks()))
        return self._read

    def shipped_frameworks(self) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
        """The frameworks by file as they were shipped, and what the hospital confirmed of them, in order."""
        folder = self.settings.home / "checks" / "criteria"
        confirmed = [self.archive.body(link)["overlay"] for link in self.archive.chain(PACK)]
        return {p.name: self.read(p) for p in sorted(folder.glob("*.yaml"))}, confirmed

    def framework_document(self, id_: str) -> Mapping[str, Any]:
        """A framework's document as it stands now, with what was confirmed. Raises ``KeyError``."""
        documents, confirmed = self.shipped_frameworks()
        return next(document for document in laid_over(documents, confirmed).values() if document["framework"] == id_)

    def make_catalog(
        self, documents: Mapping[str, Any], confirmed: Sequence[Mapping[str, Any]]
    ) -> tuple[Catalog, bytes]:
        """A catalog from frameworks and confirmations, and its canonical documents. Raises ``CatalogError``."""
        folder = self.settings.home / "checks"
        checks = {p.name: self.read(p) for p in sorted(folder.glob("*.yaml")) if p.name != "waivers.yaml"}
        frameworks = laid_over(documents, confirmed)
        waivers = read_yaml(folder / "waivers.yaml") if (folder / "waivers.yaml").exists() else None
        targets = {(t.framework, t.group): (t.level, t.owner) for t in self.campaign.targets}
        known = {"facts": frozenset(FACTS), "plays": frozenset(self.plays)}
        catalog = make_catalog(checks, frameworks, waivers, targets=targets, **known)
        return catalog, canonical(catalog_body(checks, frameworks, waivers, targets))

    @cached_property
    def questionnaire(self) -> Questionnaire:
        """How a system's security level is determined. Raises ``CatalogError`` naming the entry."""
        file = self.settings.home / "checks" / "law" / "level-nd331-2026.yaml"
        return make_questionnaire(file.name, read_yaml(file))

    @cached_property
    def duties(self) -> Duties:
        """What the law asks at its time. Raises ``CatalogError`` naming the entry."""
        file = self.settings.home / "checks" / "law" / "duties.yaml"
        return make_duties(file.name, read_yaml(file))

    def inventory(self) -> tuple[Inventory, InventoryError | None]:
        """The inventory in force; with an error when the files have one and the last good one stands in."""
        return self._keeper.current()

    def given(self) -> dict[str, Any]:
        """The variables that every play is given: ``emr_network``, the intended network and the plans of its probes,
        and ``emr_backups``, what the hospital means its backups to leave out."""
        inventory, _ = self.inventory()
        told = intended_network(inventory.vlans)
        places = places_of(inventory.assets.values(), told["vlans"])
        plans = probe_plans(places, told["matrix"]["allow"])
        backups = left_out(self.registers(inventory)["backups"])
        return {"emr_network": told | {"probes": plans}, "emr_backups": backups}

    def registers(self, inventory: Inventory) -> Registers:
        """The hospital's own lists; a broken one is an ``InventoryError`` in its place."""
        folder = self.settings.home / "inventory"
        return load_registers(folder / "registers", self.settings.home, {*inventory.assets, *inventory.groups})

    def holdings(self, inventory: Inventory) -> Holdings:
        """What derived facts rest on, besides what was measured."""
        assets = [plain(public(asset)) for asset in inventory.assets.values()]
        return Holdings(assets, self.registers(inventory), plain(inventory.vlans), plain(self.campaign.hospital))

    @cached_property
    def _transports(self) -> Mapping[str, gathering.Transport]:
        # Slow to load, and most verbs look at no host.
        from controlplane.collect.snmp import SnmpTransport  # noqa: PLC0415
        from controlplane.collect.ssh import SshTransport  # noqa: PLC0415

        wait = self.settings.connect_timeout_seconds
        known = self.settings.known_hosts_file
        ssh = SshTransport(known_hosts=known, connect_timeout_seconds=wait)
        snmp = SnmpTransport(secrets_dir=self.settings.secrets_dir)
        service = ServiceTransport(ca_dir=self.settings.data_dir / "ca", step_seconds=wait)
        return {t.name: t for t in (LocalTransport(), ssh, snmp, service)}

    def _rules_of(self, last: RoundView) -> tuple[Catalog, Mapping[str, Asset]]:
        """The catalog and the assets that were in force in a round, from the bytes it kept."""
        names = self.archive.sealed_names(last.id)
        catalog = self.catalog
        if names["catalog"] != catalog.digest:
            catalog = catalog_from(json.loads(self.archive.vault.get(names["catalog"])))
        return catalog, {a.name: a for a in map(_asset_from, json.loads(self.archive.vault.get(names["inventory"])))}


def laid_over(documents: Mapping[str, Any], confirmed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Framework documents by file with every confirmation laid over its own."""
    result = dict(documents)
    for overlay in confirmed:
        for file, document in result.items():
            if isinstance(document, Mapping) and document.get("framework") == overlay["framework"]:
                result[file] = apply_overlay(document, overlay)
    return result


def left_out(register: Value | InventoryError) -> dict[str, Any]:
    """Host -> data set -> what the register that the hospital adopted leaves out; why not, where it is broken."""
    if isinstance(register, InventoryError):
        return {"error": f"{register.place}: {register.words.vi} · {register.words.en}"}
    document: Any = register
    found: dict[str, dict[str, list[str]]] = {}
    for row in document["datasets"] if document["reviewed_on"] else ():
        found.setdefault(row["host"], {})[row["name"]] = row["excludes"]
    return {"excludes": found}


def public(asset: Asset) -> dict[str, Any]:
    """An asset without the ways into it, as the record keeps it."""
    return {
        "name": asset.name,
        "kind": asset.kind,
        "roles": asset.roles,
        "title": asset.title,
        "department": asset.department,
        "transports": asset.transports,
        "address": asset.address,
        "fields": asset.fields,
    }


def _asset_from(body: Mapping[str, Any]) -> Asset:
    title = Words(**body["title"])
    return Asset(**{**body, "title": title, "roles": tuple(body["roles"]), "transports": tuple(body["transports"])})


def read_cached(path: Path, cache: Path) -> Any:
    """``read_yaml``, or its plain form kept under the digest of the file's bytes: a tenth of the time, and every verb
    reads thirty files. What has no plain form (a date) is not kept. A cache that is gone or damaged is made anew."""
    try:
        kept = cache / f"{digest(path.read_bytes())}.json"
        return json.loads(kept.read_bytes())
    except (OSError, ValueError):
        document = read_yaml(path)
    with contextlib.suppress(OSError, TypeError):
        text = json.dumps(document, ensure_ascii=False)
        cache.mkdir(mode=0o700, exist_ok=True)  # in a store; where there is none, nothing is made
        fresh = kept.with_suffix(f".{os.getpid()}")
        fresh.touch(mode=0o600)
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(kept)
    return document


def read_yaml(path: Path) -> Any:
    """A file's document. Raises ``CatalogError`` naming file and line."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)  # a safe loader, in C
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise CatalogError(f"{path.name}:{line} {getattr(error, 'problem', error)}") from None
    except OSError as error:
        raise CatalogError(f"{path.name}: cannot be read: {error.strerror}") from None
