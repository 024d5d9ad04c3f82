"""Previews a play or applies it through ansible-runner, and says host by host and task by task what happened.

It refuses a limit that names no host, a playbook that does not hold together, a host key that is not known, and to
keep a secret in what it hands back.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
import unicodedata
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Required, TypedDict, Unpack

import ansible_runner

from controlplane.domain.model import Asset, Words

log = logging.getLogger(__name__)

Event = Mapping[str, Any]
"""One event of the runner, as kept: scrubbed, without the facts of the hosts."""

MODES = ("preview", "apply")
STATES = ("successful", "failed", "unreachable", "cancelled", "timeout")
DIFF_CHARS = 20_000  # of each side of a difference; the whole of it stays on the host
MESSAGE_CHARS = 2_000
SOCKET_PATH_CHARS = 70  # a Unix socket's path ends at 107 bytes, and ssh adds a name of up to 32 to the folder's
NO_ADDRESS = Words("bỏ qua: chưa có địa chỉ", "skipped: no address yet")


class PlayError(Exception):
    """A play that may not or cannot run; nothing was changed on any host. ``words`` says why, in both tongues."""

    def __init__(self, vi: str, en: str) -> None:
        super().__init__(en)
        self.words = Words(vi, en)


# --------------------------------------------------------------------------------------- what may be run


@dataclass(frozen=True)
class Play:
    """One entry of playbooks/plays.yaml. The checks it mends are those that name it as their remedy."""

    id: str
    playbook: Path
    title: Words
    summary: Words
    hosts: str  # the inventory group it is meant for, or "all"
    disruptive: bool = False  # it interrupts somebody's work
    approval: str = "none"  # "none", or the role that has to approve before an apply


_KEYS = frozenset({"id", "playbook", "title", "summary", "hosts", "disruptive", "approval"})


def load_plays(document: Any, folder: Path) -> Mapping[str, Play]:
    """Plays by id, in the order of the file. ``document`` is the parsed plays.yaml, ``folder`` holds the playbooks.

    Raises PlayError naming the entry: unknown or missing key, double id, a title in one tongue, a missing playbook.
    """
    entries = document.get("plays") if isinstance(document, dict) and set(document) == {"plays"} else None
    if not isinstance(entries, list) or not entries:
        raise PlayError(
            "plays.yaml phải có đúng một khóa `plays` là một danh sách không rỗng.",
            "plays.yaml must hold exactly one key, `plays`, with a list that is not empty.",
        )
    plays: dict[str, Play] = {}
    for number, entry in enumerate(entries, start=1):
        name = str(entry.get("id", f"#{number}")) if isinstance(entry, dict) else f"#{number}"
        problem = _entry_problem(entry, folder)
        if not problem and name in plays:
            problem = "the id stands twice"
        if problem:
            raise PlayError(
                f"plays.yaml, mục {name}: không hợp lệ ({problem}).", f"plays.yaml, entry {name}: {problem}."
            )
        plays[name] = Play(
            id=name,
            playbook=folder / entry["playbook"],
            title=Words(**entry["title"]),
            summary=Words(**entry["summary"]),
            hosts=entry["hosts"],
            disruptive=entry["disruptive"],
            approval=entry["approval"],
        )
    return plays


def _entry_problem(entry: Any, folder: Path) -> str:
    """What is wrong with one entry, in one English clause; empty when nothing is."""
    if not isinstance(entry, dict):
        return "it is not a mapping"
    if unknown := sorted(str(key) for key in set(entry) - _KEYS):
        return f"unknown key {', '.join(unknown)}"
    if missing := sorted(_KEYS - set(entry)):
        return f"missing key {', '.join(missing)}"
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", str(entry["id"])):
        return "the id must be lower-case words joined by hyphens"
    for key in ("title", "summary"):
        words = entry[key]
        both = isinstance(words, dict) and set(words) == {"vi", "en"}
        if not both or not all(isinstance(text, str) and text.strip() for text in words.values()):
            return f"{key} must be given in vi and in en"
    if not isinstance(entry["disruptive"], bool):
        return "disruptive must be true or false"
    for key in ("hosts", "approval"):
        if not re.fullmatch(r"[a-z0-9_]+", str(entry[key])):
            return f"{key} must be one lower-case name"
    playbook = str(entry["playbook"])
    if "/" in playbook or not playbook.endswith(".yml"):
        return "playbook must be the name of a .yml file beside plays.yaml"
    return "" if (folder / playbook).is_file() else f"there is no playbook {playbook}"


# ------------------------------------------------------------------------------------------ what happened


@dataclass(frozen=True)
class Diff:
    """One file or object before and after a task, cut to DIFF_CHARS a side."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class TaskResult:
    """One task on one host."""

    host: str
    task: str
    action: str
    status: str  # ok changed would_change failed unreachable skipped
    tags: tuple[str, ...] = ()  # the criteria it serves
    diff: tuple[Diff, ...] = ()
    message: str = ""
    ignored: bool = False  # it failed, and the playbook says to go on


