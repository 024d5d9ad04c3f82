"""The router's rules, tried: for random matrices every pair of networks is really attempted through a real nftables.

A router and five hosts in network namespaces of their own; what must pass passes, and nothing else does.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.test_network_model import ruleset

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

PREFIX = "net-rules"
ROUTER = f"{PREFIX}-r"
PORTS = (80, 443, 2575)
# name -> (VLAN id, zone, its subnet's first bytes); `internet` stands outside of every subnet of the hospital.
NETS = {
    "servers": (10, "server", "10.61.10"),
    "clinical": (20, "internal", "10.61.20"),
    "printers": (40, "internal", "10.61.40"),
    "management": (99, "management", "10.61.99"),
    "internet": (95, "perimeter", "192.0.2"),
}
LEGS = {f"leg{number}": number for number, _, _ in NETS.values()}

# One program a host: it answers on every port, and on a line of JSON tries what the line names, all at once.
AGENT = """
import json, selectors, socket, sys, threading, time
ports = json.loads(sys.argv[1])
def serve():
    eyes = selectors.DefaultSelector()
    for port in ports:
        server = socket.create_server(("0.0.0.0", port)); eyes.register(server, selectors.EVENT_READ)
        echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); echo.bind(("0.0.0.0", port))
        eyes.register(echo, selectors.EVENT_READ)
    while True:
        for key, _ in eyes.select():
            if key.fileobj.type == socket.SOCK_STREAM: key.fileobj.accept()[0].close()
            else: key.fileobj.sendto(b"yes", key.fileobj.recvfrom(64)[1])
