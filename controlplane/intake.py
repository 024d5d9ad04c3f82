"""Examines a file that a person hands in as evidence, before it is kept: what it is, what it hides, what ClamAV says.

It trusts the bytes and not the name, keeps nothing, changes no byte, and refuses with a sentence in both tongues. It
looks for known ways to do harm and proves nothing harmless: evidence is only ever served as a download.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import struct
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane import texts
from controlplane.domain.model import Words
from controlplane.ooxml import PackageError, inspect

MOST_BYTES = 20 * 1024 * 1024
MOST_PIXELS = 100_000_000
MOST_UNPACKED_BYTES = 64 * 1024 * 1024  # of the object streams of a PDF together
MOST_STREAMS = 50_000  # of a PDF
MOST_HEADS_BYTES = 24 * 1024 * 1024  # of the dictionaries before them together
MOST_NAME = 120
STEP = 1 << 16
MOST_REPLY_BYTES = 4_096

ENDINGS: Mapping[str, tuple[str, ...]] = {
    "pdf": (".pdf",),
    "docx": (".docx",),
    "xlsx": (".xlsx",),
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg"),
    "webp": (".webp",),
}
PDF_ACTIVE = frozenset(
    b"JavaScript Launch EmbeddedFile EmbeddedFiles RichMedia SubmitForm ImportData GoToE XFA Rendition".split()
)
# A name token ends at white space or a delimiter; "#4A" in it stands for the letter J.
PDF_NAME = re.compile(rb"/([^\x00\t\n\x0c\r ()<>\[\]{}/%]{1,127})")
PDF_STREAM = re.compile(rb"(?<!end)stream\r?\n")
OBJECT_STREAM = re.compile(rb"\s*\d+\s+\d+\s")  # it begins with the numbers and places of its objects
PDF_OPENS_AT_A_PAGE = re.compile(rb"\s*\[\s*\d+\s+\d+\s+R\s*/(XYZ|Fit[A-Z]*)[\s\d.null+-]*\]")
FOREIGN = (b"PK\x03\x04", b"%PDF-", b"MZ\x90\x00", b"\x7fELF", b"<script", b"<html", b"<?php", b"Rar!")


class IntakeError(ValueError):
    """A file is refused. ``words`` say why in both tongues; ``code`` is for the record."""

    def __init__(self, code: str, key: str = "", **figures: Any) -> None:
        key = key or f"intake.{code}"
        self.code = code
        self.words = Words(texts.say("vi", key, **figures), texts.say("en", key, **figures))
        super().__init__(f"{code}: {self.words.en}")


@dataclass(frozen=True)
class Scan:
    """What the virus scanner said. Only ``scanned`` means that one looked and found nothing."""

    word: str  # scanned | not_scanned | infected
    engine: str = ""  # name and version as the scanner gives it
    signatures: str = ""  # version and day of its signatures as it gives them; empty when it does not say
    finding: str = ""  # the signature's name, or why nothing was scanned


Scanner = Callable[[bytes], Scan]


@dataclass(frozen=True)
class Document:
    """A file that was let in."""

    name: str  # cleaned: no path, no control characters, at most 120
    kind: str  # pdf docx xlsx png jpeg webp
    bytes: int
    sha256: str
    scan: Scan
    notes: tuple[str, ...] = ()  # codes of what is odd and no reason to refuse (texts: intake.note.<code>)


def examine(name: str, data: bytes, *, scan: Scanner | None = None, most_bytes: int = MOST_BYTES) -> Document:
    """The document in ``data``, or ``IntakeError`` with the reason. ``scan`` None: no scanner is set up."""
    if not data:
        raise IntakeError("empty")
    if len(data) > most_bytes:
        raise IntakeError("size", most_mb=f"{most_bytes / 1024 / 1024:g}")
    cleaned = clean_name(name)
    kind, notes = _look(data)
    if not cleaned.lower().endswith(ENDINGS[kind]):
        raise IntakeError("ending", kind=kind.upper(), endings=", ".join(ENDINGS[kind]))
    found = scan(data) if scan else Scan("not_scanned", finding="no_scanner")
    if found.word == "infected":
        raise IntakeError("infected", signature=found.finding)
    return Document(cleaned, kind, len(data), hashlib.sha256(data).hexdigest(), found, notes)


def clean_name(name: str) -> str:
    """A file's name without folders, control, invisible and reserved characters, NFC, at most 120 characters long.

    The ending is kept when the name must be cut. Raises ``IntakeError`` when nothing is left before the ending.
    """
    text = unicodedata.normalize("NFC", name).replace("\\", "/").rsplit("/", 1)[-1]
    text = "".join(
        " " if c.isspace() else c for c in text if not unicodedata.category(c).startswith("C") or c in "\t\n"
    )
    text = re.sub(r'[<>:"|?*]', "_", text)
    stem, dot, ending = " ".join(text.split()).strip(". ").rpartition(".")
    stem = stem.strip(". ")
    if not (dot and stem and ending.isalnum() and len(ending) <= 8):
        raise IntakeError("name")
    return f"{stem[: MOST_NAME - len(ending) - 1].rstrip('. ')}.{ending}"


def _look(data: bytes) -> tuple[str, tuple[str, ...]]:
    """The kind by content, after the content was walked to its end."""
    if data.startswith(b"%PDF-"):
        _pdf(data)
        return "pdf", ()
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        _png(data)
        return "png", ()
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg", _jpeg(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        _webp(data)
        return "webp", ()
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        try:
            return inspect(data), ()
        except PackageError as error:
            raise IntakeError(error.code, f"package.{error.code}", **error.figures) from error
    raise IntakeError("kind")


# ----------------------------------------------------------------------------------------------------- PDF


def _pdf(data: bytes) -> None:
    if not re.match(rb"%PDF-[12]\.\d[\r\n \t]", data[:12]):
        raise IntakeError("broken", kind="PDF")
    end = data.rfind(b"%%EOF")
    if end < 0 or b"startxref" not in data[:end]:
        raise IntakeError("broken", kind="PDF")
    if data[end + 5 :].strip(b"\r\n \t\0") or b"PK\x05\x06" in data[-70_000:]:
        raise IntakeError("surplus", kind="PDF")
    _pdf_names(data)
    room = MOST_UNPACKED_BYTES
    for body in _object_streams(data):
        room -= len(body)
        if room < 0:
            raise IntakeError("bomb")
        _pdf_names(body)


def _pdf_names(text: bytes) -> None:
    """Refuse a name that makes a reader act. Short names such as /JS occur by chance; each action has a long one."""
    for match in PDF_NAME.finditer(text):
        name = _unescaped(match[1])
        if name == b"Encrypt":
            raise IntakeError("encrypted")
        if name in PDF_ACTIVE:
            raise IntakeError("active", name=name.decode())
        if name == b"OpenAction" and not PDF_OPENS_AT_A_PAGE.match(text, match.end()):
            raise IntakeError("active", name="OpenAction")


def _unescaped(name: bytes) -> bytes:
    if b"#" not in name:
        return name
    return re.sub(rb"#([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), name)


def _object_streams(data: bytes) -> Iterator[bytes]:
    """What is packed in the streams that hold objects; one that cannot be unpacked here is refused.

    A stream is one by its dictionary or by how it begins, since the text before it can be made to mislead.
    """
    budget, heads, view = MOST_UNPACKED_BYTES, MOST_HEADS_BYTES, memoryview(data)
    for count, match in enumerate(PDF_STREAM.finditer(data)):
        start = data.rfind(b"obj", max(0, match.start() - 4_096), match.start())
        head = data[start if start >= 0 else max(0, match.start() - 4_096) : match.start()]
        heads -= len(head)
        if count >= MOST_STREAMS or heads < 0:
            raise IntakeError("hidden")
        says, packed = _dictionary(head)
        begins = OBJECT_STREAM.match(_unpacked(view[match.end() : match.end() + 8_192], 4_096)[0])
        if not (says or begins):
            continue
        end = data.find(b"endstream", match.end())
        body = view[match.end() : end if end >= 0 else len(data)]
        if packed or begins:
            unpacked, whole = _unpacked(body, budget + 1)
            if len(unpacked) > budget:
                raise IntakeError("bomb")
            if says and not whole:
                raise IntakeError("hidden")
            budget -= len(unpacked)
            yield unpacked
        else:
            yield bytes(body)


def _dictionary(head: bytes) -> tuple[bool, bool]:
    """Whether a stream's dictionary says that it holds objects, and whether it is packed; refuses unusual packing."""
    names = {_unescaped(n) for n in PDF_NAME.findall(head)}
    if b"ObjStm" not in names and not {b"First", b"N"} <= names:
        return False, False
    filters = {n for n in names if n.endswith((b"Decode", b"Crypt")) or n in (b"Fl", b"LZW", b"A85", b"AHx", b"RL")}
    if filters - {b"FlateDecode"} or b"DecodeParms" in names or re.search(rb"/Filter\s*\d", head):
        raise IntakeError("hidden")
    return True, bool(filters)


