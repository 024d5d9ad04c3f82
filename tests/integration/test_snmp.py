"""SnmpTransport against a real snmpd on the loopback, and against agents that lie, stumble or say nothing."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyasn1.codec.ber import decoder, encoder
from pysnmp.proto.api import v2c

from controlplane.collect.facts import snmp_interfaces, snmp_system
from controlplane.collect.facts.snmp_text import parse, parse_oid
from controlplane.collect.snmp import Credentials, SnmpTransport, _Engine
from controlplane.domain.model import Asset, Fact, Look, Outcome, Words

COMMUNITY = "labcommunity"
V3 = {
    "user": "reader",
    "auth_protocol": "SHA",
    "auth_key": "an-auth-passphrase",
    "priv_protocol": "AES",
    "priv_key": "a-priv-passphrase",
}
SECRETS = (COMMUNITY, V3["auth_key"], V3["priv_key"], "wrong-passphrase", "wrongcommunity")
SYSTEM = ".1.3.6.1.2.1.1"
needs_snmpd = pytest.mark.skipif(shutil.which("snmpd") is None, reason="Debian package snmpd is not installed")


def fact(ask: str, name: str = "test.fact") -> Fact:
    return Fact(name, "snmp", ask, lambda text: text, "-", "test")


def secret(folder: Path, **values: str) -> Path:
    path = folder / f"secret-{len(list(folder.iterdir()))}"
    path.write_text("".join(f"{key} = {value}\n" for key, value in values.items()), encoding="utf-8")
    path.chmod(0o600)
    return path


def asset(port: int, path: Path | str, version: str = "2c", address: str | None = "127.0.0.1") -> Asset:
    access = {"emr_snmp": {"version": version, "secret_file": str(path), "port": port}}
    return Asset("sw-acc-01", "switch", (), Words("a", "a"), address=address, access=access)


def look(transport: SnmpTransport, of: Asset, facts: Sequence[Fact], deadline: float = 20.0) -> Look:
    found = transport.look(of, facts, deadline, lambda: datetime.now(UTC))
    assert found.transport == "snmp"
    shown = found.detail + "".join(reply.detail for reply in found.replies)
    assert not any(word in shown for word in SECRETS)
    return found


def raw(found: Look, name: str = "test.fact") -> str:
    assert found.outcome is Outcome.ANSWERED, found.detail
    reply = next(reply for reply in found.replies if reply.fact == name)
    assert reply.outcome is Outcome.ANSWERED, reply.detail
    return reply.raw.decode("utf-8")


# ------------------------------------------------------------------------------------------------ a real snmpd


class Agent:
    """A net-snmp snmpd of our own on a free loopback port."""

    def __init__(self, folder: Path, engine_id: str, port: int = 0) -> None:
        self.folder = folder
        self.port = port or free_port()
        lines = [
            f"rocommunity {COMMUNITY} 127.0.0.1",
            f"exactEngineID {engine_id}",
            "sysName sw-acc-01",
            'sysDescr A "lab" agent \\ with signs',
            "sysLocation Phòng máy chủ, tầng 1",
            "sysContact it@example.invalid",
        ]
        for user, auth in (("reader", "SHA"), ("reader256", "SHA-256"), ("reader512", "SHA-512")):
            lines += [f'createUser {user} {auth} "{V3["auth_key"]}" AES "{V3["priv_key"]}"', f"rouser {user} priv"]
        lines += [f'createUser stranger SHA "{V3["auth_key"]}" AES "{V3["priv_key"]}"']
        (folder / "snmpd.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / "persist").mkdir()
        (folder / "snmpd.conf").chmod(0o600)
        self.start()

    def start(self) -> None:
        (self.folder / "log").unlink(missing_ok=True)
        command = ["snmpd", "-f", "-Lf", str(self.folder / "log"), "-C", "-c", str(self.folder / "snmpd.conf")]
        command += [
            "-p",
            str(self.folder / "pid"),
            "-I",
            "-smux,mteTrigger,mteTriggerConf",
            f"udp:127.0.0.1:{self.port}",
        ]
        environment = {"PATH": os.environ["PATH"], "SNMP_PERSISTENT_DIR": str(self.folder / "persist"), "MIBS": ""}
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while time.monotonic() < until and "NET-SNMP version" not in self.log():
            time.sleep(0.05)

    def log(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    running = Agent(tmp_path_factory.mktemp("snmpd"), "0x80001f8804736e6d7074657374")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def quick() -> SnmpTransport:
    return SnmpTransport(timeout_seconds=0.3, retries=1)


@pytest.fixture
def steady() -> SnmpTransport:
    """Patient enough for a busy machine; for talks that are meant to succeed."""
    return SnmpTransport(timeout_seconds=5.0, retries=2)


def walked(agent: Agent, root: str) -> dict[tuple[int, ...], Any]:
    """What net-snmp's own tool says, its wrapped lines joined and its values parsed."""
    command = ["snmpwalk", "-v2c", "-c", COMMUNITY, "-On", "-m", "", f"127.0.0.1:{agent.port}", root]
    environment = {"PATH": os.environ["PATH"], "SNMP_PERSISTENT_DIR": str(agent.folder / "persist"), "MIBS": ""}
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    lines = re.sub(r"\n(?!\.)", " ", shown.strip()).replace(' = ""', ' = STRING: ""').split("\n")
    squeezed = [re.sub(r" +", " ", line).strip() if "Hex-STRING" in line else line for line in lines]
    return {varbind.oid: varbind.value for varbind in parse("\n".join(squeezed))}


