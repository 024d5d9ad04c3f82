"""Wait until hosts answer on SSH and SNMP; it refuses to log in: a greeting and an engine's report are enough.

Run inside the lab's namespace with the longest wait in seconds and words `address/ssh` or `address/snmp`; prints those
that did not answer in time. The limit is a clock's, not a number of tries.
"""

from __future__ import annotations

import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

# An SNMPv3 request with an empty user and no engine: every agent answers it with a report of its own engine (RFC 3414).
_DISCOVERY = bytes.fromhex(
    "303a020103300f02024a69020300ffe30401040201030410300e0400020100020100040004000400"
    "301204000400a00c020237f00201000201003000"
)


def speaks_ssh(address: str) -> bool:
    """Whether a server greets on port 22."""
    try:
        with socket.create_connection((address, 22), timeout=1) as line:
            return line.recv(4) == b"SSH-"
    except OSError:
        return False


def speaks_snmp(address: str) -> bool:
    """Whether an agent answers on port 161."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.settimeout(0.5)
            line.connect((address, 161))
            line.send(_DISCOVERY)
            return line.recv(2048)[:1] == b"\x30"
    except OSError:
        return False


def speaks(word: str) -> bool:
    """Whether what ``address/protocol`` names answers now."""
    address, _, protocol = word.partition("/")
    return speaks_ssh(address) if protocol == "ssh" else speaks_snmp(address)


def main() -> int:
    """Print what is still silent when the time is over; 0 when everything speaks."""
    end = time.monotonic() + float(sys.argv[1])
    waiting = list(sys.argv[2:])
    with ThreadPoolExecutor(max_workers=min(16, max(1, len(waiting)))) as pool:
        while waiting and time.monotonic() < end:
            waiting = [word for word, spoke in zip(waiting, pool.map(speaks, waiting), strict=True) if not spoke]
            time.sleep(0.05)
    print(" ".join(sorted(waiting)))
    return 1 if waiting else 0


if __name__ == "__main__":
    sys.exit(main())
