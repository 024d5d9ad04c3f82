"""The campaign plan as data: its dates, answerable units, targets and tasks, read strictly and with line numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from controlplane.collect.yaml_file import YamlFile, nearest
from controlplane.domain.overview import Campaign, Hospital, Milestone, Target, Task


def load_campaign(path: Path) -> Campaign:
    """The plan as data. Raises ``InventoryError`` with file and line for anything missing, unknown or contradictory."""
    file = YamlFile(path, path.parent.parent)
    raw = file.take(
        file.root,
        {
            "title": file.words,
            "plan": file.text,
            "starts_on": file.day,
            "ends_on": file.day,
            "hospital": lambda node: _hospital(file, node),
            "milestones": file.each(lambda node: (node, _milestone(file, node))),
            "targets": file.each(lambda node: (node, _target(file, node))),
            "tasks": file.each(lambda node: (node, _task(file, node))),
        },
        {"tasks": ()},
    )
    if raw["ends_on"] < raw["starts_on"]:
        raise file.error(file.root, "Chiến dịch kết thúc trước khi bắt đầu.", "The campaign ends before it starts.")
    ids = [milestone.id for _, milestone in raw["milestones"]]
    for index, (node, milestone) in enumerate(raw["milestones"]):
        if milestone.id in ids[:index]:
            raise file.error(
                node, f"Mốc “{milestone.id}” viết hai lần.", f"The milestone “{milestone.id}” stands twice."
            )
    _vet_targets(file, raw["targets"], ids)
    _vet_tasks(file, raw["tasks"], ids, {f"{t.framework}/{t.group}" for _, t in raw["targets"]})
    bare = {key: tuple(item for _, item in raw[key]) for key in ("milestones", "targets", "tasks")}
    return Campaign(**{**raw, **bare})


def _vet_targets(file: YamlFile, targets: Iterable[tuple[yaml.Node, Target]], milestones: Sequence[str]) -> None:
    aims: set[tuple[str, str]] = set()
    for node, target in targets:
        if target.milestone is not None and target.milestone not in milestones:
            near = nearest(target.milestone, milestones)
            raise file.error(
                node,
                f"Không có mốc “{target.milestone}”.{near.vi}",
                f"There is no milestone “{target.milestone}”.{near.en}",
            )
        if (target.framework, target.group) in aims:
            raise file.error(
                node, f"Nhóm {target.group} có hai mục tiêu.", f"The group {target.group} has two targets."
            )
        aims.add((target.framework, target.group))


def _vet_tasks(
    file: YamlFile, tasks: Iterable[tuple[yaml.Node, Task]], milestones: Sequence[str], targets: set[str]
) -> None:
    """Refuse a task that stands twice, hangs on nothing known or ends before it starts."""
    seen: set[str] = set()
    for node, task in tasks:
        if task.id in seen:
            raise file.error(node, f"Nhiệm vụ “{task.id}” viết hai lần.", f"The task “{task.id}” stands twice.")
        seen.add(task.id)
        if task.milestone is not None and task.milestone not in milestones:
            near = nearest(task.milestone, milestones)
            raise file.error(
                node,
                f"Không có mốc “{task.milestone}”.{near.vi}",
                f"There is no milestone “{task.milestone}”.{near.en}",
            )
        for aim in task.serves:
            if "/" in aim and aim not in targets:
                near = nearest(aim, targets)
                raise file.error(node, f"Không có mục tiêu “{aim}”.{near.vi}", f"There is no target “{aim}”.{near.en}")
        if (task.starts_on is None) != (task.due_on is None):
            raise file.error(
                node,
                "Nhiệm vụ phải có cả ngày bắt đầu và hạn, hoặc không có cả hai.",
                "A task has both a start and a due day, or neither.",
            )
        if task.starts_on is not None and task.due_on is not None and task.due_on < task.starts_on:
            raise file.error(node, "Hạn trước ngày bắt đầu.", "The task is due before it starts.")


def _hospital(file: YamlFile, node: yaml.Node) -> Hospital:
    form = {
        "name": file.words,
        "parent_body": file.words,
        "short_symbol": file.text,
        "place": file.text,
        "signer_title": file.words,
        "recipients": file.each(file.text),
        "archive_line": file.text,
        "staff": file.integer,
        "staff_source": file.text,
    }
    return Hospital(**file.take(node, form))


def _milestone(file: YamlFile, node: yaml.Node) -> Milestone:
    form = {
        "id": file.text,
        "title": file.words,
        "due_on": file.day,
        "owner": file.text,
        "source": file.text,
        "done_on": file.maybe_day,
    }
    return Milestone(**file.take(node, form, {"done_on": None}))


def _task(file: YamlFile, node: yaml.Node) -> Task:
    form = {
        "id": file.text,
        "title": file.words,
        "milestone": file.maybe_text,
        "owner": file.text,
        "serves": file.each(file.text),
        "starts_on": file.maybe_day,
        "due_on": file.maybe_day,
        "source": file.text,
        "done_on": file.maybe_day,
    }
    return Task(**file.take(node, form, {"done_on": None}))


def _target(file: YamlFile, node: yaml.Node) -> Target:
    form = {
        "framework": file.text,
        "group": file.text,
        "level": file.text,
        "owner": file.text,
        "milestone": file.maybe_text,
        "source": file.text,
    }
    return Target(**file.take(node, form))
