"""The canonical text of SNMP answers, written and read: one value a line, in the form of ``snmpwalk -On``.

It refuses to guess: a line that is not of this form, or a value of another type than asked for, is a ``ValueError``.
It differs from net-snmp in two points, so that one value is always one line and always comes back as the
same bytes: line breaks inside a string are escaped, and UTF-8 text stays readable instead of turning into hex.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

Oid = tuple[int, ...]
Scalar = int | str | bytes

NUMBERS = ("INTEGER", "Counter32", "Gauge32", "Counter64", "Timeticks")
OCTETS = ("STRING", "Hex-STRING")

_LINE = re.compile(r"\.([0-9]{1,10}(?:\.[0-9]{1,10})*) = ([A-Za-z0-9-]+): (.*)", re.ASCII)
_TICKS = re.compile(r"\(([0-9]{1,10})\) [0-9a-z:., ]*", re.ASCII)
_ESCAPE = re.compile(r'\\(.?)|"')
_ESCAPED = {"\\": "\\", '"': '"', "n": "\n", "r": "\r", "t": "\t"}
_HEX = re.compile(r"(?:[0-9A-F]{2}(?: [0-9A-F]{2})*)?", re.ASCII)
_MAX_ARC = 0xFFFFFFFF


class VarBind(NamedTuple):
    """One named value. Numbers are ``int``, strings ``bytes``, OIDs and IP addresses ``str``."""

    oid: Oid
    kind: str
    value: Scalar


def parse_oid(text: str) -> Oid:
    """The arcs of ``.1.3.6`` or ``1.3.6``; ``ValueError`` when it is not an OID."""
    parts = text.removeprefix(".").split(".")
    if not all(part.isascii() and part.isdigit() and len(part) <= 10 for part in parts):
        raise ValueError(f"not an OID: {text[:60]!r}")
    arcs = tuple(int(part) for part in parts)
    if max(arcs) > _MAX_ARC:
        raise ValueError(f"an arc above 2^32-1 in {text[:60]!r}")
    return arcs


def oid_text(oid: Iterable[int]) -> str:
    """``.1.3.6`` for the arcs 1, 3, 6."""
    return "." + ".".join(map(str, oid))


def format_line(oid: Iterable[int], kind: str, value: Scalar) -> str:
    """One line of canonical text, without a line break. ``kind`` STRING turns into Hex-STRING where it must."""
    if kind == "STRING" and isinstance(value, bytes):
        kind, shown = _format_octets(value)
    elif kind == "Timeticks" and isinstance(value, int):
        shown = f"({value}) {_uptime(value)}"
    elif isinstance(value, bytes):
        shown = value.hex(" ").upper()
    else:
        shown = str(value)
    return f"{oid_text(oid)} = {kind}: {shown}"


def _format_octets(value: bytes) -> tuple[str, str]:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return "Hex-STRING", value.hex(" ").upper()
    if not (text.isprintable() or all(char.isprintable() or char in "\n\r\t" for char in text)):
        return "Hex-STRING", value.hex(" ").upper()
    for raw, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        if raw in text:
            text = text.replace(raw, escaped)
    return "STRING", f'"{text}"'


def _uptime(ticks: int) -> str:
    """Hundredths of a second as net-snmp writes them: ``3 days, 4:05:06.07``."""
    seconds, hundredths = divmod(ticks, 100)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    lead = "" if days == 0 else f"{days} day{'' if days == 1 else 's'}, "
    return f"{lead}{hours}:{minutes:02}:{seconds:02}.{hundredths:02}"


def parse(text: str) -> list[VarBind]:
    """Every line of canonical text, in its order. ``ValueError`` names the first line that is not one."""
    lines = text.split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    if not lines:
        raise ValueError("no SNMP value at all")
    return [_parse_line(number, line) for number, line in enumerate(lines, 1)]


def _parse_line(number: int, line: str) -> VarBind:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"line {number} is not 'OID = TYPE: value'")
    oid, kind, shown = parse_oid(match[1]), match[2], match[3]
    try:
        return VarBind(oid, kind, _parse_value(kind, shown))
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None


def _parse_value(kind: str, shown: str) -> Scalar:
    if kind == "STRING":
        return _unquote(shown).encode("utf-8")
    if kind in ("Hex-STRING", "Opaque"):
        if not _HEX.fullmatch(shown):
            raise ValueError("not hexadecimal octets")
        return bytes.fromhex(shown)
    if kind == "Timeticks":
        match = _TICKS.fullmatch(shown)
        if match is None:
            raise ValueError("not Timeticks")
        return int(match[1])
    if kind in NUMBERS:
        digits = shown.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
            raise ValueError(f"not a number of type {kind}")
        return int(shown)
    if kind == "OID":
        return oid_text(parse_oid(shown))
    if kind == "IpAddress":
        if [str(octet) for octet in _four_octets(shown)] != shown.split("."):
            raise ValueError("not an IPv4 address")
        return shown
    raise ValueError(f"unknown type {kind}")


def _four_octets(shown: str) -> Oid:
    octets = parse_oid(shown)
    if len(octets) != 4 or max(octets) > 255:
        raise ValueError("not an IPv4 address")
    return octets


def _unquote(shown: str) -> str:
    if len(shown) < 2 or shown[0] != '"' or shown[-1] != '"':
        raise ValueError("a string without its quotes")

    def plain(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPED:
            raise ValueError("a quote or an escape that does not belong in a string")
        return _ESCAPED[match[1]]

    inner = shown[1:-1]
    return _ESCAPE.sub(plain, inner) if "\\" in inner or '"' in inner else inner


class Answer:
    """The values of one fact, asked for by object: a scalar, or a column keyed by its index arcs."""

    def __init__(self, text: str) -> None:
        """Read canonical text; ``ValueError`` when it is not that."""
        self._varbinds = {varbind.oid: varbind for varbind in parse(text)}

    def __iter__(self) -> Iterator[VarBind]:
        return iter(self._varbinds.values())

    def integer(self, oid: str) -> int:
        """The number at this very OID; ``ValueError`` when it is absent or no number."""
        varbind = self._varbinds.get(parse_oid(oid))
        if varbind is None:
            raise ValueError(f"{oid} is missing")
        return _number(varbind)

    def maybe_integer(self, oid: str) -> int | None:
        """The number at this very OID, or None when the device does not have it."""
        return self.integer(oid) if parse_oid(oid) in self._varbinds else None

    def octets(self, oid: str) -> bytes:
        """The octet string at this very OID; ``ValueError`` when it is absent or of another type."""
        varbind = self._varbinds.get(parse_oid(oid))
        if varbind is None:
            raise ValueError(f"{oid} is missing")
        return _octets(varbind)

    def words(self, oid: str) -> str:
        """The text at this very OID, cleaned as ``clean`` does."""
        return clean(self.octets(oid))

    def maybe_words(self, oid: str) -> str | None:
        """The text at this very OID, or None when the device does not have it."""
        return self.words(oid) if parse_oid(oid) in self._varbinds else None

    def object_id(self, oid: str) -> str:
        """The OID that stands at this very OID; ``ValueError`` when it is absent or of another type."""
        varbind = self._varbinds.get(parse_oid(oid))
        if varbind is None or varbind.kind != "OID":
            raise ValueError(f"no object identifier at {oid}")
        return str(varbind.value)

    def column(self, oid: str) -> dict[Oid, VarBind]:
        """Every value below this object, by the arcs that follow it."""
        root = parse_oid(oid)
        size = len(root)
        return {
            name[size:]: varbind for name, varbind in self._varbinds.items() if len(name) > size and name[:size] == root
        }

    def integers(self, oid: str) -> dict[Oid, int]:
        """A column of numbers."""
        return {index: _number(varbind) for index, varbind in self.column(oid).items()}

    def texts(self, oid: str) -> dict[Oid, str]:
        """A column of text, each cleaned as ``clean`` does."""
        return {index: clean(_octets(varbind)) for index, varbind in self.column(oid).items()}

    def strings(self, oid: str) -> dict[Oid, bytes]:
        """A column of octet strings: addresses, bitmaps."""
        return {index: _octets(varbind) for index, varbind in self.column(oid).items()}


def _number(varbind: VarBind) -> int:
    if varbind.kind not in NUMBERS or not isinstance(varbind.value, int):
        raise ValueError(f"{oid_text(varbind.oid)} is {varbind.kind}, not a number")
    return varbind.value


def _octets(varbind: VarBind) -> bytes:
    if varbind.kind not in OCTETS or not isinstance(varbind.value, bytes):
        raise ValueError(f"{oid_text(varbind.oid)} is {varbind.kind}, not a string")
    return varbind.value


def clean(octets: bytes) -> str:
    """Text of a device for people: UTF-8 or else Latin-1, no control characters, one space, NFC."""
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        text = octets.decode("latin-1")
    kept = "".join(char if char.isprintable() else " " for char in text)
    return unicodedata.normalize("NFC", " ".join(kept.split()))


def mac_text(octets: bytes) -> str:
    """``00:1a:2b:3c:4d:5e``; ``ValueError`` when it is not six octets."""
    if len(octets) != 6:
        raise ValueError(f"a MAC address of {len(octets)} octets")
    return octets.hex(":")


def ports_in(bitmap: bytes) -> set[int]:
    """The bridge ports of a PortList (RFC 4363): the first bit of the first octet is port 1."""
    return {byte * 8 + bit + 1 for byte, octet in enumerate(bitmap) for bit in range(8) if octet & (0x80 >> bit)}


def word(number: int, names: Mapping[int, str]) -> str:
    """The name of an enumerated value; ``ValueError`` when the MIB has no such number."""
    if number not in names:
        raise ValueError(f"{number} is none of {sorted(names)}")
    return names[number]
