"""The route on this very machine: real facts and bytes, numbers traced, the index rebuilt, past days judged again."""

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.bootstrap import NoStoreError, Plane, init_store, open_plane
from controlplane.collect.facts import FACTS
from controlplane.collect.yaml_file import InventoryError
from controlplane.domain.chain import canonical, digest
from controlplane.domain.model import Outcome, Verdict
from controlplane.settings import Settings
from tests.conftest import NOON, ROOT, Clock
from tests.unit.test_archive import dump


def a_plane(folder: Path, clock: Clock | None = None, **options) -> Plane:
    return init_store(Settings(home=ROOT, data_dir=folder, round_every_minutes=0, **options), clock or Clock())


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    clock = Clock()
    plane = a_plane(tmp_path_factory.mktemp("data"), clock)
    kept = plane.make_round()
    return plane, kept, clock


def test_as_shipped_only_this_machine_is_looked_at(measured):
    plane, kept, _ = measured
    assert kept.looks == {"answered": 1, "no_address": 81}
    (look,) = plane.archive.looks_of(kept.id)
    assert (look["asset"], look["transport"]) == ("controlplane-01", "local")


def test_the_law_beside_the_criteria_is_loaded_from_its_files(measured):
    plane, _, _ = measured
    assert (plane.questionnaire.id, plane.duties.id) == ("level-nd331-2026", "duties-vn")


def test_a_text_without_levels_is_shown_and_decides_none(measured):
    plane, _, _ = measured
    groups = {(g.framework, g.group): g for g in plane.judgement().card.groups}
    shares = {key: g for key, g in groups.items() if g.reason.code == "share"}
    assert shares, sorted(groups)
    assert all(not g.determinable and g.proven is None and g.total for g in shares.values())


def test_the_facts_of_this_machine_are_real(measured):
    plane, _, _ = measured
    state = plane.archive.state()
    answered = {fact for (_, fact), seen in state.items() if seen.answer}
    assert len(answered) >= 40, sorted(set(FACTS) - answered)
    release = Path("/etc/os-release").read_text(encoding="utf-8")
    seen = state["controlplane-01", "os.release"].answer
    assert f'VERSION_ID="{seen.value["version"]}"' in release


def test_every_finding_is_explained_to_the_bytes_it_was_read_from(measured):
    plane, _, _ = measured
    j = plane.judgement()
    proven = 0
    for framework in j.catalog.frameworks.values():
        for criterion in framework.criteria:
            for check in plane.explain(criterion.id).checks:
                for found in check.findings:
                    if found.observation is None:
                        assert found.finding.verdict in (Verdict.UNKNOWN, Verdict.NOT_APPLICABLE)
                        continue
                    o = found.observation
                    assert (o.fact, o.asset) == (check.check.fact, found.finding.asset)
                    assert o.asked == FACTS[o.fact].ask
                    if o.raw_digest is not None and o.outcome is Outcome.ANSWERED:
                        raw = plane.archive.vault.get(o.raw_digest)
                        assert digest(raw) == o.raw_digest
                        again = FACTS[o.fact].reader(raw.decode("utf-8", "replace"))
                        assert canonical(again) == canonical(o.value)
                        proven += 1
    assert proven >= 30


def test_the_sealed_scorecard_equals_a_judgement_of_the_same_moment(measured):
    plane, kept, _ = measured
    card, findings = plane.archive.sealed(kept.id)
    j = plane.judgement()
    assert canonical(card) == canonical(j.card)
    assert canonical(findings) == canonical(j.findings)


def test_every_derived_table_is_rebuilt_identically(measured):
    plane, _, _ = measured
    before = dump(plane.archive)
    plane.archive.reindex()
    assert dump(plane.archive) == before


def test_a_draft_is_shown_and_decides_nothing_on_the_real_catalog(measured):
    plane, _, _ = measured
    j = plane.judgement()
    infra = next(g for g in j.card.groups if (g.framework, g.group) == ("tt54-2017", "infra"))
    assert (infra.determinable, infra.proven, infra.total) == (False, None, 0)
    assert infra.drafts == 17


