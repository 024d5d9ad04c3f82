"""A real restic, a real append-only server (rclone) and small data for the tests of backups."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.backup.errors import BackupError
from controlplane.backup.repository import Repository
from controlplane.backup.restic import Snapshot, ask, backup, restore, snapshots
from tests.conftest import ROOT


def restic_program() -> str:
    """The restic that the house itself brings; where it cannot be had the tests are skipped, never in CI."""
    done = subprocess.run([ROOT / "script" / "restic"], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode == 0:
        return done.stdout.strip()
    words = f"script/restic: {done.stderr.strip()}"
    if os.environ.get("CI") == "true":
        pytest.fail(words)
    pytest.skip(words)


def init(repository: Repository) -> None:
    """Make a repository, as the job of a host does."""
    ask(repository, (repository.program, "init"))


class Bench:
    """One folder with data, a password, and a repository that was made for it."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder, self.program = folder, program
        self.data = folder / "data"
        (self.data / "sub").mkdir(parents=True)
        for number in range(6):
            (self.data / "sub" / f"hồ sơ {number}.txt").write_text(f"dòng {number}\n" * 400, encoding="utf-8")
        (self.data / "thumbs.tmp").write_text("not wanted", encoding="utf-8")
        self.password = folder / "password"
        self.password.write_text("a password of a test\n", encoding="utf-8")
        self.password.chmod(0o600)
        self.repository = Repository(
            "local", self.password, str(folder / "repository"), program=program, cache=folder / "cache"
        )

    def made(self) -> Bench:
        """With the repository made and one snapshot in it."""
        init(self.repository)
        self.save()
        return self

    def save(self, repository: Repository | None = None) -> str:
        """One more snapshot; its id."""
        return backup(
            repository or self.repository, [str(self.data)], tags=["files"], host="sv-test", excludes=["*.tmp"]
        ).snapshot

    def at(self, location: str, name: str = "other") -> Repository:
        """The same password and cache, another place."""
        return replace(self.repository, name=name, location=location)

    def still_whole(self, before: list[Snapshot], repository: Repository | None = None) -> None:
        """Every snapshot that there was is listed, and the oldest is restored byte for byte."""
        repository = repository or self.repository
        assert {s.id for s in before} <= {s.id for s in snapshots(repository)}
        place = Path(str(self.folder / f"back-{time.monotonic_ns()}"))
        restore(repository, before[0].id, place)
        for path in sorted((self.data / "sub").iterdir()):
            assert (place / str(path).lstrip("/")).read_bytes() == path.read_bytes()
        shutil.rmtree(place)

    def slow(self) -> tuple[Repository, Path]:
        """A restic that uploads 100 KiB a second, and the file with its process number."""
        wrapper, note = self.folder / "slow", self.folder / "slow.pid"
        wrapper.write_text(
            f'#!/bin/sh\necho $$ >{note}\nexec {self.program} --limit-upload 100 "$@"\n', encoding="utf-8"
        )
        wrapper.chmod(0o755)
        return replace(self.repository, program=str(wrapper)), note


class Slowly:
    """A backup of 30 MB that goes on in a thread until somebody ends it; its error is kept."""

    def __init__(self, bench: Bench, repository: Repository, note: Path, seconds: float = 60) -> None:
        self.error: BackupError | None = None
        big = bench.folder / "big"
        big.write_bytes(os.urandom(30_000_000))
        self.note = note

        def go() -> None:
            try:
                backup(repository, [str(big)], tags=["big"], host="sv-test", seconds=seconds)
            except BackupError as error:
                self.error = error

        self.thread = threading.Thread(target=go)
        self.thread.start()

    @property
    def pid(self) -> int:
        """The process number of that restic."""
        return int(self.note.read_text(encoding="utf-8"))

    def join(self) -> BackupError:
        """Its error, once it has ended."""
        self.thread.join(90)
        assert self.error is not None
        return self.error


def until(true: object, seconds: float = 20) -> None:
    """Wait until a callable says true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():  # type: ignore[operator]
            return
        time.sleep(0.1)
    raise AssertionError("it never came true")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens on a port of the loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Server:
    """`rclone serve restic` on the loopback."""

    def __init__(self, folder: Path, *, append_only: bool = True, port: int = 0) -> None:
        folder.mkdir(exist_ok=True)
        self.port = port or free_port()
        argv = ["rclone", "serve", "restic", "--addr", f"127.0.0.1:{self.port}", "--config", "/dev/null", str(folder)]
        self.process = subprocess.Popen(
            [*argv, *["--append-only"] * append_only], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(lambda: answers(self.port))

    @property
    def location(self) -> str:
        return f"rest:http://127.0.0.1:{self.port}/"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)


class Sftp:
    """An OpenSSH server on the loopback that speaks SFTP alone, with a host key, a key that it lets in and one not."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.port = folder, free_port()
        for name in ("host", "key", "stranger"):
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
            subprocess.run(argv, check=True)
        shutil.copy(folder / "key.pub", folder / "authorized")
        lines = [
            *("ListenAddress 127.0.0.1", f"Port {self.port}", f"HostKey {folder}/host", "PidFile none"),
            *(f"AuthorizedKeysFile {folder}/authorized", "StrictModes no", "UsePAM no", "PermitRootLogin yes"),
            *("PasswordAuthentication no", "KbdInteractiveAuthentication no"),
            *("Subsystem sftp internal-sftp", "ForceCommand internal-sftp"),
        ]
        (folder / "config").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.known, self.other = folder / "known", folder / "other"
        self.known.write_text(f"[127.0.0.1]:{self.port} {(folder / 'host.pub').read_text()}", encoding="utf-8")
        self.other.write_text(f"[127.0.0.1]:{self.port} {(folder / 'stranger.pub').read_text()}", encoding="utf-8")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        argv = ["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "config")]
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: answers(self.port))

    @property
    def location(self) -> str:
        return f"sftp://{getpass.getuser()}@127.0.0.1:{self.port}/{self.folder}/store"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@contextlib.contextmanager
def sftp(folder: Path) -> Iterator[Sftp]:
    """An SFTP server while the block lasts."""
    if not Path("/usr/sbin/sshd").exists():
        pytest.fail("sshd is missing") if os.environ.get("CI") == "true" else pytest.skip("sshd is not installed")
    server = Sftp(folder)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def served(folder: Path, *, append_only: bool = True) -> Iterator[Server]:
    """A server while the block lasts."""
    if shutil.which("rclone") is None:
        pytest.fail("rclone is missing") if os.environ.get("CI") == "true" else pytest.skip("rclone is not installed")
    server = Server(folder, append_only=append_only)
    try:
        yield server
    finally:
        server.stop()
