"""The SSH transport against a real sshd of our own on a free port of 127.0.0.1, and against sockets that misbehave."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from controlplane.collect.facts import SHELL_FACTS
from controlplane.collect.facts.shell import script_sha256
from controlplane.collect.ssh import SshTransport
from controlplane.domain.model import Asset, Fact, Look, Outcome, Words
from tests.conftest import Clock

SSHD = "/usr/sbin/sshd"
GATE = Path(__file__).resolve().parents[2] / "controlplane" / "collect" / "gate.sh"

pytestmark = [
    pytest.mark.skipif(not Path(SSHD).exists(), reason="openssh-server is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="sshd needs root to start a session"),
]


def fact(name: str, ask: str) -> Fact:
    return Fact(name, "shell", ask, str, "-", "test")


GREETING = fact("test.greeting", "echo xin chào")
SLOW = fact("test.slow", "sleep 30")
HANGING = (GREETING, fact("test.hang", "trap '' TERM; sleep 30; sleep 30"), fact("test.after", "echo later"))


def keygen(path: Path, passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True)
    return path


@dataclass(frozen=True)
class Server:
    """A running sshd, its client key and its known_hosts."""

    port: int
    key: Path
    known_hosts: Path
    folder: Path
    pid: int

    def transport(self, **changes: object) -> SshTransport:
        given = {"known_hosts": self.known_hosts, "key_file": self.key, "user": "root", "script_facts": (GREETING,)}
        return SshTransport(**(given | changes))  # type: ignore[arg-type]

    def asset(self, **access: object) -> Asset:
        given = {"ansible_port": self.port} | access
        return Asset(
            "sv-01", "server", ("servers",), Words("a", "a"), transports=("ssh",), address="127.0.0.1", access=given
        )

    def allow(self, options: str = "") -> None:
        """The client key in authorized_keys, with options in front."""
        public = self.key.with_suffix(".pub").read_text()
        (self.folder / "authorized_keys").write_text(f"{options} {public}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("sshd did not start")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sshd")
    folder.chmod(0o755)
    host_key, key = keygen(folder / "host_key"), keygen(folder / "reader")
    port = free_port()
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nListenAddress 127.0.0.2\nHostKey {host_key}\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nPermitRootLogin prohibit-password\n"
        "PasswordAuthentication no\nLogLevel ERROR\nMaxStartups 100\n"
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    kind, blob = host_key.with_suffix(".pub").read_text().split()[:2]
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{port} {kind} {blob}\n")
    with subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stderr=subprocess.DEVNULL) as process:
        wait_for(port)
        yield Server(port, key, known_hosts, folder, process.pid)
        process.terminate()
        process.wait(10)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(0.5)  # one that was told to end may need a moment
    assert [str(thread) for thread in left if thread.is_alive()] == []


@pytest.fixture(autouse=True)
def open_door(request: pytest.FixtureRequest) -> None:
    if "server" in request.fixturenames:
        request.getfixturevalue("server").allow()


def look(transport: SshTransport, asset: Asset, facts: tuple[Fact, ...] = (GREETING,), deadline: float = 10.0) -> Look:
    return transport.look(asset, facts, deadline, Clock())


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_host_answers(server: Server) -> None:
    seen = look(server.transport(), server.asset())
    assert (seen.outcome, seen.detail) == (Outcome.ANSWERED, "")
    assert seen.replies[0].raw.decode() == "xin chào\n"
    assert (seen.asset, seen.transport, seen.collector) == ("sv-01", "ssh", "ssh/1")


def test_the_whole_script_answers_for_every_fact(server: Server) -> None:
    seen = look(server.transport(script_facts=SHELL_FACTS), server.asset(), SHELL_FACTS, 60.0)
    assert (seen.outcome, seen.detail) == (Outcome.ANSWERED, "")
    assert [reply.fact for reply in seen.replies] == [one.name for one in SHELL_FACTS]
    answered = [reply for reply in seen.replies if reply.outcome is Outcome.ANSWERED]
    assert len(answered) > 45


def test_only_the_asked_facts_are_replied_in_the_order_asked(server: Server) -> None:
    other = fact("test.other", "echo b")
    stranger = fact("test.stranger", "echo c")
    transport = server.transport(script_facts=(GREETING, other))
    replies = look(transport, server.asset(), (stranger, other, GREETING)).replies
    assert [(reply.fact, reply.outcome.value) for reply in replies] == [
        ("test.stranger", "not_supported"),
        ("test.other", "answered"),
        ("test.greeting", "answered"),
    ]


def test_many_looks_leave_no_descriptor_open(server: Server) -> None:
    transport = server.transport()
    look(transport, server.asset())
    before = descriptors()
    for _ in range(5):
        assert look(transport, server.asset()).outcome is Outcome.ANSWERED
    assert descriptors() == before


def test_a_strange_account_is_auth_failed(server: Server) -> None:
    seen = look(server.transport(), server.asset(ansible_user="nobody-here"))
    assert seen.outcome is Outcome.AUTH_FAILED
    assert seen.detail == "127.0.0.1 does not accept the key of account nobody-here"
    assert seen.replies == ()


def test_a_key_that_is_not_allowed_is_auth_failed(server: Server, tmp_path: Path) -> None:
    seen = look(server.transport(key_file=keygen(tmp_path / "other")), server.asset())
    assert seen.outcome is Outcome.AUTH_FAILED


def test_bad_key_files_are_auth_failed_with_words(server: Server, tmp_path: Path) -> None:
    open_to_all = shutil.copy(server.key, tmp_path / "open")
    open_to_all.chmod(0o644)
    rubbish = tmp_path / "rubbish"
    rubbish.write_text("not a key\n")
    rubbish.chmod(0o600)
    cases: dict[Path | None, str] = {
        None: "no key file is named",
        tmp_path / "none": "cannot be read: No such file",
        open_to_all: "has mode 0644; it must be 0600",
        rubbish: "is not a private key that can be used",
        keygen(tmp_path / "locked", "a passphrase"): "is encrypted",
    }
    for path, words in cases.items():
        seen = look(server.transport(key_file=path), server.asset())
        assert seen.outcome is Outcome.AUTH_FAILED
        assert words in seen.detail


def test_a_key_file_of_the_asset_wins_over_the_default(server: Server, tmp_path: Path) -> None:
    seen = look(
        server.transport(key_file=tmp_path / "none"), server.asset(ansible_ssh_private_key_file=str(server.key))
    )
    assert seen.outcome is Outcome.ANSWERED


def test_a_changed_host_key_is_refused_before_logging_in(server: Server, tmp_path: Path) -> None:
    other = keygen(tmp_path / "other_host").with_suffix(".pub").read_text().split()
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {other[0]} {other[1]}\n")
    seen = look(server.transport(known_hosts=known), server.asset())
    assert seen.outcome is Outcome.HOST_KEY_CHANGED
    assert "shows the ssh-ed25519 key SHA256:" in seen.detail
    assert "names another" in seen.detail


def test_a_host_known_by_a_key_of_another_kind_only_is_changed(server: Server, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} ssh-rsa AAAA\n")
    assert look(server.transport(known_hosts=known), server.asset()).outcome is Outcome.HOST_KEY_CHANGED


@pytest.mark.parametrize("content", ["", "# nothing\nrubbish\n|1|x|y ssh-ed25519 AAAA\n", None])
def test_an_unknown_host_is_never_accepted(server: Server, tmp_path: Path, content: str | None) -> None:
    known = tmp_path / "known_hosts"
    if content is not None:
        known.write_text(content)
    seen = look(server.transport(known_hosts=known), server.asset())
    assert seen.outcome is Outcome.HOST_KEY_UNKNOWN
    assert "compare and add it" in seen.detail
    assert not known.exists() or known.read_text() == content


def test_a_revoked_host_key_is_refused(server: Server, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    line = server.known_hosts.read_text()
    known.write_text(f"{line}@revoked {line}")
    seen = look(server.transport(known_hosts=known), server.asset())
    assert seen.outcome is Outcome.HOST_KEY_CHANGED
    assert "revoked" in seen.detail


def test_hashed_known_hosts_are_read(server: Server, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    shutil.copy(server.known_hosts, known)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, stdout=subprocess.DEVNULL)
    assert known.read_text().startswith("|1|")
    assert look(server.transport(known_hosts=known), server.asset()).outcome is Outcome.ANSWERED


def test_known_hosts_is_read_anew_when_it_changes(server: Server, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("")
    transport = server.transport(known_hosts=known)
    assert look(transport, server.asset()).outcome is Outcome.HOST_KEY_UNKNOWN
    shutil.copy(server.known_hosts, known)
    assert look(transport, server.asset()).outcome is Outcome.ANSWERED


def test_a_closed_port_is_refused(server: Server) -> None:
    seen = look(server.transport(), server.asset(ansible_port=free_port()))
    assert seen.outcome is Outcome.REFUSED
    assert "no SSH server listens there" in seen.detail


def test_no_address_sends_nothing(server: Server) -> None:
    seen = look(server.transport(), replace(server.asset(), address=None))
    assert seen.outcome is Outcome.NO_ADDRESS


def test_a_name_without_an_address_is_unreachable(server: Server) -> None:
    seen = look(server.transport(), replace(server.asset(), address="no-such-host.invalid"))
    assert seen.outcome is Outcome.UNREACHABLE
    assert "DNS" in seen.detail


def test_a_port_that_is_none_is_unreachable(server: Server) -> None:
    assert look(server.transport(), server.asset(ansible_port="ssh")).outcome is Outcome.UNREACHABLE


@contextmanager
def a_socket(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A listener whose single visitor is handled by ``serve``."""
    done = threading.Event()

    def run(listener: socket.socket) -> None:
        while not done.is_set():
            try:
                visitor, _ = listener.accept()
            except OSError:
                return
            with visitor:
                serve(visitor)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run, args=(listener,), name="peer")
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            done.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def drain(visitor: socket.socket) -> None:
    """Reads until the visitor goes away."""
    visitor.settimeout(10)
    while visitor.recv(4096):
        pass