@dataclass(frozen=True)
class HostRecap:
    """How many tasks of a host ended how. In a preview, ``changed`` counts what an apply would change."""

    ok: int = 0
    changed: int = 0
    failed: int = 0
    unreachable: int = 0
    skipped: int = 0
    rescued: int = 0  # failed, and the playbook had a way back


@dataclass(frozen=True)
class PlayRun:
    """One run of a play, ready to be kept as evidence: it holds no secret."""

    id: str
    play: str
    mode: str  # preview | apply
    state: str  # successful | failed | unreachable | cancelled | timeout
    started_at: datetime
    ended_at: datetime
    recap: Mapping[str, HostRecap]
    left_out: Mapping[str, Words]  # hosts of the limit that the run did not visit, and why
    tasks: tuple[TaskResult, ...]
    playbook_digest: str  # SHA-256 over the playbooks and roles as run, see digest_of
    inventory_digest: str  # the same over the inventory files and the variables beside them
    commit: str | None  # of the Git checkout the playbook lies in; None when there is none
    versions: Mapping[str, str]
    detail: str = ""  # one English sentence for the engineer when the state is not successful
    events_raw: bytes = field(default=b"", repr=False)  # one canonical JSON document a line, for the vault

    def document(self) -> dict[str, Any]:
        """The run without its events as JSON-able values; times in ISO 8601, UTC."""
        values = asdict(self)
        del values["events_raw"]
        for key in ("started_at", "ended_at"):
            values[key] = getattr(self, key).isoformat()
        values["events_digest"] = hashlib.sha256(self.events_raw).hexdigest()
        return values


# ------------------------------------------------------------------------------------------------ running


@dataclass(frozen=True)
class _Order:
    """Everything one run was asked for."""

    play: Play
    mode: str
    inventory_files: tuple[Path, ...]
    chosen: tuple[Asset, ...]
    left_out: Mapping[str, Words]
    known_hosts: Path
    on_event: Callable[[Event], None] | None = None
    cancelled: Callable[[], bool] | None = None
    forks: int = 10
    connect_timeout_seconds: int = 10
    timeout_seconds: int = 1800
    vault_password_file: Path | None = None
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    keep: bool = False


class RunSettings(TypedDict, total=False):
    """Keyword settings of ``preview`` and ``apply``; the first two are compulsory."""

    hosts: Required[Iterable[Asset]]  # every asset the limit may mean
    known_hosts: Required[Path]  # OpenSSH's file, unless a host names its own (emr_known_hosts); else no conversation
    on_event: Callable[[Event], None]  # called as events come, from the run's thread; its errors are only logged
    cancelled: Callable[[], bool]  # asked about once a second
    forks: int  # hosts at a time, 10
    connect_timeout_seconds: int  # 10
    timeout_seconds: int  # of the whole run, 1800
    vault_password_file: Path
    clock: Callable[[], datetime]
    keep: bool  # leave the private folder for a look by hand, False


def preview(
    play: Play,
    inventory_files: Sequence[Path],
    hosts_limit: Sequence[str],
    run_dir: Path,
    **settings: Unpack[RunSettings],
) -> PlayRun:
    """What an apply would change, with differences; no host is changed. Arguments and errors as for ``apply``."""
    return _run("preview", play, inventory_files, hosts_limit, run_dir, settings)


def apply(
    play: Play,
    inventory_files: Sequence[Path],
    hosts_limit: Sequence[str],
    run_dir: Path,
    **settings: Unpack[RunSettings],
) -> PlayRun:
    """Carry a play out on the hosts of the limit (host names or groups) and say what happened.

    ``run_dir`` holds a private folder while it lasts. Raises PlayError when nothing could be started; once a task
    was begun there is always a PlayRun.
    """
    return _run("apply", play, inventory_files, hosts_limit, run_dir, settings)


