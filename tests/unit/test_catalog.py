"""The catalogue holds together or is refused by name; the shipped one holds."""

import pytest

from controlplane.domain.catalog import CatalogError, catalog_body, catalog_from, make_catalog
from controlplane.domain.chain import canonical, digest
from tests.conftest import a_check, a_criterion, a_framework


def make(check=None, framework=None, **options):
    checks = {"c.yaml": {"checks": [check or a_check()]}}
    return make_catalog(checks, {"f.yaml": framework or a_framework(a_criterion())}, **options)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"expct": 1}, "c.yaml: server.disk: unknown key 'expct'; did you mean 'expect'?"),
        ({"expect": {"at_most": "85"}}, "at_most needs a number"),
        ({"expect": {"at_most": 85, "equals": 1}}, "exactly one of"),
        ({"expect": {"matches": "("}}, "not a regular expression"),
        ({"fresh_within": "2 days"}, "is not a span such as 30m, 26h or 7d"),
        ({"severity": "urgent"}, "severity must be one of"),
        ({"title": {"vi": "Một tiếng"}}, "needs both tongues"),
        ({"examples": {"met": [1]}}, "examples need at least one met and one not_met"),
        ({"fix": None}, "needs a remedy (a play) or fix (words)"),
        ({"if_absent": "met"}, "if_absent may only be not_applicable"),
        ({"serves": ["law.a.7"]}, "serves 'law.a.7', which no framework holds; did you mean 'law.a.1'?"),
        ({"serves": "law.a.1"}, "serves must be a list of text"),
        ({"id": ""}, "id must be text"),
    ],
)
def test_a_wrong_check_is_refused_by_name(change, sentence):
    with pytest.raises(CatalogError) as refused:
        make(a_check() | change)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("criterion", "sentence"),
    [
        ({"group": "b"}, "no group 'b'"),
        ({"levels": ["4"]}, "level '4' is not on the ladder 1, 2, 3"),
        ({"standing": "certain"}, "standing must be one of"),
        ({"standing": "draft"}, "a draft, or a criterion without a level, may not be scored"),
        ({"levels": []}, "a draft, or a criterion without a level, may not be scored"),
        ({"weight": 3}, "unknown key 'weight'"),
        ({"kind": "optional"}, "kind must be one of"),
    ],
)
def test_a_wrong_criterion_is_refused_by_name(criterion, sentence):
    with pytest.raises(CatalogError) as refused:
        make(framework=a_framework(a_criterion() | criterion))
    assert "law.a.1" in str(refused.value)
    assert sentence in str(refused.value)


def test_ids_stand_once():
    with pytest.raises(CatalogError, match="stands twice"):
        make(framework=a_framework(a_criterion(), a_criterion()))
    with pytest.raises(CatalogError, match="already stands elsewhere"):
        make_catalog({"c.yaml": {"checks": [a_check(), a_check()]}}, {"f.yaml": a_framework(a_criterion())})


def test_a_check_on_a_fact_or_play_that_is_not_there_is_refused_with_the_nearest_name():
    with pytest.raises(CatalogError, match=r"did you mean 'disk\.used_percents'"):
        make(facts=frozenset({"disk.used_percents"}))
    with pytest.raises(CatalogError, match="no play 'clean-disc'"):
        make(a_check() | {"remedy": "clean-disc"}, plays=frozenset({"clean-disk"}))


@pytest.mark.parametrize("document", [[], "text", {"check": []}, {"checks": {}}, {"checks": ["text"]}])
def test_a_file_of_another_shape_is_refused(document):
    with pytest.raises(CatalogError, match=r"c\.yaml"):
        make_catalog({"c.yaml": document}, {"f.yaml": a_framework(a_criterion())})


def test_a_target_off_the_ladder_is_refused():
    with pytest.raises(CatalogError, match="target '9' is not on the ladder"):
        make(targets={("law", "a"): ("9", "Tổ")})


def test_a_waiver_needs_a_known_check_and_a_day():
    waiver = {"check": "server.disc", "reason": "r", "approver": "a", "expires_on": "2026-01-01"}
    with pytest.raises(CatalogError, match=r"did you mean 'server\.disk'"):
        make(waiver_document={"waivers": [waiver]})
    with pytest.raises(CatalogError, match="is not a day"):
        make(waiver_document={"waivers": [waiver | {"check": "server.disk", "expires_on": "31/12/2026"}]})


def test_a_catalog_is_rebuilt_from_its_kept_body_with_the_same_digest():
    checks, frameworks = {"c.yaml": {"checks": [a_check()]}}, {"f.yaml": a_framework(a_criterion())}
    targets = {("law", "a"): ("2", "Tổ")}
    catalog = make_catalog(checks, frameworks, targets=targets)
    body = catalog_body(checks, frameworks, None, targets)
    assert digest(canonical(body)) == catalog.digest
    assert catalog_from(body) == catalog
