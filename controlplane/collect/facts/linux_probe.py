"""What a probe in one VLAN finds when it tries the paths of its plan. Only a host with a plan tries anything.

The plan (``/etc/emrctl/probe-plan.json``) is the root's own file and names every address that may be sent to: whoever
asks can neither add one nor change one. Nothing leaves but by the card that holds the probe's own address in the VLAN.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from controlplane.collect.facts.linux_text import lines
from controlplane.domain.model import Fact

PLAN = "/etc/emrctl/probe-plan.json"

_SERVICE = re.compile(r"(?:tcp|udp)/[0-9]{1,5}")
_WORDS = ("open", "refused", "silent", "unsent")

# Two seconds for each try, so that the kernel's own second packet (after one second) has its second: a lost packet is
# no closed path. At most 200 tries begin in a second and 1200 in all, which is within the time limit of a question.
# The way out of the VLAN is proven by the neighbour's answer alone, which no firewall rule stops: one of the last
# minute (reachable at the start), or one that the kernel asks for again, which it does after five seconds.
_PROGRAM = """\
import errno, hashlib, json, os, selectors, socket, subprocess, sys, time
raw = open("@PLAN@", "rb").read()
plan = json.loads(raw)
own, targets = plan["address"], sorted(plan["targets"])
def ip(*words):
    done = subprocess.run(["ip", "-o", *words], capture_output=True, text=True)
    return done.stdout.split() if done.returncode == 0 else []
def after(words, name):
    return words[words.index(name) + 1] if name in words[:-1] else "-"
home = (ip("addr", "show", "to", own) + ["-", "-"])[1]
ways = {}
for address in targets:
    words = ip("route", "get", address, "from", own)
    hop = after(words, "via")
    ways[address] = (after(words, "dev"), address if hop == "-" else hop)
print("plan", hashlib.sha256(raw).hexdigest(), plan["from"], own, home)
jobs = [(a, s) for s in plan["services"] for a in [*targets, own]]
if len(jobs) > 1200:
    sys.exit("the plan has more than 1200 tries")
began = time.monotonic()
queue = [(began + n / 200, a, s) for n, (a, s) in enumerate(jobs)]
ready, live, found = selectors.DefaultSelector(), {}, {}
word = b"emrctl-probe?" + os.urandom(8)
def end(key, result):
    found[key] = result
    one = live.pop(key, None)
    if one:
        ready.unregister(one[0])
        one[0].close()
def start(key):
    address, kind, port = key[0], *key[1].split("/")
    if address != own and ways[address][0] != home:
        return end(key, "unsent")
    tcp = kind == "tcp"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    one = socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    one.setblocking(False)
    try:
        one.bind((own, 0))
        code = one.connect_ex((address, int(port)))
        if not tcp and code == 0:
            one.send(word)
            code = errno.EINPROGRESS
    except OSError as error:
        code = error.errno
    if code == errno.EINPROGRESS:
        live[key] = [one, time.monotonic(), tcp]
        ready.register(one, selectors.EVENT_WRITE if tcp else selectors.EVENT_READ, key)
    else:
        one.close()
        end(key, {0: "open", errno.ECONNREFUSED: "refused"}.get(code, "unsent"))
def heard(key):
    one, _, tcp = live[key]
    try:
        code = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if tcp else len(one.recv(512)) * 0
    except OSError as error:
        code = error.errno
    end(key, {0: "open", errno.ECONNREFUSED: "refused"}.get(code, "silent"))
hops = {hop: dev for dev, hop in ways.values() if dev == home}
states = {}
def ask_hops(last):
    for hop in sorted(hops.keys() - states.keys()):
        state = (ip("neigh", "show", "to", hop, "dev", hops[hop]) or ["NONE"])[-1]
        if state in ("REACHABLE", "PERMANENT", "NOARP"):
            states[hop] = "reached"
        elif last and (state == "FAILED" or time.monotonic() > began + 8.5):
            states[hop] = "silent"
ask_hops(False)
while queue or live:
    now = time.monotonic()
    while queue and queue[0][0] <= now:
        start(queue.pop(0)[1:])
    for key, one in list(live.items()):
        if now > one[1] + 2:
            end(key, "silent")
        elif not one[2] and now > one[1] + 1 and len(one) == 3:
            one.append("again")
            try:
                one[0].send(word)
            except OSError:
                pass
    for event, _ in ready.select(0.02):
        heard(event.data)
ask_hops(True)
while hops.keys() - states.keys():
    time.sleep(0.1)
    ask_hops(True)
for address, (dev, hop) in sorted(ways.items()):
    print("way", address, dev, hop, states.get(hop, "silent"))
for (address, service), result in sorted(found.items()):
    print("try", address, service, result)
print("end")
"""

_ASK = f"[ -r {PLAN} ] || exit 69; exec python3 -I -c '{_PROGRAM.replace('@PLAN@', PLAN)}'"


def read_attempts(raw: str) -> dict[str, Any]:
    """What came of every try, with the services that the probe itself was listening on.

    A try toward a target whose way out of the VLAN did not answer is ``unsent``: its silence proves nothing.
    """
    rows = [line.split(" ") for line in lines(raw)]
    if len(rows) < 2 or rows[0][0] != "plan" or len(rows[0]) != 5 or rows[-1] != ["end"]:
        raise ValueError("not the whole answer of a probe")
    _, digest, place, own, card = rows[0]
    found: dict[str, list[str]] = {word: [] for word in _WORDS}
    own_services, ways = {}, {}
    for row in rows[1:-1]:
        if row[0] == "way" and len(row) == 5 and row[4] in ("reached", "silent"):
            ways[_address(row[1])] = row[2] == card and row[4] == "reached"
        elif row[0] == "try" and len(row) == 4 and row[3] in _WORDS and _SERVICE.fullmatch(row[2]):
            address, service, word = _address(row[1]), row[2], row[3]
            if address == own:
                own_services[service] = word == "open"
                continue
            proven = word in ("open", "refused") or ways.get(address, False)
            found[word if proven else "unsent"].append(f"{address} {service}")
        else:
            raise ValueError(f"not a line of a probe: {' '.join(row)[:60]!r}")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError("the plan has no digest")
    deaf = sorted(service for service, heard in own_services.items() if not heard)
    return {
        "plan": digest,
        "from": place,
        "address": _address(own),
        "up": bool(ways) and any(ways.values()),
        "tried": sum(len(found[word]) for word in ("open", "refused", "silent")),
        "listening": sorted(own_services.keys() - deaf),
        "deaf_count": len(deaf) if own_services else None,
        "deaf": deaf,
        **{word: sorted(set(rows)) for word, rows in found.items()},
    }


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))


FACTS: tuple[Fact, ...] = (
    Fact(
        "probe.attempts",
        "shell",
        _ASK,
        read_attempts,
        "services tried",
        f"{PLAN}, connect(2), ip-neighbour(8)",
    ),
)