def test_a_past_day_is_judged_by_the_evidence_and_the_rules_of_that_day(tmp_path):
    clock = Clock(NOON - timedelta(days=3))
    plane = a_plane(tmp_path / "data", clock)
    kept = plane.make_round()
    then = plane.judgement()
    clock.pass_(days=3)
    plane = open_plane(plane.settings, clock)
    late = plane.judgement()
    assert Verdict.STALE in {f.verdict for f in late.findings}
    day = (NOON - timedelta(days=3)).date()
    again = plane.judgement(day)
    assert again.round.id == kept.id
    assert {(f.check, f.asset): f.verdict for f in again.findings if f.verdict is Verdict.MET} == {
        (f.check, f.asset): f.verdict
        for f in then.findings
        if f.verdict is Verdict.MET and plane.catalog.checks[f.check].fresh_within > timedelta(hours=12)
    }
    before_all = plane.judgement(day - timedelta(days=1))
    assert before_all.round is None
    assert {f.verdict for f in before_all.findings} <= {Verdict.UNKNOWN, Verdict.NOT_APPLICABLE}


def test_a_host_without_a_route_is_a_failed_look_and_the_round_goes_on(tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(
        "all:\n  hosts:\n    sv-01:\n      ansible_host: 127.0.0.1\n      ansible_port: 1\n"
        "      ansible_user: nobody\n      emr_transports: [ssh]\n"
    )
    plane = a_plane(tmp_path / "data", inventory=[overlay])
    kept = plane.make_round()
    assert kept.looks["answered"] == 1
    assert kept.looks["no_address"] == 80
    (failed,) = [look for look in plane.archive.looks_of(kept.id) if look["asset"] == "sv-01"]
    assert failed["outcome"] != Outcome.ANSWERED
    assert failed["detail"]


def test_a_broken_inventory_leaves_the_last_good_one_in_force_and_says_so(tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("all:\n  hosts:\n    pc-01:\n      ansible_host: 127.0.0.2\n      emr_transports: []\n")
    plane = a_plane(tmp_path / "data", inventory=[overlay])
    plane.make_round()
    overlay.write_text("all:\n  hosts:\n    pc-01:\n      emr_knd: workstation\n")
    inventory, error = plane.inventory()
    assert (error.line, "emr_knd" in error.words.vi) == (4, True)
    assert inventory.assets["pc-01"].address == "127.0.0.2"
    assert [note.code for note in plane.overview().notes] == ["inventory_error"]


def test_an_unknown_host_in_a_narrow_round_is_refused_and_nothing_is_kept(tmp_path):
    plane = a_plane(tmp_path / "data")
    with pytest.raises(InventoryError, match="sv-01"):
        plane.make_round(["sv-1"])
    assert plane.archive.head() is None


def test_a_store_that_is_not_there_is_said(tmp_path):
    with pytest.raises(NoStoreError):
        open_plane(Settings(home=ROOT, data_dir=tmp_path / "none"))


def test_a_second_round_without_change_keeps_little(tmp_path):
    clock = Clock()
    plane = a_plane(tmp_path / "data", clock)
    first = plane.make_round()
    clock.pass_(hours=1)
    second = plane.make_round()
    bodies = {link.seq: json.loads(plane.archive.vault.get(link.digest)) for link in plane.archive.chain()}
    assert len(bodies[second.seq]["changed"]) < 0.2 * len(bodies[first.seq]["changed"])


def test_the_store_is_closed_to_others_and_the_process_keeps_its_umask(tmp_path):
    before = os.umask(0o022)
    try:
        plane = a_plane(tmp_path / "data")
        plane.make_round()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    data = plane.settings.data_dir
    assert data.stat().st_mode & 0o777 == 0o700
    for path in data.rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0, path.name
