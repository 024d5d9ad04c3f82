"""Plays over HTTP: a real server on a real store, two people, live events that are dropped and taken up, and a kill."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import yaml
from argon2 import PasswordHasher

from controlplane import texts
from controlplane.bootstrap import open_plane
from controlplane.store.accounts import Accounts
from controlplane.web import events
from controlplane.web.access import API, TABLE
from controlplane.web.app import make_app
from tests.conftest import ROOT
from tests.integration.test_plays import commands
from tests.integration.test_runs import EVENING, HERE, MORNING, Hospital, hospital, wait_for
from tests.integration.test_ssh import SSHD, Server, free_port, server

__all__ = ["hospital", "server"]


CLIENTS: list[httpx.Client] = []


@pytest.fixture(autouse=True)
def closed_clients() -> Iterator[None]:
    yield
    while CLIENTS:
        CLIENTS.pop().close()


@dataclass
class Person:
    """Somebody who is logged in."""

    client: httpx.Client
    token: str

    def post(self, path: str, **fields: str) -> httpx.Response:
        return self.client.post(f"{API}{path}", data=fields, headers={"X-CSRF-Token": self.token})

    def get(self, path: str) -> Any:
        answer = self.client.get(f"{API}{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def started(self, path: str, **fields: str) -> str:
        answer = self.post(path, **fields)
        assert answer.status_code == 202, answer.text
        id_ = str(answer.json()["data"]["id"])
        assert answer.headers["location"] in (f"{API}/runs/{id_}", f"{API}/drift")
        return id_

    def refused(self, path: str, status: int, code: str, **fields: str) -> str:
        answer = self.post(path, **fields)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
        return str(answer.json()["error"]["message"])

    def listen(self, run: str, last: int = 0, most: int = 100_000, query: str = "") -> list[tuple[int, Any]]:
        """(number, event) until the stream ends, or hang up after ``most``. The last one is ("end", state)."""
        headers = {"Last-Event-ID": str(last)} if last else {}
        heard: list[tuple[int, Any]] = []
        with self.client.stream("GET", f"{API}/runs/{run}/events{query}", headers=headers, timeout=60) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            number, name = -1, ""
            for line in answer.iter_lines():
                word, _, value = line.partition(": ")
                if word == "id":
                    number = int(value)
                elif word == "event":
                    name = value
                elif word == "data":
                    heard.append((0, json.loads(value)) if name == "end" else (number, json.loads(value)))
                    if len(heard) == most:
                        return heard
        return heard


class Served:
    """The hospital behind a real server, in this process."""

    def __init__(self, hospital: Hospital) -> None:
        plane = hospital.plane
        plane.accounts = Accounts(plane.archive.engine, PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        hospital.people()
        self.app = make_app(plane)
        self.port = free_port()
        config = uvicorn.Config(
            self.app, host="127.0.0.1", port=self.port, log_level="warning", timeout_graceful_shutdown=1
        )
        self.server = uvicorn.Server(config)
        self.server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        wait_for(lambda: self.server.started)

    def person(self, name: str, lang: str = "en") -> Person:
        return log_in(self.port, name, lang)

    def end(self) -> None:
        self.server.should_exit = True
        self.thread.join(90)
        assert not self.thread.is_alive()


def log_in(port: int, name: str, lang: str = "en") -> Person:
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)
    CLIENTS.append(client)
    page = client.get("/login", params={"lang": lang}).text
    token = page.partition('name="csrf" value="')[2].partition('"')[0]
    answer = client.post("/login", data={"csrf": token, "name": name, "password": f"a password of {name}"})
    assert answer.status_code == 303, answer.text
    return Person(client, client.get(f"{API}/session").json()["data"]["csrf"])


@pytest.fixture
def served(hospital: Hospital) -> Iterator[Served]:
    place = Served(hospital)
    yield place
    place.end()


def test_two_people_carry_a_play_through_and_its_events_are_dropped_and_taken_up(
    hospital: Hospital, served: Served
) -> None:
    an, chi = served.person("an"), served.person("chi")
    (row,) = [row for row in an.get("/plays") if row["id"] == "careful"]
    assert (row["approval"], row["members"], row["applied"]) == ("second_role", list(HERE), None)
    asked = an.started("/plays/careful/preview")
    heard = an.listen(asked)
    assert heard[-1] == (0, {"run": asked, "state": "successful"})
    assert hospital.written() == []
    assert "on these hosts needs the approval of a second role" in an.refused(
        "/plays/careful/apply", 409, "refused", preview_id=asked
    )
    assert an.post(f"/runs/{asked}/request", note="tối nay").status_code == 201
    assert "somebody else" in an.refused(f"/runs/{asked}/approve", 409, "refused")
    chi.refused(f"/runs/{asked}/request", 403, "forbidden")
    answer = chi.post(f"/runs/{asked}/approve", note="đồng ý").json()["data"]
    assert (answer["state"], answer["by"], answer["role"]) == ("approved", "chi", "director")

    run = an.started("/plays/careful/apply", preview_id=asked)
    first = an.listen(run, most=7)
    again = an.listen(run, last=first[-1][0])
    numbers = [number for number, _ in first + again[:-1]]
    assert numbers == list(range(1, len(numbers) + 1)), "nothing is missed and nothing comes twice"
    assert again[-1][1]["state"] == "successful"
    told = {event["event"] for _, event in first + again[:-1]}
    assert {"emr_step", "emr_look", "playbook_on_task_start", "runner_on_ok"} <= told
    kept = an.listen(run)
    assert [pair for pair in kept if pair[1].get("event") != "emr_look"] == [
        pair for pair in first + again if pair[1].get("event") != "emr_look"
    ], "what was kept is told under the same numbers"
    brief = an.listen(run, last=numbers[-1] // 2, query="?brief=true")
    assert {event["status"] for _, event in brief if "status" in event} <= {"ok", "changed", "skipped"}
    assert hospital.written() == list(HERE)
    standing = an.get(f"/runs/{run}/standing")
    assert standing["signature"] is True
    assert not standing["resumable"]
    assert an.get(f"/runs/{asked}/standing")["applied_by"] == run
    assert [d["state"] for d in an.get(f"/runs/{asked}/standing")["decisions"]] == ["requested", "approved"]
    body = an.get(f"/runs/{run}")
    assert (body["by"], body["preview"]) == ("an", asked)
    progress = an.get(f"/runs/{run}/progress")
    assert progress["steps"] == ["round_before", "preview", "apply", "round_after"]
    assert "was carried out" in an.refused("/plays/careful/apply", 409, "refused", preview_id=asked)
    assert "không có gì để chạy tiếp" in served.person("an", "vi").refused(f"/runs/{run}/resume", 409, "refused")

    (hospital.place / "here-1.conf").write_text("level = 0\n")
    assert an.client.get(f"{API}/drift").status_code == 404
    an.started("/drift", plays="careful")
    wait_for(hospital.plane.last_drift)
    (difference,) = an.get("/drift")["plays"][0]["differences"]
    assert (difference["host"], difference["criteria"]) == ("here-1", ["tcvn14423.log.ntp"])
    (row,) = [row for row in an.get("/plays") if row["id"] == "careful"]
    assert (row["drift"]["differences"], row["applied"]["id"]) == (1, run)


def test_what_may_not_be_is_refused_with_a_sentence_and_a_run_is_stopped_in_order(
    hospital: Hospital, served: Served
) -> None:
    an, dung, chi = served.person("an"), served.person("dung"), served.person("chi", "vi")
    writes = [path.removeprefix(API) for method, path in TABLE if method == "POST" and "{play}" in path]
    for path in [*(path.replace("{play}", "write") for path in writes), "/runs/x/cancel", "/runs/x/resume", "/drift"]:
        dung.refused(path, 403, "forbidden")
        answer = an.client.post(f"{API}{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "bad_token")
    an.refused("/plays/gone/preview", 404, "no_play")
    an.refused("/runs/gone/cancel", 404, "no_run")
    an.refused("/plays/write/apply", 404, "no_run", preview_id="gone")
    assert "gone" in an.refused("/plays/write/preview", 409, "refused", limit="here-1, gone")
    an.refused("/plays/write/preview", 400, "long_field", limit="x" * 3000)
    hospital.clock.at = MORNING
    assert "within clinic hours" in an.refused("/plays/loud/apply", 409, "clinic_hours")
    hospital.clock.at = EVENING

    hospital.mark("here-1", "slow")
    run = an.started("/plays/write/preview", limit="here-1")
    assert chi.refused("/plays/write/preview", 403, "forbidden")
    busy = texts.say("en", "web.error.busy_host", host="here-1")
    assert an.refused("/plays/write/apply", 409, "busy_host") == busy
    wait_for(lambda: an.get(f"/runs/{run}/progress")["task"] == "Wait")
    streams = []
    for _ in range(events.MOST_LISTENERS_OF_ONE):
        door = socket.create_connection(("127.0.0.1", served.port))
        cookies = "; ".join(f"{name}={value}" for name, value in an.client.cookies.items())
        door.sendall(f"GET {API}/runs/{run}/events HTTP/1.1\r\nHost: x\r\nCookie: {cookies}\r\n\r\n".encode())
        assert b"200 OK" in door.recv(100)
        streams.append(door)
    assert an.client.get(f"{API}/runs/{run}/events").status_code == 429
    for door in streams:
        door.close()
    wait_for(lambda: served.app.state.listeners.count() == 0)
    wish = chi.post(f"/runs/{run}/cancel")
    assert wish.status_code == 202
    assert an.listen(run)[-1][1]["state"] == "cancelled"
    assert hospital.plane.run_line(run)["cancelled_by"] == "chi"

    wait_for(lambda: an.post("/plays/write/preview", limit="here-1").status_code == 202)  # its lock is freed after that
    (other,) = [row["id"] for row in hospital.plane.archive.runs() if row["state"] == "running"]
    wait_for(lambda: an.get(f"/runs/{other}/progress")["task"] == "Wait")
    served.end()
    line = hospital.plane.run_line(other)
    assert (line["state"], line["cancelled_by"]) == ("cancelled", None), "a server that is told to end ends it in order"
    assert not any(str(hospital.settings.run_dir) in words for words in commands())


class Closable:
    """A feed of which only its end matters."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_a_client_that_does_not_read_is_let_go_and_holds_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SLOWEST_SEND_SECONDS", 0.5)
    listeners, feed, told = events.Listeners(), Closable(), 0

    async def endless() -> AsyncIterator[str]:
        nonlocal told
        while True:
            told += 1
            yield events.frame({"told": told, "text": "x" * 65536}, told)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            listeners.enter("an")
            await events.EventStream(feed, endless(), listeners, "an")(scope, receive, send)  # type: ignore[arg-type]

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off"))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        with socket.create_connection(("127.0.0.1", port)) as deaf:
            deaf.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_for(lambda: told > 0)
            wait_for(lambda: listeners.count() == 0)
            assert feed.closed
            assert told < 1000, "what nobody reads is not piled up in memory"
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


