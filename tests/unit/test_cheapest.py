"""The cheapest set: exact against brute force, honest where it is only bounded, and a word for what nobody can mend."""

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from controlplane.domain.chain import canonical
from controlplane.domain.cheapest import Goal, Offer, cheapest, next_goal, offers_for
from controlplane.domain.model import Verdict
from controlplane.domain.whatif import Buy, Confirm, Declare, Lose, Run, WhatIfError, what_if
from tests.conftest import a_check, a_criterion
from tests.unit.test_whatif import (
    CHECKS,
    FOUR,
    ITEMS,
    M,
    N,
    a_world,
    an_item,
    draft_world,
    losses,
    rows,
    rules,
    shipped_world,
    words,
)

ONE = Goal("law", "a", "1")


def proves(world, goal, actions):
    after = next(g.after for g in what_if(world, actions).groups if g.group == goal.group)
    ladder = world.catalog.frameworks[goal.framework].groups[0].levels
    return after.proven is not None and ladder.index(after.proven) >= ladder.index(goal.level)


def by_brute_force(world, goal, offers, given_, vnd_per_hour):
    """The least cost over every subset, judged by the whole route of what-if; None when none reaches the goal."""
    costs = []
    for size in range(len(offers) + 1):
        for some in combinations(offers, size):
            if proves(world, goal, [*given_, *(o.action for o in some)]):
                hours = sum(o.effort_hours for o in some)
                costs.append((sum(o.price_vnd for o in some) + hours * vnd_per_hour, hours, size))
    return min(costs, default=None)


offered = st.lists(
    st.one_of(
        st.builds(Buy, st.sampled_from([i["id"] for i in ITEMS]), st.integers(1, 3), st.integers(0, 9)),
        st.just(Run("mend")),
        st.sampled_from([Declare(("law.a.1",)), Declare(("law.a.3",)), Declare(("law.a.2", "law.a.3"))]),
    ).flatmap(lambda action: st.builds(Offer, st.just(action), st.integers(0, 3))),
    max_size=6,
)


@st.composite
def catalogs(draw):
    """Items and checks drawn freely: what mends what, what serves what, which criterion stands on which level."""
    some_checks = st.lists(st.sampled_from(["c0", "c1", "c2", "c3"]), min_size=1, max_size=3, unique=True)
    items = [
        an_item(i["id"], mends=draw(some_checks), assets_per_unit=draw(st.integers(1, 2)), brings=i.get("brings"))
        for i in ITEMS
    ]
    criteria = [c | {"levels": draw(st.lists(st.sampled_from("123"), min_size=1, unique=True))} for c in FOUR]
    ids = st.lists(st.sampled_from([c["id"] for c in FOUR]), max_size=2, unique=True)
    checks = []
    for i in range(4):
        serves = draw(ids)
        partly = [c for c in draw(ids) if c not in serves]
        remedy = {"remedy": "mend"} if draw(st.booleans()) else {}
        checks.append(a_check(f"c{i}", tuple(serves), partly=partly, **remedy))
    return items, criteria, checks


@settings(max_examples=200)
@given(catalogs(), rows, words, rules, losses, offered, st.sampled_from("123"), st.integers(0, 4))
def test_exact_is_what_brute_force_finds(drawn, table, said, rule, gone, offers, level, per_hour):
    items, criteria, checks = drawn
    table = {f"c{i}": row for i, row in enumerate(table)}
    world = a_world(table, items, criteria, checks, dict(said).items(), rule=rule)
    goal = Goal("law", "a", level)
    plan = cheapest(world, goal, offers, given=gone, vnd_per_hour=per_hour)
    least = by_brute_force(world, goal, offers, gone, per_hour)
    assert plan.exact
    assert plan.reached == (least is not None)
    if least is not None:
        assert (plan.cost_vnd, plan.effort_hours, len(plan.chosen)) == least
        assert proves(world, goal, [*gone, *(o.action for o in plan.chosen)])
        assert plan.lower_bound_vnd == plan.cost_vnd


