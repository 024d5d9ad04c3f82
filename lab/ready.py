"""Wait until hosts answer on SSH and SNMP; it refuses to log in: a greeting and an engine's report are enough.

Run inside the lab's namespace with the longest wait in seconds and `address` or `address,snmp` words; prints those that
did not answer in time. The limit is a clock's, not a number of tries.
"""

from __future__ import annotations

import socket
import sys
import time

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


def main() -> int:
    """Print what is still silent when the time is over; 0 when everything speaks."""
    end = time.monotonic() + float(sys.argv[1])
    waiting = {(address, speaks) for address in sys.argv[2:] for speaks in (speaks_ssh, speaks_snmp)}
    while waiting and time.monotonic() < end:
        waiting = {(address, speaks) for address, speaks in waiting if not speaks(address)}
        time.sleep(0.05)
    print(" ".join(sorted(f"{address}/{'ssh' if speaks is speaks_ssh else 'snmp'}" for address, speaks in waiting)))
    return 1 if waiting else 0


if __name__ == "__main__":
    sys.exit(main())