@needs_snmpd
def test_the_raw_text_says_what_snmpwalk_says(agent: Agent, keys: Path, steady: SnmpTransport) -> None:
    path = secret(keys, community=COMMUNITY)
    for root in (
        SYSTEM,
        ".1.3.6.1.2.1.2.2.1.2",
        ".1.3.6.1.2.1.2.2.1.6",
        ".1.3.6.1.2.1.4.20",
        ".1.3.6.1.2.1.25.2.3.1.2",
    ):
        found = look(steady, asset(agent.port, path), [fact(root)])
        ours = {varbind.oid: varbind.value for varbind in parse(raw(found))}
        theirs = walked(agent, root)
        moving = {parse_oid(f"{SYSTEM}.3.0")}
        assert ours.keys() == theirs.keys()
        assert {oid: ours[oid] for oid in ours.keys() - moving} == {oid: theirs[oid] for oid in theirs.keys() - moving}
    assert ours


@needs_snmpd
def test_the_raw_text_is_readable_and_sorted(agent: Agent, keys: Path, steady: SnmpTransport) -> None:
    found = look(
        steady, asset(agent.port, secret(keys, community=COMMUNITY)), [fact(f"{SYSTEM}.6.0 {SYSTEM}.1.0 {SYSTEM}.5.0")]
    )
    assert raw(found).split("\n") == [
        f'{SYSTEM}.1.0 = STRING: "A \\"lab\\" agent \\\\ with signs"',
        f'{SYSTEM}.5.0 = STRING: "sw-acc-01"',
        f'{SYSTEM}.6.0 = STRING: "Phòng máy chủ, tầng 1"',
        "",
    ]
    assert found.replies[0].asked == f"{SYSTEM}.6.0 {SYSTEM}.1.0 {SYSTEM}.5.0"


@needs_snmpd
@pytest.mark.parametrize(("user", "auth"), [("reader", "SHA"), ("reader256", "SHA-256"), ("reader512", "SHA512")])
def test_v3_brings_the_same_as_v2c(agent: Agent, keys: Path, steady: SnmpTransport, user: str, auth: str) -> None:
    asked = [fact(f"{SYSTEM}.5.0 {SYSTEM}.6.0 .1.3.6.1.2.1.2.2.1.2 .1.3.6.1.2.1.31.1.1.1.1")]
    plain = look(steady, asset(agent.port, secret(keys, community=COMMUNITY)), asked)
    path = secret(keys, **V3 | {"user": user, "auth_protocol": auth})
    for _ in range(2):  # the second time with a known engine
        assert raw(look(steady, asset(agent.port, path, "3"), asked)) == raw(plain)


@needs_snmpd
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"user": "nobody"}, "no user of this name"),
        ({"auth_key": "wrong-passphrase"}, "auth_key"),
        ({"auth_protocol": "SHA256"}, "auth_key or auth_protocol"),
        ({"priv_key": "wrong-passphrase"}, "priv_key"),
    ],
)
def test_wrong_v3_secrets_are_told_apart(
    agent: Agent, keys: Path, quick: SnmpTransport, change: dict[str, str], words: str
) -> None:
    found = look(quick, asset(agent.port, secret(keys, **V3 | change), "3"), [fact(f"{SYSTEM}.5.0")])
    assert (found.outcome, found.replies) == (Outcome.AUTH_FAILED, ())
    assert words in found.detail