def _run(
    mode: str,
    play: Play,
    inventory_files: Sequence[Path],
    hosts_limit: Sequence[str],
    run_dir: Path,
    settings: RunSettings,
) -> PlayRun:
    chosen, left_out = _choose(play, hosts_limit, tuple(settings["hosts"]))
    order = _Order(
        play=play,
        mode=mode,
        inventory_files=tuple(Path(path).resolve() for path in inventory_files),
        chosen=chosen,
        left_out=left_out,
        known_hosts=settings["known_hosts"].resolve(),
        **{key: value for key, value in settings.items() if key not in {"hosts", "known_hosts"}},  # type: ignore[arg-type]
    )
    _refuse_missing_files(order)
    started_at = order.clock()
    run_id = f"{started_at:%Y%m%dT%H%M%SZ}-{play.id}-{uuid.uuid4().hex[:8]}"
    bench = _Bench(run_dir.resolve() / run_id)
    try:
        bench.lay_out(order)
        return _carry_out(order, bench, run_id, started_at)
    except OSError as error:
        raise PlayError(
            f"Không chuẩn bị được thư mục riêng cho lần chạy: {error.strerror}.",
            f"The private folder of the run could not be made ready: {error.strerror}.",
        ) from error
    finally:
        bench.clear(keep=order.keep)


def sweep(run_dir: Path) -> tuple[str, ...]:
    """End what a killed control plane left under way in ``run_dir``, remove it, and name the interrupted runs.

    For the start of the one process that runs plays: a run that is still somebody's would be ended too.
    """
    left = sorted(path for path in run_dir.iterdir() if path.is_dir()) if run_dir.is_dir() else []
    for path in left:
        _Bench(path.resolve()).clear(keep=False)
    return tuple(path.name for path in left)


def _carry_out(order: _Order, bench: _Bench, run_id: str, started_at: datetime) -> PlayRun:
    """From a laid-out bench to a PlayRun; PlayError when not one task was begun."""
    listener = Listener(order.mode, bench.path, order.on_event, order.cancelled)
    runner = bench.runner(order, listener)
    broken = ""
    try:
        runner.run()
    except Exception as error:  # the runner's own trouble: what was done until then is still told
        log.exception("ansible-runner broke off run %s", run_id)
        broken = f"ansible-runner broke off: {type(error).__name__}"
    bench.end_leftovers()
    listener.add_notes(bench.notes())
    ended = bool(runner.canceled or runner.timed_out)
    if not listener.begun and not ended:
        raise _not_started(listener, broken)
    recap = listener.recap()
    state = _state(runner, recap, broken)
    missed = {asset.name: _UNMATCHED for asset in order.chosen if asset.name not in recap} if not ended else {}
    return PlayRun(
        id=run_id,
        play=order.play.id,
        mode=order.mode,
        state=state,
        started_at=started_at,
        ended_at=order.clock(),
        recap=recap,
        left_out={**order.left_out, **missed},
        tasks=tuple(listener.tasks),
        playbook_digest=bench.playbook_digest,
        inventory_digest=bench.inventory_digest,
        commit=bench.commit,
        versions=_versions(),
        detail=broken or listener.detail(state),
        events_raw=bytes(listener.raw),
    )


_UNMATCHED = Words(
    "bỏ qua: kho thiết bị của Ansible không xếp máy này vào nhóm của kịch bản",
    "skipped: the inventory does not put this host into the play's group",
)


def _state(runner: Any, recap: Mapping[str, HostRecap], broken: str) -> str:
    if runner.canceled:
        return "cancelled"
    if runner.timed_out:
        return "timeout"
    if broken or any(host.failed for host in recap.values()):
        return "failed"
    if any(host.unreachable for host in recap.values()):
        return "unreachable"
    return "successful" if runner.rc == 0 else "failed"


def _not_started(listener: Listener, broken: str) -> PlayError:
    """Ansible ended before its first task: say what it said."""
    said = listener.said()
    if listener.no_hosts or "no hosts to target" in said:
        return PlayError(
            "Không có máy nào trong giới hạn thuộc nhóm của kịch bản, nên không chạy gì.",
            "No host of the limit belongs to the play's group, so nothing was run.",
        )
    reason = said or broken or "it gave no reason"
    return PlayError(
        f"Ansible không bắt đầu được kịch bản, chưa máy nào bị thay đổi. Ansible báo: {reason}",
        f"Ansible could not start the playbook and no host was changed. It said: {reason}",
    )


