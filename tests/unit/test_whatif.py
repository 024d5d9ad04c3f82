"""What if: nothing is kept, nothing good is taken away by a good action, and every figure says what it assumes."""

import re
from dataclasses import replace
from itertools import permutations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from controlplane import texts
from controlplane.collect.inventory import load_inventory
from controlplane.domain.catalog import CatalogError
from controlplane.domain.chain import canonical
from controlplane.domain.declared import fact_of
from controlplane.domain.judge import Seen, judge
from controlplane.domain.market import load_items
from controlplane.domain.model import SITE, Declared, Finding, Reason, Verdict
from controlplane.domain.score import score
from controlplane.domain.whatif import (
    Buy,
    Confirm,
    Declare,
    Lose,
    Run,
    WhatIfError,
    World,
    imagine,
    reach_of,
    what_if,
)
from tests.conftest import NOON, ROOT, TODAY, a_catalog, a_check, a_criterion, a_framework, an_asset, seen
from tests.unit.test_shipped_checks import CATALOG, PLAYS

M, N, S, U, W, X = (
    Verdict.MET,
    Verdict.NOT_MET,
    Verdict.STALE,
    Verdict.UNKNOWN,
    Verdict.WAIVED,
    Verdict.NOT_APPLICABLE,
)
WORDS = {"vi": "Nói rõ", "en": "Said"}


def an_item(id_="disk", **changes):
    return {"id": id_, "title": WORDS, "unit": WORDS, "mends": ["c0"], "per": "asset", "assumption": WORDS} | changes


def a_world(verdicts, items=(), criteria=None, checks=None, words=(), roles=("servers",), **group):
    """Checks c0, c1 ... on as many assets as ``verdicts`` has columns: {check: [verdict of sv-01, of sv-02 ...]}."""
    checks = checks or [a_check(c, (f"law.a.{i}",)) for i, c in enumerate(verdicts)]
    criteria = criteria or [a_criterion(f"law.a.{i}", str(min(i + 1, 3))) for i in range(len(verdicts))]
    catalog = a_catalog(checks, a_framework(*criteria, **group))
    most = max((len(v) for v in verdicts.values()), default=0)
    assets = {n: an_asset(n, roles) for n in (f"sv-{i + 1:02}" for i in range(most))}
    findings = [
        Finding(check, name, verdict, Reason("test"))
        for check, row in verdicts.items()
        for name, verdict in zip(assets, row, strict=False)
    ]
    findings += [Finding(fact_of(c), SITE, v, Reason("declared", {"kind": "document"})) for c, v in words]
    shelf = load_items({"items": list(items)}, catalog)
    play_reach = {"mend": reach_of("servers", assets.values())}
    return World(catalog, tuple(findings), assets, TODAY, shelf, play_reach)


def pair(change):
    return (change.after.proven, change.after.possible)


# ------------------------------------------------------------------------------------------ one by one


def test_nothing_done_changes_nothing():
    world = a_world({"c0": [M, N], "c1": [U, U]}, [an_item()])
    result = what_if(world, [])
    assert (result.gained, result.lost, result.moved, result.confirmed, result.price_vnd) == ((), (), (), (), 0)
    assert result.assumptions == ()
    assert [g.after for g in result.groups] == [g.before for g in result.groups]
    assert canonical(score(world.catalog, imagine(world, []).findings, TODAY)) == canonical(world.card)


def test_a_purchase_mends_so_many_assets_as_there_are_units_and_says_what_it_assumes():
    world = a_world({"c0": [N, M, N]}, [an_item()])
    one = what_if(world, [Buy("disk", 1, 1_500_000)])
    assert pair(one.groups[0]) == (None, None)
    two = what_if(world, [Buy("disk", 2, 1_500_000)])
    assert pair(two.groups[0]) == ("1", "3")
    assert two.price_vnd == 3_000_000
    assert [(c.criterion, c.before, c.after, c.because) for c in two.gained] == [("law.a.0", N, M, ("buy disk",))]
    (assumed,) = two.assumptions
    assert (assumed.code, assumed.figures["quantity"], assumed.figures["sentence"].en) == ("assume_purchase", 2, "Said")


def test_one_unit_serves_one_asset_for_all_its_checks_and_not_two():
    world = a_world({"c0": [N, M], "c1": [M, N]}, [an_item(mends=["c0", "c1"])])
    assert {c.criterion for c in what_if(world, [Buy("disk", 1, 0)]).gained} == {"law.a.0"}
    assert {c.criterion for c in what_if(world, [Buy("disk", 2, 0)]).gained} == {"law.a.0", "law.a.1"}


def test_units_may_serve_several_assets_or_the_whole_hospital():
    world = a_world({"c0": [N, N, N]}, [an_item(assets_per_unit=2), an_item("all", per="hospital")])
    assert not what_if(world, [Buy("disk", 1, 0)]).gained
    assert what_if(world, [Buy("disk", 2, 0)]).gained
    assert what_if(world, [Buy("all", 1, 0)]).gained


def test_buying_none_of_a_thing_buys_nothing():
    world = a_world({"c0": [N]}, [an_item(per="hospital")])
    result = what_if(world, [Buy("disk", 0, 9)])
    assert (result.gained, result.price_vnd, result.assumptions) == ((), 0, ())


def test_a_new_device_serves_a_role_that_nobody_bears_and_a_part_does_not():
    findings = (Finding("c0", "", U, Reason("no_asset", {"role": "servers"})),)
    for brings, gained in ((None, 0), ("servers", 1)):
        world = replace(a_world({"c0": []}, [an_item(brings=brings)]), findings=findings)
        assert len(what_if(world, [Buy("disk", 1, 0)]).gained) == gained


def test_a_first_device_does_not_undo_a_word_that_the_criterion_does_not_apply():
    checks = [a_check("c0", ("law.a.0",)), a_check("c1", ("law.a.0",))]
    criteria = [a_criterion("law.a.0", "1", kind="conditional")]
    world = a_world({}, [an_item(brings="servers")], criteria, checks, [("law.a.0", X)])
    gone = tuple(Finding(c, "", U, Reason("no_asset", {"role": "servers"})) for c in ("c0", "c1"))
    world = replace(world, findings=(*world.findings, *gone))
    assert {c.id: c.verdict for c in world.card.criteria} == {"law.a.0": X}
    assert not what_if(world, [Buy("disk", 1, 0)]).lost


def test_acceptance_papers_are_a_word_about_a_criterion():
    criteria = [a_criterion("law.a.0", "1"), a_criterion("law.a.1", "1")]
    world = a_world({"c0": [M]}, [an_item(mends=[], papers=["law.a.1"], per="hospital")], criteria)
    result = what_if(world, [Buy("disk", 1, 10)])
    assert result.groups[0].after.proven == "1"
    assert [c.criterion for c in result.gained] == ["law.a.1"]


def test_a_play_mends_its_checks_on_the_hosts_it_can_reach_only():
    checks = [a_check("c0", ("law.a.0",), remedy="mend"), a_check("c1", ("law.a.1",))]
    world = a_world({"c0": [N, U], "c1": [N, N]}, checks=checks)
    result = what_if(world, [Run("mend")])
    assert [(c.criterion, c.because) for c in result.gained] == [("law.a.0", ("run mend",))]
    near = replace(world, reach={"mend": frozenset({"sv-01"})})
    assert not what_if(near, [Run("mend")]).gained
    assert [c.after for c in what_if(near, [Run("mend")]).moved] == [U]


def test_only_assets_with_an_address_are_in_reach():
    assets = [an_asset("a"), an_asset("b", address=None), an_asset("c", ("printers",))]
    assert reach_of("servers", assets) == {"a"}
    assert reach_of("all", assets) == {"a", "c"}


def test_a_loss_takes_evidence_away_and_leaves_what_is_bad():
    world = a_world({"c0": [M, M], "c1": [N, M]})
    result = what_if(world, [Lose("sv-01")])
    assert pair(result.groups[0]) == (None, "1")
    assert world.card.groups[0].proven == "1"
    assert [(c.criterion, c.before, c.after) for c in result.lost] == [("law.a.0", M, U)]
    assert imagine(world, [Lose("sv-01")]).touched == {("c0", "sv-01"): "lose sv-01"}


def test_a_lost_asset_is_replaced_by_a_new_device_of_its_role_and_by_nothing_else():
    items = [an_item(), an_item("new", brings="servers")]
    world = a_world({"c0": [M]}, items)
    assert what_if(world, [Lose("sv-01"), Buy("disk", 5, 0)]).lost
    assert not what_if(world, [Lose("sv-01"), Buy("new", 1, 0)]).lost
    played = a_world({"c0": [M]}, checks=[a_check("c0", ("law.a.0",), remedy="mend")])
    assert what_if(played, [Lose("sv-01"), Run("mend")]).lost


def test_a_word_completes_what_checks_prove_in_part_and_never_stands_in_for_them():
    checks = [a_check("c0", (), partly=["law.a.0"]), a_check("c1", ("law.a.1",))]
    world = a_world({"c0": [M], "c1": [U]}, checks=checks)
    assert [c.criterion for c in what_if(world, [Declare(("law.a.0", "law.a.1"))]).gained] == ["law.a.0"]


def draft_world(**group):
    criteria = [
        a_criterion("law.a.0", "1"),
        a_criterion("law.a.1", "1", standing="draft", scored=False, confidence="recalled"),
        a_criterion("law.a.2", levels=[], draft_levels=["2"], standing="draft", scored=False, confidence="recalled"),
        a_criterion("law.a.3", levels=[], standing="draft", scored=False, confidence="recalled"),
    ]
    return a_world({"c0": [M], "c1": [N], "c2": [M], "c3": [M]}, criteria=criteria, **group)


def test_confirmed_drafts_are_scored_and_the_shipped_law_stays_as_it_is():
    world = draft_world()
    before = canonical(world.card)
    result = what_if(world, [Confirm("law", "a")])
    assert result.confirmed == ("law.a.1", "law.a.2")
    assert (result.groups[0].before.proven, result.groups[0].after.proven) == ("1", None)
    assert result.assumptions[0].figures | {"count": 2, "without_level": 1} == result.assumptions[0].figures
    assert canonical(score(world.catalog, world.findings, TODAY)) == before
    assert imagine(world, [Confirm("law", "a")]).catalog.digest != world.catalog.digest


def test_single_drafts_may_be_confirmed_and_one_without_a_level_may_not():
    world = draft_world()
    assert what_if(world, [Confirm("law", "a", ("law.a.2",))]).groups[0].after.proven == "2"
    with pytest.raises(WhatIfError, match="not_to_confirm"):
        what_if(world, [Confirm("law", "a", ("law.a.3",))])


def test_the_users_word_that_a_list_is_complete_lets_a_level_be_proven_and_is_said():
    world = draft_world(list_complete=False)
    assert what_if(world, [Confirm("law", "a", ("law.a.2",))]).groups[0].after.proven is None
    result = what_if(world, [Confirm("law", "a", ("law.a.2",), list_complete=True)])
    assert result.groups[0].after.proven == "2"
    assert [r.code for r in result.assumptions] == ["assume_confirmed", "assume_list"]


def test_what_is_missing_for_the_next_level():
    world = a_world({"c0": [M], "c1": [N], "c2": [U]})
    ahead = what_if(world, []).groups[0].ahead
    assert (ahead.level, [c.id for c in ahead.missing], ahead.list_open) == ("2", ["law.a.1"], False)
    open_ = what_if(a_world({"c0": [M], "c1": [N]}, list_complete=False), []).groups[0].ahead
    assert (open_.level, [c.id for c in open_.missing], open_.list_open) == ("2", ["law.a.1"], True)
    assert what_if(a_world({"c0": [M], "c1": [M], "c2": [M]}), []).groups[0].ahead.level is None
    exceptions = what_if(a_world({"c0": [X]}), []).groups[0].ahead
    assert (exceptions.missing, exceptions.none_met) == ((), True)


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (Buy("dsk", 1, 0), "unknown_item"),
        (Buy("disk", -1, 0), "bad_quantity"),
        (Buy("disk", True, 0), "bad_quantity"),
        (Buy("disk", 1, -5), "bad_price"),
        (Run("mnd"), "unknown_play"),
        (Lose("sv-99"), "unknown_asset"),
        (Declare(()), "no_criterion"),
        (Declare(("law.a.9",)), "unknown_criterion"),
        (Declare(("law.a.0",), Declared.NOT_APPLICABLE), "bad_kind"),
        (Confirm("law", "b"), "unknown_group"),
        (Confirm("law", "a", ("law.a.0",)), "not_to_confirm"),
    ],
)
def test_an_action_that_means_nothing_is_refused(action, code):
    with pytest.raises(WhatIfError) as caught:
        what_if(a_world({"c0": [M]}, [an_item()]), [action])
    assert caught.value.reason.code == code