def test_a_socket_that_says_nothing_is_a_timeout(server: Server) -> None:
    with a_socket(drain) as port:
        started = time.monotonic()
        seen = look(server.transport(connect_timeout_seconds=0.4), server.asset(ansible_port=port))
        assert seen.outcome is Outcome.TIMEOUT
        assert "says nothing" in seen.detail
        assert time.monotonic() - started < 2


def test_a_greeting_without_a_sequel_ends_at_the_deadline(server: Server) -> None:
    def serve(visitor: socket.socket) -> None:
        visitor.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        drain(visitor)

    with a_socket(serve) as port:
        started = time.monotonic()
        seen = look(server.transport(), server.asset(ansible_port=port), deadline=0.7)
        assert seen.outcome is Outcome.TIMEOUT
        assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "greeting",
    [b"220 mail.example ESMTP\r\n", b"\xff\xfb\x01\xff\xfb\x03", b"SSH-1.5-old\r\n", b"\0" * 300, b"SSH-2.0\r\n"],
)
def test_rubbish_instead_of_a_greeting_is_garbled(server: Server, greeting: bytes) -> None:
    def serve(visitor: socket.socket) -> None:
        visitor.sendall(greeting)

    with a_socket(serve) as port:
        seen = look(server.transport(), server.asset(ansible_port=port))
    assert seen.outcome in (Outcome.GARBLED, Outcome.REFUSED)
    assert seen.detail
    assert seen.replies == ()


