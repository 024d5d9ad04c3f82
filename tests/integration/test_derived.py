"""Derived facts on this very machine: a register adopted, a criterion proven from it, explained and handed over."""

import json
import shutil
import zipfile
from datetime import timedelta

import pytest

from controlplane.bootstrap import init_store
from controlplane.domain.model import Verdict
from controlplane.settings import Settings
from controlplane.store import verify
from tests.conftest import ROOT, Clock
from tests.integration.test_cli import emrctl
from tests.unit.test_archive import dump

SOFTWARE = "controlplane-01", "software.exceptions"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The program with its own copy of the inventory, so that registers can be filled in."""
    folder = tmp_path_factory.mktemp("home")
    for name in ("checks", "playbooks"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "inventory", folder / "inventory")
    return folder


def adopt(home, reviewed_on):
    path = home / "inventory" / "registers" / "software.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("reviewed_on: null", f'reviewed_on: "{reviewed_on}"'), encoding="utf-8")


@pytest.fixture(scope="module")
def walked(home, tmp_path_factory):
    clock = Clock()
    plane = init_store(Settings(home=home, data_dir=tmp_path_factory.mktemp("data"), round_every_minutes=0), clock)
    plane.make_round()
    before = plane.judgement()
    clock.pass_(hours=1)
    adopt(home, clock().date() - timedelta(days=3))
    plane.make_round()
    return plane, before


def verdict(judgement, check, asset):
    return next(f.verdict for f in judgement.findings if (f.check, f.asset) == (check, asset))


def test_an_adopted_register_moves_the_checks_that_rest_on_it(walked):
    plane, before = walked
    assert verdict(before, "software.compared", "controlplane-01") is Verdict.NOT_MET
    assert verdict(before, "software.only-approved", "controlplane-01") is Verdict.UNKNOWN
    after = plane.judgement()
    assert verdict(after, "software.compared", "controlplane-01") is Verdict.MET
    assert verdict(after, "software.only-approved", "controlplane-01") in (Verdict.MET, Verdict.NOT_MET)
    assert verdict(after, "software.register-reviewed", "site") is Verdict.MET
    assert verdict(after, "software.compared", "pc-01") is Verdict.UNKNOWN, "a silent machine proves nothing"


def test_the_explanation_goes_down_to_the_observations_it_was_derived_from(walked):
    plane, _ = walked
    proof = next(c for c in plane.explain("tcvn14423.sw.unauthorised").checks if c.check.id == "software.compared")
    found = next(f for f in proof.findings if f.finding.asset == "controlplane-01")
    document = json.loads(plane.archive.vault.get(found.observation.raw_digest))
    source = document["inputs"]["packages.list"]
    (input_,) = plane.archive.observations([source["observation"]]).values()
    assert (input_.asset, input_.fact, input_.value) == ("controlplane-01", "packages.list", source["value"])
    assert input_.seen_at == found.observation.seen_at
    said = emrctl(
        plane.settings.data_dir, "explain", "tcvn14423.sw.unauthorised", env={"EMRCTL_HOME": str(plane.settings.home)}
    )
    assert said.returncode == 0, said.stderr
    assert "software.exceptions" in said.stdout


def test_as_shipped_no_derived_check_is_met_that_asks_for_devices_nobody_can_see(walked):
    plane, before = walked
    derived = {c.id for c in plane.catalog.checks.values() if c.fact.startswith(("assets.", "watch.", "network.zones"))}
    met = {f.check for f in before.findings if f.check in derived and f.verdict is Verdict.MET}
    assert met == set()


def test_the_index_is_rebuilt_identically_and_the_bundle_holds_the_derived_bytes(walked, tmp_path):
    plane, _ = walked
    before, state = dump(plane.archive), plane.archive.state()
    plane.archive.reindex()
    assert dump(plane.archive) == before
    assert plane.archive.state(plane.clock()) == state
    bundle = tmp_path / "evidence.zip"
    plane.export_evidence(bundle)
    verify.verify(bundle, plane.key_fingerprint())
    names = zipfile.ZipFile(bundle).namelist()
    raw = {s.answer.raw_digest for (_, fact), s in state.items() if s.answer and fact == "software.exceptions"}
    assert raw
    assert all(f"objects/{digest}" in names for digest in raw)


def test_a_broken_register_is_said_and_the_round_goes_on(walked):
    plane, _ = walked
    path = plane.settings.home / "inventory" / "registers" / "ports.yaml"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole + "\nprots: []\n", encoding="utf-8")
    try:
        plane.clock.pass_(hours=1)
        assert plane.make_round().looks["answered"] == 1
        notes = [note for note in plane.overview().notes if note.code == "inventory_error"]
        assert "prots" in notes[0].figures["sentence"].vi
        seen = plane.archive.state()["controlplane-01", "ports.exceptions"]
        assert "ports.yaml" in seen.failure.detail
    finally:
        path.write_text(whole, encoding="utf-8")