# ------------------------------------------------------------------------------------------- whom to visit


def _choose(play: Play, limit: Sequence[str], hosts: Sequence[Asset]) -> tuple[tuple[Asset, ...], dict[str, Words]]:
    """The hosts to visit, and those of the limit that are left out with the reason.

    The limit is resolved here and handed to Ansible as plain names, so no pattern of Ansible's can widen it.
    """
    terms = [term.strip() for term in (limit.split(",") if isinstance(limit, str) else limit) if term.strip()]
    if not terms:
        raise PlayError(
            "Phải nêu rõ máy hoặc nhóm máy sẽ chạy; giới hạn rỗng bị từ chối.",
            "Name the hosts or groups to run on; an empty limit is refused.",
        )
    wanted: dict[str, Asset] = {}
    for term in terms:
        named = [asset for asset in hosts if term == asset.name or term in asset.roles or term == "all"]
        if not named:
            raise PlayError(
                f"Không có máy hay nhóm máy nào tên là {term!r} trong kho thiết bị.",
                f"No host or group of the inventory is called {term!r}.",
            )
        wanted.update((asset.name, asset) for asset in named)
    left_out: dict[str, Words] = {}
    for asset in wanted.values():
        if reason := _why_left_out(play, asset):
            left_out[asset.name] = reason
    chosen = tuple(asset for asset in wanted.values() if asset.name not in left_out)
    if not chosen:
        names = "; ".join(f"{name}: {words.en}" for name, words in sorted(left_out.items()))
        raise PlayError(
            f"Không còn máy nào để chạy: {'; '.join(f'{n}: {w.vi}' for n, w in sorted(left_out.items()))}.",
            f"No host is left to run on: {names}.",
        )
    return chosen, left_out


def _why_left_out(play: Play, asset: Asset) -> Words | None:
    if play.hosts != "all" and play.hosts not in asset.roles:
        return Words(f"bỏ qua: không thuộc nhóm {play.hosts}", f"skipped: not in the group {play.hosts}")
    connection = _connection(asset)
    if connection not in {"ssh", "local"}:
        return Words(f"bỏ qua: chưa hỗ trợ kết nối {connection}", f"skipped: connection {connection} is not supported")
    return NO_ADDRESS if asset.address is None and connection != "local" else None


def _connection(asset: Asset) -> str:
    """ssh, local, or whatever else the inventory names; only those two are bound to the list of known hosts."""
    named = str(asset.access.get("ansible_connection", "ssh")).removeprefix("ansible.builtin.")
    return "ssh" if named == "smart" else named


def _refuse_missing_files(order: _Order) -> None:
    needed = [order.play.playbook, *order.inventory_files]
    over_ssh = [asset for asset in order.chosen if _connection(asset) == "ssh"]
    needed += sorted({Path(asset.access.get("emr_known_hosts", order.known_hosts)) for asset in over_ssh})
    if order.vault_password_file:
        needed.append(order.vault_password_file)
    for path in needed:
        if not path.exists():
            raise PlayError(
                f"Thiếu tệp {path.name} mà kịch bản {order.play.id} cần.",
                f"The file {path.name} that the play {order.play.id} needs is missing.",
            )
    if not order.inventory_files:
        raise PlayError("Chưa nêu tệp kho thiết bị nào.", "No inventory file was given.")
    if not (_scripts() / "ansible-playbook").is_file():
        raise PlayError(
            "Chưa cài ansible-core cạnh chương trình này, nên không chạy được kịch bản.",
            "ansible-core is not installed beside this program, so no play can run.",
        )


def _scripts() -> Path:
    """The folder of this Python's programs; inside a virtual environment, that one's."""
    return Path(sys.executable).parent


# --------------------------------------------------------------------------------------- the private folder

_FOLDERS = (
    "roles",
    "callback_plugins",
    "filter_plugins",
    "library",
    "module_utils",
    "group_vars",
    "host_vars",
    "tasks",
    "templates",
    "files",
    "vars",
)


