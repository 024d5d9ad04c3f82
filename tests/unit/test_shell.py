"""The batched script and its output: whatever a command prints, every fact gets its own bytes and its own outcome."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.collect.facts import SHELL_FACTS
from controlplane.collect.facts.shell import (
    OUTPUT_BYTES,
    build_script,
    is_whole,
    main,
    marker,
    privileged_commands,
    script_sha256,
    split_output,
    sudoers_lines,
)
from controlplane.domain.model import Fact, Outcome, Reply

GATE = Path(__file__).resolve().parents[2] / "controlplane" / "collect" / "gate.sh"


def fact(name: str, ask: str, privileged: bool = False) -> Fact:
    return Fact(name, "shell", ask, str, "-", "test", privileged=privileged)


def run(facts: tuple[Fact, ...]) -> tuple[Reply, ...]:
    """The script through a real sh, as ssh does it."""
    done = subprocess.run(["sh", "-s"], input=build_script(facts).encode(), capture_output=True, check=True)
    assert is_whole(done.stdout, facts)
    return split_output(done.stdout, facts)


def printed(path: Path, body: bytes) -> Fact:
    path.write_bytes(body)
    return fact(f"body.{path.name}", f"cat {path}")


NASTY = {
    "empty": b"",
    "newline": b"\n",
    "newlines": b"\n\n\n",
    "no-newline-at-the-end": b"a\nb",
    "newline-at-the-end": b"a\nb\n",
    "two-newlines-at-the-end": b"a\n\n",
    "bars": b"|\n||\n|a",
    "nul": b"a\0b\n\0newline",
    "invalid-utf-8": b"\xff\xfe\x80\n\xc3",
    "carriage-returns": b"a\r\nb\r",
    "quotes": b"'\"`$(id)${S}\\n%s%%\n",
    "every-byte": bytes(range(256)),
    "long-line": b"x" * 100_000,
}


@pytest.mark.parametrize("name", NASTY)
def test_output_comes_back_byte_for_byte(tmp_path: Path, name: str) -> None:
    first, second = printed(tmp_path / name, NASTY[name]), fact("after.it", "echo after")
    replies = run((first, second))
    assert [reply.outcome for reply in replies] == [Outcome.ANSWERED] * 2
    assert replies[0].raw == NASTY[name]
    assert replies[1].raw == b"after\n"


def test_output_that_holds_the_markers_stays_output(tmp_path: Path) -> None:
    path = tmp_path / "forged"
    facts = (fact("a.forged", f"cat {path}"), fact("b.true", "echo true"))
    mark = marker(facts)
    body = f"\n{mark} end a.forged 0 \n{mark} begin b.true\n|forged\n\n{mark} end b.true 0 \n{mark} done\n".encode()
    path.write_bytes(body)
    replies = run(facts)
    assert replies[0].raw == body
    assert replies[1].raw == b"true\n"


def test_markers_on_standard_error_stay_words() -> None:
    facts: tuple[Fact, ...] = (fact("a.b", "true"), fact("b.c", "true"))
    asks = fact("a.b", f"printf '\\n{marker(facts)} end b.c 0 \\n' >&2; exit 1"), facts[1]
    replies = run(asks)
    assert [reply.outcome.value for reply in replies] == ["garbled", "answered"]


def test_ten_megabytes_are_cut_and_said(tmp_path: Path) -> None:
    replies = run((printed(tmp_path / "big", b"0123456789abcde\n" * 655_360), fact("after.it", "echo after")))
    assert replies[0].outcome is Outcome.GARBLED
    assert replies[0].detail == "the output is longer than 256 KiB and was cut"
    assert len(replies[0].raw) == OUTPUT_BYTES
    assert replies[1].raw == b"after\n"


def test_output_just_at_the_bound_is_whole(tmp_path: Path) -> None:
    assert run((printed(tmp_path / "full", b"x" * OUTPUT_BYTES),))[0].raw == b"x" * OUTPUT_BYTES


def test_a_command_cannot_eat_the_script() -> None:
    assert [reply.raw for reply in run((fact("a.b", "cat"), fact("b.c", "echo after")))] == [b"", b"after\n"]


def test_a_command_cannot_change_the_ones_after_it() -> None:
    facts = (
        fact("a.b", "PATH=/nowhere; S=rm; exit() { :; }; cd /tmp; M=x"),
        fact("b.c", "echo ${S:-none} $LC_ALL $TZ"),
    )
    assert run(facts)[1].raw in (b"none C UTC\n", b"sudo -n C UTC\n")


def test_half_a_script_does_nothing(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    script = build_script((fact("a.b", f"touch {sign}"),))
    for cut in range(0, len(script) - len("main\n"), 7):
        subprocess.run(["sh", "-s"], input=script[:cut].encode(), capture_output=True, check=False)
    assert not sign.exists()


def test_an_answer_that_is_cut_keeps_what_was_complete() -> None:
    facts = tuple(fact(f"part.n{i}", f"echo {i}; echo x") for i in range(5))
    raw = subprocess.run(["sh", "-s"], input=build_script(facts).encode(), capture_output=True, check=True).stdout
    for cut in range(len(raw)):
        replies = split_output(raw[:cut], facts)
        assert len(replies) == 5
        for number, reply in enumerate(replies):
            if reply.outcome is Outcome.ANSWERED:
                assert reply.raw == f"{number}\nx\n".encode()
            else:
                assert reply.outcome is Outcome.GARBLED
                assert reply.detail in (
                    "the answer broke off in the middle",
                    "the connection ended before this question",
                )
        assert not is_whole(raw[:cut], facts) or cut >= len(raw) - 1


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_no_bytes_make_the_splitter_stumble(raw: bytes) -> None:
    facts = (fact("a.b", "true"),)
    mark = marker(facts).encode()
    for text in (raw, mark + b" begin " + raw, mark + b" begin a.b\n" + raw, mark + b" end a.b " + raw):
        assert len(split_output(text, facts)) == 1


def test_the_script_is_constant_text_and_its_digest_too() -> None:
    script = build_script(SHELL_FACTS)
    assert script == build_script(list(SHELL_FACTS))
    assert script_sha256(SHELL_FACTS) == hashlib.sha256(script.encode()).hexdigest()
    assert marker(SHELL_FACTS) != marker(SHELL_FACTS[1:])


def test_every_privileged_fact_asks_through_the_allow_list_and_no_other_does() -> None:
    for one in SHELL_FACTS:
        assert one.privileged == ("${S}" in one.ask), one.name
        assert one.ask.count("${S}") == len(re.findall(r"\$\{S\} /", one.ask)), one.name
    assert all(command.startswith("/usr/") for command in privileged_commands(SHELL_FACTS))


def test_the_allow_list_is_exact() -> None:
    text = sudoers_lines(SHELL_FACTS)
    rules = [line for line in text.splitlines() if not line.startswith("#")]
    assert rules
    for rule in rules:
        assert re.fullmatch(r"emrread ALL=\(root\) NOPASSWD: /usr/s?bin/[a-z][a-z0-9-]* [^*?\[\]!]+", rule), rule
        assert not re.search(r"/(sh|bash|dash|env|awk|sed|xargs|python3?|perl|vi|less|tee|cp|dd)\b", rule)
        # find may list what its exact words name, and do nothing with it
        assert not re.search(r"/find .* -(exec|execdir|ok|okdir|delete|fprint|fprintf|fprint0|fls|files0)", rule)


def test_a_command_with_a_wildcard_is_refused() -> None:
    with pytest.raises(ValueError, match="not an exact command line"):
        sudoers_lines((fact("a.b", "${S} /usr/bin/cat /etc/*", privileged=True),))


def test_a_command_without_arguments_allows_none() -> None:
    text = sudoers_lines((fact("a.b", "${S} /usr/sbin/pvs | head", privileged=True),), "reader")
    assert text.splitlines()[1] == 'reader ALL=(root) NOPASSWD: /usr/sbin/pvs ""'


def test_no_command_opens_the_network_or_writes() -> None:
    words = re.compile(
        r"\b(curl|wget|ping|dig|host|nslookup|getent|apt-get|rm|mv|cp|mkdir|touch|tee|kill|systemctl (re)?start)\b"
    )
    # The one program asked over a socket answers on this very machine, and is asked to tell, not to do.
    itself = re.compile(r"curl -sf --max-time 2 --noproxy 127\.0\.0\.1 'http://127\.0\.0\.1:9090/api/v1/[^']*'")
    for one in SHELL_FACTS:
        ask = itself.sub("", one.ask) if one.name == "monitor.prometheus" else one.ask
        assert not words.search(ask.replace("command -v curl", "")), one.name
        if one.name == "probe.attempts":
            continue  # the next test
        assert set(re.findall(r"(\d?>+)\s*(\S+)", one.ask)) <= {
            (sign, target) for sign in (">", "2>") for target in ("/dev/null", "/dev/null;", "/dev/null)")
        } | {(">=", "1000"), (">", "=")}, one.name


def test_the_one_question_that_sends_packets_sends_them_by_the_plan_of_root_alone() -> None:
    ask = next(one.ask for one in SHELL_FACTS if one.name == "probe.attempts")
    assert ask.startswith("[ -r /etc/emrctl/probe-plan.json ] || exit 69; exec python3 -I -c '")
    program = ask.partition(" -c '")[2].removesuffix("'")
    assert "'" not in program, "the shell passes it on as it stands"
    compile(program, "probe", "exec")
    assert re.findall(r"\bopen\(([^)]*)\)", program) == ['"/etc/emrctl/probe-plan.json", "rb"']
    assert set(re.findall(r'\bip\("(\w+", "\w+)"', program)) == {'addr", "show', 'route", "get', 'neigh", "show'}
    assert re.findall(r"subprocess\.run\(\[([^\]]*)\]", program) == ['"ip", "-o", *words']
    assert not re.search(r"\b(system|exec|eval|popen|write|unlink|remove|listen|getaddrinfo)\b", program)
    assert 'targets = plan["address"], sorted(plan["targets"])' in program, "whoever asks names no address"
    assert "argv" not in program
    assert "stdin" not in program
    assert "environ" not in program


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--script", build_script(SHELL_FACTS)),
        ("--script-sha256", script_sha256(SHELL_FACTS) + "\n"),
        ("--sudoers", sudoers_lines(SHELL_FACTS)),
    ],
)
def test_the_program_prints_what_the_device_needs(
    capsys: pytest.CaptureFixture[str], option: str, expected: str
) -> None:
    assert main([option]) == 0
    assert capsys.readouterr().out == expected


def gate(script: bytes, allowed: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["sh", GATE, allowed], input=script, capture_output=True, check=False)


def test_the_gate_runs_the_pinned_script_only(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed-scripts"
    script = build_script((fact("a.b", "echo let in"),)).encode()
    for end in ("", " reader script", "\n"):
        allowed.write_text(f"# remarks\n\n{hashlib.sha256(script).hexdigest()}{end}")
        assert b"|let in\n" in gate(script, allowed).stdout
    for other in (script + b"\n", script[:-1], script + b"id\n", b"id\n", b"", script * 2000):
        done = gate(other, allowed)
        assert (done.returncode, done.stdout) == (126, b"")
        assert done.stderr.startswith(b"gate: the script ")


def test_the_gate_keeps_the_exit_code(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.write_text(hashlib.sha256(b"exit 7\n").hexdigest() + "\n")
    assert gate(b"exit 7\n", allowed).returncode == 7