def _unpacked(body: memoryview, most: int) -> tuple[bytes, bool]:
    """At most ``most`` bytes of a Flate stream, and whether that was all of it; nothing when it is none."""
    worker = zlib.decompressobj()
    try:
        return worker.decompress(body, most), worker.eof
    except zlib.error:
        return b"", False


# -------------------------------------------------------------------------------------------------- images


def _png(data: bytes) -> None:
    at, first = 8, True
    while at + 12 <= len(data):
        size, word = struct.unpack(">I4s", data[at : at + 8])
        end = at + 12 + size
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise IntakeError("broken", kind="PNG")
        if first:
            if word != b"IHDR" or size != 13:
                raise IntakeError("broken", kind="PNG")
            _pixels(*struct.unpack(">II", data[at + 8 : at + 16]))
        first, at = False, end
        if word == b"IEND":
            if at != len(data):
                raise IntakeError("surplus", kind="PNG")
            return
    raise IntakeError("broken", kind="PNG")


def _jpeg(data: bytes) -> tuple[str, ...]:
    """Walk the segments up to the end mark. Telephones write a preview behind it: that is noted, not refused."""
    at, seen_size = 2, False
    while at + 4 <= len(data) and data[at] == 0xFF:
        word = data[at + 1]
        if word == 0xFF:
            at += 1
            continue
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if size < 2 or at + 2 + size > len(data):
            break
        if 0xC0 <= word <= 0xCF and word not in (0xC4, 0xC8, 0xCC) and size >= 8:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            _pixels(width, height or 1)
            seen_size = True
        at += 2 + size
        if word == 0xDA:
            at = _after_scan(data, at)
            if data[at + 1 : at + 2] == b"\xd9":
                return _jpeg_tail(data[at + 2 :]) if seen_size else _broken_jpeg()
    return _broken_jpeg()