# -------------------------------------------------------- demonstration 5: a kill -9 while hosts are being changed

KILLED = """---
- name: Change in two steps
  hosts: here
  gather_facts: false
  tasks:
    - name: Write
      ansible.builtin.copy:
        dest: "{{ place }}/{{ inventory_hostname }}.conf"
        content: "level = 3\\n"
        mode: "0600"
      tags: [tcvn14423.log.ntp]
    - name: Wait
      ansible.builtin.command: sleep 43
      changed_when: false
      when: (place ~ '/' ~ inventory_hostname ~ '.slow') is exists
    - name: Finish
      ansible.builtin.copy:
        dest: "{{ place }}/{{ inventory_hostname }}.done"
        content: "done\\n"
        mode: "0600"
"""


# emrctl itself; a look of its own machine asks few of the questions, so that a try does not take minutes.
PROGRAM = """
from controlplane.collect import local
from controlplane.bootstrap import rules
few = [fact for fact in local.SHELL_FACTS if fact.name.startswith("os.")]
rules.LocalTransport = lambda: local.LocalTransport(script_facts=few)
from controlplane.cli import main
main()
"""


def control_plane(hospital: Hospital, known: Path) -> tuple[subprocess.Popen[bytes], int]:
    """``emrctl serve`` as a process of its own, answering."""
    port = free_port()
    env = os.environ | {"EMRCTL_HOME": str(hospital.home), "EMRCTL_ROUND_EVERY_MINUTES": "0", "EMRCTL_DRIFT_AT": ""}
    given = ["--data-dir", str(hospital.settings.data_dir), "--known-hosts", str(known)]
    argv = [sys.executable, "-c", PROGRAM, *given, "serve", "--port", str(port)]
    process = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)

    def answers() -> bool:
        assert process.poll() is None, "the server ended"
        with socket.socket() as door:
            return door.connect_ex(("127.0.0.1", port)) == 0

    wait_for(answers)
    return process, port


