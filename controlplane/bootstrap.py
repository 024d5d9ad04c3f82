"""The one room that knows every concrete part: settings in, a working plane out. It holds no rule of its own."""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from controlplane import texts
from controlplane.collect import gather as gathering
from controlplane.collect.facts import FACTS
from controlplane.collect.inventory import Inventory, InventoryKeeper, load_campaign
from controlplane.collect.local import LocalTransport
from controlplane.collect.record import Holdings, derive_from
from controlplane.collect.registers import Registers, load_registers
from controlplane.collect.snmp import SnmpTransport
from controlplane.collect.ssh import SshTransport
from controlplane.collect.yaml_file import InventoryError
from controlplane.domain.catalog import CatalogError, catalog_body, catalog_from, make_catalog
from controlplane.domain.chain import Break, Link, canonical, plain
from controlplane.domain.compare import Difference, compare
from controlplane.domain.explain import Explanation, explain, find_criterion
from controlplane.domain.judge import judge
from controlplane.domain.model import Asset, Catalog, Finding, Look, Reason, Scorecard, Words
from controlplane.domain.overview import (
    Campaign,
    Overview,
    RoundView,
    TrendPoint,
    blockers,
    count_kinds,
    group_views,
    milestones_from,
    totals,
)
from controlplane.domain.score import score
from controlplane.plays import Play, PlayError, PlayRun, apply, load_plays, preview, sweep
from controlplane.reports.weekly import EvidenceLine, IsoWeek, LookLine, render_weekly
from controlplane.rounds import make_round, new_id
from controlplane.settings import Settings
from controlplane.store.accounts import Accounts
from controlplane.store.archive import Archive, BusyError, migrate, open_engine
from controlplane.store.bundle import SigningKey, export
from controlplane.store.vault import Vault

ADMIN = "admin"
log = logging.getLogger(__name__)


class NoStoreError(RuntimeError):
    """There is no store in the data directory yet."""


@dataclass(frozen=True)
class Judgement:
    """The hospital judged at a time: what the faces show."""

    at: datetime
    catalog: Catalog
    card: Scorecard
    findings: tuple[Finding, ...]
    assets: Mapping[str, Asset]
    inventory_error: InventoryError | None
    round: RoundView | None


def utc_now() -> datetime:
    """The one clock of the house."""
    return datetime.now(UTC)


def init_store(settings: Settings, clock: Callable[[], datetime] = utc_now) -> Plane:
    """Make what is missing: folders (0700), tables, signing key, admin account. Safe to call again."""
    for folder in (settings.data_dir, settings.secrets_dir, settings.run_dir, settings.keys_dir):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    settings.known_hosts_file.touch(mode=0o600, exist_ok=True)
    engine = open_engine(settings.database_url)
    migrate(engine)
    database = settings.data_dir / "emrctl.db"
    if database.exists():
        database.chmod(0o600)  # SQLite gives its journals the mode of the database
    SigningKey.load_or_make(settings.keys_dir)
    accounts = Accounts(engine)
    if accounts.find(ADMIN) is None:
        accounts.add(ADMIN, "admin", secrets.token_urlsafe(24), clock(), must_change=True)
    engine.dispose()
    return open_plane(settings, clock)


def open_plane(settings: Settings, clock: Callable[[], datetime] = utc_now) -> Plane:
    """Open an existing store. Raises ``NoStoreError``, ``CatalogError``, ``ArchiveError``."""
    if settings.database_url.startswith("sqlite") and not (settings.data_dir / "emrctl.db").exists():
        raise NoStoreError(str(settings.data_dir))
    engine = open_engine(settings.database_url)
    migrate(engine)
    archive = Archive(engine, Vault(settings.vault_dir), settings.data_dir / "locks")
    archive.close_abandoned(clock())
    try:
        with archive.lock("run"):
            sweep(settings.run_dir)  # what a killed play left behind
    except BusyError:
        pass
    return Plane(settings, archive, Accounts(engine), clock)