def _after_scan(data: bytes, at: int) -> int:
    """Where the next marker after entropy-coded data stands."""
    match = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]").search(data, at)
    return match.start() if match else len(data)


def _jpeg_tail(tail: bytes) -> tuple[str, ...]:
    if any(word in tail.lower() if word.startswith(b"<") else word in tail for word in FOREIGN):
        raise IntakeError("surplus", kind="JPEG")
    return ("bytes_after_end",) if tail.strip(b"\0\r\n") else ()


def _broken_jpeg() -> tuple[str, ...]:
    raise IntakeError("broken", kind="JPEG")


def _webp(data: bytes) -> None:
    size = int.from_bytes(data[4:8], "little") + 8
    if size > len(data) or size < 20:
        raise IntakeError("broken", kind="WebP")
    if len(data) > size:
        raise IntakeError("surplus", kind="WebP")
    at, picture = 12, False
    while at + 8 <= size:
        word, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = data[at + 8 : at + 8 + length]
        if len(body) < length:
            raise IntakeError("broken", kind="WebP")
        picture = picture or word in (b"VP8 ", b"VP8L", b"ANMF")
        if word == b"VP8X" and length >= 10:
            _pixels(int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1)
        at += 8 + length + (length & 1)
    if not picture or at != size:
        raise IntakeError("broken", kind="WebP")


def _pixels(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise IntakeError("pixels_none")
    if width * height > MOST_PIXELS:
        raise IntakeError("pixels", most=MOST_PIXELS // 1_000_000)


# -------------------------------------------------------------------------------------------------- ClamAV


def clamd_scan(socket_path: Path, timeout_seconds: float = 30.0) -> Scanner:
    """A scanner that asks the clamd behind a unix socket (INSTREAM). It never raises: a silent clamd is not_scanned.

    ``finding`` of a file that was not scanned is ``no_answer`` (nobody there, too slow, not understood) or
    ``too_large`` (clamd's own StreamMaxLength).
    """

    def scan(data: bytes) -> Scan:
        try:
            engine, _, signatures = _ask(socket_path, timeout_seconds, b"zVERSION\0").partition("/")
            body = b"".join(
                struct.pack(">I", len(chunk)) + chunk
                for chunk in (data[at : at + STEP] for at in range(0, len(data), STEP))
            )
            reply = _ask(socket_path, timeout_seconds, b"zINSTREAM\0" + body + struct.pack(">I", 0))
        except (OSError, ValueError):
            return Scan("not_scanned", finding="no_answer")
        if reply == "stream: OK":
            return Scan("scanned", engine, signatures.replace("/", ", "))
        if match := re.fullmatch(r"stream: (.+) FOUND", reply):
            return Scan("infected", engine, signatures.replace("/", ", "), match[1])
        return Scan("not_scanned", engine, finding="too_large" if "size limit" in reply else "no_answer")

    return scan


def _ask(path: Path, timeout_seconds: float, question: bytes) -> str:
    """One question to clamd and its reply up to the zero byte. Raises ``OSError`` or ``ValueError``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(timeout_seconds)
        line.connect(str(path))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            line.sendall(question)  # clamd hangs up on a stream that is too large, but first says so
        reply = b""
        while not reply.endswith(b"\0"):
            chunk = line.recv(MOST_REPLY_BYTES)
            if not chunk:
                break
            reply += chunk
            if len(reply) > MOST_REPLY_BYTES:
                raise ValueError("clamd said too much")
    if not reply:
        raise ValueError("clamd said nothing")
    return reply.rstrip(b"\0\n").decode("utf-8", "replace").strip()