def test_a_door_that_closes_at_once_is_refused(server: Server) -> None:
    with a_socket(lambda visitor: None) as port:
        seen = look(server.transport(), server.asset(ansible_port=port))
    assert seen.outcome is Outcome.REFUSED


def test_the_deadline_interrupts_a_command_that_hangs_and_keeps_what_came(server: Server) -> None:
    started = time.monotonic()
    seen = look(server.transport(script_facts=HANGING), server.asset(), HANGING, 1.5)
    assert time.monotonic() - started < 4
    assert seen.outcome is Outcome.ANSWERED
    assert "deadline" in seen.detail
    assert [reply.outcome.value for reply in seen.replies] == ["answered", "garbled", "garbled"]
    assert seen.replies[1].detail == "the answer broke off in the middle"


def sessions_of(pid: int) -> list[int]:
    """The sshd processes that serve connections: children of the listener, and since OpenSSH 9.8 their children too."""
    children = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    served = [child for child in children if Path(f"/proc/{child}/comm").read_text().startswith("sshd")]
    return [*served, *(deeper for child in served for deeper in sessions_of(child))]


def test_a_connection_cut_in_the_middle_keeps_the_replies_so_far(server: Server) -> None:
    facts = (GREETING, SLOW)

    def cut() -> None:
        time.sleep(1.0)
        for session in sessions_of(server.pid):
            os.kill(session, signal.SIGKILL)

    cutter = threading.Thread(target=cut)
    cutter.start()
    seen = look(server.transport(script_facts=facts), server.asset(), facts, 20)
    cutter.join()
    assert seen.outcome is Outcome.ANSWERED
    assert "connection cut" in seen.detail
    assert [reply.outcome.value for reply in seen.replies] == ["answered", "garbled"]