@needs_snmpd
def test_a_v3_user_without_a_view_is_refused_not_unanswered(agent: Agent, keys: Path, quick: SnmpTransport) -> None:
    path = secret(keys, **V3 | {"user": "stranger"})
    found = look(
        quick, asset(agent.port, path, "3"), [fact(f"{SYSTEM}.5.0 {SYSTEM}.6.0"), fact(f"{SYSTEM}.9.1.2", "b.b")]
    )
    assert found.outcome is Outcome.ANSWERED
    assert [reply.outcome for reply in found.replies] == [Outcome.REFUSED, Outcome.REFUSED]
    assert "authorizationError" in found.replies[0].detail


@needs_snmpd
def test_a_wrong_community_looks_like_silence_and_the_sentence_says_so(
    agent: Agent, keys: Path, quick: SnmpTransport
) -> None:
    found = look(quick, asset(agent.port, secret(keys, community="wrongcommunity")), [fact(f"{SYSTEM}.5.0")])
    assert found.outcome is Outcome.TIMEOUT
    assert "community is wrong" in found.detail


@needs_snmpd
def test_an_agent_with_a_new_engine_id_is_met_again(tmp_path: Path, keys: Path, steady: SnmpTransport) -> None:
    path = secret(keys, **V3)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = Agent(tmp_path / "a", "0x80001f88046f6e65")
    try:
        assert "sw-acc" in raw(look(steady, asset(first.port, path, "3"), [fact(f"{SYSTEM}.5.0")]))
    finally:
        first.stop()
    second = Agent(tmp_path / "b", "0x80001f880474776f", first.port)
    try:
        assert "sw-acc" in raw(look(steady, asset(second.port, path, "3"), [fact(f"{SYSTEM}.5.0")]))
        second.stop()
        second.start()  # the same engine with one more boot: the clock must be learned again
        assert "sw-acc" in raw(look(steady, asset(second.port, path, "3"), [fact(f"{SYSTEM}.5.0")]))
    finally:
        second.stop()


@needs_snmpd
def test_an_object_the_agent_lacks_is_not_supported_and_the_others_stand(
    agent: Agent, keys: Path, steady: SnmpTransport
) -> None:
    asked = [
        fact(f"{SYSTEM}.5.0", "a.a"),
        fact(".1.3.6.1.2.1.33.1.2.1.0", "b.scalar"),
        fact(".1.3.6.1.2.1.43.11.1.1.9", "c.column"),
    ]
    found = look(steady, asset(agent.port, secret(keys, community=COMMUNITY)), asked)
    assert [reply.outcome for reply in found.replies] == [
        Outcome.ANSWERED,
        Outcome.NOT_SUPPORTED,
        Outcome.NOT_SUPPORTED,
    ]


@needs_snmpd
def test_one_transport_serves_many_threads_and_leaves_nothing_behind(agent: Agent, keys: Path) -> None:
    transport = SnmpTransport(timeout_seconds=10.0, retries=1, keep_engines=4)
    facts = [one for one in (*snmp_system.FACTS, *snmp_interfaces.FACTS) if one.name != "device.neighbours"]
    of = [asset(agent.port, secret(keys, **V3), "3"), asset(agent.port, secret(keys, community=COMMUNITY))]
    look(transport, of[0], facts)
    threads, files = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    with ThreadPoolExecutor(8) as pool:
        looks = list(pool.map(lambda number: look(transport, of[number % 2], facts), range(32)))
    assert {found.outcome for found in looks} == {Outcome.ANSWERED}
    names = {reply.raw for found in looks for reply in found.replies if reply.fact == "device.name"}
    assert names == {f'{SYSTEM}.5.0 = STRING: "sw-acc-01"\n'.encode()}
    assert (threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))) == (threads, files)
    assert len(transport._engines._idle) <= 4


def test_two_engines_never_share_a_salt_counter() -> None:
    credentials = Credentials("3", b"", *V3.values())
    first, second = _Engine(credentials), _Engine(credentials)
    assert first.aes.local_int != second.aes.local_int
    assert first.snmp.security_models[3].PRIV_SERVICES is not second.snmp.security_models[3].PRIV_SERVICES
    assert not any(word in repr(credentials) for word in SECRETS)


