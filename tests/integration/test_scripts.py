"""The two commands and their helpers, from outside: whatever stands in the way is one clear sentence, in both tongues.

They run in a copy of the scripts, so that nothing here touches the folder's own .venv, data or locks.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
COMMANDS = ("script/server", "script/test", "script/lint", "script/bench", "script/fresh", ".ci/run")
NOBODY = pwd.getpwnam("nobody")

Ran = subprocess.CompletedProcess[str]


@pytest.fixture
def house() -> Iterator[Path]:
    """A copy of the scripts and of what they read, in a folder that every account may enter."""
    with tempfile.TemporaryDirectory(prefix="emr-scripts-") as name:
        copy = Path(name)
        copy.chmod(0o755)
        for folder in ("script", ".ci", "requirements"):
            shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        yield copy


def run(house: Path, *argv: str, as_nobody: bool = False, **environment: str) -> Ran:
    """One command in the copy, with nothing to read from; as the account nobody where that matters."""
    who: dict[str, Any] = {}
    if as_nobody and os.geteuid() == 0:
        who = {"user": NOBODY.pw_uid, "group": NOBODY.pw_gid, "extra_groups": []}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EMRCTL_")}
    return subprocess.run(
        argv,
        cwd=house,
        env={**kept, "CI": "true", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **who,
    )


def part(house: Path, text: str, as_nobody: bool = False) -> Ran:
    """A few lines of bash with the shared functions at hand."""
    return run(house, "bash", "-c", f". script/lib.sh\n{text}", as_nobody=as_nobody)


def refused(ran: Ran, code: int, *words: str) -> str:
    """It ended with ``code`` and one sentence in each tongue that holds ``words``; no traceback, no bash error."""
    assert ran.returncode == code, ran.stdout + ran.stderr
    said = ran.stderr.strip().splitlines()
    assert said[-2].startswith("✗ "), ran.stderr
    assert said[-1].startswith("  "), ran.stderr
    for word in words:
        assert word in said[-2] or word in said[-1], ran.stderr
    assert "Traceback" not in ran.stderr
    assert "lib.sh: line" not in ran.stderr
    return said[-1]


# --------------------------------------------------------------------------------------------------- all of them


def shell_scripts() -> list[str]:
    folders = [ROOT / name for name in ("script", ".ci", "lab", "controlplane")]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    first = {file: file.read_bytes()[:60].split(b"\n")[0] for file in files}
    return sorted(
        str(file.relative_to(ROOT)) for file, line in first.items() if line[:2] == b"#!" and line.endswith(b"sh")
    )


@pytest.mark.parametrize("script", [*shell_scripts(), "script/lib.sh"])
def test_bash_can_read_every_script(script: str) -> None:
    assert subprocess.run(["bash", "-n", ROOT / script], capture_output=True, text=True, check=False).stderr == ""


def test_the_commands_of_the_readme_are_among_them_and_may_be_run() -> None:
    assert set(COMMANDS) <= set(shell_scripts())
    assert all(os.access(ROOT / name, os.X_OK) for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_how_and_does_nothing(house: Path, command: str) -> None:
    ran = run(house, command, "--help")
    assert ran.returncode == 0
    assert "Usage" in ran.stdout
    assert not (house / "var").exists()
    assert not (house / ".venv").exists()


@pytest.mark.parametrize(
    "argv",
    [
        ("script/server", "--prot", "8080"),
        ("script/server", "extra"),
        ("script/test", "everything"),
        ("script/test", "unit", "lab"),
        ("script/lint", "--fix"),
        ("script/bench", "--quick"),
        ("script/fresh",),
        ("script/fresh", "11"),
        ("script/fresh", "12", "--minutes", "many"),
        (".ci/run", "--slow"),
    ],
)
def test_a_wrong_word_is_usage(house: Path, argv: Sequence[str]) -> None:
    refused(run(house, *argv), 2)
    assert not (house / "var").exists()


@pytest.mark.parametrize("port", ["0", "65536", "abc", "-1", "08080", "80 81", ""])
def test_a_port_that_is_none(house: Path, port: str) -> None:
    refused(run(house, "script/server", "--port", port), 2, "--port")


# ------------------------------------------------------------------------------------------------- script/server


@pytest.mark.parametrize("address", ["127.0.0.1", ""], ids=["loopback", "every address"])
def test_a_taken_port_is_said_before_any_work(house: Path, address: str) -> None:
    with socket.socket() as holder:
        holder.bind((address, 0))
        holder.listen()
        port = holder.getsockname()[1]
        ran = run(house, "script/server", "--port", str(port))
    assert f"script/server --port {port + 1}" in refused(ran, 1, str(port)) or port == 65535
    assert not (house / ".venv").exists()


def test_the_port_is_also_read_from_the_environment_and_the_settings_file(house: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        refused(run(house, "script/server", EMRCTL_PORT=port), 1, port)
        data = house / "elsewhere"
        data.mkdir()
        (data / "emrctl.toml").write_text(f'language = "vi"\nport = {port} # the old one was taken\n')
        refused(run(house, "script/server", "--data-dir", str(data)), 1, port)
        refused(run(house, "script/server", EMRCTL_DATA_DIR=str(data)), 1, port)


def test_another_system_is_refused_by_name(house: Path) -> None:
    (house / "os").write_text('ID=ubuntu\nVERSION_ID="24.04"\n')
    refused(run(house, "script/server", EMR_OS_RELEASE=str(house / "os")), 1, "ubuntu 24.04", "Debian 12")


def test_a_file_instead_of_the_data_folder(house: Path) -> None:
    (house / "data").write_text("not a folder")
    refused(run(house, "script/server", "--data-dir", "data"), 1, str(house / "data"))
    assert (house / "data").read_text() == "not a folder"


def test_a_data_folder_that_may_not_be_written(house: Path) -> None:
    var, data = house / "var", house / "data"
    for folder, mode in ((var, 0o777), (data, 0o555)):
        folder.mkdir()
        folder.chmod(mode)
    refused(run(house, "script/server", "--data-dir", str(data), as_nobody=True), 1, str(data))
    refused(run(house, "script/server", "--data-dir", str(data / "deeper"), as_nobody=True), 1, str(data / "deeper"))
    assert list(data.iterdir()) == []


def test_a_program_folder_that_may_not_be_written(house: Path) -> None:
    (house / "var").mkdir(mode=0o555)
    refused(run(house, "script/server", as_nobody=True), 1, str(house / "var"))


def test_two_servers_on_one_data_folder(house: Path) -> None:
    (house / "data").mkdir()
    with (house / "data" / ".server.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused(run(house, "script/server", "--data-dir", "data"), 1, str(house / "data"))


def test_two_set_ups_in_one_folder(house: Path) -> None:
    (house / "var").mkdir()
    with (house / "var" / "setup.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "set-up is running" in refused(run(house, "script/server", "--port", free_port()), 1)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


# ------------------------------------------------------------------------------------------ rights and packages


def test_missing_packages_without_the_right_name_the_command(house: Path) -> None:
    (house / "var").mkdir(mode=0o777)
    (house / "var").chmod(0o777)
    if os.geteuid() != 0 and shutil.which("sudo"):
        pytest.skip("this account may be allowed to become root")
    ran = part(house, "need_packages bash emr-no-such-package", as_nobody=True)
    refused(ran, 1, "apt-get install --no-install-recommends emr-no-such-package", "nobody")
    assert "bash" not in ran.stderr


def test_packages_that_are_there_ask_for_nothing(house: Path) -> None:
    ran = part(house, "need_packages bash coreutils", as_nobody=True)
    assert ran.returncode == 0, ran.stderr
    assert not (house / "var").exists()  # no log, so no program was started


def test_fresh_wants_root(house: Path) -> None:
    if os.geteuid() != 0 and shutil.which("sudo"):
        pytest.skip("this account may be allowed to become root")
    refused(run(house, "script/fresh", "12", as_nobody=True), 1, "sudo script/fresh 12")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("OSError: [Errno 28] No space left on device", "The disk is full"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "does not match its locked hash"),
        ("Temporary failure resolving 'a.mirror'", "could not be fetched"),
        ("ERROR: No matching distribution found for alembic==1.20.1", "could not be fetched"),
        ("E: Sub-process /usr/bin/dpkg returned an error code (1)", "Something failed while trying"),
    ],
)
def test_why_a_step_failed_is_told_from_its_own_words(house: Path, words: str, sentence: str) -> None:
    (house / "words").write_text(f"{words}\nWARNING: Location 'x' is ignored: it is neither a file nor a directory.\n")
    ran = part(
        house,
        "quietly earlier echo No space left on device\nquietly it sh -c 'cat words; exit 7' || why 'thử' 'trying'",
    )
    assert sentence in refused(ran, 1)
    assert f"| {words}" in ran.stderr  # the last lines are shown, without pip's harmless ones
    assert "is ignored" not in ran.stderr
    assert words in (house / "var" / "log" / "setup.log").read_text()


# --------------------------------------------------------------------------------------- after an interruption


def test_a_venv_counts_only_when_its_stamp_is_whole(house: Path) -> None:
    venv = house / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to("/usr/bin/python3")
    ready = "venv_ready base && echo ready || echo not"
    assert part(house, ready).stdout == "not\n"
    assert part(house, f"write_stamp base; {ready}").stdout == "ready\n"
    assert part(house, "venv_ready dev && echo ready || echo not").stdout == "not\n"
    (venv / ".building").touch()
    assert part(house, ready).stdout == "not\n"
    (venv / ".building").unlink()
    with (house / "requirements" / "base.lock").open("a") as lock:
        lock.write("# another version\n")
    assert part(house, ready).stdout == "not\n"


def test_a_half_made_or_moved_venv_is_made_anew(house: Path) -> None:
    sound = "venv_sound && echo sound || echo anew"
    assert part(house, sound).stdout == "anew\n"
    subprocess.run(["/usr/bin/python3", "-m", "venv", house / ".venv"], check=True, capture_output=True)
    assert part(house, sound).stdout == "sound\n"
    (house / ".venv" / ".building").touch()
    assert part(house, sound).stdout == "anew\n"
    (house / ".venv" / ".building").unlink()
    moved = house / "moved"
    moved.mkdir()
    for name in ("script", ".venv", "requirements", "pyproject.toml"):
        (house / name).rename(moved / name)
    assert part(moved, sound).stdout == "anew\n"


def test_ctrl_c_during_a_step_says_so_and_leaves_nothing_running(house: Path) -> None:
    text = ". script/lib.sh\nstep 1 1 a b\nquietly waiting sleep 60"
    with subprocess.Popen(
        ["bash", "-c", text],
        cwd=house,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A run in the background ignores Ctrl-C, and what is ignored at the start no shell can trap.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # one thread here
    ) as held:
        assert held.stdout is not None
        assert held.stdout.readline()
        while not (house / "var" / "log" / "setup.log").exists():
            time.sleep(0.02)
        time.sleep(0.2)
        os.killpg(held.pid, signal.SIGINT)
        _, said = held.communicate(timeout=20)
        assert held.returncode == 130
    assert "run the same command again" in said
    until = time.monotonic() + 10
    while time.monotonic() < until and running_in(held.pid):
        time.sleep(0.1)
    assert running_in(held.pid) == []


def running_in(group: int) -> list[str]:
    """The processes of a group that still run; one that has ended and waits for its parent is none."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue  # it ended while we looked
        state, _, of = rest.split()[:3]
        if int(of) == group and state != "Z":
            found.append(name)
    return found