threading.Thread(target=serve, daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    waiting, passed = {}, []
    for address, kind, port in json.loads(line):
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        one.setblocking(False); one.connect_ex((address, port))
        if kind == "udp": one.send(b"?")
        waiting[one] = [address, kind, port]
    end = time.monotonic() + 0.5
    eyes = selectors.DefaultSelector()
    for one, name in waiting.items():
        eyes.register(one, selectors.EVENT_WRITE if name[1] == "tcp" else selectors.EVENT_READ)
    while waiting and (left := end - time.monotonic()) > 0:
        for key, _ in eyes.select(left):
            name = waiting.pop(key.fileobj); eyes.unregister(key.fileobj)
            if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0: passed.append(name)
            key.fileobj.close()
    for one in waiting: one.close()
    print(json.dumps(passed), flush=True)
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def address(name: str) -> str:
    return f"{NETS[name][2]}.10"


class Rig:
    """The router and its hosts while they stand."""

    def __init__(self) -> None:
        self.agents: dict[str, subprocess.Popen[str]] = {}

    def build(self) -> None:
        ip("netns", "add", ROUTER)
        ip("-n", ROUTER, "link", "set", "lo", "up")
        for name, (number, _, net) in NETS.items():
            space = f"{PREFIX}-{number}"
            ip("netns", "add", space)
            ip("-n", ROUTER, "link", "add", f"leg{number}", "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("-n", ROUTER, "addr", "add", f"{net}.1/24", "dev", f"leg{number}")
            ip("-n", ROUTER, "link", "set", f"leg{number}", "up")
            ip("-n", space, "addr", "add", f"{net}.10/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "route", "add", "default", "via", f"{net}.1")
            self.start(name, space, PORTS)
        self.start("router", ROUTER, (22, 80))
        command = ["ip", "netns", "exec", ROUTER, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]
        subprocess.run(command, check=True, capture_output=True)

    def start(self, name: str, space: str, ports: tuple[int, ...]) -> None:
        command = ["ip", "netns", "exec", space, sys.executable, "-c", AGENT, json.dumps(ports)]
        agent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.agents[name] = agent
        assert agent.stdout
        assert agent.stdout.readline() == "ready\n"

    def load(self, text: str) -> None:
        command = ["ip", "netns", "exec", ROUTER, "nft", "-f", "-"]
        done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr

    def tried(self) -> set[tuple[str, str, str, int]]:
        """(from, to, protocol, port) of everything that came through, all hosts trying at the same time."""
        names = {address(name): name for name in NETS} | {f"{NETS[name][2]}.1": "router" for name in NETS}
        for source in NETS:
            wishes = [
                (address(target), kind, port)
                for target in NETS
                if target != source
                for kind in ("tcp", "udp")
                for port in PORTS
            ]
            wishes += [(f"{NETS[source][2]}.1", "tcp", 22), (f"{NETS[source][2]}.1", "tcp", 80)]
            pipe = self.agents[source].stdin
            assert pipe
            pipe.write(json.dumps(wishes) + "\n")
            pipe.flush()
        found = set()
        for source in NETS:
            pipe = self.agents[source].stdout
            assert pipe
            found |= {(source, names[to], kind, port) for to, kind, port in json.loads(pipe.readline())}
        return found

    def remove(self) -> None:
        for agent in self.agents.values():
            agent.kill()
            agent.communicate()
        for space in (ROUTER, *(f"{PREFIX}-{number}" for number, _, _ in NETS.values())):
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "del", space)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    place = Rig()
    place.remove()  # leftovers of a crash
    try:
        place.build()
        yield place
    finally:
        place.remove()


SERVICES = st.lists(
    st.sampled_from([f"{kind}/{port}" for kind in ("tcp", "udp") for port in PORTS]),
    min_size=1,
    max_size=3,
    unique=True,
)
PASSAGES = st.lists(
    st.tuples(st.sampled_from(sorted(NETS)), st.sampled_from(sorted(NETS)), SERVICES).filter(lambda p: p[0] != p[1]),
    max_size=6,
)
KNOWN = st.sets(st.sampled_from(sorted(set(NETS) - {"internet"})))


def network(passages: Any, known: set[str]) -> dict[str, Any]:
    """The intended network; a VLAN that is not ``known`` has no subnet yet."""
    vlans = [
        {
            "id": n,
            "name": name if name != "internet" else "edge",
            "zone": zone,
            "subnet": f"{net}.0/24" if name in known else None,
        }
        for name, (n, zone, net) in NETS.items()
    ]
    allow = [{"from": source, "to": target, "services": services} for source, target, services in passages]
    return {"vlans": vlans, "matrix": {"default": "deny", "allow": allow}}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PASSAGES, KNOWN)
def test_exactly_the_matrix_passes(rig: Rig, passages: Any, known: set[str]) -> None:
    seen_from = [{"address": address("management"), "interface": "leg99"}]
    text = ruleset(network(passages, known), LEGS, vlan_router_seen_from=seen_from, vlan_router_own_rules=[])
    rig.load(text)
    wanted = {(source, target, *service.split("/")) for source, target, services in passages for service in services}
    expected = {(source, target, kind, int(port)) for source, target, kind, port in wanted}
    expected.add(("management", "router", "tcp", 22))
    assert rig.tried() == expected


def test_without_rules_everything_passes_so_the_rig_can_fail(rig: Rig) -> None:
    rig.load("table inet emrctl_router\ndelete table inet emrctl_router\n")
    assert len(rig.tried()) == len(NETS) * ((len(NETS) - 1) * 2 * len(PORTS) + 2)


def test_a_sender_with_an_address_of_another_network_is_not_let_through(rig: Rig) -> None:
    """Clinical may print; somebody outside who takes a clinical address may not: not one packet arrives."""
    printers, outside = (f"{PREFIX}-{NETS[name][0]}" for name in ("printers", "internet"))
    stranger = f"{NETS['clinical'][2]}.77"
    hook = "type filter hook input priority 0; policy accept;"
    count = f"table inet watch {{\n chain seen {{\n  {hook}\n  ip saddr {stranger} counter\n }}\n}}\n"
    probe = (
        f"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('{stranger}', 0));"
        f"s.sendto(b'?', ('{address('printers')}', 443))"
    )

    def arrived() -> bool:
        in_space(printers, "nft", "-f", "-", given=f"table inet watch\ndelete table inet watch\n{count}")
        in_space(outside, sys.executable, "-c", probe)
        time.sleep(0.2)
        return "packets 0" not in in_space(printers, "nft", "list", "table", "inet", "watch")

    allow = [("clinical", "printers", ["udp/443"]), ("internet", "printers", ["udp/443"])]
    known = set(NETS) - {"internet"}
    ip("-n", outside, "addr", "add", f"{stranger}/32", "dev", "eth0")
    try:
        rig.load(ruleset(network(allow, known), LEGS, vlan_router_seen_from=[], vlan_router_own_rules=[]))
        assert not arrived()
        rig.load("table inet emrctl_router\ndelete table inet emrctl_router\n")
        assert arrived(), "without rules it does arrive, so the test can fail"
    finally:
        ip("-n", outside, "addr", "del", f"{stranger}/32", "dev", "eth0")


def in_space(space: str, *words: str, given: str | None = None) -> str:
    """What a program prints in one of the namespaces."""
    command = ["ip", "netns", "exec", space, *words]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout
