"""Dashboards and rules hold together with what is exported: every name and every label in them is real."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from controlplane.bootstrap import Plane, init_store
from controlplane.domain.model import Outcome, Verdict
from controlplane.settings import Settings
from controlplane.web.metrics import registry_for

HOME = Path(__file__).resolve().parents[2]
RULES = HOME / "dashboards" / "prometheus" / "emr-rules.yaml"
BOARDS = sorted((HOME / "dashboards" / "grafana").glob("*.json"))
NAME = re.compile(r"\bemr[_:][a-z_:]+")
SELECTOR = re.compile(r"\b(emr_[a-z_]+)\{([^}]*)\}")


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Plane:
    plane = init_store(Settings(home=HOME, data_dir=tmp_path_factory.mktemp("metrics")))
    plane.make_round(["controlplane-01"])
    plane.archive.open_run("r1", plane.clock(), "time-ssh", "apply", ["controlplane-01"])
    plane.archive.close_run("r1", plane.clock(), "failed", {})
    return plane


@pytest.fixture(scope="module")
def exported(plane: Plane) -> dict[str, set[str]]:
    """Sample name -> its labels, as a scrape sees them."""
    from prometheus_client.exposition import generate_latest  # noqa: PLC0415  # the same text that is served

    text = generate_latest(registry_for(plane)).decode()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        found.setdefault(family.name, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for board in BOARDS:
        for panel in json.loads(board.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{board.name}: {panel['title']}", target["expr"]


def test_every_name_in_rules_and_dashboards_is_exported_or_recorded(exported: dict[str, set[str]]) -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = {name for _, expression in expressions() for name in NAME.findall(expression)}
    assert len(used) > 15
    assert used - recorded <= set(exported)


def test_every_label_a_rule_selects_by_is_there(exported: dict[str, set[str]]) -> None:
    for where, expression in expressions():
        for name, selector in SELECTOR.findall(expression):
            for label in re.findall(r"(\w+)\s*[=!]~?", selector):
                assert label in exported[name], (where, name, label)


def test_every_word_a_rule_selects_by_is_a_word_of_the_house() -> None:
    for where, expression in expressions():
        for state in re.findall(r'state="(\w+)"', expression):
            assert state in set(Verdict), where
        for outcome in re.findall(r'outcome="(\w+)"', expression):
            assert outcome in set(Outcome), where


def test_rules_are_whole_and_named_once() -> None:
    names = [rule.get("alert") or rule["record"] for rule in rules()]
    assert len(names) == len(set(names))
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len(alerts) >= 12
    for alert in alerts:
        assert alert["labels"]["severity"] in ("critical", "warning", "info")
        assert " / " in alert["annotations"]["summary"], "both tongues"
        assert alert["annotations"]["description"]


def test_dashboards_can_be_imported_anywhere() -> None:
    uids = []
    for path in BOARDS:
        board = json.loads(path.read_text())
        uids.append(board["uid"])
        assert [v["name"] for v in board["templating"]["list"]] == ["datasource"]
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        for panel in board["panels"]:
            assert panel["title"]
            assert panel["datasource"]["uid"] == "${datasource}"
            refs = [target["refId"] for target in panel["targets"]]
            assert len(refs) == len(set(refs)), panel["title"]
            assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    assert sorted(uids) == ["emr-director", "emr-engineer"]


def test_levels_are_places_on_the_ladder_and_absent_when_unknown(plane: Plane) -> None:
    found = {
        (sample.labels["framework"], sample.labels["group"]): sample.value
        for family in registry_for(plane).collect()
        if family.name == "emr_readiness_level"
        for sample in family.samples
    }
    for view in plane.overview().groups:
        key = (view.framework, view.group)
        if not view.score.determinable:
            assert key not in found
        elif view.score.proven is None:
            assert found[key] == 0
        else:
            assert view.levels[int(found[key]) - 1] == view.score.proven


def test_the_number_of_series_stays_small(plane: Plane) -> None:
    assert sum(len(family.samples) for family in registry_for(plane).collect()) < 5000


def test_two_planes_share_no_registry(plane: Plane) -> None:
    assert registry_for(plane) is not registry_for(plane)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian package prometheus)")
def test_promtool_accepts_the_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