class Plane:
    """Everything the faces may ask for."""

    def __init__(self, settings: Settings, archive: Archive, accounts: Accounts, clock: Callable[[], datetime]) -> None:
        self.settings = settings
        self.archive = archive
        self.accounts = accounts
        self.clock = clock
        self._keeper = InventoryKeeper(settings.inventory_files, settings.data_dir)
        self._judged: tuple[Any, Judgement] | None = None

    # --------------------------------------------------------------------------------------- the rules

    @cached_property
    def campaign(self) -> Campaign:
        """The plan as data."""
        return load_campaign(self.settings.home / "inventory" / "campaign.yaml")

    @cached_property
    def plays(self) -> Mapping[str, Play]:
        """Every play of playbooks/plays.yaml."""
        folder = self.settings.home / "playbooks"
        return load_plays(_read_yaml(folder / "plays.yaml"), folder)

    @cached_property
    def _catalog(self) -> tuple[Catalog, bytes]:
        folder = self.settings.home / "checks"
        checks = {p.name: _read_yaml(p) for p in sorted(folder.glob("*.yaml")) if p.name != "waivers.yaml"}
        frameworks = {p.name: _read_yaml(p) for p in sorted((folder / "criteria").glob("*.yaml"))}
        waivers = _read_yaml(folder / "waivers.yaml") if (folder / "waivers.yaml").exists() else None
        targets = {(t.framework, t.group): (t.level, t.owner) for t in self.campaign.targets}
        catalog = make_catalog(
            checks, frameworks, waivers, facts=frozenset(FACTS), plays=frozenset(self.plays), targets=targets
        )
        return catalog, canonical(catalog_body(checks, frameworks, waivers, targets))

    @property
    def catalog(self) -> Catalog:
        """Checks and frameworks. Raises ``CatalogError`` naming the entry."""
        return self._catalog[0]

    def inventory(self) -> tuple[Inventory, InventoryError | None]:
        """The inventory in force; with an error when the files have one and the last good one stands in."""
        return self._keeper.current()

    def registers(self, inventory: Inventory) -> Registers:
        """The hospital's own lists; a broken one is an ``InventoryError`` in its place."""
        folder = self.settings.home / "inventory"
        return load_registers(folder / "registers", self.settings.home, {*inventory.assets, *inventory.groups})

    def _holdings(self, inventory: Inventory) -> Holdings:
        assets = [plain(_public(asset)) for asset in inventory.assets.values()]
        return Holdings(assets, self.registers(inventory), plain(inventory.vlans), plain(self.campaign.hospital))

    # -------------------------------------------------------------------------------------- the route

    def make_round(
        self, only: Sequence[str] = (), progress: Callable[[Look, int, int], None] | None = None
    ) -> RoundView:
        """One round over the whole hospital, or over hosts and groups. Raises ``InventoryError``, ``BusyError``."""
        inventory, _ = self.inventory()
        targets = inventory.select(only) if only else None
        catalog, body = self._catalog
        self.archive.vault.put(body)  # so that an earlier day can be judged again by the rules of that day
        digest = self.archive.vault.put(canonical([_public(a) for a in inventory.assets.values()]))

        def look_at(assets: Sequence[Asset]) -> Any:
            return gathering.gather(
                assets,
                self._transports,
                FACTS,
                self.clock,
                at_once=self.settings.at_once,
                look_deadline_seconds=self.settings.look_deadline_seconds,
                round_deadline_seconds=self.settings.round_deadline_seconds,
                progress=progress,
            )

        derive = derive_from(FACTS, self._holdings(inventory), self.archive, self.clock)
        zone = self.settings.timezone
        return make_round(catalog, inventory.assets, digest, look_at, self.archive, self.clock, zone, targets, derive)

    @cached_property
    def _transports(self) -> Mapping[str, gathering.Transport]:
        wait = self.settings.connect_timeout_seconds
        known = self.settings.known_hosts_file
        ssh = SshTransport(known_hosts=known, connect_timeout_seconds=wait)
        return {t.name: t for t in (LocalTransport(), ssh, SnmpTransport(secrets_dir=self.settings.secrets_dir))}

    # ------------------------------------------------------------------------------------- judgements

    def judgement(self, as_of: date | None = None) -> Judgement:
        """The hospital now, or at the end of a past day by the rules, the assets and the evidence of that day."""
        now = self.clock()
        today = now.astimezone(self.settings.timezone).date()
        if as_of is not None and as_of >= today:
            as_of = None  # of a day that has not ended yet, the evidence of now is all there is
        if as_of is not None:
            now = datetime.combine(as_of + timedelta(days=1), time(), self.settings.timezone).astimezone(UTC)
        inventory, error = self.inventory()
        last = self.archive.last_round()
        key = (last and last.id, as_of, inventory.digest, now.replace(second=0, microsecond=0), str(error))
        if self._judged is None or self._judged[0] != key:
            self._judged = (key, self._judge(now, as_of, inventory, error))
        return self._judged[1]

    def _judge(
        self, now: datetime, as_of: date | None, inventory: Inventory, error: InventoryError | None
    ) -> Judgement:
        state = self.archive.state(now if as_of else None)
        last = self.archive.last_round(now if as_of else None)
        catalog, assets = self.catalog, inventory.assets
        if as_of is not None and last is not None:
            catalog, assets = self._rules_of(last)
        findings = judge(catalog, assets.values(), state, now)
        card = score(catalog, findings, as_of or now.astimezone(self.settings.timezone).date())
        return Judgement(now, catalog, card, findings, assets, error, last)

    def _rules_of(self, last: RoundView) -> tuple[Catalog, Mapping[str, Asset]]:
        """The catalog and the assets that were in force in a round, from the bytes it kept."""
        names = self.archive.sealed_names(last.id)
        catalog = self.catalog
        if names["catalog"] != catalog.digest:
            catalog = catalog_from(json.loads(self.archive.vault.get(names["catalog"])))
        return catalog, {a.name: a for a in map(_asset_from, json.loads(self.archive.vault.get(names["inventory"])))}

    def overview(self, as_of: date | None = None, most_blockers: int = 3) -> Overview:
        """One screen: levels, gaps, days left, blockers, trend."""
        j = self.judgement(as_of)
        counts, total, drafts, automated = totals(j.catalog, j.card)
        broken = self.chain_state()
        head = self.archive.head()
        answered = [a for a in j.assets.values() if a.name in self._answered(j.round)]
        trend = tuple(
            TrendPoint(at, words.get("met", 0), words.get("not_met", 0), sum(words.values()))
            for at, words in self.archive.trend()
            if at <= j.at
        )
        return Overview(
            at=j.at,
            as_of=j.card.as_of,
            campaign=self.campaign,
            groups=group_views(j.catalog, j.card, self.campaign),
            milestones=milestones_from(self.campaign, j.card.as_of),
            blockers=blockers(j.catalog, j.card, j.findings, self.campaign, most_blockers),
            trend=trend,
            counts=counts,
            total=total,
            drafts=drafts,
            automated=automated,
            assets=count_kinds(j.assets.values()),
            assets_looked_at=count_kinds(answered),
            last_round=j.round,
            chain_head=head.seal if head else "",
            chain_holds=broken is None,
            notes=self._notes(j, broken),
        )

    def _answered(self, last: RoundView | None) -> frozenset[str]:
        if last is None:
            return frozenset()
        return frozenset(
            asset for (asset, _), look in self.archive.last_looks().items() if look["outcome"] == "answered"
        )

    def _notes(self, j: Judgement, broken: Break | None) -> tuple[Reason, ...]:
        notes = []
        if broken is not None:
            notes.append(Reason("chain_broken", {"seq": broken.seq}))
        if j.round is None:
            notes.append(Reason("no_round"))
        newest = self.archive.rounds(1)
        if newest and newest[0].state == "interrupted":
            notes.append(Reason("interrupted", {"round": newest[0].id}))
        if j.inventory_error is not None:
            notes.append(Reason("inventory_error", {"sentence": j.inventory_error.words}))
        broken_lists = [r for r in self.registers(self.inventory()[0]).values() if isinstance(r, InventoryError)]
        notes.extend(Reason("inventory_error", {"sentence": r.words}) for r in broken_lists)
        return tuple(notes)

    def chain_state(self) -> Break | None:
        """The first break of the chain, walked from its first link."""
        return self.archive.first_break()

    def explain(self, criterion: str, as_of: date | None = None) -> Explanation:
        """A criterion down to its observations. Raises ``KeyError``."""
        j = self.judgement(as_of)
        ids = [f.observation for f in j.findings if f.observation]
        return explain(criterion, j.catalog, j.card, j.findings, self.archive.observations(ids))

    @contextmanager
    def keeping_time(self) -> Iterator[None]:
        """Make a round every ``round_every_minutes`` while the block lasts; a missed tick is made up at once."""
        stop = threading.Event()
        minutes = self.settings.round_every_minutes
        clockwork = threading.Thread(target=self._tick, args=(stop, minutes * 60), name="clock", daemon=True)
        if minutes:
            clockwork.start()
        try:
            yield
        finally:
            stop.set()
            if clockwork.is_alive():
                clockwork.join(timeout=self.settings.look_deadline_seconds + 10)

    def _tick(self, stop: threading.Event, every_seconds: int) -> None:
        while True:
            last = self.archive.last_round()
            age = (self.clock() - last.ended_at).total_seconds() if last and last.ended_at else every_seconds
            if stop.wait(max(1.0, every_seconds - age)):
                return
            try:
                self.make_round()
            except (BusyError, InventoryError, OSError) as error:
                log.warning("the round on time was not made: %s", error)
                if stop.wait(60):
                    return

    # -------------------------------------------------------------------------------------- a person's word

    def attest(
        self, criterion: str, by: str, statement: str, until: date, document: tuple[str, bytes] | None = None
    ) -> Link:
        """Keep somebody's word about a criterion, with a document if there is one, and link it.

        It is shown beside the criterion and goes into the bundle; it moves no verdict yet. Raises ``KeyError`` for
        a criterion that no framework holds.
        """
        find_criterion(self.catalog, criterion)
        body: dict[str, Any] = {"criterion": criterion, "by": by, "statement": statement, "until": until}
        if document is not None:
            name, data = document
            body |= {"document": self.archive.vault.put(data), "document_name": name, "document_bytes": len(data)}
        return self.archive.append("attestation", body | {"at": self.clock()}, self.clock())

    def attestations(self, criterion: str) -> list[dict[str, Any]]:
        """What people said about a criterion, the newest first, each with the number of its link."""
        said = [{"link": link.seq, **self.archive.body(link)} for link in self.archive.chain("attestation")]
        return [one for one in reversed(said) if one["criterion"] == criterion]

    # ------------------------------------------------------------------------------------------- plays

    def run_play(
        self,
        play_id: str,
        mode: str,
        limit: Sequence[str] = (),
        on_event: Callable[[dict[str, Any]], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        progress: Callable[[Look, int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Preview or apply a play and keep it; return the dossier.

        An apply is a change dossier: narrow round, preview, apply, narrow round, and what moved between the two.
        An apply that failed is followed by no round: the score stays as it was, and the dossier says so.
        Raises ``PlayError``, ``InventoryError``, ``BusyError``.
        """
        play = self.play(play_id)
        inventory, _ = self.inventory()
        targets = inventory.select(list(limit) or [play.hosts])
        names = [asset.name for asset in targets if asset.address is not None]
        with self.archive.lock("run"):
            id_ = new_id(self.clock())
            self.archive.open_run(id_, self.clock(), play.id, mode, names)
            try:
                dossier = self._carry_out(play, mode, targets, names, on_event, cancelled, progress)
            except Exception as error:
                words = getattr(error, "words", None) or Words(str(error), str(error))
                self.archive.close_run(id_, self.clock(), "failed", {"id": id_, "error": words})
                raise
            dossier = {"id": id_, **dossier}
            link = self.archive.close_run(id_, self.clock(), dossier["run"]["state"], dossier)
        return {**dossier, "link": link.seq, "seal": link.seal}

    def play(self, play_id: str) -> Play:
        """A play by its id. Raises ``PlayError`` naming the nearest."""
        if play_id not in self.plays:
            near = ", ".join(self.plays)
            raise PlayError(
                f"Không có playbook {play_id}. Hiện có: {near}.", f"There is no play {play_id}. There are: {near}."
            )
        return self.plays[play_id]

    def _carry_out(
        self,
        play: Play,
        mode: str,
        targets: Sequence[Asset],
        names: Sequence[str],
        on_event: Callable[[dict[str, Any]], None] | None,
        cancelled: Callable[[], bool] | None,
        progress: Callable[[Look, int, int], None] | None,
    ) -> dict[str, Any]:
        options: dict[str, Any] = {
            "hosts": targets,
            "known_hosts": self.settings.known_hosts_file,
            "timeout_seconds": self.settings.play_timeout_minutes * 60,
            "clock": self.clock,
        }
        options |= {k: v for k, v in (("on_event", on_event), ("cancelled", cancelled)) if v is not None}
        arguments = (play, self.settings.inventory_files, [a.name for a in targets], self.settings.run_dir)
        if mode == "preview":
            return {"mode": mode, "play": play.id, "run": self._keep_events(preview(*arguments, **options))}
        before = self.make_round(names, progress) if names else None
        rehearsal = self._keep_events(preview(*arguments, **options))
        run = self._keep_events(apply(*arguments, **options))
        dossier: dict[str, Any] = {
            "mode": mode,
            "play": play.id,
            "preview": rehearsal,
            "run": run,
            "difference": None,
            "rounds": [],
        }
        if before is not None and run["state"] == "successful":
            after = self.make_round(names, progress)
            dossier["difference"] = plain(self.difference(before.id, after.id))
            dossier["rounds"] = [before.id, after.id]
        return dossier

    def _keep_events(self, run: PlayRun) -> dict[str, Any]:
        """The run as plain values, its events in the vault under ``events_digest``."""
        self.archive.vault.put(run.events_raw)
        return run.document()

    def difference(self, before: str, after: str) -> Difference:
        """What moved between two rounds, from what they sealed. Raises ``KeyError``."""
        card_before, findings_before = self.archive.sealed(before)
        card_after, findings_after = self.archive.sealed(after)
        return compare(card_before, card_after, findings_before, findings_after)

    # ------------------------------------------------------------------------------------ what goes out

    def weekly_report(self, week: IsoWeek, lang: str = "vi") -> bytes:
        """The Thursday report of a week as .docx, with the figures of its last round.

        A week without a round of its own shows the newest figures there are, and says so. The report is linked.
        """
        now = self.clock()
        ended = datetime.combine(week.sunday + timedelta(days=1), time(), self.settings.timezone).astimezone(UTC)
        past = self.archive.last_round(ended) is not None and ended < now
        o = self.overview(week.sunday if past else None)
        evidence, looks = [], []
        if o.last_round is not None and o.last_round.ended_at is not None:
            for label, name in self.archive.sealed_names(o.last_round.id).items():
                evidence.append(EvidenceLine(texts.say(lang, f"report_evidence.{label}"), name, o.last_round.ended_at))
            titles = {name: asset.title.in_(lang) for name, asset in self.judgement().assets.items()}
            looks = [
                LookLine(titles.get(look["asset"], look["asset"]), look["outcome"])
                for look in self.archive.looks_of(o.last_round.id)
            ]
        day = min(now.astimezone(self.settings.timezone).date(), max(week.thursday, o.as_of) if past else o.as_of)
        document = render_weekly(o, week, looks, evidence, texts.speaker(lang), issued_on=day)
        kept = {"week": str(week), "at": now, "document": self.archive.vault.put(document), "head": o.chain_head}
        self.archive.append("report", kept, now)
        return document

    def export_evidence(self, out: Path, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """Write the evidence bundle. Raises ``BundleError``, ``SigningKeyError``."""
        name = self.campaign.hospital.name
        key = SigningKey.load(self.settings.keys_dir)
        return export(self.archive, key, out, self.clock(), (name.vi, name.en), progress)

    def key_fingerprint(self) -> str:
        """The signing key's SHA-256, as reports print it. Raises ``SigningKeyError``."""
        return SigningKey.load(self.settings.keys_dir).fingerprint


def _public(asset: Asset) -> dict[str, Any]:
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


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)  # a safe loader, in C
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise CatalogError(f"{path.name}:{line} {getattr(error, 'problem', error)}") from None
    except OSError as error:
        raise CatalogError(f"{path.name}: cannot be read: {error.strerror}") from None