@settings(max_examples=60)
@given(rows, offered, st.integers(0, 3))
def test_a_search_that_stops_says_so_and_its_bounds_hold(table, offers, looks):
    many = [*offers, *(Offer(Buy("one", 1, 50 + i)) for i in range(21 - min(len(offers), 20)))]
    world = a_world({f"c{i}": row for i, row in enumerate(table)}, ITEMS, FOUR, CHECKS)
    plan = cheapest(world, ONE, many, most_looks=looks)
    whole = cheapest(world, ONE, many, most_looks=10**6)
    assume(whole.exact)
    assert plan.reached == whole.reached
    if plan.reached:
        assert plan.lower_bound_vnd <= whole.cost_vnd <= plan.cost_vnd
        assert proves(world, ONE, [o.action for o in plan.chosen])
        assert whole.exact
        assert not plan.exact or plan.cost_vnd == whole.cost_vnd


def test_the_search_that_was_cut_short_is_not_called_exact():
    items = [an_item(f"i{a}{b}", mends=[f"c{a}", f"c{b}"]) for a in range(7) for b in range(a)]
    world = a_world({f"c{i}": [N] for i in range(7)}, items, [a_criterion(f"law.a.{i}", "1") for i in range(7)])
    offers = [Offer(Buy(i["id"], 1, 100 + n * n % 17)) for n, i in enumerate(items)]
    cut = cheapest(world, ONE, offers, most_looks=1)
    whole = cheapest(world, ONE, offers)
    assert (cut.exact, cut.reason.code, whole.exact) == (False, "between", True)
    assert 0 < cut.lower_bound_vnd <= whole.cost_vnd <= cut.cost_vnd


def test_the_cheapest_set_shares_what_serves_twice():
    items = [an_item("a"), an_item("b", mends=["c1"]), an_item("both", mends=["c0", "c1"])]
    criteria = [a_criterion("law.a.0", "1"), a_criterion("law.a.1", "1")]
    world = a_world({"c0": [N], "c1": [N]}, items, criteria)
    offers = [Offer(Buy("a", 1, 60)), Offer(Buy("b", 1, 60)), Offer(Buy("both", 1, 100))]
    plan = cheapest(world, ONE, offers)
    assert ([o.action.item for o in plan.chosen], plan.price_vnd, plan.exact) == (["both"], 100, True)
    dearer = cheapest(world, ONE, [*offers[:2], Offer(Buy("both", 1, 121))])
    assert dearer.price_vnd == 120


def test_the_bound_never_counts_more_than_the_cheapest_way():
    mends = {"big": ["c0", "c1", "c2"], "p": ["c0", "c1"], "q": ["c1", "c2"], "s": ["c3"], "t": ["c3"]}
    items = [an_item(name, mends=checks) for name, checks in mends.items()]
    world = a_world({f"c{i}": [N] for i in range(4)}, items, [a_criterion(f"law.a.{i}", "1") for i in range(4)])
    costs = {"big": 100, "p": 60, "q": 60, "s": 5, "t": 50}  # sparing the dearest first would end with 125
    plan = cheapest(world, ONE, [Offer(Buy(name, 1, cost)) for name, cost in costs.items()])
    assert ([o.action.item for o in plan.chosen], plan.cost_vnd) == (["big", "s"], 105)


def test_hours_have_the_price_the_hospital_gives_them():
    checks = [a_check("c0", ("law.a.0",), remedy="mend")]
    world = a_world({"c0": [N]}, [an_item()], checks=checks)
    offers = [Offer(Buy("disk", 1, 500)), Offer(Run("mend"), 8)]
    assert cheapest(world, ONE, offers).price_vnd == 0
    plan = cheapest(world, ONE, offers, vnd_per_hour=100)
    assert (plan.price_vnd, plan.effort_hours, plan.cost_vnd) == (500, 0, 500)


def test_a_level_that_is_proven_already_costs_nothing():
    plan = cheapest(a_world({"c0": [M]}, [an_item()]), ONE, [Offer(Buy("disk", 1, 5))])
    assert (plan.reached, plan.chosen, plan.cost_vnd) == (True, (), 0)


def test_what_nobody_can_mend_is_named():
    world = a_world({"c0": [N], "c1": [N]}, [an_item()], [a_criterion("law.a.0", "1"), a_criterion("law.a.1", "1")])
    plan = cheapest(world, ONE, [Offer(Buy("disk", 1, 5))])
    assert (plan.reached, [c.id for c in plan.missing], plan.reason.code) == (False, ["law.a.1"], "nobody_mends")


def test_an_open_list_is_reached_only_when_the_user_assumes_it_complete():
    world = draft_world(list_complete=False)
    two = Goal("law", "a", "2")
    assert cheapest(world, two, []).reason.code == "list_open"
    given_ = [Confirm("law", "a", ("law.a.2",), list_complete=True)]
    assert cheapest(world, two, [], given=given_).reached


def test_the_next_level_is_the_goal_when_none_is_named():
    assert next_goal(a_world({"c0": [M], "c1": [N]}), "law", "a") == Goal("law", "a", "2")
    assert next_goal(a_world({"c0": [M], "c1": [M], "c2": [M]}), "law", "a") is None
    assert next_goal(a_world({"c0": [M], "c1": [N]}), "law", "a", [Lose("sv-01")]) == ONE


def test_what_cannot_be_offered_is_refused():
    world = a_world({"c0": [M]}, [an_item()])
    for action in (Lose("sv-01"), Confirm("law", "a")):
        with pytest.raises(ValueError, match="is no offer"):
            cheapest(world, ONE, [Offer(action)])
    with pytest.raises(ValueError, match="less than nothing"):
        cheapest(world, ONE, [Offer(Buy("disk", 1, 1), -1)])
    with pytest.raises(WhatIfError, match="bad_price"):
        cheapest(world, ONE, [Offer(Buy("disk", 1, -1))])
    with pytest.raises(ValueError, match="no level 9"):
        cheapest(world, Goal("law", "a", "9"), [])


def test_offers_are_whatever_could_help_in_the_quantity_that_is_needed():
    checks = [
        a_check("c0", ("law.a.0",)),
        a_check("c1", (), partly=["law.a.1"], remedy="mend"),
        a_check("c2", ("law.a.2",)),
    ]
    criteria = [a_criterion(f"law.a.{i}", "1") for i in range(4)]
    items = [an_item(), an_item("house", per="hospital"), an_item("other", mends=["c2"]), an_item("unpriced")]
    world = a_world({"c0": [N, N, M], "c1": [N, M, M], "c2": [M, M, M]}, items, criteria, checks)
    offers = offers_for(world, ONE, {"disk": 10, "house": 50, "other": 1}, play_hours=2, document_hours=8)
    assert [o.action for o in offers] == [
        Buy("disk", 2, 10),
        Buy("house", 1, 50),
        Run("mend"),
        Declare(("law.a.1",)),
        Declare(("law.a.3",)),
    ]
    plan = cheapest(world, ONE, offers)
    assert (plan.price_vnd, plan.effort_hours, plan.reached) == (20, 18, True)


def test_the_same_question_has_the_same_answer_to_the_byte():
    items = [an_item("a"), an_item("b")]
    world = a_world({"c0": [N]}, items)
    offers = [Offer(Buy("a", 1, 5)), Offer(Buy("b", 1, 5))]
    assert canonical(cheapest(world, ONE, offers)) == canonical(cheapest(world, ONE, offers[::-1]))


def test_the_shipped_catalog_is_answered_and_names_what_no_offer_mends():
    world = shipped_world()
    goal = Goal("tcvn14423-2026", "system", "1")
    offers = offers_for(world, goal, dict.fromkeys(world.items, 1_000_000), document_hours=8)
    plan = cheapest(world, goal, offers)
    assert len(offers) > 20
    assert plan.exact
    assert plan.reached == (not plan.missing)
    everything = replace(world, findings=tuple(replace(f, verdict=Verdict.MET) for f in world.findings))
    whole = cheapest(everything, goal, offers_for(everything, goal, {}, document_hours=8))
    assert (whole.reached, whole.exact) == (True, True)
    assert proves(everything, goal, [o.action for o in whole.chosen])