# ---------------------------------------------------------------------------------- nothing there, nothing sent


def test_an_asset_without_an_address_gets_no_packet(keys: Path, quick: SnmpTransport) -> None:
    found = look(quick, asset(1, "/nowhere", address=None), [fact(f"{SYSTEM}.5.0")])
    assert (found.outcome, found.duration_ms < 100) == (Outcome.NO_ADDRESS, True)


@pytest.mark.parametrize("version", ["2c", "3"])
def test_a_closed_port_is_refused_at_once(keys: Path, quick: SnmpTransport, version: str) -> None:
    path = secret(keys, **(V3 if version == "3" else {"community": COMMUNITY}))
    found = look(quick, asset(free_port(), path, version), [fact(f"{SYSTEM}.5.0")])
    assert found.outcome is Outcome.REFUSED
    assert "closed" in found.detail


def test_an_address_that_is_none_is_unreachable(keys: Path, quick: SnmpTransport) -> None:
    of = asset(161, secret(keys, community=COMMUNITY), address="256.1.1.1.")
    assert look(quick, of, [fact(f"{SYSTEM}.5.0")]).outcome is Outcome.UNREACHABLE


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (f"community = {COMMUNITY}\n", 0o640, "mode 0640"),
        (f"community = {COMMUNITY}\n", 0o604, "mode 0604"),
        (f"{COMMUNITY}\n", 0o600, "line 1"),
        (f"# x\n{COMMUNITY} = public\n", 0o600, "line 2"),
        ("user = reader\n", 0o600, "community missing"),
        ("", 0o600, "community missing"),
        ("community = " + "x" * 5000, 0o600, "longer"),
    ],
)
def test_a_bad_secret_file_sends_nothing_and_says_why(
    tmp_path: Path, quick: SnmpTransport, content: str, mode: int, words: str
) -> None:
    path = tmp_path / "snmp-network"
    path.write_text(content)
    path.chmod(mode)
    found = look(quick, asset(161, path), [fact(f"{SYSTEM}.5.0")])
    assert found.outcome is Outcome.AUTH_FAILED
    assert words in found.detail
    assert "snmp-network" in found.detail
    assert "nothing sent" in found.detail
    assert str(tmp_path) not in found.detail


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"auth_protocol": "MD5"}, "SHA256"),
        ({"priv_protocol": "DES"}, "AES"),
        ({"priv_key": "short"}, "8 characters"),
        ({"user": "x" * 33}, "32 octets"),
    ],
)
def test_weak_or_impossible_v3_settings_are_refused(
    keys: Path, quick: SnmpTransport, change: dict[str, str], words: str
) -> None:
    found = look(quick, asset(161, secret(keys, **V3 | change), "3"), [fact(f"{SYSTEM}.5.0")])
    assert found.outcome is Outcome.AUTH_FAILED
    assert words in found.detail


def test_a_missing_secret_file_or_setting_is_said(tmp_path: Path, quick: SnmpTransport) -> None:
    assert "cannot be opened" in look(quick, asset(161, tmp_path / "none"), [fact(f"{SYSTEM}.5.0")]).detail
    assert "plain file" in look(quick, asset(161, tmp_path), [fact(f"{SYSTEM}.5.0")]).detail
    bare = Asset("x", "switch", (), Words("a", "a"), address="127.0.0.1")
    assert look(quick, bare, [fact(f"{SYSTEM}.5.0")]).outcome is Outcome.AUTH_FAILED


def test_a_relative_secret_file_is_taken_from_the_secrets_folder(tmp_path: Path) -> None:
    secret(tmp_path, community=COMMUNITY)
    transport = SnmpTransport(secrets_dir=tmp_path, timeout_seconds=0.3, retries=0)
    assert look(transport, asset(free_port(), "secret-0"), [fact(f"{SYSTEM}.5.0")]).outcome is Outcome.REFUSED


# --------------------------------------------------------------------------------- agents that lie or stumble

Answer = Callable[[bytes], Sequence[bytes]]


