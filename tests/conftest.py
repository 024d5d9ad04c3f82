"""Builders of small worlds: an asset, an observation, a catalog, an archive. No neighbour is mocked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from controlplane.domain.catalog import make_catalog
from controlplane.domain.chain import digest
from controlplane.domain.model import Asset, Catalog, Look, Observation, Outcome, Reply, Words
from controlplane.store.archive import Archive, migrate, open_engine
from controlplane.store.vault import Vault

# A busy machine is no failure; benchmarks measure time. A build server draws the same examples for the same code, so
# that it says something of the commit and not of its luck; everybody else's runs keep looking for new ones.
settings.register_profile("house", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("house")

# Files that take minutes, the longest first: begun last, one of them would keep a worker while the other has no work.
LONGEST = ("test_guest", "test_runs", "test_cli", "test_hospital", "test_plays", "test_backup_job", "test_lab")
LONGEST += ("test_controlplane_play", "test_network_play", "test_isolation_lab", "test_backup", "test_backup_play")
LONGEST += ("test_backup_drill", "test_web", "test_web_runs", "test_network_vendor", "test_route", "test_lab_whole")

ROOT = Path(__file__).resolve().parent.parent
NOON = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
TODAY = date(2026, 11, 23)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Hand out the long files first (with --no-loadscope-reorder); within a file the order stays."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def pass_(self, **span: float) -> None:
        self.at += timedelta(**span)


def an_asset(name: str = "sv-01", roles: tuple[str, ...] = ("servers",), address: str | None = "192.0.2.1") -> Asset:
    return Asset(name, "server", roles, Words(name, name), transports=("ssh",), address=address)


def seen(asset: str, fact: str, value: Any, at: datetime = NOON, outcome: Outcome = Outcome.ANSWERED) -> Observation:
    raw = digest(repr(value).encode()) if outcome is Outcome.ANSWERED else None
    return Observation(asset, fact, outcome, value, "-", raw, "true", "ssh/1", at, at, id=1)


def a_look(asset: str, values: dict[str, Any], at: datetime = NOON) -> tuple[Look, tuple[Observation, ...]]:
    """A look over ssh that answered ``values``; a value that is an Outcome is a failed reply."""
    replies, observations = [], []
    for fact, value in values.items():
        if isinstance(value, Outcome):
            replies.append(Reply(fact, value, "true"))
            observations.append(seen(asset, fact, None, at, value))
        else:
            replies.append(Reply(fact, Outcome.ANSWERED, "true", repr(value).encode()))
            observations.append(seen(asset, fact, value, at))
    return Look(asset, "ssh", Outcome.ANSWERED, at, 5, "ssh/1", replies=tuple(replies)), tuple(observations)


def a_check(id_: str = "server.disk", serves: tuple[str, ...] = ("law.a.1",), **changes: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "title": {"vi": "Đĩa còn chỗ", "en": "The disk has room"},
        "fact": "disk.used_percent",
        "role": "servers",
        "expect": {"at_most": 85},
        "fresh_within": "26h",
        "severity": "high",
        "fix": {"vi": "Dọn đĩa", "en": "Clean the disk"},
        "serves": list(serves),
        "examples": {"met": [40], "not_met": [91]},
    } | changes


def a_criterion(id_: str = "law.a.1", level: str = "1", **changes: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "group": "a",
        "levels": [level],
        "title": {"vi": "Tiêu chí", "en": "A criterion"},
        "clause": "1",
        "standing": "second_hand",
        "scored": True,
        "confidence": "secondary",
    } | changes


def a_framework(*criteria: dict[str, Any], rule: str = "cumulative", **group: Any) -> dict[str, Any]:
    return {
        "framework": "law",
        "title": {"vi": "Luật", "en": "A law"},
        "source": "test",
        "in_force": ["2025-01-01", None],
        "rule": rule,
        "groups": [
            {"id": "a", "title": {"vi": "Nhóm", "en": "A group"}, "levels": ["1", "2", "3"], "list_complete": True}
            | group
        ],
        "criteria": list(criteria),
    }


def a_catalog(checks: list[dict[str, Any]], framework: dict[str, Any], waivers: Any = None) -> Catalog:
    targets = {("law", "a"): ("2", "Tổ hạ tầng")}
    return make_catalog({"c.yaml": {"checks": checks}}, {"f.yaml": framework}, waivers, targets=targets)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    engine = open_engine(f"sqlite:///{tmp_path / 'emrctl.db'}")
    migrate(engine)
    yield Archive(engine, Vault(tmp_path / "vault"), tmp_path / "locks")
    engine.dispose()