def test_an_attestation_is_refused_where_only_a_document_proves():
    world = a_world({}, criteria=[a_criterion(automatable="document")], checks=[])
    with pytest.raises(WhatIfError, match="document_needed"):
        what_if(world, [Declare(("law.a.1",), Declared.ATTESTATION)])


# ------------------------------------------------------------------------------------------ properties

ITEMS = [
    an_item("one", mends=["c0", "c1"]),
    an_item("two", mends=["c1", "c2"], assets_per_unit=2),
    an_item("house", mends=["c2"], papers=["law.a.3"], per="hospital"),
    an_item("new", mends=["c0", "c1"], brings="servers"),
]
CHECKS = [
    a_check("c0", ("law.a.0",), remedy="mend"),
    a_check("c1", ("law.a.1",)),
    a_check("c2", ("law.a.2",), partly=["law.a.1"]),
    a_check("c3", (), partly=["law.a.3"], remedy="mend"),
]
FOUR = [a_criterion(f"law.a.{i}", level, kind="conditional") for i, level in enumerate("1123")]
GOOD = [
    Buy("one", 1, 7),
    Buy("one", 2, 7),
    Buy("two", 1, 5),
    Buy("house", 1, 9),
    Buy("new", 1, 3),
    Run("mend"),
    Declare(("law.a.3",)),
    Declare(("law.a.1", "law.a.2"), Declared.ATTESTATION),
]
BAD = [Lose("sv-01"), Lose("sv-03")]
verdicts = st.sampled_from([M, N, S, U, W])
rows = st.lists(st.lists(verdicts, min_size=3, max_size=3), min_size=4, max_size=4)
words = st.lists(st.tuples(st.sampled_from([c["id"] for c in FOUR]), st.sampled_from([M, S, U, X])), max_size=3)
some = st.lists(st.sampled_from(GOOD), max_size=4)
losses = st.lists(st.sampled_from(BAD), max_size=2, unique=True)
rules = st.sampled_from(["cumulative", "own_set"])


def imagined_world(table, said, rule="cumulative", empty=()):
    world = a_world({f"c{i}": row for i, row in enumerate(table)}, ITEMS, FOUR, CHECKS, dict(said).items(), rule=rule)
    gone = tuple(Finding(f"c{i}", "", U, Reason("no_asset", {"role": "servers"})) for i in empty)
    return replace(world, findings=tuple(f for f in world.findings if f.check not in {g.check for g in gone}) + gone)


def levels(world, actions):
    then = imagine(world, actions)
    group = score(then.catalog, then.findings, TODAY).groups[0]
    return (group.proven or "0", group.possible or "0")


def standing(world, actions):
    then = imagine(world, actions)
    return {c.id for c in score(then.catalog, then.findings, TODAY).criteria if c.verdict in (M, X)}


empties = st.sets(st.integers(0, 3), max_size=2)


@given(rows, words, rules, empties, losses, some, st.sampled_from(GOOD))
def test_a_good_action_never_lowers_a_level_and_takes_no_criterion_away(table, said, rule, empty, gone, done, more):
    world = imagined_world(table, said, rule, sorted(empty))
    without, with_ = [*gone, *done], [*gone, *done, more]
    assert all(a <= b for a, b in zip(levels(world, without), levels(world, with_), strict=True))
    assert standing(world, without) <= standing(world, with_)


@given(rows, words, rules, some, losses, st.sampled_from(BAD))
def test_a_loss_never_raises_a_level(table, said, rule, done, gone, more):
    world = imagined_world(table, said, rule)
    assert all(a >= b for a, b in zip(levels(world, gone), levels(world, [*gone, more]), strict=True))
    lost = imagine(world, [*gone, more])
    before = {(f.check, f.asset): f.verdict for f in imagine(world, gone).findings}
    assert all(f.verdict in (before[f.check, f.asset], U) for f in lost.findings)


@given(rows, words, some, losses)
def test_the_order_of_actions_does_not_matter(table, said, done, gone):
    world = imagined_world(table, said)
    actions = [*done, *gone]
    answers = {canonical(what_if(world, order)) for order in list(permutations(actions))[:24]}
    assert len(answers) == 1


