"""The private folder of one run: a copy of what is run, its settings, its sockets; it ends what a run left behind."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from controlplane.domain.model import Asset
from controlplane.plays.digests import commit_of, digest_of, inventory_digest, playbook_files
from controlplane.plays.listener import Listener
from controlplane.plays.orders import Order, scripts
from controlplane.plays.scrub import scrub

FETCHED = "files"  # in the private folder: what a play fetched from hosts for the evidence (emr_run_files)
FETCHED_BYTES, FETCHED_FILES = 1_000_000, 500
REST = "emrctl-rest.yml"  # what is left of a playbook that Ansible gave up half-way
SOCKET_PATH_CHARS = 70  # a Unix socket's path ends at 107 bytes, and ssh adds a name of up to 32 to the folder's


class Bench:
    """The private folder of one run: a copy of what is run, the settings, the sockets. Only its owner may look in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.project = path / "project"
        self.playbook_digest = self.inventory_digest = ""
        self.commit: str | None = None
        self._sockets = (path / "s").resolve()  # elsewhere when the path is too long for a socket, see lay_out
        self._marker = f"AWX_ISOLATED_DATA_DIR={path}".encode()

    def lay_out(self, order: Order) -> None:
        """Copy the playbooks (what is hashed is what runs) and write every setting to a file: nothing in argv."""
        self.path.mkdir(mode=0o700, parents=True)
        self.path.chmod(0o700)
        for name in ("project", "env", "tmp", "home", FETCHED):
            (self.path / name).mkdir(mode=0o700)
        self._copy(order.play.playbook.resolve().parent)
        self.inventory_digest = inventory_digest(order.inventory_files, order.given)
        self.commit = commit_of(order.play.playbook.resolve().parent)
        if len(os.fsencode(self._sockets)) > SOCKET_PATH_CHARS:
            self._sockets = Path(tempfile.mkdtemp(prefix="emrctl-"))  # 0700 by its making
            (self.path / "s").symlink_to(self._sockets)  # so that sweep finds it
        else:
            self._sockets.mkdir(mode=0o700)
        quiet = {"suppress_ansible_output": True, "suppress_output_file": True}
        self._write("env/settings", {"pexpect_timeout": 1, **quiet})
        self._write("env/extravars", self._extra_vars(order))
        self._write("hosts.json", {"all": {"hosts": {a.name: _play_login(a) for a in order.chosen}}})
        (self.path / "limit").write_text("".join(f"{a.name}\n" for a in order.chosen), encoding="utf-8")

    def _copy(self, source: Path) -> None:
        for name, path in playbook_files(source):
            (self.project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, self.project / name)
        (self.project / "ansible.cfg").touch()  # so that no configuration of the machine or of a user is read instead
        self.playbook_digest = digest_of([self.project])

    def _write(self, name: str, value: Any) -> None:
        (self.path / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")

    def _extra_vars(self, order: Order) -> dict[str, Any]:
        """Extra variables win over every inventory: no host may switch off the check of its own key."""
        default = str(order.known_hosts).replace("%", "%%")
        options = {
            "UserKnownHostsFile": f'"{{{{ emr_known_hosts | default({default!r}) }}}}"',
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "BatchMode": "yes",
            # A host that is switched off half-way says nothing: after half a minute of silence it is unreachable.
            "ServerAliveInterval": "10",
            "ServerAliveCountMax": "3",
        }
        words = ["-F", "/dev/null"]
        for name, value in options.items():
            words += ["-o", f"{name}={value}"]
        strict = shlex.join(words)
        return {
            "ansible_ssh_common_args": strict,
            "ansible_ssh_args": f"{strict} -C -o ControlMaster=auto -o ControlPersist=60s",
            "ansible_host_key_checking": True,
            "ansible_ssh_host_key_checking": True,
            "emr_run_files": str(self.path / FETCHED),
            **order.given,
            **({"emr_owed_handlers": order.owed} if order.owed else {}),
        }

    def left_over(self, plays_begun: int) -> list[str]:
        """The playbooks, as the play imports them, that come after the one in which Ansible gave up."""
        told = [note["plays"] for note in self.notes() if "plays" in note]
        files: list[str] = told[-1] if told else []
        after = dict.fromkeys(files[plays_begun:])
        return [name for name in after if name != files[plays_begun - 1] and (self.project / name).is_file()]

    def go_on_with(self, playbooks: Sequence[str], hosts: Iterable[str]) -> str:
        """Write a playbook of these and a limit of these hosts; its name."""
        steps = [{"name": name, "ansible.builtin.import_playbook": name} for name in playbooks]
        (self.project / REST).write_text(json.dumps(steps), encoding="utf-8")
        (self.path / "limit").write_text("".join(f"{name}\n" for name in hosts), encoding="utf-8")
        return REST

    def runner(self, order: Order, listener: Listener, playbook: str, seconds: float) -> Any:
        """A prepared runner. ``ansible_runner.run`` is not used: it would hand our whole environment down."""
        import ansible_runner  # noqa: PLC0415  # slow to load, and most verbs run no play

        own = self._environment(order)
        inherited = dict(os.environ)
        config = ansible_runner.RunnerConfig(
            private_data_dir=str(self.path),
            project_dir=str(self.project),
            ident="run" if playbook != REST else f"rest-{uuid.uuid4().hex[:8]}",
            playbook=str(self.project / playbook),
            inventory=[*map(str, order.inventory_files), str(self.path / "hosts.json")],
            limit=f"@{self.path / 'limit'}",
            cmdline=_options(order),
            forks=order.forks,
            timeout=max(1, int(seconds)),
            envvars=dict(own),
            fact_cache_type="memory",
            quiet=True,
        )
        config.prepare()
        config.env = {k: v for k, v in config.env.items() if k in own or inherited.get(k) != v}
        return ansible_runner.Runner(config, event_handler=listener.hear, cancel_callback=listener.wants_to_stop)

    def _environment(self, order: Order) -> dict[str, str]:
        environment = {
            "PATH": f"{scripts()}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.path / "home"),
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_CONFIG": str(self.project / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.path / "home"),
            "ANSIBLE_LOCAL_TEMP": str(self.path / "tmp"),
            "ANSIBLE_ROLES_PATH": str(self.project / "roles"),
            "ANSIBLE_HOST_KEY_CHECKING": "True",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self._sockets),
            "ANSIBLE_PIPELINING": "True",
            "ANSIBLE_TIMEOUT": str(order.connect_timeout_seconds),
            "ANSIBLE_NOCOLOR": "True",
            "ANSIBLE_NOCOWS": "True",
            "ANSIBLE_PYTHON_INTERPRETER": "auto_silent",
            "ANSIBLE_CALLBACK_PLUGINS": "",  # ours stand beside the playbook; the runner adds its own
            "ANSIBLE_STDOUT_CALLBACK": "",
            "EMR_TASK_TAGS_FILE": str(self.path / "tags"),
        }
        if order.vault_password_file:
            environment["ANSIBLE_VAULT_PASSWORD_FILE"] = str(order.vault_password_file.resolve())
        return environment

    def notes(self) -> list[dict[str, Any]]:
        """What callback_plugins/emr_task_tags.py noted; empty when the playbook's folder has no such plugin."""
        try:
            text = (self.path / "tags").read_text(encoding="utf-8")
            return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        except (OSError, ValueError):
            return []

    def fetched(self) -> dict[str, bytes]:
        """What the play fetched, HOST/NAME -> its text with secrets hidden by their shape; too much is left out."""
        folder = self.path / FETCHED
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        kept = {}
        for path in paths[:FETCHED_FILES]:
            if path.stat().st_size <= FETCHED_BYTES:
                text = path.read_bytes().decode("utf-8", "replace")
                kept[path.relative_to(folder).as_posix()] = str(scrub(text)).encode()
        return kept

    def end_leftovers(self) -> None:
        """End what this run left behind: workers after a cancel, and ssh connections kept open for the next task."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            until = time.monotonic() + 2
            while self._signal_leftovers(number) and time.monotonic() < until:
                time.sleep(0.1)

    def _signal_leftovers(self, number: signal.Signals) -> int:
        """Signal every process of this run and say how many there were. The descriptor keeps a reused id safe."""
        count = 0
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                descriptor = os.pidfd_open(int(entry.name))
            except OSError:
                continue
            try:
                if self._is_of_this_run(entry):
                    signal.pidfd_send_signal(descriptor, number)
                    count += 1
            except OSError:
                pass  # it has ended meanwhile, or is somebody else's
            finally:
                os.close(descriptor)
        return count

    def _is_of_this_run(self, process: Path) -> bool:
        """Whether it is an ansible-playbook or ssh of ours, by the private folder in its environment.

        A connection that ssh keeps open has written its socket's path over its environment: it is known by that.
        """
        words = (process / "cmdline").read_bytes().split(b"\0")
        if words[0].startswith(b"ssh: " + os.fsencode(self._sockets)):
            return True
        programs = {Path(os.fsdecode(word)).name for word in words[:3]}
        return bool(programs & {"ssh", "ansible-playbook"}) and self._marker in (process / "environ").read_bytes()

    def clear(self, *, keep: bool) -> None:
        self.end_leftovers()
        shutil.rmtree(self._sockets, ignore_errors=True)
        if not keep:
            shutil.rmtree(self.path, ignore_errors=True)


def _options(order: Order) -> str:
    words = ["--diff", *(["--check"] if order.mode == "preview" else [])]
    return " ".join([*words, *(["--tags", "all,owed"] if order.owed else [])])  # the role owed_handlers has that tag


def _play_login(asset: Asset) -> dict[str, str]:
    """The account and key of plays, apart from those of the read-only collectors."""
    login = {}
    if user := asset.access.get("emr_play_user"):
        login["ansible_user"] = str(user)
    if key := asset.access.get("emr_play_key_file"):
        login["ansible_ssh_private_key_file"] = str(key)
    return login