def test_a_host_that_floods_is_bounded(server: Server) -> None:
    facts = (GREETING, fact("test.flood", "head -c 200000 /dev/zero | tr '\\0' a"), fact("test.after", "echo later"))
    seen = look(server.transport(script_facts=facts, output_bytes=100_000), server.asset(), facts)
    assert [reply.outcome.value for reply in seen.replies] == ["answered", "garbled", "garbled"]
    assert "sent more than 100000 bytes" in seen.detail


def test_a_login_without_a_shell_is_not_answered(server: Server) -> None:
    server.allow('command="echo This account is closed.; exit 3"')
    seen = look(server.transport(), server.asset())
    assert seen.outcome is Outcome.ANSWERED
    assert seen.replies[0].outcome is Outcome.GARBLED
    server.allow('command="exit 3"')
    seen = look(server.transport(), server.asset())
    assert seen.outcome is Outcome.GARBLED
    assert "exit code 3" in seen.detail


def test_the_gate_lets_the_known_script_in_and_nothing_else(server: Server) -> None:
    allowed = server.folder / "allowed"
    allowed.write_text(f"# scripts of the control plane\n{script_sha256((GREETING,))}  greeting\n")
    server.allow(f'command="sh {GATE} {allowed}",restrict')
    assert look(server.transport(), server.asset()).replies[0].raw.decode() == "xin chào\n"
    other = (fact("test.other", "id"),)
    seen = look(server.transport(script_facts=other), server.asset(), other)
    assert seen.outcome is Outcome.REFUSED
    assert f"the script with SHA-256 {script_sha256(other)} is not on the list" in seen.detail


def test_the_real_script_passes_a_gate(server: Server) -> None:
    allowed = server.folder / "allowed"
    allowed.write_text(f"{script_sha256(SHELL_FACTS)}\n")
    server.allow(f'command="sh {GATE} {allowed}",restrict')
    seen = look(server.transport(script_facts=SHELL_FACTS), server.asset(), SHELL_FACTS, 60.0)
    assert (seen.outcome, seen.detail) == (Outcome.ANSWERED, "")


def test_a_gate_without_a_list_refuses(server: Server) -> None:
    server.allow(f'command="sh {GATE} {server.folder}/no-list",restrict')
    seen = look(server.transport(), server.asset())
    assert seen.outcome is Outcome.REFUSED
    assert "cannot be read" in seen.detail
