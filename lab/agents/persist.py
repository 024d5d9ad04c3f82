"""The conversation snmpd has with a pass_persist program, on standard input and output; it refuses every set."""

from __future__ import annotations

import bisect
import sys
import time
from collections.abc import Callable, Iterable

Oid = tuple[int, ...]
Table = dict[Oid, tuple[str, str]]
"""OID to net-snmp's type word (integer, gauge, counter, string, octet, objectid, timeticks) and the value as text."""


def oid(text: str) -> Oid:
    """``.1.3.6`` as numbers."""
    return tuple(int(part) for part in text.strip().strip(".").split(".") if part)


def octets(data: bytes) -> tuple[str, str]:
    """Bytes that are not text, in the form net-snmp reads."""
    return "octet", " ".join(f"{byte:02x}" for byte in data)


def bits(positions: Iterable[int], size: int) -> bytes:
    """A bit string of ``size`` bytes with these positions set; position 0 is the highest bit of the first byte."""
    out = bytearray(size)
    for position in positions:
        out[position // 8] |= 0x80 >> (position % 8)
    return bytes(out)


def serve(read_table: Callable[[], Table], keep_seconds: float = 1.0) -> None:
    """Answer snmpd until it closes the pipe; the table is read anew when it is older than ``keep_seconds``."""
    table: Table = {}
    order: list[Oid] = []
    read_at = float("-inf")
    for line in sys.stdin:
        command = line.strip()
        if command == "PING":
            _answer("PONG")
        elif command == "set":
            sys.stdin.readline()
            sys.stdin.readline()
            _answer("not-writable")
        elif command in ("get", "getnext"):
            asked = oid(sys.stdin.readline())
            if time.monotonic() - read_at > keep_seconds:
                table, read_at = read_table(), time.monotonic()
                order = sorted(table)
            _answer(*_lookup(table, order, asked, command))


def _lookup(table: Table, order: list[Oid], asked: Oid, command: str) -> tuple[str, ...]:
    if command == "getnext":
        at = bisect.bisect_right(order, asked)
        if at == len(order):
            return ("NONE",)
        asked = order[at]
    if asked not in table:
        return ("NONE",)
    return ("." + ".".join(map(str, asked)), *table[asked])


def _answer(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
