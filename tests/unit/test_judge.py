"""One check, one asset, one answer: the six words and their reasons."""

import dataclasses
from datetime import timedelta

import pytest

from controlplane.domain.judge import Seen, judge, test_value
from controlplane.domain.model import Outcome, Verdict
from tests.conftest import NOON, a_catalog, a_check, a_criterion, a_framework, an_asset, seen


def verdict_of(value, check=None, *, asset=None, at=NOON, failure=None, waivers=None, now=NOON):
    catalog = a_catalog([check or a_check()], a_framework(a_criterion()), waivers)
    asset = asset or an_asset()
    fact = next(iter(catalog.checks.values())).fact
    answer = seen(asset.name, fact, value, at) if value is not None else None
    (finding,) = judge(catalog, [asset], {(asset.name, fact): Seen(answer, failure)}, now)
    return finding


def test_a_figure_within_its_bound_is_met():
    finding = verdict_of(85)
    assert finding.verdict is Verdict.MET
    assert finding.raw_digest is not None
    assert finding.observation == 1


def test_a_figure_beyond_its_bound_is_not_met_and_says_by_what():
    finding = verdict_of(91)
    assert finding.verdict is Verdict.NOT_MET
    assert (finding.reason.code, finding.reason.figures["value"], finding.reason.figures["bound"]) == (
        "at_most",
        91,
        85,
    )


def test_an_old_answer_is_stale_and_not_failed():
    assert verdict_of(91, at=NOON - timedelta(hours=27)).verdict is Verdict.STALE


def test_an_answer_at_the_edge_of_its_freshness_still_counts():
    assert verdict_of(40, at=NOON - timedelta(hours=26)).verdict is Verdict.MET


def test_a_failed_look_does_not_erase_a_good_answer():
    failure = seen("sv-01", "disk.used_percent", None, NOON, Outcome.UNREACHABLE)
    assert verdict_of(40, at=NOON - timedelta(hours=2), failure=failure).verdict is Verdict.MET


def test_a_device_that_no_longer_gives_the_figure_is_unknown():
    failure = seen("sv-01", "disk.used_percent", None, NOON, Outcome.NOT_SUPPORTED)
    assert verdict_of(40, at=NOON - timedelta(hours=2), failure=failure).verdict is Verdict.UNKNOWN


def test_a_connection_cut_half_way_erases_nothing_but_unreadable_bytes_do():
    cut = seen("sv-01", "disk.used_percent", None, NOON, Outcome.GARBLED)
    assert verdict_of(40, at=NOON - timedelta(hours=2), failure=cut).verdict is Verdict.MET
    unreadable = dataclasses.replace(cut, raw_digest="0" * 64)
    assert verdict_of(40, at=NOON - timedelta(hours=2), failure=unreadable).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.ANSWERED])
def test_every_failed_look_without_an_answer_is_unknown_and_says_why(outcome):
    failure = seen("sv-01", "disk.used_percent", None, NOON, outcome)
    finding = verdict_of(None, failure=failure)
    assert (finding.verdict, finding.reason.code) == (Verdict.UNKNOWN, outcome)


def test_an_asset_without_an_address_is_unknown_for_that_reason():
    finding = verdict_of(None, asset=an_asset(address=None))
    assert (finding.verdict, finding.reason.code) == (Verdict.UNKNOWN, "no_address")


def test_a_hospital_without_servers_is_unknown_not_met():
    catalog = a_catalog([a_check()], a_framework(a_criterion()))
    (finding,) = judge(catalog, [an_asset(roles=("printers",))], {}, NOON)
    assert (finding.verdict, finding.reason.code) == (Verdict.UNKNOWN, "no_asset")