def over_ssh(hospital: Hospital, sshd: Server) -> Path:
    """The two hosts are reached through a real sshd, and the play changes each in two steps; return the known hosts."""
    path = hospital.home / "inventory" / "hosts.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    for host in document["all"]["children"]["here"]["hosts"].values():
        host |= {"ansible_connection": "ssh", "ansible_port": sshd.port}
        host |= {"ansible_user": "root", "ansible_ssh_private_key_file": str(sshd.key)}
        host |= {"ansible_python_interpreter": sys.executable}
    path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    (hospital.home / "playbooks" / "write.yml").write_text(KILLED)
    known, line = hospital.folder / "known_hosts", sshd.known_hosts.read_text()
    known.write_text(line + line.replace("127.0.0.1", "127.0.0.2"))
    return known


@pytest.mark.skipif(not Path(SSHD).exists() or os.geteuid() != 0, reason="needs sshd and root")
def test_a_control_plane_killed_while_it_changes_hosts_is_whole_when_it_starts_again(
    hospital: Hospital, server: Server
) -> None:
    server.allow()
    known = over_ssh(hospital, server)
    hospital.people()
    hospital.clock.at = datetime.now(UTC)
    hospital.mark("here-2", "slow")
    process, port = control_plane(hospital, known)
    try:
        run = log_in(port, "an").started("/plays/write/apply")
        wait_for(lambda: any(words.startswith("sleep 43") for words in commands()))
        wait_for(
            lambda: (
                sorted(p.name for p in hospital.place.glob("here-*.*")) == ["here-1.conf", "here-2.conf", "here-2.slow"]
            )
        )
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    of_the_run = str(hospital.settings.run_dir / run)
    assert any(of_the_run in words for words in commands()), "what it had begun goes on without it"
    assert hospital.plane.run_line(run)["state"] == "running"

    hospital.unmark("here-2", "slow")
    process, port = control_plane(hospital, known)
    try:
        an = log_in(port, "an")
        found = an.get(f"/runs/{run}")
        assert (found["state"], found["dossier"], found["body"]) == ("interrupted", None, None)
        assert not any(of_the_run in words for words in commands()), "nothing of it goes on on this machine"
        heard = an.listen(run)
        assert heard[-1][1]["state"] == "interrupted"
        changed = [e["event_data"]["host"] for _, e in heard[:-1] if e["event"] == "runner_on_ok"]
        assert set(HERE) <= set(changed), "what was done until the kill is kept"
        assert not (hospital.place / "here-2.done").exists()
        assert an.get("/chain")["holds"]
        resumed = an.started(f"/runs/{run}/resume")
        assert an.listen(resumed)[-1][1]["state"] == "successful"
        dossier = an.get(f"/runs/{resumed}")["body"]
        assert (dossier["resumes"], sorted(dossier["run"]["outcomes"])) == (run, list(HERE))
        assert dossier["difference"] is not None
        assert an.get(f"/runs/{resumed}/standing")["signature"] is True
        assert {path.name for path in hospital.place.glob("*.done")} == {"here-1.done", "here-2.done"}
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0 or process.returncode == -signal.SIGTERM
    again = open_plane(hospital.settings, hospital.clock)
    with again.archive.host_locks(HERE):
        pass
    again.archive.engine.dispose()