class _Bench:
    """The private folder of one run: a copy of what is run, the settings, the sockets. Only its owner may look in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.project = path / "project"
        self.playbook_digest = self.inventory_digest = ""
        self.commit: str | None = None
        self._sockets = (path / "s").resolve()  # elsewhere when the path is too long for a socket, see lay_out
        self._marker = f"AWX_ISOLATED_DATA_DIR={path}".encode()

    def lay_out(self, order: _Order) -> None:
        """Copy the playbooks (what is hashed is what runs) and write every setting to a file: nothing in argv."""
        self.path.mkdir(mode=0o700, parents=True)
        self.path.chmod(0o700)
        for name in ("project", "env", "tmp", "home"):
            (self.path / name).mkdir(mode=0o700)
        self._copy(order.play.playbook.resolve().parent)
        self.inventory_digest = _inventory_digest(order.inventory_files)
        self.commit = _commit_of(order.play.playbook.resolve().parent)
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
        for path in sorted(source.iterdir()):
            if path.is_file() and path.suffix in {".yml", ".cfg"}:
                shutil.copy(path, self.project / path.name)
        for name in _FOLDERS:
            if (source / name).is_dir():
                skip = shutil.ignore_patterns("__pycache__", "*.pyc")
                shutil.copytree(source / name, self.project / name, ignore=skip)
        (self.project / "ansible.cfg").touch()  # so that no configuration of the machine or of a user is read instead
        self.playbook_digest = digest_of([self.project])

    def _write(self, name: str, value: Any) -> None:
        (self.path / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")

    def _extra_vars(self, order: _Order) -> dict[str, Any]:
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
        }

    def runner(self, order: _Order, listener: Listener) -> Any:
        """A prepared runner. ``ansible_runner.run`` is not used: it would hand our whole environment down."""
        own = self._environment(order)
        inherited = dict(os.environ)
        config = ansible_runner.RunnerConfig(
            private_data_dir=str(self.path),
            project_dir=str(self.project),
            ident="run",
            playbook=str(self.project / order.play.playbook.name),
            inventory=[*map(str, order.inventory_files), str(self.path / "hosts.json")],
            limit=f"@{self.path / 'limit'}",
            cmdline="--diff --check" if order.mode == "preview" else "--diff",
            forks=order.forks,
            timeout=order.timeout_seconds,
            envvars=dict(own),
            fact_cache_type="memory",
            quiet=True,
        )
        config.prepare()
        config.env = {k: v for k, v in config.env.items() if k in own or inherited.get(k) != v}
        return ansible_runner.Runner(config, event_handler=listener.hear, cancel_callback=listener.wants_to_stop)

    def _environment(self, order: _Order) -> dict[str, str]:
        environment = {
            "PATH": f"{_scripts()}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
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
            return [json.loads(line) for line in (self.path / "tags").read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError):
            return []

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


def _play_login(asset: Asset) -> dict[str, str]:
    """The account and key of plays, apart from those of the read-only collectors."""
    login = {}
    if user := asset.access.get("emr_play_user"):
        login["ansible_user"] = str(user)
    if key := asset.access.get("emr_play_key_file"):
        login["ansible_ssh_private_key_file"] = str(key)
    return login


# ------------------------------------------------------------------------------------------------ listening

_ENDINGS = {
    "runner_on_ok": "ok",
    "runner_on_failed": "failed",
    "runner_on_unreachable": "unreachable",
    "runner_on_skipped": "skipped",
}
_SPOKEN = {"error", "warning", "system_warning", "verbose"}


class Listener:
    """Takes the runner's events as they come. Nothing that goes wrong in here may end the run."""

    def __init__(
        self,
        mode: str,
        private: Path,
        on_event: Callable[[Event], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self.tasks: list[TaskResult] = []
        self.raw = bytearray()
        self.begun = False  # a task was begun on a host, so something may have been changed
        self.no_hosts = False
        self._mode = mode
        self._private = os.fsencode(private)  # a path that says nothing and differs each time
        self._on_event = on_event
        self._cancelled = cancelled
        self._under_way: dict[tuple[str, str], str] = {}
        self._task_uuids: list[str] = []
        self._stats: dict[str, Any] = {}
        self._warned = False
        self._spoken: list[str] = []

    def hear(self, event: dict[str, Any]) -> bool:
        """The runner's event handler; False, so that no event is written to the disk unscrubbed."""
        try:
            kept = _keepable(event)
            if kept is None:
                return False
            line = canonical_line(kept).replace(self._private, b"run:")
            kept = json.loads(line)
            self.raw += line
            self._take(kept)
        except Exception:
            log.exception("an event of a play could not be read")
            return False
        if self._on_event is not None:
            try:
                self._on_event(kept)
            except Exception:
                if not self._warned:
                    log.exception("the listener of a play's events failed; the run goes on")
                self._warned = True
        return False

    def wants_to_stop(self) -> bool:
        """The runner's cancel callback; a question that fails is not a wish to stop."""
        try:
            return bool(self._cancelled and self._cancelled())
        except Exception:
            log.exception("asking whether a play is cancelled failed")
            return False

    def _take(self, event: Event) -> None:
        kind = event["event"]
        data = event.get("event_data", {})
        where = (str(data.get("host", "")), str(data.get("task_uuid", "")))
        if kind == "runner_on_start":
            self.begun = True
            self._under_way[where] = f"{where[0]}: {data.get('task', '')}"
        elif kind in _ENDINGS:
            self._under_way.pop(where, None)
            self.tasks.append(_task_result(kind, data, self._mode))
            self._task_uuids.append(where[1])
        elif kind == "playbook_on_stats":
            self._stats = data
        elif kind == "playbook_on_no_hosts_matched":
            self.no_hosts = True
        if kind in _SPOKEN and event.get("stdout"):
            self._spoken.append(event["stdout"])

    def add_notes(self, notes: Iterable[Mapping[str, Any]]) -> None:
        """Give every task its tags, and the word changed to one whose result was hidden by no_log."""
        tags: dict[str, tuple[str, ...]] = {}
        changed: set[tuple[str, str]] = set()
        for note in notes:
            if "tags" in note:
                tags[note["task_uuid"]] = tuple(note["tags"])
            else:
                changed.add((note["host"], note["task_uuid"]))
        word = _changed_word(self._mode)
        for number, (task, task_uuid) in enumerate(zip(self.tasks, self._task_uuids, strict=True)):
            status = word if (task.host, task_uuid) in changed and task.status == "ok" else task.status
            self.tasks[number] = replace(task, tags=tags.get(task_uuid, ()), status=status)

    def said(self) -> str:
        """What Ansible said outside of tasks, errors first, in one bounded text."""
        errors = [line for line in self._spoken if "ERROR" in line]
        return _bounded(" ".join(" ".join(errors or self._spoken).split()), MESSAGE_CHARS)

    def recap(self) -> dict[str, HostRecap]:
        """Ansible's own figures; counted from the tasks, a rescued failure as a failure, when the run was cut short."""
        names = {"failed": "failures", "unreachable": "dark"}
        if self._stats:
            hosts = self._stats.get("processed", {})
            return {
                host: HostRecap(
                    **{f.name: self._stats.get(names.get(f.name, f.name), {}).get(host, 0) for f in fields(HostRecap)}
                )
                for host in sorted(hosts)
            }
        counts: dict[str, Counter[str]] = {}
        for task in self.tasks:
            word = "ok" if task.ignored else task.status.replace("would_change", "changed")
            counts.setdefault(task.host, Counter())[word] += 1
            if word == "changed":
                counts[task.host]["ok"] += 1  # as Ansible counts
        return {host: HostRecap(**counts[host]) for host in sorted(counts)}

    def detail(self, state: str) -> str:
        """Why the run is not successful: the last failure, or what Ansible said."""
        if state == "successful":
            return ""
        if state in {"cancelled", "timeout"}:
            open_tasks = "; ".join(sorted(self._under_way.values())) or "none"
            return f"cut off; tasks under way, which the host may still bring to an end: {open_tasks}"
        for task in reversed(self.tasks):
            if task.status in {"failed", "unreachable"} and not task.ignored:
                return f"{task.host}: {task.task}: {task.message}"
        return self.said()


def _keepable(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """The event without secrets, without hosts' facts and without the text that repeats the result; None if empty."""
    kind = event.get("event")
    if not kind or kind == "EOF":
        return None
    kept = {key: value for key, value in event.items() if key not in {"runner_ident", "pid"}}
    if str(kind).startswith("runner_"):
        kept.pop("stdout", None)  # the result stands in event_data, in a form that can be scrubbed by name
    elif not kept.get("stdout") and kind == "verbose":
        return None
    data = dict(kept.get("event_data") or {})
    result = data.get("res")
    if isinstance(result, dict) and isinstance(result.get("ansible_facts"), dict):
        data["res"] = {**result, "ansible_facts": f"{len(result['ansible_facts'])} facts left out"}
    kept["event_data"] = data
    scrubbed: dict[str, Any] = scrub(kept)
    return scrubbed


def _changed_word(mode: str) -> str:
    return "would_change" if mode == "preview" else "changed"


def _task_result(kind: str, data: Mapping[str, Any], mode: str) -> TaskResult:
    found = data.get("res")
    result = found if isinstance(found, dict) else {}
    status = _ENDINGS[kind]
    if status == "ok" and result.get("changed"):
        status = _changed_word(mode)
    return TaskResult(
        host=str(data.get("host", "")),
        task=str(data.get("task", "")),
        action=str(data.get("resolved_action") or data.get("task_action", "")),
        status=status,
        diff=tuple(_diffs(result)),
        message=_message(result),
        ignored=bool(data.get("ignore_errors")),
    )


def _diffs(result: Mapping[str, Any]) -> Iterator[Diff]:
    """The differences of a result and of each turn of its loop."""
    turns = result.get("results")
    for part in [result, *(turn for turn in (turns if isinstance(turns, list) else ()) if isinstance(turn, dict))]:
        found = part.get("diff")
        for diff in found if isinstance(found, list) else [found]:
            if not isinstance(diff, dict) or diff.get("before") == diff.get("after"):
                continue
            before, after = (_bounded(_text(diff.get(side)), DIFF_CHARS) for side in ("before", "after"))
            yield Diff(_diff_name(part, diff), before, after)


def _diff_name(result: Mapping[str, Any], diff: Mapping[str, Any]) -> str:
    """The file or object that differs. A new file's own header names only Ansible's temporary source."""
    arguments = (result.get("invocation") or {}).get("module_args") or {}
    places = (*(part.get(key) for part in (result, arguments) for key in ("dest", "path")), diff.get("before_header"))
    return next((str(place) for place in places if place), str(diff.get("after_header") or ""))


def _message(result: Mapping[str, Any]) -> str:
    """The sentence of a result: its own, or that of the first turn of its loop that failed."""
    turns = result.get("results")
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict) and turn.get("failed"):
            return _message(turn)
    parts = [result.get(key) for key in ("msg", "reason", "censored", "skip_reason")]
    said = next((_text(part) for part in parts if part), "")
    if result.get("failed") or result.get("rc"):
        said = " ".join(part for part in (said, _text(result.get("stderr") or "").strip()) if part)
    return _bounded(said, MESSAGE_CHARS)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True, indent=1)


def _bounded(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}\n[{len(text) - limit} characters more were left out]"


def canonical_line(event: Event) -> bytes:
    """One event as a line of JSON: sorted keys, no spaces, NFC, UTF-8."""
    text = json.dumps(event, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return unicodedata.normalize("NFC", text).encode("utf-8", "replace") + b"\n"


# ------------------------------------------------------------------------------------------------ redaction

HIDDEN = "[hidden]"
_TELLING = (
    r"passw(?:or)?d|passphrase|secret|token|credential|community"
    r"|(?:api|auth|priv|private|access)_?key"
)
_SECRET_NAME = re.compile(rf"(?i)(?:{_TELLING}|(?:^|_)pass$)")
_HARMLESS_NAME = re.compile(
    r"(?i)authentication|_(?:file|files|path|age|days|length|lock|policy|expire[sd]?)$|^update_"
)
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?(?:-----END \1-----|\Z)", re.DOTALL)
_VAULT = re.compile(r"\$ANSIBLE_VAULT;[^\n]*(?:\n\s*[0-9a-f]{16,})*")
_IN_TEXT = (  # every repetition is bounded, or starts at a rare word: a megabyte of anything is read in linear time
    re.compile(  # name: value, name = "value", NAME=value, "name": "value"
        rf"(?i)(?P<keep>(?:{_TELLING}|(?<![a-z])pass(?![a-z]))(?!\w{{0,40}}authentication)"
        r"[\w.-]{0,60}[\"']?[ \t]{0,40}[:=][ \t]{0,40})"
        r"(?P<hide>\"[^\"\n]{0,4096}\"?|'[^'\n]{0,4096}'?|[^\s\"',;}\]][^\n\"',;}\]]*)"
    ),
    re.compile(r"(?im)(?P<keep>^[ \t+-]{0,40}(?:ro|rw)community6?[ \t]+)(?P<hide>\S+)"),  # snmpd.conf
    re.compile(r"(?im)(?P<keep>^[ \t+-]{0,40}(?:createUser|usmUser)[ \t]+\S+[ \t]+)(?P<hide>.+)$"),
    re.compile(r"(?i)(?P<keep>\b[a-z][a-z0-9+.-]{0,20}://[^\s/:@]{0,256}:)(?P<hide>[^\s/@]{1,256})(?=@)"),  # in a URL
    re.compile(r"(?i)(?P<keep>\b(?:bearer|basic)[ \t]+)(?P<hide>[A-Za-z0-9._~+/=-]{8,})"),
    re.compile(
        r"(?P<keep>)(?P<hide>\$(?:[1256y]|2[aby]|7|gy|argon2\w{0,4})\$[^\s:\"']{8,})"
    ),  # a hash as in /etc/shadow
)


def scrub(value: Any) -> Any:
    """The same value with secrets hidden: values under a telling name, and in texts private keys, vaults, passwords.

    It knows shapes, not secrets: one that stands in free text under no name passes. So tasks that handle one say
    ``no_log: true``, and the runner drops their results before they come here.
    """
    if isinstance(value, dict):
        return {str(key): HIDDEN if _hides(str(key), part) else scrub(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(part) for part in value]
    return _scrub_text(value) if isinstance(value, str) else value


def _hides(name: str, value: Any) -> bool:
    if value is None or isinstance(value, bool) or value == "":
        return False
    return bool(_SECRET_NAME.search(name)) and not _HARMLESS_NAME.search(name)


def _scrub_text(text: str) -> str:
    text = _PEM.sub(lambda match: f"[{match[1].lower()} {HIDDEN[1:]}", text)
    text = _VAULT.sub("[vault text hidden]", text)
    for pattern in _IN_TEXT:
        text = pattern.sub(lambda match: match["keep"] + HIDDEN, text)
    return text


# ------------------------------------------------------------------------------------------------ provenance


def digest_of(paths: Iterable[Path]) -> str:
    """SHA-256 over files and folders: of the lines ``<sha256 of the content>  <name>``, in the order of the names.

    The lines are those of ``sha256sum``, so anybody can compute it again. Names are relative to the folder given.
    """
    lines = []
    for number, path in enumerate(paths):
        found = [path] if path.is_file() else sorted(part for part in path.rglob("*") if part.is_file())
        for part in found:
            name = part.name if part == path else part.relative_to(path).as_posix()
            lines.append(f"{hashlib.sha256(part.read_bytes()).hexdigest()}  {number}/{name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _inventory_digest(files: Sequence[Path]) -> str:
    """Over the inventory files and the group_vars and host_vars beside them, which Ansible reads too."""
    beside = dict.fromkeys(file.parent / name for file in files for name in ("group_vars", "host_vars"))
    return digest_of([*files, *(folder for folder in beside if folder.is_dir())])


def _commit_of(folder: Path) -> str | None:
    """The commit checked out where the folder lies, read from .git itself; None without a checkout."""
    for place in (folder, *folder.parents):
        git = place / ".git"
        try:
            if git.is_file():  # a worktree: "gitdir: <path>"
                git = (place / git.read_text(encoding="utf-8").split(":", 1)[1].strip()).resolve()
            if git.is_dir():
                return _head(git)
        except (OSError, IndexError):
            return None
    return None


def _head(git: Path) -> str | None:
    head = (git / "HEAD").read_text(encoding="utf-8").strip()
    if not head.startswith("ref: "):
        return head
    reference = head.removeprefix("ref: ")
    common = git / "commondir"
    shared = (git / common.read_text(encoding="utf-8").strip()).resolve() if common.is_file() else git
    for base in (git, shared):
        if (base / reference).is_file():
            return (base / reference).read_text(encoding="utf-8").strip()
    packed = shared / "packed-refs"
    for line in packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else ():
        if line.endswith(f" {reference}"):
            return line.split(" ", 1)[0]
    return None


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("ansible-core", "ansible-runner")}