def test_no_bearer_is_not_applicable_only_where_the_check_says_so():
    catalog = a_catalog([a_check(if_absent="not_applicable")], a_framework(a_criterion()))
    (finding,) = judge(catalog, [], {}, NOON)
    assert finding.verdict is Verdict.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("expect", "value", "verdict"),
    [
        ({"equals": True}, True, Verdict.MET),
        ({"equals": True}, 1, Verdict.NOT_MET),
        ({"equals": 0}, False, Verdict.NOT_MET),
        ({"equals": "chrony"}, "chrony", Verdict.MET),
        ({"at_least": 2}, 2, Verdict.MET),
        ({"at_least": 2}, 1.9, Verdict.NOT_MET),
        ({"at_least": 2}, True, Verdict.UNKNOWN),
        ({"at_most": 2}, "two", Verdict.UNKNOWN),
        ({"one_of": ["prohibit-password", "no"]}, "no", Verdict.MET),
        ({"contains": "ntp"}, ["ntp", "ssh"], Verdict.MET),
        ({"contains": "ntp"}, [], Verdict.NOT_MET),
        ({"contains": "ntp"}, 5, Verdict.UNKNOWN),
        ({"matches": "^9\\."}, "9.2", Verdict.MET),
        ({"matches": "^9\\."}, 9, Verdict.UNKNOWN),
    ],
)
def test_each_test_of_expect(expect, value, verdict):
    assert verdict_of(value, a_check(expect=expect)).verdict is verdict


def test_of_a_list_of_rows_the_worst_one_decides_and_is_named():
    check = a_check(of="used_percent", examples={"met": [[]], "not_met": [[]]})
    rows = [
        {"mount": "/", "used_percent": 40},
        {"mount": "/var", "used_percent": 91},
        {"mount": "/srv", "used_percent": 99},
    ]
    finding = verdict_of(rows, check)
    assert finding.verdict is Verdict.NOT_MET
    assert finding.reason.figures["row"] == "/srv"


def test_an_empty_list_of_rows_is_unknown():
    assert verdict_of([], a_check(of="used_percent")).reason.code == "nothing_seen"


def test_a_missing_figure_is_unknown():
    assert verdict_of({"other": 1}, a_check(of="used_percent")).reason.code == "no_figure"


@pytest.mark.parametrize(("kind", "asked"), [("workstation", 1), ("server", 2), ("virtual_machine", 1), ("printer", 0)])
def test_a_machine_outside_the_group_that_is_measured_is_judged_as_not_measured(kind, asked):
    checks = [a_check("hosts", role="linux_hosts"), a_check("servers", role="linux_servers")]
    catalog = a_catalog(checks, a_framework(a_criterion()))
    measured = dataclasses.replace(an_asset("sv-01"), roles=("linux_hosts", "linux_servers"))
    outside = dataclasses.replace(an_asset("other"), kind=kind, roles=("others",))
    findings = judge(catalog, [measured, outside], {}, NOON)
    assert [f.verdict for f in findings if f.asset == "other"] == [Verdict.UNKNOWN] * asked
    assert len(findings) == 2 + asked


def test_a_waiver_in_force_turns_not_met_into_waived_and_names_its_approver():
    waiver = {
        "check": "server.disk",
        "asset": "sv-01",
        "reason": "chờ mua ổ",
        "approver": "Giám đốc",
        "expires_on": "2026-11-23",
    }
    finding = verdict_of(91, waivers={"waivers": [waiver]})
    assert finding.verdict is Verdict.WAIVED
    assert finding.reason.figures["approver"] == "Giám đốc"
    expired = {"waivers": [waiver | {"expires_on": "2026-11-22"}]}
    assert verdict_of(91, waivers=expired).verdict is Verdict.NOT_MET


def test_a_waiver_does_not_touch_what_is_merely_unknown():
    waiver = {"check": "server.disk", "reason": "r", "approver": "a", "expires_on": "2027-01-01"}
    assert verdict_of(None, waivers={"waivers": [waiver]}).verdict is Verdict.UNKNOWN


def test_test_value_is_not_collected_as_a_test():
    assert test_value.__test__ is False
