"""Approvals without a host: how long a yes holds, whose it is, and which hosts it is about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from controlplane.bootstrap import Plane, init_store
from controlplane.plays import Pin, PlayError
from controlplane.settings import Settings
from controlplane.store.tables import accounts
from controlplane.web import playing
from tests.conftest import ROOT, Clock

EVENING = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    plane = init_store(Settings(home=ROOT, data_dir=tmp_path, round_every_minutes=0), Clock(EVENING))
    plane.__dict__["plays"] = {"time-ssh": replace(plane.plays["time-ssh"], approval="second_role")}
    for name, role in (("an", "engineer"), ("chi", "director")):
        plane.accounts.add(name, role, f"a password of {name}", plane.clock())
    yield plane
    plane.archive.engine.dispose()


def pin_on(*hosts: str) -> Pin:
    return Pin("time-ssh", hosts, "1", "2")


def approved(plane: Plane, id_: str, *hosts: str) -> None:
    """A preview that one asked for and another approved."""
    plane.clock.at += timedelta(minutes=1)  # type: ignore[attr-defined]
    plane.archive.open_run(id_, plane.clock(), "time-ssh", "preview", hosts, pin=pin_on(*hosts).document())
    plane.archive.close_run(id_, plane.clock(), "successful", {"id": id_})
    for state, name, role in (("requested", "an", "engineer"), ("approved", "chi", "director")):
        plane.archive.decide_run(id_, plane.clock(), state, name, role=role, note="")


def carried_out(plane: Plane, *hosts: str, preview: str = "") -> str:
    return plane.approval_for(plane.plays["time-ssh"], preview, pin_on(*hosts))[0]


def may_be_applied(plane: Plane, id_: str) -> bool:
    return playing.standing_of(plane, plane.archive.run(id_) or {}).may_be_applied


def test_the_approval_of_other_hosts_does_not_hide_the_one_that_fits(plane: Plane) -> None:
    approved(plane, "older", "pc-01")
    approved(plane, "newer", "pc-02")
    assert carried_out(plane, "pc-01") == "older"
    assert carried_out(plane, "pc-02") == "newer"
    with pytest.raises(PlayError, match="needs the approval of a second role before"):
        carried_out(plane, "pc-01", "pc-02")


def test_an_approval_is_good_for_a_week(plane: Plane) -> None:
    approved(plane, "asked", "pc-01")
    plane.clock.at += timedelta(days=7)  # type: ignore[attr-defined]
    assert (carried_out(plane, "pc-01"), may_be_applied(plane, "asked")) == ("asked", True)
    plane.clock.at += timedelta(seconds=1)  # type: ignore[attr-defined]
    for preview in ("", "asked"):
        with pytest.raises(PlayError, match="more than 7 days old"):
            carried_out(plane, "pc-01", preview=preview)
    assert not may_be_applied(plane, "asked")


@pytest.mark.parametrize("change", [{"disabled": True}, {"role": "auditor"}])
def test_the_yes_of_an_account_that_may_not_give_it_any_more_is_none(plane: Plane, change: dict[str, object]) -> None:
    approved(plane, "asked", "pc-01")
    with plane.archive.engine.begin() as connection:
        connection.execute(sa.update(accounts).where(accounts.c.name == "chi").values(**change))
    with pytest.raises(PlayError, match="who no longer has that account or role"):
        carried_out(plane, "pc-01")
    assert not may_be_applied(plane, "asked")
