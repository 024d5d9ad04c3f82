"""Looks into a zipped Office file in memory and refuses what could do harm. It unpacks nothing to disk.

Used wherever a person's file comes in. It knows packages, parts and relationships, and no hospital.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any
from xml.parsers import expat

MOST_MEMBERS = 2_000
MOST_UNPACKED_BYTES = 200 * 1024 * 1024
MOST_XML_BYTES = 64 * 1024 * 1024
MOST_DEPTH = 256  # of nested elements in a Word part; Word's own files stay under 40
MOST_ELEMENTS = 2_000_000  # of a Word part: a thousand pages stay under a tenth of it
STEP = 1 << 16
GAP = 24  # bytes that a data descriptor may take between two members

KINDS = {
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml": "xlsx",
}
MACRO = ("vbaproject", "vbadata", "macrosheets/", "dialogsheets/", "activex/", "ctrlprops/", "customui")
EMBEDDED = ("embeddings/", "oleobject", "package/services")
OUTSIDE = ("externallinks/", "connections.xml", "querytables/", "webextensions/")
FIELD_COMMANDS = re.compile(r"\b(DDE|DDEAUTO|INCLUDETEXT)\b", re.IGNORECASE)
SAFE_LINK = re.compile(r"^(https?://|mailto:|#)", re.IGNORECASE)


class PackageError(ValueError):
    """A package is refused. ``code`` says why (texts: ``package.<code>``), ``figures`` fill the sentence's holes."""

    def __init__(self, code: str, **figures: Any) -> None:
        super().__init__(f"{code} {figures}" if figures else code)
        self.code = code
        self.figures: Mapping[str, Any] = figures


def inspect(data: bytes, most_bytes: int = MOST_UNPACKED_BYTES, most_xml_bytes: int = MOST_XML_BYTES) -> str:
    """The kind of a package, ``docx`` or ``xlsx``, after every part of it was looked at.

    Raises ``PackageError`` for whatever is no such package, is encrypted, unpacks to more than ``most_bytes`` (of which
    ``most_xml_bytes`` XML), holds bytes outside its members, macros, embedded files, outside data or a DTD.
    """
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        raise PackageError("ole")  # the old binary formats, and every encrypted new one
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            members = package.infolist()
            _names(members)
            _seams(data, package, members)
            return _parts(package, members, most_bytes, most_xml_bytes)
    except PackageError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise PackageError("unreadable") from error


def _names(members: list[zipfile.ZipInfo]) -> None:
    if not members or len(members) > MOST_MEMBERS:
        raise PackageError("members", most=MOST_MEMBERS)
    seen = set()
    for member in members:
        name, low = member.filename, member.filename.lower()
        steps = low.replace("\\", "/").split("/")
        if low.startswith(("/", "\\")) or ".." in steps or "\\" in low or ":" in low or not low.isprintable():
            raise PackageError("path")
        if low in seen:
            raise PackageError("twice", part=name[:80])
        seen.add(low)
        if member.flag_bits & 0x41:
            raise PackageError("encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise PackageError("unreadable")
        for code, words in (("macro", MACRO), ("embedded", EMBEDDED), ("outside", OUTSIDE)):
            if any(word in low for word in words):
                raise PackageError(code, part=name[:80])


def _seams(data: bytes, package: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
    """Members must follow one another from the first byte to the last: nothing hides before, between or after them."""
    if package.comment or data[-22:-18] != b"PK\x05\x06":
        raise PackageError("surplus")
    at = 0
    for member in sorted(members, key=lambda m: m.header_offset):
        start = member.header_offset
        if not at <= start <= at + (GAP if at else 0):
            raise PackageError("surplus")
        name_size = int.from_bytes(data[start + 26 : start + 28], "little")
        extra_size = int.from_bytes(data[start + 28 : start + 30], "little")
        at = start + 30 + name_size + extra_size + member.compress_size
    if not at <= package.start_dir <= at + GAP:
        raise PackageError("surplus")


def _parts(package: zipfile.ZipFile, members: list[zipfile.ZipInfo], most_bytes: int, most_xml_bytes: int) -> str:
    kind, unpacked, xml = "", 0, 0
    for member in members:
        low = member.filename.lower()
        watch = _watch(low)
        with package.open(member) as part:
            while chunk := part.read(STEP):
                unpacked += len(chunk)
                xml += len(chunk) if watch else 0
                if unpacked > most_bytes or xml > most_xml_bytes:
                    raise PackageError("bomb", most_mb=(most_bytes if unpacked > most_bytes else most_xml_bytes) >> 20)
                if watch:
                    watch.feed(chunk)
        if watch:
            watch.close()
            kind = watch.kind or kind
    if not kind:
        raise PackageError("kind")
    return kind


def _watch(name: str) -> _Watch | None:
    if name.endswith((".xml", ".rels", ".vml")):
        return _Watch(name)
    return None


class _Watch:
    """Reads one XML part as it streams by: no DTD, no outside relation, no command in a field."""

    def __init__(self, name: str) -> None:
        self.kind = ""
        self._name = name
        self._depth = 0
        self._elements = 0
        self._field: list[str] = []
        self._in_field = False
        self._wrong: PackageError | None = None
        self._parser = expat.ParserCreate()
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.EntityDeclHandler = self._doctype
        if name.endswith(".rels") or name == "[content_types].xml" or name.startswith("word/"):
            self._parser.StartElementHandler = self._start
            self._parser.EndElementHandler = self._end
        if name.startswith("word/"):
            self._parser.CharacterDataHandler = self._text

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the part."""
        self._parse(lambda: self._parser.Parse(chunk, False))

    def close(self) -> None:
        """The part is whole. Raises ``PackageError`` for what is no XML."""
        self._parse(lambda: self._parser.Parse(b"", True))
        if FIELD_COMMANDS.search("".join(self._field)):
            raise PackageError("field", part=self._name[:80])

    def _parse(self, step: Callable[[], object]) -> None:
        try:
            step()
        except expat.ExpatError as error:
            raise PackageError("xml", part=self._name[:80]) from error

    def _doctype(self, *_: object) -> None:
        raise PackageError("dtd", part=self._name[:80])

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth > MOST_DEPTH or self._elements > MOST_ELEMENTS:
            raise PackageError("xml", part=self._name[:80])
        local = tag.rsplit(":", 1)[-1]
        if self._name.endswith(".rels") and local == "Relationship":
            self._relation(attributes)
        elif self._name == "[content_types].xml":
            self._content_type(attributes.get("ContentType", ""))
        elif self._name.startswith("word/"):
            self._in_field = local == "instrText"
            self._field += [f" {value}" for key, value in attributes.items() if key.rsplit(":", 1)[-1] == "instr"]
            if local == "fldChar":
                self._field.append(" ")

    def _end(self, _: str) -> None:
        self._depth -= 1
        self._in_field = False

    def _text(self, text: str) -> None:
        if self._in_field:
            self._field.append(text)

    def _relation(self, attributes: Mapping[str, str]) -> None:
        if attributes.get("TargetMode", "").lower() != "external":
            return
        link = attributes.get("Type", "").lower().endswith("/hyperlink")
        if not (link and SAFE_LINK.match(attributes.get("Target", ""))):
            raise PackageError("outside", part=self._name[:80])

    def _content_type(self, word: str) -> None:
        if "macro" in word.lower() or "vba" in word.lower():
            raise PackageError("macro", part=word[-80:])
        if word.lower() in KINDS:
            if self.kind:
                raise PackageError("kind")
            self.kind = KINDS[word.lower()]