class FakeAgent:
    """A UDP socket on the loopback that answers each datagram as it is told."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.05)
        self.port = int(self._socket.getsockname()[1])
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> FakeAgent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._ends.is_set():
            try:
                data, peer = self._socket.recvfrom(65535)
            except TimeoutError:
                continue
            self.asked += 1
            for datagram in self._answer(data):
                self._socket.sendto(datagram, peer)


class Question:
    """A v2c request as pysnmp reads it, and how to answer it."""

    def __init__(self, data: bytes) -> None:
        self.message, _ = decoder.decode(data, asn1Spec=v2c.Message())
        self.pdu = v2c.apiMessage.get_pdu(self.message)
        self.bulk = self.pdu.isSameTypeWith(v2c.GetBulkRequestPDU())
        self.repetitions = int(self.pdu[2]) if self.bulk else 1
        self.names = [tuple(name) for name, _ in v2c.apiPDU.get_varbinds(self.pdu)]

    def answer(self, varbinds: Sequence[tuple[tuple[int, ...], Any]], status: int = 0, index: int = 0) -> bytes:
        response = v2c.ResponsePDU()
        v2c.apiPDU.set_defaults(response)
        v2c.apiPDU.set_request_id(response, v2c.apiPDU.get_request_id(self.pdu))
        response[1], response[2] = status, index
        v2c.apiPDU.set_varbinds(response, [(v2c.ObjectIdentifier(name), value) for name, value in varbinds])
        v2c.apiMessage.set_pdu(self.message, response)
        return bytes(encoder.encode(self.message))


COLUMN = parse_oid(".1.3.6.1.2.1.2.2.1.2")


def table(rows: int, columns: int = 3) -> dict[tuple[int, ...], Any]:
    return {
        (*COLUMN[:-1], column, row): v2c.OctetString(f"{column}.{row}")
        for column in range(1, columns + 1)
        for row in range(1, rows + 1)
    }


def honest(values: dict[tuple[int, ...], Any], largest: int = 10**6) -> Answer:
    """An agent over these values that gives at most so many of them in one answer."""
    order = sorted(values)

    def answer(data: bytes) -> Sequence[bytes]:
        question = Question(data)
        if not question.bulk:
            return [question.answer([(name, values.get(name, v2c.NoSuchObject())) for name in question.names])]
        found: list[tuple[tuple[int, ...], Any]] = []
        at = list(question.names)
        for _ in range(question.repetitions):
            for place, name in enumerate(at):
                after = next((one for one in order if one > name), None)
                found.append((after, values[after]) if after else (name, v2c.EndOfMibView()))
                at[place] = after or name
        return [question.answer(found[:largest])]

    return answer


@pytest.fixture
def v2c_key(keys: Path) -> Path:
    return secret(keys, community=COMMUNITY)


def test_overlapping_objects_are_walked_once_and_each_fact_gets_its_own(v2c_key: Path, steady: SnmpTransport) -> None:
    root = ".1.3.6.1.2.1.2.2.1"
    asked = [fact(root, "a.all"), fact(f"{root}.2 {root}.3", "b.two"), fact(f"{root}.2", "c.one")]
    with FakeAgent(honest(table(5))) as fake:
        found = look(steady, asset(fake.port, v2c_key), asked)
        together = fake.asked
        look(steady, asset(fake.port, v2c_key), asked[:1])
        assert fake.asked - together == together
    assert [raw(found, one.name).count("\n") for one in asked] == [15, 10, 5]
    assert raw(found, "c.one").startswith(f'{root}.2.1 = STRING: "2.1"\n')


@pytest.mark.parametrize("largest", [1, 2, 5, 7, 10**6])
def test_answers_cut_short_by_the_agent_are_walked_on(v2c_key: Path, steady: SnmpTransport, largest: int) -> None:
    asked = [fact(f".1.3.6.1.2.1.2.2.1.{column}", f"t.c{column}") for column in (1, 2, 3, 4)]
    with FakeAgent(honest(table(11), largest)) as fake:
        found = look(steady, asset(fake.port, v2c_key), asked)
    assert [reply.raw.count(b"\n") for reply in found.replies] == [11, 11, 11, 0]
    assert found.replies[3].outcome is Outcome.NOT_SUPPORTED


def test_a_silent_agent_times_out_within_the_deadline(v2c_key: Path) -> None:
    patient = SnmpTransport(timeout_seconds=30.0, retries=5)
    with FakeAgent(lambda _: []) as fake:
        began = time.monotonic()
        found = look(patient, asset(fake.port, v2c_key), [fact(f"{SYSTEM}.5.0")], deadline=0.7)
        assert 0.6 <= time.monotonic() - began < 1.2
    assert found.outcome is Outcome.TIMEOUT
    assert "deadline" in found.detail


def test_an_agent_that_dribbles_cannot_hold_a_look_beyond_its_deadline(v2c_key: Path) -> None:
    def answer(data: bytes) -> Sequence[bytes]:
        question = Question(data)
        time.sleep(0.1)
        name = question.names[0]
        last = name[-1] + 1 if len(name) > len(COLUMN) else 1
        return [question.answer([((*COLUMN, last), v2c.Integer32(1))])]

    with FakeAgent(answer) as fake:
        began = time.monotonic()
        found = look(SnmpTransport(), asset(fake.port, v2c_key), [fact(".1.3.6.1.2.1.2.2.1.2")], deadline=1.0)
        assert time.monotonic() - began < 1.6
    assert found.outcome is Outcome.ANSWERED
    assert found.replies[0].outcome is Outcome.TIMEOUT


@pytest.mark.parametrize("version", ["2c", "3"])
@pytest.mark.parametrize(
    "garbage", [b"", b"\x00" * 40, b"HTTP/1.1 400 Bad Request\r\n", b"0\x82\xff\xff\x02", bytes(range(60))]
)
def test_garbage_is_garbled(keys: Path, quick: SnmpTransport, garbage: bytes, version: str) -> None:
    path = secret(keys, **(V3 if version == "3" else {"community": COMMUNITY}))
    with FakeAgent(lambda _: [garbage] * 3) as fake:
        found = look(quick, asset(fake.port, path, version), [fact(f"{SYSTEM}.5.0")])
    assert found.outcome is Outcome.GARBLED
    assert "no answer" in found.detail


def test_garbage_before_the_answer_does_no_harm(v2c_key: Path, steady: SnmpTransport) -> None:
    good = honest(table(2))
    with FakeAgent(lambda data: [b"noise", *good(data)]) as fake:
        assert raw(look(steady, asset(fake.port, v2c_key), [fact(".1.3.6.1.2.1.2.2.1.2")])).count("\n") == 2


def test_an_answer_to_another_question_is_not_taken(v2c_key: Path, quick: SnmpTransport) -> None:
    good = honest(table(2) | {(1, 3, 6, 1, 2, 1, 1, 5, 0): v2c.OctetString("x")})
    kept: list[bytes] = []

    def answer(data: bytes) -> Sequence[bytes]:
        kept.extend(good(data))
        return kept[:1]

    with FakeAgent(answer) as fake:
        asked = [fact(f"{SYSTEM}.5.0", "t.s"), fact(".1.3.6.1.2.1.2.2.1.2", "t.t")]
        found = look(quick, asset(fake.port, v2c_key), asked)
    assert [reply.outcome for reply in found.replies] == [Outcome.ANSWERED, Outcome.TIMEOUT]


def test_an_agent_that_runs_in_circles_is_garbled(v2c_key: Path, steady: SnmpTransport) -> None:
    def answer(data: bytes) -> Sequence[bytes]:
        question = Question(data)
        return [question.answer([((*COLUMN, row), v2c.Integer32(row)) for row in (1, 2, 3, 2)])]

    with FakeAgent(answer) as fake:
        found = look(steady, asset(fake.port, v2c_key), [fact(".1.3.6.1.2.1.2.2.1.2")])
        assert fake.asked == 1
    assert found.replies[0].outcome is Outcome.GARBLED
    assert "circles" in found.replies[0].detail


def test_an_endless_table_is_stopped(v2c_key: Path) -> None:
    def answer(data: bytes) -> Sequence[bytes]:
        question = Question(data)
        first = question.names[0][-1] if len(question.names[0]) > len(COLUMN) else 0
        return [question.answer([((*COLUMN, first + step), v2c.Integer32(1)) for step in range(1, 51)])]

    with FakeAgent(answer) as fake:
        transport = SnmpTransport(timeout_seconds=5.0, max_values=500)
        found = look(transport, asset(fake.port, v2c_key), [fact(".1.3.6.1.2.1.2.2.1.2")])
        assert fake.asked == 10
    assert found.replies[0].outcome is Outcome.GARBLED
    assert "500" in found.replies[0].detail


def test_a_time_filtered_table_is_walked_once_and_not_once_for_every_moment(
    v2c_key: Path, steady: SnmpTransport
) -> None:
    vlans = parse_oid(".1.3.6.1.2.1.17.7.1.4.2.1.3")
    values = {(*vlans, mark, vlan): v2c.Gauge32(vlan) for mark in range(500) for vlan in (10, 20, 30)}
    with FakeAgent(honest(values, 10)) as fake:
        found = look(steady, asset(fake.port, v2c_key), [fact(".1.3.6.1.2.1.17.7.1.4.2.1.3")])
        assert fake.asked == 1
    assert [varbind.value for varbind in parse(raw(found))] == [10, 20, 30]


def test_an_agent_whose_big_answers_get_lost_is_asked_for_small_ones(v2c_key: Path) -> None:
    small = honest(table(30))

    def answer(data: bytes) -> Sequence[bytes]:
        question = Question(data)
        return [] if question.repetitions * len(question.names) > 10 else small(data)

    asked = [fact(f".1.3.6.1.2.1.2.2.1.{column}", f"t.c{column}") for column in (1, 2, 3)]
    scalar = fact(".1.3.6.1.2.1.1.5.0", "t.s")
    with FakeAgent(answer) as fake:
        found = look(SnmpTransport(timeout_seconds=0.3, retries=0), asset(fake.port, v2c_key), [scalar, *asked])
    assert [reply.raw.count(b"\n") for reply in found.replies] == [0, 30, 30, 30]


def test_an_agent_that_finds_everything_too_big_is_asked_for_less(v2c_key: Path, steady: SnmpTransport) -> None:
    values = table(9) | {(1, 3, 6, 1, 2, 1, 1, item, 0): v2c.Integer32(item) for item in range(1, 9)}

    def answer(data: bytes) -> Sequence[bytes]:
        question = Question(data)
        if question.repetitions * len(question.names) > 3:
            return [question.answer([], status=1)]
        return honest(values)(data)

    scalars = " ".join(f".1.3.6.1.2.1.1.{item}.0" for item in range(1, 9))
    with FakeAgent(answer) as fake:
        found = look(steady, asset(fake.port, v2c_key), [fact(scalars, "t.s"), fact(".1.3.6.1.2.1.2.2.1", "t.t")])
    assert [reply.raw.count(b"\n") for reply in found.replies] == [8, 27]


def test_an_error_about_one_object_leaves_the_others_standing(v2c_key: Path, steady: SnmpTransport) -> None:
    good = honest(table(3) | {(1, 3, 6, 1, 2, 1, 1, 5, 0): v2c.OctetString("x")})
    status = {4: 5, 5: 16}  # column -> genErr, authorizationError

    def answer(data: bytes) -> Sequence[bytes]:
        question = Question(data)
        for place, name in enumerate(question.names, 1):
            if name[:-1] == COLUMN[:-1] and name[-1] in status:
                return [question.answer([(name, v2c.Null("")) for name in question.names], status[name[-1]], place)]
        return good(data)

    asked = [fact(f".1.3.6.1.2.1.2.2.1.{column}", f"t.c{column}") for column in (2, 4, 5)]
    with FakeAgent(answer) as fake:
        found = look(steady, asset(fake.port, v2c_key), [*asked, fact(f"{SYSTEM}.5.0", "t.s")])
    outcomes = [reply.outcome for reply in found.replies]
    assert outcomes == [Outcome.ANSWERED, Outcome.GARBLED, Outcome.REFUSED, Outcome.ANSWERED]
    assert "genErr" in found.replies[1].detail


def test_a_value_that_is_no_smi_value_spoils_its_own_column_only(v2c_key: Path, steady: SnmpTransport) -> None:
    values = table(3)
    good = honest(values)

    def answer(data: bytes) -> Sequence[bytes]:
        return [datagram.replace(b"\x04\x033.2", b"\x47\x033.2") for datagram in good(data)]

    asked = [fact(f".1.3.6.1.2.1.2.2.1.{column}", f"t.c{column}") for column in (2, 3)]
    with FakeAgent(answer) as fake:
        found = look(steady, asset(fake.port, v2c_key), asked)
    assert [reply.outcome for reply in found.replies] == [Outcome.ANSWERED, Outcome.GARBLED]
    assert "0x47" in found.replies[1].detail


def test_no_fact_no_packet(v2c_key: Path, steady: SnmpTransport) -> None:
    with FakeAgent(honest(table(1))) as fake:
        found = look(steady, asset(fake.port, v2c_key), [])
        assert (found.outcome, found.replies, fake.asked) == (Outcome.ANSWERED, (), 0)