@given(rows, some)
def test_prices_add_up(table, done):
    paid = sum(a.quantity * a.unit_price_vnd for a in done if isinstance(a, Buy))
    assert what_if(imagined_world(table, ()), done).price_vnd == paid


@given(rows, st.booleans())
def test_confirming_and_then_not_is_as_if_it_never_was(table, whole):
    criteria = [*FOUR[:2], *({**c, "standing": "draft", "scored": False, "confidence": "recalled"} for c in FOUR[2:])]
    world = a_world({f"c{i}": row for i, row in enumerate(table)}, ITEMS, criteria, CHECKS)
    before = canonical(what_if(world, []))
    assert what_if(world, [Confirm("law", "a", list_complete=whole)]).confirmed == ("law.a.2", "law.a.3")
    assert canonical(what_if(world, [])) == before


# ------------------------------------------------------------------------------------------ as shipped

ITEMS_FILE = ROOT / "checks" / "market" / "items.yaml"


def shipped_world():
    assets = load_inventory([ROOT / "inventory" / "hosts.yaml"], ROOT).assets
    state = {
        (a.name, check.fact): Seen(seen(a.name, check.fact, check.examples["met"][0]))
        for check in CATALOG.checks.values()
        for a in assets.values()
        if check.role in a.roles
    }
    findings = judge(CATALOG, assets.values(), state, NOON)
    items = load_items(yaml.safe_load(ITEMS_FILE.read_text(encoding="utf-8")), CATALOG)
    plays = {p.id: reach_of(p.hosts, assets.values()) for p in PLAYS.values()}
    return World(CATALOG, findings, assets, TODAY, items, plays)


def test_the_shipped_items_mend_checks_that_exist_and_hold_no_price():
    world = shipped_world()
    assert len(world.items) >= 15
    text = ITEMS_FILE.read_text(encoding="utf-8")
    assert not [key for key in ("price", "giá:", "vnd") if key in text.lower().split("items:", 1)[1]]
    for item in world.items.values():
        assert item.assumption.vi != item.assumption.en


def test_the_shipped_catalog_and_the_whole_inventory_are_answered():
    world = shipped_world()
    assert len(world.assets) >= 76
    assert world.card.groups
    actions = [Buy("ups", 2, 1), Run("time-ssh"), Lose("sv-01"), Confirm("tt54-2017", "infra", list_complete=True)]
    result = what_if(world, actions)
    assert result.price_vnd == 2
    assert all("lose sv-01" in c.because for c in result.lost)
    assert result.lost
    assert [r.code for r in result.assumptions].count("assume_purchase") == 1


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"mends": ["c00"]}, "no check 'c00'; did you mean 'c0'"),
        ({"papers": ["law.a.00"]}, "no criterion 'law.a.00'; did you mean"),
        ({"mends": []}, "mends no check"),
        ({"brings": "printers"}, "brings 'printers'"),
        ({"per": "room"}, "per must be one of"),
        ({"assets_per_unit": 0}, "assets_per_unit must be"),
        ({"per": "hospital", "assets_per_unit": 2}, "assets_per_unit is for"),
        ({"price": 5}, "unknown key 'price'"),
        ({"assumption": {"vi": "Chỉ một"}}, "both tongues"),
    ],
)
def test_an_item_that_does_not_hold_together_is_refused_by_name(changes, word):
    with pytest.raises(CatalogError, match="disk") as caught:
        a_world({"c0": [M]}, [an_item(**changes)])
    assert word in str(caught.value)


def test_an_item_stands_once():
    with pytest.raises(CatalogError, match="stands twice"):
        a_world({"c0": [M]}, [an_item(), an_item()])


def test_every_code_has_a_sentence_in_both_tongues():
    source = "".join(
        (ROOT / "controlplane" / "domain" / name).read_text(encoding="utf-8") for name in ("whatif.py", "cheapest.py")
    )
    codes = set(re.findall(r'(?:Reason|WhatIfError)\("(\w+)"', source)) | set(re.findall(r'else "(\w+)"', source))
    codes |= {"bad_quantity", "bad_price", "cheapest", "no_levels"}
    for lang in ("vi", "en"):
        known = texts.words(lang)
        for code in codes:
            where = "reason" if code.startswith("imagined_") else "whatif"
            assert f"{where}.{code}" in known, code
