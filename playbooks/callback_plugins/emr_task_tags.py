"""Ansible callback: notes the tags of every started task in one file, for the evidence of a run; it prints nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: emr_task_tags
type: aggregate
short_description: Notes which criteria each task serves
description:
  - Appends one JSON line for each started task (its tags, and the handlers that a change of it notifies) to the file
    named by E(EMR_TASK_TAGS_FILE), one for each change made under C(no_log), without its content, and one with the
    files of all plays of the playbook.
  - Does nothing when the variable is not set, so that a run by hand stays as it is.
requirements:
  - enabled through C(callbacks_enabled)
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """What the runner's own events lack: a task's tags and handlers, a change under no_log, the plays."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "emr_task_tags"
    CALLBACK_NEEDS_ENABLED = True

    def _note(self, **values: Any) -> None:
        if target := os.environ.get("EMR_TASK_TAGS_FILE"):
            with Path(target).open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Which plays there are to come, by their files: Ansible may give up before the last of them."""
        self._note(plays=[Path(str(play.get_path()).rpartition(":")[0]).name for play in playbook.get_plays()])

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        written = [task.notify] if isinstance(task.notify, str) else task.notify or ()
        # Only of roles: the name of a handler of the play itself does not say which play has it.
        names = [f"{task._role.get_name()} : {name}" for name in written if task._role and "{{" not in name]
        told = {"notify": names} if names else {}
        self._note(task_uuid=str(task._uuid), tags=sorted({str(tag) for tag in task.tags}), **told)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self.v2_playbook_on_task_start(task, is_conditional=False)

    def v2_runner_on_ok(self, result: Any) -> None:
        """The runner drops a whole result under no_log, and with it whether anything changed."""
        if result._result.get("_ansible_no_log") and result._result.get("changed"):
            self._note(task_uuid=str(result._task._uuid), host=result._host.get_name(), changed=True)
